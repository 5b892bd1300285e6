//! Where in a publisher's stream: epoch, position, cursor.
//!
//! ```text
//! epoch     5f0e11d2                                                    8 lower-case hexadecimal digits
//! position  5f0e11d2/1042                                               epoch, number
//! cursor    5f0e11d2/1042/8e503fbe-e568-11f1-8b37-02fc00000001          position, UUID of the event with that number
//!           8e503fbe-e568-11f1-8b37-02fc00000001                        UUID alone
//! ```

use std::fmt;
use std::str::FromStr;

use crate::event_id::EventId;

/// One unbroken run of numbers. It is made new with a publisher's database, so numbers of two epochs do not compare.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(u32);

impl Epoch {
    /// An epoch from a random number, which the caller draws.
    pub fn from_u32(random: u32) -> Epoch {
        Epoch(random)
    }

    /// Reads exactly 8 lower-case hexadecimal digits; `None` for anything else.
    pub fn parse(text: &str) -> Option<Epoch> {
        let digits = text.len() == 8 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !digits {
            return None;
        }
        u32::from_str_radix(text, 16).ok().map(Epoch)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({self})")
    }
}

/// The place of one event in the stream: its number within an epoch.
///
/// Numbers begin with 1 and have no holes. 0 stands before the first event, as in the head of an empty stream.
/// Where an event has no number (the journal could not write), `-` is written: see [`optional_text`](Position::optional_text).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Within which epoch.
    pub epoch: Epoch,
    /// The number.
    pub seq: u64,
}

impl Position {
    /// The text of a position, or `-` for none.
    pub fn optional_text(position: Option<Position>) -> String {
        match position {
            Some(position) => position.to_string(),
            None => "-".to_owned(),
        }
    }

    /// Reads a position, or `-` as none.
    ///
    /// # Errors
    ///
    /// [`CursorError`] says which part cannot be read.
    pub fn parse_optional(text: &str) -> Result<Option<Position>, CursorError> {
        match text {
            "-" => Ok(None),
            _ => text.parse().map(Some),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.seq)
    }
}

impl FromStr for Position {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Position, CursorError> {
        let (epoch, seq) = text
            .split_once('/')
            .ok_or_else(|| CursorError::Form { found: text.to_owned() })?;
        let epoch = Epoch::parse(epoch).ok_or_else(|| CursorError::Epoch {
            found: epoch.to_owned(),
        })?;
        let seq = number(seq).ok_or_else(|| CursorError::Number { found: seq.to_owned() })?;
        Ok(Position { epoch, seq })
    }
}

/// Decimal digits only: the sign that `u64::from_str` takes is not part of the form.
pub(crate) fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// The event after which a stream shall go on.
///
/// The UUID is what counts; the position makes it quick to find, and proves that publisher and subscriber speak of the
/// same database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Where that event was, if its number is known.
    pub position: Option<Position>,
    /// Which event.
    pub uuid: EventId,
}

impl Cursor {
    /// A place whose event is not known, such as the one that a head tells: its number alone counts.
    pub fn of_position(position: Position) -> Cursor {
        Cursor {
            position: Some(position),
            uuid: EventId::NIL,
        }
    }

    /// The position, if the number alone counts.
    pub fn position_alone(&self) -> Option<Position> {
        self.position.filter(|_| self.uuid == EventId::NIL)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(position) => write!(f, "{position}/{}", self.uuid),
            None => write!(f, "{}", self.uuid),
        }
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Cursor, CursorError> {
        let (position, uuid) = match text.rsplit_once('/') {
            Some((position, uuid)) => (Some(position.parse()?), uuid),
            None => (None, text),
        };
        let uuid = uuid.parse().map_err(|_| CursorError::Uuid { found: uuid.to_owned() })?;
        Ok(Cursor { position, uuid })
    }
}

