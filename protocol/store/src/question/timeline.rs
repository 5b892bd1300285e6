//! What happened to one thing, in the order of the senders' clocks, across services.
//!
//! [`Mentions::story`](super::Mentions::story) reads the events that belong to it; [`timeline`] says what they mean.

mod story;

use std::collections::{BTreeMap, BTreeSet};

use lavabus_protocol::event::{Attempt, Body, Job, outcome, state};
use lavabus_protocol::{Event as TypedEvent, Kind};

use self::story::own_job_ids;
pub use self::story::{MOST_EVENTS, Page, Story, Subject};
use super::stages::{Passage, StageEvent, passages};
use crate::projection::told::time_us;
use crate::projection::{RefKind, Told};
use crate::reader::Event;

/// One event of a timeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// When it happened, by the sender's clock, in µs since 1970.
    pub at_us: i64,
    /// As it was received.
    pub event: Event,
    /// Its typed view.
    pub typed: TypedEvent,
}

/// A time in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSpan {
    /// Which state.
    pub state: String,
    /// With which health.
    pub health: Option<String>,
    /// Since when, in µs since 1970.
    pub from_us: i64,
    /// Until when, in µs since 1970; `None` for the last one.
    pub to_us: Option<i64>,
}

/// What is known of the subject beside its id. What a later event tells fills what an earlier one left blank.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Jobs, each by all its ids.
    pub job: BTreeSet<String>,
    /// Device of the job.
    pub device: Option<String>,
    /// Type of the device.
    pub device_type: Option<String>,
    /// Worker of the device.
    pub worker: Option<String>,
    /// Who submitted the job.
    pub submitter: Option<String>,
    /// What the job is called.
    pub description: Option<String>,
    /// Accounts of the requests.
    pub account: BTreeSet<String>,
    /// What the requests are about.
    pub inventory: BTreeSet<String>,
    /// Other names of that.
    pub system: BTreeSet<String>,
}

/// What came of it, in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A request went through so many services.
    Success {
        /// How many different ones.
        services: usize,
    },
    /// A request failed.
    Failed {
        /// In which service.
        service: String,
        /// What that said.
        because: Option<String>,
    },
    /// A request or a job has not ended.
    Running {
        /// For how long, in µs.
        for_us: i64,
        /// The last service, or the job's state.
        at: String,
        /// The job's device.
        device: Option<String>,
    },
    /// Several requests.
    Requests {
        /// So many went well.
        success: usize,
        /// So many failed.
        failed: usize,
        /// So many have not ended.
        running: usize,
    },
    /// A job is Finished.
    Finished {
        /// Its health, as LAVA wrote it.
        health: Option<String>,
        /// How long it ran, in µs.
        ran_us: Option<i64>,
        /// How long it waited to run, in µs.
        queued_us: Option<i64>,
        /// Where.
        device: Option<String>,
        /// Why it is not Complete.
        because: Option<String>,
        /// LAVA's class of the error.
        error_type: Option<String>,
    },
    /// How a device or worker is.
    State {
        /// Its state.
        state: Option<String>,
        /// Its health.
        health: Option<String>,
        /// Since when both are so, in µs since 1970.
        since_us: i64,
    },
    /// What tests found; the rest is in [`Timeline::results`].
    Results {
        /// The worst outcome.
        worst: String,
    },
    /// Nothing but the events themselves.
    Mentioned,
}

/// What happened to one thing.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// To what.
    pub subject: Subject,
    /// What came of it.
    pub verdict: Verdict,
    /// What else is known of it.
    pub about: About,
    /// The states that a job, device or worker was in.
    pub states: Vec<StateSpan>,
    /// What requests went through.
    pub services: Vec<Passage>,
    /// All durations in services together, in µs.
    pub service_time_us: Option<i64>,
    /// From the first to the last that services said, in µs: what passed on a clock at the wall.
    pub wall_time_us: Option<i64>,
    /// Jobs that ended in these events, by health.
    pub jobs: BTreeMap<String, usize>,
    /// How many test cases found what, the best first, each by its last result.
    pub results: Vec<(String, usize)>,
    /// Every event, in the order of time; at the same instant in the order of receipt.
    pub events: Vec<Entry>,
}

