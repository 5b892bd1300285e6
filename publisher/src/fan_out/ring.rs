//! The last batches, shared by all subscribers. Bounded by bytes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use super::batch::{Batch, Numbering, SharedNumbering};

#[derive(Debug)]
pub(crate) struct Ring {
    batches: Mutex<Batches>,
    limit: Limit,
    /// The last number given before the first batch.
    base: u64,
    readers: Mutex<Vec<Weak<Reader>>>,
    start: Instant,
}

/// How much a ring keeps, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// So much in any case.
    pub(crate) usual: usize,
    /// So much while a subscriber that takes what it is given has not had it yet. The same as `usual` where a journal
    /// has the rest.
    pub(crate) most: usize,
}

/// A subscriber that took nothing for this long has no claim on more than the usual.
const ACTIVE: Duration = Duration::from_secs(1);
/// The place of a subscriber that has had everything.
const NOWHERE: u64 = u64::MAX;

/// How far a subscriber is, for the ring to see.
#[derive(Debug)]
pub(crate) struct Reader {
    next: AtomicU64,
    /// Milliseconds after the ring's start.
    took_at: AtomicU64,
}

impl Reader {
    pub(crate) fn is_at(&self, batch: u64) {
        self.next.store(batch, Ordering::Relaxed);
    }

    pub(crate) fn has_had_everything(&self) {
        self.next.store(NOWHERE, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Batches {
    held: VecDeque<Arc<Batch>>,
    /// The number that the next batch will have.
    next: u64,
    bytes: usize,
    /// The batch that left last, by its numbering and length: what comes after it is complete.
    evicted: Option<(SharedNumbering, u64)>,
}

/// What a reader finds at its place in the ring.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// At least one batch.
    Batches,
    /// The reader has seen everything.
    UpToDate,
    /// The reader is so far behind that its place is gone.
    Evicted,
}

impl Ring {
    /// An empty ring; it always keeps at least the newest batch.
    /// `base` is the last number given so far.
    pub(crate) fn new(limit: Limit, base: u64) -> Ring {
        Ring {
            batches: Mutex::default(),
            limit,
            base,
            readers: Mutex::default(),
            start: Instant::now(),
        }
    }

    /// Makes a subscriber known, until it drops its reader.
    pub(crate) fn join(&self) -> Arc<Reader> {
        let reader = Arc::new(Reader {
            next: AtomicU64::new(NOWHERE),
            took_at: AtomicU64::new(self.elapsed()),
        });
        let mut readers = self.readers.lock().expect("no holder of this lock panics");
        readers.retain(|reader| reader.strong_count() > 0);
        readers.push(Arc::downgrade(&reader));
        reader
    }

    /// A subscriber has taken something.
    pub(crate) fn took(&self, reader: &Reader) {
        reader.took_at.store(self.elapsed(), Ordering::Relaxed);
    }

    fn elapsed(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// The oldest batch that an active subscriber still wants.
    fn wanted(&self) -> u64 {
        let active_since = self.elapsed().saturating_sub(ACTIVE.as_millis() as u64);
        let readers = self.readers.lock().expect("no holder of this lock panics");
        let active = readers.iter().filter_map(Weak::upgrade);
        let active = active.filter(|reader| reader.took_at.load(Ordering::Relaxed) >= active_since);
        active
            .map(|reader| reader.next.load(Ordering::Relaxed))
            .min()
            .unwrap_or(NOWHERE)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Batches> {
        self.batches.lock().expect("no holder of this lock panics")
    }

    pub(crate) fn push(&self, batch: Arc<Batch>) {
        let mut evicted = Vec::new();
        let wanted = if self.limit.most > self.limit.usual {
            self.wanted()
        } else {
            NOWHERE
        };
        let mut batches = self.lock();
        debug_assert_eq!(batch.number, batches.next);
        batches.next += 1;
        batches.bytes += batch.memory();
        batches.held.push_back(batch);
        while batches.bytes > self.limit.usual && batches.held.len() > 1 {
            let is_wanted = batches.held.front().is_some_and(|oldest| oldest.number >= wanted);
            if is_wanted && batches.bytes <= self.limit.most {
                break;
            }
            let oldest = batches.held.pop_front().expect("more than one is held");
            batches.bytes -= oldest.memory();
            batches.evicted = Some((oldest.numbering.clone(), oldest.messages.len() as u64));
            evicted.push(oldest);
        }
        // The memory is given back after the lock is.
        drop(batches);
    }

    /// Copies references to the batches from number `from` on, as many as hold about `bytes`, 64 at most.
    pub(crate) fn read(&self, from: u64, bytes: usize, into: &mut Vec<Arc<Batch>>) -> Found {
        let batches = self.lock();
        if from >= batches.next {
            return Found::UpToDate;
        }
        let Some(oldest) = batches.held.front() else {
            return Found::Evicted;
        };
        let Some(skip) = from.checked_sub(oldest.number) else {
            return Found::Evicted;
        };
        let mut sum = 0;
        for batch in batches.held.iter().skip(skip as usize).take(64) {
            sum += batch.bytes.len();
            into.push(batch.clone());
            if sum >= bytes {
                break;
            }
        }
        Found::Batches
    }

    /// The place of the first event after number `sequence`: batch number and place in it.
    /// None if the ring no longer holds everything since then.
    pub(crate) fn place_after(&self, sequence: u64) -> Option<(u64, usize)> {
        let batches = self.lock();
        // Where the last numbered event of a batch is; None while it has no number.
        let end = |numbering: &SharedNumbering, length: u64| match numbering.get() {
            Some(Numbering::From(first)) => Some(first + length - 1),
            Some(Numbering::Never { resume_after }) => Some(*resume_after),
            None => None,
        };
        let seen =
            |batch: &Arc<Batch>| end(&batch.numbering, batch.messages.len() as u64).is_some_and(|end| end <= sequence);
        let at = batches.held.partition_point(seen);
        if at == 0 {
            let complete = match &batches.evicted {
                Some((numbering, length)) => end(numbering, *length).is_some_and(|end| end <= sequence),
                None => self.base <= sequence,
            };
            if !complete {
                return None;
            }
        }
        let Some(batch) = batches.held.get(at) else {
            return Some((batches.next, 0));
        };
        let within = match batch.numbering.get() {
            Some(Numbering::From(first)) => (sequence + 1).saturating_sub(*first) as usize,
            _ => 0,
        };
        Some((batch.number, within))
    }

    /// Looks for an event by its UUID, newest first; returns its number.
    pub(crate) fn find(&self, id: &lavabus_protocol::EventId) -> Option<u64> {
        let held: Vec<_> = self.lock().held.iter().cloned().collect();
        held.iter().rev().find_map(|batch| {
            let place = batch.messages.iter().rposition(|message| message.id == *id)?;
            batch.sequence(place)
        })
    }

    /// The oldest batch that is held, or the next one, and the last number given before it.
    pub(crate) fn oldest(&self) -> (u64, u64) {
        let batches = self.lock();
        batches
            .held
            .front()
            .map_or((batches.next, self.base), |batch| (batch.number, batch.previous))
    }
}
