//! The write-ahead log: copied beside the writer, begun anew, never in a reader's way.
#![allow(clippy::unwrap_used)]

mod lab;

use std::fs;
use std::ops::ControlFlow;

use lab::{Lab, all, append, event};
use lavabus_store::{Checkpointer, Journal, Options};

fn log_bytes(lab: &Lab) -> u64 {
    fs::metadata(lab.folder.path().join("events.db-wal")).unwrap().len()
}

#[test]
fn a_checkpointer_leaves_the_next_commit_nothing_to_copy() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    let checkpointer = Checkpointer::open(&journal).unwrap();
    append(&mut journal, 1..1_001);
    let first = checkpointer.run().unwrap();
    assert_eq!(first.copied_bytes, first.log_bytes);
    let before = log_bytes(&lab);
    // So the log is begun anew and does not grow.
    append(&mut journal, 1_001..1_011);
    assert_eq!(log_bytes(&lab), before);
    assert!(checkpointer.run().unwrap().log_bytes < first.log_bytes);
    assert_eq!(all(&lab.reader()), (1..1_011).map(event).collect::<Vec<_>>());
}

#[test]
fn a_commit_copies_a_log_that_is_long_enough() {
    let lab = Lab::new();
    let options = Options {
        checkpoint_bytes: 64 << 10,
        ..Options::default()
    };
    let mut journal = Journal::open(lab.path(), &options).unwrap();
    for first in (1..2_001).step_by(20) {
        append(&mut journal, first..first + 20);
    }
    assert!(log_bytes(&lab) < 256 << 10, "{}", log_bytes(&lab));
    assert_eq!(all(&lab.reader()), (1..2_001).map(event).collect::<Vec<_>>());
}

#[test]
fn a_reader_in_its_transaction_makes_nobody_wait() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    append(&mut journal, 1..101);
    let checkpointer = Checkpointer::open(&journal).unwrap();
    let mut seen = 0;
    lab.reader()
        .scan(0, u64::MAX, |_| {
            if seen == 0 {
                append(&mut journal, 101..201);
                let checkpoint = checkpointer.run().unwrap();
                assert!(checkpoint.copied_bytes < checkpoint.log_bytes);
            }
            seen += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((seen, journal.head()), (100, 200));
    let checkpoint = checkpointer.run().unwrap();
    assert_eq!(checkpoint.copied_bytes, checkpoint.log_bytes);
}
