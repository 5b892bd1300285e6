//! What a wait is for, and whether an object's state meets it. Pure: no clock, no I/O.

use std::fmt;
use std::str::FromStr;

use lavabus_protocol::event::{Event, health, state};
use lavabus_protocol::{Kind, Record};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::jq::Program;

/// One condition, as `--for` names it. Of several, all must hold at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `finished`: the job is over, whatever came of it.
    Finished,
    /// `running`.
    Running,
    /// `state=S`, in any case.
    State(String),
    /// `health=H`, in any case.
    Health(String),
    /// `jq=PROGRAM`: its output for the object's latest event is neither false nor null.
    Jq(String),
}

/// Why a text is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// None of the forms.
    #[error("it is no condition, expected finished, running, state=S, health=H or jq=PROGRAM")]
    Unknown,
    /// The program cannot be used.
    #[error("the jq program cannot be used: {0}")]
    Program(String),
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Condition, ConditionError> {
        match text.split_once('=') {
            Some(("state", value)) if !value.is_empty() => Ok(Condition::State(value.to_owned())),
            Some(("health", value)) if !value.is_empty() => Ok(Condition::Health(value.to_owned())),
            Some(("jq", program)) if !program.is_empty() => match Program::compile(program) {
                Ok(_) => Ok(Condition::Jq(program.to_owned())),
                Err(error) => Err(ConditionError::Program(error.to_string())),
            },
            None if text.eq_ignore_ascii_case("finished") => Ok(Condition::Finished),
            None if text.eq_ignore_ascii_case("running") => Ok(Condition::Running),
            _ => Err(ConditionError::Unknown),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Finished => f.write_str("finished"),
            Condition::Running => f.write_str("running"),
            Condition::State(state) => write!(f, "state={state}"),
            Condition::Health(health) => write!(f, "health={health}"),
            Condition::Jq(program) => write!(f, "jq={program}"),
        }
    }
}

/// What is known of an object: its latest event, read.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) kind: Kind,
    /// Empty where the event does not say.
    pub(super) state: String,
    pub(super) health: String,
    /// The device of a job.
    pub(super) device: Option<String>,
    pub(super) record: Record,
}

impl Known {
    pub(super) fn new(record: Record, event: &Event) -> Known {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let (mut state, mut health) = (text(event.state()), text(event.health()));
        if event.kind() == Kind::Testjob && OUTCOMES_OF_2018.iter().any(|old| old.eq_ignore_ascii_case(&state)) {
            // Servers of 2018 wrote the outcome as the state.
            (state, health) = (state::FINISHED.to_owned(), state);
        }
        Known {
            kind: event.kind(),
            state,
            health,
            device: event.device().map(str::to_owned),
            record,
        }
    }

    /// A job's state only ever goes forward, so that it says more than any clock which event is the later one.
    pub(super) fn progress(&self) -> usize {
        const ORDER: [&str; 6] = [
            "Submitted",
            "Scheduling",
            "Scheduled",
            "Running",
            "Canceling",
            "Finished",
        ];
        ORDER
            .iter()
            .position(|known| known.eq_ignore_ascii_case(&self.state))
            .unwrap_or(0)
    }

    pub(super) fn is_finished(&self) -> bool {
        self.kind == Kind::Testjob && self.state.eq_ignore_ascii_case(state::FINISHED)
    }

    /// Nothing more is to be expected of it.
    fn is_over(&self) -> bool {
        match self.kind {
            Kind::Testjob => self.is_finished(),
            _ => self.health.eq_ignore_ascii_case("Retired"),
        }
    }
}

const OUTCOMES_OF_2018: [&str; 3] = ["Complete", "Incomplete", "Canceled"];

/// What a state means for a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Met,
    NotYet,
    /// It can no longer be met.
    Never,
}

/// Conditions that must all hold, with their programs.
pub(crate) struct Conditions {
    conditions: Vec<Condition>,
    programs: Vec<Program>,
}

