//! Is a failure a fluke, or has it failed all day? One line of what was tried.

use std::fmt;

use jiff::Timestamp;

use super::{Try, streak};
use crate::projection::attempt::Outcome;

/// A failure that is told of by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Of which job.
    pub job: Option<String>,
    /// Why.
    pub cause: Option<String>,
}

/// Is this failure a fluke, or has it failed all day?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is known that passed or failed.
    Unknown,
    /// It passes, and nothing failed lately.
    Healthy {
        /// In a row.
        passes: usize,
    },
    /// It failed once lately, and passed right before and ever since.
    Fluke(Failure),
    /// It failed lately, and passes again.
    Recovered {
        /// How often it failed in a row.
        fails: usize,
        /// How often it passed since.
        passes: usize,
        /// The last of the failures.
        last: Failure,
    },
    /// It fails now and then.
    Flaky {
        /// How often it failed lately.
        fails: usize,
        /// How often it was tried lately.
        tries: usize,
        /// The last of the failures.
        last: Failure,
    },
    /// The last try failed, and nothing else did lately: nobody can tell yet.
    FailedOnce {
        /// That failure.
        last: Failure,
        /// How often it passed in a row before.
        passes: usize,
    },
    /// It fails.
    Failing {
        /// Since when, in µs since 1970.
        since_us: i64,
        /// How often in a row.
        fails: usize,
        /// The most frequent of the causes, and how often it was that one.
        cause: Option<(String, usize)>,
    },
}

impl Verdict {
    /// What follows from these tries, the newest first. Lately is within `window_us` before the newest one, so the verdict
    /// depends on nothing but what was tried.
    pub fn of(tries: &[Try], window_us: i64) -> Verdict {
        let (Some(newest), Some(streak)) = (tries.first(), streak(tries)) else {
            return Verdict::Unknown;
        };
        let (in_streak, before) = tries.split_at(streak.count);
        let failure = |one: &Try| Failure {
            job: one.job.clone(),
            cause: one.cause.clone(),
        };
        let lately: Vec<&Try> = tries
            .iter()
            .take_while(|one| one.at_us >= newest.at_us.saturating_sub(window_us))
            .collect();
        let failed: Vec<usize> = (0..lately.len())
            .filter(|at| lately[*at].outcome == Outcome::Fail)
            .collect();
        if streak.outcome == Outcome::Fail {
            return match (in_streak, before) {
                ([only], [_, ..]) if failed.len() <= 1 => Verdict::FailedOnce {
                    last: failure(only),
                    passes: self::streak(before).map_or(0, |streak| streak.count),
                },
                ([only], [_, ..]) => Verdict::Flaky {
                    fails: failed.len(),
                    tries: lately.len(),
                    last: failure(only),
                },
                _ => Verdict::Failing {
                    since_us: in_streak.last().unwrap_or(newest).at_us,
                    fails: streak.count,
                    cause: most_frequent_cause(in_streak),
                },
            };
        }
        let Some(last) = failed.first() else {
            return Verdict::Healthy { passes: streak.count };
        };
        let last_failure = failure(lately[*last]);
        let in_a_row = tries[*last..]
            .iter()
            .take_while(|one| one.outcome == Outcome::Fail)
            .count();
        let passed_before = tries.len() > last + in_a_row;
        match failed.len() {
            fails if fails > in_a_row => Verdict::Flaky {
                fails,
                tries: lately.len(),
                last: last_failure,
            },
            _ if in_a_row == 1 && passed_before => Verdict::Fluke(last_failure),
            _ => Verdict::Recovered {
                fails: in_a_row,
                passes: streak.count,
                last: last_failure,
            },
        }
    }

    /// One word for programs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Verdict::Unknown => "unknown",
            Verdict::Healthy { .. } => "healthy",
            Verdict::Fluke(_) => "fluke",
            Verdict::Recovered { .. } => "recovered",
            Verdict::Flaky { .. } => "flaky",
            Verdict::FailedOnce { .. } => "failed_once",
            Verdict::Failing { .. } => "failing",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.job, &self.cause) {
            (Some(job), Some(cause)) => write!(f, "job {job}: {cause}"),
            (Some(job), None) => write!(f, "job {job}: no cause told"),
            (None, Some(cause)) => f.write_str(cause),
            (None, None) => f.write_str("no cause told"),
        }
    }
}

