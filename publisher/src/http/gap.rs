//! What cannot be had, as `@seq` says it.

use lavabus_protocol::{Cursor, Epoch, GapReason, Position};

/// Something that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The first and the last that are missing, where that is known.
    pub(crate) between: Option<(Position, Position)>,
    pub(crate) reason: GapReason,
}

impl Gap {
    /// Between these numbers, both of them missing; nowhere in particular if there is none between.
    pub(crate) fn new(epoch: Epoch, first: u64, last: u64, reason: GapReason) -> Gap {
        let position = |seq| Position { epoch, seq };
        Gap {
            between: (first <= last).then(|| (position(first), position(last))),
            reason,
        }
    }

    /// Between a cursor and the number behind which it goes on.
    pub(crate) fn after(cursor: Cursor, epoch: Epoch, after: u64, reason: GapReason) -> Gap {
        let known = cursor.position.filter(|position| position.epoch == epoch);
        match known {
            Some(position) => Gap::new(epoch, position.seq.saturating_add(1), after, reason),
            None => Gap { between: None, reason },
        }
    }

    /// `{"from":"5f0e11d2/7","to":"5f0e11d2/9","reason":"expired"}`.
    pub(crate) fn to_json(&self) -> String {
        let (from, to) = match self.between {
            None => (None, None),
            Some((from, to)) => (Some(from.to_string()), Some(to.to_string())),
        };
        serde_json::json!({"from": from, "to": to, "reason": self.reason.as_str()}).to_string()
    }
}
