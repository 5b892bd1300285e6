//! One subscriber's task: reads its subscriptions, settles its starting point, and writes what it wants, from the ring
//! or, when it is further behind, from the journal.

mod outgoing;
mod position;
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
use lavabus_protocol::{ControlMessage, Cursor, Epoch, GapReason, Position as EventPosition};
use lavabus_protocol::{SnapshotScope, SubscriptionOption};
use lavabus_zmtp::{Action, Command, DecodeError, Decoder, Heartbeat, HeartbeatConfig, Item, Limits, Peer};
use lavabus_zmtp::{Stream, SubscriptionChange};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::outgoing::{Outgoing, Written};
use self::position::{Position, Standing};
use self::settling::Settling;
use self::snapshot::SnapshotDelivery;
use crate::counters::Counters;
use crate::fan_out::FanOut;
use crate::fan_out::matching::{Interests, Signal};
use crate::fan_out::ring::Found;
use crate::history::History;
use crate::replay::{EncodedSnapshot, Page, PageRequest, ReplayError, Replays, Resume};

/// With `@seq`, the head is told this often.
const HEAD_INTERVAL: Duration = Duration::from_secs(1);
/// While the journal has not numbered the events where a subscriber stands, it looks again this often.
const NUMBERING_INTERVAL: Duration = Duration::from_millis(200);
/// So many bytes are taken from the ring at a time.
const RING_READ_BYTES: usize = 512 * 1024;
/// After so many turns without a pause other tasks get theirs.
const TURNS: usize = 16;
/// Longer prefixes cannot match a topic.
const MAX_PREFIX: usize = 1024;
/// Different snapshots that one connection may ask for.
const MAX_SNAPSHOTS: usize = 16;

/// What all subscribers of a publisher share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) fan_out: Arc<FanOut>,
    /// None without a journal.
    pub(crate) replays: Option<Arc<Replays>>,
    pub(crate) epoch: Epoch,
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
    Snapshot(SnapshotScope, Result<EncodedSnapshot, ReplayError>),
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
    heartbeat: Heartbeat,
    interests: Interests,
    signal: Arc<Signal>,
    outgoing: Outgoing,
    position: Position,
    stage: Stage,
    answer: Option<Pin<Box<dyn Future<Output = Answer> + Send>>>,
    /// The snapshot that is under way.
    snapshot: Option<SnapshotDelivery>,
    snapshots: VecDeque<SnapshotScope>,
    snapshots_seen: Vec<SnapshotScope>,
    numbered: bool,
    head_due: Option<Instant>,
    skipped: u64,
    draining: bool,
}

