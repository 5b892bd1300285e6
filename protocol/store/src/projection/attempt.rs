//! What was tried on each device, and what came of it: the newest [`KEPT`] a device.
//!
//! A plain LAVA stream tells an attempt by a job's Finished event: Complete passes, Incomplete fails, Canceled is
//! neutral. An `.attempt` event of the whole job, which knows the cause, completes that row; of a phase it is a row of
//! its own. Attempts are appended, never replaced.

use lavabus_protocol::event::{Body, MAX_DETAILS, error_type, health};
use rusqlite::Row as SqlRow;
use rusqlite::types::Value;

use super::rows::{Owner, Projection, Table};
use super::told::{kept, name};
use super::{Told, integer, text};

/// How many attempts are kept of each device.
pub const KEPT: usize = 100;

/// The phase of an attempt that is a whole job.
pub const WHOLE_JOB: &str = "job";

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It went well.
    Pass,
    /// It failed, and the device or what is around it may be the cause.
    Fail,
    /// It says nothing of the device.
    Neutral,
}

impl Outcome {
    /// `pass`, `fail`, `neutral`.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Fail => "fail",
            Outcome::Neutral => "neutral",
        }
    }

    fn parse(text: &str) -> Option<Outcome> {
        [Outcome::Pass, Outcome::Fail, Outcome::Neutral]
            .into_iter()
            .find(|outcome| outcome.as_str().eq_ignore_ascii_case(text))
    }
}

/// One try at something on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// In which lab; empty where there is only one.
    pub lab: String,
    /// On which device.
    pub device: String,
    /// The number of the event that told of it first.
    pub first_seq: u64,
    /// The number of the last event that told of it.
    pub touched: u64,
    /// Of which job.
    pub job: Option<String>,
    /// Which part of the job; [`WHOLE_JOB`].
    pub phase: String,
    /// What came of it.
    pub outcome: Outcome,
    /// 0 is success.
    pub exit_code: Option<i64>,
    /// LAVA's class of the error.
    pub error_type: Option<String>,
    /// The error's text.
    pub detail: Option<String>,
    /// When it began, in µs since 1970.
    pub started_us: Option<i64>,
    /// When it ended, in µs since 1970.
    pub finished_us: i64,
    /// Which kinds of events told of it: `testjob`, `attempt` or `both`.
    pub told_by: String,
}

impl Attempt {
    fn of_job(told: &Told<'_>) -> Option<Attempt> {
        let Body::Job(job) = told.event.body() else { return None };
        let outcome = match job.health.as_deref() {
            _ if !told.event.is_finished() => return None,
            Some(health) if health.eq_ignore_ascii_case(health::COMPLETE) => Outcome::Pass,
            Some(health) if health.eq_ignore_ascii_case(health::INCOMPLETE) => Outcome::Fail,
            Some(health) if health.eq_ignore_ascii_case(health::CANCELED) => Outcome::Neutral,
            // It is not known yet.
            _ => return None,
        };
        Some(Attempt {
            lab: told.row.lab.to_owned(),
            device: name(job.device.as_deref())?,
            first_seq: told.row.seq,
            touched: told.row.seq,
            job: Some(job.job.as_ref()?.to_string()),
            phase: WHOLE_JOB.to_owned(),
            outcome,
            exit_code: None,
            error_type: None,
            detail: None,
            started_us: told.time_us(job.start_time.as_deref()),
            finished_us: told.time_us(job.end_time.as_deref()).unwrap_or(told.at_us()),
            told_by: "testjob".to_owned(),
        })
    }

    fn told_itself(told: &Told<'_>) -> Option<Attempt> {
        let Body::Attempt(attempt) = told.event.body() else {
            return None;
        };
        let class = attempt.error_type.as_deref();
        let outcome = match (attempt.outcome.as_deref().and_then(Outcome::parse), attempt.exit_code) {
            (Some(outcome), _) => outcome,
            (None, Some(0)) => Outcome::Pass,
            (None, Some(_)) if class.and_then(error_type::is_neutral) == Some(true) => Outcome::Neutral,
            (None, Some(_)) => Outcome::Fail,
            (None, None) => Outcome::Neutral,
        };
        Some(Attempt {
            lab: told.row.lab.to_owned(),
            device: name(attempt.device.as_deref())?,
            first_seq: told.row.seq,
            touched: told.row.seq,
            job: attempt.job.as_ref().map(ToString::to_string),
            phase: name(attempt.phase.as_deref()).unwrap_or_else(|| WHOLE_JOB.to_owned()),
            outcome,
            exit_code: attempt.exit_code,
            error_type: name(attempt.error_type.as_deref()),
            detail: kept(attempt.detail.as_deref(), MAX_DETAILS),
            started_us: told.time_us(attempt.started.as_deref()),
            finished_us: told.time_us(attempt.finished.as_deref()).unwrap_or(told.at_us()),
            told_by: "attempt".to_owned(),
        })
    }

