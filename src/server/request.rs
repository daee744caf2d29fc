//! JSON bodies: read within limits of size and time, parsed into a request, and refused with the place of the fault.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;

use super::App;
use super::problem::Problem;

/// A request body, whole.
pub struct RawBody(pub Bytes);

/// A request body of JSON.
pub struct JsonBody<T>(pub T);

impl FromRequest<Arc<App>> for RawBody {
    type Rejection = Problem;

    async fn from_request(req: Request, app: &Arc<App>) -> Result<Self, Problem> {
        // Anything else could be sent by any web page without the browser asking this server first.
        if let Some(kind) = req.headers().get(header::CONTENT_TYPE) {
            let kind =
                kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            if kind != "application/json" && !kind.ends_with("+json") {
                return Err(Problem::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "unsupported-media-type",
                    "Unsupported media type",
                    format!("the body is {kind:?}"),
                )
                .hint("send JSON with Content-Type: application/json"));
            }
        }
        let limit = app.settings.limits.body_bytes;
        let too_large = || {
            Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                "Body too large",
                format!("a request body may have {limit} bytes"),
            )
        };
        let told = req
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.parse::<usize>().ok());
        if told.is_some_and(|n| n > limit) {
            return Err(too_large());
        }
        let read = axum::body::to_bytes(req.into_body(), limit);
        match tokio::time::timeout(app.settings.limits.read_timeout, read).await {
            Err(_) => Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "request-timeout",
                "Request time-out",
                "the body did not arrive in time",
            )),
            Ok(Ok(bytes)) => Ok(RawBody(bytes)),
            Ok(Err(e)) => {
                let mut cause: Option<&dyn std::error::Error> = Some(&e);
                while let Some(c) = cause {
                    if c.to_string().contains("length limit") {
                        return Err(too_large());
                    }
                    cause = c.source();
                }
                Err(Problem::bad_request("the body broke off"))
            }
        }
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(req: Request, app: &Arc<App>) -> Result<Self, Problem> {
        let RawBody(bytes) = RawBody::from_request(req, app).await?;
        parse(&bytes).map(JsonBody)
    }
}

/// Parses a body. Nesting deeper than 128 levels and invalid UTF-8 are refused like any other fault.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|e| {
        if e.is_data() {
            Problem::invalid(format!("the body: {e}"))
        } else {
            Problem::bad_request(format!("the body is not JSON: {e}"))
        }
    })
}
