//! From what a user names (files, directories, globs) to an ordered list of corpus files.
//!
//! Order: by path, component by component, over everything named; a file named twice is read once. A directory gives
//! its files of known kind, hidden ones left out; a file or glob gives what it names, unknown kinds as plain text.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::{FileKind, SourceFile, TokenFormat};
use crate::error::{Error, Result};

/// What a directory is searched for, for messages.
const KNOWN: &str = ".jsonl .ndjson .json (also .gz .zst .zstd), .parquet, .txt .text .md";

/// The kind a file's name tells, whatever the case of the letters; `None` where it tells none.
pub fn kind_of(path: &Path) -> Option<FileKind> {
    let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
    let (stem, packed) = if let Some(stem) = name.strip_suffix(".gz") {
        (stem, FileKind::JsonlGz)
    } else if let Some(stem) = name.strip_suffix(".zst").or_else(|| name.strip_suffix(".zstd")) {
        (stem, FileKind::JsonlZst)
    } else {
        (name.as_str(), FileKind::Jsonl)
    };
    match stem.rsplit_once('.')?.1 {
        "jsonl" | "json" | "ndjson" => Some(packed),
        "parquet" if packed == FileKind::Jsonl => Some(FileKind::Parquet),
        "txt" | "md" | "text" => Some(FileKind::Text),
        _ => None,
    }
}

/// Finds the corpus files that `paths` name.
///
/// Each path is a file, a directory (searched recursively for known extensions; names starting with a dot are left
/// out) or a glob (`*`, `?`, `[..]`, `{a,b}`, `**` across directories). A file that is named or matched by a glob and has
/// no known extension is plain text.
///
/// # Errors
/// A path that does not exist, a directory or glob that holds no corpus file, a malformed glob.
pub fn discover<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<SourceFile>> {
    discover_by(paths, &Rule { kind: &kind_of, named: FileKind::Text, known: KNOWN })
}

/// Finds the files of tokens that `paths` name, as [`discover`] does: a directory gives those with the format's extension.
///
/// # Errors
/// Those of [`discover`].
pub fn discover_tokens<P: AsRef<Path>>(paths: &[P], format: TokenFormat) -> Result<Vec<SourceFile>> {
    let kind = |path: &Path| path.extension().is_some_and(|e| e == format.extension()).then_some(FileKind::Tokens);
    let known = format!(".{}", format.extension());
    discover_by(paths, &Rule { kind: &kind, named: FileKind::Tokens, known: &known })
}

/// Which files of a directory count, and what others are when they are named.
struct Rule<'a> {
    kind: &'a dyn Fn(&Path) -> Option<FileKind>,
    named: FileKind,
    /// The extensions, for messages.
    known: &'a str,
}

fn discover_by<P: AsRef<Path>>(paths: &[P], rule: &Rule) -> Result<Vec<SourceFile>> {
    if paths.is_empty() {
        return Err(Error::invalid_hint(
            "no corpus is named",
            "name a file, a directory or a glob such as 'data/**/*.jsonl.zst'",
        ));
    }
    let mut found = Vec::new();
    for path in paths {
        let path = path.as_ref();
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_dir() => found.append(&mut in_directory(path, rule)?),
            Ok(meta) => found.push(file(path.to_path_buf(), meta.len(), (rule.kind)(path).unwrap_or(rule.named))),
            Err(_) if is_glob(path) => found.append(&mut matching(path, rule)?),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::invalid_hint(
                    format!("{}: no such file or directory", path.display()),
                    "check the path; it is taken relative to the current directory",
                ));
            }
            Err(source) => return Err(Error::io(path, "open")(source)),
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    let mut seen = HashSet::new();
    // Two spellings of one file (`a.jsonl`, `./a.jsonl`, a link) would count its documents twice.
    found.retain(|f| seen.insert(std::fs::canonicalize(&f.path).unwrap_or_else(|_| f.path.clone())));
    Ok(found)
}

fn file(path: PathBuf, bytes: u64, kind: FileKind) -> SourceFile {
    SourceFile { path, kind, bytes }
}

fn in_directory(directory: &Path, rule: &Rule) -> Result<Vec<SourceFile>> {
    let mut found = Vec::new();
    for (path, bytes) in files_under(directory)? {
        if let Some(kind) = (rule.kind)(&path) {
            found.push(file(path, bytes, kind));
        }
    }
    if found.is_empty() {
        return Err(Error::invalid_hint(
            format!("{}: the directory holds no corpus file", directory.display()),
            format!(
                "files of a directory are known by their extension: {}; name other files, or a glob, to read them as {}",
                rule.known,
                if rule.named == FileKind::Text { "plain text" } else { "tokens" }
            ),
        ));
    }
    Ok(found)
}

