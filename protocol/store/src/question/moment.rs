//! One read transaction, with what the projections have not read by then folded in memory: an answer is right however far
//! behind they are, up to [`UNREAD_EVENTS`] events; [`Answer::unread`] tells what is missing beyond. The present time is
//! always an argument.

use std::ops::ControlFlow;

use rusqlite::{Connection, Params, Transaction};

use crate::error::StoreError;
use crate::projection::rows::{Owner, Projection, Rows, State};
use crate::projection::{History, Recent, each, history_cursor};
use crate::reader::{self, Reader};

/// How many events that are not projected yet an answer about attempts, faults, results and stages reads itself, which
/// bounds its time.
pub const UNREAD_EVENTS: u64 = 20_000;

/// An answer, and what it may lack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// How many of the newest events are not in it, because the projections are too far behind.
    pub unread: u64,
}

/// A moment of the database, with what the projections have not read in it.
pub(crate) struct Moment<'c> {
    pub(crate) conn: Transaction<'c>,
    pub(crate) recent: Recent,
    pub(crate) history: History,
    pub(crate) unread: u64,
}

impl Reader {
    /// Begins to read.
    pub(crate) fn moment(&self) -> Result<Moment<'_>, StoreError> {
        let conn = self.connection().unchecked_transaction()?;
        let recent = Recent::read(&conn)?;
        let head = reader::head(&conn)?;
        let after = history_cursor(&conn)?;
        let upto = after.saturating_add(UNREAD_EVENTS).min(head);
        let mut history = History::new(State::Live);
        each(&conn, after, upto, |told| history.apply(&conn, told))?;
        let read = recent.position.min(upto.max(after));
        Ok(Moment {
            recent,
            history,
            unread: head.saturating_sub(read),
            conn,
        })
    }

    /// A number that changes when another connection has written since this one last read: whoever watches needs to look
    /// only then.
    pub fn version(&self) -> Result<u64, StoreError> {
        let version: i64 = self
            .connection()
            .pragma_query_value(None, "data_version", |row| row.get(0))?;
        Ok(version.cast_unsigned())
    }
}

impl Moment<'_> {
    pub(super) fn answer<T>(&self, value: T) -> Answer<T> {
        Answer {
            value,
            unread: self.unread,
        }
    }

    /// Every lab of a table, in order. Each takes one look into an index that begins with the lab.
    pub(super) fn labs(&self, next_lab: &str, wanted: Option<&str>) -> Result<Vec<String>, StoreError> {
        if let Some(lab) = wanted {
            return Ok(vec![lab.to_owned()]);
        }
        let mut select = self.conn.prepare_cached(next_lab)?;
        let mut labs = Vec::new();
        let mut from = String::new();
        while let Some(lab) = select.query_row([&from], |row| row.get::<_, Option<String>>(0))? {
            // The least text that is greater.
            from = format!("{lab}\0");
            labs.push(lab);
        }
        Ok(labs)
    }
}

/// Visits the rows of a statement that gives whole rows of a projection's table, but for those of owners whom later
/// events have `changed`.
pub(super) fn walk<P: Projection>(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    changed: &Rows<P>,
    mut visit: impl FnMut(P) -> ControlFlow<()>,
) -> Result<(), rusqlite::Error> {
    let mut select = conn.prepare_cached(sql)?;
    let mut rows = select.query(params)?;
    while let Some(row) = rows.next()? {
        let owner: Owner = (0..P::TABLE.owner.len())
            .map(|at| row.get(at))
            .collect::<Result<_, _>>()?;
        if changed.get(&owner).is_none() && visit(P::read(row)?).is_break() {
            break;
        }
    }
    Ok(())
}

/// [`walk`], and then the rows that later events have changed. `wanted` decides about both.
pub(super) fn collect<P: Projection>(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    changed: &Rows<P>,
    wanted: impl Fn(&P) -> bool,
) -> Result<Vec<P>, rusqlite::Error> {
    collect_first(usize::MAX, conn, sql, params, changed, wanted)
}

