//! Who asks.

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{Method, StatusCode};

use crate::authority::{Credentials, Reader, Refused};
use crate::http::{Http, Problem};

/// Somebody who was let in to ask.
pub(crate) struct Visitor(pub(crate) Reader);

impl FromRequestParts<Http> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, http: &Http) -> Result<Visitor, Problem> {
        let credentials = Credentials::of_request(&parts.headers).map_err(Problem::from);
        let reader = match credentials {
            Err(problem) => Err(problem),
            Ok(credentials) => match admitted(http, &parts.method, &credentials).await {
                // An answer with nothing in it would look like one.
                Ok(reader) if reader.must_log_in() => {
                    return Err(Problem::new(
                        StatusCode::UNAUTHORIZED,
                        "without a token there is nothing to see here",
                    ));
                }
                Ok(reader) => return Ok(Visitor(reader)),
                Err(Refused::Unavailable) => return Err(Problem::unavailable()),
                Err(refused) => Err(refused.into()),
            },
        };
        http.counters.authentication_failures.add(1);
        reader
    }
}

async fn admitted(http: &Http, method: &Method, credentials: &Credentials) -> Result<Reader, Refused> {
    match *method {
        Method::POST => http.authority.authenticate_producer(credentials).await,
        _ => http.authority.authenticate(credentials).await,
    }
}