/// All regular files below `root` with their sizes, links followed, hidden names left out.
fn files_under(root: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    let visible = |e: &walkdir::DirEntry| e.depth() == 0 || !e.file_name().as_encoded_bytes().starts_with(b".");
    for entry in WalkDir::new(root).follow_links(true).into_iter().filter_entry(visible) {
        let failed = |e: walkdir::Error| {
            let path = e.path().unwrap_or(root).to_path_buf();
            Error::io(path, "list")(e.into())
        };
        let entry = entry.map_err(failed)?;
        if entry.file_type().is_file() {
            let bytes = entry.metadata().map_err(failed)?.len();
            found.push((entry.into_path(), bytes));
        }
    }
    Ok(found)
}

fn is_glob(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().iter().any(|b| b"*?[{".contains(b))
}

fn matching(pattern: &Path, rule: &Rule) -> Result<Vec<SourceFile>> {
    let text = pattern.to_string_lossy();
    let text = text.strip_prefix("./").unwrap_or(&text);
    let glob = globset::GlobBuilder::new(text)
        .literal_separator(true)
        .build()
        .map_err(|e| Error::invalid(format!("{text}: malformed glob: {}", e.kind())))?
        .compile_matcher();
    // The walk starts at the last directory before the first component with a wildcard.
    let base: PathBuf = Path::new(text).components().take_while(|c| !is_glob(Path::new(c.as_os_str()))).collect();
    let root = if base.as_os_str().is_empty() { Path::new(".") } else { base.as_path() };
    let mut found = Vec::new();
    if root.exists() {
        for (path, bytes) in files_under(root)? {
            let path = path.strip_prefix("./").map(Path::to_path_buf).unwrap_or(path);
            if glob.is_match(&path) {
                let kind = (rule.kind)(&path).unwrap_or(rule.named);
                found.push(file(path, bytes, kind));
            }
        }
    }
    if found.is_empty() {
        return Err(Error::invalid_hint(
            format!("{text}: no file matches"),
            "`*` stays within one directory, `**` crosses directories; to read a directory, name it without a wildcard",
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for path in [
            "b/part-0.jsonl",
            "a/part-0.JSONL.GZ",
            "a/part-1.json.zst",
            "a/x.ndjson.zstd",
            "a/notes.txt",
            "a/deep/t.parquet",
            "a/deep/readme.md",
            "a/skip.csv",
            "a/archive.gz",
            ".git/c.jsonl",
            "b/.part.jsonl",
        ] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        dir
    }

    fn names(dir: &Path, files: &[SourceFile]) -> Vec<(String, FileKind)> {
        files.iter().map(|f| (f.path.strip_prefix(dir).unwrap().to_string_lossy().into_owned(), f.kind)).collect()
    }

    #[test]
    fn a_directory_gives_known_kinds_in_path_order() {
        let dir = tree();
        let found = names(dir.path(), &discover(&[dir.path()]).unwrap());
        let expected = [
            ("a/deep/readme.md", FileKind::Text),
            ("a/deep/t.parquet", FileKind::Parquet),
            ("a/notes.txt", FileKind::Text),
            ("a/part-0.JSONL.GZ", FileKind::JsonlGz),
            ("a/part-1.json.zst", FileKind::JsonlZst),
            ("a/x.ndjson.zstd", FileKind::JsonlZst),
            ("b/part-0.jsonl", FileKind::Jsonl),
        ];
        assert_eq!(found, expected.map(|(n, k)| (n.to_string(), k)));
    }

    #[test]
    fn named_and_matched_files_of_unknown_kind_are_text_and_counted_once() {
        let dir = tree();
        let csv = dir.path().join("a/skip.csv");
        let glob = dir.path().join("a/*.{csv,txt}");
        let twice = dir.path().join("b/../a/skip.csv");
        let found = discover(&[csv, glob, twice]).unwrap();
        assert_eq!(
            names(dir.path(), &found),
            [("a/notes.txt".into(), FileKind::Text), ("a/skip.csv".into(), FileKind::Text)]
        );
        let deep = discover(&[dir.path().join("**/*.parquet")]).unwrap();
        assert_eq!(names(dir.path(), &deep), [("a/deep/t.parquet".into(), FileKind::Parquet)]);
    }

    #[test]
    fn nothing_found_is_an_error_that_says_what_to_do() {
        let dir = tree();
        let missing = discover(&[dir.path().join("no.jsonl")]).unwrap_err();
        assert!(missing.to_string().ends_with("no.jsonl: no such file or directory"), "{missing}");
        let none = discover(&[dir.path().join("*.jsonl")]).unwrap_err();
        assert!(none.to_string().contains("no file matches") && none.hint().is_some(), "{none}");
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        let empty = discover(&[dir.path().join("empty")]).unwrap_err();
        assert!(
            empty.to_string().contains("holds no corpus file") && empty.hint().unwrap().contains(".jsonl"),
            "{empty}"
        );
        assert!(discover::<&Path>(&[]).is_err());
        assert!(discover(&[dir.path().join("a[.jsonl")]).unwrap_err().to_string().contains("malformed glob"));
    }
}
