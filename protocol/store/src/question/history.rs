//! What was tried on a device, and what follows from it: streak, success rate, and whether a failure is a fluke.
//!
//! A job counts once: its phases are listed, but where the job as a whole is known only that decides. What is neutral
//! counts neither way.

use std::fmt;

use jiff::Timestamp;
use lavabus_protocol::redact::redact;

use super::{Answer, Moment};
use crate::error::StoreError;
use crate::projection::attempt::{Attempt, Outcome, WHOLE_JOB};
use crate::reader::Reader;

/// The span of a success rate, and in which a failure is news, unless another is asked for: two days, in µs.
pub const WINDOW_US: i64 = 2 * 24 * 3_600 * 1_000_000;

/// A cause is shown up to so many characters.
const CAUSE_SHOWN: usize = 160;

const OF_DEVICE: &str = "SELECT * FROM attempt WHERE lab = ?1 AND device = ?2 ORDER BY first_seq";
const NEXT_LAB: &str = "SELECT min(lab) FROM attempt WHERE lab >= ?1";
const OF_JOB: &str = "SELECT * FROM attempt WHERE job = ?1";

#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[OF_DEVICE, NEXT_LAB, OF_JOB];

/// What was tried on one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceHistory {
    /// In which lab; empty where there is only one.
    pub lab: String,
    /// Its name.
    pub device: String,
    /// The newest first.
    pub attempts: Vec<Attempt>,
}

/// The same outcome several times in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streak {
    /// Pass or fail, never neutral.
    pub outcome: Outcome,
    /// How often.
    pub count: usize,
}

impl fmt::Display for Streak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.outcome.as_str(), self.count)
    }
}

/// How often it went well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rate {
    /// How often it passed.
    pub passes: u64,
    /// How often it failed.
    pub fails: u64,
}

impl Rate {
    /// Passes of all, between 0 and 1; `None` without data, which is not 0.
    pub fn share(self) -> Option<f64> {
        let all = self.passes + self.fails;
        (all > 0).then(|| self.passes as f64 / all as f64)
    }
}

/// One try that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Try {
    /// [`Outcome::Neutral`] is left out everywhere.
    pub outcome: Outcome,
    /// When it ended, in µs since 1970.
    pub at_us: i64,
    /// Of which job.
    pub job: Option<String>,
    /// Why it failed, in one line without secrets, where that was told.
    pub cause: Option<String>,
}

/// The tries among `attempts`, in the same order.
pub fn tries(attempts: &[Attempt]) -> Vec<Try> {
    let is_whole = |attempt: &Attempt| attempt.phase == WHOLE_JOB;
    let of_same_job = |a: &Attempt, b: &Attempt| a.job.is_some() && a.job == b.job;
    let counts = |attempt: &&Attempt| {
        is_whole(attempt)
            || !attempts
                .iter()
                .any(|other| is_whole(other) && of_same_job(other, attempt))
    };
    let counting = attempts.iter().filter(counts);
    let is_failed_phase_of =
        |whole: &Attempt, phase: &Attempt| phase.outcome == Outcome::Fail && of_same_job(whole, phase);
    counting
        .map(|attempt| {
            let of_phase = || {
                attempts
                    .iter()
                    .filter(|phase| is_failed_phase_of(attempt, phase))
                    .find_map(cause)
            };
            Try {
                outcome: attempt.outcome,
                at_us: attempt.finished_us,
                job: attempt.job.clone(),
                cause: match attempt.outcome {
                    Outcome::Fail => cause(attempt).or_else(of_phase),
                    _ => None,
                },
            }
        })
        .filter(|one| one.outcome != Outcome::Neutral)
        .collect()
}

/// Why it ended so, as far as it was told: its text, its class, or its exit code if that is not 0.
pub fn cause(attempt: &Attempt) -> Option<String> {
    let text = attempt.detail.as_deref().map(one_line).filter(|line| !line.is_empty());
    text.or_else(|| attempt.error_type.clone())
        .or_else(|| Some(format!("exit code {}", attempt.exit_code.filter(|code| *code != 0)?)))
}

/// The first line that says anything, without secrets, and not too long.
pub fn one_line(text: &str) -> String {
    let text = redact(text);
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    shorten(line, CAUSE_SHOWN)
}

/// At most so many characters, the last of which are `...` if there were more.
pub fn shorten(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some(_) => text
            .chars()
            .take(characters.saturating_sub(3))
            .chain("...".chars())
            .collect(),
    }
}

/// The same without causes, of which only the newest one is looked for: for a list of many devices.
pub(super) fn tries_and_newest_cause(attempts: &[Attempt]) -> (Vec<Try>, Option<String>) {
    let without_texts: Vec<Attempt> = attempts
        .iter()
        .map(|attempt| Attempt {
            detail: None,
            error_type: None,
            exit_code: None,
            ..attempt.clone()
        })
        .collect();
    let light = tries(&without_texts);
    let newest = light.first().filter(|newest| newest.outcome == Outcome::Fail);
    let of_newest = |attempt: &&Attempt| {
        newest.is_some_and(|newest| {
            attempt.job == newest.job && (newest.job.is_some() || attempt.finished_us == newest.at_us)
        })
    };
    let few: Vec<Attempt> = attempts.iter().filter(of_newest).cloned().collect();
    let cause = tries(&few).into_iter().next().and_then(|newest| newest.cause);
    (light, cause)
}

