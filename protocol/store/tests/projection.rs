//! The latest of each object, whatever the projector has and has not read yet.
#![allow(clippy::unwrap_used)]

mod lab;

use std::time::Duration;

use lab::{Lab, event, id, new_event};
use lavabus_protocol::{Kind, SnapshotScope};
use lavabus_store::{Event, Journal, Retention};

const DAY_US: i64 = 24 * 3_600 * 1_000_000;

/// An event sent and received at that second of the first minutes of 1970.
fn told(second: u64, kind: &str, data: &str) -> Event {
    Event {
        id: id(second),
        received_us: second.cast_signed() * 1_000_000,
        topic: format!("org.example.lab.{kind}"),
        sent: format!("1970-01-01T00:{:02}:{:02}+00:00", second / 60, second % 60),
        data: data.to_owned(),
        ..event(second)
    }
}

fn job(second: u64, number: u32, state: &str) -> Event {
    told(
        second,
        "testjob",
        &format!(r#"{{"job": {number}, "state": "{state}", "sub_id": "{number}0.1"}}"#),
    )
}

fn device(second: u64, name: &str, state: &str) -> Event {
    told(
        second,
        "device",
        &format!(r#"{{"device": "{name}", "state": "{state}"}}"#),
    )
}

fn worker(second: u64, name: &str, state: &str) -> Event {
    told(
        second,
        "worker",
        &format!(r#"{{"hostname": "{name}", "state": "{state}"}}"#),
    )
}

fn keep(journal: &mut Journal, events: &[Event]) {
    let mut group = journal.group().unwrap();
    for event in events {
        group.append(&new_event(event)).unwrap();
    }
    group.commit().unwrap();
}

/// Where the snapshot is true, and the second of each of its events.
fn snapshot(lab: &Lab, scope: &SnapshotScope, jobs_since_us: i64) -> (u64, Vec<u64>) {
    let snapshot = lab.reader().snapshot(scope, jobs_since_us).unwrap();
    (
        snapshot.position,
        snapshot
            .events
            .iter()
            .map(|event| event.received_us as u64 / 1_000_000)
            .collect(),
    )
}

fn one(kind: Kind, id: &str) -> SnapshotScope {
    SnapshotScope::One {
        kind,
        id: id.to_owned(),
    }
}

fn story() -> Vec<Event> {
    vec![
        worker(1, "w1", "Online"),
        device(2, "d1", "Idle"),
        job(3, 7, "Submitted"),
        device(4, "d1", "Running"),
        job(5, 8, "Submitted"),
        told(6, "event", r#"{"message": "hello", "job": 7}"#),
        job(8, 7, "Finished"),
        // Sent before job 7 finished, received after.
        Event {
            received_us: 9_000_000,
            id: id(9),
            ..job(7, 7, "Running")
        },
        device(10, "d2", "Idle"),
    ]
}

#[test]
fn a_snapshot_is_the_same_wherever_the_projector_stands() {
    for projected in 0..=9 {
        let lab = Lab::new();
        let mut journal = lab.journal();
        keep(&mut journal, &story());
        if projected > 0 {
            let at = journal.project(projected).unwrap();
            assert_eq!((at.cursor, at.behind), (projected, 9 - projected));
        }
        assert_eq!(snapshot(&lab, &SnapshotScope::All, 0), (9, vec![1, 4, 5, 10]));
        assert_eq!(snapshot(&lab, &SnapshotScope::All, 6_000_000), (9, vec![1, 4, 10]));
        assert_eq!(snapshot(&lab, &one(Kind::Testjob, "7"), i64::MAX), (9, vec![8]));
        assert_eq!(snapshot(&lab, &one(Kind::Testjob, "70.1"), i64::MAX), (9, vec![8]));
        assert_eq!(snapshot(&lab, &one(Kind::Device, "d1"), 0), (9, vec![4]));
        assert_eq!(snapshot(&lab, &one(Kind::Worker, "d1"), 0), (9, vec![]));
        let reader = lab.reader();
        let latest = reader.snapshot(&one(Kind::Testjob, "7"), 0).unwrap().events;
        assert_eq!(
            latest,
            [Event {
                seq: 7,
                ..job(8, 7, "Finished")
            }]
        );
    }
}

#[test]
fn projecting_in_any_steps_gives_the_same() {
    let rows = |step: u64| {
        let lab = Lab::new();
        let mut journal = lab.journal();
        keep(&mut journal, &story());
        while journal.project(step).unwrap().behind > 0 {}
        let status = lab.reader().status().unwrap();
        assert_eq!((status.projected, status.entities), (9, 5));
        lab.reader().snapshot(&SnapshotScope::All, 0).unwrap()
    };
    for step in 2..10 {
        assert_eq!(rows(step), rows(1));
    }
}

#[test]
fn entities_outlive_their_events() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    keep(&mut journal, &story());
    let keep_nothing = Retention {
        max_age: Some(Duration::ZERO),
        max_bytes: None,
    };
    // Nothing was projected yet: pruning has to see to it.
    while journal.prune(&keep_nothing, DAY_US, &Default::default()).unwrap().more {}
    assert_eq!(journal.oldest().unwrap(), Some(9));
    assert_eq!(snapshot(&lab, &SnapshotScope::All, 0), (9, vec![1, 4, 5, 10]));
    assert_eq!(snapshot(&lab, &one(Kind::Testjob, "7"), 0), (9, vec![8]));

    // Nor does making them again lose those whose events are gone.
    journal.rebuild().unwrap();
    assert_eq!(lab.reader().status().unwrap().entities, 4);
    assert_eq!(journal.project(100).unwrap().behind, 0);
    assert_eq!(snapshot(&lab, &SnapshotScope::All, 0), (9, vec![1, 4, 5, 10]));
}

#[test]
fn entities_survive_damage_of_the_database() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    keep(&mut journal, &story());
    let keep_nothing = Retention {
        max_age: Some(Duration::ZERO),
        max_bytes: None,
    };
    while journal.prune(&keep_nothing, DAY_US, &Default::default()).unwrap().more {}
    journal.mark_damaged().unwrap();
    drop(journal);
    let mut journal = lab.journal();
    assert_eq!(journal.salvage().unwrap().events_saved, 1);
    assert_eq!(journal.project(100).unwrap().behind, 0);
    assert_eq!(snapshot(&lab, &SnapshotScope::All, 0), (1, vec![1, 4, 5, 10]));
    assert_eq!(snapshot(&lab, &one(Kind::Testjob, "7"), 0), (1, vec![8]));
    // A late event of an object whose latest event is gone does not replace it either.
    keep(
        &mut journal,
        &[Event {
            received_us: DAY_US,
            id: id(11),
            ..device(3, "d1", "Reserved")
        }],
    );
    assert_eq!(snapshot(&lab, &one(Kind::Device, "d1"), 0), (2, vec![4]));
}

#[test]
fn every_message_of_a_real_lab_has_its_place() {
    let capture = include_str!("../../../tests/data/lava-capture.jsonl");
    let lab = Lab::new();
    let mut journal = lab.journal();
    let mut group = journal.group().unwrap();
    for (at, line) in capture.lines().enumerate() {
        let record = lavabus_protocol::Record::from_json_line(line).unwrap();
        let new = lavabus_store::NewEvent {
            id: &record.uuid,
            received_us: at as i64,
            topic: &record.topic,
            sent: &record.datetime,
            user: &record.username,
            data: &record.data,
            lab: "",
        };
        group.append(&new).unwrap();
    }
    group.commit().unwrap();
    while journal.project(50).unwrap().behind > 0 {}
    // Counted in the capture's JSON by other means: 19 jobs, all but one finished. The last figure tells which events
    // are the latest.
    let snapshot = lab.reader().snapshot(&SnapshotScope::All, 0).unwrap();
    let of = |kind| {
        snapshot
            .events
            .iter()
            .filter(|event| Kind::of(&event.topic) == kind)
            .count()
    };
    assert_eq!((of(Kind::Worker), of(Kind::Device), of(Kind::Testjob)), (3, 5, 1));
    assert_eq!(lab.reader().status().unwrap().entities, 27);
    assert_eq!(snapshot.events.iter().map(|event| event.seq).sum::<u64>(), 1_420);
}