/// What these events, which belong to `subject`, mean at the time `now_us` (µs since 1970).
pub fn timeline(subject: &Subject, events: Vec<Event>, now_us: i64) -> Timeline {
    let mut stages = Vec::new();
    let mut entries: Vec<Entry> = events
        .into_iter()
        .map(|event| {
            let told = Told::read(event.row());
            let stage = StageEvent::of(&told);
            let at_us = stage.as_ref().map_or_else(|| told.at_us(), |stage| stage.at_us);
            stages.extend(stage);
            let typed = told.event;
            Entry { at_us, event, typed }
        })
        .collect();
    entries.sort_by_key(|entry| (entry.at_us, entry.event.seq));
    let own: BTreeSet<String> = match subject.kind {
        RefKind::Job => {
            let ids = entries.iter().flat_map(|entry| own_job_ids(&entry.event, &subject.id));
            ids.chain([subject.id.clone()]).collect()
        }
        _ => BTreeSet::new(),
    };
    let services = passages(&stages);
    let durations: Vec<i64> = services.iter().filter_map(Passage::duration_us).collect();
    let states = match subject.kind {
        RefKind::Job => job_states(&entries, &own),
        RefKind::Device => object_states(&entries, Kind::Device, &subject.id),
        RefKind::Worker => object_states(&entries, Kind::Worker, &subject.id),
        _ => Vec::new(),
    };
    let results = results(&entries);
    let about = about(&entries, own);
    let verdict = verdict(subject, &entries, &about, &states, &services, &results, now_us);
    let first = services.iter().map(Passage::first_us).min();
    let last = services.iter().map(Passage::last_us).max();
    Timeline {
        subject: subject.clone(),
        verdict,
        about,
        states,
        service_time_us: (!durations.is_empty()).then(|| durations.iter().sum()),
        wall_time_us: first.zip(last).map(|(first, last)| last - first),
        services,
        jobs: ended_jobs(&entries),
        results,
        events: entries,
    }
}

fn verdict(
    subject: &Subject,
    entries: &[Entry],
    about: &About,
    states: &[StateSpan],
    services: &[Passage],
    results: &[(String, usize)],
    now_us: i64,
) -> Verdict {
    let of_state = states.last().map(|last| match subject.kind {
        RefKind::Job => job_verdict(entries, about, states, last, now_us),
        _ => Verdict::State {
            state: Some(last.state.clone()),
            health: last.health.clone(),
            since_us: last.from_us,
        },
    });
    let of_results = || {
        let worst = results.iter().max_by_key(|(outcome, _)| outcome::badness(outcome));
        worst.map(|(worst, _)| Verdict::Results { worst: worst.clone() })
    };
    of_state
        .or_else(|| service_verdict(services, now_us))
        .or_else(of_results)
        .unwrap_or(Verdict::Mentioned)
}

fn service_verdict(services: &[Passage], now_us: i64) -> Option<Verdict> {
    let mut requests: BTreeMap<(&str, &str), Vec<&Passage>> = BTreeMap::new();
    for passage in services {
        let key = (passage.lab.as_str(), passage.request.as_str());
        requests.entry(key).or_default().push(passage);
    }
    let verdicts: Vec<Verdict> = requests
        .values()
        .filter_map(|passages| request_verdict(passages, now_us))
        .collect();
    let count = |is: fn(&Verdict) -> bool| verdicts.iter().filter(|verdict| is(verdict)).count();
    match verdicts.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        _ => Some(Verdict::Requests {
            success: count(|verdict| matches!(verdict, Verdict::Success { .. })),
            failed: count(|verdict| matches!(verdict, Verdict::Failed { .. })),
            running: count(|verdict| matches!(verdict, Verdict::Running { .. })),
        }),
    }
}

