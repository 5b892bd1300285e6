//! One bus, reconnecting and resuming.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use lavabus_protocol::{ControlMessage, Cursor, Position, Record, SnapshotScope, SubscriptionOption};
use lavabus_zmtp::{
    ConnectError, ConnectOptions, ConnectionError, Endpoint, HandshakeError, HeartbeatConfig, SubConnection,
};
use tokio::time::Instant;

use crate::live::{Live, Message};
use crate::patience::Patience;
use crate::reception::Reception;
use crate::update::{Cause, Update, plain_publisher};

/// A server that has not answered `@seq` within this time is a plain publisher.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// A subscriber may be slow, and that is no reason to leave it; a publisher that answers no PING for so long hangs.
const HANGS: Duration = Duration::from_secs(30);

/// What to subscribe to, and how patiently.
#[derive(Clone, Debug)]
pub struct Options {
    /// Prefixes of the topics that are wanted; one empty prefix, the default, is all.
    pub prefixes: Vec<String>,
    /// Go on after this event. `None`, the default: with what happens from now on.
    pub after: Option<Cursor>,
    /// Begin with the latest event of these objects.
    pub snapshots: Vec<SnapshotScope>,
    /// The first connection must be made within this time. 30 s by default.
    pub connect_timeout: Duration,
    /// Later there must not be no connection for longer than this. 15 min by default.
    pub max_outage: Duration,
    /// Limits and heartbeats. A publisher whose machine is there, but which has answered nothing for 30 s, hangs: it is
    /// connected to anew.
    pub connect: ConnectOptions,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            prefixes: vec![String::new()],
            after: None,
            snapshots: Vec::new(),
            connect_timeout: Duration::from_secs(30),
            max_outage: Duration::from_secs(15 * 60),
            connect: ConnectOptions {
                heartbeat: HeartbeatConfig {
                    stalled_timeout: HANGS,
                    ..HeartbeatConfig::default()
                },
                ..ConnectOptions::default()
            },
        }
    }
}

/// Why a subscription ended. It does not come back to life.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionError {
    /// There never was a connection.
    #[error("no connection to {endpoint} within {within:?}: {cause}")]
    NoConnection {
        /// The publisher asked for.
        endpoint: String,
        /// [`Options::connect_timeout`].
        within: Duration,
        /// Why the last attempt failed.
        cause: Box<Cause>,
    },
    /// The connection was lost, and could not be made again in time.
    #[error("no connection to {endpoint} for longer than {outage:?}: {cause}")]
    OutageTooLong {
        /// The publisher asked for.
        endpoint: String,
        /// [`Options::max_outage`].
        outage: Duration,
        /// Why the last attempt failed.
        cause: Box<Cause>,
    },
    /// The server does not want this client, and says so.
    #[error("{endpoint} refused the connection: {reason}")]
    Refused {
        /// The publisher asked for.
        endpoint: String,
        /// What it said.
        reason: String,
    },
    /// Over TLS: who listens there has no certificate that is trusted here.
    #[error("the certificate of {endpoint} is not trusted here: {cause}")]
    Certificate {
        /// The publisher asked for.
        endpoint: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Who listens there is no publisher, or none of this kind.
    #[error("{endpoint} is no publisher: {cause}")]
    Protocol {
        /// The publisher asked for.
        endpoint: String,
        /// What it is instead.
        cause: String,
    },
    /// The subscription ended before with another error.
    #[error("the subscription has ended")]
    Ended,
}

type Connecting = Pin<Box<dyn Future<Output = Result<SubConnection, Cause>> + Send>>;

enum State {
    /// Waiting, connecting, sending subscriptions.
    Connecting(Connecting),
    /// Connected; whether the publisher knows our options is not known until the instant.
    Asking(Box<Live>, Instant),
    /// Connected.
    Known(Box<Live>),
    Ended,
}

