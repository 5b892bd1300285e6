//! One subscriber's task: reads its subscriptions, settles its starting point, and writes what it wants, from the ring
//! or, when it is further behind, from the journal.

mod in_journal;
mod in_ring;
mod inbound;
mod outgoing;
pub(crate) mod position;
mod said;
mod settling;
mod snapshot;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use lavabus_protocol::{ControlMessage, Epoch, GapReason, Position as EventPosition};
use lavabus_protocol::{SnapshotScope, SubscriptionOption};
use lavabus_zmtp::{Action, Command, DecodeError, Decoder, Heartbeat, HeartbeatConfig, Item, Limits, Peer};
use lavabus_zmtp::{Stream, SubscriptionChange};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::outgoing::{Outgoing, Written};
use self::position::{Position, Standing};
use self::settling::Settling;
use self::snapshot::{SnapshotDelivery, SnapshotRequest};
use crate::counters::Counters;
use crate::fan_out::FanOut;
use crate::fan_out::matching::{Interests, Signal};
use crate::fan_out::ring::{Found, Reader};
use crate::history::History;
use crate::metrics::outlet::{Outlet, Place};
use crate::replay::{EncodedSnapshot, Page, PageRequest, ReplayError, Replays, Resume};

/// With `@seq`, the head is told this often.
const HEAD_INTERVAL: Duration = Duration::from_secs(1);
/// While the journal has not numbered the events where a subscriber stands, it looks again this often.
const NUMBERING_INTERVAL: Duration = Duration::from_millis(200);
/// So many bytes are taken from the ring at a time.
const RING_READ_BYTES: usize = 512 * 1024;
/// After so many turns without a pause other tasks get theirs.
const TURNS: usize = 4;
/// Longer prefixes cannot match a topic.
const MAX_PREFIX: usize = 1024;
/// Different snapshots that one connection may ask for.
const MAX_SNAPSHOTS: usize = 256;

