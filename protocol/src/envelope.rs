//! The five frames of one event, checked and passed on as they came.
//!
//! ```text
//! frame  name      holds                                                     example
//! 1      topic     text, 1 to 1,024 bytes, not beginning with '@'            org.example.lab.testjob
//! 2      uuid      a UUID, canonical, lower case                             8e503fbe-e568-11f1-8b37-02fc00000001
//! 3      datetime  text; LAVA sends ISO 8601                                 2026-11-21T05:01:05.217961+00:00
//! 4      username  text                                                      lavaserver
//! 5      data      one JSON object                                           {"health": "Active", …}
//! ```
//!
//! All five are UTF-8. Source: LAVA's `lava_common`/`lava_scheduler_app` event senders and `lava-publisher`.

use serde::de::IgnoredAny;

use crate::event_id::{self, EventId};

/// Frames of one event. Old clients unpack exactly so many and fail on any other number.
pub const FRAMES: usize = 5;

/// Names of the frames, in order.
pub const FRAME_NAMES: [&str; FRAMES] = ["topic", "uuid", "datetime", "username", "data"];

/// Longest topic, in bytes.
pub const MAX_TOPIC: usize = 1024;

/// One event's five frames, checked.
///
/// `datetime` and `username` are any text: they are passed on as they were sent.
/// [`event::sent`](crate::event::sent) reads the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// What the event is about; its last part is its [`Kind`](crate::topic::Kind).
    pub topic: &'a str,
    /// Names this event.
    pub uuid: EventId,
    /// When the sender made it.
    pub datetime: &'a str,
    /// Who caused it: the submitter for a testjob, `lavaserver` otherwise.
    pub username: &'a str,
    /// One JSON object, as it was sent.
    pub data: &'a str,
}

impl<'a> Envelope<'a> {
    /// Checks one message's frames. Allocates nothing for data whose values are no lists or objects, as LAVA's are.
    ///
    /// # Errors
    ///
    /// The first [`Refusal`] that applies, frames being looked at in order. Never [`Refusal::Oversize`] nor
    /// [`Refusal::UuidConflict`]: those are for whoever knows the limit or the other events.
    pub fn check<I>(frames: I) -> Result<Envelope<'a>, Refusal>
    where
        I: IntoIterator<Item = &'a [u8]>,
    {
        let mut frames = frames.into_iter();
        let mut taken: [&'a [u8]; FRAMES] = [&[]; FRAMES];
        for (found, place) in taken.iter_mut().enumerate() {
            *place = frames.next().ok_or(Refusal::FrameCount { found })?;
        }
        let more = frames.count();
        if more > 0 {
            return Err(Refusal::FrameCount { found: FRAMES + more });
        }

        let [topic, uuid, datetime, username, data] = taken;
        let topic = text(1, topic)?;
        check_topic(topic)?;
        text(2, uuid)?;
        let uuid = EventId::parse(uuid).ok_or(Refusal::BadUuid)?;
        let datetime = text(3, datetime)?;
        let username = text(4, username)?;
        let data = text(5, data)?;
        check_data(data)?;
        Ok(Envelope {
            topic,
            uuid,
            datetime,
            username,
            data,
        })
    }

    /// The five frames to send. `uuid_text` is where the UUID's text is written.
    pub fn frames<'b>(&self, uuid_text: &'b mut [u8; event_id::TEXT_LEN]) -> [&'b [u8]; FRAMES]
    where
        'a: 'b,
    {
        [
            self.topic.as_bytes(),
            self.uuid.write(uuid_text).as_bytes(),
            self.datetime.as_bytes(),
            self.username.as_bytes(),
            self.data.as_bytes(),
        ]
    }
}

/// `frame` counts from 1, as people do.
fn text(frame: usize, bytes: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(bytes).map_err(|_| Refusal::NotUtf8 { frame })
}

fn check_topic(topic: &str) -> Result<(), Refusal> {
    if topic.is_empty() {
        return Err(Refusal::EmptyTopic);
    }
    // A subscription that begins with '@' sets an option; it must never match an event.
    if topic.starts_with('@') {
        return Err(Refusal::ReservedTopic);
    }
    if topic.len() > MAX_TOPIC {
        return Err(Refusal::LongTopic { bytes: topic.len() });
    }
    Ok(())
}

fn check_data(data: &str) -> Result<(), Refusal> {
    serde_json::from_str::<IgnoredAny>(data).map_err(|error| Refusal::NotJson {
        line: error.line(),
        column: error.column(),
        cause: cause(&error),
    })?;
    // RFC 8259, section 2: ws = space, tab, line feed, carriage return.
    match data.bytes().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
        Some(b'{') => Ok(()),
        _ => Err(Refusal::NotAnObject),
    }
}

/// serde_json ends its text with the place, which is said already.
fn cause(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((cause, _)) => cause.to_owned(),
        None => text,
    }
}

