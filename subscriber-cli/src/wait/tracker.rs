//! From events and answers, in any order and any number of times, to a verdict. Pure: no clock, no I/O.

use jiff::Timestamp;
use lavabus_protocol::event::{Event, JobId};
use lavabus_protocol::{EventId, Kind, Record};

use super::condition::{Conditions, Judgement, Known};
use crate::exit::Exit;
use crate::listen::sent;

/// Which object: a job, a device or a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    /// A job's id as text, a device's or a worker's name.
    pub(crate) id: String,
}

impl Object {
    /// Whether an event tells the state of this object.
    fn is_told_by(&self, event: &Event) -> bool {
        if event.kind() != self.kind {
            return false;
        }
        match self.kind {
            Kind::Testjob => JobId::parse(&self.id).is_some_and(|id| event.mentions_job(&id)),
            Kind::Device => event.device() == Some(&self.id),
            _ => event.worker() == Some(&self.id),
        }
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            Kind::Testjob => "job",
            kind => kind.as_str(),
        };
        write!(f, "{kind} {}", self.id)
    }
}

/// What came of the wait for one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) exit: Exit,
    /// In a few words: `Incomplete`, `Running`, `it finished Complete before it was Running`.
    pub(crate) outcome: String,
}

/// What is said of an object, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// An event: true at the time that its sender wrote.
    Event,
    /// The server was asked: true since the wait began.
    Answer,
}

/// One object that is waited for.
#[derive(Debug)]
pub(crate) struct Tracked {
    pub(crate) object: Object,
    pub(super) known: Option<Known>,
    /// The latest event's time by its sender's clock, and the event.
    latest: Option<(Timestamp, EventId)>,
    pub(crate) verdict: Option<Verdict>,
}

impl Tracked {
    /// State, health and device of now.
    pub(crate) fn known(&self) -> Option<(&str, &str, Option<&str>)> {
        let known = self.known.as_ref()?;
        Some((&known.state, &known.health, known.device.as_deref()))
    }

    /// The latest event.
    pub(crate) fn record(&self) -> Option<&Record> {
        self.known.as_ref().map(|known| &known.record)
    }

    /// It is a job, and over.
    pub(crate) fn is_finished(&self) -> bool {
        self.known.as_ref().is_some_and(Known::is_finished)
    }

    /// Events are compared with events only: the clocks of who answers and of who sends need not agree.
    fn is_stale(&self, new: &Known, source: Source) -> bool {
        let Some(known) = &self.known else { return false };
        if new.kind == Kind::Testjob {
            return new.progress() < known.progress() || known.is_finished();
        }
        match (source, self.latest, sent(&new.record)) {
            (Source::Event, Some((latest, id)), Some(at)) => at < latest || id == new.record.uuid,
            _ => false,
        }
    }
}

/// Whether all objects are waited for, or the first that is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantity {
    /// `--all`
    All,
    /// `--any`
    Any,
}

/// All objects of one wait.
#[derive(Debug)]
pub(crate) struct Tracker {
    tracked: Vec<Tracked>,
    conditions: Conditions,
    quantity: Quantity,
    /// The first that was decided.
    first: Option<usize>,
}

impl Tracker {
    pub(crate) fn new(objects: Vec<Object>, conditions: Conditions, quantity: Quantity) -> Tracker {
        let tracked = objects.into_iter().map(|object| Tracked {
            object,
            known: None,
            latest: None,
            verdict: None,
        });
        Tracker {
            tracked: tracked.collect(),
            conditions,
            quantity,
            first: None,
        }
    }

    pub(crate) fn tracked(&self) -> &[Tracked] {
        &self.tracked
    }

    /// The objects whose state this event tells.
    pub(crate) fn told_of(&self, record: &Record) -> Vec<usize> {
        let event = record.event();
        let told = self
            .tracked
            .iter()
            .enumerate()
            .filter(|(_, tracked)| tracked.object.is_told_by(&event));
        told.map(|(index, _)| index).collect()
    }

    /// Takes what an event or an answer says. Returns the objects of which something new is known.
    pub(crate) fn tell(&mut self, record: &Record, source: Source) -> Vec<usize> {
        let event = record.event();
        let mut changed = Vec::new();
        for index in 0..self.tracked.len() {
            if self.tracked[index].object.is_told_by(&event) && self.tell_one(index, record, &event, source) {
                changed.push(index);
            }
        }
        changed
    }

