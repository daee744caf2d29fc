//! What every request passes: the bearer token, headers that keep browsers honest, the latency histogram and the access log.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::{App, page};

/// Checks the token and adds the headers.
pub async fn guard(State(app): State<Arc<App>>, req: Request, next: Next) -> Response {
    let origin = app.settings.allow_origin.as_deref().and_then(|o| HeaderValue::from_str(o).ok());
    let mut response = if origin.is_some() && req.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        match app.settings.token.as_deref() {
            Some(token) if !open_to_all(req.uri().path(), &req) && !authorized(&req, token) => Problem::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "Unauthorized",
                "this server wants a bearer token",
            )
            .hint("send Authorization: Bearer TOKEN")
            .into_response(),
            _ => next.run(req).await,
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    response
}

/// The page's files and health tell nothing about an index.
fn open_to_all(path: &str, req: &Request) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/openapi.json")
        || page::ASSETS.iter().any(|a| a.path == path)
        || (path == "/" && req.method() == Method::GET && page::wants_html(req.headers()))
}

fn authorized(req: &Request, token: &str) -> bool {
    let sent = req.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    sent.and_then(|v| v.split_once(' ')).is_some_and(|(scheme, sent)| {
        scheme.eq_ignore_ascii_case("bearer") && same(sent.trim().as_bytes(), token.as_bytes())
    })
}

/// Equality in a time that does not depend on where the two differ: their digests are compared.
fn same(a: &[u8], b: &[u8]) -> bool {
    use sha2::{Digest, Sha256};
    let (a, b) = (Sha256::digest(a), Sha256::digest(b));
    a.iter().zip(b.iter()).fold(0, |all, (x, y)| all | (x ^ y)) == 0
}

/// Times a request and writes its line to the log.
pub async fn measure(State(app): State<Arc<App>>, req: Request, next: Next) -> Response {
    let start = Instant::now();
    let route =
        req.extensions().get::<MatchedPath>().map_or_else(|| "unmatched".to_string(), |m| m.as_str().to_string());
    let method = match *req.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        _ => "other",
    };
    let path = req.uri().path().to_string();
    let response = next.run(req).await;
    let taken = start.elapsed();
    app.metrics.observe(method, &route, response.status().as_u16(), taken);
    tracing::info!(target: "priorart::access", "{method} {path:?} {} {:.3} ms", response.status().as_u16(), taken.as_secs_f64() * 1e3);
    response
}

/// No such route.
pub async fn not_found(req: Request) -> Problem {
    let path: String = req.uri().path().chars().take(80).collect();
    Problem::not_found(format!("nothing is at {path:?}")).hint("GET /openapi.json lists what is")
}
