//! One event as one line of JSON, in and out.
//!
//! ```text
//! {"topic":"…","uuid":"…","datetime":"…","username":"…","data":{…},"cursor":"…","lab":"…"}    written and read
//! ["topic","uuid","datetime","username","{…}"]                                                read
//! {"frames":["topic","uuid","datetime","username","{…}"], …}                                  read
//! ```
//!
//! `cursor` and `lab` are optional; other keys are passed over. In the two lower forms, LAVA's WebSocket frame and a
//! capture, the data is JSON inside a string.

use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cursor::{Cursor, CursorError};
use crate::envelope::{Envelope, FRAME_NAMES, FRAMES, Refusal};
use crate::event::Event;
use crate::event_id::EventId;
use crate::topic::Kind;

/// One event on its own, with what its reader knows of it beside the five frames.
///
/// ```
/// use lavabus_protocol::Record;
///
/// let line = r#"{"topic":"lab.worker","uuid":"8e503fbe-e568-11f1-8b37-02fc00000001","datetime":"2026-11-21T05:01:05+00:00","username":"lavaserver","data":{"hostname": "worker-02"},"lab":"staging"}"#;
/// let record = Record::from_json_line(line)?;
/// assert_eq!(record.event().worker(), Some("worker-02"));
/// assert_eq!(record.to_json_line(), line);
/// # Ok::<(), lavabus_protocol::RecordError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Frame 1.
    pub topic: String,
    /// Frame 2.
    pub uuid: EventId,
    /// Frame 3.
    pub datetime: String,
    /// Frame 4.
    pub username: String,
    /// Frame 5: one JSON object, as it was sent.
    pub data: String,
    /// After which a stream goes on behind this event, if its publisher told.
    pub cursor: Option<Cursor>,
    /// From which lab it came, where there are several.
    pub lab: Option<String>,
}

impl From<Envelope<'_>> for Record {
    fn from(envelope: Envelope<'_>) -> Record {
        Record {
            topic: envelope.topic.to_owned(),
            uuid: envelope.uuid,
            datetime: envelope.datetime.to_owned(),
            username: envelope.username.to_owned(),
            data: envelope.data.to_owned(),
            cursor: None,
            lab: None,
        }
    }
}

impl Record {
    /// Its five frames.
    pub fn envelope(&self) -> Envelope<'_> {
        Envelope {
            topic: &self.topic,
            uuid: self.uuid,
            datetime: &self.datetime,
            username: &self.username,
            data: &self.data,
        }
    }

    /// Its typed view.
    pub fn event(&self) -> Event {
        Event::read(Kind::of(&self.topic), &self.data)
    }

    /// One line, without the newline at its end. The data stands in it byte for byte, but for line breaks between its
    /// values, which become blanks.
    pub fn to_json_line(&self) -> String {
        let mut line = String::with_capacity(160 + self.topic.len() + self.data.len());
        push_member(&mut line, "{\"topic\":", &self.topic);
        push_member(&mut line, ",\"uuid\":", self.uuid.write(&mut [0; 36]));
        push_member(&mut line, ",\"datetime\":", &self.datetime);
        push_member(&mut line, ",\"username\":", &self.username);
        line.push_str(",\"data\":");
        // Inside a JSON string a line break is written \n, so a bare one is always white space.
        if self.data.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
            line.push_str(&self.data.replace(['\n', '\r'], " "));
        } else {
            line.push_str(&self.data);
        }
        if let Some(cursor) = &self.cursor {
            push_member(&mut line, ",\"cursor\":", &cursor.to_string());
        }
        if let Some(lab) = &self.lab {
            push_member(&mut line, ",\"lab\":", lab);
        }
        line.push('}');
        line
    }

    /// Reads one line in any of the three forms. The five frames are checked like any others.
    ///
    /// # Errors
    ///
    /// [`RecordError`] names the key that is missing, of a wrong type or refused.
    pub fn from_json_line(line: &str) -> Result<Record, RecordError> {
        if line.trim_start().starts_with('[') {
            let frames: Vec<&RawValue> = serde_json::from_str(line).map_err(not_json)?;
            return from_frames(&frames);
        }
        let members: Members<'_> = serde_json::from_str(line).map_err(not_json)?;
        let mut record = match members.frames {
            Some(frames) => {
                let frames: Vec<&RawValue> =
                    serde_json::from_str(frames.get()).map_err(|_| wrong_type("frames", LIST, frames))?;
                from_frames(&frames)?
            }
            None => {
                let topic = text("topic", required("topic", members.topic)?)?;
                let uuid = text("uuid", required("uuid", members.uuid)?)?;
                let datetime = text("datetime", required("datetime", members.datetime)?)?;
                let username = text("username", required("username", members.username)?)?;
                let data = required("data", members.data)?;
                if !data.get().starts_with('{') {
                    return Err(wrong_type("data", "an object", data));
                }
                from_texts([&topic, &uuid, &datetime, &username, data.get()])?
            }
        };
        // Python writes None as null: a key that may be missing may be null too.
        let present = |value: Option<&'_ RawValue>| value.is_some_and(|value| value.get() != "null");
        if let Some(cursor) = members.cursor.filter(|_| present(members.cursor)) {
            record.cursor = Some(text("cursor", cursor)?.parse()?);
        }
        if let Some(lab) = members.lab.filter(|_| present(members.lab)) {
            record.lab = Some(text("lab", lab)?);
        }
        Ok(record)
    }
}

