//! `/RPC2`: the methods of `lava_scheduler_app/api/` that clients of ours call.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dxr::{DateTime, Fault, FaultResponse, MethodCall, MethodResponse, Value};

use crate::definition;
use crate::job::Job;
use crate::lab::{CancelRefused, Full, User};
use crate::rest::VERSION;
use crate::server::Shared;
use crate::time;

/// `FaultCodes` of `linaro_django_xmlrpc/models.py`.
const NO_SUCH_METHOD: i32 = -32_601;
const INTERNAL: i32 = -32_603;
const INVALID_XML_RPC: i32 = -32_600;

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/RPC2", post(call).get(to_help))
        .route("/RPC2/", post(call).get(to_help))
}

/// Whoever does not call a method is sent to the page for people.
async fn to_help() -> Response {
    (StatusCode::FOUND, [(header::LOCATION, "/api/help/")]).into_response()
}

async fn call(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    if body.is_empty() {
        return to_help().await;
    }
    let user = match user_of(&headers, &shared) {
        Ok(user) => user,
        Err(refusal) => return *refusal,
    };
    let answer = match std::str::from_utf8(&body)
        .ok()
        .and_then(|text| MethodCall::from_xml(text).ok())
    {
        Some(call) => run(&shared, user.as_ref(), &call),
        None => Err(Fault::new(INVALID_XML_RPC, "Unable to decode request".into())),
    };
    let written = match answer {
        Ok(value) => MethodResponse { value }.to_xml(),
        Err(fault) => FaultResponse { fault }.to_xml(),
    };
    match written {
        Ok(text) => {
            let text = format!("<?xml version='1.0'?>\n{text}\n");
            ([(header::CONTENT_TYPE, "application/xml; charset=utf-8")], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn user_of(headers: &HeaderMap, shared: &Shared) -> Result<Option<User>, Box<Response>> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let refuse = |why: &'static str| Box::new((StatusCode::BAD_REQUEST, why).into_response());
    let (scheme, value) = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .ok_or_else(|| refuse("Invalid HTTP_AUTHORIZATION header"))?;
    if scheme != "Basic" {
        return Err(refuse(
            "Unsupported HTTP_AUTHORIZATION header, only Basic scheme is supported",
        ));
    }
    let decoded = BASE64_STANDARD
        .decode(value)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = decoded.ok_or_else(|| refuse("Corrupted HTTP_AUTHORIZATION header, bad base64 encoding"))?;
    let (name, token) = decoded
        .split_once(':')
        .ok_or_else(|| refuse("Corrupted HTTP_AUTHORIZATION header, no user:pass"))?;
    shared.lab().user_by_name(name, token).map(Some).ok_or_else(|| {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"XML-RPC Authentication token\"")];
        Box::new((StatusCode::UNAUTHORIZED, challenge, "Invalid token").into_response())
    })
}

fn run(shared: &Arc<Shared>, user: Option<&User>, call: &MethodCall<'_>) -> Result<Value, Fault> {
    match (call.name.as_ref(), call.params.as_slice()) {
        ("system.version", []) => Ok(Value::String(VERSION.into())),
        ("system.whoami", []) => Ok(user.map_or(Value::Nil, |user| Value::String(user.name.clone()))),
        ("scheduler.get_publisher_event_socket", []) => Ok(Value::String(shared.options.events_socket.clone())),
        ("scheduler.jobs.submit" | "scheduler.submit_job", [text]) => submit(shared, user, text),
        ("scheduler.jobs.show", [id]) => show(shared, user, id),
        ("scheduler.jobs.cancel" | "scheduler.cancel_job", [id]) => cancel(shared, user, id),
        (
            name @ ("system.version"
            | "system.whoami"
            | "scheduler.get_publisher_event_socket"
            | "scheduler.jobs.submit"
            | "scheduler.jobs.show"
            | "scheduler.jobs.cancel"),
            params,
        ) => Err(Fault::new(
            INTERNAL,
            format!(
                "Internal Server Error (contact server administrator for details): {name}() takes another number of arguments than {}",
                params.len()
            ),
        )),
        (name, _) => Err(Fault::new(NO_SUCH_METHOD, format!("No such method: '{name}'"))),
    }
}

fn known(user: Option<&User>) -> Result<&User, Fault> {
    user.ok_or_else(|| Fault::new(401, "Authentication with user and token required for this API.".into()))
}

/// A job's id as clients send it: an integer or text.
fn id_in(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => String::new(),
    }
}

