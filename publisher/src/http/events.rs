//! `GET /api/v1/events`: the journal, a page a request.

use std::ops::ControlFlow;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::response::Response;
use http::StatusCode;
use lavabus_protocol::filter::{Candidate, Filter};
use lavabus_protocol::{Cursor, Epoch, GapReason, Position};
use lavabus_store::{Event, EventRow, Reader, StoreError};
use tokio::time::Instant;

use crate::http::parameters::Parameters;
use crate::http::visitor::Visitor;
use crate::http::{Connection, Gap, Http, Problem, answer};
use crate::replay;
use crate::visible::visible_of;

/// Events of a page, unless another number is asked for,
const USUAL: usize = 100;
/// and the largest number.
const MOST: usize = 1000;
/// A page ends behind the event with which it has so many bytes.
const PAGE_BYTES: usize = 256 * 1024;
/// So many events are looked at for one page, so that a filter that matches little delays nobody.
const LOOKED_AT: u64 = 10_000;
/// A page ends when it was asked for so long who may see its events.
const LOOK_UPS: Duration = Duration::from_secs(10);
/// Of so many events it is asked in one go.
const ASKED_AT_ONCE: usize = 64;

/// What is asked for.
struct Question {
    filter: Filter,
    after: Option<Cursor>,
    limit: usize,
    /// Times of receipt, in µs since 1970.
    since: Option<i64>,
    until: Option<i64>,
    reverse: bool,
}

impl Question {
    fn read(mut parameters: Parameters) -> Result<Question, Problem> {
        let question = Question {
            filter: parameters.filter()?,
            after: parameters.cursor("after")?,
            limit: parameters.number("limit", USUAL, MOST)?,
            since: parameters.time("since")?,
            until: parameters.time("until")?,
            reverse: parameters.flag("reverse")?,
        };
        parameters.nothing_else()?;
        Ok(question)
    }
}

/// What the journal has of it.
#[derive(Default)]
struct Page {
    events: Vec<Event>,
    /// Where it goes on; none: there is no more.
    reached: Option<u64>,
    gap: Option<Gap>,
    /// The place to begin at is not known.
    is_lost: bool,
}

/// `GET /api/v1/events`.
pub(crate) async fn list(
    State(http): State<Http>,
    Extension(connection): Extension<Connection>,
    Visitor(reader): Visitor,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let question = Question::read(parameters)?;
    let replays = http.replays()?;
    // What was committed and not yet published is news: it comes by the stream first.
    let (epoch, head) = (http.epoch, http.fan_out.head());
    let mut page = replays
        .ask(move |journal| page(journal, &question, epoch, head))
        .await?;
    if page.is_lost {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "the event of this cursor is not known here: begin anew",
        ));
    }
    let deadline = Instant::now() + LOOK_UPS;
    let mut body = String::from("{\"events\":[");
    let mut last = None;
    for events in page.events.chunks(ASKED_AT_ONCE) {
        if let Some((seq, _)) = last
            && Instant::now() > deadline
        {
            page.reached = Some(seq);
            break;
        }
        let events: Vec<&Event> = events.iter().collect();
        for (event, is_shown) in events.iter().zip(visible_of(&reader, &events).await) {
            last = Some((event.seq, is_shown.then_some(event.id)));
            if is_shown {
                if !body.ends_with('[') {
                    body.push(',');
                }
                body.push_str(&event.row().to_record(epoch).to_json_line());
            }
        }
    }
    body.push_str("],\"next\":");
    match page.reached {
        None => body.push_str("null"),
        Some(seq) => {
            let position = Position { epoch, seq };
            // Of an event that was not shown not even the UUID is.
            let cursor = match last {
                Some((last, Some(uuid))) if last == seq => Cursor {
                    position: Some(position),
                    uuid,
                },
                _ => Cursor::of_position(position),
            };
            body.push_str(&format!("\"{cursor}\""));
        }
    }
    if let Some(gap) = page.gap {
        body.push_str(&format!(",\"gap\":{}", gap.to_json()));
    }
    body.push('}');
    Ok(answer::json(&http, &connection, body))
}

/// An event of the journal as a filter looks at it.
pub(crate) fn candidate<'a>(row: &EventRow<'a>) -> Candidate<'a> {
    let candidate = Candidate::new(row.topic, row.user, row.data);
    match row.lab {
        "" => candidate,
        lab => candidate.with_lab(lab),
    }
}

fn page(journal: &Reader, question: &Question, epoch: Epoch, head: u64) -> Result<Page, StoreError> {
    let mut page = Page::default();
    let pruned = journal.oldest()?.map_or(head, |oldest| oldest - 1);
    let mut first = pruned + 1;
    let mut last = head;
    if let Some(since) = question.since {
        first = first.max(journal.seq_received_since(since)?);
    }
    if let Some(until) = question.until {
        last = last.min(journal.seq_received_since(until)? - 1);
    }
    if let Some(cursor) = question.after {
        let resume = replay::resume(journal, &cursor, epoch)?;
        if !question.reverse {
            first = first.max(resume.after + 1);
            page.gap = resume.gap.map(|reason| Gap::after(cursor, epoch, resume.after, reason));
        } else if resume.known {
            last = last.min(resume.after.saturating_sub(1));
        } else if resume.gap == Some(GapReason::Expired) {
            return Ok(page);
        } else {
            page.is_lost = true;
            return Ok(page);
        }
    }
    if first > last {
        return Ok(page);
    }
    // Something is missing there that had no number: the next page begins with saying so.
    let gap = journal.gaps(first)?.into_iter().map(|gap| gap.after_seq);
    let gap = gap.filter(|after| !question.reverse && *after <= last).min();
    last = gap.unwrap_or(last);
    let (mut bytes, mut reached) = (0, 0);
    let mut looked_at = 0;
    let visit = |row: EventRow<'_>| {
        reached = row.seq;
        looked_at += 1;
        if question.filter.matches(&candidate(&row)) {
            bytes += row.topic.len() + row.sent.len() + row.user.len() + row.data.len();
            page.events.push(row.to_event());
        }
        match page.events.len() < question.limit && bytes < PAGE_BYTES && looked_at < LOOKED_AT {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    };
    let end = if question.reverse {
        journal.scan_back(last + 1, first - 1, visit)?;
        first
    } else {
        journal.scan(first - 1, last, visit)?;
        last
    };
    page.reached = (reached != 0 && (reached != end || gap.is_some())).then_some(reached);
    Ok(page)
}