/// Why a message is not an event, or not one to be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not five frames.
    #[error("message has {found} frames, expected 5 (topic, uuid, datetime, username, data)")]
    FrameCount {
        /// How many it has.
        found: usize,
    },
    /// A frame is not text.
    #[error("frame {frame} ({}) is not UTF-8 text", frame_name(*frame))]
    NotUtf8 {
        /// Which one, from 1.
        frame: usize,
    },
    /// The topic has no character.
    #[error("frame 1 (topic) is empty, expected text such as org.example.lab.testjob")]
    EmptyTopic,
    /// The topic begins with `@`, which is kept for the options by subscription.
    #[error(
        "frame 1 (topic) begins with '@', which is kept for options; expected text such as org.example.lab.testjob"
    )]
    ReservedTopic,
    /// The topic is longer than [`MAX_TOPIC`].
    #[error("frame 1 (topic) has {bytes} bytes, expected at most {MAX_TOPIC}")]
    LongTopic {
        /// How many it has.
        bytes: usize,
    },
    /// The UUID is not in canonical form.
    #[error("frame 2 (uuid) is {EventIdError}", EventIdError = event_id::EventIdError)]
    BadUuid,
    /// The data cannot be read as one JSON value.
    #[error("frame 5 (data) is not JSON: {cause} at line {line}, column {column}; expected one JSON object")]
    NotJson {
        /// Line of the fault within the data, from 1.
        line: usize,
        /// Column of the fault within that line, in bytes, from 1.
        column: usize,
        /// What the parser found.
        cause: String,
    },
    /// The data is JSON, but a list, text, number, bool or null.
    #[error("frame 5 (data) is JSON but not an object, expected {{\"key\": value, …}}")]
    NotAnObject,
    /// The message is larger than the receiver takes.
    #[error("message has {bytes} bytes, expected at most {limit}")]
    Oversize {
        /// Sum of its frames, as announced.
        bytes: u64,
        /// What the receiver takes.
        limit: usize,
    },
    /// The UUID is known already, with other content.
    #[error("frame 2 (uuid) names an event that was received before with other content, expected a new UUID")]
    UuidConflict,
}

impl Refusal {
    /// Every label that [`reason`](Refusal::reason) gives, in the order of the variants.
    pub const REASONS: [&'static str; 10] = [
        "frame_count",
        "not_utf8",
        "empty_topic",
        "reserved_topic",
        "long_topic",
        "bad_uuid",
        "not_json",
        "not_an_object",
        "oversize",
        "uuid_conflict",
    ];

    /// A stable label for metrics and the store: public API.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::FrameCount { .. } => "frame_count",
            Refusal::NotUtf8 { .. } => "not_utf8",
            Refusal::EmptyTopic => "empty_topic",
            Refusal::ReservedTopic => "reserved_topic",
            Refusal::LongTopic { .. } => "long_topic",
            Refusal::BadUuid => "bad_uuid",
            Refusal::NotJson { .. } => "not_json",
            Refusal::NotAnObject => "not_an_object",
            Refusal::Oversize { .. } => "oversize",
            Refusal::UuidConflict => "uuid_conflict",
        }
    }
}

