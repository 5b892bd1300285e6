//! What is wrong with what, since when, how often, and whether it is over: the newest [`KEPT`] a subject.
//!
//! | raised by | subject | over when |
//! |---|---|---|
//! | a `.fault` event | as it says | a `.fault` event says `cleared`; of a device, also when a job passes on it |
//! | a device's health Bad or Looping | `device/NAME` | the device has another health |
//! | a worker's state Offline | `worker/NAME` | the worker is Online |
//!
//! The same message again while it is open counts; after it was over it is a row of its own. A fault about a thing that
//! nobody has heard of is kept like any other.

use lavabus_protocol::event::{Body, MAX_DETAILS, MAX_MESSAGE, health};
use rusqlite::Row as SqlRow;
use rusqlite::types::Value;

use super::rows::{Owner, Projection, Table};
use super::told::{kept, name};
use super::{Told, integer, text};

/// How many faults are kept of each subject.
pub const KEPT: usize = 100;
/// The origin of a fault that is a state of the thing itself. It is told by no error message, so one that is comes first.
pub const BY_STATE: &str = "state";

const BAD_HEALTHS: [&str; 2] = ["Bad", "Looping"];
const HEALTH_IS: &str = "health is ";
const IS_OFFLINE: &str = "worker is Offline";

/// Something that is, or was, wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// In which lab; empty where there is only one.
    pub lab: String,
    /// What it is about: `device/NAME`, `worker/NAME`, `job/ID` or any other name.
    pub subject: String,
    /// The number of the event that told of it first.
    pub first_seq: u64,
    /// The number of the last event that concerned it.
    pub touched: u64,
    /// One line.
    pub message: String,
    /// More, for administrators.
    pub details: Option<String>,
    /// Who noticed it; [`BY_STATE`].
    pub origin: Option<String>,
    /// In which job it was seen last.
    pub job: Option<String>,
    /// When it was seen first, in µs since 1970.
    pub first_us: i64,
    /// When it was seen last, in µs since 1970.
    pub last_us: i64,
    /// How often it was told.
    pub count: u64,
    /// When it was over, in µs since 1970.
    pub cleared_us: Option<i64>,
}

/// What an event means for the faults of a subject.
enum Change {
    Raise(Box<Fault>),
    /// With this message, or all that an event told, as far as they are not newer than this.
    Clear(Option<String>, i64),
    /// The state tells this one, or none.
    State(Option<String>),
}

