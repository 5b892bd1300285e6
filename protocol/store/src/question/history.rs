//! What was tried on a device, and what follows from it: streak, success rate, and whether a failure is a fluke.
//!
//! A job counts once: its phases are listed, but where the job as a whole is known only that decides. What is neutral
//! counts neither way.

mod verdict;

use std::fmt;

use lavabus_protocol::event::shorten;
use lavabus_protocol::redact::redact;

pub use self::verdict::{Failure, Verdict};
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
    shorten(line, CAUSE_SHOWN).into_owned()
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
}
