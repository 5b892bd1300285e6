//! When a line of `lavabus emit --from` is due, if it is to keep the pace at which it was recorded.

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use lavabus_protocol::Record;
use lavabus_protocol::event::{read_datetime, sent};
use serde::Deserialize;
use tokio::time::Instant;

/// How much faster than recorded, at most and at least.
const FACTORS: std::ops::RangeInclusive<f64> = 0.001..=1_000_000.0;
/// Nobody waits longer for one event.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// How fast a recording is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as the publisher takes it.
    Unpaced,
    /// So many times as fast as it was recorded.
    Times(f64),
}

impl FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Pace, String> {
        match text.strip_suffix('x').unwrap_or(text).parse() {
            Ok(0.0) => Ok(Pace::Unpaced),
            Ok(factor) if FACTORS.contains(&factor) => Ok(Pace::Times(factor)),
            _ => {
                Err("it is no pace, expected 1x (as recorded), 10x, 0.5x, or 0 (no pace), at most 1000000x".to_owned())
            }
        }
    }
}

/// Tells when each line is due.
#[derive(Debug)]
pub(super) struct Schedule {
    pace: Pace,
    /// The first line's time, and when it was sent.
    began: Option<(Timestamp, Instant)>,
}

impl Schedule {
    pub(super) fn new(pace: Pace) -> Schedule {
        Schedule { pace, began: None }
    }

    /// When this line is due; `None`: now. So is one whose time is unknown or earlier than the first one's.
    pub(super) fn due(&mut self, line: &str, record: &Record) -> Option<Instant> {
        let Pace::Times(factor) = self.pace else { return None };
        let at = recorded(line)
            .or_else(|| sent(&record.envelope()))
            .or_else(|| record.uuid.time())?;
        let (first, began) = *self.began.get_or_insert_with(|| (at, Instant::now()));
        let seconds = at.duration_since(first).as_secs_f64() / factor;
        let after = Duration::try_from_secs_f64(seconds).ok()?.min(LONGEST);
        Some(began + after)
    }
}

/// When a capture's line was received.
fn recorded(line: &str) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Captured<'a> {
        #[serde(borrow)]
        recv_time: std::borrow::Cow<'a, str>,
    }
    let captured: Captured<'_> = serde_json::from_str(line).ok()?;
    read_datetime(&captured.recv_time)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paces() {
        for (text, pace) in [
            ("1x", Pace::Times(1.0)),
            ("10", Pace::Times(10.0)),
            ("0.5x", Pace::Times(0.5)),
            ("0", Pace::Unpaced),
            ("0x", Pace::Unpaced),
        ] {
            assert_eq!(text.parse(), Ok(pace));
        }
        for text in ["", "x", "-1x", "nan", "inf", "1e9", "1xx", "fast"] {
            assert!(text.parse::<Pace>().is_err(), "{text}");
        }
    }

    fn lines() -> Vec<(String, Record)> {
        let capture = include_str!("../../../tests/data/lava-capture.jsonl");
        let read = |line: &str| (line.to_owned(), Record::from_json_line(line).unwrap());
        capture.lines().map(read).collect()
    }

    #[test]
    fn the_distances_are_those_of_the_recording() {
        let lines = lines();
        let (mut original, mut tenfold) = (
            Schedule::new("1x".parse().unwrap()),
            Schedule::new("10x".parse().unwrap()),
        );
        let offsets = |schedule: &mut Schedule| {
            let due: Vec<Instant> = lines
                .iter()
                .map(|(line, record)| schedule.due(line, record).unwrap())
                .collect();
            due.iter()
                .map(|at| at.duration_since(due[0]).as_secs_f64())
                .collect::<Vec<_>>()
        };
        let (original, tenfold) = (offsets(&mut original), offsets(&mut tenfold));
        for ((line, _), (original, tenfold)) in lines.iter().zip(original.iter().zip(&tenfold)) {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let first: serde_json::Value = serde_json::from_str(&lines[0].0).unwrap();
            let at = |value: &serde_json::Value| read_datetime(value["recv_time"].as_str().unwrap()).unwrap();
            let expected = at(&value).duration_since(at(&first)).as_secs_f64();
            assert!(
                (original - expected).abs() < 1e-3 && (tenfold * 10.0 - expected).abs() < 1e-3,
                "{line}"
            );
        }
        assert!(original.last().unwrap() > &60.0);
    }

    #[test]
    fn without_a_time_of_its_reception_the_senders_counts() {
        let (_, mut record) = lines().remove(0);
        let mut schedule = Schedule::new(Pace::Times(2.0));
        record.datetime = "2026-11-21T05:00:00+00:00".to_owned();
        let first = schedule.due("{}", &record).unwrap();
        record.datetime = "2026-11-21T05:00:10+00:00".to_owned();
        assert_eq!(schedule.due("{}", &record).unwrap() - first, Duration::from_secs(5));
        record.datetime = "2026-11-21T04:00:00+00:00".to_owned();
        assert_eq!(schedule.due("{}", &record), None);
        record.datetime = "2099-01-01T00:00:00+00:00".to_owned();
        assert_eq!(schedule.due("{}", &record).unwrap() - first, LONGEST);
        assert_eq!(Schedule::new(Pace::Unpaced).due("{}", &record), None);
    }

    proptest! {
        #[test]
        fn any_time_and_factor(seconds in proptest::collection::vec(-377_705_023_201_i64..=253_402_207_200, 2), factor in 0.001..1_000_000.0) {
            let (_, mut record) = lines().remove(0);
            let mut schedule = Schedule::new(Pace::Times(factor));
            for second in seconds {
                record.datetime = Timestamp::from_second(second).unwrap().to_string();
                let _ = schedule.due("", &record);
            }
        }
    }
}
