//! Questions are answered right, however far the projections are.
#![allow(clippy::unwrap_used)]

mod lab;

use std::ops::ControlFlow;

use lab::{Lab, event, id, new_event};
use lavabus_protocol::Filter;
use lavabus_protocol::filter::{Candidate, Field};
use lavabus_store::question::Selection;
use lavabus_store::question::stats::Scope;
use lavabus_store::question::timeline::{Subject, Timeline, Verdict, timeline};
use lavabus_store::{Event, Journal, RefKind};
use proptest::prelude::*;

/// An event sent and received at that second of 1970.
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

fn keep(journal: &mut Journal, events: &[Event]) {
    let mut group = journal.group().unwrap();
    for event in events {
        group.append(&new_event(event)).unwrap();
    }
    group.commit().unwrap();
}

/// A database with these events, of which the projections have read some.
fn database(events: &[Event], projected: u64) -> (Lab, lavabus_store::Reader) {
    let lab = Lab::new();
    let mut journal = lab.journal();
    keep(&mut journal, events);
    if projected > 0 {
        journal.project(projected).unwrap();
        journal.project_history(projected).unwrap();
    }
    journal.close().unwrap();
    let reader = lab.reader();
    (lab, reader)
}

fn story(events: &[Event], projected: u64, about: &str) -> Timeline {
    let (_lab, reader) = database(events, projected);
    let mentions = reader.mentions().unwrap();
    let known = mentions.known(Subject::meant_by(about)).unwrap();
    assert_eq!(known.len(), 1, "{about}: {known:?}");
    let story = mentions.story(&known[0], 0).unwrap();
    timeline(&known[0], story.events, 1_000_000_000)
}

fn seconds(timeline: &Timeline) -> Vec<i64> {
    timeline.events.iter().map(|entry| entry.at_us / 1_000_000).collect()
}

