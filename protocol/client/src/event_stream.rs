//! The stream of one publisher's second port, reconnecting and resuming.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use lavabus_protocol::filter::Filter;
use lavabus_protocol::{Cursor, EventId, GapReason, Kind, Position, Record, SnapshotScope, SubscriptionOption};
use reqwest::Response;
use serde_json::Value;
use tokio::time::Instant;

use crate::event::new_event;
use crate::patience::Patience;
use crate::place::Place;
use crate::recent::Recent;
use crate::second_port::{Page, PortError, SecondPort, filter_query};
use crate::sse::{Message, Parser};
use crate::subscription::SubscriptionError;
use crate::update::{Cause, Update};

/// A publisher sends a comment every 15 s; one that is silent for so long hangs.
const SILENCE: Duration = Duration::from_secs(45);
/// What is not known is asked for again after this time.
const ONCE_MORE: Duration = Duration::from_secs(1);
/// Events of one page of the past: the most that a publisher gives.
const PAGE: usize = 1000;
/// All that is kept: a UUID that no event has.
const BEGINNING: Cursor = Cursor {
    position: None,
    uuid: EventId::NIL,
};

/// What of the stream is wanted, and how patiently.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// Handed to the publisher, as far as it takes it: it may send more. Everything, by default.
    pub filter: Filter,
    /// Go on after this event. `None`, the default: with what happens from now on.
    pub after: Option<Cursor>,
    /// Begin with the states of these objects: each as an event of now that was never sent, without a cursor. They are asked
    /// for when the stream is open. [`SnapshotScope::All`] cannot be had.
    pub snapshots: Vec<SnapshotScope>,
    /// At this time tell how far the publisher is, too; otherwise only after each connection.
    pub head_at: Option<Instant>,
    /// The first connection must be made within this time. 30 s by default.
    pub connect_timeout: Duration,
    /// Later there must not be no connection for longer than this. 15 min by default.
    pub max_outage: Duration,
}

impl Default for StreamOptions {
    fn default() -> StreamOptions {
        StreamOptions {
            filter: Filter::default(),
            after: None,
            snapshots: Vec::new(),
            head_at: None,
            connect_timeout: Duration::from_secs(30),
            max_outage: Duration::from_secs(15 * 60),
        }
    }
}

type Asked<T> = Pin<Box<dyn Future<Output = Result<T, PortError>> + Send>>;

enum State {
    /// Waiting, looking how far the publisher is, opening the stream behind that.
    Connecting(Asked<Opened>),
    /// The stream is open and waits; what was before it comes first, by pages.
    Past(Asked<Page>, Box<Live>),
    /// The stream is open and waits; the states of objects come first.
    Snapshot(Asked<Option<Record>>, Box<Live>),
    Live(Box<Live>),
    Ended,
}

/// A stream that was opened.
struct Opened {
    response: Response,
    /// It begins behind this position; `None` without a journal, or if the publisher did not say.
    behind: Option<Position>,
    has_journal: bool,
    /// There was no event yet.
    is_empty: bool,
}

struct Live {
    response: Response,
    parser: Parser,
    behind: Option<Position>,
    has_journal: bool,
    heard: Instant,
}

/// The stream of one publisher over HTTP: server-sent events, resumed by cursor. It lives while
/// [`next`](EventStream::next) is awaited.
///
/// It tells the same as a [`Subscription`](crate::Subscription), but for one thing: how far the publisher is it tells
/// once after each connection, when all before it was told, and not every second.
pub struct EventStream {
    port: SecondPort,
    options: StreamOptions,
    query: Vec<(String, String)>,
    state: State,
    /// What is to be told next.
    told: VecDeque<Update>,
    place: Place,
    recent: Recent,
    /// Objects whose states were not told yet.
    open_snapshots: VecDeque<SnapshotScope>,
    patience: Patience,
    is_up_told: bool,
    /// The cursor that was asked for stands for everything: that nobody knows it is no gap.
    expects_unknown: bool,
}

impl EventStream {
    /// The stream of this port. Nothing happens before `next` is awaited.
    pub fn new(port: SecondPort, options: StreamOptions) -> EventStream {
        let mut stream = EventStream {
            query: filter_query(&options.filter),
            state: State::Ended,
            told: VecDeque::new(),
            place: Place::new(options.after),
            recent: Recent::default(),
            open_snapshots: options.snapshots.iter().cloned().collect(),
            patience: Patience::new(options.connect_timeout, options.max_outage),
            is_up_told: false,
            expects_unknown: false,
            port,
            options,
        };
        stream.state = State::Connecting(stream.connecting(Duration::ZERO));
        stream
    }

