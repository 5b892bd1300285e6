//! The verdict from JSON lines, and from every order of things for a small lab.

#![allow(clippy::unwrap_used)]

use jiff::{SignedDuration, Timestamp};
use lavabus_client::{datetime_text, new_event};
use lavabus_protocol::{EventId, Kind, Record};
use proptest::prelude::*;
use proptest::sample::Index;

use super::condition::{Condition, Conditions};
use super::tracker::{Object, Quantity, Source, Tracker, badness};
use crate::exit::Exit;

fn tracker(objects: &[(Kind, &str)], conditions: &[&str], quantity: Quantity) -> Tracker {
    let objects = objects.iter().map(|(kind, id)| Object {
        kind: *kind,
        id: (*id).to_owned(),
    });
    let conditions: Vec<Condition> = conditions.iter().map(|text| text.parse().unwrap()).collect();
    Tracker::new(objects.collect(), Conditions::new(conditions).unwrap(), quantity)
}

fn exit(tracker: &Tracker) -> Option<Exit> {
    tracker.decider().map(|tracked| tracked.verdict.as_ref().unwrap().exit)
}

/// After each line, the verdict so far.
fn verdicts(lines: &str, objects: &[(Kind, &str)], conditions: &[&str]) -> Vec<Option<Exit>> {
    let mut tracker = tracker(objects, conditions, Quantity::All);
    let told = lines.lines().map(|line| {
        tracker.tell(&Record::from_json_line(line).unwrap(), Source::Event);
        exit(&tracker)
    });
    told.collect()
}

fn line(kind: &str, data: &str) -> String {
    new_event(&format!("org.example.{kind}"), "lavaserver", data)
        .unwrap()
        .to_json_line()
}

