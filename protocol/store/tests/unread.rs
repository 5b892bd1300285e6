//! An answer reads what is not projected yet, and says what it did not read.
#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Lab, append};
use lavabus_store::question::UNREAD_EVENTS;

#[test]
fn what_is_too_far_behind_is_said() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    append(&mut journal, 1..UNREAD_EVENTS + 11);
    let unread = || lab.reader().devices(0, |_| true).unwrap().unread;
    assert_eq!(unread(), 10);
    journal.project_history(4).unwrap();
    assert_eq!(unread(), 6);
    journal.project_history(6).unwrap();
    assert_eq!(unread(), 0);
}

#[test]
fn the_version_changes_when_somebody_writes() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    append(&mut journal, 1..3);
    let reader = lab.reader();
    let before = reader.version().unwrap();
    assert_eq!(reader.version().unwrap(), before);
    append(&mut journal, 3..4);
    assert_ne!(reader.version().unwrap(), before);
}
