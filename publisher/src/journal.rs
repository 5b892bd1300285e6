//! The journal's thread: commits what was admitted in groups, and only then hands it to the fan-out.
//!
//! While the disk does not take anything, events go out live without a number and wait in memory (`trouble`).

mod rejections;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lavabus_protocol::Refusal;
use lavabus_store::{Appended, Group, Journal, NewEvent, PruneBudget, Reader, Retention, StoreError};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tracing::{error, info, warn};

use self::rejections::Rejections;
use self::trouble::Trouble;
use crate::admission::{Admitted, AdmittedMessage};
use crate::counters::Counters;
use crate::fan_out::{FanOut, Numbers};
use crate::health::Health;

/// A group holds about that many events: enough that a sync of the disk costs each of them little.
const GROUP_EVENTS: usize = 2000;
/// With nothing to commit for this long, and something else to do, that is done.
const IDLE: Duration = Duration::from_millis(20);
/// The thread looks around this often at least.
const TICK: Duration = Duration::from_secs(1);
/// Events that the projections take in at a time, so that a commit does not wait long for them,
const PROJECTED_AT_ONCE: u64 = 1000;
/// and how many, and how often, when they are further behind than ten times as many.
const PROJECTED_IN_HASTE: u64 = 5000;
const HASTE: Duration = Duration::from_millis(100);
/// The questions' projections, and pruning, take one part in so many of the time while there is something to commit,
const SHARE: u32 = 5;
/// and while there is all the time more than a group.
const SHARE_IN_FLOOD: u32 = 20;
/// Retention is looked at this often.
const PRUNE_INTERVAL: Duration = Duration::from_secs(10);

/// What the intake hands over: the events and refusals of one run of messages.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) admitted: Admitted,
    /// In µs since 1970.
    pub(crate) received_us: i64,
    pub(crate) peer: Arc<str>,
    /// Who wants to know what became of it. Then it is kept whole or not at all, and not published unless it is kept.
    pub(crate) answer: Option<oneshot::Sender<Outcome>>,
    /// Its share of what may wait, given back when it is dropped.
    pub(crate) _room: Option<OwnedSemaphorePermit>,
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is on the disk and published: for each event its number, and whether it was there before.
    Kept(Vec<(u64, bool)>),
    /// Nothing of it is kept: these of its events have UUIDs that are known with other content.
    Conflict(Vec<usize>),
    /// Nothing of it is kept: the journal cannot write.
    NotKept,
}

/// The thread's state. It alone writes to the database.
#[derive(Debug)]
pub(crate) struct JournalWriter {
    pub(crate) journal: Journal,
    /// Looks up what was committed while the disk is in trouble.
    pub(crate) reader: Reader,
    pub(crate) fan_out: Arc<FanOut>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) health: Arc<Health>,
    /// The oldest number in the journal.
    pub(crate) oldest: Arc<AtomicU64>,
    pub(crate) retention: Retention,
    state: State,
}

#[derive(Debug, Default)]
struct State {
    rejections: Rejections,
    trouble: Option<Trouble>,
    /// Events that the projections have not taken in.
    projections_behind: u64,
    last_projected: Option<Instant>,
    /// Events that the questions' projections have not taken in.
    history_behind: u64,
    /// When they may take in more while there is something to commit.
    history_due: Option<Instant>,
    /// When old events are looked for again.
    prune_due: Option<Instant>,
}

/// What became of a group.
#[derive(Default)]
struct Accepted {
    /// Whether it is new, one entry an event, in order.
    events: Vec<bool>,
    /// For whoever waits, in the order of the submissions.
    outcomes: Vec<Outcome>,
}

impl JournalWriter {
    pub(crate) fn new(
        journal: Journal,
        reader: Reader,
        fan_out: Arc<FanOut>,
        counters: Arc<Counters>,
        health: Arc<Health>,
        oldest: Arc<AtomicU64>,
        retention: Retention,
    ) -> JournalWriter {
        let state = State {
            projections_behind: 1,
            history_behind: 1,
            ..State::default()
        };
        JournalWriter {
            journal,
            reader,
            fan_out,
            counters,
            health,
            oldest,
            retention,
            state,
        }
    }

