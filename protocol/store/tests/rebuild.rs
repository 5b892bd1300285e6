//! Living through the stream, in any steps, with pruning anywhere, gives the same rows as making them again.
#![allow(clippy::unwrap_used)]

mod lab;

use std::time::Duration;

use lab::{Lab, event, id, new_event};
use lavabus_store::{Event, Journal, PruneBudget, Retention};
use proptest::prelude::*;
use rusqlite::Connection;

/// Everything that is derived, but for `ref` and the base, as text.
fn rows(lab: &Lab) -> Vec<String> {
    let conn = Connection::open(lab.path()).unwrap();
    let mut found = Vec::new();
    for (table, order) in [
        ("entity", "kind, id, lab"),
        ("attempt", "lab, device, first_seq"),
        ("fault", "lab, subject, first_seq"),
        ("result", "lab, testcase, item, first_seq"),
        ("stage", "lab, request, service, source"),
        ("ref", "kind, id, seq"),
    ] {
        let mut select = conn
            .prepare(&format!("SELECT * FROM {table} ORDER BY {order}"))
            .unwrap();
        let count = select.column_count();
        let mut rows = select.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<_> = (0..count).map(|at| row.get_ref(at).unwrap()).collect();
            found.push(format!("{table} {values:?}"));
        }
    }
    found
}

fn keep(journal: &mut Journal, events: &[Event]) {
    let mut group = journal.group().unwrap();
    for event in events {
        group.append(&new_event(event)).unwrap();
    }
    group.commit().unwrap();
}

fn project_all(journal: &mut Journal, step: u64) {
    while journal.project(step).unwrap().behind > 0 {}
    while journal.project_history(step).unwrap().behind > 0 {}
}

