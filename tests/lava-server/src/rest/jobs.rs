//! `/api/v0.2/jobs/`: submit, show, cancel, logs.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Visitor, detail, job_list, nothing_here, server_error};
use crate::definition;
use crate::job::Job;
use crate::lab::{CancelRefused, Full, Lab, User};
use crate::server::Shared;
use crate::time;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v0.2/jobs/", get(job_list::list).post(submit))
        .route("/api/v0.2/jobs/{id}/", get(show))
        .route("/api/v0.2/jobs/{id}/cancel/", get(cancel))
        .route("/api/v0.2/jobs/{id}/logs/", get(logs))
}

/// `get_object()`: the job, or the answer when it is not there for this user.
pub(super) fn find<'a>(lab: &'a Lab, id: &str, user: Option<&User>) -> Result<(u64, &'a Job), Box<Response>> {
    let Ok(number) = id.parse::<u64>() else {
        // A sub id has a dot, which the router's pattern of an id does not take.
        return Err(no_such_job(id));
    };
    let job = lab
        .job(number)
        .filter(|job| lab.may_see_job(job, user))
        .ok_or_else(|| no_such_job(id))?;
    Ok((number, job))
}

fn no_such_job(id: &str) -> Box<Response> {
    let why = if id.parse::<u64>().is_ok() {
        "No TestJob matches the given query."
    } else {
        "Not found."
    };
    Box::new(detail(StatusCode::NOT_FOUND, why))
}

/// The fields of `TestJobSerializer`; `token` for superusers only.
pub(super) fn fields(job: &Job, user: Option<&User>) -> Value {
    let mut fields = json!({
        "id": job.id.parse::<u64>().unwrap_or_default(),
        "submitter": job.submitter,
        "viewing_groups": [],
        "description": job.description,
        "health_check": job.health_check,
        "requested_device_type": job.device_type,
        "tags": [],
        "actual_device": job.device,
        "submit_time": time::rest(job.submit_time),
        "start_time": job.start_time.map(time::rest),
        "end_time": job.end_time.map(time::rest),
        "state": job.state,
        "health": job.health,
        "priority": job.priority,
        "definition": job.definition,
        "metadata": {},
        "original_definition": job.definition,
        "multinode_definition": if job.sub_id.is_some() { job.definition.as_str() } else { "" },
        "failure_tags": [],
        "failure_comment": job.failure_comment,
    });
    if user.is_some_and(|user| user.superuser) {
        fields["token"] = Value::Null;
    }
    fields
}

async fn show(visitor: Visitor, State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    let lab = shared.lab();
    match find(&lab, &id, visitor.user()) {
        Ok((_, job)) => Json(fields(job, visitor.user())).into_response(),
        Err(refusal) => *refusal,
    }
}

async fn submit(
    Visitor(user): Visitor,
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(user) = user else { return server_error() };
    let text = match definition_in(&headers, &body) {
        Ok(text) => text,
        Err(refusal) => return *refusal,
    };
    let read = match definition::read(&text) {
        Ok(read) => read,
        Err(why) => {
            let message = format!("Problem with submitted job data: {why}");
            return (StatusCode::BAD_REQUEST, Json(json!({ "message": message }))).into_response();
        }
    };
    let numbers = shared.change(|lab| match lab.submit(&text, &read, &user) {
        Ok((numbers, events)) => (Ok(numbers), events),
        Err(full) => (Err(full), Vec::new()),
    });
    let numbers = match numbers {
        Ok(numbers) => numbers,
        Err(Full) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
    };
    shared.submitted(&numbers);
    let ids: Vec<Value> = {
        let lab = shared.lab();
        numbers
            .iter()
            .map(|number| match lab.job(*number).and_then(|job| job.sub_id.clone()) {
                Some(sub_id) => json!(sub_id),
                None => json!(number),
            })
            .collect()
    };
    let answer = json!({ "message": "job(s) successfully submitted", "job_ids": ids });
    (StatusCode::CREATED, Json(answer)).into_response()
}

/// The body's `definition`, as a `CharField` of a partial serializer takes it.
fn definition_in(headers: &HeaderMap, body: &[u8]) -> Result<String, Box<Response>> {
    let media = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if media.split(';').next().map(str::trim) != Some("application/json") {
        let why = format!("Unsupported media type \"{media}\" in request.");
        return Err(Box::new(detail(StatusCode::UNSUPPORTED_MEDIA_TYPE, &why)));
    }
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| Box::new(detail(StatusCode::BAD_REQUEST, &format!("JSON parse error - {error}"))))?;
    let refuse = |why: &str| {
        Err(Box::new(
            (StatusCode::BAD_REQUEST, Json(json!({ "definition": [why] }))).into_response(),
        ))
    };
    match body.get("definition") {
        // The view then asks for what is not there.
        None => Err(Box::new(server_error())),
        Some(Value::Null) => refuse("This field may not be null."),
        Some(Value::String(text)) if text.trim().is_empty() => refuse("This field may not be blank."),
        // The field cuts white space off both ends.
        Some(Value::String(text)) => Ok(text.trim().to_owned()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(_) => refuse("Not a valid string."),
    }
}

/// By GET, as the original: its action names no method. Who may not cancel is refused, but only while it has not ended.
async fn cancel(visitor: Visitor, State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    let Ok(number) = id.parse::<u64>() else {
        return nothing_here();
    };
    let done = shared.change(|lab| match lab.cancel(number, visitor.user()) {
        Ok(events) => (Ok(()), events),
        Err(refused) => (Err(refused), Vec::new()),
    });
    match done {
        Ok(()) => {
            shared.cancelled();
            Json(json!({ "message": "Job cancel signal sent." })).into_response()
        }
        Err(CancelRefused::NoSuchJob) => nothing_here(),
        Err(CancelRefused::NotAllowed) => detail(StatusCode::FORBIDDEN, "Insufficient permissions"),
    }
}

#[derive(Deserialize)]
struct Lines {
    start: Option<String>,
    end: Option<String>,
}

async fn logs(
    visitor: Visitor,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Query(lines): Query<Lines>,
) -> Response {
    let lab = shared.lab();
    let number = match find(&lab, &id, visitor.user()) {
        Ok((number, _)) => number,
        Err(refusal) => return *refusal,
    };
    let Ok(start) = lines.start.as_deref().unwrap_or("0").parse::<usize>() else {
        return server_error();
    };
    let Ok(end) = lines.end.as_deref().map(str::parse::<usize>).transpose() else {
        return server_error();
    };
    let Some(log) = lab.log(number) else {
        return nothing_here();
    };
    let end = end.unwrap_or(log.len()).min(log.len());
    let text = log.get(start..end).unwrap_or_default().concat();
    // A whole log is opened and sent even if it is empty; a part that is empty is not there.
    if text.is_empty() && (start > 0 || lines.end.is_some()) {
        return nothing_here();
    }
    attachment("application/yaml", &format!("job_{number}.yaml"), text)
}

pub(super) fn attachment(media: &'static str, file: &str, text: String) -> Response {
    let disposition = format!("attachment; filename={file}");
    (
        [
            (header::CONTENT_TYPE, media.to_owned()),
            (header::CONTENT_DISPOSITION, disposition),
        ],
        text,
    )
        .into_response()
}
