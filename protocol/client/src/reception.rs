//! What was received, whatever it came by, and what there is to tell of it.

use std::collections::VecDeque;

use lavabus_protocol::{Cursor, GapReason, Position, Record};

use crate::place::Place;
use crate::recent::Recent;
use crate::update::Update;

/// What was received of one publisher. It lives longer than a connection.
#[derive(Debug)]
pub(crate) struct Reception {
    told: VecDeque<Update>,
    place: Place,
    recent: Recent,
}

impl Reception {
    /// Nothing yet; the caller begins after this event.
    pub(crate) fn new(after: Option<Cursor>) -> Reception {
        Reception {
            told: VecDeque::new(),
            place: Place::new(after),
            recent: Recent::default(),
        }
    }

    /// The next thing to tell.
    pub(crate) fn next(&mut self) -> Option<Update> {
        self.told.pop_front()
    }

    /// Something to tell that moves nothing.
    pub(crate) fn tell(&mut self, update: Update) {
        self.told.push_back(update);
    }

    /// After what a connection goes on.
    pub(crate) fn resume(&self) -> Option<Cursor> {
        self.place.resume()
    }

    /// A new connection begins.
    pub(crate) fn reconnected(&mut self) {
        self.recent.reconnected();
    }

    /// An event of the stream, which may have come before.
    pub(crate) fn on_event(&mut self, record: Record, position: Option<Position>) {
        if self.recent.is_repeat(&record.uuid) {
            return;
        }
        self.recent.insert(record.uuid);
        self.place.on_event(record.uuid, position);
        self.tell(Update::Event {
            record,
            position,
            in_snapshot: false,
        });
    }

    /// An event that cannot be read: it would be no better if it came again.
    pub(crate) fn pass_over(&mut self, event: Cursor) {
        self.place.on_event(event.uuid, event.position);
    }

    /// How far the publisher is, and how far this connection.
    pub(crate) fn on_head(&mut self, head: Position, oldest: Option<u64>, skipped: u64, position: Option<Position>) {
        self.place.on_head(head, position);
        self.tell(Update::Head {
            head,
            oldest,
            skipped,
            position,
        });
    }

    /// Something cannot be had, if it was not received before.
    pub(crate) fn on_gap(&mut self, from: Option<Position>, to: Option<Position>, reason: GapReason) {
        if self.place.on_gap(to, &reason) {
            self.tell(Update::Gap { from, to, reason });
        }
    }
}
