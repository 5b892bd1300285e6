//! Who tells of events: the bus, and LAVA's WebSocket where the bus cannot be reached. Each is a task of its own.

use std::time::Duration;

use lavabus_client::{SubscriptionError, Update};
use lavabus_lava::{Received, Server};
use lavabus_protocol::{Cursor, GapReason, Record, SnapshotScope};
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep};

use super::contact::Channel;
use crate::failure::Failure;
use crate::listen::{connection_failure, gap_text};
use crate::outlet::{self, Outlet};

/// The wait ends an outage itself.
const FOR_EVER: Duration = Duration::MAX;
/// A stream that cannot be resumed is begun anew, with a snapshot, this often at most.
const ANEW: Duration = Duration::from_secs(1);
/// The WebSocket is tried again after this time, and then after longer.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// What a channel tells.
#[derive(Debug)]
pub(crate) enum Heard {
    /// From now on events are heard. `is_known`: what was asked for by snapshot is told, what was missed is resumed.
    Up {
        channel: Channel,
        is_known: bool,
    },
    Down {
        channel: Channel,
        cause: String,
    },
    Event {
        channel: Channel,
        record: Record,
        in_snapshot: bool,
    },
    /// The state of an object, as the publisher told when it was asked.
    Answer(Record),
    /// The publisher has told all that it has, up to now.
    CaughtUp,
    /// The snapshot that this subscription asked for is complete.
    Snapshot {
        subscription: String,
        count: u64,
    },
    /// Something is missing and cannot be had.
    Gap(String),
    /// The publisher keeps nothing, so that snapshots cannot be had.
    NoSnapshot,
    /// There is no use in trying this channel again; what there is to say if no other works.
    Gone {
        channel: Channel,
        cause: String,
        failure: Failure,
    },
    /// The publisher refuses us: the wait ends.
    Refused(Failure),
}

/// What is wanted of a bus.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) snapshots: Vec<SnapshotScope>,
    pub(crate) after: Option<Cursor>,
    /// The cursor only stands for a time: that nobody knows it is no gap.
    pub(crate) is_time: bool,
    /// Every event counts, not only the states of now: after a gap the stream goes on.
    pub(crate) is_stream: bool,
}

/// Ends when nobody listens any more, or when there is no use in going on.
pub(crate) async fn hear_bus(bus: Outlet, wanted: Wanted, heard: Sender<Heard>) {
    let begin = |wanted: &Wanted| {
        bus.open(outlet::Wanted {
            snapshots: wanted.snapshots.clone(),
            after: wanted.after,
            connect_timeout: FOR_EVER,
            max_outage: FOR_EVER,
            ..outlet::Wanted::default()
        })
    };
    let mut stream = begin(&wanted);
    let mut begun = Instant::now();
    let mut expects_unknown = wanted.is_time;
    loop {
        let told = match stream.next().await {
            Ok(Update::Gap {
                reason: GapReason::UnknownCursor,
                ..
            }) if expects_unknown => None,
            Ok(update) => {
                expects_unknown &= !matches!(update, Update::Event { .. });
                let is_lost = matches!(&update, Update::Gap { reason, .. } if is_lost(reason));
                let told = tell(update, bus.second_port().is_some());
                if is_lost && !wanted.is_stream && !wanted.snapshots.is_empty() {
                    // What is there now is what counts: it is asked for again.
                    sleep(ANEW.saturating_sub(begun.elapsed())).await;
                    stream = begin(&Wanted {
                        after: None,
                        ..wanted.clone()
                    });
                    begun = Instant::now();
                }
                told
            }
            Err(error) => {
                let failure = connection_failure(bus.bus(), &error);
                let end = match &error {
                    SubscriptionError::Refused { .. } => Heard::Refused(failure),
                    _ => Heard::Gone {
                        channel: Channel::Bus,
                        cause: error.to_string(),
                        failure,
                    },
                };
                let _ = heard.send(end).await;
                return;
            }
        };
        if let Some(told) = told
            && heard.send(told).await.is_err()
        {
            return;
        }
    }
}

/// Whether the states that were missed are to be asked for.
fn is_lost(reason: &GapReason) -> bool {
    !matches!(reason, GapReason::NoJournal) && !is_plain(reason)
}

fn is_plain(reason: &GapReason) -> bool {
    matches!(reason, GapReason::Other(text) if text == "plain_publisher")
}

/// `is_answer`: a snapshot tells the states of now, and no events.
fn tell(update: Update, is_answer: bool) -> Option<Heard> {
    Some(match update {
        Update::Event {
            record, in_snapshot, ..
        } => match is_answer && in_snapshot {
            true => Heard::Answer(record),
            false => Heard::Event {
                channel: Channel::Bus,
                record,
                in_snapshot,
            },
        },
        Update::Head {
            head,
            position: Some(position),
            ..
        } if position.seq >= head.seq => Heard::CaughtUp,
        Update::SnapshotEnd { subscription, count } => Heard::Snapshot { subscription, count },
        Update::Connected { extended } => Heard::Up {
            channel: Channel::Bus,
            is_known: extended,
        },
        Update::Disconnected { cause } => Heard::Down {
            channel: Channel::Bus,
            cause: cause.to_string(),
        },
        Update::Gap {
            reason: GapReason::NoJournal,
            ..
        } => Heard::NoSnapshot,
        Update::Gap { from, to, reason } => Heard::Gap(gap_text(from, to, &reason)),
        Update::Head { .. } | Update::SnapshotBegin { .. } | Update::Unreadable { .. } => return None,
    })
}

/// Ends when nobody listens any more, or when the credentials are refused.
pub(crate) async fn hear_web_socket(server: Server, heard: Sender<Heard>) {
    let mut retry = FIRST_RETRY;
    loop {
        let error = match server.web_socket().await {
            Ok(mut socket) => {
                let opened = Instant::now();
                let up = Heard::Up {
                    channel: Channel::WebSocket,
                    is_known: false,
                };
                if heard.send(up).await.is_err() {
                    return;
                }
                loop {
                    match socket.next().await {
                        Ok(Received::Event(record)) => {
                            retry = FIRST_RETRY;
                            let event = Heard::Event {
                                channel: Channel::WebSocket,
                                record,
                                in_snapshot: false,
                            };
                            if heard.send(event).await.is_err() {
                                return;
                            }
                        }
                        Ok(Received::NoEvent { .. }) => {}
                        Err(error) => break error,
                    }
                    if opened.elapsed() >= LAST_RETRY {
                        retry = FIRST_RETRY;
                    }
                }
            }
            Err(error) => error,
        };
        let told = match &error {
            error if error.is_temporary() => Heard::Down {
                channel: Channel::WebSocket,
                cause: error.to_string(),
            },
            error => Heard::Gone {
                channel: Channel::WebSocket,
                cause: error.to_string(),
                failure: super::inquiry::failure(&server, error),
            },
        };
        let is_end = !matches!(told, Heard::Down { .. });
        if heard.send(told).await.is_err() || is_end {
            return;
        }
        sleep(retry).await;
        retry = (retry * 2).min(LAST_RETRY);
    }
}
