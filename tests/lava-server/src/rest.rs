//! `/api/v0.2/`: the ways of Django REST framework, and LAVA's views of jobs, devices, workers and itself
//! (`lava_rest_app/v02/views.py`).

mod job_list;
mod jobs;
mod results;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use crate::lab::User;
use crate::server::Shared;
use crate::time;

/// What `system/version/` and `system.version` answer.
pub(crate) const VERSION: &str = "2026.07";

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .merge(jobs::routes())
        .merge(results::routes())
        .route("/api/v0.2/devices/{name}/", get(device))
        .route("/api/v0.2/workers/{name}/", get(worker))
        .route("/api/v0.2/system/whoami/", get(whoami))
        .route("/api/v0.2/system/version/", get(version))
        .method_not_allowed_fallback(method_not_allowed)
}

/// Who asks, checked as Django REST framework does before a view runs: `IsAuthenticatedOrReadOnly`.
pub(crate) struct Visitor(pub(crate) Option<User>);

impl Visitor {
    pub(crate) fn user(&self) -> Option<&User> {
        self.0.as_ref()
    }
}

impl FromRequestParts<Arc<Shared>> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Response> {
        // The first authentication class is the session's, which has no challenge: so refusals are 403, never 401.
        let user = user_of(&parts.headers, shared).map_err(|why| detail(StatusCode::FORBIDDEN, why))?;
        let reads = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        if user.is_none() && !reads {
            return Err(detail(
                StatusCode::FORBIDDEN,
                "Authentication credentials were not provided.",
            ));
        }
        Ok(Self(user))
    }
}

/// `Authorization: Token <secret>`; the word in any case. Any other scheme is not for this server: anonymous.
fn user_of(headers: &HeaderMap, shared: &Shared) -> Result<Option<User>, &'static str> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let Ok(value) = value.to_str() else { return Ok(None) };
    let mut words = value.split_ascii_whitespace();
    if !words.next().is_some_and(|word| word.eq_ignore_ascii_case("token")) {
        return Ok(None);
    }
    match (words.next(), words.next()) {
        (None, _) => Err("Invalid token header. No credentials provided."),
        (Some(_), Some(_)) => Err("Invalid token header. Token string should not contain spaces."),
        (Some(token), None) => shared.lab().user_by_token(token).map(Some).ok_or("Invalid token."),
    }
}

/// An answer of the form `{"detail": why}`.
fn detail(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "detail": why }))).into_response()
}

/// `NotFound()` without words of its own.
fn nothing_here() -> Response {
    detail(StatusCode::NOT_FOUND, "Not found.")
}

/// An exception in a view that nobody catches.
fn server_error() -> Response {
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        [(header::CONTENT_TYPE, "text/html")],
        "<h1>Server Error (500)</h1>\n",
    )
        .into_response()
}

async fn method_not_allowed(_: Visitor, method: Method) -> Response {
    detail(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("Method \"{method}\" not allowed."),
    )
}

/// Everything that has no route. A path without its last slash is sent on to the one with it (`APPEND_SLASH`).
pub(crate) async fn not_found(uri: Uri) -> Response {
    if uri.path().starts_with("/api/v0.2/") && !uri.path().ends_with('/') {
        let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
        let to = format!("{}/{query}", uri.path());
        return (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, to)]).into_response();
    }
    (
        StatusCode::NOT_FOUND,
        [(header::CONTENT_TYPE, "text/html")],
        "<h1>Not Found</h1>\n",
    )
        .into_response()
}

async fn whoami(Visitor(user): Visitor) -> Json<Value> {
    Json(json!({ "user": user.map_or_else(String::new, |user| user.name) }))
}

async fn version(_: Visitor) -> Json<Value> {
    Json(json!({ "version": VERSION }))
}

async fn device(visitor: Visitor, State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Response {
    let lab = shared.lab();
    let Some(device) = lab.device(&name, visitor.user()) else {
        return detail(StatusCode::NOT_FOUND, "No Device matches the given query.");
    };
    Json(json!({
        "hostname": device.hostname,
        "device_type": device.device_type,
        "device_version": null,
        "physical_owner": null,
        "physical_group": null,
        "description": null,
        "tags": [],
        "state": device.state,
        "health": device.health,
        "last_health_report_job": null,
        "worker_host": device.worker,
        "is_synced": false,
    }))
    .into_response()
}

async fn worker(visitor: Visitor, State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Response {
    let lab = shared.lab();
    let Some(worker) = lab.worker(&name) else {
        return detail(StatusCode::NOT_FOUND, "No Worker matches the given query.");
    };
    let mut answer = json!({
        "hostname": worker.hostname,
        "state": worker.state,
        "health": worker.health,
        "description": null,
        "last_ping": time::rest(time::now()),
        "job_limit": 0,
        "version": VERSION,
        "master_version_notified": null,
        "is_synced": false,
    });
    if visitor.user().is_some_and(|user| user.superuser) {
        answer["token"] = json!(worker.token);
    }
    Json(answer).into_response()
}