    fn of(told: &Told<'_>) -> Option<Attempt> {
        Attempt::of_job(told).or_else(|| Attempt::told_itself(told))
    }

    /// Whether `other` is the same whole job, told by an event of the other kind.
    fn is_other_half_of(&self, other: &Attempt) -> bool {
        let halves = [self.told_by.as_str(), other.told_by.as_str()];
        self.phase == WHOLE_JOB
            && other.phase == WHOLE_JOB
            && self.job.is_some()
            && self.job == other.job
            && (halves == ["testjob", "attempt"] || halves == ["attempt", "testjob"])
    }

    /// A job's Finished event is repeated whenever the job is saved.
    fn is_repeat_of(&self, other: &Attempt) -> bool {
        self.told_by == "testjob" && other.told_by != "attempt" && self.phase == other.phase && self.job == other.job
    }

    /// The row keeps its place and its times. Who knows the cause is right about the outcome, unless all that it says
    /// is a number: a job that somebody stopped has not failed, and no number at all says nothing.
    fn complete(&mut self, other: &Attempt) {
        let (lava, cause) = match other.told_by.as_str() {
            "attempt" => (self.clone(), other),
            _ => (other.clone(), &self.clone()),
        };
        let says_why = cause.error_type.is_some() || cause.outcome == Outcome::Pass || lava.outcome != Outcome::Neutral;
        let says_anything = cause.exit_code.is_some() || cause.outcome != Outcome::Neutral;
        self.outcome = if says_why && says_anything {
            cause.outcome
        } else {
            lava.outcome
        };
        self.exit_code = cause.exit_code;
        self.error_type.clone_from(&cause.error_type);
        self.detail.clone_from(&cause.detail);
        self.started_us = self.started_us.or(other.started_us);
        self.touched = other.touched;
        self.told_by = "both".to_owned();
    }
}

impl Projection for Attempt {
    const TABLE: Table = Table {
        name: "attempt",
        owner: &["lab", "device"],
        rest: &[
            "job",
            "phase",
            "outcome",
            "exit_code",
            "error_type",
            "detail",
            "started_us",
            "finished_us",
            "told_by",
        ],
        outlives: true,
    };

    fn owners(told: &Told<'_>) -> Vec<Owner> {
        let attempt = Attempt::of(told);
        attempt
            .map(|attempt| vec![attempt.lab, attempt.device])
            .into_iter()
            .collect()
    }

    fn apply(rows: &mut Vec<Attempt>, _owner: &Owner, told: &Told<'_>) {
        let Some(attempt) = Attempt::of(told) else { return };
        if let Some(known) = rows.iter_mut().find(|known| known.is_other_half_of(&attempt)) {
            known.complete(&attempt);
        } else if let Some(known) = rows.iter_mut().find(|known| attempt.is_repeat_of(known)) {
            known.touched = attempt.touched;
        } else {
            rows.push(attempt);
            if rows.len() > KEPT {
                let oldest = (0..rows.len()).min_by_key(|at| (rows[*at].finished_us, rows[*at].first_seq));
                rows.remove(oldest.unwrap_or(0));
            }
        }
    }

    fn first_seq(&self) -> u64 {
        self.first_seq
    }

    fn touched(&self) -> u64 {
        self.touched
    }

    fn read(row: &SqlRow<'_>) -> Result<Attempt, rusqlite::Error> {
        Ok(Attempt {
            lab: row.get(0)?,
            device: row.get(1)?,
            first_seq: row.get::<_, i64>(2)?.cast_unsigned(),
            touched: row.get::<_, i64>(3)?.cast_unsigned(),
            job: row.get(4)?,
            phase: row.get(5)?,
            outcome: Outcome::parse(row.get_ref(6)?.as_str()?).unwrap_or(Outcome::Neutral),
            exit_code: row.get(7)?,
            error_type: row.get(8)?,
            detail: row.get(9)?,
            started_us: row.get(10)?,
            finished_us: row.get(11)?,
            told_by: row.get(12)?,
        })
    }

