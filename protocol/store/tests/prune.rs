//! Retention: old events go, their space comes back, numbers and entities stay.
#![allow(clippy::unwrap_used)]

mod lab;

use std::fs;
use std::time::Duration;

use lab::{Lab, all, append, event};
use lavabus_store::{Journal, PruneBudget, Pruned, Retention};

fn prune_all(journal: &mut Journal, retention: &Retention, now_us: i64, budget: &PruneBudget) -> (u64, u32) {
    let (mut events, mut calls) = (0, 0);
    loop {
        let pruned = journal.prune(retention, now_us, budget).unwrap();
        assert!(pruned.events <= budget.events, "{pruned:?}");
        assert!(pruned.freed_bytes <= budget.pages * 4_096, "{pruned:?}");
        events += pruned.events;
        calls += 1;
        if !pruned.more {
            return (events, calls);
        }
    }
}

fn aged(age_us: u64) -> Retention {
    Retention {
        max_age: Some(Duration::from_micros(age_us)),
        max_bytes: None,
    }
}

#[test]
fn age_counts_from_receipt() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    append(&mut journal, 1..1_001);
    let budget = PruneBudget { events: 64, pages: 8 };
    // At 1,100 an age of 200 reaches back to 900.
    let (events, calls) = prune_all(&mut journal, &aged(200), 1_100, &budget);
    assert_eq!((events, calls), (899, 15));
    assert_eq!(journal.oldest().unwrap(), Some(900));
    assert_eq!(all(&lab.reader()), (900..1_001).map(event).collect::<Vec<_>>());
    let again = journal.prune(&aged(200), 1_100, &budget).unwrap();
    assert_eq!(
        again,
        Pruned {
            events: 0,
            freed_bytes: 0,
            more: false
        }
    );
}

#[test]
fn the_newest_event_stays_and_carries_the_numbering() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    append(&mut journal, 1..11);
    prune_all(&mut journal, &aged(0), i64::MAX, &PruneBudget::default());
    assert_eq!((journal.oldest().unwrap(), journal.head()), (Some(10), 10));
    drop(journal);
    let mut journal = lab.journal();
    append(&mut journal, 11..12);
    assert_eq!(journal.head(), 11);
}

#[test]
fn an_empty_journal_has_nothing_to_prune() {
    let lab = Lab::new();
    let pruned = lab
        .journal()
        .prune(&Retention::default(), i64::MAX, &PruneBudget::default())
        .unwrap();
    assert_eq!(
        pruned,
        Pruned {
            events: 0,
            freed_bytes: 0,
            more: false
        }
    );
}

#[test]
fn no_limit_keeps_everything() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    append(&mut journal, 1..11);
    let endless = Retention {
        max_age: None,
        max_bytes: None,
    };
    assert_eq!(
        prune_all(&mut journal, &endless, i64::MAX, &PruneBudget::default()),
        (0, 1)
    );
}

#[test]
fn size_is_held_and_space_given_back() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    for first in (1..40_001).step_by(1_000) {
        append(&mut journal, first..first + 1_000);
    }
    journal.checkpoint().unwrap();
    let full = fs::metadata(lab.path()).unwrap().len();
    let max_bytes = full / 4;
    let retention = Retention {
        max_age: None,
        max_bytes: Some(max_bytes),
    };
    prune_all(&mut journal, &retention, 0, &PruneBudget::default());
    journal.checkpoint().unwrap();

    let status = lab.reader().status().unwrap();
    assert!(status.used_bytes <= max_bytes, "{status:?}");
    assert!(status.used_bytes > max_bytes / 2, "pruned too much: {status:?}");
    assert_eq!((status.head, status.oldest), (40_000, journal.oldest().unwrap()));
    // 4 MiB stay free for events to come.
    let file = fs::metadata(lab.path()).unwrap().len();
    assert!(file <= max_bytes + (4 << 20) + (64 << 10), "{file} of {full}");
    let oldest = status.oldest.unwrap();
    assert_eq!(all(&lab.reader()), (oldest..40_001).map(event).collect::<Vec<_>>());
}

#[test]
fn gaps_go_with_the_events_around_them() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    for first in [1, 11] {
        append(&mut journal, first..first + 10);
        let gap = lavabus_store::NewGap {
            from_us: 1,
            to_us: 2,
            count: None,
            reason: "not_recorded",
            lab: "",
        };
        journal.record_gap(&gap).unwrap();
    }
    prune_all(&mut journal, &aged(8), 20, &PruneBudget::default());
    assert_eq!(journal.oldest().unwrap(), Some(12));
    let gaps: Vec<u64> = lab.reader().gaps(0).unwrap().iter().map(|gap| gap.after_seq).collect();
    assert_eq!(gaps, [20]);
}
