//! UUIDs of late: what makes "at least once" into "once" after a reconnect.

use std::collections::{HashSet, VecDeque};

use lavabus_protocol::EventId;

/// So many UUIDs are remembered.
const REMEMBERED: usize = 4096;

/// The UUIDs of the last events, and those of earlier connections as a set to look into.
///
/// Within one connection a publisher repeats nothing, so that only what earlier connections gave is looked for: the
/// first connection of most programs is their only one, and costs no hashing.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    last: VecDeque<EventId>,
    earlier: HashSet<EventId>,
}

impl Recent {
    /// An event was received on this connection.
    pub(crate) fn insert(&mut self, id: EventId) {
        if self.last.len() == REMEMBERED {
            self.last.pop_front();
        }
        self.last.push_back(id);
    }

    /// A new connection begins.
    pub(crate) fn reconnected(&mut self) {
        self.earlier = self.last.iter().copied().collect();
    }

    /// Whether an earlier connection gave this event.
    pub(crate) fn is_repeat(&self, id: &EventId) -> bool {
        !self.earlier.is_empty() && self.earlier.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> EventId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        EventId(bytes)
    }

    #[test]
    fn only_events_of_earlier_connections_are_repeats() {
        let mut recent = Recent::default();
        recent.insert(id(1));
        assert!(!recent.is_repeat(&id(1)));
        recent.reconnected();
        assert!(recent.is_repeat(&id(1)));
        assert!(!recent.is_repeat(&id(2)));
        recent.insert(id(2));
        recent.reconnected();
        assert!(recent.is_repeat(&id(1)) && recent.is_repeat(&id(2)));
    }

    #[test]
    fn memory_is_bounded() {
        let mut recent = Recent::default();
        for number in 0..10_000 {
            recent.insert(id(number));
        }
        recent.reconnected();
        assert_eq!(recent.earlier.len(), REMEMBERED);
        assert!(recent.is_repeat(&id(9_999)));
        assert!(!recent.is_repeat(&id(10)));
    }
}