const LIST: &str = "a list of five texts (topic, uuid, datetime, username, data)";

fn push_member(line: &mut String, before: &str, text: &str) {
    line.push_str(before);
    let plain = !text.bytes().any(|byte| byte < 0x20 || matches!(byte, b'"' | b'\\'));
    if plain {
        line.extend(["\"", text, "\""]);
    } else {
        line.push_str(&serde_json::to_string(text).expect("text is always representable as JSON"));
    }
}

/// Every value unread, so that one of a wrong type can be named.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    topic: Option<&'a RawValue>,
    #[serde(borrow)]
    uuid: Option<&'a RawValue>,
    #[serde(borrow)]
    datetime: Option<&'a RawValue>,
    #[serde(borrow)]
    username: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    cursor: Option<&'a RawValue>,
    #[serde(borrow)]
    lab: Option<&'a RawValue>,
    #[serde(borrow)]
    frames: Option<&'a RawValue>,
}

fn from_frames(frames: &[&RawValue]) -> Result<Record, RecordError> {
    let frames: &[&RawValue; FRAMES] = frames
        .try_into()
        .map_err(|_| Refusal::FrameCount { found: frames.len() })?;
    let mut texts: [String; FRAMES] = Default::default();
    for ((place, frame), key) in texts.iter_mut().zip(frames).zip(FRAME_NAMES) {
        *place = text(key, frame)?;
    }
    from_texts(texts.each_ref().map(String::as_str))
}

fn from_texts(texts: [&str; FRAMES]) -> Result<Record, RecordError> {
    Ok(Envelope::check(texts.map(str::as_bytes))?.into())
}

fn required<'a>(key: &'static str, value: Option<&'a RawValue>) -> Result<&'a RawValue, RecordError> {
    value.ok_or(RecordError::Missing { key })
}

fn text(key: &'static str, value: &RawValue) -> Result<String, RecordError> {
    serde_json::from_str(value.get()).map_err(|_| wrong_type(key, "text", value))
}

fn wrong_type(key: &'static str, expected: &'static str, value: &RawValue) -> RecordError {
    RecordError::WrongType {
        key,
        expected,
        found: Excerpt::of(value.get()),
    }
}

fn not_json(cause: serde_json::Error) -> RecordError {
    RecordError::NotJson {
        cause: cause.to_string(),
    }
}

/// The beginning of what was found, short enough for one line of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt(String);

impl Excerpt {
    const CHARS: usize = 40;

    fn of(text: &str) -> Excerpt {
        let mut excerpt: String = text.chars().take(Self::CHARS).collect();
        if excerpt.len() < text.len() {
            excerpt.push('…');
        }
        Excerpt(excerpt)
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_debug())
    }
}

