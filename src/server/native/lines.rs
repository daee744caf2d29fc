//! Answers as lines of JSON (NDJSON), sent while they are made, in bounded memory.
//!
//! The query runs on its own thread and hands over one line at a time; a client that reads slowly slows it down, and one that does not
//! read for [`Limits::read_timeout`](crate::server::Limits), or reads for longer than [`Limits::stream`](crate::server::Limits), ends it.
//! What goes wrong before the first line is a problem with its status; afterwards the status is sent, so the last line is
//! `{"problem": …}`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use hyper::body::{Bytes, Frame};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

use super::{Handled, NDJSON, On};
use crate::server::problem::Problem;
use crate::server::work::{Cost, ended_abnormally};
use crate::server::{App, Served};

/// Lines that wait for the client.
const AHEAD: usize = 16;

/// Where a query puts its lines.
pub struct Lines {
    sender: mpsc::Sender<Bytes>,
    handle: Handle,
    patience: Duration,
    sent: bool,
}

impl Lines {
    /// Sends a line, once there is room for it.
    ///
    /// # Errors
    /// The client is gone, or does not read.
    pub fn put(&mut self, line: &impl Serialize) -> Result<(), Problem> {
        let mut bytes = serde_json::to_vec(line).map_err(|e| Problem::internal(e.to_string()))?;
        bytes.push(b'\n');
        let send = self.sender.send(bytes.into());
        match self.handle.block_on(async { tokio::time::timeout(self.patience, send).await }) {
            Ok(Ok(())) => {
                self.sent = true;
                Ok(())
            }
            Ok(Err(_)) | Err(_) => Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "request-timeout",
                "Request time-out",
                "the client does not read the answer",
            )),
        }
    }
}

/// The lines as a body.
struct Stream {
    first: Option<Bytes>,
    rest: mpsc::Receiver<Bytes>,
    query: JoinHandle<Result<(), Problem>>,
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = JoinError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, JoinError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        match self.rest.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(line)) => Poll::Ready(Some(Ok(Frame::data(line)))),
            // A query that panicked must not look like one that came to its end: the connection breaks off.
            Poll::Ready(None) => match Pin::new(&mut self.query).poll(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(_)) => Poll::Ready(None),
                Poll::Ready(Err(e)) => Poll::Ready(Some(Err(e))),
            },
        }
    }
}

/// Runs `query` on the index and sends its lines.
pub(super) async fn respond(
    app: &Arc<App>,
    served: Arc<Served>,
    cost: Cost,
    query: impl FnOnce(&On<'_>, &mut Lines) -> Result<(), Problem> + Send + 'static,
) -> Handled {
    let limits = &app.settings.limits;
    let (sender, mut rest) = mpsc::channel(AHEAD);
    let mut lines = Lines { sender, handle: Handle::current(), patience: limits.read_timeout, sent: false };
    let owned = app.clone();
    let (wait, deadline) = (Instant::now() + limits.timeout, Instant::now() + limits.stream);
    let run = move || {
        let snapshot = served.snapshot();
        let on = On { app: &owned, served: &served, snapshot: &snapshot, deadline };
        match query(&on, &mut lines) {
            Err(problem) if lines.sent => lines.put(&serde_json::json!({ "problem": problem.body() })),
            result => result,
        }
    };
    let begun = tokio::time::timeout_at(wait.into(), async {
        let query = app.work.start(cost, run).await?;
        Ok::<_, Problem>((rest.recv().await, query))
    });
    let (first, query) = begun.await.unwrap_or_else(|_| Err(app.work.too_late()))?;
    let body = match first {
        Some(_) => Body::new(Stream { first, rest, query }),
        None => query.await.unwrap_or_else(|e| Err(ended_abnormally(e))).map(|()| Body::empty())?,
    };
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, NDJSON)], body).into_response())
}
