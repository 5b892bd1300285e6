//! Which events mention an id: those of the index, and those that the index does not have yet.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rusqlite::{Connection, OptionalExtension, params};

use crate::error::StoreError;
use crate::projection::reference::references;
use crate::projection::{self, RefKind, Told};
use crate::reader::{self, Event, Reader, to_sql};

/// So many events that the projections have not read yet are looked at directly.
pub const LOOKED_AT: u64 = 20_000;

const HAS: &str = "SELECT 1 FROM ref WHERE kind = ?1 AND id = ?2 AND seq > ?3 AND seq <= ?4 LIMIT 1";
const NEWEST: &str =
    "SELECT seq FROM ref WHERE kind = ?1 AND id = ?2 AND seq > ?3 AND seq <= ?4 ORDER BY seq DESC LIMIT ?5";
const NEXT_ID: &str = "SELECT id FROM ref WHERE kind = ?1 AND id > ?2 ORDER BY id LIMIT 1";

/// The statements of this file.
#[cfg(test)]
pub(super) const SQL: &[&str] = &[HAS, NEWEST, NEXT_ID];

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
        let upto = head.min(indexed.saturating_add(LOOKED_AT));
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
    /// How many of the newest events are not taken into account, since the projections are more than [`LOOKED_AT`]
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

    /// The numbers, above `after`, of the newest `limit` events that mention this id, newest first.
    pub fn newest(&self, kind: RefKind, id: &str, after: u64, limit: usize) -> Result<Vec<u64>, StoreError> {
        let recent = self.recent.get(&(kind, id.to_owned()));
        let recent = recent.into_iter().flatten().rev().copied();
        let mut found: Vec<u64> = recent.filter(|seq| *seq > after).take(limit).collect();
        let more = limit - found.len();
        found.extend(newest(self.reader.connection(), kind, id, after, self.indexed, more)?);
        Ok(found)
    }

    /// The events with these numbers, in their order. One that was pruned meanwhile is left out.
    pub fn events(&self, numbers: impl IntoIterator<Item = u64>) -> Result<Vec<Event>, StoreError> {
        let events = numbers.into_iter().filter_map(|seq| self.reader.event(seq).transpose());
        events.collect()
    }
}

/// The numbers with `after < number <= upto` of the newest events that mention this id, newest first.
pub(super) fn newest(
    conn: &Connection,
    kind: RefKind,
    id: &str,
    after: u64,
    upto: u64,
    limit: usize,
) -> Result<Vec<u64>, StoreError> {
    let mut select = conn.prepare_cached(NEWEST)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = select.query_map(
        params![kind as u8, id, to_sql(after), to_sql(upto), limit],
        reader::seq_of,
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
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