/// [`collect`], but of the statement's rows only the first so many.
pub(super) fn collect_first<P: Projection>(
    limit: usize,
    conn: &Connection,
    sql: &str,
    params: impl Params,
    changed: &Rows<P>,
    wanted: impl Fn(&P) -> bool,
) -> Result<Vec<P>, rusqlite::Error> {
    let mut found = Vec::new();
    walk(conn, sql, params, changed, |row| {
        if wanted(&row) {
            found.push(row);
        }
        match found.len() >= limit {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    found.extend(
        changed
            .iter()
            .flat_map(|(_, rows)| rows)
            .filter(|row| wanted(row))
            .cloned(),
    );
    Ok(found)
}

/// Whether this lab is asked for.
pub(super) fn is_lab(wanted: Option<&str>, lab: &str) -> bool {
    wanted.is_none_or(|wanted| wanted == lab)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{entities, faults, history, results, stuck};
    use super::*;
    use crate::journal::{Journal, Options};
    use crate::projection::attempt::Attempt;
    use crate::projection::entity::Entity;
    use crate::projection::fault::Fault;
    use crate::projection::result::TestResult;
    use crate::projection::stage::OpenStage;

    fn database() -> (tempfile::TempDir, Reader) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.db");
        Journal::open(&path, &Options::default()).unwrap().close().unwrap();
        let reader = Reader::open(&path).unwrap();
        (folder, reader)
    }

    /// The statements say `SELECT *`.
    #[test]
    fn rows_are_read_in_the_order_of_their_columns() {
        fn check<P: Projection>(conn: &Connection) {
            let mut select = conn.prepare("SELECT name FROM pragma_table_info(?)").unwrap();
            let columns = select.query_map([P::TABLE.name], |row| row.get(0)).unwrap();
            let columns: Vec<String> = columns.map(Result::unwrap).collect();
            let expected = [P::TABLE.owner, &["first_seq", "touched"], P::TABLE.rest].concat();
            assert_eq!(columns, expected);
        }
        let (_folder, reader) = database();
        check::<Entity>(reader.connection());
        check::<Attempt>(reader.connection());
        check::<Fault>(reader.connection());
        check::<TestResult>(reader.connection());
        check::<OpenStage>(reader.connection());
    }

    /// No table is read from end to end. An index that holds only what is asked for may be: what is open is little; and
    /// one that is walked in its order, up to a limit.
    #[test]
    fn every_statement_goes_by_an_index() {
        let small = ["entity_open_job", "fault_open", "result_newest", "entity_ended"];
        let (_folder, reader) = database();
        let all = [
            entities::STATEMENTS,
            history::STATEMENTS,
            faults::STATEMENTS,
            results::STATEMENTS,
            stuck::STATEMENTS,
        ];
        for sql in all.concat() {
            let mut explain = reader
                .connection()
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .unwrap();
            let steps = explain.raw_bind_and_plan();
            for step in steps {
                let scans_small = small.iter().any(|index| step.ends_with(&format!("INDEX {index}")));
                assert!(!step.starts_with("SCAN") || scans_small, "{sql}\n{step}");
                assert!(
                    !step.contains("AUTOMATIC") && !step.contains("TEMP B-TREE"),
                    "{sql}\n{step}"
                );
                let by_kind = step.ends_with("sqlite_autoindex_entity_1 (kind=?)");
                assert!(!by_kind || !sql.contains("testjob"), "{sql}\n{step}");
            }
        }
    }

    trait Plan {
        fn raw_bind_and_plan(&mut self) -> Vec<String>;
    }

    impl Plan for rusqlite::Statement<'_> {
        fn raw_bind_and_plan(&mut self) -> Vec<String> {
            let mut rows = self.raw_query();
            let mut steps = Vec::new();
            while let Some(row) = rows.next().unwrap() {
                steps.push(row.get(3).unwrap());
            }
            steps
        }
    }
}