    /// The publisher's port.
    pub fn port(&self) -> &SecondPort {
        &self.port
    }

    /// The next thing to tell. Cancel-safe: nothing is lost when the future is dropped.
    ///
    /// # Errors
    ///
    /// [`SubscriptionError`] ends the stream: there was no connection for too long, or there is no use in trying again.
    pub async fn next(&mut self) -> Result<Update, SubscriptionError> {
        loop {
            if let Some(update) = self.told.pop_front() {
                return Ok(update);
            }
            match &mut self.state {
                State::Ended => return Err(SubscriptionError::Ended),
                State::Connecting(opening) => {
                    let opened = opening.as_mut().await;
                    self.on_opened(opened)?;
                }
                State::Past(asking, _) => {
                    let page = asking.as_mut().await;
                    self.on_page(page)?;
                }
                State::Snapshot(asking, _) => {
                    let state = asking.as_mut().await;
                    self.on_state(state)?;
                }
                State::Live(live) => {
                    let silence = live.heard + SILENCE;
                    // Both are cancel-safe.
                    tokio::select! {
                        biased;
                        chunk = tokio::time::timeout_at(silence, live.response.chunk()) => match chunk {
                            Ok(Ok(Some(chunk))) => {
                                let mut messages = VecDeque::new();
                                live.heard = Instant::now();
                                live.parser.push(&chunk, &mut messages);
                                messages.into_iter().for_each(|message| self.on_message(message));
                            }
                            Ok(Ok(None)) => self.on_lost(lost("the stream has ended"))?,
                            Ok(Err(error)) => {
                                let error = self.port.unavailable(&error);
                                self.on_lost(error)?;
                            }
                            Err(_) => self.on_lost(lost("nothing was heard for 45 s"))?,
                        },
                        () = until(self.options.head_at) => {
                            self.options.head_at = None;
                            self.recent.reconnected();
                            self.state = State::Connecting(self.connecting(Duration::ZERO));
                        }
                    }
                }
            }
        }
    }

    /// Waits, looks how far the publisher is, and opens the stream behind that; in one future, which lives on when `next`
    /// is cancelled.
    fn connecting(&mut self, wait: Duration) -> Asked<Opened> {
        let (port, query, place) = (self.port.clone(), self.query.clone(), self.place.resume());
        let attempt = self.patience.attempt(wait);
        Box::pin(async move {
            let within = attempt.begin().await;
            let head = tokio::time::timeout(within, head(&port)).await;
            let head = head.unwrap_or_else(|_| {
                Err(PortError::Unavailable {
                    cause: format!("no answer within {within:?}"),
                })
            })?;
            let (after, behind) = match head {
                Head::At(cursor) => (Some(cursor), cursor.position),
                Head::Empty => (place.or(Some(BEGINNING)), None),
                Head::NoJournal => (place, None),
            };
            Ok(Opened {
                response: port.stream(&query, after, within).await?,
                behind,
                has_journal: !matches!(head, Head::NoJournal),
                is_empty: matches!(head, Head::Empty),
            })
        })
    }

