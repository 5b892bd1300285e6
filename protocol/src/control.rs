//! What a publisher says about the stream itself, in answer to an option by subscription.
//!
//! ```text
//! frame 1              2      3                   4              5                6
//! @seq                 head   <epoch>/<head>      <oldest kept>  <skipped here>   <epoch>/<position>
//! @seq                 gap    <from>              <to>           <reason>
//! <the subscription>   begin  <epoch>/<position>
//! <the subscription>   end    <count>
//! ```
//!
//! The first frame is the exact subscription that is answered, since stock clients drop messages that match none of
//! theirs. It begins with `@`, which no topic does, so that a control message is never taken for an event. Frames
//! beyond those known are passed over, so that a message may grow.

use std::fmt;

use crate::cursor::{CursorError, Position, number};

/// One message about the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlMessage {
    /// How far the stream is. Sent at once after `@seq`, then every second.
    Head {
        /// Position of the newest event; number 0 when there was none in this epoch.
        head: Position,
        /// Number of the oldest event that can still be had; `-` on the wire when none can.
        oldest: Option<u64>,
        /// Events that this connection should have had and never will, so far.
        skipped: u64,
        /// Everything that matches up to this position was sent on this connection before this message. `None`
        /// where the publisher does not say, with `-` or without that frame.
        position: Option<Position>,
    },
    /// Something cannot be had.
    Gap {
        /// First position that is missing; `-` on the wire where unknown.
        from: Option<Position>,
        /// Last position that is missing; `-` on the wire where unknown.
        to: Option<Position>,
        /// Why.
        reason: GapReason,
    },
    /// The events that follow are a snapshot.
    SnapshotBegin {
        /// The subscription that asked for it, as it was written.
        subscription: String,
        /// The stream goes on after this position.
        position: Position,
    },
    /// The snapshot is complete.
    SnapshotEnd {
        /// The subscription that asked for it, as it was written.
        subscription: String,
        /// How many events it had.
        count: u64,
    },
}

/// Why something cannot be had. The texts are public API.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The cursor's event was never seen here: the stream goes on at the UUID's own time, or at the oldest kept.
    UnknownCursor,
    /// What was asked for is older than what is kept.
    Expired,
    /// What was asked for is older than this peer may have.
    NotPermitted,
    /// The reader was too slow and there is no journal to serve it from.
    RingOverrun,
    /// The disk could not take these events.
    NotRecorded,
    /// They were lost with a part of the database that could not be read any more.
    Damaged,
    /// A snapshot that was asked for needs a journal, and there is none.
    NoJournal,
    /// Too many snapshots are being read; the stream goes on without this one.
    Busy,
    /// A reason that this version does not know.
    Other(String),
}

impl GapReason {
    /// All known reasons.
    pub const KNOWN: [GapReason; 8] = [
        GapReason::UnknownCursor,
        GapReason::Expired,
        GapReason::NotPermitted,
        GapReason::RingOverrun,
        GapReason::NotRecorded,
        GapReason::Damaged,
        GapReason::NoJournal,
        GapReason::Busy,
    ];

    /// The text on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            GapReason::UnknownCursor => "unknown_cursor",
            GapReason::Expired => "expired",
            GapReason::NotPermitted => "not_permitted",
            GapReason::RingOverrun => "ring_overrun",
            GapReason::NotRecorded => "not_recorded",
            GapReason::Damaged => "damaged",
            GapReason::NoJournal => "no_journal",
            GapReason::Busy => "busy",
            GapReason::Other(text) => text,
        }
    }

    /// The reason with this text.
    pub fn from_text(text: &str) -> GapReason {
        GapReason::KNOWN
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .unwrap_or_else(|| GapReason::Other(text.to_owned()))
    }
}

impl fmt::Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

const SEQ: &str = "@seq";

