//! `GET /api/v1/stream`: server-sent events (WHATWG HTML, "Server-sent events").
//!
//! ```text
//! id: 5f0e11d2/1042/8e503fbe-e568-11f1-8b37-02fc00000001
//! event: testjob
//! data: {"topic":"org.example.lab.testjob",…}
//! ```
//!
//! The text of an event is made once a batch for everybody. A reader that does not read is a place further behind: of
//! what it has not taken one chunk is kept.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, StatusCode};
use hyper::body::Frame;
use lavabus_protocol::filter::{Candidate, Filter};
use lavabus_protocol::{Cursor, Epoch, Kind, Position};
use lavabus_store::Event;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use crate::authority::Reader;
use crate::fan_out::batch::Batch;
use crate::http::end::{End, FLUSH};
use crate::http::events::candidate;
use crate::http::following::{Following, Next};
use crate::http::parameters::Parameters;
use crate::http::visitor::Visitor;
use crate::http::{Connection, Gap, Http, Problem};
use crate::metrics::outlet::Outlet;
use crate::visible::{sees_all, visible_in, visible_of};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Proxies that buffer answers are asked not to.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// About so many bytes go out at a time,
const CHUNK: usize = 16 * 1024;
/// and of so many batches more than one at most.
const BATCHES: usize = 64;
/// Regular expressions that all streams together may have: each takes up to half a MiB and more as long as the stream is there.
pub(crate) const EXPRESSIONS: usize = 256;
const COMMENT: &[u8] = b":\n\n";
/// Who wants to know how far it is, is told so often.
const HEADS: Duration = Duration::from_secs(1);