    /// Works until all senders are gone and everything they sent is committed.
    pub(crate) fn run(
        mut self,
        mut submissions: mpsc::Receiver<Submission>,
        runtime: &Handle,
    ) -> Result<(), StoreError> {
        let mut group = Vec::new();
        loop {
            let pause = self.pause();
            match runtime.block_on(async { tokio::time::timeout(pause, submissions.recv()).await }) {
                Ok(Some(first)) => {
                    let mut events = first.admitted.messages.len();
                    group.push(first);
                    while events < GROUP_EVENTS
                        && let Ok(next) = submissions.try_recv()
                    {
                        events += next.admitted.messages.len();
                        group.push(next);
                    }
                    self.take(&mut group);
                    self.state.projections_behind += events as u64;
                    self.state.history_behind += events as u64;
                    group.clear();
                    let since = self.state.last_projected.map(|last| last.elapsed());
                    let pause = if self.in_haste() { HASTE } else { TICK };
                    if events < GROUP_EVENTS && since.is_none_or(|since| since >= pause) {
                        self.upkeep();
                    }
                    self.prune();
                    if self.state.history_due.is_none_or(|due| due <= Instant::now()) {
                        self.project_history(if events < GROUP_EVENTS { SHARE } else { SHARE_IN_FLOOD });
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    self.upkeep();
                    self.prune();
                    self.project_history(SHARE);
                    if self.state.trouble.is_some() {
                        self.recover();
                    }
                }
            }
            self.health.journal_turned();
            let behind = [self.state.projections_behind, self.state.history_behind];
            self.counters.projections_behind.set(behind);
        }
        self.finish()
    }

    /// The projections are so far behind that a snapshot would take long.
    fn in_haste(&self) -> bool {
        self.state.projections_behind > 10 * PROJECTED_AT_ONCE
    }

    fn pause(&self) -> Duration {
        let behind = self.state.projections_behind + self.state.history_behind;
        let soon = Instant::now() + TICK;
        let prunes = self.state.prune_due.is_some_and(|due| due < soon);
        let something_to_do = behind > 0 || prunes || self.state.rejections.are_due();
        if something_to_do && self.state.trouble.is_none() {
            IDLE
        } else {
            TICK
        }
    }

    /// Refusals are remembered, events committed and published; or published without a number.
    fn take(&mut self, group: &mut [Submission]) {
        for submission in &mut *group {
            let received_us = submission.received_us;
            for refused in submission.admitted.refused.drain(..) {
                self.state.rejections.add(refused, received_us, &submission.peer);
            }
        }
        if group.iter().all(|submission| submission.admitted.messages.is_empty()) {
            return;
        }
        if self.state.trouble.is_some() && !self.recover() {
            return self.publish_unnumbered(group);
        }
        let (first, began) = (self.journal.head() + 1, Instant::now());
        match self.commit(group) {
            Ok(accepted) => {
                self.counters.commits.observe(began.elapsed());
                let mut is_new = accepted.events.iter().copied();
                let events = group.iter().flat_map(|submission| submission.admitted.events());
                let events = events.filter(|_| is_new.next().unwrap_or(false));
                self.fan_out.publish(events, Numbers::From(first), |_| ());
                let count = self.journal.head() + 1 - first;
                self.counters.committed.add(count);
                self.observe_latency(group, &accepted.events);
                self.counters.published.add(count);
                self.health.journal_writes(true);
                if self.oldest.load(Ordering::Relaxed) == 0 {
                    self.oldest.store(first, Ordering::Relaxed);
                }
                let waiting = group.iter_mut().filter_map(|submission| submission.answer.take());
                for (answer, outcome) in waiting.zip(accepted.outcomes) {
                    let _ = answer.send(outcome);
                }
            }
            Err(cause) => {
                error!(%cause, "the journal cannot write: events go out live without a number until it can");
                self.health.journal_writes(false);
                self.state.trouble = Some(Trouble::new(Instant::now()));
                self.publish_unnumbered(group);
            }
        }
    }

    /// How long it took from receiving these events to now, by the wall clock; of each whether it is new.
    fn observe_latency(&self, group: &[Submission], is_new: &[bool]) {
        let now_us = jiff::Timestamp::now().as_microsecond();
        let mut rest = is_new;
        for submission in group {
            let (own, behind) = rest.split_at(submission.admitted.messages.len().min(rest.len()));
            let count = own.iter().filter(|is_new| **is_new).count() as u64;
            let us = u64::try_from(now_us - submission.received_us).unwrap_or(0);
            self.counters.latency.observe_many(Duration::from_micros(us), count);
            rest = behind;
        }
    }

    fn commit(&mut self, submissions: &[Submission]) -> Result<Accepted, StoreError> {
        let mut accepted = Accepted::default();
        let mut conflicts = Vec::new();
        let mut repeats = 0;
        let mut group = self.journal.group()?;
        for submission in submissions {
            if submission.answer.is_some() {
                let conflicting = conflicts_of(&mut group, submission)?;
                if !conflicting.is_empty() {
                    let events: Vec<_> = submission.admitted.events().collect();
                    accepted.events.extend(events.iter().map(|_| false));
                    conflicts.extend(conflicting.iter().map(|place| (events[*place].0, submission)));
                    accepted.outcomes.push(Outcome::Conflict(conflicting));
                    continue;
                }
            }
            let mut kept = Vec::new();
            for (bytes, message) in submission.admitted.events() {
                let appended = append(&mut group, bytes, message, submission.received_us)?;
                accepted.events.push(matches!(appended, Appended::New(_)));
                match appended {
                    Appended::New(seq) => kept.push((seq, false)),
                    Appended::Repeat(seq) => {
                        repeats += 1;
                        kept.push((seq, true));
                    }
                    Appended::Conflict(_) => conflicts.push((bytes, submission)),
                }
            }
            if submission.answer.is_some() {
                accepted.outcomes.push(Outcome::Kept(kept));
            }
        }
        self.state.rejections.write(&mut group)?;
        group.commit()?;
        self.state.rejections.written();
        self.counters.repeated.add(repeats);
        for (bytes, submission) in conflicts {
            self.counters.refused.add(&Refusal::UuidConflict);
            self.state.rejections.add_message(
                Refusal::UuidConflict.reason(),
                bytes,
                submission.received_us,
                &submission.peer,
            );
        }
        Ok(accepted)
    }

    /// What is done when there is nothing to commit, a little at a time.
    fn upkeep(&mut self) {
        if self.state.trouble.is_some() {
            return;
        }
        if self.state.rejections.are_due() {
            let written = self.journal.group().and_then(|mut group| {
                self.state.rejections.write(&mut group)?;
                group.commit()
            });
            match written {
                Ok(()) => {
                    self.state.rejections.written();
                    self.health.journal_writes(true);
                }
                Err(cause) => {
                    self.state.rejections.postpone();
                    self.health.journal_writes(false);
                    warn!(%cause, "refused messages could not be kept; it is tried again");
                }
            }
        }
        if self.state.projections_behind > 0 {
            self.state.last_projected = Some(Instant::now());
            match self.journal.project(if self.in_haste() {
                PROJECTED_IN_HASTE
            } else {
                PROJECTED_AT_ONCE
            }) {
                Ok(projected) => self.state.projections_behind = projected.behind,
                Err(cause) => {
                    self.state.projections_behind = 0;
                    warn!(%cause, "the projections could not be brought up to date; they are tried again");
                }
            }
        }
    }

    /// Nobody waits for these, so they get a share of the time, a little at a time.
    fn project_history(&mut self, share: u32) {
        if self.state.trouble.is_some() || self.state.history_behind == 0 {
            return;
        }
        let began = Instant::now();
        match self.journal.project_history(PROJECTED_AT_ONCE) {
            Ok(projected) => self.state.history_behind = projected.behind,
            Err(cause) => {
                self.state.history_behind = 0;
                warn!(%cause, "what the questions ask could not be brought up to date; it is tried again");
            }
        }
        self.state.history_due = Some(Instant::now() + began.elapsed() * (share - 1));
    }

    /// Old events go, a few at a time.
    fn prune(&mut self) {
        let began = Instant::now();
        if self.state.trouble.is_some() || self.state.prune_due.is_some_and(|due| due > began) {
            return;
        }
        let now_us = jiff::Timestamp::now().as_microsecond();
        let pruned = self.journal.prune(&self.retention, now_us, &PruneBudget::default());
        let pause = match &pruned {
            Ok(pruned) if pruned.more => began.elapsed() * (SHARE - 1),
            _ => PRUNE_INTERVAL,
        };
        self.state.prune_due = Some(Instant::now() + pause);
        match pruned {
            Ok(pruned) if pruned.events > 0 => {
                if let Ok(oldest) = self.journal.oldest() {
                    self.oldest.store(oldest.unwrap_or(0), Ordering::Relaxed);
                }
            }
            Ok(_) => {}
            Err(cause) => warn!(%cause, "old events could not be removed; it is tried again"),
        }
    }

    /// Everything was read: the rest is written, and the database closed cleanly.
    fn finish(mut self) -> Result<(), StoreError> {
        if self.state.trouble.is_some() && !self.recover_now() {
            let waiting = self.state.trouble.as_ref().map_or(0, Trouble::waiting);
            error!(
                events = waiting,
                "the disk is still in trouble: these events were published but are not kept"
            );
            return Ok(());
        }
        if !self.state.rejections.is_empty() {
            let mut group = self.journal.group()?;
            self.state.rejections.write(&mut group)?;
            group.commit()?;
        }
        info!(head = self.journal.head(), "journal closed");
        self.journal.close()
    }
}

/// Appends an event from its ZMTP bytes.
fn append(
    group: &mut Group<'_>,
    bytes: &[u8],
    message: &AdmittedMessage,
    received_us: i64,
) -> Result<Appended, StoreError> {
    group.append(&new_event(bytes, message, received_us))
}

/// The events of a submission whose UUIDs are there with other content. Two of its own may not differ either: whoever
/// hands it in has looked.
fn conflicts_of(group: &mut Group<'_>, submission: &Submission) -> Result<Vec<usize>, StoreError> {
    let mut conflicting = Vec::new();
    for (place, (bytes, message)) in submission.admitted.events().enumerate() {
        let found = group.find(&new_event(bytes, message, submission.received_us))?;
        if matches!(found, Some(Appended::Conflict(_))) {
            conflicting.push(place);
        }
    }
    Ok(conflicting)
}

fn new_event<'a>(bytes: &'a [u8], message: &'a AdmittedMessage, received_us: i64) -> NewEvent<'a> {
    let [topic, sent, user, data] = texts(bytes);
    NewEvent {
        id: &message.id,
        received_us,
        topic,
        sent,
        user,
        data,
        lab: "",
    }
}

/// The frames of an admitted event that the journal keeps as text: all but the UUID.
fn texts(bytes: &[u8]) -> [&str; 4] {
    let mut frames = lavabus_zmtp::frames(bytes);
    let mut next = || {
        let frame = frames.next().expect("an admitted event has five frames");
        std::str::from_utf8(frame).expect("an admitted event's frames are UTF-8")
    };
    let (topic, _uuid, sent, user, data) = (next(), next(), next(), next(), next());
    [topic, sent, user, data]
}