/// What a lab may say, with few names so that much concerns the same things.
fn data() -> impl Strategy<Value = (&'static str, String)> {
    let (name, number) = (0..3_u8, 0..6_u32);
    let word = |words: &[&'static str]| prop::sample::select(words.to_vec());
    prop_oneof![
        (name.clone(), word(&["Idle", "Running"]), word(&["Good", "Bad", "Looping"])).prop_map(|(name, state, health)| (
            "device",
            format!(r#"{{"device": "d{name}", "state": "{state}", "health": "{health}"}}"#)
        )),
        (number.clone(), name.clone(), word(&["Running", "Finished"]), word(&["Complete", "Incomplete", "Canceled"]))
            .prop_map(|(job, name, state, health)| (
                "testjob",
                format!(r#"{{"job": {job}, "sub_id": "9.{job}", "device": "d{name}", "state": "{state}", "health": "{health}"}}"#)
            )),
        (name.clone(), word(&["Online", "Offline"]))
            .prop_map(|(name, state)| ("worker", format!(r#"{{"hostname": "w{name}", "state": "{state}"}}"#))),
        (number.clone(), name.clone(), word(&["job", "provision"]), 0..2_i64).prop_map(|(job, name, phase, code)| (
            "attempt",
            format!(r#"{{"device": "d{name}", "job_id": {job}, "exit_code": {code}, "phase": "{phase}", "detail": "x{code}"}}"#)
        )),
        (name.clone(), 0..3_u8, any::<bool>()).prop_map(|(name, message, cleared)| (
            "fault",
            format!(r#"{{"subject": "device/d{name}", "message": "m{message}", "cleared": {cleared}}}"#)
        )),
        (name.clone(), word(&["PASSED", "FAILED"]), number.clone()).prop_map(|(name, outcome, run)| (
            "result",
            format!(r#"{{"testcase": "t{name}", "outcome": "{outcome}", "run": "r{run}"}}"#)
        )),
        (number, name, word(&["received", "running", "success", "error"])).prop_map(|(request, name, status)| (
            "stage",
            format!(r#"{{"service": "s{name}", "request_id": "q{request}", "status": "{status}"}}"#)
        )),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Keep(Vec<((&'static str, String), i64)>),
    Project(u64),
    Prune(u64),
    Rebuild,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Some events are sent out of order.
    let events = prop::collection::vec((data(), -20..20_i64), 1..25);
    let step = prop_oneof![
        4 => events.prop_map(Step::Keep),
        3 => (1..30_u64).prop_map(Step::Project),
        2 => (1..20_u64).prop_map(Step::Prune),
        1 => Just(Step::Rebuild),
    ];
    prop::collection::vec(step, 1..16)
}

/// The event with this number: sent and received at that second, but for `late` seconds.
fn told(number: u64, kind: &str, data: &str, late: i64) -> Event {
    let second = number.cast_signed();
    let sent = (second + 1_000 + late).max(0);
    Event {
        id: id(number),
        received_us: second * 1_000_000,
        topic: format!("lab.{kind}"),
        sent: format!(
            "1970-01-01T{:02}:{:02}:{:02}+00:00",
            sent / 3600,
            sent / 60 % 60,
            sent % 60
        ),
        data: data.to_owned(),
        ..event(number)
    }
}

/// In turn the end of a job, a fault and a result.
fn job_fault_or_result(number: u64, fault: &str, result: &str) -> Event {
    let job = format!(r#"{{"job": {number}, "device": "d", "state": "Finished", "health": "Complete"}}"#);
    match number % 3 {
        0 => told(number, "testjob", &job, 0),
        1 => told(number, "fault", fault, 0),
        _ => told(number, "result", result, 0),
    }
}

/// Deletes the oldest events, at most this many.
fn prune(journal: &mut Journal, events: u64) {
    let keep_nothing = Retention {
        max_age: Some(Duration::ZERO),
        max_bytes: None,
    };
    let budget = PruneBudget {
        events,
        ..PruneBudget::default()
    };
    journal.prune(&keep_nothing, i64::MAX, &budget).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_rebuild_gives_the_rows_that_living_through_the_stream_gave(steps in steps()) {
        // One lab lives through all the steps, the other through its events alone, each projected at once.
        let (lab, plain) = (Lab::new(), Lab::new());
        let (mut journal, mut other) = (lab.journal(), plain.journal());
        let (mut number, mut pruned) = (0, 0);
        for step in &steps {
            match step {
                Step::Keep(events) => {
                    let events: Vec<Event> = events
                        .iter()
                        .map(|((kind, data), late)| {
                            number += 1;
                            told(number, kind, data, *late)
                        })
                        .collect();
                    keep(&mut journal, &events);
                    keep(&mut other, &events);
                    project_all(&mut other, 1);
                }
                Step::Project(events) => {
                    journal.project(*events).unwrap();
                    journal.project_history(events / 2 + 1).unwrap();
                }
                Step::Prune(events) => {
                    prune(&mut journal, *events);
                    pruned = journal.oldest().unwrap().unwrap_or(1) - 1;
                }
                Step::Rebuild => journal.rebuild().unwrap(),
            }
        }
        // What has its end, and not its beginning, in the kept events is not in either.
        while other.oldest().unwrap().unwrap_or(1) <= pruned {
            let left = pruned + 1 - other.oldest().unwrap().unwrap_or(1);
            prune(&mut other, left);
        }
        project_all(&mut journal, 7);
        let lived = rows(&lab);
        prop_assert_eq!(&lived, &rows(&plain));
        journal.rebuild().unwrap();
        project_all(&mut journal, 5);
        prop_assert_eq!(&lived, &rows(&lab));
        journal.rebuild().unwrap();
        project_all(&mut journal, 1000);
        prop_assert_eq!(&lived, &rows(&lab));
    }
}

/// More than is kept of each: what was cut away since has to come back for the rebuild to cut it away again.
#[test]
fn rows_that_are_cut_at_a_hundred_are_the_same_after_a_rebuild() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    let event = |number: u64| {
        let fault = format!(r#"{{"subject": "x", "message": "m{number}"}}"#);
        job_fault_or_result(number, &fault, r#"{"testcase": "t", "outcome": "PASSED"}"#)
    };
    keep(&mut journal, &(1..=450).map(event).collect::<Vec<_>>());
    project_all(&mut journal, 1000);
    prune(&mut journal, 200);
    keep(&mut journal, &(451..=700).map(event).collect::<Vec<_>>());
    project_all(&mut journal, 1000);
    let lived = rows(&lab);
    let of = |table: &str| lived.iter().filter(|row| row.starts_with(table)).count();
    assert_eq!((of("attempt"), of("fault"), of("result")), (100, 100, 100));
    prune(&mut journal, 100);
    journal.rebuild().unwrap();
    project_all(&mut journal, 10);
    let again = rows(&lab);
    let derived = |rows: &[String]| {
        rows.iter()
            .filter(|row| !row.starts_with("ref"))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(derived(&again), derived(&lived));
}

/// What outlives its events outlives damage too, once, and in its order.
#[test]
fn a_damaged_database_keeps_what_outlives_its_events() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    let event = |number: u64| {
        let result = format!(r#"{{"testcase": "t", "outcome": "PASSED", "run": "r{number}"}}"#);
        job_fault_or_result(number, r#"{"subject": "x", "message": "m"}"#, &result)
    };
    keep(&mut journal, &(1..=30).map(event).collect::<Vec<_>>());
    project_all(&mut journal, 1000);
    prune(&mut journal, 20);
    assert_eq!(journal.oldest().unwrap(), Some(21));
    let derived = |lab: &Lab| -> Vec<String> {
        let conn = Connection::open(lab.path()).unwrap();
        let mut found = Vec::new();
        for sql in [
            "SELECT job || outcome FROM attempt ORDER BY first_seq",
            "SELECT message || count FROM fault ORDER BY first_seq",
            "SELECT run || ifnull(previous, '') || newest FROM result ORDER BY first_seq",
        ] {
            let mut select = conn.prepare(sql).unwrap();
            let rows = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
            found.extend(rows.map(Result::unwrap));
        }
        found
    };
    let before = derived(&lab);
    assert!(before.contains(&"m10".to_owned()), "{before:?}");
    for _ in 0..2 {
        journal.mark_damaged().unwrap();
        drop(journal);
        journal = lab.journal();
        project_all(&mut journal, 7);
        assert_eq!(derived(&lab), before);
        journal.rebuild().unwrap();
        project_all(&mut journal, 3);
        assert_eq!(derived(&lab), before);
    }
    prune(&mut journal, 5);
    journal.rebuild().unwrap();
    project_all(&mut journal, 3);
    assert_eq!(derived(&lab), before);
}

/// A database that is full has no room to derive anything before its events go.
#[test]
fn what_a_full_database_prunes_is_derived_all_the_same() {
    let lab = Lab::new();
    let options = lavabus_store::Options {
        max_bytes: Some(600 << 10),
        ..lavabus_store::Options::default()
    };
    let mut journal = Journal::open(lab.path(), &options).unwrap();
    let filler = "x".repeat(100);
    let mut number = 0;
    let mut add = |journal: &mut Journal, kind: &str, data: String| {
        number += 1;
        let event = told(number, kind, &data, 0);
        let mut group = journal.group().unwrap();
        group.append(&new_event(&event)).and_then(|_| group.commit())
    };
    add(
        &mut journal,
        "fault",
        r#"{"subject": "x", "message": "old"}"#.to_owned(),
    )
    .unwrap();
    project_all(&mut journal, 10);
    add(
        &mut journal,
        "fault",
        r#"{"subject": "x", "message": "old", "cleared": true}"#.to_owned(),
    )
    .unwrap();
    add(
        &mut journal,
        "fault",
        r#"{"subject": "x", "message": "new"}"#.to_owned(),
    )
    .unwrap();
    while add(
        &mut journal,
        "device",
        format!(r#"{{"device": "d", "note": "{filler}"}}"#),
    )
    .is_ok()
    {}
    while add(&mut journal, "worker", r#"{"hostname": "w"}"#.to_owned()).is_ok() {}
    assert!(
        journal.project_history(100_000).is_err(),
        "there is room: the test tests nothing"
    );
    prune(&mut journal, 50);
    let conn = Connection::open(lab.path()).unwrap();
    let mut select = conn
        .prepare("SELECT message || (cleared_us IS NOT NULL) FROM fault ORDER BY first_seq")
        .unwrap();
    let faults: Vec<String> = select
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(faults, ["old1", "new0"]);
}

/// Endless names do not make the file grow without end: what was not heard of for longest is forgotten.
#[test]
fn endless_names_keep_the_size() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    let retention = Retention {
        max_age: None,
        max_bytes: Some(1 << 20),
    };
    let event = |number: u64| {
        let (kind, data) = match number % 4 {
            0 => (
                "testjob",
                format!(r#"{{"job": {number}, "device": "d{number}", "state": "Finished", "health": "Complete"}}"#),
            ),
            1 => ("fault", format!(r#"{{"subject": "device/d{number}", "message": "m"}}"#)),
            2 => ("result", format!(r#"{{"testcase": "t{number}", "outcome": "PASSED"}}"#)),
            // One that is heard of all the time.
            _ => (
                "device",
                r#"{"device": "known", "state": "Idle", "health": "Good"}"#.to_owned(),
            ),
        };
        told(number, kind, &data, 0)
    };
    for first in (1..=8_000).step_by(500) {
        keep(&mut journal, &(first..first + 500).map(event).collect::<Vec<_>>());
        project_all(&mut journal, 1_000);
        while journal.prune(&retention, 0, &PruneBudget::default()).unwrap().more {}
        let used = lab.reader().status().unwrap().used_bytes;
        assert!(used <= 1 << 20, "after {first}: {used}");
    }
    let lived = rows(&lab);
    for table in ["entity", "attempt", "fault", "result"] {
        let newest = lived.iter().filter(|row| row.starts_with(table)).count();
        assert!((100..5_000).contains(&newest), "{table}: {newest}");
    }
    let conn = Connection::open(lab.path()).unwrap();
    let is_there = |id: &str| -> bool {
        let sql = "SELECT count(*) FROM entity WHERE id = ?";
        conn.query_row(sql, [id], |row| row.get(0)).unwrap()
    };
    assert!(is_there("known") && is_there("8000") && !is_there("4"));
    journal.rebuild().unwrap();
    project_all(&mut journal, 1_000);
    assert_eq!(rows(&lab), lived);
}