impl Subscriber {
    /// A subscriber whose handshake is done. Its starting point is now.
    pub(crate) fn new(shared: Arc<Shared>, stream: Stream, peer: Peer) -> Subscriber {
        let now = Instant::now();
        let (batch, head) = shared.fan_out.now();
        Subscriber {
            decoder: Decoder::new(shared.limits.clone()),
            inbound: peer.leftover,
            heartbeat: Heartbeat::new(shared.heartbeat.clone(), peer.minor, now.into_std()),
            interests: Interests::default(),
            signal: Arc::default(),
            outgoing: Outgoing::default(),
            position: Position::new(batch, 0, head),
            stage: Stage::Settling(Settling::new(now)),
            answer: None,
            snapshot: None,
            snapshots: VecDeque::new(),
            snapshots_seen: Vec::new(),
            numbered: false,
            head_due: None,
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
            self.tell_head(now);
            let wait = self.advance(now)?;
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
            let deadline = [wait.until, self.head_due, self.heartbeat.next_deadline().map(Instant::from_std)]
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
                ready = self.stream.readable() => ready?,
                ready = self.stream.writable(), if wait.writable => ready?,
                () = self.signal.told(), if wait.told => {}
                () = &mut timer, if deadline.is_some() => {}
            }
        }
    }

    /// Reads what is there, without waiting.
    fn read(&mut self) -> Result<(), End> {
        loop {
            while let Some(item) = self.decoder.decode(&mut self.inbound)? {
                self.received(item)?;
            }
            match self.stream.try_read_buf(&mut self.inbound) {
                Ok(0) => return Err(End::Closed),
                Ok(_) => self.heartbeat.on_received(std::time::Instant::now()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        if self.inbound.is_empty() {
            // An idle connection holds no buffer.
            self.inbound = BytesMut::new();
        }
        Ok(())
    }

    fn received(&mut self, item: Item) -> Result<(), End> {
        match item {
            Item::Messages(run) => {
                for message in run.messages() {
                    if let Some(change) = SubscriptionChange::from_message(message) {
                        self.changed(change)?;
                    }
                }
            }
            Item::Command(Command::Ping { ttl, context }) => {
                self.heartbeat.on_ping(std::time::Instant::now(), ttl);
                self.outgoing.queue(|out| Command::Pong { context }.encode(out));
            }
            Item::Command(command) => {
                if let Some(change) = SubscriptionChange::from_command(&command) {
                    self.changed(change)?;
                }
            }
            Item::Oversize { .. } => return Err(End::Oversize),
        }
        Ok(())
    }

    fn changed(&mut self, change: SubscriptionChange) -> Result<(), End> {
        match change {
            SubscriptionChange::Subscribe(prefix) if prefix.starts_with(b"@") => {
                // An option that is not understood sets nothing, as a prefix that begins with `@` matches nothing.
                if let Some(Ok(option)) = SubscriptionOption::parse(&prefix) {
                    self.option(option);
                }
            }
            SubscriptionChange::Subscribe(prefix) => self.subscribe(&prefix)?,
            SubscriptionChange::Cancel(prefix) => {
                if self.interests.remove(&prefix) {
                    self.shared.fan_out.cancel(std::iter::once(&prefix[..]), &self.signal);
                }
            }
        }
        Ok(())
    }

    fn subscribe(&mut self, prefix: &Bytes) -> Result<(), End> {
        self.settle();
        if self.interests.contains(prefix) || prefix.len() > MAX_PREFIX {
            return Ok(());
        }
        if self.interests.len() >= self.shared.max_subscriptions {
            return Err(End::TooManySubscriptions(self.shared.max_subscriptions));
        }
        let interest = self.shared.fan_out.subscribe(prefix, &self.signal).map_err(|_| End::SubscriptionsFull)?;
        self.interests.insert(prefix, interest);
        Ok(())
    }

    /// A subscription came: the settling begins or goes on.
    fn settle(&mut self) {
        if let Stage::Settling(settling) = &mut self.stage
            && settling.subscribed(Instant::now())
        {
            let (batch, head) = self.shared.fan_out.now();
            self.position = Position::new(batch, 0, head);
        }
    }

    fn option(&mut self, option: SubscriptionOption) {
        self.settle();
        match option {
            SubscriptionOption::Seq if !self.numbered => {
                self.numbered = true;
                if !matches!(self.stage, Stage::Settling(_)) {
                    self.head_due = Some(Instant::now());
                }
            }
            SubscriptionOption::After(cursor) => {
                if let Stage::Settling(settling) = &mut self.stage {
                    settling.after(cursor);
                }
            }
            SubscriptionOption::Start => {
                if let Stage::Settling(settling) = &mut self.stage {
                    settling.start();
                }
            }
            SubscriptionOption::Snapshot(scope) => {
                if self.snapshots_seen.len() < MAX_SNAPSHOTS && !self.snapshots_seen.contains(&scope) {
                    self.snapshots_seen.push(scope.clone());
                    self.snapshots.push_back(scope);
                }
            }
            SubscriptionOption::Seq => {}
        }
    }

    /// Does what can be done without waiting.
    fn advance(&mut self, now: Instant) -> Result<Wait, End> {
        if self.outgoing.flush(&self.stream)? == Written::Blocked {
            return Ok(self.blocked(now));
        }
        self.heartbeat.on_write_progress(now.into_std());
        if self.answer.is_some() {
            return Ok(Wait::default());
        }
        match &mut self.stage {
            Stage::Settling(settling) => match settling.ends() {
                Some(end) if end <= now => {
                    self.settled();
                    Ok(Wait { again: true, ..Wait::default() })
                }
                until => Ok(Wait { until, idle: until.is_none(), ..Wait::default() }),
            },
            Stage::Ring { .. } => self.advance_in_ring(now),
            Stage::Replay { .. } => self.advance_in_journal(now),
            Stage::AwaitNumbering(until) if *until > now => Ok(Wait { until: Some(*until), ..Wait::default() }),
            Stage::AwaitNumbering(_) => {
                self.leave_ring(now);
                Ok(Wait { again: true, ..Wait::default() })
            }
            Stage::Snapshot => self.advance_in_snapshot(now),
        }
    }

    fn blocked(&mut self, now: Instant) -> Wait {
        self.heartbeat.on_write_blocked(now.into_std());
        self.outgoing.relax();
        Wait { writable: true, ..Wait::default() }
    }

    /// The subscriptions are in: finds the starting point.
    fn settled(&mut self) {
        let settling = match std::mem::replace(&mut self.stage, Stage::Ring { awake: true }) {
            Stage::Settling(settling) => settling,
            _ => unreachable!("only a settling connection settles"),
        };
        let cursors = settling.into_cursors();
        if cursors.is_empty() {
            self.started();
        } else if let Some(replays) = self.shared.replays.clone() {
            let earliest = self.shared.history.earliest(self.stream.peer());
            self.ask(async move { Answer::Resume(replays.resume(cursors, earliest).await) });
        } else {
            let resume = self.resume_in_ring(&cursors);
            self.resumed(resume);
        }
    }

    fn ask(&mut self, answer: impl Future<Output = Answer> + Send + 'static) {
        self.answer = Some(Box::pin(answer));
    }

    /// Without a journal a cursor is looked for in the ring.
    fn resume_in_ring(&self, cursors: &[Cursor]) -> Resume {
        let ring = self.shared.fan_out.ring();
        match cursors.iter().filter_map(|cursor| ring.find(&cursor.uuid)).max() {
            Some(after) => Resume { after, gap: None },
            None => Resume { after: ring.oldest().1, gap: Some(GapReason::UnknownCursor) },
        }
    }

    fn resumed(&mut self, resume: Resume) {
        self.position = Position::new(0, 0, resume.after);
        self.find_place();
        if let Some(reason) = resume.gap {
            self.tell_gap(None, Some(resume.after), reason);
        }
        self.started();
    }

    /// The starting point is known.
    fn started(&mut self) {
        if self.numbered {
            self.head_due = Some(Instant::now());
        }
    }

    /// Goes on in the ring if it has everything after the position, else in the journal.
    fn find_place(&mut self) {
        match self.shared.fan_out.ring().place_after(self.position.sequence) {
            Some((batch, message)) => {
                self.position = Position::new(batch, message, self.position.sequence);
                self.stage = Stage::Ring { awake: true };
            }
            None if self.shared.replays.is_some() => self.stage = Stage::Replay { upto: None, page: None },
            None => self.skip_to_ring(),
        }
    }

    fn advance_in_ring(&mut self, now: Instant) -> Result<Wait, End> {
        if let Some(scope) = self.snapshots.pop_front() {
            self.begin_snapshot(scope);
            return Ok(Wait { again: true, ..Wait::default() });
        }
        let Stage::Ring { awake } = &mut self.stage else { unreachable!("called in the ring stage only") };
        // In this order: what was told before the head moved is seen.
        let head = self.shared.fan_out.head();
        if let Some(unserved) = self.signal.take() {
            if !*awake {
                self.position.jump(unserved.batch, unserved.previous);
            }
            *awake = true;
        }
        if !*awake {
            self.position.covers(head);
            self.outgoing.relax();
            return Ok(Wait { told: true, idle: true, ..Wait::default() });
        }
        let mut batches = Vec::new();
        match self.shared.fan_out.ring().read(self.position.batch, RING_READ_BYTES, &mut batches) {
            Found::UpToDate => {
                *awake = false;
                Ok(Wait { again: true, ..Wait::default() })
            }
            Found::Evicted => {
                self.leave_ring(now);
                Ok(Wait { again: true, ..Wait::default() })
            }
            Found::Batches => {
                let Self { outgoing, stream, interests, position, .. } = self;
                let written = if self.numbered {
                    outgoing.write_batches_numbered(stream, &batches, interests, position, self.shared.epoch)?
                } else {
                    outgoing.write_batches(stream, &batches, interests, position)?
                };
                match written {
                    Written::All => Ok(Wait { again: true, ..Wait::default() }),
                    Written::Blocked => Ok(self.blocked(now)),
                }
            }
        }
    }

    /// The place in the ring is gone: goes on in the journal, or skips what nobody has any more.
    fn leave_ring(&mut self, now: Instant) {
        if self.shared.replays.is_none() {
            return self.skip_to_ring();
        }
        match self.position.standing() {
            Standing::After(sequence) => self.position = Position::new(0, 0, sequence),
            Standing::NotRecorded(sequence) => {
                self.position = Position::new(0, 0, sequence);
                self.tell_gap(None, Some(sequence), GapReason::NotRecorded);
            }
            Standing::Unknown => {
                self.stage = Stage::AwaitNumbering(now + NUMBERING_INTERVAL);
                return;
            }
        }
        self.find_place();
    }

    /// Without a journal: what left the ring is lost to this subscriber, and it is told so.
    fn skip_to_ring(&mut self) {
        let (batch, last_lost) = self.shared.fan_out.ring().oldest();
        let lost = last_lost.saturating_sub(self.position.sequence);
        self.skipped += lost;
        self.shared.counters.skipped.add(lost);
        self.tell_gap(Some(self.position.sequence + 1), Some(last_lost), GapReason::RingOverrun);
        self.position = Position::new(batch, 0, last_lost);
        self.stage = Stage::Ring { awake: true };
    }

    fn advance_in_journal(&mut self, now: Instant) -> Result<Wait, End> {
        let Stage::Replay { upto, page } = &mut self.stage else { unreachable!("called in the replay stage only") };
        if let Some(mut current) = page.take() {
            if self.outgoing.write_page(&self.stream, &mut current)? == Written::Blocked {
                // The page is dropped: a stalled reader holds nothing. It is read again when there is room.
                if let Some(sequence) = self.outgoing.keep_rest(&current) {
                    self.position.covers(sequence);
                }
                return Ok(self.blocked(now));
            }
            self.position.covers(current.after);
        }
        let after = self.position.sequence;
        match upto {
            Some(upto) if after >= *upto => {
                self.replayed();
                return Ok(Wait { again: true, ..Wait::default() });
            }
            None if self.shared.fan_out.ring().place_after(after).is_some() => {
                self.find_place();
                return Ok(Wait { again: true, ..Wait::default() });
            }
            _ => {}
        }
        // What was committed and not yet published is left to the ring.
        let head = self.shared.fan_out.head();
        if after >= head {
            return Ok(Wait { until: Some(now + NUMBERING_INTERVAL), ..Wait::default() });
        }
        let upto = upto.map_or(head, |upto| upto.min(head));
        let replays = self.shared.replays.clone().expect("a replay needs a journal");
        let request = PageRequest { after, upto, prefixes: self.interests.prefixes(), numbered: self.numbered };
        self.ask(async move { Answer::Page(replays.page(request).await) });
        Ok(Wait::default())
    }

    fn answered(&mut self, answer: Answer) -> Result<(), End> {
        match answer {
            Answer::Resume(resume) => self.resumed(resume?),
            Answer::Page(read) => {
                let read = read?;
                if let Stage::Replay { page, .. } = &mut self.stage {
                    *page = Some(read);
                }
            }
            Answer::Snapshot(scope, snapshot) => {
                let snapshot = snapshot?;
                // The events before the snapshot come first, the rest after it.
                if let Standing::After(sequence) | Standing::NotRecorded(sequence) = self.position.standing() {
                    self.position = Position::new(0, 0, sequence);
                }
                self.stage = Stage::Replay { upto: Some(snapshot.position), page: None };
                self.snapshot = Some(SnapshotDelivery::new(scope, snapshot));
            }
        }
        Ok(())
    }

    /// The replay has come to the place of the snapshot.
    fn replayed(&mut self) {
        match &self.snapshot {
            Some(snapshot) => {
                let begin = snapshot.begin(self.shared.epoch);
                self.say(&begin);
                self.stage = Stage::Snapshot;
            }
            None => self.find_place(),
        }
    }

    fn begin_snapshot(&mut self, scope: SnapshotScope) {
        let allowed = matches!(scope, SnapshotScope::One { .. }) || self.shared.history.is_open_to(self.stream.peer());
        let numbered = self.numbered;
        match self.shared.replays.clone() {
            Some(replays) if allowed => self.ask(async move {
                let snapshot = replays.snapshot(scope.clone(), numbered).await;
                Answer::Snapshot(scope, snapshot)
            }),
            Some(_) => self.tell_gap(None, None, GapReason::NotPermitted),
            None => self.tell_gap(None, None, GapReason::Other("no_journal".into())),
        }
    }

    fn advance_in_snapshot(&mut self, now: Instant) -> Result<Wait, End> {
        let Some(snapshot) = &mut self.snapshot else { unreachable!("the snapshot stage has a snapshot") };
        if self.outgoing.write_page(&self.stream, snapshot.page())? == Written::Blocked {
            return Ok(self.blocked(now));
        }
        let end = snapshot.end();
        self.snapshot = None;
        self.say(&end);
        self.find_place();
        Ok(Wait { again: true, ..Wait::default() })
    }

    /// Queues a control message between events.
    fn say(&mut self, message: &ControlMessage) -> bool {
        let frames = message.encode();
        let frames: Vec<&[u8]> = frames.iter().map(|frame| frame.as_bytes()).collect();
        self.outgoing.queue(|out| lavabus_zmtp::encode_message(&frames, out))
    }

    fn tell_head(&mut self, now: Instant) {
        if self.head_due.is_some_and(|due| due <= now) {
            self.head_due = Some(now + HEAD_INTERVAL);
            let at = |seq| EventPosition { epoch: self.shared.epoch, seq };
            let oldest = self.shared.oldest.load(Ordering::Relaxed);
            let head = ControlMessage::Head {
                head: at(self.shared.fan_out.head()),
                oldest: (oldest > 0).then_some(oldest),
                skipped: self.skipped,
                position: Some(at(self.position.sequence)),
            };
            self.say(&head);
        }
    }

    /// Says what cannot be had, to whoever asked to be told.
    fn tell_gap(&mut self, from: Option<u64>, to: Option<u64>, reason: GapReason) {
        self.shared.counters.gaps.add(1);
        if self.numbered {
            let at = |seq| EventPosition { epoch: self.shared.epoch, seq };
            self.say(&ControlMessage::Gap { from: from.map(at), to: to.map(at), reason });
        }
    }

    fn heartbeat(&mut self, now: Instant) -> Result<(), End> {
        match self.heartbeat.poll(now.into_std(), |within| self.stream.host_answers(within)) {
            Action::None => Ok(()),
            Action::SendPing => {
                let ping = Command::Ping { ttl: self.heartbeat.ttl(), context: Bytes::new() };
                self.outgoing.queue(|out| ping.encode(out));
                Ok(())
            }
            Action::Dead => Err(End::Dead),
            Action::Stalled => Err(End::Stalled),
        }
    }
}