impl ControlMessage {
    /// The frames to send.
    ///
    /// ```
    /// use lavabus_protocol::{ControlMessage, Epoch, Position};
    ///
    /// let head = Position { epoch: Epoch::from_u32(0x5f0e11d2), seq: 1042 };
    /// let message = ControlMessage::Head { head, oldest: Some(17), skipped: 0, position: Some(head) };
    /// assert_eq!(message.encode(), ["@seq", "head", "5f0e11d2/1042", "17", "0", "5f0e11d2/1042"]);
    /// ```
    pub fn encode(&self) -> Vec<String> {
        match self {
            ControlMessage::Head {
                head,
                oldest,
                skipped,
                position,
            } => vec![
                SEQ.to_owned(),
                "head".to_owned(),
                head.to_string(),
                oldest.map_or_else(|| "-".to_owned(), |oldest| oldest.to_string()),
                skipped.to_string(),
                Position::optional_text(*position),
            ],
            ControlMessage::Gap { from, to, reason } => vec![
                SEQ.to_owned(),
                "gap".to_owned(),
                Position::optional_text(*from),
                Position::optional_text(*to),
                reason.to_string(),
            ],
            ControlMessage::SnapshotBegin { subscription, position } => {
                vec![subscription.clone(), "begin".to_owned(), position.to_string()]
            }
            ControlMessage::SnapshotEnd { subscription, count } => {
                vec![subscription.clone(), "end".to_owned(), count.to_string()]
            }
        }
    }

    /// Reads a message's frames; `None` if it is not a control message, which is one whose first frame does not begin
    /// with `@`.
    ///
    /// # Errors
    ///
    /// [`ControlError`] says which frame cannot be read. Such a message is to be passed over: it is no event.
    pub fn decode<'a, I>(frames: I) -> Option<Result<ControlMessage, ControlError>>
    where
        I: IntoIterator<Item = &'a [u8]>,
    {
        let mut frames = frames.into_iter();
        let subscription = frames.next()?;
        (subscription.first() == Some(&b'@')).then(|| decode_rest(subscription, frames))
    }
}

fn decode_rest<'a>(
    subscription: &[u8],
    frames: impl Iterator<Item = &'a [u8]>,
) -> Result<ControlMessage, ControlError> {
    let mut frames = (2..).zip(frames);
    let mut optional_next = || {
        let Some((frame, bytes)) = frames.next() else {
            return Ok(None);
        };
        let text = std::str::from_utf8(bytes).map_err(|_| ControlError::NotUtf8 { frame })?;
        Ok(Some((frame, text)))
    };
    let mut next = || optional_next()?.ok_or(ControlError::TooShort);
    let subscription = std::str::from_utf8(subscription).map_err(|_| ControlError::NotUtf8 { frame: 1 })?;
    let is_snapshot = subscription == "@snapshot" || subscription.starts_with("@snapshot:");
    match next()?.1 {
        "head" if subscription == SEQ => Ok(ControlMessage::Head {
            head: position(next()?)?,
            oldest: optional_count(next()?)?,
            skipped: count(next()?)?,
            position: match optional_next()? {
                Some(frame) => optional_position(frame)?,
                None => None,
            },
        }),
        "gap" if subscription == SEQ => Ok(ControlMessage::Gap {
            from: optional_position(next()?)?,
            to: optional_position(next()?)?,
            reason: GapReason::from_text(next()?.1),
        }),
        "begin" if is_snapshot => Ok(ControlMessage::SnapshotBegin {
            subscription: subscription.to_owned(),
            position: position(next()?)?,
        }),
        "end" if is_snapshot => Ok(ControlMessage::SnapshotEnd {
            subscription: subscription.to_owned(),
            count: count(next()?)?,
        }),
        verb => Err(ControlError::Unknown {
            subscription: subscription.to_owned(),
            verb: verb.to_owned(),
        }),
    }
}

fn position((frame, text): (usize, &str)) -> Result<Position, ControlError> {
    text.parse().map_err(|cause| ControlError::Position { frame, cause })
}

fn optional_position((frame, text): (usize, &str)) -> Result<Option<Position>, ControlError> {
    Position::parse_optional(text).map_err(|cause| ControlError::Position { frame, cause })
}

