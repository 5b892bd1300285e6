//! How far the stream was received, and from where to resume.

use lavabus_protocol::{Cursor, EventId, GapReason, Position};

/// The place of a subscription in the stream. It lives longer than a connection.
#[derive(Debug)]
pub(crate) struct Place {
    /// The last event, or where the caller began.
    cursor: Option<Cursor>,
    /// Everything that matches up to here was received.
    reached: Option<Position>,
}

impl Place {
    pub(crate) fn new(after: Option<Cursor>) -> Place {
        Place {
            cursor: after,
            reached: after.and_then(|cursor| cursor.position_alone()),
        }
    }

    /// A connection is being made: after what is it to go on? While there was no event, after the number that the head
    /// told.
    pub(crate) fn resume(&self) -> Option<Cursor> {
        self.cursor.or_else(|| self.reached.map(Cursor::of_position))
    }

    /// An event of the stream was received.
    pub(crate) fn on_event(&mut self, uuid: EventId, position: Option<Position>) {
        self.cursor = Some(Cursor { position, uuid });
        if position.is_some() {
            self.reached = position;
        }
    }

    /// The head was heard.
    pub(crate) fn on_head(&mut self, head: Position, position: Option<Position>) {
        let goes_back = |reached: &Position| reached.epoch != head.epoch || reached.seq > head.seq;
        if self.reached.as_ref().is_some_and(goes_back) {
            // Another database, or an older copy of it: its numbers mean other events.
            self.reached = None;
        }
        let ahead = |position: &Position| self.reached.is_none_or(|reached| position.seq > reached.seq);
        if let Some(position) = position.filter(ahead) {
            self.reached = Some(position);
        }
        if self.cursor.is_some_and(|cursor| cursor.position_alone().is_some()) {
            self.cursor = self.reached.map(Cursor::of_position);
        }
    }

    /// A gap was told. Whether it is one: not if all that it names was received before.
    pub(crate) fn on_gap(&mut self, to: Option<Position>, reason: &GapReason) -> bool {
        if *reason == GapReason::UnknownCursor {
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

    #[test]
    fn it_resumes_after_the_last_event() {
        let mut place = Place::new(None);
        assert_eq!(place.resume(), None);
        place.on_event(ID, Some(at(5)));
        place.on_head(at(9), Some(at(9)));
        assert_eq!(
            place.resume(),
            Some(Cursor {
                position: Some(at(5)),
                uuid: ID
            })
        );
    }

    #[test]
    fn without_an_event_it_resumes_after_the_number_that_the_head_told() {
        let mut place = Place::new(None);
        place.on_head(at(9), Some(at(8)));
        assert_eq!(place.resume(), Some(Cursor::of_position(at(8))));
        place.on_head(at(12), Some(at(12)));
        assert_eq!(place.resume(), Some(Cursor::of_position(at(12))));
        // An older copy of the database: its numbers mean other events.
        place.on_head(at(4), Some(at(2)));
        assert_eq!(place.resume(), Some(Cursor::of_position(at(2))));
    }

    #[test]
    fn a_number_of_an_earlier_run_moves_on_with_the_head_until_there_is_an_event() {
        let mut place = Place::new(Some(Cursor::of_position(at(3))));
        assert_eq!(place.resume(), Some(Cursor::of_position(at(3))));
        place.on_head(at(9), Some(at(9)));
        assert_eq!(place.resume(), Some(Cursor::of_position(at(9))));
        place.on_event(ID, Some(at(10)));
        place.on_head(at(12), Some(at(12)));
        assert_eq!(place.resume().unwrap().uuid, ID);
    }

    #[test]
    fn a_gap_that_ends_before_the_place_is_none() {
        let mut place = Place::new(None);
        place.on_event(ID, Some(at(5)));
        place.on_head(at(90), Some(at(80)));
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
        place.on_head(at(9), Some(at(9)));
        assert_eq!(place.resume(), Some(after));
        assert!(place.on_gap(None, &GapReason::UnknownCursor));
    }
}
