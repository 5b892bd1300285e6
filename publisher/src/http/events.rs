//! `GET /api/v1/events`: the journal, a page a request.
//!
//! Where a page ends is told by its cursor. So nothing that a reader may not see has a part in it: a page ends behind an
//! event that is shown, or when so many events were looked at, whatever they are.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::response::Response;
use http::StatusCode;
use lavabus_protocol::filter::{Candidate, Filter};
use lavabus_protocol::{Cursor, Epoch, EventId, GapReason, Position};
use lavabus_store::{Event, EventRow, Reader, StoreError};
use tokio::time::{Instant, timeout_at};

use crate::http::parameters::Parameters;
use crate::http::visitor::Visitor;
use crate::http::{Connection, Gap, Http, Problem, answer};
use crate::replay;
use crate::visible::visible_to_request;

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
/// So many events are read in one go, and then it is asked who may see them.
const READ_AT_ONCE: usize = 64;

/// What is asked for.
struct Question {
    filter: Filter,
    after: Option<Cursor>,
    limit: usize,
    /// Times of receipt, in µs since 1970.
    since: Option<i64>,
    until: Option<i64>,
    /// From the newest to the oldest.
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

/// Numbers to look at, both ends included, from the one end or the other.
#[derive(Clone, Copy)]
struct Span {
    first: u64,
    last: u64,
    reverse: bool,
    /// So many may still be looked at for this page.
    budget: u64,
}

impl Span {
    fn is_empty(self) -> bool {
        self.first > self.last
    }

    /// The number that was looked at last.
    fn place(self) -> u64 {
        match self.reverse {
            false => self.first - 1,
            true => self.last + 1,
        }
    }

    fn goes_on_behind(&mut self, seq: u64) {
        match self.reverse {
            false => self.first = seq + 1,
            true => self.last = seq - 1,
        }
    }
}

/// How the journal begins to answer.
struct Beginning {
    span: Span,
    /// Something is missing before the page.
    gap: Option<Gap>,
    /// Something that had no number is missing behind the span: the next page begins with saying so.
    ends_at_gap: bool,
}

/// What a reader is shown.
#[derive(Default)]
struct Page {
    /// JSON, with commas between.
    events: String,
    count: usize,
    last: Option<(u64, EventId)>,
}

impl Page {
    fn push(&mut self, event: &Event, epoch: Epoch) {
        if self.count > 0 {
            self.events.push(',');
        }
        self.events.push_str(&event.row().to_record(epoch).to_json_line());
        self.count += 1;
        self.last = Some((event.seq, event.id));
    }

    fn is_full(&self, limit: usize) -> bool {
        self.count >= limit || self.events.len() >= PAGE_BYTES
    }

    /// Of an event that is not shown not even the UUID is.
    fn cursor(&self, seq: u64, epoch: Epoch) -> Cursor {
        let position = Position { epoch, seq };
        match self.last {
            Some((last, uuid)) if last == seq => Cursor {
                position: Some(position),
                uuid,
            },
            _ => Cursor::of_position(position),
        }
    }
}

/// `GET /api/v1/events`.
pub(crate) async fn list(
    State(http): State<Http>,
    Extension(connection): Extension<Connection>,
    Visitor(reader): Visitor,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let question = Arc::new(Question::read(parameters)?);
    let replays = http.replays()?;
    // What was committed and not yet published is news: it comes by the stream first.
    let (epoch, head) = (http.epoch, http.fan_out.head());
    let asked = question.clone();
    let beginning = replays.ask(move |journal| begin(journal, &asked, epoch, head)).await?;
    let Some(beginning) = beginning else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "the event of this cursor is not known here: begin anew",
        ));
    };
    let (mut span, mut page) = (beginning.span, Page::default());
    let deadline = Instant::now() + LOOK_UPS;
    while !span.is_empty() && span.budget > 0 && !page.is_full(question.limit) {
        let asked = question.clone();
        let (events, rest) = replays.ask(move |journal| read(journal, &asked, span)).await?;
        span = rest;
        let events: Vec<&Event> = events.iter().collect();
        let Ok(Ok(shown)) = timeout_at(deadline, visible_to_request(&reader, &events)).await else {
            // What was asked until now is known when the client comes again.
            let (last, _) = page.last.ok_or_else(Problem::unavailable)?;
            span.goes_on_behind(last);
            break;
        };
        for (event, _) in events.iter().zip(shown).filter(|(_, is_shown)| *is_shown) {
            page.push(event, epoch);
            if page.is_full(question.limit) {
                span.goes_on_behind(event.seq);
                break;
            }
        }
    }
    let next = match span.is_empty() && !beginning.ends_at_gap {
        true => "null".to_owned(),
        false => format!("\"{}\"", page.cursor(span.place(), epoch)),
    };
    let gap = beginning.gap.map(|gap| format!(",\"gap\":{}", gap.to_json()));
    let (events, gap) = (page.events, gap.unwrap_or_default());
    let body = format!("{{\"events\":[{events}],\"next\":{next}{gap}}}");
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

