//! `GET /api/v0.2/jobs/`: filters, order, and pages by limit and offset.

use std::cmp::Ordering;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Visitor;
use super::jobs::fields;
use crate::job::Job;
use crate::server::Shared;
use crate::time;

/// `PAGE_SIZE` of LAVA's settings.
const PAGE: usize = 50;

type Parameters = Vec<(String, String)>;

pub(super) async fn list(
    visitor: Visitor,
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    Query(parameters): Query<Parameters>,
) -> Response {
    let lab = shared.lab();
    let mut jobs: Vec<&Job> = lab.jobs().filter(|job| lab.may_see_job(job, visitor.user())).collect();
    for (name, value) in &parameters {
        if value.is_empty() {
            continue;
        }
        match filter(name, value) {
            Ok(Some(keep)) => jobs.retain(|job| keep(job)),
            Ok(None) => {}
            Err(why) => return (StatusCode::BAD_REQUEST, Json(json!({ (name): [why] }))).into_response(),
        }
    }
    let ordering = parameters
        .iter()
        .find(|(name, _)| name == "ordering")
        .map_or("-id", |(_, value)| value);
    sort(&mut jobs, ordering);
    let page = page(
        &parameters,
        &format!("http://{}{}", shared.address, uri.path()),
        jobs.len(),
    );
    let results: Vec<Value> = jobs
        .iter()
        .skip(page.offset)
        .take(page.limit)
        .map(|job| fields(job, visitor.user()))
        .collect();
    Json(json!({ "count": jobs.len(), "next": page.next, "previous": page.previous, "results": results }))
        .into_response()
}

type Keep = Box<dyn Fn(&Job) -> bool>;

/// What a parameter keeps; names that no filter has are passed over, as Django's filters do.
fn filter(name: &str, value: &str) -> Result<Option<Keep>, String> {
    let text = value.to_owned();
    let number = || value.parse::<u64>().map_err(|_| "Enter a number.".to_owned());
    let moment = || time::parse(value).ok_or_else(|| "Enter a valid date/time.".to_owned());
    let among = || value.split(',').map(str::to_owned).collect::<Vec<_>>();
    let keep: Keep = match name {
        "submitter__username" => Box::new(move |job| job.submitter == text),
        "submitter__username__in" => {
            let names = among();
            Box::new(move |job| names.contains(&job.submitter))
        }
        "actual_device" | "actual_device__hostname" => Box::new(move |job| job.device.as_ref() == Some(&text)),
        "requested_device_type" | "requested_device_type__name" => {
            Box::new(move |job| job.device_type.as_ref() == Some(&text))
        }
        "description" => Box::new(move |job| job.description == text),
        "description__contains" => Box::new(move |job| job.description.contains(&text)),
        "state" => Box::new(move |job| job.state == text),
        "state__in" => {
            let states = among();
            Box::new(move |job| states.contains(&job.state))
        }
        "health" => Box::new(move |job| job.health == text),
        "health__in" => {
            let healths = among();
            Box::new(move |job| healths.contains(&job.health))
        }
        "id" => by_id(number()?, Ordering::Equal),
        "id__gt" => by_id(number()?, Ordering::Greater),
        "id__lt" => by_id(number()?, Ordering::Less),
        "id__in" => {
            let ids = among();
            Box::new(move |job| ids.contains(&job.id))
        }
        "submit_time__gt" => by_time(|job| Some(job.submit_time), moment()?, Ordering::Greater),
        "submit_time__lt" => by_time(|job| Some(job.submit_time), moment()?, Ordering::Less),
        "start_time__gt" => by_time(|job| job.start_time, moment()?, Ordering::Greater),
        "start_time__lt" => by_time(|job| job.start_time, moment()?, Ordering::Less),
        "end_time__gt" => by_time(|job| job.end_time, moment()?, Ordering::Greater),
        "end_time__lt" => by_time(|job| job.end_time, moment()?, Ordering::Less),
        _ => return Ok(None),
    };
    Ok(Some(keep))
}

fn by_id(wanted: u64, order: Ordering) -> Keep {
    Box::new(move |job| id(job).cmp(&wanted) == order)
}

fn by_time(of: fn(&Job) -> Option<Timestamp>, wanted: Timestamp, order: Ordering) -> Keep {
    Box::new(move |job| of(job).is_some_and(|time| time.cmp(&wanted) == order))
}

fn id(job: &Job) -> u64 {
    job.id.parse().unwrap_or_default()
}

/// By `id`, `start_time`, `end_time` and `submit_time`, each with `-` for descending; other names are passed over, and
/// without one that is left the newest comes first.
fn sort(jobs: &mut [&Job], ordering: &str) {
    let mut keys: Vec<&str> = ordering
        .split(',')
        .map(str::trim)
        .filter(|key| {
            matches!(
                key.trim_start_matches('-'),
                "id" | "start_time" | "end_time" | "submit_time"
            )
        })
        .collect();
    if keys.is_empty() {
        keys.push("-id");
    }
    jobs.sort_by(|one, other| {
        for key in &keys {
            let order = match key.trim_start_matches('-') {
                "id" => id(one).cmp(&id(other)),
                "start_time" => nulls_last(one.start_time, other.start_time),
                "end_time" => nulls_last(one.end_time, other.end_time),
                _ => one.submit_time.cmp(&other.submit_time),
            };
            let order = if key.starts_with('-') { order.reverse() } else { order };
            if order.is_ne() {
                return order;
            }
        }
        Ordering::Equal
    });
}

/// PostgreSQL puts NULL after everything, when ascending.
fn nulls_last(one: Option<Timestamp>, other: Option<Timestamp>) -> Ordering {
    (one.is_none(), one).cmp(&(other.is_none(), other))
}

pub(super) struct Page {
    pub(super) limit: usize,
    pub(super) offset: usize,
    pub(super) next: Option<String>,
    pub(super) previous: Option<String>,
}

/// `LimitOffsetPagination`: a limit that is no positive number is the default, an offset that is none is 0.
pub(super) fn page(parameters: &[(String, String)], base: &str, count: usize) -> Page {
    let number = |wanted: &str| {
        parameters
            .iter()
            .find(|(name, _)| name == wanted)
            .and_then(|(_, value)| value.parse::<usize>().ok())
    };
    let limit = number("limit").filter(|limit| *limit > 0).unwrap_or(PAGE);
    let offset = number("offset").unwrap_or(0);
    let link = |offset: usize| {
        let mut query: Vec<(String, String)> = parameters
            .iter()
            .filter(|(name, _)| name != "limit" && name != "offset")
            .cloned()
            .collect();
        query.push(("limit".into(), limit.to_string()));
        if offset > 0 {
            query.push(("offset".into(), offset.to_string()));
        }
        let query: Vec<String> = query
            .iter()
            .map(|(name, value)| format!("{}={}", quoted(name), quoted(value)))
            .collect();
        format!("{base}?{}", query.join("&"))
    };
    let after = offset.saturating_add(limit);
    Page {
        limit,
        offset,
        next: (after < count).then(|| link(after)),
        previous: (offset > 0).then(|| link(offset.saturating_sub(limit))),
    }
}

/// Percent-encoding of all but RFC 3986's unreserved characters.
fn quoted(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