fn frame_name(frame: usize) -> &'static str {
    frame
        .checked_sub(1)
        .and_then(|index| FRAME_NAMES.get(index))
        .copied()
        .unwrap_or("beyond the last")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: [&[u8]; 5] = [
        b"org.example.lab.worker",
        b"8e503fbe-e568-11f1-8b37-02fc00000001",
        b"2026-11-21T05:01:05.217961+00:00",
        b"lavaserver",
        b"{\"hostname\": \"worker-02\"}",
    ];

    fn with(frame: usize, bytes: &'static [u8]) -> Result<Envelope<'static>, Refusal> {
        let mut frames = GOOD;
        frames[frame - 1] = bytes;
        Envelope::check(frames)
    }

    #[test]
    fn five_good_frames_come_out_as_they_went_in() {
        let envelope = Envelope::check(GOOD).unwrap();
        assert_eq!(envelope.frames(&mut [0; 36]), GOOD);
    }

    #[test]
    fn any_other_number_of_frames_is_refused() {
        for found in [0, 1, 2, 4] {
            assert_eq!(
                Envelope::check(GOOD.into_iter().take(found)),
                Err(Refusal::FrameCount { found })
            );
        }
        let six = GOOD.into_iter().chain([&[0xff_u8][..]]);
        assert_eq!(Envelope::check(six), Err(Refusal::FrameCount { found: 6 }));
    }

    #[test]
    fn each_frame_must_be_text() {
        for frame in 1..=5 {
            assert_eq!(with(frame, b"\xff\xfe"), Err(Refusal::NotUtf8 { frame }));
        }
        assert_eq!(with(3, b"\xed\xa0\x80"), Err(Refusal::NotUtf8 { frame: 3 }));
    }

    #[test]
    fn topics() {
        assert_eq!(with(1, b""), Err(Refusal::EmptyTopic));
        assert_eq!(with(1, b"@seq"), Err(Refusal::ReservedTopic));
        assert!(with(1, b".codehelp.calvin.device").is_ok());
        assert!(with(1, b"x@y").is_ok());
        let (longest, longer): (&[u8], &[u8]) = (&[b'x'; MAX_TOPIC], &[b'x'; MAX_TOPIC + 1]);
        let mut frames = GOOD;
        frames[0] = longest;
        assert!(Envelope::check(frames).is_ok());
        frames[0] = longer;
        assert_eq!(
            Envelope::check(frames),
            Err(Refusal::LongTopic { bytes: MAX_TOPIC + 1 })
        );
    }

    #[test]
    fn datetime_and_username_are_any_text() {
        assert_eq!(with(3, b"").unwrap().datetime, "");
        assert_eq!(with(3, b"last tuesday\n").unwrap().datetime, "last tuesday\n");
        assert_eq!(with(4, "Zoë".as_bytes()).unwrap().username, "Zoë");
    }

    #[test]
    fn data_is_one_json_object() {
        for good in [
            "{}",
            " {}\n",
            "{\"a\": [1, {\"b\": null}], \"a\": 1e999}",
            "{\"lone\": \"\\ud800\"}",
        ] {
            assert!(with(5, good.as_bytes()).is_ok(), "{good}");
        }
        for bad in ["[]", "null", " 1", "\"{}\"", "true"] {
            assert_eq!(with(5, bad.as_bytes()), Err(Refusal::NotAnObject), "{bad}");
        }
        for bad in [
            "",
            " ",
            "{",
            "{}x",
            "{} {}",
            "{}\0",
            "{'a': 1}",
            "{\"a\": NaN}",
            "{\"a\" 1}",
            "{\"a\":1,}",
            "\u{a0}{}",
        ] {
            assert!(matches!(with(5, bad.as_bytes()), Err(Refusal::NotJson { .. })), "{bad}");
        }
    }

    #[test]
    fn deep_data_is_read_without_recursion() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(400_000), "]".repeat(400_000));
        let mut frames = GOOD;
        frames[4] = deep.as_bytes();
        assert!(Envelope::check(frames).is_ok());
    }

    #[test]
    fn messages_say_where_what_and_what_is_expected() {
        let said = |frame, bytes| with(frame, bytes).unwrap_err().to_string();
        assert_eq!(said(4, b"\xff"), "frame 4 (username) is not UTF-8 text");
        assert_eq!(
            said(2, b"8E503FBE"),
            "frame 2 (uuid) is not a UUID in canonical form: expected 36 characters, lower case, such as \
             8e503fbe-e568-11f1-8b37-02fc00000001"
        );
        assert_eq!(
            said(5, b"{\"a\": }"),
            "frame 5 (data) is not JSON: expected value at line 1, column 7; expected one JSON object"
        );
    }

    #[test]
    fn every_reason_is_listed_once() {
        let all = [
            Refusal::FrameCount { found: 1 },
            Refusal::NotUtf8 { frame: 1 },
            Refusal::EmptyTopic,
            Refusal::ReservedTopic,
            Refusal::LongTopic { bytes: 2000 },
            Refusal::BadUuid,
            Refusal::NotJson {
                line: 1,
                column: 1,
                cause: String::new(),
            },
            Refusal::NotAnObject,
            Refusal::Oversize { bytes: 2, limit: 1 },
            Refusal::UuidConflict,
        ];
        assert_eq!(all.map(|refusal| refusal.reason()), Refusal::REASONS);
    }

    /// Frames that are often nearly right, so that every check is reached.
    fn frame(good: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => Just(good.to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..60),
            1 => "\\PC{0,20}".prop_map(String::into_bytes),
            1 => (any::<usize>(), any::<u8>()).prop_map(move |(at, byte)| {
                let mut bytes = good.to_vec();
                let at = at % bytes.len();
                bytes[at] = byte;
                bytes
            }),
        ]
    }

    proptest! {
        #[test]
        fn any_frames_are_refused_or_passed_on_unchanged(
            frames in (frame(GOOD[0]), frame(GOOD[1]), frame(GOOD[2]), frame(GOOD[3]), frame(GOOD[4])),
        ) {
            let frames = [&frames.0[..], &frames.1, &frames.2, &frames.3, &frames.4];
            let mut uuid_text = [0; 36];
            match Envelope::check(frames) {
                Ok(envelope) => prop_assert_eq!(envelope.frames(&mut uuid_text), frames),
                Err(refusal) => prop_assert!(!refusal.to_string().is_empty()),
            }
        }

        #[test]
        fn any_bytes_in_any_number_of_frames_never_panic(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
        ) {
            let found = frames.len();
            let checked = Envelope::check(frames.iter().map(Vec::as_slice));
            if found != FRAMES {
                prop_assert_eq!(checked, Err(Refusal::FrameCount { found }));
            }
        }
    }
}