/// The stream of one publisher. It lives while [`next`](Subscription::next) is awaited.
pub struct Subscription {
    endpoint: Endpoint,
    options: Options,
    state: State,
    reception: Reception,
    patience: Patience,
    /// Subscriptions of snapshots that have not come to their end.
    open_snapshots: Vec<String>,
    in_snapshot: bool,
}

impl Subscription {
    /// A subscription to the publisher at this endpoint. Nothing happens before `next` is awaited.
    pub fn new(endpoint: Endpoint, options: Options) -> Subscription {
        let mut subscription = Subscription {
            state: State::Ended,
            reception: Reception::new(options.after),
            patience: Patience::new(options.connect_timeout, options.max_outage),
            open_snapshots: options.snapshots.iter().map(snapshot_text).collect(),
            in_snapshot: false,
            endpoint,
            options,
        };
        subscription.state = State::Connecting(subscription.connecting(Duration::ZERO));
        subscription
    }

    /// The publisher's endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The next thing to tell. Cancel-safe: nothing is lost when the future is dropped.
    ///
    /// # Errors
    ///
    /// [`SubscriptionError`] ends the subscription: there was no connection for too long, or there is no use in
    /// trying again.
    pub async fn next(&mut self) -> Result<Update, SubscriptionError> {
        loop {
            if let Some(update) = self.reception.next() {
                return Ok(update);
            }
            match &mut self.state {
                State::Ended => return Err(SubscriptionError::Ended),
                State::Connecting(connecting) => {
                    let connected = connecting.as_mut().await;
                    self.on_connected(connected)?;
                }
                State::Asking(live, until) => {
                    let until = *until;
                    tokio::select! {
                        biased;
                        message = live.next() => self.on_message(message)?,
                        () = tokio::time::sleep_until(until) => self.decide(false),
                    }
                }
                State::Known(live) => {
                    let message = live.next().await;
                    self.on_message(message)?;
                }
            }
        }
    }

    /// Waits, connects and subscribes; in one future, which lives on when `next` is cancelled.
    fn connecting(&mut self, wait: Duration) -> Connecting {
        let resume = self.reception.resume();
        let mut subscriptions: Vec<String> = self.options.prefixes.clone();
        subscriptions.push(SubscriptionOption::Seq.to_string());
        subscriptions.extend(self.open_snapshots.iter().cloned());
        subscriptions.extend(resume.map(|cursor| SubscriptionOption::After(cursor).to_string()));
        // It ends the publisher's waiting for more, so it is the last.
        subscriptions.push(SubscriptionOption::Start.to_string());

        let endpoint = self.endpoint.clone();
        let options = self.options.connect.clone();
        let attempt = self.patience.attempt(wait);
        Box::pin(async move {
            let within = attempt.begin().await;
            let mut connection = SubConnection::connect(&endpoint, &options, within).await?;
            for subscription in subscriptions {
                connection.subscribe(subscription.as_bytes()).await?;
            }
            Ok(connection)
        })
    }

    fn on_connected(&mut self, connected: Result<SubConnection, Cause>) -> Result<(), SubscriptionError> {
        match connected {
            Ok(connection) => {
                self.in_snapshot = false;
                self.reception.reconnected();
                self.state = State::Asking(Box::new(Live::new(connection)), Instant::now() + ANSWER_WITHIN);
                Ok(())
            }
            Err(cause) => self.on_lost(cause),
        }
    }

