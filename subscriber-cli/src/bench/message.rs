//! The events of a run: how they look, and what can be read from one that came back.
//!
//! ```text
//! topic   org.lavabus.bench.<run>.event          all subscribers get all events
//!         org.lavabus.bench.<run>.<k>.event      subscriber k gets every K-th (--narrow)
//! data    {"message": "bench 0000000017 0000001234567890 xxx…", "job": 0}
//!                            │ index, 10  │ ns since the run began, 16 digits
//!         {"message": "bench ready", "job": 0}   before the run: shows that a subscription is live
//! ```
//!
//! It is a valid event of a test shell, so any client that sees it can read it.

use std::time::Duration;

const HEAD: &str = "{\"message\": \"bench ";
const TAIL: &str = "\", \"job\": 0}";
const INDEX_DIGITS: usize = 10;
const TIME_DIGITS: usize = 16;
/// The least size of the data, in bytes.
pub(super) const LEAST_SIZE: usize = HEAD.len() + INDEX_DIGITS + 1 + TIME_DIGITS + TAIL.len();
/// The most events of a run: what the index has room for.
pub(super) const MOST_EVENTS: u64 = 10_u64.pow(INDEX_DIGITS as u32) - 1;

/// The data of an event that is sent until a subscriber has seen one.
pub(super) const READY: &str = "{\"message\": \"bench ready\", \"job\": 0}";

/// The topics of one run.
#[derive(Clone, Debug)]
pub(super) struct Topics {
    prefix: String,
    narrow: bool,
}

impl Topics {
    pub(super) fn new(run: u32, narrow: bool) -> Topics {
        let prefix = format!("org.lavabus.bench.{run:08x}.");
        Topics { prefix, narrow }
    }

    /// What all topics of the run begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What this subscriber subscribes to.
    pub(super) fn subscription(&self, subscriber: usize) -> String {
        match self.narrow {
            true => format!("{}{subscriber}.", self.prefix),
            false => self.prefix.clone(),
        }
    }

    /// The topics of the run; the event with index `i` has the topic `i` modulo their number.
    pub(super) fn topics(&self, subscribers: usize) -> Vec<String> {
        let groups = if self.narrow { subscribers } else { 1 };
        (0..groups)
            .map(|group| format!("{}event", self.subscription(group)))
            .collect()
    }
}

/// Writes the data of one event.
pub(super) fn write(out: &mut String, index: u64, sent: Duration, size: usize) {
    use std::fmt::Write as _;
    out.clear();
    out.push_str(HEAD);
    let _ = write!(out, "{index:0INDEX_DIGITS$} {:0TIME_DIGITS$}", sent.as_nanos());
    if size > LEAST_SIZE {
        out.push(' ');
        out.extend(std::iter::repeat_n('x', size - LEAST_SIZE - 1));
    }
    out.push_str(TAIL);
}

/// The index and the time of an event of the run; `None` for any other data.
pub(super) fn read(data: &[u8]) -> Option<(u64, Duration)> {
    let rest = data.strip_prefix(HEAD.as_bytes())?;
    let (index, rest) = rest.split_at_checked(INDEX_DIGITS)?;
    let (time, _) = rest.strip_prefix(b" ")?.split_at_checked(TIME_DIGITS)?;
    Some((number(index)?, Duration::from_nanos(number(time)?)))
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        Some(value * 10 + u64::from(digit))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use lavabus_protocol::{Event, Kind};
    use proptest::prelude::*;

    #[test]
    fn topics_of_subscribers_are_told_apart() {
        let topics = Topics::new(0xbeef, true);
        let all = topics.topics(12);
        assert_eq!(all[1], "org.lavabus.bench.0000beef.1.event");
        let matching = |subscriber| {
            all.iter()
                .filter(|topic| topic.starts_with(&topics.subscription(subscriber)))
                .count()
        };
        assert!((0..12).all(|subscriber| matching(subscriber) == 1));
        let wide = Topics::new(0xbeef, false);
        assert_eq!(wide.topics(12), ["org.lavabus.bench.0000beef.event"]);
        assert!(wide.topics(12)[0].starts_with(&wide.subscription(11)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(index in 0..=MOST_EVENTS, nanos in 0..10_u64.pow(16), size in 0..2_000_usize) {
            let (mut data, sent) = (String::new(), Duration::from_nanos(nanos));
            write(&mut data, index, sent, size);
            prop_assert_eq!(data.len(), size.max(LEAST_SIZE));
            prop_assert_eq!(read(data.as_bytes()), Some((index, sent)));
            prop_assert!(serde_json::from_str::<serde_json::Value>(&data).is_ok());
            let event = Event::read(Kind::Event, &data);
            prop_assert!(event.message().unwrap().starts_with("bench "));
        }

        #[test]
        fn other_bytes_are_not_an_event_of_ours(bytes: Vec<u8>) {
            prop_assert_eq!(read(&bytes), None);
        }
    }

    #[test]
    fn what_is_sent_before_the_run_is_not_counted() {
        assert_eq!(read(READY.as_bytes()), None);
    }
}