/// `GET /api/v1/stream`.
pub(crate) async fn open(
    State(http): State<Http>,
    Extension(connection): Extension<Connection>,
    Visitor(reader): Visitor,
    headers: HeaderMap,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    if !http.is_origin_allowed(&headers) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "pages of other sites may not read this stream",
        ));
    }
    let filter = parameters.filter()?;
    let after = parameters.cursor("after")?;
    let wants_heads = parameters.flag("heads")?;
    parameters.nothing_else()?;
    // A browser that comes again asks at the address with which it began, and tells its place here.
    let after = last_event_id(&headers)?.or(after);
    let mut following = Following::live(&http.fan_out, http.replays.as_ref(), &http.counters)
        .map_err(|_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "there are too many readers"))?;
    let expressions = u32::try_from(filter.expressions()).expect("a request has a few");
    let expressions = http.expressions.clone().try_acquire_many_owned(expressions);
    let Ok(expressions) = expressions else {
        let detail = "all streams together have too many regular expressions; name values, or filter what comes";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    };
    let mut pending = BytesMut::from(COMMENT);
    if let Some(cursor) = after {
        let resume = following.resume(cursor, http.epoch).await?;
        if let Some(reason) = resume.gap {
            http.counters.gaps.add(1);
            push_gap(&mut pending, &Gap::after(cursor, http.epoch, resume.after, reason));
        }
    }
    let (chunks, waiting) = mpsc::channel(1);
    let sending = Sending {
        chunks,
        pending,
        stalled: http.stalled_timeout,
        keep_alive: http.keep_alive,
        comment_due: Instant::now() + http.keep_alive,
        following,
        filter,
        _expressions: expressions,
        reader,
        epoch: http.epoch,
        heads: wants_heads.then(|| Heads {
            due: Instant::now(),
            is_catching_up: after.is_some(),
        }),
    };
    let tasks = http.tasks.clone();
    tasks.spawn(run(http, connection, sending));
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
        (BUFFERING, "no"),
    ];
    Ok((headers, Body::new(Chunks(waiting))).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<Cursor>, Problem> {
    let Some(value) = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let cursor = value.to_str().ok().and_then(|value| value.parse().ok());
    let wrong = || Problem::new(StatusCode::BAD_REQUEST, "the header Last-Event-ID is no cursor");
    cursor.map(Some).ok_or_else(wrong)
}

async fn run(http: Http, connection: Connection, mut sending: Sending) {
    http.counters.event_streams.add(1);
    sending.following.joins(Outlet::Sse);
    let (reader, chunks) = (sending.reader.clone(), sending.chunks.clone());
    // Each branch ends the stream, so that none needs to be taken up again.
    let end = tokio::select! {
        end = sending.run() => end,
        () = chunks.closed() => End::Gone,
        () = http.drain.cancelled() => End::Drained,
        () = reader.withdrawn() => End::Withdrawn,
    };
    drop(chunks);
    end.record("event stream", &connection, &http.counters);
    match end {
        End::Drained => sending.flush().await,
        // It waits for the client and nothing else.
        End::Stalled => connection.abort(),
        _ => {}
    }
}

/// What goes out, as the connection takes it.
struct Chunks(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(context)
            .map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// What one reader gets.
struct Sending {
    chunks: mpsc::Sender<Bytes>,
    /// What must go out before anything else.
    pending: BytesMut,
    /// A client that takes nothing for so long is given up.
    stalled: Duration,
    keep_alive: Duration,
    /// A comment goes out then, if nothing else has.
    comment_due: Instant,
    following: Following,
    filter: Filter,
    _expressions: OwnedSemaphorePermit,
    reader: Reader,
    epoch: Epoch,
    heads: Option<Heads>,
}

/// When it is told how far the reader is.
struct Heads {
    due: Instant,
    /// It has not had all that was there at its beginning: when it has, that is told at once.
    is_catching_up: bool,
}

impl Sending {
    /// Ends only with a failure.
    async fn run(&mut self) -> End {
        loop {
            if let Err(end) = self.turn().await {
                return end;
            }
            // Whoever else is ready goes first: under load that is more events, and fewer and larger writes.
            tokio::task::yield_now().await;
        }
    }

    async fn turn(&mut self) -> Result<(), End> {
        self.push_head();
        // Also where events come all the time, and none of them for this reader.
        if self.pending.is_empty() && self.comment_due <= Instant::now() {
            self.pending.extend_from_slice(COMMENT);
        }
        self.send_pending().await?;
        let before = self.following.sequence();
        let due = self.due();
        let Ok(next) = tokio::time::timeout_at(due, self.following.next()).await else {
            if let Some(heads) = &mut self.heads {
                (heads.due, heads.is_catching_up) = (due, false);
            }
            return Ok(());
        };
        let mut is_ring = self.take(before, next?).await?;
        // What is there already goes out with it: under load that is fewer and larger writes.
        for _ in 0..BATCHES {
            if !is_ring || self.pending.len() >= CHUNK {
                break;
            }
            let before = self.following.sequence();
            match self.following.next().now_or_never() {
                None => break,
                Some(next) => is_ring = self.take(before, next?).await?,
            }
        }
        Ok(())
    }

    /// When something goes out though there is no news.
    fn due(&mut self) -> Instant {
        match &self.heads {
            // What is asked of the journal is waited for.
            Some(heads) if self.following.is_in_ring() => match heads.is_catching_up {
                true => Instant::now(),
                false => heads.due,
            },
            _ => self.comment_due,
        }
    }

    /// Says how far the reader is, to whoever asked to be told.
    fn push_head(&mut self) {
        let now = Instant::now();
        let Some(heads) = self.heads.as_mut().filter(|heads| heads.due <= now) else {
            return;
        };
        heads.due = now + HEADS;
        let epoch = self.epoch;
        let at = |seq| Position { epoch, seq }.to_string();
        let position = self.following.sequence();
        // The shared head moves a moment after the events behind it can be had.
        let head = self.following.head().max(position);
        let head = serde_json::json!({"head": at(head), "position": at(position)});
        self.pending
            .extend_from_slice(format!("event: head\ndata: {head}\n\n").as_bytes());
    }

    /// Whether there may be more at once.
    async fn take(&mut self, before: u64, next: Next) -> Result<bool, End> {
        match next {
            Next::Batch(batch, from) => {
                self.take_batch(&batch, from).await;
                return Ok(true);
            }
            Next::Events(events, upto) => self.take_events(events, upto).await?,
            Next::Gap(reason) => {
                let gap = Gap::new(self.epoch, before + 1, self.following.sequence(), reason);
                push_gap(&mut self.pending, &gap);
            }
        }
        Ok(false)
    }

    /// Cancel-safe.
    async fn send_pending(&mut self) -> Result<(), End> {
        while !self.pending.is_empty() {
            let room = tokio::time::timeout(self.stalled, self.chunks.reserve()).await;
            let room = room.map_err(|_| End::Stalled)?.map_err(|_| End::Gone)?;
            let chunk = self.pending.split_to(CHUNK.min(self.pending.len()));
            room.send(chunk.freeze());
            self.comment_due = Instant::now() + self.keep_alive;
        }
        // What was split off holds the whole of it.
        self.pending = BytesMut::new();
        Ok(())
    }

    /// Takes about as much of the batch as one chunk holds.
    async fn take_batch(&mut self, batch: &Arc<Batch>, from: usize) {
        let blocks = batch.sse(self.epoch);
        let count = batch.messages.len();
        if sees_all(&self.reader) && self.filter.is_empty() {
            let start = blocks.start_of(from);
            let within = blocks.ends.partition_point(|end| *end as usize <= start + CHUNK);
            let behind = within.clamp((from + 1).min(count), count);
            self.pending
                .extend_from_slice(&blocks.bytes[start..blocks.start_of(behind)]);
            self.following.delivered(behind - from);
            return self.following.passed(batch, behind);
        }
        let wanted: Vec<usize> = (from..count).filter(|message| self.wants(batch, *message)).collect();
        let shown = visible_in(&self.reader, self.following.lane(), batch, wanted.iter().copied()).await;
        let mut behind = count;
        for (message, _) in wanted.iter().zip(shown).filter(|(_, shown)| *shown) {
            if self.pending.len() >= CHUNK {
                behind = *message;
                break;
            }
            self.pending
                .extend_from_slice(&blocks.bytes[blocks.start_of(*message)..blocks.start_of(message + 1)]);
            self.following.delivered(1);
        }
        self.following.passed(batch, behind);
    }

    fn wants(&self, batch: &Batch, message: usize) -> bool {
        if self.filter.is_empty() {
            return true;
        }
        let [topic, _, _, user, data] = batch.event(message);
        let candidate = Candidate::new(topic, user, data);
        self.filter.matches(&candidate.with_event(&batch.events()[message]))
    }

    /// Takes events of the journal. Those that find no room are read again when there is some.
    async fn take_events(&mut self, events: Vec<Event>, upto: u64) -> Result<(), End> {
        let wanted = events
            .iter()
            .filter(|event| self.filter.matches(&candidate(&event.row())));
        let wanted: Vec<&Event> = wanted.collect();
        let shown = visible_of(&self.reader, &wanted).await;
        for (event, _) in wanted.into_iter().zip(shown).filter(|(_, shown)| *shown) {
            let record = event.row().to_record(self.epoch);
            push_event(
                &mut self.pending,
                record.cursor,
                Kind::of(&event.topic),
                &record.to_json_line(),
            );
            self.following.delivered(1);
            self.following.covers(event.seq);
            if self.pending.len() >= CHUNK {
                match self.chunks.try_send(self.pending.split().freeze()) {
                    Ok(()) => {}
                    Err(TrySendError::Closed(_)) => return Err(End::Gone),
                    Err(TrySendError::Full(chunk)) => {
                        self.pending = BytesMut::from(chunk);
                        return Ok(());
                    }
                }
            }
        }
        self.following.covers(upto);
        Ok(())
    }

    /// What was published before the end goes out, as far as the client takes it in time.
    async fn flush(&mut self) {
        let upto = self.following.head();
        let rest = async {
            while self.following.sequence() < upto {
                self.turn().await?;
            }
            self.send_pending().await
        };
        let _: Result<Result<(), End>, _> = tokio::time::timeout(FLUSH, rest).await;
    }
}

/// Appends an event. `json` is one line.
pub(crate) fn push_event(out: &mut impl Extend<u8>, cursor: Option<Cursor>, kind: Kind, json: &str) {
    let id = match cursor {
        // Without a number there is no place to come back to.
        Some(cursor) => format!("id: {cursor}\n"),
        None => String::new(),
    };
    out.extend(format!("{id}event: {kind}\ndata: ").into_bytes());
    out.extend(json.bytes());
    out.extend(*b"\n\n");
}

fn push_gap(out: &mut BytesMut, gap: &Gap) {
    out.extend_from_slice(format!("event: gap\ndata: {}\n\n", gap.to_json()).as_bytes());
}
