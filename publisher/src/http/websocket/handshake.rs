//! From the request to the connection (RFC 6455 §4.2, RFC 7692 §7.1).

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tracing::debug;
use tungstenite::handshake::derive_accept_key;

use super::session::Session;
use crate::authority::{Credentials, Refused};
use crate::http::{Connection, Http, Problem};

/// What is answered to an offer of `permessage-deflate`: every message stands for itself, so one is deflated for all.
const DEFLATE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// `GET /ws/`.
pub(crate) async fn upgrade(
    State(http): State<Http>,
    Extension(connection): Extension<Connection>,
    mut request: Request<Body>,
) -> Response {
    let headers = request.headers();
    let is = |name: HeaderName, expected: &str| has_token(headers, &name, expected);
    if !is(UPGRADE, "websocket") || !is(CONNECTION, "upgrade") {
        return Problem::new(
            StatusCode::BAD_REQUEST,
            "this is a WebSocket: ask with `Upgrade: websocket`",
        )
        .into_response();
    }
    if !is(SEC_WEBSOCKET_VERSION, "13") {
        let problem = Problem::new(
            StatusCode::UPGRADE_REQUIRED,
            "only version 13 of the WebSocket protocol is spoken",
        );
        let headers = [
            (SEC_WEBSOCKET_VERSION, "13"),
            (UPGRADE, "websocket"),
            (CONNECTION, "Upgrade"),
        ];
        return (headers, problem).into_response();
    }
    let Some(key) = headers
        .get(SEC_WEBSOCKET_KEY)
        .map(|key| derive_accept_key(key.as_bytes()))
    else {
        return Problem::new(StatusCode::BAD_REQUEST, "the header Sec-WebSocket-Key is missing").into_response();
    };
    if !http.is_origin_allowed(headers) {
        return Problem::new(StatusCode::FORBIDDEN, "pages of other sites may not read this stream").into_response();
    }
    let deflated = offers_deflate(headers);
    // LAVA answers 101 first and says afterwards what is wrong.
    let reader = match Credentials::of_web_socket(headers) {
        Err(error) => Err(error.to_string()),
        Ok(credentials) => match http.authority.authenticate(&credentials).await {
            Ok(reader) => Ok(reader),
            Err(Refused::Unavailable) => return Problem::unavailable().into_response(),
            Err(refused) => Err(refused.to_string()),
        },
    };
    if reader.is_err() {
        http.counters.authentication_failures.add(1);
    }
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return Problem::new(StatusCode::BAD_REQUEST, "this connection cannot become a WebSocket").into_response();
    };
    let tasks = http.tasks.clone();
    tasks.spawn(async move {
        let Some((stream, read)) = taken_over(upgrade).await else {
            return;
        };
        let session = Session::new(http, connection, stream, deflated);
        match reader {
            Ok(reader) => session.run(reader, &read).await,
            Err(error) => session.refuse(&error).await,
        }
    });
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(key) = HeaderValue::from_str(&key) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, key);
    }
    if deflated {
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(DEFLATE));
    }
    answer
}

/// The connection itself, and what was read of it beyond the request.
async fn taken_over(upgrade: OnUpgrade) -> Option<(TcpStream, bytes::Bytes)> {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            debug!(%error, "a WebSocket did not come about");
            return None;
        }
    };
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}

fn has_token(headers: &HeaderMap, name: &HeaderName, expected: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let mut tokens = values.flat_map(|value| value.split(','));
    tokens.any(|token| token.trim().eq_ignore_ascii_case(expected))
}

/// Whether the client offers to inflate messages in a way that suits us. An offer that names the server's window would have
/// to be answered with it.
fn offers_deflate(headers: &HeaderMap) -> bool {
    let values = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter();
    let mut offers = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    offers.any(|offer| {
        let mut parts = offer.split(';').map(str::trim);
        let suits = |parameter: &str| {
            let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
            let ours = [
                "server_no_context_takeover",
                "client_no_context_takeover",
                "client_max_window_bits",
            ];
            ours.contains(&name.trim())
        };
        parts.next() == Some("permessage-deflate") && parts.all(suits)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn deflate_only_as_it_suits() {
        for (offer, expected) in [
            ("permessage-deflate", true),
            ("permessage-deflate; client_max_window_bits", true),
            (
                "x-webkit-deflate-frame, permessage-deflate; server_no_context_takeover",
                true,
            ),
            ("permessage-deflate; server_max_window_bits=15", false),
            ("permessage-deflate; server_max_window_bits=9", false),
            ("permessage-deflate; server_max_window_bits=9, permessage-deflate", true),
            ("permessage-deflate; what=1", false),
            ("other", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(offer));
            assert_eq!(offers_deflate(&headers), expected, "{offer}");
        }
        assert!(!offers_deflate(&HeaderMap::new()));
    }
}
