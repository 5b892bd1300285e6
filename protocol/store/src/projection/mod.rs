//! What is derived from events. Each projection is a pure function of them, in a file of its own, applied behind the
//! journal with a cursor, and can be made again from the events that are kept.
//!
//! | file | rows |
//! |---|---|
//! | `entity` | the latest event of each device, worker and job |
//! | `reference` | which events mention an id |
//! | `attempt` | what was tried on each device |
//! | `fault` | what is wrong with what |
//! | `result` | what each test case found |
//! | `stage` | what a service has received and not ended |
//! | `rows` | how rows are loaded, written and made again |
//! | `told` | one event, read once for all |
//! | `snapshot` | the latest of each object, with what is not projected yet |
//!
//! There are two cursors: `entity`, which snapshots need near the newest event, and `history`, for all the others.

pub mod attempt;
pub mod entity;
pub mod fault;
pub mod reference;
pub mod result;
pub(crate) mod rows;
mod snapshot;
pub mod stage;
pub mod told;

use std::ops::ControlFlow;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params};

use self::attempt::Attempt;
use self::entity::Entity;
use self::fault::Fault;
pub use self::reference::RefKind;
use self::reference::references;
use self::result::TestResult;
use self::rows::{Rows, State};
pub use self::snapshot::Snapshot;
pub(crate) use self::snapshot::{Recent, snapshot};
use self::stage::OpenStage;
pub use self::told::Told;
use crate::error::StoreError;
use crate::journal::Journal;
use crate::reader::{self, to_sql};

/// A step of a projection ends after so many bytes of events, so that large ones take no more memory than small ones.
const AT_ONCE: usize = 8 << 20;

const ENTITY: &str = "entity";
const HISTORY: &str = "history";

/// How far a projection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Projected {
    /// Every event up to this number is in it.
    pub cursor: u64,
    /// How many events it has not seen yet.
    pub behind: u64,
}

/// The rows of all projections of the cursor `history`, but for references.
pub(crate) struct History {
    pub(crate) attempts: Rows<Attempt>,
    pub(crate) faults: Rows<Fault>,
    pub(crate) results: Rows<TestResult>,
    pub(crate) stages: Rows<OpenStage>,
}

impl History {
    pub(crate) fn new(state: State) -> History {
        History {
            attempts: Rows::new(state),
            faults: Rows::new(state),
            results: Rows::new(state),
            stages: Rows::new(state),
        }
    }

    pub(crate) fn apply(&mut self, conn: &Connection, told: &Told<'_>) -> Result<(), rusqlite::Error> {
        self.attempts.apply(conn, told)?;
        self.faults.apply(conn, told)?;
        self.results.apply(conn, told)?;
        self.stages.apply(conn, told)
    }
}

impl Journal {
    /// Brings the projection `entity` up to `max_events` events further, in one transaction with its cursor.
    pub fn project(&mut self, max_events: u64) -> Result<Projected, StoreError> {
        self.advance(ENTITY, max_events, |conn, after, upto, oldest| {
            let mut entities = Rows::<Entity>::new(State::Live);
            let last = each(conn, after, upto, |told| entities.apply(conn, told))?;
            entities.write(conn, oldest)?;
            Ok(last)
        })
    }

    /// Brings all other projections up to `max_events` events further, in one transaction with their cursor.
    pub fn project_history(&mut self, max_events: u64) -> Result<Projected, StoreError> {
        self.advance(HISTORY, max_events, |conn, after, upto, oldest| {
            let mut history = History::new(State::Live);
            let mut insert = conn.prepare_cached("INSERT OR IGNORE INTO ref(kind, id, seq) VALUES(?, ?, ?)")?;
            let last = each(conn, after, upto, |told| {
                for (kind, id) in references(told) {
                    insert.execute(params![kind as u8, id, to_sql(told.row.seq)])?;
                }
                history.apply(conn, told)
            })?;
            history.attempts.write(conn, oldest)?;
            history.faults.write(conn, oldest)?;
            history.results.write(conn, oldest)?;
            history.stages.write(conn, oldest)?;
            Ok(last)
        })
    }

    fn advance(
        &mut self,
        name: &str,
        max_events: u64,
        project: impl FnOnce(&Connection, u64, u64, u64) -> Result<u64, rusqlite::Error>,
    ) -> Result<Projected, StoreError> {
        let head = self.head();
        let oldest = self.oldest()?.unwrap_or(1);
        let after = self.read(|conn| Ok(cursor(conn, name)?))?.max(oldest - 1);
        let upto = after.saturating_add(max_events).min(head);
        let mut cursor = after;
        if upto > after {
            cursor = self.write(|conn| {
                let last = project(conn, after, upto, oldest)?;
                set_cursor(conn, name, last)?;
                Ok(last)
            })?;
        }
        Ok(Projected {
            cursor,
            behind: head.saturating_sub(cursor),
        })
    }

    /// Makes every row what it was just before the oldest kept event. The next calls of
    /// [`project`](Journal::project) and [`project_history`](Journal::project_history) make them again.
    pub fn rebuild(&mut self) -> Result<(), StoreError> {
        let oldest = self.oldest()?.unwrap_or(1);
        self.write(|conn| reset(conn, oldest))
    }
}

pub(crate) fn reset(conn: &Connection, oldest: u64) -> Result<(), rusqlite::Error> {
    rows::reset::<Entity>(conn, oldest)?;
    rows::reset::<Attempt>(conn, oldest)?;
    rows::reset::<Fault>(conn, oldest)?;
    rows::reset::<TestResult>(conn, oldest)?;
    rows::reset::<OpenStage>(conn, oldest)?;
    conn.execute("DELETE FROM ref", [])?;
    set_cursor(conn, ENTITY, oldest - 1)?;
    set_cursor(conn, HISTORY, oldest - 1)
}