    fn rest(&self) -> Vec<Value> {
        vec![
            text(self.job.as_deref()),
            text(Some(&self.phase)),
            text(Some(self.outcome.as_str())),
            integer(self.exit_code),
            text(self.error_type.as_deref()),
            text(self.detail.as_deref()),
            integer(self.started_us),
            integer(Some(self.finished_us)),
            text(Some(&self.told_by)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::from_json_lines::fold;
    use super::*;

    /// Device, then job, phase, outcome, detail and end of each attempt.
    fn told(lines: &str) -> Vec<String> {
        let show = |attempt: &Attempt| {
            format!(
                "{} {} {} {} {}s {}",
                attempt.job.as_deref().unwrap_or("-"),
                attempt.phase,
                attempt.outcome.as_str(),
                attempt.detail.as_deref().unwrap_or("-"),
                attempt.finished_us / 1_000_000,
                attempt.told_by
            )
        };
        let all = fold::<Attempt>(lines).into_iter();
        all.flat_map(|(device, rows)| {
            rows.iter()
                .map(|row| format!("{device}: {}", show(row)))
                .collect::<Vec<_>>()
        })
        .collect()
    }

    #[test]
    fn a_plain_stream_tells_attempts_by_finished_jobs() {
        let lines = r#"
            testjob {"job": 1, "device": "d", "state": "Running", "health": "Unknown"}
            testjob {"job": 1, "device": "d", "state": "Finished", "health": "Complete", "end_time": "1970-01-01T00:00:40+00:00"}
            testjob {"job": 1, "device": "d", "state": "Finished", "health": "Complete"}
            testjob {"job": 2, "device": "d", "state": "Finished", "health": "Incomplete"}
            testjob {"job": 3, "device": "d", "state": "Finished", "health": "Canceled"}
            testjob {"job": 4, "state": "Finished", "health": "Canceled"}
            testjob {"job": 5, "device": "e", "state": "Finished"}
        "#;
        assert_eq!(
            told(lines),
            [
                "d: 1 job pass - 40s testjob",
                "d: 2 job fail - 4s testjob",
                "d: 3 job neutral - 5s testjob"
            ]
        );
    }

    #[test]
    fn who_knows_the_cause_completes_the_row_of_the_job_whichever_came_first() {
        let job = r#"testjob {"job": 1, "device": "d", "state": "Finished", "health": "Incomplete"}"#;
        let cause = |class: &str| {
            format!(
                r#"attempt {{"job_id": "1", "device": "d", "exit_code": 1, "detail": "no-boot", "error_type": "{class}"}}"#
            )
        };
        let fails = [
            format!("{job}\n{}", cause("Infrastructure")),
            format!("{}\n{job}", cause("Infrastructure")),
            format!("{job}\n{}\n{job}", cause("Configuration")),
            format!("{job}\n{}", cause("never heard of")),
        ];
        for lines in fails {
            let told = told(&lines);
            assert!(
                told.len() == 1 && told[0].starts_with("d: 1 job fail no-boot"),
                "{lines}: {told:?}"
            );
        }
        for class in error_type::NEUTRAL {
            assert_eq!(
                told(&format!("{job}\n{}", cause(class))),
                ["d: 1 job neutral no-boot 1s both"]
            );
        }
    }

    #[test]
    fn a_job_that_somebody_stopped_has_not_failed() {
        let lines = r#"
            testjob {"job": 1, "device": "d", "state": "Finished", "health": "Canceled"}
            attempt {"job_id": 1, "device": "d", "exit_code": 1}
            testjob {"job": 2, "device": "d", "state": "Finished", "health": "Complete"}
            attempt {"job_id": 2, "device": "d", "detail": "no code"}
            testjob {"job": 3, "device": "d", "state": "Finished", "health": "Unknown"}
            testjob {"job": 3, "device": "d", "state": "Finished", "health": "Complete"}
        "#;
        assert_eq!(
            told(lines),
            [
                "d: 1 job neutral - 1s both",
                "d: 2 job pass no code 3s both",
                "d: 3 job pass - 6s testjob"
            ]
        );
    }

    #[test]
    fn a_time_in_another_century_does_not_stay_the_newest() {
        let mut lines: Vec<String> = (1..=KEPT)
            .map(|job| {
                format!(
                    r#"attempt {{"job_id": {job}, "device": "d", "exit_code": 1, "finished": "2099-01-01T00:00:00Z"}}"#
                )
            })
            .collect();
        // A day and more later.
        lines.push(r#"attempt@100000 {"job_id": 1000, "device": "d", "exit_code": 0}"#.to_owned());
        assert!(
            told(&lines.join("\n"))
                .iter()
                .any(|attempt| attempt.contains("1000 job pass"))
        );
    }

    #[test]
    fn attempts_are_appended_never_replaced() {
        let line = r#"attempt {"job_id": 1, "device": "d", "exit_code": 1, "phase": "provision"}"#;
        assert_eq!(told(&[line; 3].join("\n")).len(), 3);
        let whole = r#"attempt {"job_id": 1, "device": "d", "exit_code": 0}"#;
        assert_eq!(told(&[whole; 2].join("\n")).len(), 2);
        assert_eq!(
            told(r#"attempt {"device": "d", "exit_code": 0}"#),
            ["d: - job pass - 1s attempt"]
        );
        assert_eq!(told(r#"attempt {"job_id": 1, "exit_code": 0}"#), [""; 0]);
    }

    #[test]
    fn the_newest_hundred_stay() {
        let lines: Vec<String> = (1..=130)
            .map(|job| {
                format!(r#"testjob@{job} {{"job": {job}, "device": "d", "state": "Finished", "health": "Complete"}}"#)
            })
            .collect();
        let told = told(&lines.join("\n"));
        assert_eq!((told.len(), told[0].as_str()), (KEPT, "d: 31 job pass - 31s testjob"));
    }
}
