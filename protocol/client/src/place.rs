//! How far the stream was received, and from where to resume.

use jiff::Timestamp;
use lavabus_protocol::{Cursor, EventId, GapReason, Position};

use crate::event::cursor_at;

/// The place of a subscription in the stream. It lives longer than a connection.
#[derive(Debug)]
pub(crate) struct Place {
    /// The last event, or where the caller began.
    cursor: Option<Cursor>,
    /// Everything that matches up to here was received.
    reached: Option<Position>,
    /// When that was heard.
    reached_at: Option<Timestamp>,
    /// This connection resumes by time, and so a little too early.
    by_time: bool,
}

impl Place {
    pub(crate) fn new(after: Option<Cursor>) -> Place {
        Place {
            cursor: after,
            reached: None,
            reached_at: None,
            by_time: false,
        }
    }

    /// A connection is being made: after what is it to go on?
    ///
    /// If no event was ever received, a UUID of the time when the head was last heard stands for the place.
    pub(crate) fn resume(&mut self) -> Option<Cursor> {
        self.by_time = self.cursor.is_none() && self.reached_at.is_some();
        self.cursor.or_else(|| self.reached_at.map(cursor_at))
    }

    /// An event of the stream was received. Whether it is to be passed on: not if it lies before the place.
    pub(crate) fn on_event(&mut self, uuid: EventId, position: Option<Position>) -> bool {
        if let (true, Some(position), Some(reached)) = (self.by_time, position, self.reached)
            && position.epoch == reached.epoch
            && position.seq <= reached.seq
        {
            return false;
        }
        self.cursor = Some(Cursor { position, uuid });
        if position.is_some() {
            self.reached = position;
        }
        true
    }

    /// The head was heard at `now`.
    pub(crate) fn on_head(&mut self, head: Position, position: Option<Position>, now: Timestamp) {
        let goes_back = |reached: &Position| reached.epoch != head.epoch || reached.seq > head.seq;
        if self.reached.as_ref().is_some_and(goes_back) {
            // Another database, or an older copy of it: its numbers mean other events.
            self.reached = None;
        }
        let ahead = |position: &Position| self.reached.is_none_or(|reached| position.seq > reached.seq);
        if let Some(position) = position {
            if ahead(&position) {
                self.reached = Some(position);
            }
            self.reached_at = Some(now);
        }
    }

    /// A gap was told. Whether it is one: not if all that it names was received before.
    pub(crate) fn on_gap(&mut self, to: Option<Position>, reason: &GapReason) -> bool {
        if *reason == GapReason::UnknownCursor {
            if self.by_time {
                return false;
            }
            self.reached = None;
            return true;
        }
        match (to, self.reached) {
            (Some(to), Some(reached)) => to.epoch != reached.epoch || to.seq > reached.seq,
            _ => true,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use lavabus_protocol::Epoch;

    const ID: EventId = EventId([7; 16]);

    fn at(seq: u64) -> Position {
        Position {
            epoch: Epoch::from_u32(1),
            seq,
        }
    }

    fn time() -> Timestamp {
        "2026-11-21T05:01:05Z".parse().unwrap()
    }

    #[test]
    fn it_resumes_after_the_last_event() {
        let mut place = Place::new(None);
        assert_eq!(place.resume(), None);
        assert!(place.on_event(ID, Some(at(5))));
        place.on_head(at(9), Some(at(9)), time());
        assert_eq!(
            place.resume(),
            Some(Cursor {
                position: Some(at(5)),
                uuid: ID
            })
        );
    }

    #[test]
    fn without_an_event_it_resumes_by_time_and_passes_over_what_was_before() {
        let mut place = Place::new(None);
        place.on_head(at(9), Some(at(8)), time());
        assert_eq!(place.resume().unwrap().uuid.time(), Some(time()));
        assert!(!place.on_gap(Some(at(3)), &GapReason::UnknownCursor));
        assert!(!place.on_event(ID, Some(at(8))));
        assert!(place.on_event(ID, Some(at(9))));
    }

    #[test]
    fn numbers_of_an_older_copy_of_the_database_are_new() {
        let mut place = Place::new(None);
        place.on_head(at(9), Some(at(9)), time());
        place.resume();
        place.on_head(at(4), Some(at(2)), time());
        assert!(place.on_event(ID, Some(at(3))));
    }

    #[test]
    fn a_gap_that_ends_before_the_place_is_none() {
        let mut place = Place::new(None);
        place.on_event(ID, Some(at(5)));
        place.on_head(at(90), Some(at(80)), time());
        place.resume();
        assert!(!place.on_gap(Some(at(80)), &GapReason::NotPermitted));
        assert!(place.on_gap(Some(at(81)), &GapReason::NotPermitted));
        assert!(place.on_gap(None, &GapReason::NotPermitted));
        assert!(place.on_gap(Some(at(3)), &GapReason::UnknownCursor));
        // From then on the numbers prove nothing.
        assert!(place.on_gap(Some(at(3)), &GapReason::Expired));
    }

    #[test]
    fn the_callers_cursor_serves_until_there_is_an_event() {
        let after = Cursor {
            position: None,
            uuid: ID,
        };
        let mut place = Place::new(Some(after));
        assert_eq!(place.resume(), Some(after));
        place.on_head(at(9), Some(at(9)), time());
        assert_eq!(place.resume(), Some(after));
        assert!(place.on_gap(None, &GapReason::UnknownCursor));
    }
}
