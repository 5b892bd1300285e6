//! Options by subscription: a subscription that begins with `@` sets something for its connection.
//!
//! ```text
//! @after:<uuid>                    go on after that event
//! @after:<epoch>/<seq>/<uuid>      the same, found at once
//! @seq                             number each event in a sixth frame, tell the head and gaps
//! @snapshot                        first the latest event of every object
//! @snapshot:<kind>/<id>            first the latest event of that one; kind is device, testjob or worker
//! @start                           these were all: begin
//! ```
//!
//! What the publisher answers is a [`ControlMessage`](crate::control::ControlMessage).

use std::fmt;

use crate::cursor::{Cursor, CursorError};
use crate::event::JobId;
use crate::topic::Kind;

/// What one subscription that begins with `@` asks for.
///
/// ```
/// use lavabus_protocol::{Kind, SnapshotScope, SubscriptionOption};
///
/// let scope = SnapshotScope::One { kind: Kind::Testjob, id: "1995".into() };
/// let option = SubscriptionOption::Snapshot(scope);
/// assert_eq!(option.to_string(), "@snapshot:testjob/1995");
/// assert_eq!(SubscriptionOption::parse(b"@snapshot:testjob/1995"), Some(Ok(option)));
/// assert_eq!(SubscriptionOption::parse(b"org.example"), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SubscriptionOption {
    /// The connection's position becomes just after that event.
    After(Cursor),
    /// Each event gets a sixth frame with its position; head and gaps are told.
    Seq,
    /// All subscriptions were sent: begin to deliver.
    Start,
    /// The latest known state comes first.
    Snapshot(SnapshotScope),
}

/// Which objects a snapshot shall tell of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SnapshotScope {
    /// Every known device and worker, and every unfinished job.
    All,
    /// One object, finished or not.
    One {
        /// [`Kind::Device`], [`Kind::Testjob`] or [`Kind::Worker`].
        kind: Kind,
        /// The device's name, the job's id or the worker's host name. Not empty.
        id: String,
    },
}

impl SubscriptionOption {
    /// Reads a subscription; `None` if it is a plain prefix of topics, which is one that does not begin with `@`.
    ///
    /// The answer to a snapshot must repeat the subscription as it was written, so keep its bytes:
    /// `@snapshot:job/7` is read like `@snapshot:testjob/7`.
    ///
    /// # Errors
    ///
    /// [`OptionError`] says what is wrong. Such a subscription is to be ignored: it never matches an event.
    pub fn parse(subscription: &[u8]) -> Option<Result<SubscriptionOption, OptionError>> {
        (subscription.first() == Some(&b'@')).then(|| parse_option(subscription))
    }
}

fn parse_option(subscription: &[u8]) -> Result<SubscriptionOption, OptionError> {
    let text = std::str::from_utf8(subscription).map_err(|_| OptionError::NotUtf8)?;
    let (name, value) = match text.split_once(':') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    match (name, value) {
        ("@after", Some(cursor)) => Ok(SubscriptionOption::After(cursor.parse()?)),
        ("@seq", None) => Ok(SubscriptionOption::Seq),
        ("@start", None) => Ok(SubscriptionOption::Start),
        ("@snapshot", None) => Ok(SubscriptionOption::Snapshot(SnapshotScope::All)),
        ("@snapshot", Some(object)) => Ok(SubscriptionOption::Snapshot(parse_object(object)?)),
        _ => Err(OptionError::Unknown { found: text.to_owned() }),
    }
}

fn parse_object(object: &str) -> Result<SnapshotScope, OptionError> {
    let wrong = || OptionError::Object {
        found: object.to_owned(),
    };
    let (kind, id) = object.split_once('/').ok_or_else(wrong)?;
    let id = match kind.parse() {
        Ok(Kind::Testjob) => JobId::parse(id).ok_or_else(wrong)?.to_string(),
        Ok(Kind::Device | Kind::Worker) if !id.is_empty() => id.to_owned(),
        _ => return Err(wrong()),
    };
    Ok(SnapshotScope::One {
        kind: kind.parse().map_err(|_| wrong())?,
        id,
    })
}

impl fmt::Display for SubscriptionOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubscriptionOption::After(cursor) => write!(f, "@after:{cursor}"),
            SubscriptionOption::Seq => f.write_str("@seq"),
            SubscriptionOption::Start => f.write_str("@start"),
            SubscriptionOption::Snapshot(SnapshotScope::All) => f.write_str("@snapshot"),
            SubscriptionOption::Snapshot(SnapshotScope::One { kind, id }) => write!(f, "@snapshot:{kind}/{id}"),
        }
    }
}