fn job_lines(states: &[(&str, &str)]) -> String {
    let lines = states.iter().map(|(state, health)| {
        line(
            "testjob",
            &format!(r#"{{"job": 12, "state": "{state}", "health": "{health}"}}"#),
        ) + "\n"
    });
    lines.collect()
}

const LIFE: [(&str, &str); 4] = [
    ("Submitted", "Unknown"),
    ("Scheduled", "Unknown"),
    ("Running", "Unknown"),
    ("Finished", "Incomplete"),
];

#[test]
fn the_end_of_a_job_decides_a_plain_wait() {
    let verdict = |lines: &str| verdicts(lines, &[(Kind::Testjob, "12")], &[]).pop().unwrap();
    assert_eq!(verdict(&job_lines(&LIFE)), Some(Exit::JobIncomplete));
    assert_eq!(verdict(&job_lines(&LIFE[..3])), None);
    assert_eq!(verdict(&job_lines(&[("Finished", "Complete")])), Some(Exit::Success));
    assert_eq!(
        verdict(&job_lines(&[("Finished", "Canceled")])),
        Some(Exit::JobCanceled)
    );
    assert_eq!(
        verdict(&job_lines(&[("Finished", "Unknown")])),
        Some(Exit::JobIncomplete)
    );
    // Finished is final, whatever is repeated after it.
    let late = job_lines(&[
        ("Finished", "Complete"),
        ("Running", "Unknown"),
        ("Finished", "Canceled"),
    ]);
    assert_eq!(verdict(&late), Some(Exit::Success));
}

#[test]
fn a_condition_is_met_when_it_is_seen_and_never_after_the_end() {
    let all = |condition: &str| verdicts(&job_lines(&LIFE), &[(Kind::Testjob, "12")], &[condition]);
    assert_eq!(all("running")[..3], [None, None, Some(Exit::Success)]);
    assert_eq!(all("finished"), [None, None, None, Some(Exit::Success)]);
    assert_eq!(all("health=incomplete")[3], Some(Exit::Success));
    assert_eq!(all("health=complete")[3], Some(Exit::Unreachable));
    assert_eq!(all("state=Canceling")[3], Some(Exit::Unreachable));
}

#[test]
fn every_written_form_of_a_job_and_both_generations() {
    for (id, data) in [
        ("1995", r#"{"job": 1995, "state": "Finished", "health": "Complete"}"#),
        ("1995", r#"{"job": "1995", "state": "Finished", "health": "Complete"}"#),
        (
            "1995",
            r#"{"job": "http://lava/scheduler/job/1995", "state": "Finished", "health": "Complete"}"#,
        ),
        (
            "4000.1",
            r#"{"job": 4001, "sub_id": "4000.1", "state": "Finished", "health": "Complete"}"#,
        ),
        (
            "4001",
            r#"{"job": 4001, "sub_id": "4000.1", "state": "Finished", "health": "Complete"}"#,
        ),
        (
            "1995",
            r#"{"job": "http://lava/scheduler/job/1995", "status": "Complete"}"#,
        ),
    ] {
        let verdicts = verdicts(&line("testjob", data), &[(Kind::Testjob, id)], &[]);
        assert_eq!(verdicts, [Some(Exit::Success)], "{id} {data}");
    }
    // A device that mentions the job says nothing of the job's state.
    let device = line(
        "device",
        r#"{"device": "d", "job": 1995, "state": "Finished", "health": "Complete"}"#,
    );
    assert_eq!(verdicts(&device, &[(Kind::Testjob, "1995")], &[]), [None]);
}

#[test]
fn devices_and_workers() {
    let lines = [
        line("device", r#"{"device": "d", "state": "Running", "health": "Good"}"#),
        line("device", r#"{"device": "e", "state": "Idle", "health": "Good"}"#),
        line("device", r#"{"device": "d", "state": "Idle", "health": "Good"}"#),
    ]
    .join("\n");
    let found = verdicts(&lines, &[(Kind::Device, "d")], &["state=idle", "health=good"]);
    assert_eq!(found, [None, None, Some(Exit::Success)]);
    let retired = line("device", r#"{"device": "d", "state": "Idle", "health": "Retired"}"#);
    assert_eq!(
        verdicts(&retired, &[(Kind::Device, "d")], &["health=Good"]),
        [Some(Exit::Unreachable)]
    );
    let worker = line("worker", r#"{"hostname": "w", "state": "Online", "health": "Active"}"#);
    assert_eq!(
        verdicts(&worker, &[(Kind::Worker, "w")], &["state=online"]),
        [Some(Exit::Success)]
    );
}

#[test]
fn the_worst_wins_of_all_and_the_first_of_any() {
    let finished = |job: u32, health: &str| {
        let data = format!(r#"{{"job": {job}, "state": "Finished", "health": "{health}"}}"#);
        Record::from_json_line(&line("testjob", &data)).unwrap()
    };
    let jobs = [(Kind::Testjob, "1"), (Kind::Testjob, "2"), (Kind::Testjob, "3")];
    let mut all = tracker(&jobs, &[], Quantity::All);
    let mut any = tracker(&jobs, &[], Quantity::Any);
    for (job, health, expected) in [
        (2, "Canceled", None),
        (3, "Complete", None),
        (1, "Incomplete", Some(10)),
    ] {
        all.tell(&finished(job, health), Source::Event);
        any.tell(&finished(job, health), Source::Event);
        assert_eq!(exit(&all).map(Exit::code), expected);
        assert_eq!(exit(&any), Some(Exit::JobCanceled));
    }
    let order = [
        Exit::NoSuchObject,
        Exit::Unreachable,
        Exit::JobIncomplete,
        Exit::TestsFailed,
        Exit::JobCanceled,
        Exit::Success,
    ];
    assert!(order.map(badness).is_sorted_by(|worse, better| worse > better));
}

#[test]
fn what_is_not_there() {
    let mut jobs = tracker(&[(Kind::Testjob, "1")], &[], Quantity::All);
    jobs.tell_absent(0);
    assert_eq!(exit(&jobs), Some(Exit::NoSuchObject));
    // Who has told of it knows better.
    let mut known = tracker(&[(Kind::Testjob, "12")], &[], Quantity::All);
    known.tell(
        &Record::from_json_line(job_lines(&LIFE).lines().next().unwrap()).unwrap(),
        Source::Event,
    );
    known.tell_absent(0);
    assert_eq!(exit(&known), None);
}

/// What really happened to one object: data of its events, a second apart.
#[derive(Clone, Debug)]
struct Life {
    kind: Kind,
    id: String,
    data: Vec<(String, String)>,
}

impl Life {
    /// The event of this step, or the answer that tells of it.
    fn record(&self, step: usize) -> Record {
        let (state, health) = &self.data[step];
        let key = if self.kind == Kind::Device { "device" } else { "job" };
        let data = format!(
            r#"{{"{key}": "{}", "state": "{state}", "health": "{health}"}}"#,
            self.id
        );
        let mut record = new_event(&format!("lab.{}", self.kind.as_str()), "u", &data).unwrap();
        record.datetime = datetime_text(at(step));
        record.uuid = EventId([u8::try_from(step).unwrap(); 16]);
        record
    }

    fn last(&self) -> usize {
        self.data.len() - 1
    }
}

fn at(step: usize) -> Timestamp {
    let begin: Timestamp = "2026-11-21T05:00:00Z".parse().unwrap();
    begin + SignedDuration::from_secs(step.try_into().unwrap())
}

fn job_life() -> impl Strategy<Value = Life> {
    let health = proptest::sample::select(vec!["Complete", "Incomplete", "Canceled"]);
    (1..4_usize, 0..3_usize, any::<bool>(), health).prop_map(|(queued, repeats, runs, health)| {
        let mut data: Vec<(&str, &str)> = vec![("Submitted", "Unknown"); repeats + 1];
        if queued > 1 {
            data.push(("Scheduled", "Unknown"));
        }
        if runs {
            data.push(("Running", "Unknown"));
        }
        data.push(("Finished", health));
        life(Kind::Testjob, &data)
    })
}

fn device_life() -> impl Strategy<Value = Life> {
    let state = proptest::sample::select(vec!["Idle", "Reserved", "Running"]);
    let health = proptest::sample::select(vec!["Good", "Bad", "Maintenance"]);
    proptest::collection::vec((state, health), 1..6).prop_map(|data| life(Kind::Device, &data))
}

fn life(kind: Kind, data: &[(&str, &str)]) -> Life {
    Life {
        kind,
        id: "12".to_owned(),
        data: data
            .iter()
            .map(|(state, health)| (state.to_string(), health.to_string()))
            .collect(),
    }
}

/// How one step is told.
#[derive(Clone, Copy, Debug)]
enum Telling {
    /// Live, or by replay.
    Event(usize),
    /// By LAVA, asked while that step was true.
    Answer(usize),
}

/// Everything that can happen between what is and what is heard: lost, repeated, replayed, told by snapshot or answer,
/// in the wrong order; only the last state is told in the end, since somebody is asked after every gap.
fn tellings(life: &Life, lost: &[bool], extra: &[(Index, bool, Index)]) -> Vec<Telling> {
    let kept = (0..=life.last()).filter(|step| !lost.get(*step).is_some_and(|lost| *lost));
    let mut tellings: Vec<Telling> = kept.map(Telling::Event).collect();
    for (step, is_answer, place) in extra {
        let step = step.index(life.last() + 1);
        let telling = if *is_answer {
            Telling::Answer(step)
        } else {
            Telling::Event(step)
        };
        tellings.insert(place.index(tellings.len() + 1), telling);
    }
    tellings.push(Telling::Answer(life.last()));
    tellings
}

fn tell(tracker: &mut Tracker, life: &Life, telling: Telling) {
    match telling {
        Telling::Event(step) => tracker.tell(&life.record(step), Source::Event),
        Telling::Answer(step) => tracker.tell(&life.record(step), Source::Answer),
    };
}

fn extra() -> impl Strategy<Value = Vec<(Index, bool, Index)>> {
    proptest::collection::vec((any::<Index>(), any::<bool>(), any::<Index>()), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_plain_wait_ends_with_the_jobs_health_and_not_before_its_end(
        life in job_life(),
        lost in proptest::collection::vec(any::<bool>(), 8),
        extra in extra(),
    ) {
        let mut tracker = tracker(&[(Kind::Testjob, "12")], &[], Quantity::All);
        let mut is_end_told = false;
        let expected = match life.data[life.last()].1.as_str() {
            "Complete" => Exit::Success,
            "Canceled" => Exit::JobCanceled,
            _ => Exit::JobIncomplete,
        };
        for telling in tellings(&life, &lost, &extra) {
            let (Telling::Event(step) | Telling::Answer(step)) = telling;
            is_end_told |= step == life.last();
            tell(&mut tracker, &life, telling);
            prop_assert_eq!(exit(&tracker), is_end_told.then_some(expected));
        }
    }

    #[test]
    fn running_is_met_if_it_is_told_before_the_end_and_never_after(
        life in job_life(),
        lost in proptest::collection::vec(any::<bool>(), 8),
        extra in extra(),
    ) {
        let mut tracker = tracker(&[(Kind::Testjob, "12")], &["running"], Quantity::All);
        let mut expected = None;
        for telling in tellings(&life, &lost, &extra) {
            let (Telling::Event(step) | Telling::Answer(step)) = telling;
            expected = expected.or(match life.data[step].0.as_str() {
                "Running" => Some(Exit::Success),
                "Finished" => Some(Exit::Unreachable),
                _ => None,
            });
            tell(&mut tracker, &life, telling);
            prop_assert_eq!(exit(&tracker), expected);
        }
        prop_assert!(expected.is_some());
    }

    #[test]
    fn a_device_is_as_wanted_only_if_it_was_and_surely_if_it_is(
        life in device_life(),
        lost in proptest::collection::vec(any::<bool>(), 8),
        extra in extra(),
    ) {
        let mut tracker = tracker(&[(Kind::Device, "12")], &["state=Idle", "health=Good"], Quantity::All);
        let is_wanted = |step: usize| life.data[step] == ("Idle".to_owned(), "Good".to_owned());
        let mut told = tellings(&life, &lost, &extra);
        let last = life.last();
        told.pop();
        for telling in told {
            tell(&mut tracker, &life, telling);
            prop_assert!(exit(&tracker).is_none() || (0..=last).any(is_wanted));
        }
        tracker.tell(&life.record(last), Source::Answer);
        if is_wanted(last) {
            prop_assert_eq!(exit(&tracker), Some(Exit::Success));
        }
    }

    /// What is told late of the past does not count as of now.
    #[test]
    fn a_device_is_not_what_it_was_before_what_is_known(life in device_life(), earlier: Index) {
        let last = life.last();
        let mut tracker = tracker(&[(Kind::Device, "12")], &["state=Idle", "health=Good"], Quantity::All);
        tracker.tell(&life.record(last), Source::Event);
        let before = exit(&tracker);
        tracker.tell(&life.record(earlier.index(last + 1)), Source::Event);
        prop_assert_eq!(exit(&tracker), before);
    }
}
