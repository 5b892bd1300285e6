//! A folder for a database, and events to put into it.
#![allow(dead_code, clippy::unwrap_used)]

use std::ops::{ControlFlow, Range};
use std::path::PathBuf;

use lavabus_protocol::EventId;
use lavabus_store::{Appended, Event, Journal, NewEvent, Options, Reader};
use tempfile::TempDir;

pub(crate) struct Lab {
    pub(crate) folder: TempDir,
}

impl Lab {
    pub(crate) fn new() -> Lab {
        Lab {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("events.db")
    }

    pub(crate) fn journal(&self) -> Journal {
        Journal::open(self.path(), &Options::default()).unwrap()
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader::open(self.path()).unwrap()
    }

    /// Names of all files in the folder, in order.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = self.folder.path().read_dir().unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// A version 1 UUID; those of greater numbers are later by 1 ms each.
pub(crate) fn id(number: u64) -> EventId {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&(0x11f1_e568_0000_0000 + number * 10_000).to_be_bytes());
    key[8..].copy_from_slice(b"\x8b\x37\x02\xfc\0\0\0\x01");
    EventId::from_key(key)
}

/// The event that tests mean by its number; it is received at that time too.
pub(crate) fn event(number: u64) -> Event {
    Event {
        seq: number,
        id: id(number),
        received_us: number.cast_signed(),
        topic: format!("org.example.lab.event{}", number % 3),
        sent: format!("2026-11-21T05:01:05.{:06}+00:00", number % 1_000_000),
        user: "lavaserver".to_owned(),
        data: format!(
            r#"{{"message": "event {number} {}", "job": {number}}}"#,
            "x".repeat(number as usize % 700)
        ),
        lab: String::new(),
    }
}

pub(crate) fn new_event(event: &Event) -> NewEvent<'_> {
    NewEvent {
        id: &event.id,
        received_us: event.received_us,
        topic: &event.topic,
        sent: &event.sent,
        user: &event.user,
        data: &event.data,
        lab: &event.lab,
    }
}

/// Appends the events with these numbers in one group.
pub(crate) fn append(journal: &mut Journal, numbers: Range<u64>) {
    let mut group = journal.group().unwrap();
    for number in numbers {
        assert!(matches!(
            group.append(&new_event(&event(number))).unwrap(),
            Appended::New(_)
        ));
    }
    group.commit().unwrap();
}

/// Every event that is kept.
pub(crate) fn all(reader: &Reader) -> Vec<Event> {
    let mut events = Vec::new();
    reader
        .scan(0, u64::MAX, |row| {
            events.push(row.to_event());
            ControlFlow::Continue(())
        })
        .unwrap();
    events
}
