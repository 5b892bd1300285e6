//! Events of our own: new UUIDs and times.

use std::sync::OnceLock;

use jiff::Timestamp;
use lavabus_protocol::{Cursor, Envelope, EventId, Record, Refusal};
use uuid::Uuid;

/// An event made now: with a new version 1 UUID, as LAVA makes them, and the time of now.
///
/// # Errors
///
/// [`Refusal`] where a publisher would refuse it: the topic is no topic, or the data no JSON object.
pub fn new_event(topic: &str, username: &str, data: &str) -> Result<Record, Refusal> {
    let uuid = new_id().to_string();
    let datetime = datetime_text(Timestamp::now());
    let frames = [topic, &uuid, &datetime, username, data];
    Envelope::check(frames.map(str::as_bytes)).map(Record::from)
}

/// A new version 1 UUID, of the time of now.
pub fn new_id() -> EventId {
    Uuid::now_v1(node()).into()
}

/// RFC 9562, section 6.10: a random node has its multicast bit set, so that it is no network card's address.
fn node() -> &'static [u8; 6] {
    static NODE: OnceLock<[u8; 6]> = OnceLock::new();
    NODE.get_or_init(|| {
        let mut node: [u8; 6] = rand::random();
        node[0] |= 1;
        node
    })
}

/// A time as LAVA writes it: with microseconds and the offset of UTC, the fraction left out when it is 0.
///
/// ```
/// use lavabus_client::datetime_text;
/// assert_eq!(datetime_text("2026-11-21T05:01:05.222338Z".parse()?), "2026-11-21T05:01:05.222338+00:00");
/// assert_eq!(datetime_text("2026-11-21T05:01:05Z".parse()?), "2026-11-21T05:01:05+00:00");
/// # Ok::<(), jiff::Error>(())
/// ```
pub fn datetime_text(at: Timestamp) -> String {
    let format = match at.subsec_nanosecond() / 1000 {
        0 => "%Y-%m-%dT%H:%M:%S+00:00",
        _ => "%Y-%m-%dT%H:%M:%S.%6f+00:00",
    };
    at.strftime(format).to_string()
}

/// A cursor that stands for a time: a new UUID of that time, which no publisher knows.
///
/// A publisher goes on at the UUID's time less 60 s, and says so as the gap `unknown_cursor`. Times before 1970 count
/// as 1970.
///
/// ```
/// let at = "2026-11-21T05:01:05Z".parse()?;
/// assert_eq!(lavabus_client::cursor_at(at).uuid.time(), Some(at));
/// # Ok::<(), jiff::Error>(())
/// ```
pub fn cursor_at(at: Timestamp) -> Cursor {
    let seconds = u64::try_from(at.as_second()).unwrap_or(0);
    let nanoseconds = u32::try_from(at.subsec_nanosecond()).unwrap_or(0);
    let time = uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanoseconds);
    Cursor {
        position: None,
        uuid: Uuid::new_v1(time, node()).into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use lavabus_protocol::event::read_datetime;
    use proptest::prelude::*;

    #[test]
    fn a_new_event_is_of_now_and_of_version_1() {
        let before = Timestamp::now();
        let event = new_event("lab.event", "ann", "{}").unwrap();
        let after = Timestamp::now();
        let made = event.uuid.time().unwrap();
        // A UUID counts 100 ns, a datetime microseconds.
        assert!(before.as_microsecond() <= made.as_microsecond() && made <= after);
        let sent = read_datetime(&event.datetime).unwrap();
        assert!(before.as_microsecond() <= sent.as_microsecond() && sent <= after);
        assert_ne!(new_id(), new_id());
    }

    #[test]
    fn what_a_publisher_would_refuse_is_refused() {
        assert_eq!(new_event("", "ann", "{}"), Err(Refusal::EmptyTopic));
        assert_eq!(new_event("lab.event", "ann", "[]"), Err(Refusal::NotAnObject));
    }

    proptest! {
        #[test]
        fn times_read_back(micros in 0_i64..4_000_000_000_000_000) {
            let at = Timestamp::from_microsecond(micros).unwrap();
            prop_assert_eq!(read_datetime(&datetime_text(at)), Some(at));
            prop_assert_eq!(cursor_at(at).uuid.time(), Some(at));
        }
    }
}