/// Why a line is no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is neither a JSON object nor a list.
    #[error("not an event: {cause}; expected {{\"topic\", \"uuid\", \"datetime\", \"username\", \"data\"}} as JSON")]
    NotJson {
        /// What the parser found, and where.
        cause: String,
    },
    /// A key is not there.
    #[error("key {key:?} is missing, expected topic, uuid, datetime, username and data")]
    Missing {
        /// Which one.
        key: &'static str,
    },
    /// A key has a value of another type, or text with half a surrogate pair.
    #[error("key {key:?} is {found}, expected {expected}")]
    WrongType {
        /// Which one.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: Excerpt,
    },
    /// The cursor cannot be read.
    #[error("key \"cursor\": {0}")]
    Cursor(#[from] CursorError),
    /// The five frames are no event.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cursor::tests::cursor;
    use proptest::prelude::*;

    const UUID: &str = "8e503fbe-e568-11f1-8b37-02fc00000001";

    fn record() -> Record {
        Record {
            topic: "lab.device".to_owned(),
            uuid: UUID.parse().unwrap(),
            datetime: "2026-11-21T05:01:05+00:00".to_owned(),
            username: "lavaserver".to_owned(),
            data: "{\"device\":  \"q\\u00e9\"}".to_owned(),
            cursor: None,
            lab: None,
        }
    }

    #[test]
    fn golden_lines() {
        let mut record = record();
        let line = r#"{"topic":"lab.device","uuid":"8e503fbe-e568-11f1-8b37-02fc00000001","datetime":"2026-11-21T05:01:05+00:00","username":"lavaserver","data":{"device":  "q\u00e9"}}"#;
        assert_eq!(record.to_json_line(), line);
        record.cursor = Some(format!("5f0e11d2/7/{UUID}").parse().unwrap());
        record.lab = Some("stag\"ing".to_owned());
        let line = r#"{"topic":"lab.device","uuid":"8e503fbe-e568-11f1-8b37-02fc00000001","datetime":"2026-11-21T05:01:05+00:00","username":"lavaserver","data":{"device":  "q\u00e9"},"cursor":"5f0e11d2/7/8e503fbe-e568-11f1-8b37-02fc00000001","lab":"stag\"ing"}"#;
        assert_eq!(record.to_json_line(), line);
        assert_eq!(Record::from_json_line(line), Ok(record));
    }

    #[test]
    fn line_breaks_in_data_become_blanks() {
        let mut record = record();
        record.data = "{\r\n\"a\":\n1, \"b\": \"\\n\"}".to_owned();
        let line = record.to_json_line();
        assert!(line.ends_with("\"data\":{  \"a\": 1, \"b\": \"\\n\"}}"), "{line}");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn the_other_forms_are_read() {
        let raw = r#" ["lab.device", "8e503fbe-e568-11f1-8b37-02fc00000001", "2026-11-21T05:01:05+00:00", "lavaserver", "{\"device\":  \"q\\u00e9\"}"]"#;
        assert_eq!(Record::from_json_line(raw), Ok(record()));
        let capture = format!("{{\"recv_time\": \"x\", \"frames\": {raw}, \"lab\": \"a\"}}\n");
        let expected = Record {
            lab: Some("a".to_owned()),
            ..record()
        };
        assert_eq!(Record::from_json_line(&capture), Ok(expected));
    }

    #[test]
    fn null_is_no_cursor_and_no_lab() {
        let line = record()
            .to_json_line()
            .replace("\"}}", "\"},\"cursor\":null,\"lab\":null,\"more\":[1]}");
        assert_eq!(Record::from_json_line(&line), Ok(record()));
    }

    #[test]
    fn errors_name_the_key() {
        let good = record().to_json_line();
        let said = |line: &str| Record::from_json_line(line).unwrap_err().to_string();
        for key in FRAME_NAMES {
            let line = good.replace(&format!("\"{key}\":"), "\"x\":");
            assert_eq!(
                said(&line),
                format!("key \"{key}\" is missing, expected topic, uuid, datetime, username and data")
            );
        }
        for key in ["topic", "uuid", "datetime", "username", "cursor", "lab"] {
            let line = good.replace('{', "{\"cursor\":null,\"lab\":null,").replacen(
                "\"data\":{\"cursor\":null,\"lab\":null,",
                "\"data\":{",
                1,
            );
            let from = line.find(&format!("\"{key}\":")).unwrap() + key.len() + 3;
            let to = from + line[from..].find(',').unwrap();
            let line = format!("{}7{}", &line[..from], &line[to..]);
            assert_eq!(said(&line), format!("key \"{key}\" is 7, expected text"));
        }
        let line = good.replace("{\"device\"", "[\"device\"");
        assert!(said(&line).starts_with("not an event: "), "{}", said(&line));
        let line = good.replace("{\"device\":  \"q\\u00e9\"}", "\"{}\"");
        assert_eq!(said(&line), "key \"data\" is \\\"{}\\\", expected an object");
        assert_eq!(said(&good.replace(UUID, "X")), Refusal::BadUuid.to_string());
        assert_eq!(said("[\"a\", \"b\"]"), Refusal::FrameCount { found: 2 }.to_string());
        assert_eq!(
            said("[\"a\", \"b\", \"c\", 4, \"e\"]"),
            "key \"username\" is 4, expected text"
        );
        assert!(said("{\"frames\": 1}").starts_with("key \"frames\" is 1, expected a list"));
        assert!(said("").starts_with("not an event: EOF"));
        assert!(said("7").starts_with("not an event: "));
        let long = good.replace("\"lab.device\"", &format!("[{}1]", "1,".repeat(1000)));
        assert!(said(&long).len() < 120, "{}", said(&long));
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let text = || "\\PC{0,20}|[\\x00-\\x7f]{0,10}";
        let data = proptest::collection::vec(("[a-z]{1,3}", "\\PC{0,10}", any::<i64>()), 0..4).prop_map(|members| {
            let members: Vec<String> = members
                .into_iter()
                .map(|(key, text, number)| {
                    format!(
                        "\"{key}\" :{},\t\"n\":  [{number}]",
                        serde_json::to_string(&text).unwrap()
                    )
                })
                .collect();
            format!("{{{} }}", members.join(" , "))
        });
        (
            ("[a-z.]{1,20}", any::<[u8; 16]>(), text(), text(), data),
            proptest::option::of(cursor()),
            proptest::option::of(text()),
        )
            .prop_map(|((topic, uuid, datetime, username, data), cursor, lab)| Record {
                topic,
                uuid: EventId(uuid),
                datetime,
                username,
                data,
                cursor,
                lab,
            })
    }

    proptest! {
        #[test]
        fn round_trip_is_byte_identical(record in any_record()) {
            let line = record.to_json_line();
            prop_assert!(!line.contains(['\n', '\r']));
            prop_assert_eq!(Record::from_json_line(&line), Ok(record));
        }

        #[test]
        fn any_line_is_read_or_refused(line in "\\PC{0,80}|[\\[{][]\\[{}:,\"a-z0-9\\\\]{0,40}") {
            if let Err(error) = Record::from_json_line(&line) {
                prop_assert!(!error.to_string().contains('\n'));
            }
        }
    }
}
