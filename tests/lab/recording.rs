//! A database that `lavabus record` writes, as it looks from outside.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use lavabus_store::{Gap, Journal, Options, Reader, Source};
use rusqlite::Connection;
use rusqlite::types::Value;

use super::{Message, eventually};

/// The database.
#[derive(Clone, Debug)]
pub struct Recording(PathBuf);

impl Recording {
    /// It need not be there yet.
    pub fn at(path: impl Into<PathBuf>) -> Recording {
        Recording(path.into())
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its events, each with its lab; numbered from 1 without holes.
    pub fn events(&self) -> Vec<(String, Message)> {
        let reader = Reader::open(&self.0).unwrap();
        let mut events = Vec::new();
        reader
            .scan(0, reader.head().unwrap(), |row| {
                events.push((row.lab.to_owned(), Message::from(&row)));
                assert_eq!(row.seq, events.len() as u64, "numbers have no holes");
                ControlFlow::Continue(())
            })
            .unwrap();
        events
    }

    /// Its events.
    pub fn messages(&self) -> Vec<Message> {
        self.events().into_iter().map(|(_, message)| message).collect()
    }

    /// How many events it has; 0 while it is not there.
    pub fn head(&self) -> u64 {
        Reader::open(&self.0).map_or(0, |reader| reader.head().unwrap_or(0))
    }

    /// Waits until it has so many events.
    pub async fn has(&self, count: usize) {
        eventually("events recorded", || self.head() >= count as u64).await;
    }

    /// Waits until it has this event.
    pub async fn has_event(&self, message: &Message) {
        let id = message.uuid().parse().unwrap();
        let has = || Reader::open(&self.0).is_ok_and(|reader| reader.by_id(&id).is_ok_and(|found| found.is_some()));
        eventually("the event is recorded", has).await;
    }

    /// What it knows to be missing.
    pub fn gaps(&self) -> Vec<Gap> {
        Reader::open(&self.0).unwrap().gaps(0).unwrap()
    }

    /// How far it has recorded which lab.
    pub fn sources(&self) -> Vec<Source> {
        Reader::open(&self.0).unwrap().sources().unwrap()
    }

    /// What is derived from its events is what a database that received them at once derives.
    pub fn assert_projected(&self) {
        let status = Reader::open(&self.0).unwrap().status().unwrap();
        assert_eq!((status.projected, status.history_projected), (status.head, status.head));
        let folder = tempfile::tempdir().unwrap();
        let fresh = folder.path().join("fresh.db");
        let mut journal = Journal::open(&fresh, &Options::default()).unwrap();
        let mut group = journal.group().unwrap();
        Reader::open(&self.0)
            .unwrap()
            .scan(0, status.head, |row| {
                group.append(&row.new_event()).unwrap();
                ControlFlow::Continue(())
            })
            .unwrap();
        group.commit().unwrap();
        while journal.project(1_000_000).unwrap().behind > 0 {}
        while journal.project_history(1_000_000).unwrap().behind > 0 {}
        journal.close().unwrap();
        for table in ["entity", "ref", "attempt", "fault", "result", "stage"] {
            let (derived, expected) = (dump(&self.0, table), dump(&fresh, table));
            assert!(
                derived == expected,
                "{table}: {} rows, expected {}",
                derived.len(),
                expected.len()
            );
        }
    }
}

/// All rows of a table.
fn dump(path: &Path, table: &str) -> Vec<Vec<Value>> {
    let conn = Connection::open(path).unwrap();
    let mut select = conn.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let columns = select.column_count();
    let rows = select
        .query_map([], |row| (0..columns).map(|at| row.get(at)).collect())
        .unwrap();
    let mut rows: Vec<Vec<Value>> = rows.collect::<Result<_, _>>().unwrap();
    rows.sort_by_cached_key(|row| format!("{row:?}"));
    rows
}

/// The same events in the same order. There may be many, so that only the first difference is shown.
#[track_caller]
pub fn assert_same_events(found: &[Message], expected: &[Message]) {
    let differs = found
        .iter()
        .zip(expected)
        .position(|(found, expected)| found != expected);
    if let Some(at) = differs {
        panic!("event {at}: {:?}, expected {:?}", found[at], expected[at]);
    }
    assert_eq!(found.len(), expected.len(), "events");
}
