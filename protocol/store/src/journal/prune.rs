//! Retention: the oldest events go, in small transactions, and their space is given back.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::Journal;
use super::group::roll_back;
use super::open::PAGE_BYTES;
use crate::error::StoreError;
use crate::projection;
use crate::reader;

/// How long events are kept. The first limit that is reached counts; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// By the time of receipt.
    pub max_age: Option<Duration>,
    /// By the size of the database without its free pages and its log.
    pub max_bytes: Option<u64>,
}

impl Default for Retention {
    /// 30 days or 4 GiB.
    fn default() -> Retention {
        Retention {
            max_age: Some(Duration::from_secs(30 * 24 * 3_600)),
            max_bytes: Some(4 << 30),
        }
    }
}

/// How much one call of [`Journal::prune`] does, which bounds how long appending waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneBudget {
    /// Events to delete.
    pub events: u64,
    /// Pages of 4 KiB to give back to the file system.
    pub pages: u64,
}

impl Default for PruneBudget {
    fn default() -> PruneBudget {
        PruneBudget {
            events: 500,
            pages: 500,
        }
    }
}

/// What one call of [`Journal::prune`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// Events that were deleted.
    pub events: u64,
    /// Bytes by which the file becomes shorter with the next checkpoint.
    pub freed_bytes: u64,
    /// Whether another call has something to do.
    pub more: bool,
}

/// Free pages that the file keeps: events to come need them at once. 4 MiB.
const KEPT_FREE_PAGES: u64 = 1_024;

impl Journal {
    /// Deletes the oldest events that `retention` no longer covers, as far as `budget` goes. Call it again, with
    /// pauses, while [`Pruned::more`].
    ///
    /// The newest event always stays, since it carries the numbering. What the events mean, into which they are projected
    /// before they go, outlives them: by age for ever, by size as far as there is room when half of it is the events'.
    pub fn prune(&mut self, retention: &Retention, now_us: i64, budget: &PruneBudget) -> Result<Pruned, StoreError> {
        let Some(oldest) = reader::oldest(&self.conn)? else {
            return Ok(Pruned {
                events: 0,
                freed_bytes: 0,
                more: false,
            });
        };
        let keep_from = self.keep_from(oldest, retention, now_us)?;
        let mut upto = keep_from.min(oldest.saturating_add(budget.events));
        // Where there is no room to project them, they are made into rows when they are gone.
        let mut has_room = true;
        if upto > oldest && projection::slowest(&self.conn)? + 1 < upto {
            match self.project_all(budget.events) {
                Ok(cursor) => upto = upto.min(cursor + 1),
                Err(StoreError::DiskFull) => has_room = false,
                Err(error) => return Err(error),
            }
        }
        if upto > oldest {
            upto = self.write(|conn| {
                let (base, upto) = projection::Base::fold(conn, oldest, upto)?;
                conn.prepare_cached("DELETE FROM event WHERE seq < ?")?
                    .execute([upto.cast_signed()])?;
                conn.prepare_cached("DELETE FROM gap WHERE after_seq < ?")?
                    .execute([upto.cast_signed() - 1])?;
                base.write(conn, upto, has_room)?;
                if !has_room {
                    projection::reset(conn, upto)?;
                }
                Ok(upto)
            })?;
        }
        let events = upto.saturating_sub(oldest);
        let is_too_big = |used: u64| retention.max_bytes.is_some_and(|max_bytes| used > max_bytes);
        let mut forgotten = 0;
        if keep_from <= oldest && is_too_big(used_bytes(&self.conn)?) {
            forgotten = self.write(|conn| projection::forget(conn, oldest, budget.events))?;
        }
        let free = pages(&self.conn, "freelist_count")?;
        let give_back = free.saturating_sub(KEPT_FREE_PAGES);
        let freed = give_back.min(budget.pages);
        if freed > 0 {
            self.write(|conn| vacuum(conn, freed))?;
        }
        // Projecting took room.
        let is_too_big = is_too_big(used_bytes(&self.conn)?);
        Ok(Pruned {
            events,
            freed_bytes: freed * PAGE_BYTES,
            more: upto < keep_from || give_back > freed || (events + forgotten > 0 && is_too_big),
        })
    }

    /// Brings every projection up to `max_events` further; up to which number all of them have read.
    fn project_all(&mut self, max_events: u64) -> Result<u64, StoreError> {
        let entities = self.project(max_events)?.cursor;
        let history = self.project_history(max_events)?.cursor;
        Ok(entities.min(history))
    }

    /// The first number that is to stay.
    fn keep_from(&self, oldest: u64, retention: &Retention, now_us: i64) -> Result<u64, StoreError> {
        let mut keep_from = oldest;
        if let Some(max_age) = retention.max_age {
            let max_age_us = i64::try_from(max_age.as_micros()).unwrap_or(i64::MAX);
            keep_from = reader::seq_received_since(&self.conn, now_us.saturating_sub(max_age_us))?;
        }
        if let Some(max_bytes) = retention.max_bytes {
            let used = used_bytes(&self.conn)?;
            let kept = self.head.seq - oldest + 1;
            let event_bytes = self.event_bytes(oldest)?.min(used / kept).max(1);
            // Half of the size is the events' as long as there is something that has outlived its own.
            let least = match projection::outlived(&self.conn, oldest, 1)? {
                Some(_) => (max_bytes / 2).div_ceil(event_bytes).min(kept),
                None => 1,
            };
            let too_many = used.saturating_sub(max_bytes).div_ceil(event_bytes).min(kept - least);
            keep_from = keep_from.max(oldest.saturating_add(too_many));
        }
        Ok(keep_from.min(self.head.seq))
    }

    /// What one of the oldest events takes in the database, with its references.
    fn event_bytes(&self, oldest: u64) -> Result<u64, StoreError> {
        /// Its UUID twice, numbers, and about four references.
        const BESIDE: u64 = 180;
        let mean: Option<f64> = self
            .conn
            .prepare_cached(
                "SELECT avg(length(topic) + length(sent) + length(user) + length(data)) FROM event
                 WHERE seq >= ?1 AND seq < ?1 + 1000",
            )?
            .query_row([oldest.cast_signed()], |row| row.get(0))?;
        Ok(mean.unwrap_or(0.0) as u64 + BESIDE)
    }

    /// Runs `work` in a transaction of its own.
    pub(crate) fn write<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, StoreError> {
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let done = work(&self.conn).and_then(|done| {
            self.conn.prepare_cached("COMMIT")?.execute([])?;
            Ok(done)
        });
        if done.is_err() {
            roll_back(&self.conn);
        }
        Ok(done?)
    }
}

/// The size of the database without its free pages, in bytes.
pub(crate) fn used_bytes(conn: &Connection) -> Result<u64, rusqlite::Error> {
    Ok(pages(conn, "page_count")?.saturating_sub(pages(conn, "freelist_count")?) * PAGE_BYTES)
}

pub(crate) fn pages(conn: &Connection, pragma: &str) -> Result<u64, rusqlite::Error> {
    let pages: i64 = conn.pragma_query_value(None, pragma, |row| row.get(0))?;
    Ok(pages.cast_unsigned())
}

/// SQLite frees one page a step of this statement.
fn vacuum(conn: &Connection, pages: u64) -> Result<(), rusqlite::Error> {
    let mut vacuum = conn.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut steps = vacuum.query(params![])?;
    while steps.next()?.is_some() {}
    Ok(())
}
