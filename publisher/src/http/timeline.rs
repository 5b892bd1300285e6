//! `GET /api/v1/timeline/ID`: what happened to one thing, by the events that its reader may see and by no others.

use std::time::Duration;

use axum::extract::{Extension, State};
use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use lavabus_store::question::timeline::{Story, Subject, timeline};
use lavabus_store::{Event, RefKind};

use crate::authority::Reader;
use crate::http::parameters::{Name, Parameters};
use crate::http::visitor::Visitor;
use crate::http::{Connection, Http, Problem, answer};
use crate::visible::visible_of;

/// Timelines that are made at a time: each holds up to 64 MiB.
pub(crate) const AT_A_TIME: usize = 8;
/// So long it may take to learn what may be shown.
const LOOK_UPS: Duration = Duration::from_secs(20);
/// What does not end is shown so far back, unless it is asked otherwise. A day, in µs.
const USUAL_US: i64 = 24 * 3_600 * 1_000_000;

/// `GET /api/v1/timeline/ID`.
pub(crate) async fn show(
    State(http): State<Http>,
    Extension(connection): Extension<Connection>,
    Visitor(reader): Visitor,
    Name(id): Name,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let since = parameters.time("since")?;
    parameters.nothing_else()?;
    let replays = http.replays()?;
    let Ok(_room) = http.timelines.try_acquire() else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many timelines at once: try again",
        ));
    };
    let meant = Subject::meant_by(&id);
    let known = replays.ask(move |journal| journal.mentions()?.known(meant)).await?;
    let mut found = Vec::new();
    for subject in known {
        let asked = subject.clone();
        let story = replays.ask(move |journal| {
            let after = match since.or_else(|| usual_since(&asked)) {
                Some(since) => journal.seq_received_since(since)? - 1,
                None => 0,
            };
            Ok((journal.mentions()?.mentioning(&asked, after)?, after))
        });
        let (story, after) = story.await?;
        let story = only_visible(&reader, story).await?;
        if !story.events.is_empty() {
            found.push((subject, story, after));
        }
        if found.len() > 1 {
            let names: Vec<String> = found.iter().map(|(subject, ..)| subject.to_string()).collect();
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                format!(
                    "several things have this id: name its kind, such as {}",
                    names.join(" or ")
                ),
            ));
        }
    }
    let Some((subject, story, after)) = found.pop() else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "no event mentions it, or none that you may see; of what is no job, request or run, none since a day ago unless since= says more",
        ));
    };
    let of = subject.clone();
    let story = replays
        .ask(move |journal| journal.mentions()?.story_of(&of, story, after))
        .await?;
    let story = only_visible(&reader, story).await?;
    let epoch = http.epoch;
    let made = tokio::task::spawn_blocking(move || {
        let is_cut = story.is_cut;
        let now_us = Timestamp::now().as_microsecond();
        let json = timeline(&subject, story.events, now_us).to_json(epoch, None);
        let members = json.strip_prefix('{').unwrap_or(&json);
        format!("{{\"cut\":{is_cut},{members}")
    });
    let body = made
        .await
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "a defect; it is in the log"))?;
    Ok(answer::json(&http, &connection, body))
}

/// A job, a request or a run ends, so all of it is shown; of anything else a day.
fn usual_since(subject: &Subject) -> Option<i64> {
    let ends = matches!(subject.kind, RefKind::Job | RefKind::Request | RefKind::Run);
    (!ends).then(|| Timestamp::now().as_microsecond() - USUAL_US)
}

async fn only_visible(reader: &Reader, mut story: Story) -> Result<Story, Problem> {
    let events: Vec<&Event> = story.events.iter().collect();
    let shown = tokio::time::timeout(LOOK_UPS, visible_of(reader, &events)).await;
    let mut shown = shown.map_err(|_| Problem::unavailable())?.into_iter();
    story.events.retain(|_| shown.next().unwrap_or(false));
    Ok(story)
}
