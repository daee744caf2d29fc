//! The query server: the analysts' page and the native JSON API.
//!
//! - `settings`: what to serve and the limits on it.
//! - `indexes`: the served indexes by name; a new generation replaces the snapshot under running queries.
//! - `work`: blocking queries on their own threads, with limits on time and on how many run at once.
//! - `request`, `problem`, `redact`: bodies in, errors out, text withheld.
//! - `native`: `/v1/…`.
//! - `infinigram`, `olmotrace`: the interfaces existing clients speak, over `passages`.
//! - `metrics`, `guard`: histograms, access log, bearer token; `listen`: connections; `page`: the page's files.
//!
//! Invariants: a request works on one snapshot from start to end; no input makes the process panic or allocate without limit; an
//! answer is about the index the request names and no other.

mod guard;
mod indexes;
mod infinigram;
mod listen;
mod metrics;
mod native;
mod olmotrace;
mod page;
mod passages;
mod problem;
mod redact;
mod request;
mod settings;
mod work;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::error::Result;
use native::ask;
use native::batch::BatchRequest;
use native::decontaminate::DecontaminateRequest;
use native::documents;
use native::exact::{CountRequest, FindRequest, NextRequest, TraceRequest};
use native::novelty::NoveltyRequest;
use native::semantic::NeighborsRequest;

pub use indexes::{Indexes, Served, name_of};
pub use listen::{Bound, bind};
pub use settings::{IndexSource, Limits, Settings};

/// What every handler sees.
pub struct App {
    pub settings: Settings,
    pub indexes: Indexes,
    work: work::Work,
    metrics: metrics::Metrics,
    draining: std::sync::atomic::AtomicBool,
}

impl App {
    /// Opens every index of `settings`.
    ///
    /// # Errors
    /// An index cannot be opened, a name is used twice or is not a plain name, or there is none.
    pub fn open(settings: Settings) -> Result<Arc<App>> {
        let indexes = Indexes::open(&settings.indexes, settings.resident)?;
        let work = work::Work::new(&settings.limits);
        Ok(Arc::new(App {
            settings,
            indexes,
            work,
            metrics: metrics::Metrics::default(),
            draining: Default::default(),
        }))
    }
}

/// All routes over `app`.
pub fn router(app: Arc<App>) -> Router {
    let mut router = Router::new()
        .route("/", get(page::root).post(infinigram::answer))
        .route("/indexes", get(page::names))
        .route("/health/", get(olmotrace::health))
        .route("/{index}/attribution", post(olmotrace::attribution))
        .route("/v1/indexes", get(documents::indexes))
        .route("/v1/{index}", get(documents::index))
        .route("/v1/{index}/count", post(ask::<CountRequest>))
        .route("/v1/{index}/find", post(ask::<FindRequest>))
        .route("/v1/{index}/next", post(ask::<NextRequest>))
        .route("/v1/{index}/trace", post(ask::<TraceRequest>))
        .route("/v1/{index}/neighbors", post(ask::<NeighborsRequest>))
        .route("/v1/{index}/novelty", post(ask::<NoveltyRequest>))
        .route("/v1/{index}/decontaminate", post(ask::<DecontaminateRequest>))
        .route("/v1/{index}/batch", post(ask::<BatchRequest>))
        .route("/v1/{index}/document", get(documents::document))
        .route("/healthz", get(metrics::healthz))
        .route("/readyz", get(metrics::readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/docs", get(page::docs))
        .route("/openapi.json", get(page::openapi));
    for asset in page::ASSETS {
        router = router.route(asset.path, get(move || page::asset(asset)));
    }
    router
        .fallback(guard::not_found)
        .layer(axum::middleware::from_fn_with_state(app.clone(), guard::guard))
        .layer(axum::middleware::from_fn_with_state(app.clone(), guard::measure))
        .with_state(app)
}
