//! The start of a connection: its subscriptions come one by one, and its starting point is known when they are in.

use std::time::Duration;

use lavabus_protocol::Cursor;
use tokio::time::Instant;

/// Nothing is delivered until the subscriptions were quiet for this long.
const QUIET: Duration = Duration::from_millis(50);
/// Nor longer than this after the first one.
const LONGEST: Duration = Duration::from_secs(1);
/// So many resume points are considered; a client that sends more loses the ones furthest back.
const MAX_CURSORS: usize = 64;

#[derive(Debug)]
pub(crate) struct Settling {
    accepted: Instant,
    first: Option<Instant>,
    last: Instant,
    cursors: Vec<Cursor>,
    started: bool,
}

impl Settling {
    pub(crate) fn new(now: Instant) -> Settling {
        Settling {
            accepted: now,
            first: None,
            last: now,
            cursors: Vec::new(),
            started: false,
        }
    }

    /// A subscription came. True if it is the first, and so long after the handshake that the connection's starting
    /// point is now and not then.
    pub(crate) fn subscribed(&mut self, now: Instant) -> bool {
        self.last = now;
        if self.first.is_some() {
            return false;
        }
        self.first = Some(now);
        now > self.accepted + LONGEST
    }

    pub(crate) fn after(&mut self, cursor: Cursor) {
        self.cursors.push(cursor);
        if self.cursors.len() > MAX_CURSORS {
            let furthest_back = (0..self.cursors.len()).min_by_key(|at| {
                let cursor = &self.cursors[*at];
                (cursor.position.map(|position| position.seq), cursor.uuid.key())
            });
            self.cursors
                .swap_remove(furthest_back.expect("there are more than MAX_CURSORS"));
        }
    }

    /// Ends the settling now.
    pub(crate) fn start(&mut self) {
        self.started = true;
    }

    /// When it ends by itself; None while nothing was subscribed.
    pub(crate) fn ends(&self) -> Option<Instant> {
        let first = self.first?;
        Some(if self.started {
            self.last
        } else {
            (self.last + QUIET).min(first + LONGEST)
        })
    }

    pub(crate) fn into_cursors(self) -> Vec<Cursor> {
        self.cursors
    }
}