/// The last time in each service counts. Of several errors the first is the one that others follow from.
fn request_verdict(passages: &[&Passage], now_us: i64) -> Option<Verdict> {
    let mut last: BTreeMap<(&str, &str), &Passage> = BTreeMap::new();
    for passage in passages {
        last.insert((&passage.service, &passage.source), passage);
    }
    let failed = last.values().filter(|passage| passage.is_error());
    if let Some(failed) = failed.min_by_key(|passage| passage.ended_us) {
        return Some(Verdict::Failed {
            service: failed.service.clone(),
            because: failed.message.clone(),
        });
    }
    let first_us = passages.iter().map(|passage| passage.first_us()).min()?;
    let open = last.values().filter(|passage| passage.is_open());
    let ended: BTreeSet<&str> = last
        .values()
        .filter(|passage| passage.ended_us.is_some())
        .map(|passage| passage.service.as_str())
        .collect();
    let unfinished = open
        .max_by_key(|passage| passage.last_us())
        .or_else(|| last.values().find(|_| ended.is_empty()));
    Some(match unfinished {
        Some(open) => Verdict::Running {
            for_us: now_us - first_us,
            at: open.service.clone(),
            device: None,
        },
        None => Verdict::Success { services: ended.len() },
    })
}

fn job_verdict(entries: &[Entry], about: &About, states: &[StateSpan], last: &StateSpan, now_us: i64) -> Verdict {
    let since = |wanted: &str| {
        let found = states.iter().find(|span| span.state.eq_ignore_ascii_case(wanted));
        found.map(|span| span.from_us)
    };
    let (submitted, started) = (since("Submitted"), since("Running"));
    if !last.state.eq_ignore_ascii_case(state::FINISHED) {
        return Verdict::Running {
            for_us: now_us - submitted.unwrap_or_else(|| states.first().map_or(now_us, |first| first.from_us)),
            at: last.state.clone(),
            device: about.device.clone(),
        };
    }
    let (because, error_type) = why(entries);
    Verdict::Finished {
        health: last.health.clone(),
        ran_us: started.map(|started| last.from_us - started),
        queued_us: started.zip(submitted).map(|(started, submitted)| started - submitted),
        device: about.device.clone(),
        because,
        error_type,
    }
}

/// What an attempt, or else a fault, says of why a job is not Complete.
fn why(entries: &[Entry]) -> (Option<String>, Option<String>) {
    let failed = |attempt: &Attempt| {
        attempt.exit_code.is_some_and(|code| code != 0)
            || attempt
                .outcome
                .as_deref()
                .is_some_and(|outcome| !outcome.eq_ignore_ascii_case("pass"))
    };
    let attempts = entries.iter().rev().filter_map(|entry| match entry.typed.body() {
        Body::Attempt(attempt) if failed(attempt) => Some(attempt.as_ref()),
        _ => None,
    });
    let attempts: Vec<&Attempt> = attempts.collect();
    let faults = entries.iter().rev().filter_map(|entry| match entry.typed.body() {
        Body::Fault(fault) if fault.cleared != Some(true) => fault.message.clone(),
        _ => None,
    });
    let detail = attempts.iter().find_map(|attempt| attempt.detail.clone());
    let error_type = attempts.iter().find_map(|attempt| attempt.error_type.clone());
    (detail.or_else(|| faults.into_iter().next()), error_type)
}

/// A job's state only goes forward, so an event that arrives late or was repeated changes nothing.
fn job_states(entries: &[Entry], own: &BTreeSet<String>) -> Vec<StateSpan> {
    let rank = |name: &str| state::JOB.iter().position(|known| known.eq_ignore_ascii_case(name));
    let mut spans: Vec<StateSpan> = Vec::new();
    for entry in entries {
        let Body::Job(job) = entry.typed.body() else { continue };
        let Some(name) = &job.state else { continue };
        if !entry.typed.job_ids().any(|id| own.contains(id.as_str())) {
            continue;
        }
        let is_later = match spans.last() {
            None => true,
            Some(last) => match (rank(&last.state), rank(name)) {
                (Some(last), Some(now)) => now > last,
                _ => !last.state.eq_ignore_ascii_case(name),
            },
        };
        if !is_later {
            continue;
        }
        let [submitted, started, ended] =
            [&job.submit_time, &job.start_time, &job.end_time].map(|time| time_us(time.as_deref()));
        let told = match rank(name) {
            Some(0) => submitted,
            Some(3) => started,
            Some(5) => ended,
            _ => None,
        };
        let from_us = told.unwrap_or(entry.at_us);
        match (spans.last_mut(), submitted) {
            (Some(last), _) => last.to_us = Some(from_us),
            // Its first events are gone, or nobody listened then.
            (None, Some(submitted)) if rank(name) != Some(0) => spans.push(StateSpan {
                state: state::JOB[0].to_owned(),
                health: None,
                from_us: submitted,
                to_us: Some(from_us),
            }),
            _ => {}
        }
        spans.push(StateSpan {
            state: name.clone(),
            health: job.health.clone(),
            from_us,
            to_us: None,
        });
    }
    spans
}