fn submit(shared: &Arc<Shared>, user: Option<&User>, text: &Value) -> Result<Value, Fault> {
    let user = known(user)?;
    let text = match text {
        Value::String(text) => text.clone(),
        // What Python's client sends of bytes.
        Value::Base64(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    };
    let read =
        definition::read(&text).map_err(|why| Fault::new(400, format!("Problem with submitted job data: {why}")))?;
    let numbers = shared
        .change(|lab| match lab.submit(&text, &read, user) {
            Ok((numbers, events)) => (Ok(numbers), events),
            Err(full) => (Err(full), Vec::new()),
        })
        .map_err(|Full| Fault::new(INTERNAL, "Internal Server Error: no room for more jobs".into()))?;
    shared.submitted(&numbers);
    let lab = shared.lab();
    let ids: Vec<Value> = numbers
        .iter()
        .filter_map(|number| lab.job(*number))
        .map(shown_id)
        .collect();
    if read.multinode {
        Ok(Value::Array(ids))
    } else {
        Ok(ids.into_iter().next().unwrap_or(Value::Nil))
    }
}

/// `display_id`: a number, or the text of a sub id.
fn shown_id(job: &Job) -> Value {
    match &job.sub_id {
        Some(sub_id) => Value::String(sub_id.clone()),
        // XML-RPC's integers have 32 bits.
        None => job
            .id
            .parse()
            .map_or_else(|_| Value::String(job.id.clone()), Value::Integer),
    }
}

fn not_found(id: &str) -> Fault {
    Fault::new(404, format!("Job '{id}' was not found."))
}

fn not_available(id: &str, user: Option<&User>) -> Fault {
    let name = user.map_or("None", |user| &user.name);
    Fault::new(403, format!("Job '{id}' not available to user '{name}'."))
}

fn show(shared: &Shared, user: Option<&User>, id: &Value) -> Result<Value, Fault> {
    let id = id_in(id);
    let lab = shared.lab();
    let job = lab
        .number_of(&id)
        .and_then(|number| lab.job(number))
        .ok_or_else(|| not_found(&id))?;
    if !lab.may_see_job(job, user) {
        return Err(not_available(&id, user));
    }
    let text = |text: &str| Value::String(text.to_owned());
    let optional = |value: &Option<String>| value.as_ref().map_or(Value::Nil, |value| Value::String(value.clone()));
    let moment = |at: Option<jiff::Timestamp>| {
        at.and_then(|at| time::xml_rpc(at).parse::<DateTime>().ok())
            .map_or(Value::Nil, Value::DateTime)
    };
    let members = [
        ("id", shown_id(job)),
        ("description", text(&job.description)),
        ("device", optional(&job.device)),
        ("device_type", optional(&job.device_type)),
        ("health_check", Value::Boolean(job.health_check)),
        ("pipeline", Value::Boolean(true)),
        ("health", text(&job.health)),
        ("state", text(&job.state)),
        ("submitter", text(&job.submitter)),
        ("submit_time", moment(Some(job.submit_time))),
        ("start_time", moment(job.start_time)),
        ("end_time", moment(job.end_time)),
        ("tags", Value::Array(Vec::new())),
        ("visibility", text(if job.private { "Personal" } else { "Public" })),
        ("failure_comment", optional(&job.failure_comment)),
        ("error_msg", optional(&job.error_msg)),
        ("error_type", optional(&job.error_type)),
    ];
    Ok(Value::Struct(
        members
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect::<BTreeMap<_, _>>(),
    ))
}

fn cancel(shared: &Shared, user: Option<&User>, id: &Value) -> Result<Value, Fault> {
    let user = known(user)?;
    let id = id_in(id);
    if id.is_empty() {
        return Err(Fault::new(400, "Bad request: TestJob id was not specified.".into()));
    }
    shared.change(|lab| {
        let Some(number) = lab.number_of(&id) else {
            return (Err(not_found(&id)), Vec::new());
        };
        if !lab.job(number).is_some_and(|job| lab.may_see_job(job, Some(user))) {
            return (Err(not_available(&id, Some(user))), Vec::new());
        }
        match lab.cancel(number, Some(user)) {
            Ok(events) => (Ok(()), events),
            Err(CancelRefused::NoSuchJob) => (Err(not_found(&id)), Vec::new()),
            Err(CancelRefused::NotAllowed) => (Err(Fault::new(403, "Permission denied.".into())), Vec::new()),
        }
    })?;
    shared.cancelled();
    Ok(Value::Boolean(true))
}
