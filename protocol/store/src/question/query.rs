//! Which events match a filter, found by the index where the filter names ids.

use std::cell::Cell;
use std::ops::ControlFlow;

use lavabus_protocol::Filter;
use lavabus_protocol::filter::{Candidate, Clause, Field, Pattern};
use rusqlite::{Connection, params};

use super::mentions::Range;
use super::{PAGE, mentions};
use crate::error::StoreError;
use crate::projection::{self, RefKind};
use crate::reader::{self, EventRow, Reader, to_sql};

/// So many events that mention an id are counted to find the id that is mentioned least.
const COUNTED: u64 = 10_000;
/// A pattern that is no exact text is compared with so many ids.
const IDS_COMPARED: usize = 200;
/// So many ids of one field are looked for by the index.
const IDS_LOOKED_FOR: usize = 64;

const COUNT: &str = "SELECT count(*) FROM (SELECT 1 FROM ref WHERE kind = ?1 AND id = ?2 AND seq > ?3 AND seq <= ?4
    LIMIT ?5)";

/// The statements of this file.
#[cfg(test)]
pub(super) const SQL: &[&str] = &[COUNT, reader::SELECT_FORWARD, reader::SELECT_BACKWARD];

/// Which events are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'f> {
    /// What they must match.
    pub filter: &'f Filter,
    /// Their numbers are above this one,
    pub after: u64,
    /// and not above this one.
    pub upto: u64,
    /// Whether the newest comes first.
    pub newest_first: bool,
}

/// Ids of which each event that is looked for mentions one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Index {
    kind: RefKind,
    ids: Vec<String>,
}

