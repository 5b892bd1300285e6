//! What people ask of a database. Reading is a method of [`Reader`](crate::Reader) or of [`Mentions`]; what it means
//! is a pure function of the events and rows that were read.
//!
//! | file | question |
//! |---|---|
//! | `mentions` | which events mention an id |
//! | `query` | which events match a filter |
//! | [`timeline`] | what happened to a job, a device, a request … |
//! | [`stages`] | how long services took |
//! | [`stats`] | how much, how well and how fast |
//! | [`entities`] | devices, workers and jobs: how they are, since when, what is wrong with them |
//! | [`history`] | what was tried on a device, and what follows from it |
//! | [`faults`] | what is wrong with what |
//! | [`results`] | what test cases found, and what changed |
//! | [`stuck`] | what has been in one state for too long |
//! | `json` | all of these as JSON |
//! | `moment` | one read transaction, with what the projections have not read by then |
//!
//! Projections are behind the journal while it is written. What they have not read yet is read here, directly.

pub mod entities;
pub mod faults;
pub mod history;
mod json;
mod mentions;
mod moment;
mod query;
pub mod results;
pub mod stages;
pub mod stats;
pub mod stuck;
pub mod timeline;

pub use mentions::Mentions;
pub use moment::{Answer, UNREAD_EVENTS};
use moment::{Moment, collect, collect_first, is_lab, walk};
pub use query::Selection;

/// How many rows are read in one go: a reader that stays in one for long keeps the log from being used anew.
const PAGE: u64 = 5_000;

/// What the rows of a statement would have to be looked for in.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
fn plan(conn: &rusqlite::Connection, sql: &str) -> Vec<String> {
    let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let count = explain.parameter_count();
    let nothing = vec![rusqlite::types::Value::Null; count];
    let rows = explain.query_map(rusqlite::params_from_iter(nothing), |row| row.get(3));
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::journal::{Journal, Options};

    /// A table is only ever searched by an index, never read through.
    #[test]
    fn no_question_reads_a_table_through() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.db");
        Journal::open(&path, &Options::default()).unwrap().close().unwrap();
        let reader = crate::Reader::open(&path).unwrap();
        let all = mentions::SQL.iter().chain(query::SQL).chain(stats::SQL);
        for sql in all {
            let plan = plan(reader.connection(), sql);
            assert!(!plan.is_empty(), "{sql}");
            for step in &plan {
                let is_table = ["event", "ref", "entity"].iter().any(|table| {
                    let read_through = format!("SCAN {table}");
                    step == &read_through || step.starts_with(&format!("{read_through} "))
                });
                assert!(!is_table && !step.contains("TEMP B-TREE"), "{sql}\n{plan:?}");
            }
        }
        // The test itself can fail.
        let through = plan(reader.connection(), "SELECT seq FROM event WHERE topic = ?");
        assert!(through.iter().any(|step| step.starts_with("SCAN event")), "{through:?}");
    }
}