fn stage(second: u64, date: u64, rest: &str) -> Event {
    let date = format!("1970-01-01T00:{:02}:{:02}+00:00", date / 60, date % 60);
    told(
        second,
        "stage",
        &format!(r#"{{"date": "{date}", "request_id": "r", {rest}}}"#),
    )
}

#[test]
fn a_multinode_job_is_one_by_both_of_its_ids() {
    let events = [
        told(1, "testjob", r#"{"job": 41, "sub_id": "40.1", "state": "Submitted"}"#),
        told(2, "device", r#"{"device": "d", "state": "Running", "job": "40.1"}"#),
        told(3, "event", r#"{"message": "m", "job": 41}"#),
        told(4, "event", r#"{"message": "of the other half", "job": 40}"#),
        told(5, "testjob", r#"{"job": 40, "sub_id": "40.0", "state": "Running"}"#),
    ];
    for projected in [0, 1, 3, 5] {
        for about in ["41", "40.1", "job/41", "testjob/40.1", "http://lava/scheduler/job/41"] {
            assert_eq!(
                seconds(&story(&events, projected, about)),
                [1, 2, 3],
                "{about} {projected}"
            );
        }
        assert_eq!(seconds(&story(&events, projected, "40")), [4, 5]);
    }
}

#[test]
fn an_id_that_is_told_late_finds_what_was_before() {
    let events = [
        stage(1, 1, r#""service": "ingress", "status": "received""#),
        stage(2, 3, r#""service": "ingress", "status": "success", "account": "12""#),
        stage(
            3,
            4,
            r#""service": "puptoo", "source": "a", "status": "received", "inventory_id": "i""#,
        ),
        stage(
            4,
            9,
            r#""service": "puptoo", "source": "a", "status": "error", "status_msg": "no disk""#,
        ),
    ];
    for projected in [0, 2, 4] {
        for about in ["request/r", "account/12", "inventory/i", "i"] {
            let timeline = story(&events, projected, about);
            assert_eq!(seconds(&timeline), [1, 3, 4, 9], "{about}");
            assert_eq!(
                timeline.verdict,
                Verdict::Failed {
                    service: "puptoo".to_owned(),
                    because: Some("no disk".to_owned())
                }
            );
            assert_eq!(timeline.service_time_us, Some(7_000_000));
            assert_eq!(timeline.wall_time_us, Some(8_000_000));
            assert!(timeline.about.account.contains("12") && timeline.about.inventory.contains("i"));
        }
    }
}

#[test]
fn the_verdict_of_a_request() {
    let received = stage(1, 10, r#""service": "a", "status": "received""#);
    let verdict = |rest: &[Event]| {
        let mut events = vec![received.clone()];
        events.extend_from_slice(rest);
        story(&events, 9, "request/r").verdict
    };
    let running = Verdict::Running {
        for_us: 990_000_000,
        at: "a".to_owned(),
        device: None,
    };
    assert_eq!(verdict(&[]), running);
    assert_eq!(
        verdict(&[stage(2, 11, r#""service": "a", "status": "half way""#)]),
        running
    );
    let success = stage(2, 12, r#""service": "a", "status": "success""#);
    assert_eq!(
        verdict(std::slice::from_ref(&success)),
        Verdict::Success { services: 1 }
    );
    // It went wrong there once, and well later.
    let failed_before = [
        stage(2, 11, r#""service": "a", "status": "error""#),
        stage(3, 12, r#""service": "a", "status": "received""#),
        stage(4, 13, r#""service": "a", "status": "success""#),
    ];
    assert_eq!(verdict(&failed_before), Verdict::Success { services: 1 });
}

fn job(second: u64, state: &str, health: &str, rest: &str) -> Event {
    let data = format!(r#"{{"job": 7, "state": "{state}", "health": "{health}", "device": "d"{rest}}}"#);
    told(second, "testjob", &data)
}

#[test]
fn a_jobs_states_only_go_forward() {
    let late = job(3, "Scheduled", "Unknown", "");
    let events = [
        job(1, "Submitted", "Unknown", ""),
        job(2, "Submitted", "Unknown", ""),
        job(
            5,
            "Running",
            "Unknown",
            r#", "start_time": "1970-01-01T00:00:04+00:00""#,
        ),
        Event { id: id(77), ..late },
        job(
            9,
            "Finished",
            "Complete",
            r#", "end_time": "1970-01-01T00:00:08+00:00""#,
        ),
        job(
            10,
            "Finished",
            "Complete",
            r#", "end_time": "1970-01-01T00:00:08+00:00""#,
        ),
    ];
    let mut in_order = events.clone();
    in_order.sort_by_key(|event| event.received_us);
    let timeline = story(&in_order, 3, "7");
    let spans: Vec<(&str, i64)> = timeline
        .states
        .iter()
        .map(|span| (span.state.as_str(), span.from_us / 1_000_000))
        .collect();
    assert_eq!(
        spans,
        [("Submitted", 1), ("Scheduled", 3), ("Running", 4), ("Finished", 8)]
    );
    let Verdict::Finished { ran_us, queued_us, .. } = timeline.verdict else {
        panic!("{:?}", timeline.verdict)
    };
    assert_eq!((ran_us, queued_us), (Some(4_000_000), Some(3_000_000)));
}

#[test]
fn why_a_job_is_incomplete() {
    let finished = job(9, "Finished", "Incomplete", "");
    let why = |cause: Event| {
        let timeline = story(&[finished.clone(), cause], 1, "7");
        match timeline.verdict {
            Verdict::Finished {
                because, error_type, ..
            } => (because, error_type),
            other => panic!("{other:?}"),
        }
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        why(told(
            10,
            "attempt",
            r#"{"device": "d", "job_id": 7, "exit_code": 1, "detail": "no power", "error_type": "Infrastructure"}"#
        )),
        (text("no power"), text("Infrastructure"))
    );
    assert_eq!(
        why(told(
            10,
            "fault",
            r#"{"subject": "device/d", "job": 7, "message": "no serial line"}"#
        )),
        (text("no serial line"), None)
    );
    assert_eq!(
        why(told(
            10,
            "attempt",
            r#"{"device": "d", "job_id": 7, "exit_code": 0, "detail": "fine"}"#
        )),
        (None, None)
    );
}

#[test]
fn a_bare_id_may_be_several_things_and_a_kind_decides() {
    let events = [
        told(1, "testjob", r#"{"job": 12, "state": "Submitted"}"#),
        told(
            2,
            "stage",
            r#"{"service": "s", "request_id": "12", "status": "received"}"#,
        ),
    ];
    let (_lab, reader) = database(&events, 1);
    let mentions = reader.mentions().unwrap();
    let known = |text: &str| {
        let known = mentions.known(Subject::meant_by(text)).unwrap();
        known.iter().map(Subject::to_string).collect::<Vec<_>>()
    };
    assert_eq!(known("12"), ["job/12", "request/12"]);
    assert_eq!(known("request/12"), ["request/12"]);
    assert_eq!(known("service/s"), ["service/s"]);
    assert!(known("device/12").is_empty());
    // No kind, so it is an id as it stands.
    assert!(known("s/12").is_empty());
}

#[test]
fn the_latest_jobs_and_requests() {
    let events = [
        told(1, "device", r#"{"device": "d", "job": 1}"#),
        told(2, "device", r#"{"device": "d", "job": 2}"#),
        told(3, "device", r#"{"device": "d", "job": 1}"#),
        told(4, "device", r#"{"device": "d"}"#),
        told(5, "device", r#"{"device": "d", "job": 3}"#),
    ];
    let (_lab, reader) = database(&events, 3);
    let mentions = reader.mentions().unwrap();
    let device = Subject {
        kind: RefKind::Device,
        id: "d".to_owned(),
    };
    let latest = |skip, count| {
        let latest = mentions.latest(&device, skip, count).unwrap();
        latest.into_iter().map(|subject| subject.id).collect::<Vec<_>>()
    };
    assert_eq!(latest(0, 2), ["3", "1"]);
    assert_eq!(latest(1, 9), ["1", "2"]);
}

#[test]
fn figures_count_what_the_projections_have_not_read() {
    let events = [
        job(1, "Running", "Unknown", ""),
        told(2, "worker", r#"{"hostname": "w"}"#),
        told(3, "power", r#"{"device": "d"}"#),
        job(
            9,
            "Finished",
            "Complete",
            r#", "submit_time": "1970-01-01T00:00:01Z", "start_time": "1970-01-01T00:00:03Z", "end_time": "1970-01-01T00:00:08Z""#,
        ),
    ];
    let scope = |device: Option<&str>| Scope {
        since_us: 0,
        until_us: 60_000_000,
        device: device.map(str::to_owned),
        device_type: None,
    };
    for projected in [0, 1, 3, 4] {
        let (_lab, reader) = database(&events, projected);
        let stats = reader.stats(&scope(None)).unwrap();
        let counts: Vec<(&str, u64)> = stats
            .events
            .iter()
            .map(|kind| (kind.kind.as_str(), kind.count))
            .collect();
        assert_eq!(counts, [("testjob", 2), ("worker", 1), ("other", 1)], "{projected}");
        assert_eq!((stats.jobs.pass, stats.jobs.success_rate()), (1, Some(1.0)));
        assert_eq!(stats.jobs.duration.percentiles, Some([5_000_000; 5]));
        assert_eq!(stats.jobs.wait.percentiles, Some([2_000_000; 5]));
        let of_device = reader.stats(&scope(Some("d"))).unwrap();
        assert_eq!(of_device.events.iter().map(|kind| kind.count).sum::<u64>(), 3);
        let of_none = reader.stats(&scope(Some("none"))).unwrap();
        assert_eq!((of_none.events.len(), of_none.jobs.success_rate()), (0, None));
    }
}

#[test]
fn an_empty_database_has_empty_answers() {
    let (_lab, reader) = database(&[], 0);
    assert!(!reader.mentions().unwrap().has(RefKind::Job, "1").unwrap());
    let scope = Scope {
        until_us: 1,
        ..Scope::default()
    };
    assert_eq!(reader.stats(&scope).unwrap().events, []);
    let all = Selection {
        filter: &Filter::default(),
        after: 0,
        upto: u64::MAX,
        newest_first: true,
    };
    reader.select(all, |row| panic!("{row:?}")).unwrap();
}

fn some_event() -> impl Strategy<Value = (String, String)> {
    let kind = prop::sample::select(vec!["device", "testjob", "Testjob", "event", "power"]);
    (kind, 0..4_u8, 0..3_u8, "Idle|Running").prop_map(|(kind, job, device, state)| {
        let data = format!(
            r#"{{"job": {job}, "sub_id": "{}.1", "device": "d{device}", "state": "{state}", "message": "m"}}"#,
            job / 2
        );
        (kind.to_owned(), data)
    })
}

fn some_clauses() -> impl Strategy<Value = Vec<(Field, bool, String)>> {
    let fields = vec![Field::Kind, Field::Job, Field::Device, Field::State, Field::Worker];
    let text = "testjob|power|[0-3]|[01]\\.1|d[0-3]|idle|~[0-2]|~\\^t|~|";
    prop::collection::vec((prop::sample::select(fields), any::<bool>(), text), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// What is selected is what a look at every event would find, in order, whatever the index knows.
    #[test]
    fn selecting_finds_exactly_what_matches(
        events in prop::collection::vec(some_event(), 1..400),
        clauses in some_clauses(),
        projected in 0_u64..400,
        (after, upto) in (0_u64..400, 0_u64..500),
        limit in 1_usize..200,
    ) {
        let mut filter = Filter::default();
        for (field, negated, text) in &clauses {
            let _ = filter.add(*field, *negated, text);
        }
        let events: Vec<Event> = (1..).zip(&events).map(|(second, (kind, data))| told(second, kind, data)).collect();
        let (_lab, reader) = database(&events, projected);
        let matching = events.iter().zip(1_u64..).filter(|(event, seq)| {
            *seq > after && *seq <= upto && filter.matches(&Candidate::new(&event.topic, &event.user, &event.data))
        });
        let mut expected: Vec<u64> = matching.map(|(_, seq)| seq).collect();
        for newest_first in [false, true] {
            let mut found = Vec::new();
            let selection = Selection { filter: &filter, after, upto, newest_first };
            reader.select(selection, |row| {
                found.push(row.seq);
                match found.len() < limit {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            }).unwrap();
            if newest_first {
                expected.reverse();
            }
            prop_assert_eq!(&found[..], &expected[..limit.min(expected.len())]);
        }
    }
}
