//! Who asks, and what may be shown.

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::authority::{Credentials, Reader, Refused, Sight, Subject};
use crate::http::{Http, Problem};

/// Somebody who was let in to ask.
pub(crate) struct Visitor(pub(crate) Reader);

impl FromRequestParts<Http> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, http: &Http) -> Result<Visitor, Problem> {
        let credentials = Credentials::of_request(&parts.headers).map_err(Problem::from);
        let reader = match credentials {
            Err(problem) => Err(problem),
            Ok(credentials) => match http.authority.authenticate(&credentials).await {
                Ok(reader) => return Ok(Visitor(reader)),
                Err(Refused::Unavailable) => return Err(Problem::unavailable()),
                Err(refused) => Err(refused.into()),
            },
        };
        http.counters.authentication_failures.add(1);
        reader
    }
}

/// Whether this reader may see an event. A look-up delays nobody else.
pub(crate) async fn may_see(reader: &Reader, subject: &Subject, topic: &str, data: &str) -> bool {
    match reader.sight_of_event(subject, topic, data) {
        Sight::Ask => reader.ask(subject).await == Sight::Shown,
        known => known == Sight::Shown,
    }
}
