//! Pages of the origins that are named may use the port: what browsers are told (Fetch standard, "CORS protocol").
//!
//! Readers log in with a header and never with a cookie, so nothing is said of credentials.

use axum::body::Body;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ALLOW, ORIGIN, VARY,
};
use http::{HeaderValue, Method, Request, StatusCode};

/// What a page may send beside what every page may.
const SENT: HeaderValue = HeaderValue::from_static("Authorization, Content-Type, Last-Event-ID");
/// What a page may read of an answer beside what every page may.
const READ: HeaderValue = HeaderValue::from_static("Retry-After, WWW-Authenticate");
/// A browser may keep the answer to its question for so many seconds; the best known one keeps none longer.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// What of a request matters here.
pub(crate) struct Cors {
    /// Of the page that asks, if it is named.
    origin: Option<HeaderValue>,
    /// The browser asks beforehand whether the page may.
    is_preflight: bool,
}

impl Cors {
    /// Pages of these origins may use the port.
    pub(crate) fn of(request: &Request<Body>, origins: &[String]) -> Cors {
        let headers = request.headers();
        let origin = headers.get(ORIGIN).filter(|origin| {
            let is_named = |named: &String| named.as_bytes() == origin.as_bytes();
            origins.iter().any(is_named)
        });
        Cors {
            origin: origin.cloned(),
            is_preflight: request.method() == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD),
        }
    }

    /// The answer as that browser needs it.
    pub(crate) fn told(self, mut answer: Response) -> Response {
        if let Some(origin) = self.origin {
            if self.is_preflight
                && let Some(methods) = answer.headers_mut().remove(ALLOW)
            {
                answer = preflight(methods);
            }
            let headers = answer.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, READ);
        }
        // No cache gives it to another page.
        answer.headers_mut().append(VARY, HeaderValue::from_name(ORIGIN));
        answer
    }
}

/// No route knows OPTIONS; one that is there has said what it knows instead.
fn preflight(methods: HeaderValue) -> Response {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, SENT);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    answer
}
