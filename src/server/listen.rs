//! Connections: accepted up to a limit, dropped when a client is slow to send its request's head, drained on a signal.
//!
//! HTTP/1.1, one task a connection. On SIGTERM or SIGINT no further connection is accepted, idle ones are closed, running requests get
//! [`Limits::drain`](super::Limits::drain) to finish.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

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
        let places = Arc::new(Semaphore::new(limits.connections.max(1)));
        let (closing, closed) = watch::channel(false);
        let routes = router(app.clone());
        let reload = tokio::spawn(reload(app.clone()));
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(limits.read_timeout).max_buf_size(64 << 10);
        tokio::pin!(stop);
        loop {
            // A place first: connections beyond the limit wait in the system's queue and cost nothing here.
            let accepted = async {
                let place = places.clone().acquire_owned().await;
                (listener.accept().await, place)
            };
            let (stream, place) = tokio::select! {
                _ = &mut stop => break,
                (stream, place) = accepted => (stream, place),
            };
            let stream = match stream {
                Ok((stream, _)) => stream,
                Err(e) => {
                    // Out of file descriptors, most likely: let some connections end.
                    tracing::warn!("cannot accept a connection: {e}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
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
        let all = places.acquire_many(limits.connections.max(1).min(u32::MAX as usize) as u32);
        if tokio::time::timeout(limits.drain, all).await.is_err() {
            tracing::warn!("stopping with requests unanswered after {} s", limits.drain.as_secs());
        }
    }
}

/// Looks for new generations for as long as it runs.
async fn reload(app: Arc<App>) {
    loop {
        tokio::time::sleep(app.settings.poll).await;
        for served in app.indexes.iter() {
            let served = served.clone();
            let _ = tokio::task::spawn_blocking(move || {
                if let Err(e) = served.reload() {
                    tracing::warn!("{}: the old generation stays: {e}", served.name);
                }
            })
            .await;
        }
    }
}
