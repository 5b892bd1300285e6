//! The stream of one publisher's second port, reconnecting and resuming.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use lavabus_protocol::filter::Filter;
use lavabus_protocol::{Cursor, GapReason, Kind, Position, Record, SnapshotScope, SubscriptionOption};
use reqwest::Response;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::event::new_event;
use crate::patience::Patience;
use crate::reception::Reception;
use crate::second_port::{PortError, SecondPort, filter_query};
use crate::sse::{Message, Parser};
use crate::subscription::SubscriptionError;
use crate::update::{Cause, Update};

/// A publisher says every second how far it is; one that is silent for so long hangs.
const SILENCE: Duration = Duration::from_secs(30);

/// What of the stream is wanted, and how patiently.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// Handed to the publisher, as far as it takes it: it may send more. Everything, by default.
    pub filter: Filter,
    /// Go on after this event. `None`, the default: with what happens from now on.
    pub after: Option<Cursor>,
    /// The states of these objects, each as an event of now that was never sent, without a cursor. They are asked for when
    /// all that was there at the beginning was told. [`SnapshotScope::All`] cannot be had.
    pub snapshots: Vec<SnapshotScope>,
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
            connect_timeout: Duration::from_secs(30),
            max_outage: Duration::from_secs(15 * 60),
        }
    }
}

type Asked<T> = Pin<Box<dyn Future<Output = Result<T, PortError>> + Send>>;

enum State {
    /// Waiting, opening the stream.
    Connecting(Asked<Response>),
    Live(Box<Live>),
    /// The stream waits while it is asked for the state of an object.
    Snapshot(Asked<ObjectState>, Box<Live>),
    Ended,
}

struct Live {
    response: Response,
    parser: Parser,
    heard: Instant,
    /// The first head that it told: up to there it is the past.
    began: Option<Position>,
    /// The past was told.
    is_caught_up: bool,
}

/// `event: head`
#[derive(Deserialize)]
struct Head {
    head: String,
    position: String,
}

/// What a publisher says of an object.
enum ObjectState {
    /// As an event of now.
    Known(Record),
    /// It does not know it, or does not show it.
    Unknown,
    /// It keeps nothing.
    NoJournal,
}

/// The stream of one publisher over HTTP: server-sent events, resumed by cursor. It lives while
/// [`next`](EventStream::next) is awaited. It tells the same as a [`Subscription`](crate::Subscription).
pub struct EventStream {
    port: SecondPort,
    query: Vec<(String, String)>,
    state: State,
    reception: Reception,
    /// Objects whose states were not told yet.
    open_snapshots: VecDeque<SnapshotScope>,
    patience: Patience,
}

impl EventStream {
    /// The stream of this port. Nothing happens before `next` is awaited.
    pub fn new(port: SecondPort, options: StreamOptions) -> EventStream {
        let mut query = filter_query(&options.filter);
        query.push(("heads".to_owned(), "true".to_owned()));
        let mut stream = EventStream {
            query,
            state: State::Ended,
            reception: Reception::new(options.after),
            open_snapshots: options.snapshots.into(),
            patience: Patience::new(options.connect_timeout, options.max_outage),
            port,
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
            if let Some(update) = self.reception.next() {
                return Ok(update);
            }
            match &mut self.state {
                State::Ended => return Err(SubscriptionError::Ended),
                State::Connecting(opening) => match opening.as_mut().await {
                    Ok(response) => self.on_opened(response),
                    Err(error) => self.on_lost(error)?,
                },
                State::Live(live) => {
                    let silence = live.heard + SILENCE;
                    match tokio::time::timeout_at(silence, live.response.chunk()).await {
                        Ok(Ok(Some(chunk))) => {
                            let mut messages = VecDeque::new();
                            live.heard = Instant::now();
                            live.parser.push(&chunk, &mut messages);
                            messages.into_iter().for_each(|message| self.on_message(message));
                            self.ask_of_next();
                        }
                        Ok(Ok(None)) => self.on_lost(lost("the stream has ended"))?,
                        Ok(Err(error)) => {
                            let error = self.port.failed(&error);
                            self.on_lost(error)?;
                        }
                        Err(_) => self.on_lost(lost("nothing was heard for 30 s"))?,
                    }
                }
                State::Snapshot(asking, _) => match asking.as_mut().await {
                    Ok(state) => self.on_state(state),
                    Err(error) => self.on_lost(error)?,
                },
            }
        }
    }

    /// Waits and opens the stream; in one future, which lives on when `next` is cancelled.
    fn connecting(&mut self, wait: Duration) -> Asked<Response> {
        let (port, query, after) = (self.port.clone(), self.query.clone(), self.reception.resume());
        let attempt = self.patience.attempt(wait);
        Box::pin(async move {
            let within = attempt.begin().await;
            port.stream(&query, after, within).await
        })
    }

    fn on_opened(&mut self, response: Response) {
        self.patience.connected();
        self.reception.tell(Update::Connected { extended: true });
        self.state = State::Live(Box::new(Live {
            response,
            parser: Parser::default(),
            heard: Instant::now(),
            began: None,
            is_caught_up: false,
        }));
    }