fn count((frame, text): (usize, &str)) -> Result<u64, ControlError> {
    number(text).ok_or_else(|| ControlError::Count {
        frame,
        found: text.to_owned(),
    })
}

fn optional_count((frame, text): (usize, &str)) -> Result<Option<u64>, ControlError> {
    match text {
        "-" => Ok(None),
        _ => count((frame, text)).map(Some),
    }
}

/// Why a message whose first frame begins with `@` cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Frames are missing at the end.
    #[error("control message ends too early")]
    TooShort,
    /// A frame is not text.
    #[error("frame {frame} of a control message is not UTF-8 text")]
    NotUtf8 {
        /// Which one, from 1.
        frame: usize,
    },
    /// A later version's message.
    #[error("unknown control message {subscription:?} {verb:?}, expected @seq head, @seq gap, @snapshot begin or end")]
    Unknown {
        /// Frame 1.
        subscription: String,
        /// Frame 2.
        verb: String,
    },
    /// A position cannot be read.
    #[error("frame {frame} of a control message: {cause}")]
    Position {
        /// Which one, from 1.
        frame: usize,
        /// What is wrong with it.
        cause: CursorError,
    },
    /// A number cannot be read.
    #[error("frame {frame} of a control message is {found:?}, expected decimal digits")]
    Count {
        /// Which one, from 1.
        frame: usize,
        /// What was written.
        found: String,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cursor::Epoch;
    use crate::cursor::tests::position;
    use proptest::prelude::*;

    fn decode(frames: &[String]) -> Option<Result<ControlMessage, ControlError>> {
        ControlMessage::decode(frames.iter().map(String::as_bytes))
    }

    fn decode_texts(frames: &[&str]) -> Option<Result<ControlMessage, ControlError>> {
        ControlMessage::decode(frames.iter().map(|frame| frame.as_bytes()))
    }

    fn at(seq: u64) -> Position {
        Position {
            epoch: Epoch::from_u32(0x5f0e_11d2),
            seq,
        }
    }

    #[test]
    fn golden_messages_both_ways() {
        let golden: [(&[&str], ControlMessage); 7] = [
            (
                &["@seq", "head", "5f0e11d2/1042", "17", "3", "5f0e11d2/1040"],
                ControlMessage::Head {
                    head: at(1042),
                    oldest: Some(17),
                    skipped: 3,
                    position: Some(at(1040)),
                },
            ),
            (
                &["@seq", "head", "5f0e11d2/0", "-", "0", "-"],
                ControlMessage::Head {
                    head: at(0),
                    oldest: None,
                    skipped: 0,
                    position: None,
                },
            ),
            (
                &["@seq", "gap", "5f0e11d2/5", "5f0e11d2/9", "expired"],
                ControlMessage::Gap {
                    from: Some(at(5)),
                    to: Some(at(9)),
                    reason: GapReason::Expired,
                },
            ),
            (
                &["@seq", "gap", "-", "-", "unknown_cursor"],
                ControlMessage::Gap {
                    from: None,
                    to: None,
                    reason: GapReason::UnknownCursor,
                },
            ),
            (
                &["@seq", "gap", "-", "5f0e11d2/9", "moon_phase"],
                ControlMessage::Gap {
                    from: None,
                    to: Some(at(9)),
                    reason: GapReason::Other("moon_phase".to_owned()),
                },
            ),
            (
                &["@snapshot", "begin", "5f0e11d2/1042"],
                ControlMessage::SnapshotBegin {
                    subscription: "@snapshot".to_owned(),
                    position: at(1042),
                },
            ),
            (
                &["@snapshot:job/7", "end", "1"],
                ControlMessage::SnapshotEnd {
                    subscription: "@snapshot:job/7".to_owned(),
                    count: 1,
                },
            ),
        ];
        for (frames, message) in golden {
            assert_eq!(message.encode(), frames);
            assert_eq!(decode_texts(frames), Some(Ok(message)));
        }
    }

    #[test]
    fn a_head_without_its_position_is_read() {
        let head = decode_texts(&["@seq", "head", "5f0e11d2/1042", "17", "3"])
            .unwrap()
            .unwrap();
        let ControlMessage::Head { head, position, .. } = head else {
            panic!("{head:?}")
        };
        assert_eq!((head, position), (at(1042), None));
    }

    #[test]
    fn reasons_have_these_texts() {
        assert_eq!(
            GapReason::KNOWN.map(|reason| reason.to_string()),
            [
                "unknown_cursor",
                "expired",
                "not_permitted",
                "ring_overrun",
                "not_recorded",
                "damaged",
                "no_journal",
                "busy"
            ]
        );
    }

    #[test]
    fn more_frames_are_passed_over() {
        let read = decode_texts(&["@snapshot", "end", "1", "later"]);
        assert_eq!(
            read,
            Some(Ok(ControlMessage::SnapshotEnd {
                subscription: "@snapshot".to_owned(),
                count: 1
            }))
        );
    }

    #[test]
    fn faults_are_named() {
        assert_eq!(decode_texts(&[]), None);
        assert_eq!(decode_texts(&["", "head"]), None);
        assert_eq!(decode_texts(&["org.example.device", "head"]), None);
        assert_eq!(decode_texts(&["@seq"]), Some(Err(ControlError::TooShort)));
        assert_eq!(
            decode_texts(&["@seq", "head", "5f0e11d2/1"]),
            Some(Err(ControlError::TooShort))
        );
        assert!(matches!(
            decode_texts(&["@seq", "begin", "5f0e11d2/1"]),
            Some(Err(ControlError::Unknown { .. }))
        ));
        assert!(matches!(
            decode_texts(&["@snapshots", "end", "1"]),
            Some(Err(ControlError::Unknown { .. }))
        ));
        assert!(matches!(
            decode_texts(&["@seq", "head", "-", "1", "0"]),
            Some(Err(ControlError::Position { frame: 3, .. }))
        ));
        assert!(matches!(
            decode_texts(&["@snapshot", "end", "-1"]),
            Some(Err(ControlError::Count { frame: 3, .. }))
        ));
        let not_utf8: [&[u8]; 2] = [b"@seq", b"\xff"];
        assert_eq!(
            ControlMessage::decode(not_utf8),
            Some(Err(ControlError::NotUtf8 { frame: 2 }))
        );
    }

    fn message() -> impl Strategy<Value = ControlMessage> {
        let known = proptest::sample::select(GapReason::KNOWN.to_vec());
        let reason = prop_oneof![known, "[a-z]{12}".prop_map(GapReason::Other)];
        let some_position = || proptest::option::of(position());
        prop_oneof![
            (position(), any::<Option<u64>>(), any::<u64>(), some_position()).prop_map(
                |(head, oldest, skipped, position)| ControlMessage::Head {
                    head,
                    oldest,
                    skipped,
                    position
                }
            ),
            (some_position(), some_position(), reason).prop_map(|(from, to, reason)| ControlMessage::Gap {
                from,
                to,
                reason
            }),
            ("@snapshot(:\\PC{0,20})?", position())
                .prop_map(|(subscription, position)| ControlMessage::SnapshotBegin { subscription, position }),
            ("@snapshot(:\\PC{0,20})?", any::<u64>())
                .prop_map(|(subscription, count)| ControlMessage::SnapshotEnd { subscription, count }),
        ]
    }

    proptest! {
        #[test]
        fn round_trip(message in message()) {
            prop_assert_eq!(decode(&message.encode()), Some(Ok(message)));
        }

        #[test]
        fn any_frames_are_read_or_refused(
            mut frames in proptest::collection::vec("head|gap|begin|end|-|[0-9a-f/]{0,12}|\\PC{0,8}", 0..7),
        ) {
            frames.insert(0, "@seq".to_owned());
            let _ = decode(&frames);
        }
    }
}
