//! The order of the modules: one imports only from those before it. And the house rules that a look at the sources can check.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// From low to high. Modules of one line do not import each other unless they stand in this order.
const ORDER: [&str; 19] = [
    "error",
    "format",
    "store",
    "catalog",
    "corpus",
    "tokenize",
    "suffix",
    "embed",
    "ann",
    "shard",
    "index",
    "query",
    "reference",
    "decontaminate",
    "novelty",
    "report",
    "server",
    "cli",
    "lib",
];

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The sources of the library, each with the module of the first level it belongs to.
fn library() -> Vec<(PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    paths.sort();
    assert!(paths.len() > 100, "only {} sources", paths.len());
    paths
        .into_iter()
        .map(|path| {
            let first = path.strip_prefix(&root).unwrap().components().next().unwrap();
            let module = first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_string();
            let text = fs::read_to_string(&path).unwrap();
            (path, module, text)
        })
        .collect()
}

/// The code of a source without comments and without its unit tests, which may use anything.
fn code(text: &str) -> String {
    let shipped = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    shipped.lines().map(|l| l.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The modules of the first level that code names after `crate::`, lists in braces included.
fn imports(code: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        // `$crate::` in a macro counts as well; `other_crate::` does not.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + found.len()..];
        let name = |s: &str| s.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            None => out.push(name(rest)),
            Some(list) => {
                let mut depth = 0;
                let mut item = String::new();
                for c in list.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => out.push(name(&std::mem::take(&mut item))),
                        _ => {}
                    }
                    if depth == 0 && c != ',' {
                        item.push(c);
                    }
                }
                out.push(name(&item));
            }
        }
    }
    out.retain(|name| !name.is_empty());
    out
}

#[test]
fn imports_are_read_from_code() {
    let text = "use crate::error::Error;\n// crate::cli\nuse crate::{ann::{a, b}, embed::x};\nlet x = crate::store::y(some_crate::z);\n#[cfg(test)]\nmod tests {\nuse crate::cli;\n}";
    assert_eq!(imports(&code(text)), ["error", "ann", "embed", "store"]);
}

#[test]
fn a_module_imports_only_from_those_before_it() {
    let ranks: BTreeMap<&str, usize> = ORDER.iter().enumerate().map(|(i, m)| (*m, i)).collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (path, module, text) in library() {
        if module == "lib" || module == "main" || path.to_string_lossy().ends_with("tests.rs") {
            continue;
        }
        let own = ranks.get(module.as_str()).copied();
        let own = own.unwrap_or_else(|| panic!("the module {module} has no place in the order"));
        for name in imports(&code(&text)) {
            // Names of `lib.rs` itself: the error type, macros.
            let Some(&other) = ranks.get(name.as_str()) else {
                assert!(["Error", "Result", "with_view"].contains(&name.as_str()), "{}: crate::{name}", path.display());
                continue;
            };
            seen += 1;
            if other > own {
                wrong.push(format!("{}: {module} imports {name}", path.display()));
            }
        }
    }
    assert!(seen > 200, "only {seen} imports were read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_of_a_size_to_read() {
    let long: Vec<String> = library()
        .into_iter()
        .map(|(path, _, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > 620)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "split by noun:\n{}", long.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    for (path, _, text) in library() {
        if path.ends_with("tests.rs") {
            continue;
        }
        let told = text.lines().take(10).any(|l| l.starts_with("//!"));
        assert!(told, "{}: its first lines do not say what it is", path.display());
        for banned in ["utils", "helpers", "common"] {
            assert_ne!(path.file_stem().unwrap(), banned, "{}", path.display());
        }
    }
}