/// What all subscribers of a publisher share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) fan_out: Arc<FanOut>,
    /// None without a journal.
    pub(crate) replays: Option<Arc<Replays>>,
    pub(crate) epoch: Epoch,
    pub(crate) outlet: Outlet,
    /// The oldest number in the journal.
    pub(crate) oldest: Arc<AtomicU64>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) history: History,
    pub(crate) limits: Limits,
    pub(crate) heartbeat: HeartbeatConfig,
    pub(crate) max_subscriptions: usize,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("the peer closed the connection")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("malformed bytes: {0}")]
    Malformed(#[from] DecodeError),
    #[error("a message over the size limit")]
    Oversize,
    #[error("no answer to a heartbeat")]
    Dead,
    #[error("read nothing for longer than the stalled timeout")]
    Stalled,
    #[error("more than {0} subscriptions on one connection")]
    TooManySubscriptions(usize),
    #[error("no room for more subscriptions")]
    SubscriptionsFull,
    #[error("the journal could not be read: {0}")]
    Journal(#[from] ReplayError),
    #[error("the publisher ends")]
    Drained,
}

enum Stage {
    /// Nothing is delivered yet.
    Settling(Settling),
    /// Reads the ring; `awake` while there may be something for it.
    Ring { awake: bool },
    /// Reads the journal, up to a number or until the ring has the rest.
    Replay { upto: Option<u64>, page: Option<Page> },
    /// Its last events went out while the journal could not write; looks again at this time.
    AwaitNumbering(Instant),
    /// Sends the newest events of some objects.
    Snapshot,
}

/// What the journal's readers answer.
enum Answer {
    Resume(Result<Resume, ReplayError>),
    Page(Result<Page, ReplayError>),
    Snapshot(SnapshotRequest, Result<Option<EncodedSnapshot>, ReplayError>),
}

/// What the task waits for next.
#[derive(Debug, Default)]
struct Wait {
    writable: bool,
    told: bool,
    until: Option<Instant>,
    again: bool,
    /// Everything was delivered.
    idle: bool,
}

pub(crate) struct Subscriber {
    shared: Arc<Shared>,
    stream: Stream,
    decoder: Decoder,
    inbound: BytesMut,
    /// There may be something to read.
    readable: bool,
    heartbeat: Heartbeat,
    interests: Interests,
    signal: Arc<Signal>,
    reader: Arc<Reader>,
    place: Arc<Place>,
    outgoing: Outgoing,
    position: Position,
    stage: Stage,
    answer: Option<Pin<Box<dyn Future<Output = Answer> + Send>>>,
    /// The snapshot that is under way.
    snapshot: Option<SnapshotDelivery>,
    snapshots: VecDeque<SnapshotRequest>,
    snapshots_seen: Vec<SnapshotRequest>,
    numbered: bool,
    head_due: Option<Instant>,
    /// It has asked for the past and not had all of it yet.
    is_catching_up: bool,
    skipped: u64,
    draining: bool,
}

impl Subscriber {
    /// A subscriber whose handshake is done. Its starting point is now.
    pub(crate) fn new(shared: Arc<Shared>, stream: Stream, peer: Peer) -> Subscriber {
        let now = Instant::now();
        let (batch, head) = shared.fan_out.now();
        let place = Place::new(shared.fan_out.clone());
        shared.counters.outlets.of(shared.outlet).join(&place);
        Subscriber {
            decoder: Decoder::new(shared.limits.clone()),
            inbound: peer.leftover,
            readable: true,
            heartbeat: Heartbeat::new(shared.heartbeat.clone(), peer.minor, now.into_std()),
            interests: Interests::default(),
            signal: Arc::default(),
            reader: shared.fan_out.ring().join(),
            place,
            outgoing: Outgoing::default(),
            position: Position::new(batch, 0, head),
            stage: Stage::Settling(Settling::new(now)),
            answer: None,
            snapshot: None,
            snapshots: VecDeque::new(),
            snapshots_seen: Vec::new(),
            numbered: false,
            head_due: None,
            is_catching_up: false,
            skipped: 0,
            draining: false,
            shared,
            stream,
        }
    }

    /// Serves the connection until it ends, or until `drain` was cancelled and everything was delivered.
    pub(crate) async fn run(mut self, drain: CancellationToken) -> End {
        let end = self.serve(drain).await;
        self.shared.fan_out.cancel(self.interests.iter(), &self.signal);
        match end {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    /// All branches of the `select!` are cancel-safe: readiness, signals, a timer, and a future that is kept.
    async fn serve(&mut self, drain: CancellationToken) -> Result<std::convert::Infallible, End> {
        let mut drained = pin!(drain.cancelled_owned());
        let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
        let mut turns = 0;
        loop {
            self.read()?;
            let now = Instant::now();
            self.heartbeat(now)?;
            let mut wait = self.advance(now)?;
            let took = self.outgoing.took_something();
            if took {
                self.shared.fan_out.ring().took(&self.reader);
                let outlet = self.shared.counters.outlets.of(self.shared.outlet);
                outlet.delivered.add(self.outgoing.take_delivered());
            }
            if wait.idle {
                self.place.is_up_to_date();
            } else {
                self.place.is_at(self.position.sequence);
            }
            if wait.idle || took {
                self.heartbeat.on_write_progress(now.into_std());
            }
            wait.again |= self.readable || self.tell_head(now);
            if self.draining && wait.idle && self.outgoing.is_empty() {
                return Err(End::Drained);
            }
            if wait.again {
                turns += 1;
                if turns < TURNS {
                    continue;
                }
                tokio::task::yield_now().await;
            }
            turns = 0;
            if wait.again {
                continue;
            }
            let deadline = [
                wait.until,
                self.head_due,
                self.heartbeat.next_deadline().map(Instant::from_std),
            ]
            .into_iter()
            .flatten()
            .min();
            if let Some(deadline) = deadline
                && timer.deadline() != deadline
            {
                timer.as_mut().reset(deadline);
            }
            let answer = self.answer.as_mut();
            tokio::select! {
                biased;
                () = &mut drained, if !self.draining => {
                    self.draining = true;
                    if let Stage::Settling(settling) = &mut self.stage {
                        settling.start();
                    }
                }
                answer = async { answer.expect("guarded").await }, if answer.is_some() => {
                    self.answer = None;
                    self.answered(answer)?;
                }
                ready = self.stream.readable() => {
                    ready?;
                    self.readable = true;
                }
                ready = self.stream.writable(), if wait.writable => ready?,
                () = self.signal.told(), if wait.told => {
                    // Whoever else is ready goes first: under load that is more events, and fewer and larger writes.
                    tokio::task::yield_now().await;
                }
                () = &mut timer, if deadline.is_some() => {}
            }
        }
    }

    /// Does what can be done without waiting.
    fn advance(&mut self, now: Instant) -> Result<Wait, End> {
        if self.outgoing.flush(&self.stream)? == Written::Blocked {
            return Ok(self.blocked(now));
        }
        if self.answer.is_some() {
            return Ok(Wait::default());
        }
        match &mut self.stage {
            Stage::Settling(settling) => match settling.ends() {
                Some(end) if end <= now => {
                    self.settled();
                    Ok(Wait {
                        again: true,
                        ..Wait::default()
                    })
                }
                until => Ok(Wait {
                    until,
                    idle: until.is_none(),
                    ..Wait::default()
                }),
            },
            Stage::Ring { .. } => self.advance_in_ring(now),
            Stage::Replay { .. } => self.advance_in_journal(now),
            Stage::AwaitNumbering(until) if *until > now => Ok(Wait {
                until: Some(*until),
                ..Wait::default()
            }),
            Stage::AwaitNumbering(_) => {
                self.leave_ring(now);
                Ok(Wait {
                    again: true,
                    ..Wait::default()
                })
            }
            Stage::Snapshot => self.advance_in_snapshot(now),
        }
    }

    fn blocked(&mut self, now: Instant) -> Wait {
        self.heartbeat.on_write_blocked(now.into_std());
        self.outgoing.relax();
        if let Stage::Replay { page, .. } = &mut self.stage {
            // Not begun yet: it is read again when there is room.
            *page = None;
        }
        Wait {
            writable: true,
            ..Wait::default()
        }
    }
}
