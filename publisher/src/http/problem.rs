//! Errors as RFC 9457 writes them: `application/problem+json`.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};

use tracing::warn;

use crate::authority::{CredentialsError, Crowded, Refused};
use crate::replay::ReplayError;

/// Why a request is not answered. It says nothing that only some may know.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem {
            status,
            detail: detail.into(),
        }
    }

    /// Who may see it cannot be told at the moment.
    pub(crate) fn unavailable() -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, Refused::Unavailable.to_string())
    }
}

impl From<CredentialsError> for Problem {
    fn from(error: CredentialsError) -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, error.to_string())
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        match refused {
            Refused::Unavailable => Problem::unavailable(),
            refused => Problem::new(StatusCode::UNAUTHORIZED, refused.to_string()),
        }
    }
}

impl From<Crowded> for Problem {
    fn from(crowded: Crowded) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, crowded.to_string())
    }
}

impl From<ReplayError> for Problem {
    fn from(error: ReplayError) -> Problem {
        warn!(%error, "a request could not be answered");
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the journal cannot be read at the moment",
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(
                    WWW_AUTHENTICATE,
                    HeaderValue::from_static("Token, Basic realm=\"lava-publisher\""),
                );
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        response
    }
}