fn changes(told: &Told<'_>) -> Vec<(String, Change)> {
    let device = |name: &str| format!("device/{name}");
    match told.event.body() {
        Body::Fault(fault) => {
            let Some(subject) = name(fault.subject.as_deref()) else {
                return Vec::new();
            };
            let message = kept(fault.message.as_deref(), MAX_MESSAGE);
            let change = match (fault.cleared, message) {
                (Some(true), message) => Change::Clear(message, told.at_us()),
                (_, Some(message)) => Change::Raise(Box::new(Fault {
                    lab: told.row.lab.to_owned(),
                    subject: subject.clone(),
                    first_seq: told.row.seq,
                    touched: told.row.seq,
                    message,
                    details: kept(fault.details.as_deref(), MAX_DETAILS),
                    origin: name(fault.origin.as_deref()),
                    job: fault.job.as_ref().map(ToString::to_string),
                    first_us: told.at_us(),
                    last_us: told.at_us(),
                    count: 1,
                    cleared_us: None,
                })),
                (_, None) => return Vec::new(),
            };
            vec![(subject, change)]
        }
        Body::Job(job) if told.event.is_finished() => {
            let is_complete = |health: &str| health.eq_ignore_ascii_case(health::COMPLETE);
            // LAVA says it again whenever the job is saved, and some seconds late: what came after its end stays.
            let ended_us = told.time_us(job.end_time.as_deref()).unwrap_or(told.at_us());
            match (&job.device, &job.health) {
                (Some(name), Some(health)) if is_complete(health) => {
                    vec![(device(name), Change::Clear(None, ended_us))]
                }
                _ => Vec::new(),
            }
        }
        Body::Device(told) => match (&told.device, &told.health) {
            (Some(name), Some(health)) => {
                let is_bad = BAD_HEALTHS.iter().any(|bad| bad.eq_ignore_ascii_case(health));
                let message = is_bad.then(|| format!("{HEALTH_IS}{health}"));
                vec![(device(name), Change::State(message))]
            }
            _ => Vec::new(),
        },
        Body::Worker(told) => match (&told.hostname, &told.state) {
            (Some(name), Some(state)) => {
                let is_offline = state.eq_ignore_ascii_case("Offline");
                let message = is_offline.then(|| IS_OFFLINE.to_owned());
                vec![(format!("worker/{name}"), Change::State(message))]
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

impl Fault {
    fn is_open(&self) -> bool {
        self.cleared_us.is_none()
    }

    fn is_by_state(&self) -> bool {
        self.origin.as_deref() == Some(BY_STATE)
    }
}

fn clear(fault: &mut Fault, told: &Told<'_>) {
    fault.cleared_us = Some(told.at_us());
    fault.touched = told.row.seq;
}

fn raise(rows: &mut Vec<Fault>, new: Fault) {
    let same = |fault: &&mut Fault| {
        fault.is_open() && fault.message == new.message && fault.is_by_state() == new.is_by_state()
    };
    if let Some(known) = rows.iter_mut().find(same) {
        known.touched = new.touched;
        known.last_us = known.last_us.max(new.last_us);
        known.first_us = known.first_us.min(new.first_us);
        known.count += 1;
        known.job = new.job.or(known.job.take());
        known.details = new.details.or(known.details.take());
        known.origin = new.origin.or(known.origin.take());
        return;
    }
    rows.push(new);
    if rows.len() > KEPT {
        // Those that are over go first.
        let oldest = (0..rows.len()).min_by_key(|at| (rows[*at].is_open(), rows[*at].last_us, rows[*at].first_seq));
        rows.remove(oldest.unwrap_or(0));
    }
}

impl Projection for Fault {
    const TABLE: Table = Table {
        name: "fault",
        owner: &["lab", "subject"],
        rest: &[
            "message",
            "details",
            "origin",
            "job",
            "first_us",
            "last_us",
            "count",
            "cleared_us",
        ],
        outlives: true,
    };

    fn owners(told: &Told<'_>) -> Vec<Owner> {
        let lab = || told.row.lab.to_owned();
        changes(told)
            .into_iter()
            .map(|(subject, _)| vec![lab(), subject])
            .collect()
    }

    fn apply(rows: &mut Vec<Fault>, owner: &Owner, told: &Told<'_>) {
        for (subject, change) in changes(told) {
            if owner.get(1) != Some(&subject) {
                continue;
            }
            match change {
                Change::Raise(fault) => raise(rows, *fault),
                Change::Clear(message, as_of_us) => {
                    let meant = |fault: &&mut Fault| match &message {
                        _ if fault.last_us > as_of_us => false,
                        Some(message) => fault.message == *message,
                        None => !fault.is_by_state(),
                    };
                    for fault in rows.iter_mut().filter(|fault| fault.is_open()).filter(meant) {
                        clear(fault, told);
                    }
                }
                Change::State(message) => {
                    let known_us = |fault: &Fault| fault.cleared_us.unwrap_or(fault.last_us);
                    // Around a restart of LAVA two events can arrive in the wrong order.
                    if rows
                        .iter()
                        .any(|fault| fault.is_by_state() && known_us(fault) > told.at_us())
                    {
                        continue;
                    }
                    let is_over = |fault: &&mut Fault| {
                        fault.is_open() && fault.is_by_state() && Some(&fault.message) != message.as_ref()
                    };
                    for fault in rows.iter_mut().filter(is_over) {
                        clear(fault, told);
                    }
                    let is_known = rows.iter().any(|fault| fault.is_open() && fault.is_by_state());
                    if let Some(message) = message.filter(|_| !is_known) {
                        raise(
                            rows,
                            Fault {
                                lab: told.row.lab.to_owned(),
                                subject,
                                first_seq: told.row.seq,
                                touched: told.row.seq,
                                message,
                                details: None,
                                origin: Some(BY_STATE.to_owned()),
                                job: None,
                                first_us: told.at_us(),
                                last_us: told.at_us(),
                                count: 1,
                                cleared_us: None,
                            },
                        );
                    }
                }
            }
        }
    }

    fn first_seq(&self) -> u64 {
        self.first_seq
    }

    fn touched(&self) -> u64 {
        self.touched
    }

    fn read(row: &SqlRow<'_>) -> Result<Fault, rusqlite::Error> {
        Ok(Fault {
            lab: row.get(0)?,
            subject: row.get(1)?,
            first_seq: row.get::<_, i64>(2)?.cast_unsigned(),
            touched: row.get::<_, i64>(3)?.cast_unsigned(),
            message: row.get(4)?,
            details: row.get(5)?,
            origin: row.get(6)?,
            job: row.get(7)?,
            first_us: row.get(8)?,
            last_us: row.get(9)?,
            count: row.get::<_, i64>(10)?.cast_unsigned(),
            cleared_us: row.get(11)?,
        })
    }

    fn rest(&self) -> Vec<Value> {
        vec![
            text(Some(&self.message)),
            text(self.details.as_deref()),
            text(self.origin.as_deref()),
            text(self.job.as_deref()),
            integer(Some(self.first_us)),
            integer(Some(self.last_us)),
            integer(Some(self.count.cast_signed())),
            integer(self.cleared_us),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::from_json_lines::fold;
    use super::*;

    /// Subject, message, first, last, count and when it was over.
    fn told(lines: &str) -> Vec<String> {
        let seconds = |us: i64| us / 1_000_000;
        let show = |fault: &Fault| {
            format!(
                "{} {} {}-{} x{} {:?}",
                fault.subject,
                fault.message,
                seconds(fault.first_us),
                seconds(fault.last_us),
                fault.count,
                fault.cleared_us.map(seconds)
            )
        };
        fold::<Fault>(lines)
            .iter()
            .flat_map(|(_, rows)| rows)
            .map(show)
            .collect()
    }

    #[test]
    fn the_same_message_counts_until_it_is_over() {
        let lines = r#"
            fault {"subject": "device/d", "message": "no power", "job": 7}
            fault {"subject": "device/d", "message": "no net"}
            fault {"subject": "device/d", "message": "no power", "details": "port 3"}
            testjob {"job": 8, "device": "d", "state": "Finished", "health": "Incomplete"}
            testjob {"job": 9, "device": "d", "state": "Finished", "health": "Complete"}
            fault {"subject": "device/d", "message": "no power"}
        "#;
        assert_eq!(
            told(lines),
            [
                "device/d no power 1-3 x2 Some(5)",
                "device/d no net 2-2 x1 Some(5)",
                "device/d no power 6-6 x1 None"
            ]
        );
        let all = fold::<Fault>(lines);
        assert_eq!(
            (all[0].1[0].job.as_deref(), all[0].1[0].details.as_deref()),
            (Some("7"), Some("port 3"))
        );
    }

    #[test]
    fn an_event_can_say_that_it_is_over() {
        let lines = r#"
            fault {"subject": "nobody knows it", "message": "a"}
            fault {"subject": "nobody knows it", "message": "b"}
            fault {"subject": "nobody knows it", "message": "a", "cleared": true}
            fault {"subject": "x", "message": "a"}
            fault {"subject": "x", "cleared": true}
            fault {"message": "of nothing"}
            fault {"subject": "y"}
        "#;
        assert_eq!(
            told(lines),
            [
                "nobody knows it a 1-1 x1 Some(3)",
                "nobody knows it b 2-2 x1 None",
                "x a 4-4 x1 Some(5)"
            ]
        );
    }

    #[test]
    fn a_state_is_a_fault_for_as_long_as_it_lasts() {
        let lines = r#"
            device {"device": "d", "state": "Idle", "health": "Bad"}
            device {"device": "d", "state": "Running", "health": "Bad"}
            fault {"subject": "device/d", "message": "no power"}
            testjob {"job": 9, "device": "d", "state": "Finished", "health": "Complete"}
            device {"device": "d", "state": "Idle", "health": "Looping"}
            device {"device": "d", "state": "Idle", "health": "Good"}
            worker {"hostname": "w", "state": "Offline"}
            worker {"hostname": "w", "state": "Online"}
            worker {"hostname": "v", "state": "Online"}
        "#;
        assert_eq!(
            told(lines),
            [
                "device/d health is Bad 1-1 x1 Some(5)",
                "device/d no power 3-3 x1 Some(4)",
                "device/d health is Looping 5-5 x1 Some(6)",
                "worker/w worker is Offline 7-7 x1 Some(8)"
            ]
        );
    }

    #[test]
    fn what_came_after_a_jobs_end_is_not_over_because_the_job_is_told_again() {
        let lines = r#"
            testjob {"job": 9, "device": "d", "state": "Finished", "health": "Complete", "end_time": "1970-01-01T00:00:01Z"}
            fault {"subject": "device/d", "message": "no power"}
            testjob {"job": 9, "device": "d", "state": "Finished", "health": "Complete", "end_time": "1970-01-01T00:00:01Z"}
        "#;
        assert_eq!(told(lines), ["device/d no power 2-2 x1 None"]);
    }

    #[test]
    fn an_older_state_that_arrives_later_changes_nothing() {
        let lines = r#"
            worker@3 {"hostname": "w", "state": "Offline"}
            worker@9 {"hostname": "w", "state": "Online"}
            worker@5 {"hostname": "w", "state": "Offline"}
        "#;
        assert_eq!(told(lines), ["worker/w worker is Offline 3-3 x1 Some(9)"]);
    }

    #[test]
    fn those_that_are_over_go_first() {
        let open = r#"fault {"subject": "x", "message": "stays"}"#.to_owned();
        let mut lines = vec![open];
        for number in 0..150 {
            lines.push(format!(r#"fault {{"subject": "x", "message": "m{number}"}}"#));
            lines.push(format!(
                r#"fault {{"subject": "x", "message": "m{number}", "cleared": true}}"#
            ));
        }
        let told = told(&lines.join("\n"));
        assert_eq!(told.len(), KEPT);
        assert!(told[0].starts_with("x stays"), "{}", told[0]);
        assert!(told[KEPT - 1].starts_with("x m149"), "{}", told[KEPT - 1]);
    }
}