    fn tell_one(&mut self, index: usize, record: &Record, event: &Event, source: Source) -> bool {
        let tracked = &mut self.tracked[index];
        let known = Known::new(record.clone(), event);
        if tracked.verdict.is_some() || tracked.is_stale(&known, source) {
            return false;
        }
        let is_new = tracked
            .known
            .as_ref()
            .is_none_or(|old| (&old.state, &old.health, &old.device) != (&known.state, &known.health, &known.device));
        let verdict = match self.conditions.is_empty() {
            true => known.is_finished().then(|| finished(&known)),
            false => match self.conditions.judge(&known) {
                Judgement::Met => Some(met(&known)),
                Judgement::Never => Some(never(&known, &self.conditions)),
                Judgement::NotYet => None,
            },
        };
        tracked.known = Some(known);
        if let (Source::Event, Some(at)) = (source, sent(record)) {
            tracked.latest = Some((at, record.uuid));
        }
        if let Some(verdict) = verdict {
            self.decide(index, verdict);
        }
        is_new
    }

    /// Who must know says that there is no such object.
    pub(crate) fn tell_absent(&mut self, index: usize) {
        if self.tracked[index].known.is_some() || self.tracked[index].verdict.is_some() {
            return;
        }
        let outcome = format!(
            "there is no such {}",
            match self.tracked[index].object.kind {
                Kind::Testjob => "job, or it is private",
                kind => kind.as_str(),
            }
        );
        self.decide(
            index,
            Verdict {
                exit: Exit::NoSuchObject,
                outcome,
            },
        );
    }

    /// Tests of a finished job failed: that is its verdict, unless it has a worse one.
    pub(crate) fn tell_failed_tests(&mut self, index: usize, count: usize) {
        if let Some(verdict) = &mut self.tracked[index].verdict
            && badness(verdict.exit) < badness(Exit::TestsFailed)
        {
            verdict.exit = Exit::TestsFailed;
            verdict.outcome = format!("{}, {count} tests failed", verdict.outcome);
        }
    }

    fn decide(&mut self, index: usize, verdict: Verdict) {
        self.tracked[index].verdict = Some(verdict);
        self.first.get_or_insert(index);
    }

    /// The object that decides the wait, once it is decided.
    pub(crate) fn decider(&self) -> Option<&Tracked> {
        match self.quantity {
            Quantity::Any => self.first.map(|index| &self.tracked[index]),
            Quantity::All => {
                let mut worst: Option<&Tracked> = None;
                for tracked in &self.tracked {
                    let verdict = tracked.verdict.as_ref()?;
                    let is_worse = |other: &Tracked| {
                        other
                            .verdict
                            .as_ref()
                            .is_none_or(|other| badness(verdict.exit) > badness(other.exit))
                    };
                    if worst.is_none_or(is_worse) {
                        worst = Some(tracked);
                    }
                }
                worst
            }
        }
    }
}

/// Of several the worst wins: 13, 12, 10, 14, 11, then success.
pub(crate) fn badness(exit: Exit) -> u8 {
    match exit {
        Exit::Success => 0,
        Exit::JobCanceled => 1,
        Exit::TestsFailed => 2,
        Exit::JobIncomplete => 3,
        Exit::Unreachable => 4,
        Exit::NoSuchObject => 5,
        _ => 6,
    }
}

fn finished(known: &Known) -> Verdict {
    let health = known.health.as_str();
    let exit = match health.to_ascii_lowercase().as_str() {
        "complete" => Exit::Success,
        "canceled" => Exit::JobCanceled,
        // A finished job of unknown health did not complete.
        _ => Exit::JobIncomplete,
    };
    let outcome = match health {
        "" => "Finished, of unknown health".to_owned(),
        health if health.eq_ignore_ascii_case("unknown") => "Finished, of unknown health".to_owned(),
        health => health.to_owned(),
    };
    Verdict { exit, outcome }
}

fn met(known: &Known) -> Verdict {
    Verdict {
        exit: Exit::Success,
        outcome: words(known),
    }
}

fn never(known: &Known, conditions: &Conditions) -> Verdict {
    Verdict {
        exit: Exit::Unreachable,
        outcome: format!("it is {}, and can no longer be {conditions}", words(known)),
    }
}

fn words(known: &Known) -> String {
    let says_nothing = known.health.is_empty() || known.health.eq_ignore_ascii_case("unknown");
    match says_nothing {
        true => known.state.clone(),
        false => format!("{} {}", known.state, known.health),
    }
}