/// The streak that the newest of these tries, which come first, belongs to.
pub fn streak(tries: &[Try]) -> Option<Streak> {
    let outcome = tries.first()?.outcome;
    let count = tries.iter().take_while(|one| one.outcome == outcome).count();
    Some(Streak { outcome, count })
}

/// How the tries went that ended at `from_us` or later (µs since 1970).
pub fn rate(tries: &[Try], from_us: i64) -> Rate {
    let mut rate = Rate::default();
    for one in tries.iter().filter(|one| one.at_us >= from_us) {
        match one.outcome {
            Outcome::Pass => rate.passes += 1,
            Outcome::Fail => rate.fails += 1,
            Outcome::Neutral => {}
        }
    }
    rate
}

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

impl Moment<'_> {
    /// The attempts on a device in one lab, the newest first.
    pub(super) fn attempts_on(&self, lab: &str, device: &str) -> Result<Vec<Attempt>, StoreError> {
        let changed = &self.history.attempts;
        let mut attempts = match changed.get(&vec![lab.to_owned(), device.to_owned()]) {
            Some(attempts) => attempts.to_vec(),
            None => {
                let mut select = self.conn.prepare_cached(OF_DEVICE)?;
                let rows = select.query_map([lab, device], crate::projection::rows::Projection::read)?;
                rows.collect::<Result<_, _>>()?
            }
        };
        newest_first(&mut attempts);
        Ok(attempts)
    }

    /// The attempts of a job, the newest first.
    pub(super) fn attempts_of_job(&self, lab: &str, job: &str) -> Result<Vec<Attempt>, StoreError> {
        let wanted = |attempt: &Attempt| attempt.lab == lab && attempt.job.as_deref() == Some(job);
        let mut attempts = super::collect(&self.conn, OF_JOB, [job], &self.history.attempts, wanted)?;
        newest_first(&mut attempts);
        Ok(attempts)
    }
}

fn newest_first(attempts: &mut [Attempt]) {
    attempts.sort_by_key(|attempt| std::cmp::Reverse((attempt.finished_us, attempt.first_seq)));
}

impl Reader {
    /// What was tried on the device of this name, in each lab where anything was, or in the one that is asked for.
    pub fn device_history(&self, device: &str, lab: Option<&str>) -> Result<Answer<Vec<DeviceHistory>>, StoreError> {
        let moment = self.moment()?;
        let mut labs = moment.labs(NEXT_LAB, lab)?;
        let changed = moment.history.attempts.iter();
        labs.extend(
            changed
                .filter_map(|(owner, _)| owner.first().cloned())
                .filter(|of| super::is_lab(lab, of)),
        );
        labs.sort();
        labs.dedup();
        let mut histories = Vec::new();
        for lab in labs {
            let attempts = moment.attempts_on(&lab, device)?;
            if !attempts.is_empty() {
                histories.push(DeviceHistory {
                    lab,
                    device: device.to_owned(),
                    attempts,
                });
            }
        }
        Ok(moment.answer(histories))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn attempt(job: &str, phase: &str, outcome: Outcome, detail: Option<&str>) -> Attempt {
        Attempt {
            lab: String::new(),
            device: "qemu-01".to_owned(),
            first_seq: 1,
            touched: 1,
            job: Some(job.to_owned()),
            phase: phase.to_owned(),
            outcome,
            exit_code: None,
            error_type: None,
            detail: detail.map(str::to_owned),
            started_us: None,
            finished_us: 0,
            told_by: "attempt".to_owned(),
        }
    }

    #[test]
    fn a_job_counts_once_and_its_phase_tells_why() {
        let attempts = [
            attempt("2", WHOLE_JOB, Outcome::Fail, None),
            attempt("2", "provision", Outcome::Fail, Some("no link\nmore")),
            attempt("1", "provision", Outcome::Pass, None),
            attempt("1", "test", Outcome::Fail, Some("token=abc is wrong")),
            attempt("0", WHOLE_JOB, Outcome::Neutral, None),
        ];
        let tries: Vec<(Option<String>, Outcome, Option<String>)> = tries(&attempts)
            .into_iter()
            .map(|one| (one.job, one.outcome, one.cause))
            .collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            tries,
            [
                (some("2"), Outcome::Fail, some("no link")),
                (some("1"), Outcome::Pass, None),
                (some("1"), Outcome::Fail, some("token=… is wrong")),
            ]
        );
    }

    #[test]
    fn neutral_breaks_no_streak_and_no_data_is_no_rate() {
        let attempts = [
            attempt("3", WHOLE_JOB, Outcome::Pass, None),
            attempt("2", WHOLE_JOB, Outcome::Neutral, None),
            attempt("1", WHOLE_JOB, Outcome::Pass, None),
            attempt("0", WHOLE_JOB, Outcome::Fail, None),
        ];
        let tries = tries(&attempts);
        assert_eq!(
            streak(&tries).map(|streak| streak.to_string()).as_deref(),
            Some("pass 2")
        );
        assert_eq!(rate(&tries, 0).share(), Some(2.0 / 3.0));
        assert_eq!(rate(&tries, 1).share(), None);
        assert_eq!(streak(&[]), None);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shorten("äöüä", 4), "äöüä");
        assert_eq!(shorten("äöüäö", 4), "ä...");
    }
}
