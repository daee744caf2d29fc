//! A corpus from the documentation packages of the Debian release this machine runs: `apt-get download` gets them (and
//! checks the distribution's signatures), `dpkg-deb -x` unpacks them, [`documentation`](super::documentation) makes JSON Lines
//! of them. Nothing is installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::documentation::DocumentationWriter;
use super::entry::{FileSpec, Package};
use super::fetch::{Context, Step, last_words};
use crate::error::{Error, Result};

pub(super) fn obtain(context: &Context, packages: &[Package], specs: &[FileSpec]) -> Result<Vec<String>> {
    let [spec] = specs else { return Err(context.error("a Debian corpus is one file", None)) };
    let downloads = context.directory("debian")?;
    // Everything is downloaded first: that part needs the network and is kept when something fails later.
    let mut archives = Vec::new();
    for package in packages {
        archives.push((package, download(context, package, &downloads)?));
    }
    let target = context.files().join(&spec.path);
    let mut writer = DocumentationWriter::create(&target)?;
    let mut versions = Vec::new();
    for (package, archive) in archives {
        let (name, version) = name_and_version(&archive);
        let unpacked = downloads.join("unpacked");
        clear(&unpacked)?;
        context.step(Step::Start { what: &format!("reading {name} {version}"), bytes: None });
        run(context, Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&unpacked), "unpack")?;
        writer.add_package(context, &name, &version, package, &unpacked)?;
        context.step(Step::Finish);
        clear(&unpacked)?;
        versions.push(format!("{name}={version}"));
    }
    writer.finish()?;
    Ok(versions)
}

fn clear(directory: &Path) -> Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory).map_err(Error::io(directory, "remove"))?;
    }
    Ok(())
}

/// Downloads the first of the package's names that apt knows.
fn download(context: &Context, package: &Package, downloads: &Path) -> Result<PathBuf> {
    let mut complaint = None;
    for name in &package.names {
        context.step(Step::Start { what: &format!("apt-get download {name}"), bytes: None });
        let mut command = Command::new("apt-get");
        command.args(["download", "--quiet", name]).current_dir(downloads);
        let result = run(context, &mut command, "download");
        context.step(Step::Finish);
        match result {
            Ok(_) => return newest(context, downloads, name),
            Err(error) => complaint = complaint.or(Some(error)),
        }
    }
    Err(complaint.unwrap_or_else(|| context.error("the catalog names no package", None)))
}

/// The archive of `name` that apt has just written; an older version may lie beside it.
fn newest(context: &Context, downloads: &Path, name: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(downloads).map_err(Error::io(downloads, "list"))?;
    let prefix = format!("{name}_");
    let archives = entries.flatten().filter(|e| {
        let file = e.file_name().to_string_lossy().into_owned();
        file.starts_with(&prefix) && file.ends_with(".deb")
    });
    let found = archives.max_by_key(|e| e.metadata().and_then(|m| m.modified()).ok());
    found.map(|e| e.path()).ok_or_else(|| context.error(format!("apt-get downloaded nothing for {name}"), None))
}

/// `name_version_architecture.deb`, with `%3a` for a colon.
fn name_and_version(archive: &Path) -> (String, String) {
    let file = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut parts = file.split('_');
    let mut part = || parts.next().unwrap_or_default().replace("%3a", ":");
    (part(), part())
}

fn run(context: &Context, command: &mut Command, what: &str) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let hint = |tip: &str| {
        let offline = context.offline_hint();
        Some(format!(
            "{tip}. This corpus is made of Debian packages: fetch it on Debian or Ubuntu, or in a container of one. {offline}"
        ))
    };
    let output = command.stdin(Stdio::null()).env("LC_ALL", "C.UTF-8").output().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            context.error(format!("there is no {program} on this machine"), hint("apt and dpkg are needed"))
        }
        _ => context.error(format!("{program} could not be started: {e}"), None),
    })?;
    if output.status.success() {
        return Ok(output);
    }
    let words = last_words(&output);
    let tip = if words.contains("Unable to locate") || words.contains("No packages found") {
        "run `apt-get update` first"
    } else {
        "this machine must reach the archive its apt is set up for"
    };
    Err(context.error(format!("{program} could not {what}: {words}"), hint(tip)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_names_tell_package_and_version() {
        let (name, version) = name_and_version(Path::new("/x/git-doc_1%3a2.39.5-0+deb12u3_all.deb"));
        assert_eq!((name.as_str(), version.as_str()), ("git-doc", "1:2.39.5-0+deb12u3"));
    }
}
