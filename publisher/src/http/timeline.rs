//! `GET /api/v1/timeline/ID`: what happened to one thing, by the events that its reader may see and by no others.

use std::time::Duration;

use axum::extract::{Extension, State};
use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use lavabus_store::question::timeline::{Story, Subject, timeline};
use lavabus_store::{Event, RefKind};
use tokio::time::{Instant, timeout_at};

use crate::authority::Reader;
use crate::http::parameters::{Name, Parameters};
use crate::http::visitor::Visitor;
use crate::http::{Connection, Http, Problem, answer};
use crate::replay::Replays;
use crate::visible::visible_to_request;

/// Timelines that are made at a time, or are large and not taken yet: each holds up to 64 MiB.
pub(crate) const AT_A_TIME: usize = 8;
/// So long it may take to learn what may be shown; what was known at the start is then less than a minute old.
const LOOK_UPS: Duration = Duration::from_secs(15);
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
    let Ok(room) = http.timelines.clone().try_acquire_owned() else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many timelines at once: try again",
        ));
    };
    let meant = Subject::meant_by(&id);
    let known = replays.ask(move |journal| journal.mentions()?.known(meant)).await?;
    let telling = Telling {
        replays,
        reader: &reader,
        deadline: Instant::now() + LOOK_UPS,
    };
    let mut found = Vec::new();
    for subject in known {
        let after = match since.or_else(|| usual_since(&subject)) {
            Some(since) => replays.ask(move |journal| journal.seq_received_since(since)).await? - 1,
            None => 0,
        };
        let mut story = Story::default();
        telling.add(&mut story, vec![subject.clone()], after).await?;
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
    let Some((subject, mut story, after)) = found.pop() else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "no event mentions it, or none that you may see; of what is no job, request or run, none since a day ago unless since= says more",
        ));
    };
    let leads = story.leads(&subject);
    telling.add(&mut story, leads, after).await?;
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
    Ok(answer::made_in(Some(room), &http, &connection, body))
}

/// A job, a request or a run ends, so all of it is shown; of anything else a day.
fn usual_since(subject: &Subject) -> Option<i64> {
    let ends = matches!(subject.kind, RefKind::Job | RefKind::Request | RefKind::Run);
    (!ends).then(|| Timestamp::now().as_microsecond() - USUAL_US)
}

/// Tells one reader.
struct Telling<'a> {
    replays: &'a Replays,
    reader: &'a Reader,
    /// Then it must be known what may be shown.
    deadline: Instant,
}

impl Telling<'_> {
    /// Adds the events that mention these subjects, as far as they may be seen. Others count for nothing: neither for how
    /// many there are nor for whether there are more.
    async fn add(&self, story: &mut Story, subjects: Vec<Subject>, after: u64) -> Result<(), Problem> {
        let mut before = Some(u64::MAX);
        while let Some(number) = before {
            let asked = subjects.clone();
            let page = self
                .replays
                .ask(move |journal| journal.mentions()?.mentioning(&asked, after, number));
            let page = page.await?;
            story.take_in(self.only_visible(page.events).await?);
            before = page.before.filter(|_| !story.is_cut);
        }
        Ok(())
    }

    async fn only_visible(&self, mut events: Vec<Event>) -> Result<Vec<Event>, Problem> {
        let asked: Vec<&Event> = events.iter().collect();
        let shown = timeout_at(self.deadline, visible_to_request(self.reader, &asked)).await;
        let mut shown = shown.map_err(|_| Problem::unavailable())??.into_iter();
        events.retain(|_| shown.next().unwrap_or(false));
        Ok(events)
    }
}