    /// The connection is lost, or could not be made.
    fn on_lost(&mut self, cause: Cause) -> Result<(), SubscriptionError> {
        let worked = matches!(self.state, State::Known(_));
        self.state = State::Ended;
        let endpoint = || self.endpoint.to_string();
        let cause = match cause {
            Cause::Connect(ConnectError::Handshake { source, .. }) if is_final(&source) => {
                return Err(match source {
                    HandshakeError::Refused(reason) => SubscriptionError::Refused {
                        endpoint: endpoint(),
                        reason,
                    },
                    cause => SubscriptionError::Protocol {
                        endpoint: endpoint(),
                        cause: cause.to_string(),
                    },
                });
            }
            Cause::Lost(ConnectionError::Refused(reason)) => {
                return Err(SubscriptionError::Refused {
                    endpoint: endpoint(),
                    reason,
                });
            }
            cause => cause,
        };
        let (wait, news) = self.patience.lost(worked, &self.endpoint, cause)?;
        news.into_iter().for_each(|news| self.reception.tell(news));
        self.state = State::Connecting(self.connecting(wait));
        Ok(())
    }

    /// It is known now what kind of publisher this is.
    fn decide(&mut self, extended: bool) {
        let State::Asking(..) = self.state else { return };
        if let State::Asking(live, _) = std::mem::replace(&mut self.state, State::Ended) {
            self.state = State::Known(live);
        }
        let is_again = self.patience.was_connected();
        self.patience.connected();
        self.reception.tell(Update::Connected { extended });
        if is_again && !extended {
            self.reception.tell(Update::Gap {
                from: None,
                to: None,
                reason: plain_publisher(),
            });
        }
    }

    fn on_message(&mut self, message: Result<Message, ConnectionError>) -> Result<(), SubscriptionError> {
        match message {
            Ok(Message::Event {
                record,
                position,
                numbered,
            }) => {
                self.decide(numbered);
                self.on_event(record, position);
                Ok(())
            }
            Ok(Message::Control(control)) => {
                self.decide(true);
                self.on_control(control);
                Ok(())
            }
            Ok(Message::Unreadable(cause)) => {
                self.reception.tell(Update::Unreadable { cause });
                Ok(())
            }
            Err(error) => self.on_lost(error.into()),
        }
    }

    fn on_event(&mut self, record: Record, position: Option<Position>) {
        match self.in_snapshot {
            false => self.reception.on_event(record, position),
            // A snapshot stands beside the stream: it moves nothing, and repeats what it likes.
            true => self.reception.tell(Update::Event {
                record,
                position,
                in_snapshot: true,
            }),
        }
    }

    fn on_control(&mut self, control: ControlMessage) {
        match control {
            ControlMessage::Head {
                head,
                oldest,
                skipped,
                position,
            } => self.reception.on_head(head, oldest, skipped, position),
            ControlMessage::Gap { from, to, reason } => self.reception.on_gap(from, to, reason),
            ControlMessage::SnapshotBegin { subscription, position } => {
                self.in_snapshot = true;
                self.reception.tell(Update::SnapshotBegin { subscription, position });
            }
            ControlMessage::SnapshotEnd { subscription, count } => {
                self.in_snapshot = false;
                self.open_snapshots.retain(|open| *open != subscription);
                self.reception.tell(Update::SnapshotEnd { subscription, count });
            }
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Connecting(_) => "connecting",
            State::Asking(..) => "asking",
            State::Known(_) => "connected",
            State::Ended => "ended",
        };
        f.debug_struct("Subscription")
            .field("endpoint", &self.endpoint)
            .field("state", &state)
            .field("resume", &self.reception.resume())
            .finish_non_exhaustive()
    }
}

fn snapshot_text(scope: &SnapshotScope) -> String {
    SubscriptionOption::Snapshot(scope.clone()).to_string()
}

/// Trying again would only bring the same answer.
fn is_final(error: &HandshakeError) -> bool {
    match error {
        HandshakeError::Timeout(_) | HandshakeError::Closed | HandshakeError::Io(_) => false,
        HandshakeError::Greeting(_)
        | HandshakeError::Frame(_)
        | HandshakeError::Command(_)
        | HandshakeError::NoReady(_)
        | HandshakeError::TooLong { .. }
        | HandshakeError::Incompatible { .. }
        | HandshakeError::Refused(_) => true,
    }
}