/// Why a text is no cursor or no position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// The parts between the slashes are not as many as they should be.
    #[error("{found:?} is no position, expected EPOCH/NUMBER such as 5f0e11d2/1042")]
    Form {
        /// What was written.
        found: String,
    },
    /// The first part is no epoch.
    #[error("{found:?} is no epoch, expected 8 lower-case hexadecimal digits such as 5f0e11d2")]
    Epoch {
        /// What was written.
        found: String,
    },
    /// The second part is no number.
    #[error("{found:?} is no event number, expected decimal digits such as 1042")]
    Number {
        /// What was written.
        found: String,
    },
    /// The last part is no UUID.
    #[error(
        "{found:?} is no event UUID, expected UUID or EPOCH/NUMBER/UUID, the UUID with 36 characters in lower case"
    )]
    Uuid {
        /// What was written.
        found: String,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn position() -> impl Strategy<Value = Position> {
        (any::<u32>(), any::<u64>()).prop_map(|(epoch, seq)| Position {
            epoch: Epoch::from_u32(epoch),
            seq,
        })
    }

    pub(crate) fn cursor() -> impl Strategy<Value = Cursor> {
        (proptest::option::of(position()), any::<[u8; 16]>()).prop_map(|(position, uuid)| Cursor {
            position,
            uuid: EventId(uuid),
        })
    }

    #[test]
    fn golden_texts() {
        let uuid: EventId = "8e503fbe-e568-11f1-8b37-02fc00000001".parse().unwrap();
        let epoch = Epoch::from_u32(0x000e_11d2);
        let cursor = Cursor {
            position: Some(Position { epoch, seq: 1042 }),
            uuid,
        };
        assert_eq!(cursor.to_string(), "000e11d2/1042/8e503fbe-e568-11f1-8b37-02fc00000001");
        let cursor = Cursor { position: None, uuid };
        assert_eq!(cursor.to_string(), "8e503fbe-e568-11f1-8b37-02fc00000001");
        assert_eq!(Position::optional_text(None), "-");
        assert_eq!(Position::parse_optional("-"), Ok(None));
    }

    #[test]
    fn faults_are_named() {
        let fault = |text: &str| text.parse::<Cursor>().unwrap_err();
        let uuid = "8e503fbe-e568-11f1-8b37-02fc00000001";
        assert!(matches!(fault(""), CursorError::Uuid { .. }));
        assert!(matches!(fault("5f0e11d2/1042"), CursorError::Form { .. }));
        assert!(matches!(fault("5f0e11d2/1042/x"), CursorError::Uuid { .. }));
        assert!(matches!(fault(&format!("5f0e11d2/{uuid}")), CursorError::Form { .. }));
        assert!(matches!(
            fault(&format!("5F0E11D2/1/{uuid}")),
            CursorError::Epoch { .. }
        ));
        assert!(matches!(
            fault(&format!("+f0e11d2/1/{uuid}")),
            CursorError::Epoch { .. }
        ));
        assert!(matches!(
            fault(&format!("5f0e11d2/+1/{uuid}")),
            CursorError::Number { .. }
        ));
        assert!(matches!(
            fault(&format!("5f0e11d2//{uuid}")),
            CursorError::Number { .. }
        ));
        assert!(matches!(
            fault(&format!("5f0e11d2/1/1/{uuid}")),
            CursorError::Number { .. }
        ));
        assert!(matches!(
            fault(&format!("5f0e11d2/18446744073709551616/{uuid}")),
            CursorError::Number { .. }
        ));
    }

    proptest! {
        #[test]
        fn cursor_round_trip(cursor in cursor()) {
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn position_round_trip(position in proptest::option::of(position())) {
            prop_assert_eq!(Position::parse_optional(&Position::optional_text(position)), Ok(position));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-0-9a-f/+]{0,60}|\\PC{0,40}") {
            let _ = text.parse::<Cursor>();
            let _ = Position::parse_optional(&text);
        }
    }
}
