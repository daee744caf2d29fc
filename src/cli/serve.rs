//! `serve`: the query server and the analysts' page.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::{Global, Outcome};
use crate::embed::Encoder;
use crate::error::{Error, Result};
use crate::index::{IndexDir, Snapshot};
use crate::novelty::Calibration;
use crate::server::{self, App, IndexSource, Limits, Settings};

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Indexes to serve, beside --index: a directory, or NAME=DIR
    #[arg(value_name = "[NAME=]DIR")]
    indexes: Vec<String>,
    /// Address to listen on; 0.0.0.0 for every interface
    #[arg(long, env = "PRIORART_HOST", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_name = "ADDRESS")]
    host: IpAddr,
    /// Port to listen on; 0 for any free one
    #[arg(long, env = "PRIORART_PORT", default_value_t = 8080, value_name = "N")]
    port: u16,
    /// File with a token that requests must carry as `Authorization: Bearer TOKEN`
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Withhold the corpus's text: answers carry ids, offsets and counts only
    #[arg(long)]
    redact: bool,
    /// Let pages of this origin call the API
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Option<String>,
    /// Encoder for neighbours, when it is not the catalog's: a model directory
    #[arg(long, value_name = "DIR")]
    encoder: Option<String>,
    /// Scored human texts for novelty, from `priorart calibrate`; goes with the served index it was made on
    #[arg(long, value_name = "FILE")]
    calibration: Vec<PathBuf>,
    /// Passages a window length and edit level that measure the recall of the semantic search, in the background; 0: none
    #[arg(long, default_value_t = 10, value_name = "N")]
    probes: usize,
    /// Seconds a request may take
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    timeout: f64,
    /// Expensive queries that run at once [default: one a core]
    #[arg(long, value_name = "N")]
    running: Option<usize>,
    /// Expensive queries that wait for their turn; further ones get 503 [default: 64 a core]
    #[arg(long, value_name = "N")]
    waiting: Option<usize>,
    /// Bytes of a request body, such as 1MiB
    #[arg(long, default_value = "1MiB", value_name = "BYTES", value_parser = super::settings::parse_bytes)]
    body_limit: u64,
    /// Connections open at once; further ones get 503
    #[arg(long, default_value_t = 4096, value_name = "N")]
    connections: usize,
    /// Seconds between two looks for a new generation
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    poll: f64,
}

/// Serves one index with the default settings.
pub fn serve_one(global: &Global, index: &std::path::Path) -> anyhow::Result<Outcome> {
    #[derive(clap::Parser)]
    struct Defaults {
        #[command(flatten)]
        args: ServeArgs,
    }
    let Defaults { mut args } = clap::Parser::try_parse_from(["serve"])?;
    args.indexes = vec![index.display().to_string()];
    serve(&Global { index: None, ..global.clone() }, args)
}

/// Serves until SIGTERM or SIGINT.
pub fn serve(global: &Global, args: ServeArgs) -> anyhow::Result<Outcome> {
    let app = App::open(settings(global, &args)?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(64)
        .build()
        .context("cannot start the server's threads")?;
    runtime.block_on(async {
        let stop = stop_signal()?;
        let bound = server::bind(app.clone()).await?;
        if !global.quiet {
            let names: Vec<&str> = app.indexes.iter().map(|s| s.name.as_str()).collect();
            eprintln!("serving {} on http://{}", names.join(", "), bound.address());
            if !bound.address().ip().is_loopback() && app.settings.token.is_none() {
                eprintln!("anyone who reaches this address can query: consider --token-file");
            }
        }
        bound.serve(stop).await;
        Ok::<(), anyhow::Error>(())
    })?;
    // A query that was given up may still run; the process does not wait for it.
    runtime.shutdown_background();
    Ok(Outcome::Done)
}

fn settings(global: &Global, args: &ServeArgs) -> anyhow::Result<Settings> {
    let mut named: Vec<(String, PathBuf)> = Vec::new();
    if let Some(path) = &global.index {
        named.push((server::name_of(path), path.clone()));
    }
    for text in &args.indexes {
        named.push(match text.split_once('=') {
            Some((name, path)) => (name.to_string(), path.into()),
            None => (server::name_of(text.as_ref()), text.into()),
        });
    }
    let mut indexes = named
        .into_iter()
        .map(|(name, path)| Ok(IndexSource { encoder: encoder(global, args, &path)?, name, path, calibration: None }))
        .collect::<Result<Vec<_>>>()?;
    for path in &args.calibration {
        calibrate(&mut indexes, path)?;
    }
    let token = match &args.token_file {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
            let token = text.trim();
            if token.is_empty() {
                return Err(Error::invalid(format!("{}: the token is empty", path.display())).into());
            }
            Some(token.to_string())
        }
    };
    if args.connections == 0 || args.running == Some(0) {
        return Err(Error::invalid("--connections and --running must be at least 1").into());
    }
    let d = Limits::default();
    let mut settings = Settings::new(indexes);
    settings.bind = SocketAddr::new(args.host, args.port);
    settings.token = token;
    settings.redact = args.redact;
    settings.allow_origin = args.allow_origin.clone();
    settings.probes = args.probes;
    settings.resident = global.resident();
    settings.poll = seconds("--poll", args.poll)?;
    settings.limits = Limits {
        timeout: seconds("--timeout", args.timeout)?,
        running: args.running.unwrap_or(d.running),
        waiting: args.waiting.unwrap_or(d.waiting),
        body_bytes: args.body_limit as usize,
        connections: args.connections,
        ..d
    };
    Ok(settings)
}

fn seconds(flag: &str, value: f64) -> Result<Duration> {
    match Duration::try_from_secs_f64(value) {
        Ok(d) if !d.is_zero() && value <= 86_400.0 => Ok(d),
        _ => Err(Error::invalid(format!("{flag} {value}: give a number of seconds above 0, a day at most"))),
    }
}

/// Gives a calibration to the index it was made on.
fn calibrate(indexes: &mut [IndexSource], path: &std::path::Path) -> Result<()> {
    let calibration = Arc::new(Calibration::read(path)?);
    let mut last = None;
    for index in indexes.iter_mut() {
        match calibration.check(&Snapshot::open(&index.path)?, &calibration.settings) {
            Ok(()) => {
                index.calibration = Some(calibration);
                return Ok(());
            }
            Err(e) => last = Some(e),
        }
    }
    Err(last.unwrap_or_else(|| Error::invalid("--calibration needs an index to serve")))
}

/// The encoder of an index that has embeddings. One that cannot be found is no reason not to serve the rest.
fn encoder(global: &Global, args: &ServeArgs, path: &std::path::Path) -> Result<Option<Arc<dyn Encoder>>> {
    let manifest = IndexDir::open(path)?.manifest()?;
    let Some(spec) = &manifest.encoder else { return Ok(None) };
    match super::semantic::open_encoder(args.encoder.as_deref().unwrap_or(&spec.name)) {
        Ok(encoder) => Ok(Some(Arc::from(encoder))),
        Err(e) if args.encoder.is_some() => Err(e),
        Err(e) => {
            if !global.quiet {
                eprintln!("{}: no neighbours: {e}", path.display());
            }
            Ok(None)
        }
    }
}

/// Ready once the process is told to stop.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(async move {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        })
    }
    #[cfg(not(unix))]
    {
        Ok(async {
            let _ = tokio::signal::ctrl_c().await;
        })
    }
}
