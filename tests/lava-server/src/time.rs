//! The three ways in which LAVA writes a time.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Python keeps microseconds.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_microsecond(Timestamp::now().as_microsecond()).expect("the present is within jiff's range")
}

fn civil(time: Timestamp) -> DateTime {
    time.to_zoned(TimeZone::UTC).datetime()
}

/// As Python's `isoformat` without a zone: no fraction when the microseconds are 0.
fn naive(time: Timestamp) -> String {
    let time = civil(time);
    let micros = time.subsec_nanosecond() / 1_000;
    let whole = time.strftime("%Y-%m-%dT%H:%M:%S");
    if micros == 0 {
        whole.to_string()
    } else {
        format!("{whole}.{micros:06}")
    }
}

/// As events and logs have it: `2026-11-21T05:01:05.869831+00:00`.
pub(crate) fn iso(time: Timestamp) -> String {
    naive(time) + "+00:00"
}

/// As the REST answers have it: Django REST framework writes `Z`.
pub(crate) fn rest(time: Timestamp) -> String {
    naive(time) + "Z"
}

/// As XML-RPC has it: `20261121T05:01:05`, no zone, no fraction.
pub(crate) fn xml_rpc(time: Timestamp) -> String {
    civil(time).strftime("%Y%m%dT%H:%M:%S").to_string()
}

/// A time in a query string. Without a zone it is UTC, as Django is set there.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let time = text.parse::<DateTime>().ok()?;
    time.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_whole_second_has_no_fraction() {
        let time: Timestamp = "2026-11-21T05:01:05Z".parse().unwrap();
        assert_eq!(iso(time), "2026-11-21T05:01:05+00:00");
        let time: Timestamp = "2026-11-21T05:01:05.00987Z".parse().unwrap();
        assert_eq!(iso(time), "2026-11-21T05:01:05.009870+00:00");
        assert_eq!(rest(time), "2026-11-21T05:01:05.009870Z");
        assert_eq!(xml_rpc(time), "20261121T05:01:05");
    }

    #[test]
    fn a_time_without_a_zone_is_utc() {
        assert_eq!(parse("2026-11-21T05:01:05"), parse("2026-11-21T05:01:05Z"));
        assert_eq!(parse("2026-11-21T06:01:05+01:00"), parse("2026-11-21 05:01:05"));
        // What is left of an unescaped `+00:00`.
        assert_eq!(parse("2026-11-21T05:01:05 00:00"), None);
    }
}
