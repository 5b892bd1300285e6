//! Whether it works, for those who watch it.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;

use crate::http::Http;

/// `GET /ws/v1/healthz`: good only while events can pass from the intake to the outlets.
pub(crate) async fn healthz(State(http): State<Http>) -> Response {
    let (status, body) = match http.health.is_alive() {
        true => (StatusCode::OK, r#"{"health": "good"}"#),
        false => (StatusCode::SERVICE_UNAVAILABLE, r#"{"health": "bad"}"#),
    };
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

/// `GET /livez`: the stages turn.
pub(crate) async fn livez(State(http): State<Http>) -> Response {
    said(http.health.is_alive(), "the journal's thread has stopped")
}

/// `GET /readyz`: events are kept before they are seen, and it can be told who may see them.
pub(crate) async fn readyz(State(http): State<Http>) -> Response {
    let otherwise = match http.health.is_ready() {
        true => "the authority does not answer: nothing private is shown",
        false => "the journal does not take events",
    };
    said(http.is_ready(), otherwise)
}

fn said(good: bool, otherwise: &'static str) -> Response {
    match good {
        true => (StatusCode::OK, "ok\n").into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, format!("{otherwise}\n")).into_response(),
    }
}
