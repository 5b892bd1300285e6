//! Which events mention an id: those of the index, and those that the index does not have yet.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rusqlite::{Connection, OptionalExtension, params};

use super::moment::UNREAD_EVENTS;
use crate::error::StoreError;
use crate::projection::reference::references;
use crate::projection::{self, RefKind, Told};
use crate::reader::{self, Event, EventRow, Reader, to_sql};

const HAS: &str = "SELECT 1 FROM ref WHERE kind = ?1 AND id = ?2 AND seq > ?3 AND seq <= ?4 LIMIT 1";
const NEWEST: &str =
    "SELECT seq FROM ref WHERE kind = ?1 AND id = ?2 AND seq > ?3 AND seq <= ?4 ORDER BY seq DESC LIMIT ?5";
const OLDEST: &str = "SELECT seq FROM ref WHERE kind = ?1 AND id = ?2 AND seq > ?3 AND seq <= ?4 ORDER BY seq LIMIT ?5";
const NEXT_ID: &str = "SELECT id FROM ref WHERE kind = ?1 AND id > ?2 ORDER BY id LIMIT 1";

/// The statements of this file.
#[cfg(test)]
pub(super) const SQL: &[&str] = &[HAS, NEWEST, OLDEST, NEXT_ID];

/// Which events mention an id, as of the moment at which this was made.
#[derive(Debug)]
pub struct Mentions<'r> {
    reader: &'r Reader,
    /// What is in the index reaches up to here.
    indexed: u64,
    /// What the index does not have yet.
    recent: BTreeMap<(RefKind, String), Vec<u64>>,
    left_out: u64,
}

impl Reader {
    /// Begins to ask which events mention an id.
    pub fn mentions(&self) -> Result<Mentions<'_>, StoreError> {
        // In this order: what the projector takes in between is read twice and found once.
        let indexed = projection::history_cursor(self.connection())?;
        let head = self.head()?;
        let upto = head.min(indexed.saturating_add(UNREAD_EVENTS));
        let mut recent: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        self.scan(indexed, upto, |row| {
            let told = Told::read(row);
            for (kind, id) in references(&told) {
                recent.entry((kind, id.to_owned())).or_default().push(row.seq);
            }
            ControlFlow::Continue(())
        })?;
        Ok(Mentions {
            reader: self,
            indexed,
            recent,
            left_out: head.saturating_sub(upto.max(indexed)),
        })
    }
}

impl Mentions<'_> {
    /// How many of the newest events are not taken into account, since the projections are more than [`UNREAD_EVENTS`]
    /// events behind.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Whether any event mentions this id.
    pub fn has(&self, kind: RefKind, id: &str) -> Result<bool, StoreError> {
        if self.recent.contains_key(&(kind, id.to_owned())) {
            return Ok(true);
        }
        let mut select = self.reader.connection().prepare_cached(HAS)?;
        let found = select.query_row(params![kind as u8, id, 0, to_sql(self.indexed)], |_| Ok(()));
        Ok(found.optional()?.is_some())
    }

    /// The numbers, with `after < number < before`, of the newest `limit` events that mention this id, newest first.
    pub fn newest(
        &self,
        kind: RefKind,
        id: &str,
        after: u64,
        before: u64,
        limit: usize,
    ) -> Result<Vec<u64>, StoreError> {
        let recent = self.recent.get(&(kind, id.to_owned()));
        let recent = recent.into_iter().flatten().rev().copied();
        let recent = recent.filter(|seq| after < *seq && *seq < before);
        let mut found: Vec<u64> = recent.take(limit).collect();
        let indexed = Range {
            after,
            upto: self.indexed.min(before.saturating_sub(1)),
            limit: limit - found.len(),
        };
        found.extend(indexed.newest(self.reader.connection(), kind, id)?);
        Ok(found)
    }

    /// The events with these numbers, in their order. One that was pruned meanwhile is left out.
    pub fn events(&self, numbers: impl IntoIterator<Item = u64>) -> Result<Vec<Event>, StoreError> {
        let mut events = Vec::new();
        self.visit(numbers, |row| events.push(row.to_event()))?;
        Ok(events)
    }

    pub(super) fn visit(
        &self,
        numbers: impl IntoIterator<Item = u64>,
        mut visit: impl FnMut(EventRow<'_>),
    ) -> Result<(), StoreError> {
        // One transaction costs less than one for each event.
        let moment = self.reader.connection().unchecked_transaction()?;
        for seq in numbers {
            reader::scan(&moment, seq.saturating_sub(1), seq, |row| {
                visit(row);
                ControlFlow::Break(())
            })?;
        }
        Ok(())
    }
}

/// Numbers with `after < number <= upto`, and how many of them at most.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) after: u64,
    pub(super) upto: u64,
    pub(super) limit: usize,
}

impl Range {
    fn find(self, conn: &Connection, sql: &str, kind: RefKind, id: &str) -> Result<Vec<u64>, StoreError> {
        let mut select = conn.prepare_cached(sql)?;
        let limit = i64::try_from(self.limit).unwrap_or(i64::MAX);
        let (after, upto) = (to_sql(self.after), to_sql(self.upto));
        let rows = select.query_map(params![kind as u8, id, after, upto, limit], reader::seq_of)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Of the newest events that mention this id, newest first.
    pub(super) fn newest(self, conn: &Connection, kind: RefKind, id: &str) -> Result<Vec<u64>, StoreError> {
        self.find(conn, NEWEST, kind, id)
    }

    /// Of the oldest events that mention this id, oldest first.
    pub(super) fn oldest(self, conn: &Connection, kind: RefKind, id: &str) -> Result<Vec<u64>, StoreError> {
        self.find(conn, OLDEST, kind, id)
    }
}

/// All ids of this kind in the index, if there are no more than `limit`.
pub(super) fn ids(conn: &Connection, kind: RefKind, limit: usize) -> Result<Option<Vec<String>>, StoreError> {
    let mut select = conn.prepare_cached(NEXT_ID)?;
    let mut ids: Vec<String> = Vec::new();
    loop {
        let last = ids.last().map_or("", String::as_str);
        let next: Option<String> = select
            .query_row(params![kind as u8, last], |row| row.get(0))
            .optional()?;
        match next {
            None => return Ok(Some(ids)),
            Some(_) if ids.len() == limit => return Ok(None),
            Some(id) => ids.push(id),
        }
    }
}