/// Why a subscription that begins with `@` is no option.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// It is not text.
    #[error("option is not UTF-8 text")]
    NotUtf8,
    /// There is no such option, or it has a value too many or too few.
    #[error("unknown option {found:?}, expected @after:CURSOR, @seq, @start, @snapshot or @snapshot:KIND/ID")]
    Unknown {
        /// What was written.
        found: String,
    },
    /// The cursor of `@after` cannot be read.
    #[error("cursor of @after: {0}")]
    Cursor(#[from] CursorError),
    /// The object of `@snapshot` cannot be read.
    #[error("object {found:?} of @snapshot, expected device/NAME, testjob/ID or worker/HOSTNAME")]
    Object {
        /// What was written.
        found: String,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cursor::tests::cursor;
    use proptest::prelude::*;

    fn one(kind: Kind, id: &str) -> SubscriptionOption {
        SubscriptionOption::Snapshot(SnapshotScope::One {
            kind,
            id: id.to_owned(),
        })
    }

    #[test]
    fn golden_texts_both_ways() {
        let uuid = "8e503fbe-e568-11f1-8b37-02fc00000001";
        let golden = [
            ("@seq".to_owned(), SubscriptionOption::Seq),
            ("@start".to_owned(), SubscriptionOption::Start),
            ("@snapshot".to_owned(), SubscriptionOption::Snapshot(SnapshotScope::All)),
            ("@snapshot:device/qemu-01".to_owned(), one(Kind::Device, "qemu-01")),
            (
                "@snapshot:device/odd/name:1".to_owned(),
                one(Kind::Device, "odd/name:1"),
            ),
            ("@snapshot:testjob/4000.1".to_owned(), one(Kind::Testjob, "4000.1")),
            (
                "@snapshot:worker/worker-01.lab".to_owned(),
                one(Kind::Worker, "worker-01.lab"),
            ),
            (
                format!("@after:{uuid}"),
                SubscriptionOption::After(uuid.parse().unwrap()),
            ),
            (
                format!("@after:5f0e11d2/1042/{uuid}"),
                SubscriptionOption::After(format!("5f0e11d2/1042/{uuid}").parse().unwrap()),
            ),
        ];
        for (text, option) in golden {
            assert_eq!(option.to_string(), text);
            assert_eq!(SubscriptionOption::parse(text.as_bytes()), Some(Ok(option)));
        }
    }

    #[test]
    fn job_ids_are_read_in_every_form() {
        for text in [
            "@snapshot:job/1995",
            "@snapshot:testjob/job/1995",
            "@snapshot:TestJob/http://h/scheduler/job/1995/",
        ] {
            assert_eq!(
                SubscriptionOption::parse(text.as_bytes()),
                Some(Ok(one(Kind::Testjob, "1995"))),
                "{text}"
            );
        }
    }

    #[test]
    fn others_are_plain_prefixes_or_wrong() {
        for text in ["", "org", "x@seq"] {
            assert_eq!(SubscriptionOption::parse(text.as_bytes()), None, "{text}");
        }
        for text in [
            "@",
            "@sequence",
            "@seq:",
            "@seq:1",
            "@start:now",
            "@after",
            "@SEQ",
            "@seq ",
            "@\0",
        ] {
            let read = SubscriptionOption::parse(text.as_bytes()).unwrap();
            assert!(matches!(read, Err(OptionError::Unknown { .. })), "{text}");
        }
        for text in [
            "@snapshot:",
            "@snapshot:device",
            "@snapshot:device/",
            "@snapshot:job/",
            "@snapshot:event/1",
        ] {
            let read = SubscriptionOption::parse(text.as_bytes()).unwrap();
            assert!(matches!(read, Err(OptionError::Object { .. })), "{text}");
        }
        assert!(matches!(
            SubscriptionOption::parse(b"@after:x"),
            Some(Err(OptionError::Cursor(_)))
        ));
        assert_eq!(SubscriptionOption::parse(b"@\xff"), Some(Err(OptionError::NotUtf8)));
    }

    fn option() -> impl Strategy<Value = SubscriptionOption> {
        prop_oneof![
            cursor().prop_map(SubscriptionOption::After),
            Just(SubscriptionOption::Seq),
            Just(SubscriptionOption::Start),
            Just(SubscriptionOption::Snapshot(SnapshotScope::All)),
            "\\PC{1,20}".prop_map(|id| one(Kind::Device, &id)),
            "\\PC{1,20}".prop_map(|id| one(Kind::Worker, &id)),
            "[0-9]{1,8}(\\.[0-9])?".prop_map(|id| one(Kind::Testjob, &id)),
        ]
    }

    proptest! {
        #[test]
        fn round_trip(option in option()) {
            prop_assert_eq!(SubscriptionOption::parse(option.to_string().as_bytes()), Some(Ok(option)));
        }

        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            bytes.insert(0, b'@');
            let _ = SubscriptionOption::parse(&bytes);
        }
    }
}
