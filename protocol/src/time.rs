//! Times and durations as people write them.
//!
//! Everything here is a function of its arguments: the present time is one of them.

use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp, ToSpan, Zoned};

/// Reads a duration: `90s`, `20m`, `1h30m`, `2 hours`, `500ms`, `30d`.
///
/// A day has 24 hours, a week 7 days. Months and years have no fixed length and are refused.
///
/// ```
/// use std::time::Duration;
/// use lavabus_protocol::time::parse_duration;
///
/// assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
/// assert!(parse_duration("90").is_err());
/// ```
///
/// # Errors
///
/// [`TimeError::Duration`] lists the forms.
pub fn parse_duration(text: &str) -> Result<Duration, TimeError> {
    signed(text)
        .filter(|_| !text.trim_start().starts_with(['-', '+']) && !text.trim_end().ends_with("ago"))
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| TimeError::Duration { found: text.to_owned() })
}

fn signed(text: &str) -> Option<SignedDuration> {
    let span: Span = text.trim().parse().ok()?;
    span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()
}

/// Reads a point in time. `now` is the present, in the time zone of who asks.
///
/// | form | means |
/// |---|---|
/// | `2026-11-21T05:01:05Z`, `…+02:00` | RFC 3339 |
/// | `2026-11-21T05:01:05`, `2026-11-21 05:01` | the same without offset: in the zone of `now` |
/// | `2026-11-21` | the start of that day in the zone of `now` |
/// | `2h ago`, `-2h` | before `now` |
/// | `now`, `today`, `yesterday` | `now`; the start of that day in its zone |
/// | `@1795237265`, `@1795237265.5` | seconds since 1970-01-01 UTC |
///
/// ```
/// use lavabus_protocol::time::parse_time;
///
/// let now: jiff::Zoned = "2026-11-21T06:00:00+01:00[Europe/Berlin]".parse()?;
/// assert_eq!(parse_time("2h ago", &now)?.to_string(), "2026-11-21T03:00:00Z");
/// assert_eq!(parse_time("yesterday", &now)?.to_string(), "2026-11-19T23:00:00Z");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`TimeError::Time`] lists the forms; [`TimeError::Range`] for a time beyond the years -9999 to 9999.
pub fn parse_time(text: &str, now: &Zoned) -> Result<Timestamp, TimeError> {
    let range = |_| TimeError::Range { found: text.to_owned() };
    let trimmed = text.trim();
    if trimmed.eq_ignore_ascii_case("now") {
        return Ok(now.timestamp());
    }
    if trimmed.eq_ignore_ascii_case("today") {
        return now.start_of_day().map(|at| at.timestamp()).map_err(range);
    }
    if trimmed.eq_ignore_ascii_case("yesterday") {
        let yesterday = now.checked_sub(1.day()).and_then(|at| at.start_of_day());
        return yesterday.map(|at| at.timestamp()).map_err(range);
    }
    if let Some(seconds) = trimmed.strip_prefix('@') {
        return epoch_seconds(seconds).ok_or_else(|| TimeError::Time { found: text.to_owned() });
    }
    if let Some(ago) = before_now(trimmed) {
        return now.timestamp().checked_sub(ago).map_err(range);
    }
    if let Ok(timestamp) = trimmed.parse::<Timestamp>() {
        return Ok(timestamp);
    }
    // A date alone is read as one first: as a DateTime it would be midnight, which some days do not have.
    let local = match trimmed.parse::<Date>() {
        Ok(date) if trimmed.len() <= "2026-11-21".len() => {
            date.to_zoned(now.time_zone().clone()).and_then(|at| at.start_of_day())
        }
        _ => match trimmed.parse::<DateTime>() {
            Ok(datetime) => datetime.to_zoned(now.time_zone().clone()),
            Err(_) => return Err(TimeError::Time { found: text.to_owned() }),
        },
    };
    local.map(|at| at.timestamp()).map_err(range)
}

/// `2h ago` and `-2h`, but neither `2h` (which end of it?) nor `-2h ago`.
fn before_now(text: &str) -> Option<SignedDuration> {
    let length = text.strip_prefix('-').or_else(|| text.strip_suffix("ago"))?;
    parse_duration(length)
        .ok()
        .and_then(|length| SignedDuration::try_from(length).ok())
}

fn epoch_seconds(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds.strip_prefix('-').unwrap_or(seconds)) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanoseconds: i32 = format!("{fraction:0<9}").parse().ok()?;
    let sign = if seconds.starts_with('-') { -1 } else { 1 };
    Timestamp::new(seconds.parse().ok()?, sign * nanoseconds).ok()
}

