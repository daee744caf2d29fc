//! Errors as problem details (RFC 9457, `application/problem+json`): what is wrong, where, and what to do.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::Error;

/// An error answer.
#[derive(Debug, Clone)]
pub struct Problem {
    pub status: StatusCode,
    /// A short name, stable across versions.
    pub kind: &'static str,
    pub title: &'static str,
    pub detail: String,
    pub hint: Option<String>,
    /// Seconds after which to try again.
    pub retry_after: Option<u32>,
}

impl Problem {
    pub fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, kind, title, detail: detail.into(), hint: None, retry_after: None }
    }

    /// The request is not well-formed.
    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad-request", "Bad request", detail)
    }

    /// The request is well-formed, a value in it is not allowed.
    pub fn invalid(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value", "Invalid value", detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// Too many expensive queries, or one that took too long.
    pub fn overloaded(detail: impl Into<String>, retry_after: u32) -> Problem {
        let mut p = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "server-overloaded", "Server overloaded", detail);
        p.retry_after = Some(retry_after);
        p
    }

    pub fn internal(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal-error", "Internal error", detail)
    }

    /// Its JSON.
    pub fn body(&self) -> serde_json::Value {
        let mut body = serde_json::json!({
            "type": self.kind,
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(hint) = &self.hint {
            body["hint"] = hint.clone().into();
        }
        body
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Error> for Problem {
    /// What the caller sent is the caller's to know; paths and offsets of the index's files go to the log only.
    fn from(e: Error) -> Problem {
        let hint = e.hint();
        let mut p = match &e {
            Error::Invalid { .. } | Error::TokenizerMismatch { .. } | Error::Limit { .. } => {
                Problem::invalid(e.to_string())
            }
            Error::EncoderMismatch { .. } => {
                Problem::new(StatusCode::CONFLICT, "encoder-mismatch", "Encoder mismatch", e.to_string())
            }
            Error::FeatureOff { .. } => {
                Problem::new(StatusCode::NOT_IMPLEMENTED, "not-built-in", "Not built in", e.to_string())
            }
            _ => {
                tracing::error!("{e}");
                return Problem::internal("the index could not be read; the server's log has the details");
            }
        };
        p.hint = hint;
        p
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/problem+json")], self.body().to_string())
            .into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