/// `None`: the place to begin at is not known.
fn begin(journal: &Reader, question: &Question, epoch: Epoch, head: u64) -> Result<Option<Beginning>, StoreError> {
    let pruned = journal.oldest()?.map_or(head, |oldest| oldest - 1);
    let mut beginning = Beginning {
        span: Span {
            first: pruned + 1,
            last: head,
            reverse: question.reverse,
            budget: LOOKED_AT,
        },
        gap: None,
        ends_at_gap: false,
    };
    let span = &mut beginning.span;
    if let Some(since) = question.since {
        span.first = span.first.max(journal.seq_received_since(since)?);
    }
    if let Some(until) = question.until {
        span.last = span.last.min(journal.seq_received_since(until)? - 1);
    }
    if let Some(cursor) = question.after {
        let resume = replay::resume(journal, &cursor, epoch)?;
        if !question.reverse {
            span.first = span.first.max(resume.after + 1);
            beginning.gap = resume.gap.map(|reason| Gap::after(cursor, epoch, resume.after, reason));
        } else if resume.known {
            span.last = span.last.min(resume.after.saturating_sub(1));
        } else if resume.gap == Some(GapReason::Expired) {
            span.last = 0;
        } else {
            return Ok(None);
        }
    }
    if !question.reverse && !span.is_empty() {
        let gaps = journal.gaps(span.first)?.into_iter().map(|gap| gap.after_seq);
        if let Some(gap) = gaps.filter(|after| *after <= span.last).min() {
            span.last = gap;
            beginning.ends_at_gap = true;
        }
    }
    Ok(Some(beginning))
}

/// The next events that are wanted, and what is left then.
fn read(journal: &Reader, question: &Question, mut span: Span) -> Result<(Vec<Event>, Span), StoreError> {
    let _transaction = journal.transaction()?;
    let pruned = journal.oldest()?.map_or(span.last, |oldest| oldest - 1);
    if !span.reverse && pruned >= span.first {
        // Removed since the page was begun: it ends here, and the next one begins with saying so.
        span.budget = 0;
        return Ok((Vec::new(), span));
    }
    let (first, last) = (span.first, span.last);
    let (mut events, mut bytes) = (Vec::new(), 0);
    let mut is_cut = false;
    let visit = |row: EventRow<'_>| {
        span.goes_on_behind(row.seq);
        span.budget -= 1;
        if question.filter.matches(&candidate(&row)) {
            bytes += row.topic.len() + row.sent.len() + row.user.len() + row.data.len();
            events.push(row.to_event());
        }
        is_cut = events.len() >= READ_AT_ONCE || bytes >= PAGE_BYTES || span.budget == 0;
        match is_cut {
            false => ControlFlow::Continue(()),
            true => ControlFlow::Break(()),
        }
    };
    match question.reverse {
        false => journal.scan(first - 1, last, visit).map(drop)?,
        true => journal.scan_back(last + 1, first - 1, visit)?,
    }
    if !is_cut {
        // Numbers may be missing at the end.
        let end = if span.reverse { first } else { last };
        span.goes_on_behind(end);
    }
    Ok((events, span))
}
