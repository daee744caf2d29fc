//! The page: plain ES modules and CSS, embedded in the binary. It fetches nothing but this server's API.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::App;

/// A file of the page.
pub struct Asset {
    pub path: &'static str,
    kind: &'static str,
    body: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! asset {
    ($name:literal, $kind:expr) => {
        Asset { path: concat!("/page/", $name), kind: $kind, body: include_str!(concat!("page/", $name)) }
    };
}

/// All files but the page itself.
pub const ASSETS: &[Asset] = &[
    asset!("style.css", CSS),
    asset!("icon.svg", SVG),
    asset!("app.js", JS),
    asset!("api.js", JS),
    asset!("dom.js", JS),
    asset!("documents.js", JS),
    asset!("trace.js", JS),
    asset!("search.js", JS),
    asset!("neighbors.js", JS),
    asset!("index.js", JS),
];

const INDEX_HTML: &str = include_str!("page/index.html");

/// Scripts, styles and requests of this origin only.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Whether the client would rather have a page than JSON.
pub fn wants_html(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("text/html"))
}

/// `GET /`: the page for a browser, the names of the indexes for a program (as infini-gram's server answers).
pub async fn root(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    if wants_html(&headers) {
        let headers = [
            (header::CONTENT_TYPE, HTML),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::VARY, "Accept"),
        ];
        return (headers, INDEX_HTML).into_response();
    }
    names(State(app)).await
}

/// The names of the indexes.
pub async fn names(State(app): State<Arc<App>>) -> Response {
    let names: Vec<&str> = app.indexes.iter().map(|s| s.name.as_str()).collect();
    ([(header::VARY, "Accept")], axum::Json(names)).into_response()
}

pub async fn asset(asset: &'static Asset) -> Response {
    ([(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, "no-cache")], asset.body).into_response()
}

/// The description of the API.
const OPENAPI: &str = include_str!("openapi.json");

/// `GET /openapi.json`
pub async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}
