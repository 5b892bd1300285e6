//! The disk takes nothing: events go out without a number, wait in memory, and are committed first when it is back.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lavabus_protocol::{EventId, GapReason, Refusal};
use lavabus_store::{Appended, Group, NewGap, StoreError};
use tracing::{info, warn};

use super::{GROUP_EVENTS, JournalWriter, Outcome, Submission, append, texts};
use crate::admission::AdmittedMessage;
use crate::fan_out::Numbers;
use crate::fan_out::batch::{Batch, Numbering, SharedNumbering};

/// Events that wait for the disk may take this much memory, in bytes.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// What remembering a UUID takes, roughly, in bytes.
const SEEN_BYTES: usize = 64;
/// What waits is committed for so long before it is the turn of the news.
const AT_ONCE: Duration = Duration::from_millis(50);
/// The disk is tried again this often.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Trouble {
    since: Instant,
    retry: Instant,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// The UUIDs that wait, with a hash of their messages.
    seen: HashMap<EventId, u64>,
    /// What no longer fitted.
    lost: Lost,
}

#[derive(Debug)]
struct Waiting {
    batch: Arc<Batch>,
    received_us: i64,
}

#[derive(Debug, Default)]
struct Lost {
    count: u64,
    from_us: i64,
    to_us: i64,
    numbering: SharedNumbering,
}

/// What is known of an event that comes while nothing can be appended.
enum Known {
    New,
    Repeat,
    Conflict,
}

impl Trouble {
    pub(super) fn new(now: Instant) -> Trouble {
        Trouble {
            since: now,
            retry: now + RETRY,
            waiting: VecDeque::new(),
            bytes: 0,
            seen: HashMap::new(),
            lost: Lost::default(),
        }
    }

    /// Events that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.iter().map(|waiting| waiting.batch.messages.len()).sum()
    }
}

impl JournalWriter {
    /// What somebody wants an answer for is not acknowledged, so it is not seen either: it comes again.
    pub(super) fn publish_unnumbered(&mut self, group: &mut [Submission]) {
        for submission in group {
            if let Some(answer) = submission.answer.take() {
                let _ = answer.send(Outcome::NotKept);
                continue;
            }
            let trouble = self
                .state
                .trouble
                .as_ref()
                .expect("events go out unnumbered in trouble only");
            // Once something was lost all that follows is, so that what the journal has stays in the order of the ring.
            let is_lost = trouble.lost.count > 0 || trouble.bytes + submission.admitted.bytes.len() > MAX_WAITING_BYTES;
            let mut events: Vec<(&[u8], &AdmittedMessage)> = Vec::new();
            for (bytes, message) in submission.admitted.events() {
                match self.known(bytes, message) {
                    Known::New => {
                        let trouble = self.state.trouble.as_mut().expect("as above");
                        if !is_lost {
                            trouble.seen.insert(message.id, hash_of(bytes));
                        }
                        events.push((bytes, message));
                    }
                    Known::Repeat => self.counters.repeated.add(1),
                    Known::Conflict => {
                        self.counters.refused.add(&Refusal::UuidConflict);
                        let reason = Refusal::UuidConflict.reason();
                        self.state
                            .rejections
                            .add_message(reason, bytes, submission.received_us, &submission.peer);
                    }
                }
            }
            let count = events.len() as u64;
            if count == 0 {
                continue;
            }
            let us = u64::try_from(jiff::Timestamp::now().as_microsecond() - submission.received_us).unwrap_or(0);
            self.counters.published_within(Duration::from_micros(us), count);
            self.counters.unnumbered.add(count);
            let Trouble {
                waiting, bytes, lost, ..
            } = self.state.trouble.as_mut().expect("as above");
            let received_us = submission.received_us;
            if is_lost {
                self.counters.not_recorded.add(count);
                if lost.count == 0 {
                    warn!("no more room for events that wait for the disk: from now on they go out live only");
                    lost.from_us = received_us;
                }
                lost.count += count;
                lost.to_us = received_us;
                let numbers = Numbers::Never(lost.numbering.clone());
                self.fan_out.publish(events.into_iter(), numbers, |_| ());
            } else {
                self.fan_out.publish(events.into_iter(), Numbers::Later, |batch| {
                    *bytes += cost(batch);
                    waiting.push_back(Waiting {
                        batch: batch.clone(),
                        received_us,
                    });
                });
            }
        }
    }