    /// Asks for the state of the next object, when the past was told: what happens meanwhile comes by the stream.
    fn ask_of_next(&mut self) {
        let is_due = matches!(&self.state, State::Live(live) if live.is_caught_up);
        let Some(scope) = self.open_snapshots.front().filter(|_| is_due) else {
            return;
        };
        let asking = Box::pin(state(self.port.clone(), scope.clone()));
        if let State::Live(live) = std::mem::replace(&mut self.state, State::Ended) {
            self.state = State::Snapshot(asking, live);
        }
    }

    fn on_state(&mut self, state: ObjectState) {
        if let State::Snapshot(_, mut live) = std::mem::replace(&mut self.state, State::Ended) {
            live.heard = Instant::now();
            self.state = State::Live(live);
        }
        let record = match state {
            ObjectState::Known(record) => Some(record),
            ObjectState::Unknown => None,
            ObjectState::NoJournal => {
                self.open_snapshots.clear();
                return self.reception.tell(Update::Gap {
                    from: None,
                    to: None,
                    reason: GapReason::NoJournal,
                });
            }
        };
        if let Some(scope) = self.open_snapshots.pop_front() {
            let count = u64::from(record.is_some());
            if let Some(record) = record {
                self.reception.tell(Update::Event {
                    record,
                    position: None,
                    in_snapshot: true,
                });
            }
            self.reception.tell(Update::SnapshotEnd {
                subscription: SubscriptionOption::Snapshot(scope).to_string(),
                count,
            });
        }
        self.ask_of_next();
    }

    fn on_message(&mut self, message: Message) {
        let read = match (&*message.event, message.is_cut) {
            (_, true) => Err("it is larger than this program takes".to_owned()),
            ("head", _) => self.on_head(&message.data),
            ("gap", _) => self.on_gap(&message.data),
            _ => match Record::from_json_line(&message.data) {
                Ok(record) => {
                    self.on_event(record);
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            },
        };
        if let Err(cause) = read {
            if let Some(cursor) = message.id.and_then(|id| id.parse().ok()) {
                self.reception.pass_over(cursor);
            }
            self.reception.tell(Update::Unreadable { cause });
        }
    }

    fn on_event(&mut self, mut record: Record) {
        let position = record.cursor.and_then(|cursor| cursor.position);
        record.cursor = Some(Cursor {
            position,
            uuid: record.uuid,
        });
        self.reception.on_event(record, position);
    }

    fn on_head(&mut self, data: &str) -> Result<(), String> {
        let told: Head = serde_json::from_str(data).map_err(|error| error.to_string())?;
        let read = |text: &str| text.parse::<Position>().map_err(|error| error.to_string());
        let (head, position) = (read(&told.head)?, read(&told.position)?);
        if let State::Live(live) = &mut self.state {
            let began = *live.began.get_or_insert(head);
            live.is_caught_up |= position.epoch != began.epoch || position.seq >= began.seq;
        }
        self.reception.on_head(head, None, 0, Some(position));
        Ok(())
    }

    fn on_gap(&mut self, data: &str) -> Result<(), String> {
        let gap: Value = serde_json::from_str(data).map_err(|error| error.to_string())?;
        let position = |name: &str| gap.get(name)?.as_str()?.parse().ok();
        let reason = gap.get("reason").and_then(Value::as_str).unwrap_or("unknown");
        let reason = GapReason::from_text(reason);
        self.reception.on_gap(position("from"), position("to"), reason);
        Ok(())
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
            PortError::Certificate { cause } => {
                return Err(SubscriptionError::Certificate {
                    endpoint: endpoint(),
                    cause,
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
        news.into_iter().for_each(|news| self.reception.tell(news));
        self.reception.reconnected();
        self.state = State::Connecting(self.connecting(wait));
        Ok(())
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Connecting(_) => "connecting",
            State::Live(_) => "connected",
            State::Snapshot(..) => "asking for a state",
            State::Ended => "ended",
        };
        f.debug_struct("EventStream")
            .field("port", &self.port)
            .field("state", &state)
            .field("resume", &self.reception.resume())
            .finish_non_exhaustive()
    }
}

fn lost(cause: &str) -> PortError {
    PortError::Unavailable {
        cause: cause.to_owned(),
    }
}

/// The state of an object.
async fn state(port: SecondPort, scope: SnapshotScope) -> Result<ObjectState, PortError> {
    let SnapshotScope::One { kind, id } = &scope else {
        return Ok(ObjectState::Unknown);
    };
    let path = match kind {
        Kind::Testjob => "jobs",
        Kind::Device => "devices",
        _ => "workers",
    };
    let object = match port.get_json(&[path, id], &[]).await {
        Ok(object) => object,
        // Without a journal nothing is known.
        Err(PortError::NotFound { .. }) => {
            let status = port.get_json(&["status"], &[]).await?;
            return Ok(match status.get("journal").and_then(Value::as_bool) {
                Some(false) => ObjectState::NoJournal,
                _ => ObjectState::Unknown,
            });
        }
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
    event.map(ObjectState::Known).map_err(|refusal| PortError::NoPublisher {
        status: 200,
        excerpt: refusal.to_string(),
    })
}