impl Reader {
    /// Visits every event that is looked for in the order of their numbers, until `visit` breaks.
    ///
    /// It takes a time that grows with the events that mention the rarest id of the filter; where the filter names no
    /// id, with all events between the two numbers.
    pub fn select(
        &self,
        selection: Selection<'_>,
        mut visit: impl FnMut(EventRow<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let Selection {
            filter, after, upto, ..
        } = selection;
        let upto = upto.min(self.head()?);
        let oldest = self.oldest()?.unwrap_or(1);
        let after = after.max(oldest - 1).min(upto);
        let indexed = projection::history_cursor(self.connection())?.clamp(after, upto);
        let index = best_index(self.connection(), filter, after, indexed)?;
        let mut visit_wanted = |row: EventRow<'_>| {
            let candidate = Candidate::new(row.topic, row.user, row.data);
            let candidate = match row.lab {
                "" => candidate,
                lab => candidate.with_lab(lab),
            };
            match filter.matches(&candidate) {
                true => visit(row),
                false => ControlFlow::Continue(()),
            }
        };
        // What the index has not read yet is looked at as it is.
        let parts = [(after, indexed, index.as_ref()), (indexed, upto, None)];
        let order = if selection.newest_first { [1, 0] } else { [0, 1] };
        for part in order {
            let (after, upto, index) = parts[part];
            let walk = Walk {
                reader: self,
                after,
                upto,
                newest_first: selection.newest_first,
            };
            let went = match index {
                Some(index) => walk.by_index(index, &mut visit_wanted)?,
                None => walk.all(&mut visit_wanted)?,
            };
            if went.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// The way through the events between two numbers, a page at a time.
struct Walk<'r> {
    reader: &'r Reader,
    after: u64,
    upto: u64,
    newest_first: bool,
}

impl Walk<'_> {
    fn all(&self, visit: &mut impl FnMut(EventRow<'_>) -> ControlFlow<()>) -> Result<ControlFlow<()>, StoreError> {
        let ended = Cell::new(ControlFlow::Continue(()));
        let mut visit = |row: EventRow<'_>| {
            ended.set(visit(row));
            ended.get()
        };
        let (mut after, mut upto) = (self.after, self.upto);
        while after < upto {
            if self.newest_first {
                let page = upto.saturating_sub(PAGE).max(after);
                self.reader.scan_back(upto + 1, page, &mut visit)?;
                upto = page;
            } else {
                let page = after.saturating_add(PAGE).min(upto);
                self.reader.scan(after, page, &mut visit)?;
                after = page;
            }
            if ended.get().is_break() {
                break;
            }
        }
        Ok(ended.get())
    }

    fn by_index(
        &self,
        index: &Index,
        visit: &mut impl FnMut(EventRow<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let mut ended = ControlFlow::Continue(());
        let (mut after, mut upto) = (self.after, self.upto);
        // Few suffice where few are wanted.
        let mut page = 128;
        while after < upto {
            let numbers;
            (numbers, (after, upto)) = self.page(index, after, upto, page)?;
            for seq in numbers {
                self.reader.scan(seq - 1, seq, |row| {
                    ended = visit(row);
                    ControlFlow::Continue(())
                })?;
                if ended.is_break() {
                    return Ok(ended);
                }
            }
            page = (page * 4).min(PAGE);
        }
        Ok(ended)
    }

    /// The next numbers in order, and between which numbers there may be more.
    fn page(&self, index: &Index, after: u64, upto: u64, page: u64) -> Result<(Vec<u64>, (u64, u64)), StoreError> {
        let (conn, kind) = (self.reader.connection(), index.kind);
        let limit = usize::try_from(page).unwrap_or(usize::MAX);
        let mut numbers = Vec::new();
        // A list that is full says nothing of what lies beyond its last number.
        let mut rest = (after, upto);
        let mut is_full = false;
        for id in &index.ids {
            let range = Range { after, upto, limit };
            let found = match self.newest_first {
                true => range.newest(conn, kind, id)?,
                false => range.oldest(conn, kind, id)?,
            };
            if let Some(&last) = found.last().filter(|_| found.len() == limit) {
                rest = match (is_full, self.newest_first) {
                    (false, true) => (after, last - 1),
                    (false, false) => (last, upto),
                    (true, true) => (after, rest.1.max(last - 1)),
                    (true, false) => (rest.0.min(last), upto),
                };
                is_full = true;
            }
            numbers.extend(found);
        }
        if !is_full {
            rest = (upto, upto);
        }
        numbers.retain(|seq| !is_full || *seq <= rest.0 || *seq > rest.1);
        numbers.sort_unstable();
        numbers.dedup();
        if self.newest_first {
            numbers.reverse();
        }
        Ok((numbers, rest))
    }
}

/// The ids, all of one field, that the fewest events mention. `None` where no field of the filter is in the index.
fn best_index(conn: &Connection, filter: &Filter, after: u64, upto: u64) -> Result<Option<Index>, StoreError> {
    let mut best: Option<(u64, Index)> = None;
    for clauses in filter.clauses().chunk_by(|one, other| one.field == other.field) {
        let Some(index) = index_of(conn, clauses)? else {
            continue;
        };
        let mut count = 0;
        for id in &index.ids {
            count += counted(conn, index.kind, id, after, upto)?;
        }
        if best.as_ref().is_none_or(|(fewest, _)| count < *fewest) {
            best = Some((count, index));
        }
    }
    Ok(best.map(|(_, index)| index))
}

fn counted(conn: &Connection, kind: RefKind, id: &str, after: u64, upto: u64) -> Result<u64, StoreError> {
    let mut select = conn.prepare_cached(COUNT)?;
    Ok(select.query_row(
        params![kind as u8, id, to_sql(after), to_sql(upto), to_sql(COUNTED)],
        reader::seq_of,
    )?)
}

/// The ids that these clauses about one field let through.
fn index_of(conn: &Connection, clauses: &[Clause]) -> Result<Option<Index>, StoreError> {
    let wanted: Vec<&Clause> = clauses.iter().filter(|clause| !clause.negated).collect();
    let kind = wanted.first().and_then(|clause| kind_of(clause.field));
    let Some(kind) = kind else { return Ok(None) };
    let exact = |clause: &&Clause| match &clause.pattern {
        // An empty id is in no index.
        Pattern::Exact(id) if !id.is_empty() => Some(id.clone()),
        _ => None,
    };
    let exact: Option<Vec<String>> = wanted.iter().map(exact).collect();
    let ids = match exact {
        Some(ids) => Some(ids),
        None if wanted.iter().any(|clause| clause.pattern.matches("")) => None,
        None => mentions::ids(conn, kind, IDS_COMPARED)?.map(|ids| {
            let is_wanted = |id: &String| wanted.iter().any(|clause| clause.pattern.matches(id));
            ids.into_iter().filter(is_wanted).collect()
        }),
    };
    let few = ids.filter(|ids| ids.len() <= IDS_LOOKED_FOR);
    Ok(few.map(|ids| Index { kind, ids }))
}

fn kind_of(field: Field) -> Option<RefKind> {
    match field {
        Field::Kind => Some(RefKind::Kind),
        Field::Job => Some(RefKind::Job),
        Field::Device => Some(RefKind::Device),
        Field::DeviceType => Some(RefKind::DeviceType),
        Field::Worker => Some(RefKind::Worker),
        Field::Submitter => Some(RefKind::Submitter),
        Field::Service => Some(RefKind::Service),
        Field::Account => Some(RefKind::Account),
        _ => None,
    }
}
