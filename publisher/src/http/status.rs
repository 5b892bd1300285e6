//! `GET /api/v1/status` and `rejected`: how the publisher is.

use axum::extract::{Extension, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use crate::http::parameters::Parameters;
use crate::http::visitor::Visitor;
use crate::http::{Connection, Http, Problem, answer};

/// Refused messages of an answer, unless another number is asked for,
const USUAL: usize = 20;
/// and the largest number.
const MOST: usize = 1000;

/// `GET /api/v1/status`.
pub(crate) async fn status(
    State(http): State<Http>,
    Visitor(reader): Visitor,
    parameters: Parameters,
) -> Result<axum::Json<Value>, Problem> {
    parameters.nothing_else()?;
    let is_administrator = reader.is_administrator();
    let mut status = match &http.replays {
        None => json!({"epoch": http.epoch.to_string(), "head": http.fan_out.head(), "oldest": null}),
        Some(replays) => {
            let status = replays.ask(|journal| journal.status()).await?;
            status.to_json(is_administrator)
        }
    };
    status["journal"] = json!(http.replays.is_some());
    status["ready"] = json!(http.is_ready());
    status["version"] = json!(env!("CARGO_PKG_VERSION"));
    status["retention"] = http.retention.map_or(Value::Null, |retention| {
        json!({
            "max_age_seconds": retention.max_age.map(|age| age.as_secs()),
            "max_bytes": retention.max_bytes,
        })
    });
    Ok(axum::Json(status))
}

/// `GET /api/v1/rejected`.
pub(crate) async fn rejected(
    State(http): State<Http>,
    Extension(connection): Extension<Connection>,
    Visitor(reader): Visitor,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let limit = parameters.number("limit", USUAL, MOST)?;
    parameters.nothing_else()?;
    if !reader.is_administrator() {
        let status = match reader.name() {
            None => StatusCode::UNAUTHORIZED,
            Some(_) => StatusCode::FORBIDDEN,
        };
        return Err(Problem::new(status, "refused messages are shown to administrators"));
    }
    let limit = u32::try_from(limit).expect("1,000 at most");
    let messages = http.replays()?.ask(move |journal| journal.rejected(limit)).await?;
    let messages: Vec<String> = messages.iter().map(|message| message.to_json()).collect();
    let body = format!("{{\"rejected\":[{}]}}", messages.join(","));
    Ok(answer::json(&http, &connection, body))
}
