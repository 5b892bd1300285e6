//! `POST /api/v1/events`: one event or several, answered when they are on the disk.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Extension, FromRequestParts as _, State};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use lavabus_client::{datetime_text, new_id};
use lavabus_protocol::{Cursor, Envelope, EventId, Kind, Position, Refusal};
use lavabus_zmtp::MessageRun;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::admission::{Admitted, admit};
use crate::authority::Reader;
use crate::counters::Counters;
use crate::http::parameters::Parameters;
use crate::http::visitor::Visitor;
use crate::http::{Connection, Http, Problem};
use crate::intake::{Intake, Next};
use crate::journal::Outcome;

/// Events of one request.
const MAX_EVENTS: usize = 1000;
/// Bodies that are read at a time; others wait.
const BODIES: usize = 32;
/// Of a body that is not wanted so many bytes are read,
const DISCARDED: usize = 8 << 20;
/// for so long.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);
/// A body must be there in this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The way in for what is posted. It closes before the journal ends, which waits for its last producer.
#[derive(Debug)]
pub(crate) struct Posts {
    intake: Mutex<Option<Intake>>,
    producers: TaskTracker,
    bodies: Semaphore,
    /// In bytes.
    max_body: usize,
}

impl Posts {
    pub(crate) fn new(intake: &Intake, producers: &TaskTracker, max_body: usize) -> Posts {
        Posts {
            intake: Mutex::new(Some(intake.clone())),
            producers: producers.clone(),
            bodies: Semaphore::new(BODIES),
            max_body,
        }
    }

    /// Nothing more is taken; what is under way goes on.
    pub(crate) fn close(&self) {
        self.lock().take();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Intake>> {
        self.intake.lock().expect("no holder of this lock panics")
    }

    fn intake(&self) -> Result<Intake, Problem> {
        self.lock().clone().ok_or_else(ended)
    }

    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
        let too_large = || {
            let detail = format!("a body has {} bytes at most", self.max_body);
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        };
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        if announced.is_some_and(|length| length.parse().is_ok_and(|length: u64| length > self.max_body as u64)) {
            discard(headers, body).await;
            return Err(too_large());
        }
        match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, self.max_body)).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(error)) if is_too_large(&error) => Err(too_large()),
            Ok(Err(_)) => Err(bad("the body could not be read")),
            Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
        }
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

fn ended() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "the publisher ends: send the same again",
    )
}

/// An event as it is posted.
#[derive(Deserialize)]
struct Posted<'a> {
    topic: String,
    uuid: Option<String>,
    datetime: Option<String>,
    username: Option<String>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// `POST /api/v1/events`.
pub(crate) async fn post(
    State(http): State<Http>,
    Extension(connection): Extension<Connection>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let (mut head, body) = request.into_parts();
    let reader = match admitted_reader(&http, &mut head).await {
        Ok(reader) => reader,
        Err(problem) => {
            discard(&head.headers, body).await;
            return Err(problem);
        }
    };
    let limit = http.posts.intake()?.limits.message;
    let admitted = {
        let _turn = http.posts.bodies.acquire().await.map_err(|_| ended())?;
        let body = http.posts.read(&head.headers, body).await?;
        admitted(&body, &reader, limit, &http.counters)?
    };
    http.counters.received.add(admitted.messages.len() as u64);
    let ids: Vec<EventId> = admitted.messages.iter().map(|message| message.id).collect();
    let (status, kept) = hand_in(&http, admitted, connection.address()).await?;
    let events = ids.into_iter().zip(kept).map(|(uuid, (seq, repeated))| {
        let position = Some(Position { epoch: http.epoch, seq });
        let cursor = Cursor { position, uuid }.to_string();
        serde_json::json!({"uuid": uuid.to_string(), "cursor": cursor, "repeated": repeated})
    });
    let events: Vec<serde_json::Value> = events.collect();
    Ok((status, axum::Json(serde_json::json!({"events": events}))).into_response())
}

/// Whoever may hand in anything at all, with what can be known before the body is read.
async fn admitted_reader(http: &Http, head: &mut Parts) -> Result<Reader, Problem> {
    if !http.is_origin_allowed(&head.headers) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "pages of other sites may not send events",
        ));
    }
    let Visitor(reader) = Visitor::from_request_parts(head, http).await?;
    Parameters::from_request_parts(head, http).await?.nothing_else()?;
    if !Kind::ALL.into_iter().any(|kind| reader.may_emit(kind)) {
        return Err(may_not_emit(&reader, "events"));
    }
    if !is_json(&head.headers) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send events with Content-Type: application/json",
        ));
    }
    Ok(reader)
}

/// Reads what is not wanted, within limits: a client that is still sending when the connection is closed may not see
/// the answer.
async fn discard(headers: &HeaderMap, mut body: Body) {
    // It waits for the answer before it sends.
    if headers.contains_key(EXPECT) {
        return;
    }
    let mut left = DISCARDED;
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, rest).await;
}

