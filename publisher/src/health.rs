//! Whether events can pass. Fed by the stages themselves.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A stage that has not turned for this long has stopped.
const STOPPED: Duration = Duration::from_secs(10);

/// What the stages say of themselves.
#[derive(Debug)]
pub struct Health {
    start: Instant,
    journal_writes: AtomicBool,
    /// Milliseconds after `start`; 0 without a journal.
    journal_turned: AtomicU64,
    has_journal: bool,
}

impl Health {
    pub(crate) fn new(has_journal: bool) -> Health {
        Health {
            start: Instant::now(),
            journal_writes: AtomicBool::new(true),
            journal_turned: AtomicU64::new(0),
            has_journal,
        }
    }

    pub(crate) fn journal_writes(&self, writes: bool) {
        self.journal_writes.store(writes, Ordering::Relaxed);
    }

    pub(crate) fn journal_turned(&self) {
        self.journal_turned
            .store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// The event path works: the journal's thread turns.
    pub fn is_alive(&self) -> bool {
        let turned = Duration::from_millis(self.journal_turned.load(Ordering::Relaxed));
        !self.has_journal || self.start.elapsed().saturating_sub(turned) < STOPPED
    }

    /// Events are kept before they are seen: the event path works and the disk takes what it is given.
    pub fn is_ready(&self) -> bool {
        self.is_alive() && self.journal_writes.load(Ordering::Relaxed)
    }
}