    fn on_opened(&mut self, opened: Result<Opened, PortError>) -> Result<(), SubscriptionError> {
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => return self.on_lost(error),
        };
        let is_again = self.patience.was_connected();
        self.patience.connected();
        if !std::mem::replace(&mut self.is_up_told, true) {
            self.told.push_back(Update::Connected { extended: true });
        }
        let resume = self.place.resume();
        if !opened.has_journal && resume.is_none() && (is_again || !self.options.snapshots.is_empty()) {
            self.told.push_back(Update::Gap {
                from: None,
                to: None,
                reason: GapReason::NoJournal,
            });
        }
        self.expects_unknown = resume.is_none_or(|place| place == BEGINNING);
        if opened.is_empty && resume.is_none() {
            // What comes during an outage is all that there is.
            self.place = Place::new(Some(BEGINNING));
        }
        let live = Box::new(Live {
            response: opened.response,
            parser: Parser::default(),
            behind: opened.behind,
            has_journal: opened.has_journal,
            heard: Instant::now(),
        });
        let is_there = |place: Cursor| place.position.is_some() && place.position == opened.behind;
        match resume.filter(|place| opened.behind.is_some() && !is_there(*place)) {
            Some(place) => self.state = State::Past(self.page(place), live),
            None => self.on_past_told(live),
        }
        Ok(())
    }

    /// A page of what is behind a cursor.
    fn page(&self, after: Cursor) -> Asked<Page> {
        let port = self.port.clone();
        let mut query = self.query.clone();
        query.push(("after".to_owned(), after.to_string()));
        query.push(("limit".to_owned(), PAGE.to_string()));
        Box::pin(async move { port.events(&query).await })
    }

    fn on_page(&mut self, page: Result<Page, PortError>) -> Result<(), SubscriptionError> {
        let page = match page {
            Ok(page) => page,
            Err(error) => return self.on_lost(error),
        };
        let State::Past(_, live) = std::mem::replace(&mut self.state, State::Ended) else {
            return Ok(());
        };
        if let Some(gap) = &page.gap {
            self.on_gap(gap);
        }
        let is_of_stream = |position: Option<Position>| match (position, live.behind) {
            (Some(position), Some(behind)) => position.epoch == behind.epoch && position.seq > behind.seq,
            _ => false,
        };
        let mut is_all = page.next.is_none_or(|next| is_of_stream(next.position));
        for record in page.events {
            if is_of_stream(record.cursor.and_then(|cursor| cursor.position)) {
                is_all = true;
                break;
            }
            self.on_event(record);
        }
        match page.next.filter(|_| !is_all) {
            Some(next) => self.state = State::Past(self.page(next), live),
            None => self.on_past_told(live),
        }
        Ok(())
    }

    /// All before the stream was told.
    fn on_past_told(&mut self, live: Box<Live>) {
        if let Some(head) = live.behind {
            self.place.on_head(head, Some(head));
            self.told.push_back(Update::Head {
                head,
                oldest: None,
                skipped: 0,
                position: Some(head),
            });
        }
        self.ask_or_live(live);
    }

    /// Asks for the state of the next object, since the stream is open: what happens meanwhile comes by it.
    fn ask_or_live(&mut self, mut live: Box<Live>) {
        live.heard = Instant::now();
        let is_known = live.has_journal;
        self.state = match self.open_snapshots.front().filter(|_| is_known) {
            Some(scope) => State::Snapshot(Box::pin(state(self.port.clone(), scope.clone())), live),
            None => State::Live(live),
        };
    }

    fn on_state(&mut self, state: Result<Option<Record>, PortError>) -> Result<(), SubscriptionError> {
        let state = match state {
            Ok(state) => state,
            Err(error) => return self.on_lost(error),
        };
        let State::Snapshot(_, live) = std::mem::replace(&mut self.state, State::Ended) else {
            return Ok(());
        };
        if let Some(scope) = self.open_snapshots.pop_front() {
            let count = u64::from(state.is_some());
            self.told.extend(state.map(|record| Update::Event {
                record,
                position: None,
                in_snapshot: true,
            }));
            self.told.push_back(Update::SnapshotEnd {
                subscription: SubscriptionOption::Snapshot(scope).to_string(),
                count,
            });
        }
        self.ask_or_live(live);
        Ok(())
    }

    fn on_message(&mut self, message: Message) {
        if message.event == "gap" {
            match serde_json::from_str(&message.data) {
                Ok(gap) => self.on_gap(&gap),
                Err(error) => self.told.push_back(Update::Unreadable {
                    cause: error.to_string(),
                }),
            }
            return;
        }
        let record = match message.is_cut {
            true => Err("it is larger than this program takes".to_owned()),
            false => Record::from_json_line(&message.data).map_err(|error| error.to_string()),
        };
        match record {
            Ok(record) => self.on_event(record),
            Err(cause) => {
                // It would be no better if it came again.
                if let Some(cursor) = message.id.and_then(|id| id.parse::<Cursor>().ok()) {
                    self.place.on_event(cursor.uuid, cursor.position);
                }
                self.told.push_back(Update::Unreadable { cause });
            }
        }
    }

    fn on_event(&mut self, mut record: Record) {
        self.expects_unknown = false;
        if self.recent.is_repeat(&record.uuid) {
            return;
        }
        self.recent.insert(record.uuid);
        let position = record.cursor.and_then(|cursor| cursor.position);
        self.place.on_event(record.uuid, position);
        record.cursor = Some(Cursor {
            position,
            uuid: record.uuid,
        });
        self.told.push_back(Update::Event {
            record,
            position,
            in_snapshot: false,
        });
    }

    fn on_gap(&mut self, gap: &Value) {
        let position = |name: &str| gap.get(name)?.as_str()?.parse().ok();
        let reason = gap.get("reason").and_then(Value::as_str).unwrap_or("unknown");
        let (from, to, reason) = (position("from"), position("to"), GapReason::from_text(reason));
        if self.expects_unknown && reason == GapReason::UnknownCursor {
            return;
        }
        if self.place.on_gap(to, &reason) {
            self.told.push_back(Update::Gap { from, to, reason });
        }
    }

    /// The connection is lost, or could not be made.
    fn on_lost(&mut self, error: PortError) -> Result<(), SubscriptionError> {
        let worked = !matches!(self.state, State::Connecting(_));
        self.state = State::Ended;
        let endpoint = || self.port.base().to_string();
        let cause = match error {
            PortError::Unavailable { cause } => Cause::Http(cause),
            PortError::Refused { reason } => {
                return Err(SubscriptionError::Refused {
                    endpoint: endpoint(),
                    reason,
                });
            }
            error => {
                return Err(SubscriptionError::Protocol {
                    endpoint: endpoint(),
                    cause: error.to_string(),
                });
            }
        };
        let (wait, news) = self.patience.lost(worked, self.port.base(), cause)?;
        self.is_up_told &= news.is_none();
        self.told.extend(news);
        self.recent.reconnected();
        self.state = State::Connecting(self.connecting(wait));
        Ok(())
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Connecting(_) => "connecting",
            State::Past(..) => "reading the past",
            State::Snapshot(..) => "asking for states",
            State::Live(_) => "connected",
            State::Ended => "ended",
        };
        f.debug_struct("EventStream")
            .field("port", &self.port)
            .field("state", &state)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// How far a publisher is.