fn may_not_emit(reader: &Reader, what: &str) -> Problem {
    match reader.name() {
        None => Problem::new(StatusCode::UNAUTHORIZED, "to send events takes a token"),
        Some(name) => Problem::new(StatusCode::FORBIDDEN, format!("{name} may not send {what}")),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = value.map(|value| value.split(';').next().unwrap_or_default().trim());
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
}

/// Checks everything before anything is taken.
fn admitted(body: &[u8], reader: &Reader, limit: usize, counters: &Counters) -> Result<Admitted, Problem> {
    let posted = read(body)?;
    let (mut bytes, mut ends) = (BytesMut::new(), Vec::with_capacity(posted.len()));
    let mut known: HashMap<EventId, (u32, u32)> = HashMap::new();
    let username = reader.name().unwrap_or_default();
    for (place, posted) in posted.iter().enumerate() {
        let count = |refusal: &Refusal| {
            counters.received.add(1);
            counters.refused.add(refusal);
        };
        let wrong = |refusal: Refusal| {
            count(&refusal);
            bad(format!("event {place}: {refusal}"))
        };
        let uuid = posted.uuid.clone().unwrap_or_else(|| new_id().to_string());
        let datetime = posted.datetime.clone();
        let datetime = datetime.unwrap_or_else(|| datetime_text(Timestamp::now()));
        let username = posted.username.as_deref().unwrap_or(username);
        let frames = [&*posted.topic, &*uuid, &*datetime, username, posted.data.get()].map(str::as_bytes);
        let envelope = Envelope::check(frames).map_err(wrong)?;
        let size: usize = frames.iter().map(|frame| frame.len()).sum();
        if size > limit {
            return Err(wrong(Refusal::Oversize {
                bytes: size as u64,
                limit,
            }));
        }
        let kind = Kind::of(envelope.topic);
        if !reader.may_emit(kind) {
            return Err(may_not_emit(reader, &format!("events of the kind {kind}")));
        }
        let start = bytes.len() as u32;
        lavabus_zmtp::encode_message(&frames, &mut bytes);
        let end = u32::try_from(bytes.len()).map_err(|_| bad("too large"))?;
        ends.push(end);
        if let Some((first, last)) = known.insert(envelope.uuid, (start, end))
            && bytes[first as usize..last as usize] != bytes[start as usize..end as usize]
        {
            count(&Refusal::UuidConflict);
            return Err(conflict(&[place]));
        }
    }
    Ok(admit(MessageRun {
        bytes: bytes.freeze(),
        ends,
    }))
}

fn read(body: &[u8]) -> Result<Vec<Posted<'_>>, Problem> {
    let wrong = |error: serde_json::Error| {
        bad(format!(
            "not an event: {error}; expected {{\"topic\", \"data\": {{…}}}} or a list of such, and optionally uuid, datetime, username"
        ))
    };
    let is_list = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let posted: Vec<Posted<'_>> = match is_list {
        true => serde_json::from_slice(body).map_err(wrong)?,
        false => vec![serde_json::from_slice(body).map_err(wrong)?],
    };
    match posted.len() {
        0 => Err(bad("an empty list, expected an event")),
        1..=MAX_EVENTS => Ok(posted),
        count => Err(bad(format!("{count} events, expected at most {MAX_EVENTS}"))),
    }
}

fn conflict(places: &[usize]) -> Problem {
    let places: Vec<String> = places.iter().take(10).map(usize::to_string).collect();
    Problem::new(
        StatusCode::CONFLICT,
        format!(
            "uuid_conflict: event {} has the UUID of another event with other content; nothing of this request is kept",
            places.join(", ")
        ),
    )
}

/// The number of each event, and whether it was there before.
async fn hand_in(http: &Http, admitted: Admitted, from: IpAddr) -> Result<(StatusCode, Vec<(u64, bool)>), Problem> {
    // Whoever ends the publisher waits for it, so that it is had before the intake is looked for.
    let under_way = http.posts.producers.token();
    let intake = http.posts.intake()?;
    let journal = match intake.next {
        Next::Journal(journal) => journal,
        Next::FanOut(fan_out) => {
            let count = admitted.messages.len() as u64;
            let began = Instant::now();
            let last = fan_out.publish_unkept(admitted.events());
            http.counters.published_within(began.elapsed(), count);
            let numbers = (last + 1 - count..=last).map(|seq| (seq, false));
            return Ok((StatusCode::ACCEPTED, numbers.collect()));
        }
    };
    let peer: Arc<str> = format!("http://{from}").into();
    let answer = journal.send_for_answer(admitted, &peer).await;
    drop((journal, under_way));
    let answer = answer.ok_or_else(ended)?;
    match answer.await {
        Ok(Outcome::Kept(kept)) => Ok((StatusCode::CREATED, kept)),
        Ok(Outcome::Conflict(places)) => Err(conflict(&places)),
        Ok(Outcome::NotKept) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the journal cannot write: nothing of this request is kept; send the same again",
        )),
        Err(_) => Err(ended()),
    }
}