impl Conditions {
    /// The programs were compiled once when they were read, so they do again.
    pub(super) fn new(conditions: Vec<Condition>) -> Result<Conditions, ConditionError> {
        let programs = conditions.iter().filter_map(|condition| match condition {
            Condition::Jq(text) => {
                Some(Program::compile(text).map_err(|error| ConditionError::Program(error.to_string())))
            }
            _ => None,
        });
        Ok(Conditions {
            programs: programs.collect::<Result<_, _>>()?,
            conditions,
        })
    }

    /// None: a plain wait, for a job's end and what came of it.
    pub(super) fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Whether they can be met by this kind of object. A word that LAVA does not know is only told: it may learn new ones.
    pub(crate) fn check(&self, kind: Kind, context: &Context) -> Result<(), Failure> {
        let (states, healths): (&[&str], &[&str]) = match kind {
            Kind::Device => (&state::DEVICE, &health::DEVICE),
            Kind::Worker => (&state::WORKER, &health::WORKER),
            _ => (&state::JOB, &health::JOB),
        };
        let is_known = |words: &[&str], word: &str| words.iter().any(|known| known.eq_ignore_ascii_case(word));
        for condition in &self.conditions {
            let (word, words) = match condition {
                Condition::Finished | Condition::Running => {
                    let state = if *condition == Condition::Finished {
                        state::FINISHED
                    } else {
                        "Running"
                    };
                    if !is_known(states, state) {
                        return Err(Failure::new(
                            Exit::Usage,
                            format!("no {kind} is ever {condition}"),
                            format!("its states are {}", states.join(", ")),
                            "--for state=… or health=…",
                        ));
                    }
                    continue;
                }
                Condition::State(state) => (state, states),
                Condition::Health(health) => (health, healths),
                Condition::Jq(_) => continue,
            };
            if !is_known(words, word) {
                context.notice(format_args!(
                    "{condition} is nothing that LAVA says of a {kind}: {}",
                    words.join(", ")
                ));
            }
        }
        Ok(())
    }

    /// Whether this state meets them all, or one of them never will be.
    pub(super) fn judge(&self, known: &Known) -> Judgement {
        let mut programs = self.programs.iter();
        let mut judgement = Judgement::Met;
        for condition in &self.conditions {
            match judge(condition, known, &mut programs) {
                Judgement::Met => {}
                Judgement::NotYet if known.is_over() => return Judgement::Never,
                Judgement::NotYet => judgement = Judgement::NotYet,
                Judgement::Never => return Judgement::Never,
            }
        }
        judgement
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.conditions.iter().map(ToString::to_string).collect();
        match texts.is_empty() {
            true => f.write_str("finished"),
            false => f.write_str(&texts.join(" and ")),
        }
    }
}

impl fmt::Debug for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.conditions).finish()
    }
}

fn judge<'p>(condition: &Condition, known: &Known, programs: &mut impl Iterator<Item = &'p Program>) -> Judgement {
    let wanted_state = match condition {
        Condition::Finished => state::FINISHED,
        Condition::Running => "Running",
        Condition::State(state) => state,
        Condition::Health(health) => return met_if(known.health.eq_ignore_ascii_case(health)),
        Condition::Jq(_) => {
            let keeps = programs.next().map(|program| program.keeps(&known.record));
            return met_if(matches!(keeps, Some(Ok(true))));
        }
    };
    if known.state.eq_ignore_ascii_case(wanted_state) {
        return Judgement::Met;
    }
    // Once a job runs it is never queued again, and one that is being cancelled never runs again.
    const RUNNING: usize = 3;
    let wanted = Known {
        state: wanted_state.to_owned(),
        ..known.clone()
    };
    if known.kind == Kind::Testjob && known.progress() >= RUNNING && wanted.progress() < known.progress() {
        return Judgement::Never;
    }
    Judgement::NotYet
}

