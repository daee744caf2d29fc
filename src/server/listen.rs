//! Connections: accepted up to a limit, dropped when a client is slow to send its request's head, drained on a signal.
//!
//! HTTP/1.1, one task a connection. A connection beyond the limit is answered 503 and closed; when very many come at once, some are only
//! closed. On SIGTERM or SIGINT no further connection is accepted, idle ones are closed, running requests get
//! [`Limits::drain`](super::Limits::drain) to finish.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::problem::Problem;
use super::{App, router};
use crate::error::{Error, Result};

/// A server that listens and does not answer yet.
pub struct Bound {
    listener: TcpListener,
    app: Arc<App>,
}

/// Listens on the address of the settings. Port 0 takes any free one.
pub async fn bind(app: Arc<App>) -> Result<Bound> {
    let address = app.settings.bind;
    let listener = TcpListener::bind(address).await.map_err(|e| {
        Error::invalid_hint(
            format!("cannot listen on {address}: {e}"),
            "choose another --port, or stop what uses this one",
        )
    })?;
    Ok(Bound { listener, app })
}

impl Bound {
    /// The address, with the port that was given.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or(self.app.settings.bind)
    }

    /// Serves until `stop` is ready, then drains.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let Bound { listener, app } = self;
        let limits = app.settings.limits.clone();
        let connections = connections(limits.connections);
        let places = Arc::new(Semaphore::new(connections));
        let refusals = Arc::new(Semaphore::new(REFUSALS));
        let (closing, closed) = watch::channel(false);
        let routes = router(app.clone());
        let reload = tokio::spawn(reload(app.clone()));
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(limits.read_timeout).max_buf_size(64 << 10);
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                _ = &mut stop => break,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    // Out of file descriptors, most likely: let some connections end.
                    tracing::warn!("cannot accept a connection: {e}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                app.metrics.refused();
                if let Ok(place) = refusals.clone().try_acquire_owned() {
                    tokio::spawn(async move {
                        let _ = tokio::time::timeout(Duration::from_secs(1), refuse(stream)).await;
                        drop(place);
                    });
                }
                continue;
            };
            let _ = stream.set_nodelay(true);
            let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes.clone()));
            let mut closed = closed.clone();
            tokio::spawn(async move {
                tokio::pin!(connection);
                tokio::select! {
                    _ = connection.as_mut() => {}
                    _ = closed.changed() => {
                        connection.as_mut().graceful_shutdown();
                        let _ = connection.await;
                    }
                }
                drop(place);
            });
        }
        app.draining.store(true, Ordering::Relaxed);
        drop(listener);
        reload.abort();
        let _ = closing.send(true);
        let all = places.acquire_many(connections as u32);
        if tokio::time::timeout(limits.drain, all).await.is_err() {
            tracing::warn!("stopping with requests unanswered after {} s", limits.drain.as_secs());
        }
    }
}

/// Connections that are refused with a word at the same time.
const REFUSALS: usize = 128;
/// File descriptors for what is no connection: an index's files while it is opened, the log, the listener.
const RESERVED: usize = 64;

/// Connections to accept: as many as are wanted, if the system gives this process so many file descriptors.
fn connections(wanted: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft =
        limits.lines().find_map(|l| l.strip_prefix("Max open files")?.split_whitespace().next()?.parse::<usize>().ok());
    let possible = soft.map_or(usize::MAX, |n| n.saturating_sub(REFUSALS + RESERVED)).clamp(1, u32::MAX as usize);
    if possible < wanted {
        tracing::warn!("{possible} connections at most, not {wanted}: raise the limit of open files (ulimit -n)");
    }
    wanted.clamp(1, possible)
}

/// Tells a client that there is no room for it.
async fn refuse(stream: TcpStream) -> std::io::Result<()> {
    let body = Problem::overloaded("too many connections are open", 1).body().to_string();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.writable().await?;
    // A new connection's buffer has room for all of it.
    stream.try_write((head + &body).as_bytes())?;
    // What the client sends is read until it closes or the time is over: closing first would reset the connection and take the answer
    // with it.
    let mut sink = [0; 4096];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut sink) {
            Ok(0) => return Ok(()),
            Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => return Err(e),
            _ => {}
        }
    }
}

/// Looks for new generations for as long as it runs, and measures the recall of each.
async fn reload(app: Arc<App>) {
    let probes = app.settings.probes;
    loop {
        for served in app.indexes.iter() {
            let served = served.clone();
            let _ = tokio::task::spawn_blocking(move || {
                if let Err(e) = served.reload() {
                    tracing::warn!("{}: the old generation stays: {e}", served.name);
                }
                if let Err(e) = served.measure(probes) {
                    tracing::warn!("{}: recall could not be measured: {e}", served.name);
                }
            })
            .await;
        }
        tokio::time::sleep(app.settings.poll).await;
    }
}
