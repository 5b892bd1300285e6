//! The disk takes nothing: events go out without a number, wait in memory, and are committed first when it is back.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lavabus_protocol::{EventId, GapReason, Refusal};
use lavabus_store::{NewGap, StoreError};
use tracing::{info, warn};

use super::{JournalWriter, Submission, append, texts};
use crate::admission::AdmittedMessage;
use crate::fan_out::Numbers;
use crate::fan_out::batch::{Batch, Numbering, SharedNumbering};

/// Events that wait for the disk may take this much memory, in bytes.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;
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
    pub(super) fn publish_unnumbered(&mut self, group: &[Submission]) {
        for submission in group {
            let mut events: Vec<(&[u8], &AdmittedMessage)> = Vec::new();
            for (bytes, message) in submission.admitted.events() {
                match self.known(bytes, message) {
                    Known::New => events.push((bytes, message)),
                    Known::Repeat => self.counters.repeated.add(1),
                    Known::Conflict => {
                        self.counters.refused.add(1);
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
            self.counters.published.add(count);
            self.counters.unnumbered.add(count);
            let trouble = self
                .state
                .trouble
                .as_mut()
                .expect("events go out unnumbered in trouble only");
            let bytes: usize = events.iter().map(|(bytes, _)| bytes.len()).sum();
            let received_us = submission.received_us;
            if trouble.bytes + bytes > MAX_WAITING_BYTES {
                self.counters.not_recorded.add(count);
                let lost = &mut trouble.lost;
                if lost.count == 0 {
                    warn!("no more room for events that wait for the disk: from now on they go out live only");
                    lost.from_us = received_us;
                }
                lost.count += count;
                lost.to_us = received_us;
                self.fan_out
                    .publish(events.into_iter(), Numbers::Never(lost.numbering.clone()), |_| ());
            } else {
                trouble.bytes += bytes;
                for (bytes, message) in &events {
                    trouble.seen.insert(message.id, hash_of(bytes));
                }
                let waiting = &mut trouble.waiting;
                self.fan_out.publish(events.into_iter(), Numbers::Later, |batch| {
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
            Ok(()) => {
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

    fn commit_waiting(&mut self, trouble: &mut Trouble) -> Result<(), StoreError> {
        while let Some(waiting) = trouble.waiting.front() {
            let before = self.journal.head();
            let mut group = self.journal.group()?;
            let batch = &waiting.batch;
            for (place, message) in batch.messages.iter().enumerate() {
                let bytes = batch.message(place);
                let message = AdmittedMessage {
                    id: message.id,
                    start: 0,
                    end: bytes.len() as u32,
                    topic_start: message.topic_start,
                    topic_length: message.topic_length,
                };
                append(&mut group, bytes, &message, waiting.received_us)?;
            }
            group.commit()?;
            let head = self.journal.head();
            self.counters.committed.add(head - before);
            // Should the journal have known some of them after all, the end of the batch is still right.
            let first = (head + 1).saturating_sub(batch.messages.len() as u64);
            let _ = batch.numbering.set(Numbering::From(first));
            self.fan_out.numbered_late(head);
            trouble.bytes = trouble.bytes.saturating_sub(batch.bytes.len());
            for message in &batch.messages {
                trouble.seen.remove(&message.id);
            }
            trouble.waiting.pop_front();
        }
        // Also proves that the disk takes something when nothing waited.
        let mut group = self.journal.group()?;
        if trouble.lost.count > 0 {
            group.record_gap(&NewGap {
                from_us: trouble.lost.from_us,
                to_us: trouble.lost.to_us,
                count: Some(trouble.lost.count),
                reason: GapReason::NotRecorded.as_str(),
            })?;
        }
        self.state.rejections.write(&mut group)?;
        group.commit()?;
        self.state.rejections.written();
        Ok(())
    }
}

fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