fn met_if(met: bool) -> Judgement {
    match met {
        true => Judgement::Met,
        false => Judgement::NotYet,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use lavabus_client::new_event;

    fn known(kind: &str, data: &str) -> Known {
        let record = new_event(&format!("org.example.{kind}"), "lavaserver", data).unwrap();
        let event = record.event();
        Known::new(record, &event)
    }

    fn job(state: &str, health: &str) -> Known {
        known(
            "testjob",
            &format!(r#"{{"job": 12, "state": "{state}", "health": "{health}", "device": "qemu-01"}}"#),
        )
    }

    fn judged(conditions: &[&str], known: &Known) -> Judgement {
        let conditions = conditions.iter().map(|text| text.parse().unwrap()).collect();
        Conditions::new(conditions).unwrap().judge(known)
    }

    #[test]
    fn conditions_are_read_and_written() {
        for text in [
            "finished",
            "running",
            "state=Scheduled",
            "health=Complete",
            "jq=.data.job == 12",
        ] {
            assert_eq!(text.parse::<Condition>().unwrap().to_string(), text);
        }
        assert_eq!("FINISHED".parse(), Ok(Condition::Finished));
        for text in ["", "done", "state", "state=", "health=", "jq=", "jq=(", "device=x"] {
            assert!(text.parse::<Condition>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_state_is_met_not_yet_or_never() {
        use Judgement::{Met, Never, NotYet};
        for (condition, state, expected) in [
            ("finished", "Running", NotYet),
            ("finished", "Finished", Met),
            ("running", "Submitted", NotYet),
            ("running", "Running", Met),
            ("running", "RUNNING", Met),
            ("running", "Canceling", Never),
            ("running", "Finished", Never),
            ("state=scheduled", "Submitted", NotYet),
            ("state=scheduled", "Scheduled", Met),
            ("state=scheduled", "Running", Never),
            ("state=submitted", "Scheduled", NotYet),
            ("state=other", "Submitted", NotYet),
            ("state=other", "Finished", Never),
        ] {
            assert_eq!(
                judged(&[condition], &job(state, "Unknown")),
                expected,
                "{condition} {state}"
            );
        }
    }

    #[test]
    fn health_and_programs_are_decided_when_it_is_over() {
        use Judgement::{Met, Never, NotYet};
        assert_eq!(judged(&["health=complete"], &job("Running", "Unknown")), NotYet);
        assert_eq!(judged(&["health=complete"], &job("Finished", "Complete")), Met);
        assert_eq!(judged(&["health=complete"], &job("Finished", "Incomplete")), Never);
        let program = r#"jq=.data.device == "qemu-01""#;
        assert_eq!(judged(&[program], &job("Running", "Unknown")), Met);
        assert_eq!(judged(&["jq=.data.device == null"], &job("Running", "Unknown")), NotYet);
        assert_eq!(
            judged(&["jq=.data.device == null"], &job("Finished", "Complete")),
            Never
        );
        assert_eq!(judged(&["jq=error(\"x\")"], &job("Running", "Unknown")), NotYet);
    }

    #[test]
    fn all_must_hold_at_the_same_time() {
        use Judgement::{Met, Never, NotYet};
        let both = ["state=Idle", "health=Good"];
        let device = |state, health| {
            known(
                "device",
                &format!(r#"{{"device": "d", "state": "{state}", "health": "{health}"}}"#),
            )
        };
        assert_eq!(judged(&both, &device("Idle", "Good")), Met);
        assert_eq!(judged(&both, &device("Idle", "Bad")), NotYet);
        assert_eq!(judged(&both, &device("Idle", "Retired")), Never);
        assert_eq!(judged(&["health=Retired"], &device("Idle", "Retired")), Met);
        assert_eq!(judged(&["state=Running"], &device("Idle", "Good")), NotYet);
    }

    #[test]
    fn servers_of_2018_write_the_outcome_as_the_state() {
        let old = known(
            "testjob",
            r#"{"job": "http://lava/scheduler/job/12", "status": "Incomplete"}"#,
        );
        assert!(old.is_finished());
        assert_eq!(old.health, "Incomplete");
        assert_eq!(judged(&["finished"], &old), Judgement::Met);
    }
}
