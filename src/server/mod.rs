//! The query server: the analysts' page and the native JSON API.
//!
//! - `settings`: what to serve and the limits on it.
//! - `indexes`: the served indexes by name; a new generation replaces the snapshot under running queries.
//! - `work`: blocking queries on their own threads, with limits on time and on how many run at once.
//! - `request`, `problem`, `redact`: bodies in, errors out, text withheld.
//! - `native`: `/v1/…`; `novelty`: its query against human writing.
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
mod novelty;
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
        .route("/v1/indexes", get(native::indexes))
        .route("/v1/{index}", get(native::index))
        .route("/v1/{index}/count", post(native::count))
        .route("/v1/{index}/find", post(native::find))
        .route("/v1/{index}/next", post(native::next))
        .route("/v1/{index}/trace", post(native::trace))
        .route("/v1/{index}/neighbors", post(native::neighbors))
        .route("/v1/{index}/novelty", post(novelty::novelty))
        .route("/v1/{index}/document", get(native::document))
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
