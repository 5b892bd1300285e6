//! The last batches, shared by all subscribers. Bounded by bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::batch::{Batch, Numbering, SharedNumbering};

#[derive(Debug)]
pub(crate) struct Ring {
    batches: Mutex<Batches>,
    limit: usize,
    /// The last number given before the first batch.
    base: u64,
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
    /// A ring that keeps about that many bytes; always at least the newest batch.
    /// `base` is the last number given so far.
    pub(crate) fn new(limit: usize, base: u64) -> Ring {
        Ring {
            batches: Mutex::default(),
            limit,
            base,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Batches> {
        self.batches.lock().expect("no holder of this lock panics")
    }

    pub(crate) fn push(&self, batch: Arc<Batch>) {
        let mut evicted = Vec::new();
        let mut batches = self.lock();
        debug_assert_eq!(batch.number, batches.next);
        batches.next += 1;
        batches.bytes += batch.memory();
        batches.held.push_back(batch);
        while batches.bytes > self.limit && batches.held.len() > 1 {
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