fn object_states(entries: &[Entry], kind: Kind, id: &str) -> Vec<StateSpan> {
    let mut spans: Vec<StateSpan> = Vec::new();
    for entry in entries {
        if entry.typed.entity().is_none_or(|(of, name)| of != kind || name != id) {
            continue;
        }
        let state = entry.typed.state().unwrap_or_default();
        let health = entry.typed.health();
        if let Some(last) = spans.last_mut() {
            let same_health = match (last.health.as_deref(), health) {
                (Some(last), Some(now)) => last.eq_ignore_ascii_case(now),
                (last, now) => last == now,
            };
            if last.state.eq_ignore_ascii_case(state) && same_health {
                continue;
            }
            last.to_us = Some(entry.at_us);
        }
        spans.push(StateSpan {
            state: state.to_owned(),
            health: health.map(str::to_owned),
            from_us: entry.at_us,
            to_us: None,
        });
    }
    spans
}

fn about(entries: &[Entry], own: BTreeSet<String>) -> About {
    let mut about = About {
        job: own,
        ..About::default()
    };
    let fill = |place: &mut Option<String>, value: &Option<String>| {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            *place = Some(value.clone());
        }
    };
    for entry in entries {
        match entry.typed.body() {
            Body::Job(job) if is_one_of(job, &about.job) => {
                fill(&mut about.device, &job.device);
                fill(&mut about.device_type, &job.device_type);
                fill(&mut about.worker, &job.worker);
                fill(&mut about.submitter, &job.submitter);
                fill(&mut about.description, &job.description);
            }
            Body::Stage(stage) => {
                about.account.extend(stage.account.clone());
                about.inventory.extend(stage.inventory.clone());
                about.system.extend(stage.system.clone());
                about.job.extend(stage.job.as_ref().map(ToString::to_string));
            }
            _ => {}
        }
    }
    about
}

fn is_one_of(job: &Job, own: &BTreeSet<String>) -> bool {
    let mut ids = job.job.iter().chain(&job.sub_id);
    ids.any(|id| own.contains(id.as_str()))
}

fn ended_jobs(entries: &[Entry]) -> BTreeMap<String, usize> {
    let mut by_job = BTreeMap::new();
    for entry in entries {
        if entry.typed.is_finished()
            && let Some(job) = entry.typed.job()
        {
            let health = entry.typed.health().unwrap_or("Unknown").to_owned();
            by_job.insert((entry.event.lab.clone(), job.to_string()), health);
        }
    }
    let mut jobs = BTreeMap::new();
    for health in by_job.into_values() {
        *jobs.entry(health).or_insert(0) += 1;
    }
    jobs
}

fn results(entries: &[Entry]) -> Vec<(String, usize)> {
    let mut last = BTreeMap::new();
    for entry in entries {
        if let Body::Result(result) = entry.typed.body()
            && let (Some(testcase), Some(outcome)) = (&result.testcase, &result.outcome)
        {
            let case = (&entry.event.lab, testcase, result.item.as_deref());
            last.insert(case, outcome.to_uppercase());
        }
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for outcome in last.into_values() {
        *counts.entry(outcome).or_insert(0) += 1;
    }
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(outcome, _)| outcome::badness(outcome));
    counts
}