    fn known(&self, bytes: &[u8], message: &AdmittedMessage) -> Known {
        let trouble = self.state.trouble.as_ref().expect("asked in trouble only");
        if let Some(hash) = trouble.seen.get(&message.id) {
            return if *hash == hash_of(bytes) {
                Known::Repeat
            } else {
                Known::Conflict
            };
        }
        // A disk that cannot be read either leaves the question to the commit.
        let kept = self
            .reader
            .by_id(&message.id)
            .and_then(|seq| seq.map_or(Ok(None), |seq| self.reader.event(seq)));
        match kept {
            Ok(Some(kept)) if texts(bytes) == [&*kept.topic, &*kept.sent, &*kept.user, &*kept.data] => Known::Repeat,
            Ok(Some(_)) => Known::Conflict,
            Ok(None) | Err(_) => Known::New,
        }
    }

    /// Tries the disk if it is time. True if it works again and nothing waits any more.
    pub(super) fn recover(&mut self) -> bool {
        let now = Instant::now();
        match &mut self.state.trouble {
            None => true,
            Some(trouble) if now < trouble.retry => false,
            Some(trouble) => {
                trouble.retry = now + RETRY;
                self.recover_now()
            }
        }
    }

    pub(super) fn recover_now(&mut self) -> bool {
        let Some(mut trouble) = self.state.trouble.take() else {
            return true;
        };
        match self.commit_waiting(&mut trouble) {
            Ok(Progress::Some) => {
                // There is more, and the news of the meantime comes first.
                trouble.retry = Instant::now();
                self.state.trouble = Some(trouble);
                false
            }
            Ok(Progress::All) => {
                let _ = trouble.lost.numbering.set(Numbering::Never {
                    resume_after: self.journal.head(),
                });
                info!(
                    seconds = trouble.since.elapsed().as_secs(),
                    not_recorded = trouble.lost.count,
                    head = self.journal.head(),
                    "the journal writes again; what waited is committed"
                );
                self.health.journal_writes(true);
                true
            }
            Err(cause) => {
                warn!(%cause, waiting = trouble.waiting(), "the journal still cannot write");
                self.state.trouble = Some(trouble);
                false
            }
        }
    }

    /// Commits what waits, in groups, for a short time; and with the last of it what was lost.
    fn commit_waiting(&mut self, trouble: &mut Trouble) -> Result<Progress, StoreError> {
        let began = Instant::now();
        loop {
            let before = self.journal.head();
            let mut group = self.journal.group()?;
            let (mut taken, mut events) = (Vec::new(), 0);
            for waiting in &trouble.waiting {
                if events >= GROUP_EVENTS {
                    break;
                }
                events += waiting.batch.messages.len();
                taken.push(append_batch(&mut group, waiting)?);
            }
            let is_last = taken.len() == trouble.waiting.len();
            if is_last {
                if trouble.lost.count > 0 {
                    group.record_gap(&NewGap {
                        from_us: trouble.lost.from_us,
                        to_us: trouble.lost.to_us,
                        count: Some(trouble.lost.count),
                        reason: GapReason::NotRecorded.as_str(),
                        lab: "",
                    })?;
                }
                self.state.rejections.write(&mut group)?;
            }
            group.commit()?;
            let head = self.journal.head();
            self.counters.committed.add(head - before);
            for (waiting, numbering) in trouble.waiting.drain(..taken.len()).zip(taken) {
                let _ = waiting.batch.numbering.set(numbering);
                trouble.bytes = trouble.bytes.saturating_sub(cost(&waiting.batch));
                for message in &waiting.batch.messages {
                    trouble.seen.remove(&message.id);
                }
            }
            self.fan_out.numbered_late(head);
            if is_last {
                self.state.rejections.written();
                return Ok(Progress::All);
            }
            if began.elapsed() >= AT_ONCE {
                return Ok(Progress::Some);
            }
        }
    }
}

/// How far a recovery came.
enum Progress {
    /// Everything that waited is committed.
    All,
    /// The disk works, but there is more.
    Some,
}

fn append_batch(group: &mut Group<'_>, waiting: &Waiting) -> Result<Numbering, StoreError> {
    let batch = &waiting.batch;
    let first = group.head() + 1;
    let mut are_new = true;
    for (place, message) in batch.messages.iter().enumerate() {
        let bytes = batch.message(place);
        let message = AdmittedMessage {
            id: message.id,
            start: 0,
            end: bytes.len() as u32,
            topic_start: message.topic_start,
            topic_length: message.topic_length,
        };
        let appended = append(group, bytes, &message, waiting.received_us)?;
        are_new &= matches!(appended, Appended::New(_));
    }
    // Should the journal have known some of them after all, their numbers are not in a row.
    Ok(if are_new {
        Numbering::From(first)
    } else {
        Numbering::Never {
            resume_after: group.head(),
        }
    })
}

/// What a waiting batch takes in memory, its remembered UUIDs included.
fn cost(batch: &Batch) -> usize {
    batch.memory() + batch.messages.len() * SEEN_BYTES
}

fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