/// Of the rows that outlive their events, all of which are gone, the `count` that no event has concerned for longest: the
/// last event of the last of them.
pub(crate) fn outlived(conn: &Connection, oldest: u64, count: u64) -> Result<Option<i64>, rusqlite::Error> {
    let each = [
        rows::oldest::<Entity>(),
        rows::oldest::<Attempt>(),
        rows::oldest::<Fault>(),
        rows::oldest::<TestResult>(),
    ];
    let all = each.join(" UNION ALL ");
    conn.prepare_cached(&format!("SELECT max(touched) FROM ({all} ORDER BY touched LIMIT ?2)"))?
        .query_row([to_sql(oldest), to_sql(count)], |row| row.get(0))
}

/// Deletes these rows. Such a row is its own base, so that a rebuild does not bring it back. How many.
pub(crate) fn forget(conn: &Connection, oldest: u64, count: u64) -> Result<u64, rusqlite::Error> {
    let Some(upto) = outlived(conn, oldest, count)? else {
        return Ok(0);
    };
    let forgotten = rows::forget::<Entity>(conn, upto)?
        + rows::forget::<Attempt>(conn, upto)?
        + rows::forget::<Fault>(conn, upto)?
        + rows::forget::<TestResult>(conn, upto)?;
    Ok(forgotten as u64)
}

/// What the events that are about to be pruned mean.
pub(crate) struct Base {
    entities: Rows<Entity>,
    history: History,
}

impl Base {
    /// Folds the events from `oldest` to before `upto`, or as many of them as can be folded at once, and removes what
    /// only points to them. Before which number it ended.
    pub(crate) fn fold(conn: &Connection, oldest: u64, upto: u64) -> Result<(Base, u64), rusqlite::Error> {
        let mut base = Base {
            entities: Rows::new(State::Base(oldest)),
            history: History::new(State::Base(oldest)),
        };
        let mut delete = conn.prepare_cached("DELETE FROM ref WHERE kind = ? AND id = ? AND seq = ?")?;
        let last = each(conn, oldest - 1, upto - 1, |told| {
            for (kind, id) in references(told) {
                delete.execute(params![kind as u8, id, to_sql(told.row.seq)])?;
            }
            base.entities.apply(conn, told)?;
            base.history.apply(conn, told)
        })?;
        Ok((base, last + 1))
    }

    /// To be called when the events are deleted, which may have made the room for it. Where the projections had not taken
    /// in all of them, the rows become those of the base.
    pub(crate) fn write(&self, conn: &Connection, upto: u64, is_projected: bool) -> Result<(), rusqlite::Error> {
        self.entities.write_base(conn, upto, is_projected)?;
        self.history.attempts.write_base(conn, upto, is_projected)?;
        self.history.faults.write_base(conn, upto, is_projected)?;
        self.history.results.write_base(conn, upto, is_projected)?;
        rows::prune::<OpenStage>(conn, upto)
    }
}

/// Reads the events with `after < number <= upto` once, and shows each to `apply`, until they were [`AT_ONCE`] bytes. The
/// number of the last one.
pub(crate) fn each(
    conn: &Connection,
    after: u64,
    upto: u64,
    mut apply: impl FnMut(&Told<'_>) -> Result<(), rusqlite::Error>,
) -> Result<u64, rusqlite::Error> {
    let (mut applied, mut bytes) = (Ok(()), 0);
    let last = reader::scan_rows(conn, after, upto, |row| {
        bytes += row.data.len();
        applied = apply(&Told::read(row));
        match applied {
            Ok(()) if bytes < AT_ONCE => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    })?;
    applied?;
    // Numbers may be missing in a damaged database.
    Ok(last.filter(|_| bytes >= AT_ONCE).unwrap_or(upto))
}

/// Up to which number the slower of the projections has read.
pub(crate) fn slowest(conn: &Connection) -> Result<u64, rusqlite::Error> {
    Ok(entity_cursor(conn)?.min(history_cursor(conn)?))
}

/// Up to which number the projection `entity` has read.
pub(crate) fn entity_cursor(conn: &Connection) -> Result<u64, rusqlite::Error> {
    cursor(conn, ENTITY)
}

/// Up to which number the projections of the cursor `history` have read.
pub(crate) fn history_cursor(conn: &Connection) -> Result<u64, rusqlite::Error> {
    cursor(conn, HISTORY)
}

fn cursor(conn: &Connection, name: &str) -> Result<u64, rusqlite::Error> {
    let cursor = conn
        .prepare_cached("SELECT cursor FROM projection WHERE name = ?")?
        .query_row([name], reader::seq_of)
        .optional()?;
    Ok(cursor.unwrap_or(0))
}

fn set_cursor(conn: &Connection, name: &str, cursor: u64) -> Result<(), rusqlite::Error> {
    conn.prepare_cached("INSERT INTO projection VALUES(?1, ?2) ON CONFLICT(name) DO UPDATE SET cursor = ?2")?
        .execute(params![name, to_sql(cursor)])?;
    Ok(())
}

/// A column's value.
pub(crate) fn text(text: Option<&str>) -> Value {
    text.map_or(Value::Null, |text| Value::Text(text.to_owned()))
}

/// A column's value.
pub(crate) fn integer(number: Option<i64>) -> Value {
    number.map_or(Value::Null, Value::Integer)
}
