//! What can be asked.
#![allow(clippy::unwrap_used)]

mod lab;

use std::ops::ControlFlow;
use std::time::Duration;

use lab::{Lab, append, event, id, new_event};
use lavabus_protocol::EventId;
use lavabus_store::{Event, Gap, NewGap, Rejected, Retention};
use proptest::prelude::*;

#[test]
fn an_empty_journal_answers_everything() {
    let lab = Lab::new();
    let journal = lab.journal();
    let reader = lab.reader();
    assert_eq!((reader.head().unwrap(), reader.oldest().unwrap()), (0, None));
    assert_eq!(reader.epoch().unwrap(), *journal.epoch());
    assert_eq!(reader.event(1).unwrap(), None);
    assert_eq!(reader.by_id(&id(1)).unwrap(), None);
    assert_eq!(reader.seq_received_since(0).unwrap(), 1);
    assert_eq!(reader.first_id_at_or_after(&id(1), Duration::ZERO).unwrap(), None);
    assert_eq!(reader.scan(0, u64::MAX, |_| ControlFlow::Continue(())).unwrap(), 0);
    let status = reader.status().unwrap();
    assert_eq!(
        (status.events, status.head, status.oldest_received_us, status.projected),
        (0, 0, None, 0)
    );
}

#[test]
fn a_scan_has_bounds_and_can_be_ended() {
    let lab = Lab::new();
    append(&mut lab.journal(), 1..101);
    let reader = lab.reader();
    let visited = |after, upto, limit: usize| {
        let mut seen = Vec::new();
        let last = reader.scan(after, upto, |row| {
            seen.push(row.seq);
            if seen.len() < limit {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        (last.unwrap(), seen)
    };
    assert_eq!(visited(3, 6, 9), (6, vec![4, 5, 6]));
    assert_eq!(visited(3, 6, 2), (5, vec![4, 5]));
    assert_eq!(visited(98, u64::MAX, 9), (100, vec![99, 100]));
    assert_eq!(visited(100, u64::MAX, 9), (100, vec![]));
    assert_eq!(visited(u64::MAX, u64::MAX, 9), (u64::MAX, vec![]));
    let mut back = Vec::new();
    reader
        .scan_back(u64::MAX, 97, |row| {
            back.push(row.seq);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(back, [100, 99, 98]);
    assert_eq!(reader.event(42).unwrap(), Some(event(42)));
    assert_eq!((reader.event(0).unwrap(), reader.event(101).unwrap()), (None, None));
}

#[test]
fn an_unknown_version_1_id_is_placed_by_its_time() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    // One event a second, and one with a random UUID among them.
    append(&mut journal, 1..2);
    let random = Event {
        id: "c2b5f1a0-0000-4000-8000-000000000000".parse().unwrap(),
        ..event(2)
    };
    let mut group = journal.group().unwrap();
    group.append(&new_event(&random)).unwrap();
    for second in 1..100 {
        group.append(&new_event(&event(second * 1_000))).unwrap();
    }
    group.commit().unwrap();
    let reader = lab.reader();
    let at = |number: u64, slack| {
        reader
            .first_id_at_or_after(&id(number), Duration::from_secs(slack))
            .unwrap()
    };
    // 50.5 s is not known; the next is the one of 51 s, the 51st after two others.
    assert_eq!(at(50_500, 0), Some(53));
    assert_eq!(at(50_000, 0), Some(52));
    assert_eq!(at(50_500, 10), Some(43));
    assert_eq!(at(50_500, 60), Some(1));
    assert_eq!(at(50_500, u64::MAX), Some(1));
    assert_eq!(at(99_001, 0), None);
    assert_eq!(reader.first_id_at_or_after(&random.id, Duration::ZERO).unwrap(), None);
}

#[test]
fn refused_messages_are_kept_cut_and_the_newest() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    let long = vec![b'x'; 10_000];
    let rejected = |received_us| Rejected {
        received_us,
        reason: "frame_count",
        peer: "ipc",
        frames: &[b"topic", &[0xff]],
        size: 6,
    };
    journal
        .reject(&[Rejected {
            frames: &[b"topic", &long, b"more"],
            size: 10_009,
            ..rejected(0)
        }])
        .unwrap();
    let reader = lab.reader();
    let kept = reader.rejected(10).unwrap();
    assert_eq!((kept[0].size, kept[0].frames.len()), (10_009, 2));
    assert_eq!(kept[0].frames.iter().map(Vec::len).sum::<usize>(), 4_096);

    journal.reject(&(1..600).map(rejected).collect::<Vec<_>>()).unwrap();
    journal.reject(&(600..2_400).map(rejected).collect::<Vec<_>>()).unwrap();
    assert_eq!(reader.status().unwrap().rejected, 1_000);
    let newest = reader.rejected(2).unwrap();
    assert_eq!(
        newest.iter().map(|message| message.received_us).collect::<Vec<_>>(),
        [2_399, 2_398]
    );
    assert_eq!(
        (newest[0].reason.as_str(), newest[0].peer.as_str()),
        ("frame_count", "ipc")
    );
    assert_eq!(newest[0].frames, [&b"topic"[..], &[0xff]]);
    assert_eq!(
        reader
            .rejected(5_000)
            .unwrap()
            .last()
            .map(|message| message.received_us),
        Some(1_400)
    );
}

#[test]
fn gaps_are_told_from_where_they_are() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    append(&mut journal, 1..4);
    let gap = NewGap {
        from_us: 30,
        to_us: 40,
        count: Some(7),
        reason: "not_recorded",
        lab: "",
    };
    journal.record_gap(&gap).unwrap();
    let mut group = journal.group().unwrap();
    group.append(&new_event(&event(4))).unwrap();
    group.record_gap(&NewGap { count: None, ..gap }).unwrap();
    group.commit().unwrap();
    let told = |after_seq, count| Gap {
        after_seq,
        from_us: 30,
        to_us: 40,
        count,
        reason: "not_recorded".into(),
        lab: String::new(),
        filled_us: None,
    };
    let reader = lab.reader();
    assert_eq!(reader.gaps(0).unwrap(), [told(3, Some(7)), told(4, None)]);
    assert_eq!(reader.gaps(4).unwrap(), [told(4, None)]);
}

#[test]
fn status_tells_the_figures() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    append(&mut journal, 1..101);
    let retention = Retention {
        max_age: Some(Duration::from_micros(60)),
        max_bytes: None,
    };
    journal.prune(&retention, 100, &Default::default()).unwrap();
    let status = lab.reader().status().unwrap();
    assert_eq!((status.head, status.oldest, status.events), (100, Some(40), 61));
    assert_eq!(
        (status.oldest_received_us, status.newest_received_us),
        (Some(40), Some(100))
    );
    assert_eq!(status.epoch, *journal.epoch());
    assert!(status.log_bytes > 0 && status.used_bytes > 0 && status.file_bytes >= status.used_bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_binary_search_agrees_with_looking_at_each(
        steps in prop::collection::vec(0_i64..4, 1..80),
        pruned in 0_usize..40,
        probe in -2_i64..250,
    ) {
        let lab = Lab::new();
        let mut journal = lab.journal();
        let mut group = journal.group().unwrap();
        let mut received = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            let received_us = received.last().unwrap_or(&0) + step;
            received.push(received_us);
            group.append(&new_event(&Event { received_us, ..event(number as u64) })).unwrap();
        }
        group.commit().unwrap();
        let cut = received[pruned.min(received.len() - 1)];
        let retention = Retention { max_age: Some(Duration::ZERO), max_bytes: None };
        journal.prune(&retention, cut, &Default::default()).unwrap();
        let oldest = journal.oldest().unwrap().unwrap();
        let first = (oldest..=journal.head()).find(|seq| received[*seq as usize - 1] >= probe);
        prop_assert_eq!(lab.reader().seq_received_since(probe).unwrap(), first.unwrap_or(journal.head() + 1));
    }
}

#[test]
fn keys_of_other_versions_have_no_time() {
    let lab = Lab::new();
    append(&mut lab.journal(), 1..2);
    for text in [
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
    ] {
        let id: EventId = text.parse().unwrap();
        assert_eq!(
            lab.reader().first_id_at_or_after(&id, Duration::from_secs(60)).unwrap(),
            None
        );
    }
}

#[test]
fn a_row_can_be_taken_out() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    append(&mut journal, 1..3);
    let in_a_lab = Event {
        lab: "staging".to_owned(),
        ..event(3)
    };
    let mut group = journal.group().unwrap();
    group.append(&new_event(&in_a_lab)).unwrap();
    group.commit().unwrap();
    let (reader, epoch) = (lab.reader(), *journal.epoch());
    for (number, lab) in [(1, None), (3, Some("staging"))] {
        let (kept, made) = (reader.event(number).unwrap().unwrap(), event(number));
        let record = kept.row().to_record(epoch);
        let texts = [&record.topic, &record.datetime, &record.username, &record.data];
        assert_eq!(texts, [&made.topic, &made.sent, &made.user, &made.data]);
        assert_eq!((record.uuid, record.lab.as_deref()), (made.id, lab));
        assert_eq!(record.envelope(), kept.row().envelope());
        let cursor = record.cursor.unwrap().to_string();
        assert_eq!(cursor, format!("{epoch}/{number}/{}", made.id));
    }
}