struct Times(usize);

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("once"),
            count => write!(f, "{count} times"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Unknown => f.write_str("no attempts known"),
            Verdict::Healthy { passes: 1 } => f.write_str("healthy: passed once"),
            Verdict::Healthy { passes } => write!(f, "healthy: {passes} passes in a row"),
            Verdict::Fluke(failure) => write!(f, "fluke: failed once ({failure}), passed before and since"),
            Verdict::Recovered { fails: 1, passes, last } => {
                write!(f, "recovered: failed once ({last}), passed {} since", Times(*passes))
            }
            Verdict::Recovered { fails, passes, last } => {
                write!(
                    f,
                    "recovered: failed {fails} in a row (last {last}), passed {} since",
                    Times(*passes)
                )
            }
            Verdict::Flaky { fails, tries, last } => write!(f, "flaky: {fails} of {tries} failed (last {last})"),
            Verdict::FailedOnce { last, passes } => {
                write!(f, "failed once ({last}), passed {} before", Times(*passes))
            }
            Verdict::Failing { since_us, fails, cause } => {
                let since = match Timestamp::from_microsecond(*since_us) {
                    Ok(since) => since.strftime("%Y-%m-%d %H:%M:%S").to_string(),
                    Err(_) => format!("@{since_us}us"),
                };
                write!(f, "failing since {since}: ")?;
                match (fails, cause) {
                    (1, Some((cause, _))) => write!(f, "once: {cause}"),
                    (1, None) => f.write_str("once, no cause told"),
                    (fails, None) => write!(f, "{fails} in a row, no cause told"),
                    (fails, Some((cause, 1))) => {
                        write!(f, "{fails} in a row, no two with the same cause, last: {cause}")
                    }
                    (fails, Some((cause, times))) => {
                        write!(f, "{fails} in a row, {times} times with the same cause: {cause}")
                    }
                }
            }
        }
    }
}

/// Two causes that differ in figures only are the same: durations, addresses, process ids.
fn is_same_cause(a: &str, b: &str) -> bool {
    let without_figures = |text: &str| -> String {
        let mut shape: Vec<char> = text
            .chars()
            .map(|character| if character.is_ascii_digit() { '0' } else { character })
            .collect();
        shape.dedup_by(|a, b| *a == '0' && *b == '0');
        shape.into_iter().collect()
    };
    without_figures(a) == without_figures(b)
}

/// Of equally frequent ones the newest.
fn most_frequent_cause(tries: &[Try]) -> Option<(String, usize)> {
    let causes: Vec<&str> = tries.iter().filter_map(|one| one.cause.as_deref()).collect();
    let mut best: Option<(&str, usize)> = None;
    for cause in &causes {
        let count = causes.iter().filter(|other| is_same_cause(other, cause)).count();
        if best.is_none_or(|(_, most)| count > most) {
            best = Some((cause, count));
        }
    }
    best.map(|(cause, count)| (cause.to_owned(), count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::history::WINDOW_US;

    const HOUR_US: i64 = 3_600 * 1_000_000;

    /// From the oldest to the newest, one an hour: `.` passes; `x`, `y` fail with that cause; `?` fails, nobody knows why;
    /// `_` is an hour without any; `~` is two days without.
    fn story(text: &str) -> Vec<Try> {
        let mut at_us = 1_795_237_200_000_000;
        let mut tries = Vec::new();
        for (number, what) in (1..).zip(text.chars()) {
            at_us += if what == '~' { WINDOW_US } else { HOUR_US };
            let cause = match what {
                '.' | '?' => None,
                'x' => Some(format!("no prompt after {number} s")),
                other => Some(other.to_string()),
            };
            if !"_~".contains(what) {
                tries.push(Try {
                    outcome: if what == '.' { Outcome::Pass } else { Outcome::Fail },
                    at_us,
                    job: Some(number.to_string()),
                    cause,
                });
            }
        }
        tries.reverse();
        tries
    }

    #[test]
    fn a_line_for_each_story() {
        for (text, line) in [
            ("", "no attempts known"),
            (".", "healthy: passed once"),
            ("............", "healthy: 12 passes in a row"),
            (
                "..x..",
                "fluke: failed once (job 3: no prompt after 3 s), passed before and since",
            ),
            (
                "..?.",
                "fluke: failed once (job 3: no cause told), passed before and since",
            ),
            // Long ago is no news.
            ("..x~..", "healthy: 2 passes in a row"),
            (".x~", "failed once (job 2: no prompt after 2 s), passed once before"),
            ("x", "failing since 2026-11-21 06:00:00: once: no prompt after 1 s"),
            ("?", "failing since 2026-11-21 06:00:00: once, no cause told"),
            ("..x", "failed once (job 3: no prompt after 3 s), passed 2 times before"),
            (
                "..xxyx",
                "failing since 2026-11-21 08:00:00: 4 in a row, 3 times with the same cause: no prompt after 6 s",
            ),
            (
                "..yz",
                "failing since 2026-11-21 08:00:00: 2 in a row, no two with the same cause, last: z",
            ),
            ("..??", "failing since 2026-11-21 08:00:00: 2 in a row, no cause told"),
            (
                "..?y",
                "failing since 2026-11-21 08:00:00: 2 in a row, no two with the same cause, last: y",
            ),
            (
                ".xxy..",
                "recovered: failed 3 in a row (last job 4: y), passed 2 times since",
            ),
            // Nobody knows what was before.
            ("y.", "recovered: failed once (job 1: y), passed once since"),
            (".y.z.", "flaky: 2 of 5 failed (last job 4: z)"),
            (".yy.z.", "flaky: 3 of 6 failed (last job 5: z)"),
            (".y.y.z", "flaky: 3 of 6 failed (last job 6: z)"),
            (".y~.z", "failed once (job 5: z), passed once before"),
            (".y~.z.", "fluke: failed once (job 5: z), passed before and since"),
        ] {
            assert_eq!(Verdict::of(&story(text), WINDOW_US).to_string(), line, "{text}");
        }
    }
}
