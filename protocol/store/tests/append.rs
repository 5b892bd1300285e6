//! What is appended is what is read: numbered in order, without holes, byte for byte.
#![allow(clippy::unwrap_used)]

mod lab;

use std::collections::HashMap;
use std::ops::ControlFlow;

use lab::{Lab, all, append, event, id, new_event};
use lavabus_protocol::EventId;
use lavabus_store::{Appended, Event};
use proptest::prelude::*;

#[test]
fn a_repeat_or_a_conflict_uses_no_number() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    let (first, second) = (event(1), event(2));
    let other = Event {
        data: "{}".to_owned(),
        ..first.clone()
    };

    let mut group = journal.group().unwrap();
    assert_eq!(group.append(&new_event(&first)).unwrap(), Appended::New(1));
    assert_eq!(group.append(&new_event(&first)).unwrap(), Appended::Repeat(1));
    assert_eq!(group.append(&new_event(&other)).unwrap(), Appended::Conflict(1));
    group.commit().unwrap();
    let mut group = journal.group().unwrap();
    assert_eq!(group.append(&new_event(&other)).unwrap(), Appended::Conflict(1));
    assert_eq!(group.append(&new_event(&second)).unwrap(), Appended::New(2));
    // The same event received again at another time is a repeat all the same.
    let later = Event {
        received_us: 99,
        ..first.clone()
    };
    assert_eq!(group.append(&new_event(&later)).unwrap(), Appended::Repeat(1));
    group.commit().unwrap();

    assert_eq!(journal.head(), 2);
    assert_eq!(all(&lab.reader()), [first, second]);
}

#[test]
fn each_text_makes_a_conflict() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    append(&mut journal, 1..2);
    let same = event(1);
    let others = [
        Event {
            topic: "t".into(),
            ..same.clone()
        },
        Event {
            sent: "s".into(),
            ..same.clone()
        },
        Event {
            user: "u".into(),
            ..same.clone()
        },
        Event {
            data: "d".into(),
            lab: String::new(),
            ..same.clone()
        },
    ];
    let mut group = journal.group().unwrap();
    for other in &others {
        assert_eq!(group.append(&new_event(other)).unwrap(), Appended::Conflict(1));
    }
}

#[test]
fn a_group_that_is_dropped_leaves_nothing() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    append(&mut journal, 1..3);
    let mut group = journal.group().unwrap();
    assert_eq!(group.append(&new_event(&event(3))).unwrap(), Appended::New(3));
    assert_eq!(group.head(), 3);
    drop(group);
    assert_eq!(journal.head(), 2);
    append(&mut journal, 4..5);
    let numbers: Vec<u64> = all(&lab.reader()).iter().map(|event| event.seq).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn nobody_sees_an_event_before_its_commit() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    append(&mut journal, 1..3);
    let reader = lab.reader();
    let mut group = journal.group().unwrap();
    group.append(&new_event(&event(3))).unwrap();
    assert_eq!((reader.head().unwrap(), all(&reader).len()), (2, 2));
    assert_eq!(reader.by_id(&id(3)).unwrap(), None);
    group.commit().unwrap();
    assert_eq!((reader.head().unwrap(), all(&reader).len()), (3, 3));
    assert_eq!(reader.by_id(&id(3)).unwrap(), Some(3));
}

#[test]
fn a_scan_goes_on_with_what_it_began_with() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    append(&mut journal, 1..101);
    let mut next = 101;
    let mut seen = 0;
    let last = lab.reader().scan(0, u64::MAX, |_| {
        append(&mut journal, next..next + 1);
        next += 1;
        seen += 1;
        ControlFlow::Continue(())
    });
    assert_eq!((last.unwrap(), seen, journal.head()), (100, 100, 200));
}

#[test]
fn the_time_of_receipt_never_decreases() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    append(&mut journal, 50..51);
    append(&mut journal, 40..42);
    append(&mut journal, 60..61);
    let received = |lab: &Lab| {
        all(&lab.reader())
            .iter()
            .map(|event| event.received_us)
            .collect::<Vec<_>>()
    };
    assert_eq!(received(&lab), [50, 50, 50, 60]);
    drop(journal);
    append(&mut lab.journal(), 1..2);
    assert_eq!(received(&lab), [50, 50, 50, 60, 60]);
}

/// Few UUIDs and few contents, so that repeats and conflicts are many.
fn arrivals() -> impl Strategy<Value = Vec<(Vec<Event>, bool)>> {
    let content = prop_oneof![Just("{}".to_owned()), any::<String>(), Just("{\"a\": 1}".to_owned())];
    let key = prop_oneof![(0_u8..8).prop_map(|low| [low; 16]), any::<[u8; 16]>()];
    let event = (
        key,
        any::<i64>(),
        content,
        prop::sample::select(vec!["", "t", "ünicode\0nul"]),
    )
        .prop_map(|(id, received_us, data, text)| Event {
            seq: 0,
            id: EventId(id),
            received_us,
            topic: text.to_owned(),
            sent: text.to_owned(),
            user: text.to_owned(),
            data,
            lab: String::new(),
        });
    prop::collection::vec((prop::collection::vec(event, 0..12), any::<bool>()), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_is_numbered_without_holes_and_read_as_it_was(groups in arrivals()) {
        let lab = Lab::new();
        let mut journal = lab.journal();
        let mut kept: Vec<Event> = Vec::new();
        let mut known: HashMap<[u8; 16], usize> = HashMap::new();
        for (events, commit) in groups {
            let before = (kept.clone(), known.clone());
            let mut group = journal.group().unwrap();
            for event in events {
                let appended = group.append(&new_event(&event)).unwrap();
                match known.get(&event.id.0) {
                    None => {
                        let seq = kept.len() as u64 + 1;
                        prop_assert_eq!(appended, Appended::New(seq));
                        let received_us = kept.last().map_or(i64::MIN, |last| last.received_us).max(event.received_us);
                        known.insert(event.id.0, kept.len());
                        kept.push(Event { seq, received_us, ..event });
                    }
                    Some(&at) => {
                        let old = &kept[at];
                        let content = |event: &Event| {
                            (event.topic.clone(), event.sent.clone(), event.user.clone(), event.data.clone())
                        };
                        let same = content(old) == content(&event);
                        let expected = if same { Appended::Repeat(old.seq) } else { Appended::Conflict(old.seq) };
                        prop_assert_eq!(appended, expected);
                    }
                }
            }
            if commit {
                group.commit().unwrap();
            } else {
                drop(group);
                (kept, known) = before;
            }
            prop_assert_eq!(journal.head(), kept.len() as u64);
        }
        prop_assert_eq!(all(&lab.reader()), kept.clone());
        let reader = lab.reader();
        for event in &kept {
            prop_assert_eq!(reader.by_id(&event.id).unwrap(), Some(event.seq));
        }
    }
}