#[derive(Clone, Copy, Debug)]
enum Head {
    /// This is its newest event.
    At(Cursor),
    /// There is no event, or it does not say.
    Empty,
    NoJournal,
}

async fn head(port: &SecondPort) -> Result<Head, PortError> {
    let newest = [("reverse", "true"), ("limit", "1")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let page = match port.events(&newest).await {
        Ok(page) => page,
        Err(PortError::NotFound { .. }) => return Ok(Head::NoJournal),
        Err(error) => return Err(error),
    };
    let cursor = page.next.or_else(|| page.events.first()?.cursor);
    if let Some(cursor) = cursor.filter(|cursor| cursor.position.is_some()) {
        return Ok(Head::At(cursor));
    }
    // Nothing is kept yet, or nothing that we may see.
    let status = match port.get_json(&["status"], &[]).await {
        Ok(status) => status,
        Err(PortError::NotFound { .. }) => return Ok(Head::Empty),
        Err(error) => return Err(error),
    };
    let epoch = status.get("epoch").and_then(Value::as_str);
    let position = epoch.zip(status.get("head").and_then(Value::as_u64));
    let position = position.and_then(|(epoch, head)| format!("{epoch}/{head}").parse::<Position>().ok());
    Ok(position.map_or(Head::Empty, |position| Head::At(Cursor::of_position(position))))
}

fn lost(cause: &str) -> PortError {
    PortError::Unavailable {
        cause: cause.to_owned(),
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The state of an object, as an event of now; `None` if the publisher does not know it, or does not show it.
async fn state(port: SecondPort, scope: SnapshotScope) -> Result<Option<Record>, PortError> {
    let SnapshotScope::One { kind, id } = &scope else {
        return Ok(None);
    };
    let path = match kind {
        Kind::Testjob => "jobs",
        Kind::Device => "devices",
        _ => "workers",
    };
    let mut answer = port.get_json(&[path, id], &[]).await;
    if matches!(answer, Err(PortError::NotFound { .. })) {
        // Its first event may be on its way.
        tokio::time::sleep(ONCE_MORE).await;
        answer = port.get_json(&[path, id], &[]).await;
    }
    let object = match answer {
        Ok(object) => object,
        Err(PortError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let data = |names: &[(&str, &str)]| {
        let members = names.iter().filter_map(|(theirs, ours)| {
            let value = object.get(theirs).filter(|value| !value.is_null())?;
            Some(((*ours).to_owned(), value.clone()))
        });
        Value::Object(members.collect()).to_string()
    };
    let data = match kind {
        Kind::Testjob => data(&[
            ("job", "job"),
            ("sub_id", "sub_id"),
            ("state", "state"),
            ("health", "health"),
            ("submitter", "submitter"),
            ("description", "description"),
            ("device", "device"),
            ("device_type", "device_type"),
            ("worker", "worker"),
            ("submitted", "submit_time"),
            ("started", "start_time"),
            ("ended", "end_time"),
        ]),
        Kind::Device => data(&[
            ("device", "device"),
            ("device_type", "device_type"),
            ("worker", "worker"),
            ("job", "job"),
            ("state", "state"),
            ("health", "health"),
        ]),
        _ => data(&[("worker", "hostname"), ("state", "state"), ("health", "health")]),
    };
    let event = new_event(&format!("lava.{kind}"), "lavaserver", &data);
    event.map(Some).map_err(|refusal| PortError::NoPublisher {
        status: 200,
        excerpt: refusal.to_string(),
    })
}