/// Why a text is no time or no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// It is no duration.
    #[error("{found:?} is no duration, expected a number with its unit such as 90s, 20m, 1h30m or 30d")]
    Duration {
        /// What was written.
        found: String,
    },
    /// It is no point in time.
    #[error(
        "{found:?} is no time, expected RFC 3339 (2026-11-21T05:01:05Z), a date (2026-11-21), \"2h ago\", -2h, now, \
         today, yesterday or @EPOCH-SECONDS"
    )]
    Time {
        /// What was written.
        found: String,
    },
    /// It is a time, but too far away.
    #[error("{found:?} is out of range, expected a time between the years -9999 and 9999")]
    Range {
        /// What was written.
        found: String,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Zoned {
        "2026-11-21T06:30:00+01:00[Europe/Berlin]".parse().unwrap()
    }

    fn at(text: &str) -> String {
        parse_time(text, &now()).map_or_else(|error| error.to_string(), |at| at.to_string())
    }

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("90s", 90),
            ("20m", 1200),
            ("1h30m", 5400),
            ("1h 30m", 5400),
            ("2 hours", 7200),
            ("30d", 2_592_000),
            ("1w", 604_800),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        for text in [
            "",
            "90",
            "s",
            "-5s",
            "+5s",
            "5s ago",
            "1mo",
            "1y",
            "1h30",
            "9999999999999d",
            "soon",
        ] {
            assert!(
                matches!(parse_duration(text), Err(TimeError::Duration { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn every_form_of_a_time() {
        for (text, expected) in [
            ("2026-11-21T05:01:05Z", "2026-11-21T05:01:05Z"),
            ("2026-11-21T07:01:05.25+02:00", "2026-11-21T05:01:05.25Z"),
            ("2026-11-21 05:01:05Z", "2026-11-21T05:01:05Z"),
            ("2026-11-21T05:01:05", "2026-11-21T04:01:05Z"),
            ("2026-11-21 05:01", "2026-11-21T04:01:00Z"),
            ("2026-11-21", "2026-11-20T23:00:00Z"),
            ("2026-07-01", "2026-06-30T22:00:00Z"),
            ("now", "2026-11-21T05:30:00Z"),
            ("Today", "2026-11-20T23:00:00Z"),
            ("yesterday", "2026-11-19T23:00:00Z"),
            ("2h ago", "2026-11-21T03:30:00Z"),
            ("2 hours ago", "2026-11-21T03:30:00Z"),
            ("1d ago", "2026-11-20T05:30:00Z"),
            ("-2h", "2026-11-21T03:30:00Z"),
            ("-1h30m", "2026-11-21T04:00:00Z"),
            ("@1795237265", "2026-11-21T05:01:05Z"),
            ("@1795237265.25", "2026-11-21T05:01:05.25Z"),
            ("@0", "1970-01-01T00:00:00Z"),
            ("@-0.5", "1969-12-31T23:59:59.5Z"),
        ] {
            assert_eq!(at(text), expected, "{text}");
        }
    }

    #[test]
    fn a_day_whose_midnight_does_not_exist_begins_later() {
        let now: Zoned = "2024-01-01T00:00:00+02:00[Africa/Cairo]".parse().unwrap();
        // Clocks in Cairo went from 23:59:59 to 01:00:00 on that day.
        assert_eq!(
            parse_time("2024-04-26", &now).unwrap().to_string(),
            "2024-04-25T22:00:00Z"
        );
    }

    #[test]
    fn faults_list_the_forms() {
        for text in [
            "",
            "2h",
            "2h from now",
            "-2h ago",
            "tomorrow",
            "@",
            "@x",
            "@1.",
            "1795237265",
            "2026-13-01",
            "25:00",
            "--2h",
        ] {
            assert!(
                matches!(parse_time(text, &now()), Err(TimeError::Time { .. })),
                "{text}: {}",
                at(text)
            );
        }
        assert!(at("soon").contains("\"2h ago\""));
        assert!(matches!(
            parse_time("-9999999d", &now()),
            Err(TimeError::Range { .. } | TimeError::Time { .. })
        ));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,30}|[-@0-9hms dago.:TZ+]{0,24}") {
            let _ = parse_duration(&text);
            let _ = parse_time(&text, &now());
        }

        #[test]
        fn seconds_read_back(seconds in -300_000_000_000_i64..250_000_000_000) {
            let at = parse_time(&format!("@{seconds}"), &now()).unwrap();
            prop_assert_eq!(at.as_second(), seconds);
        }
    }
}
