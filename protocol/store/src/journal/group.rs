//! Events that become durable together.

use std::sync::Arc;

use lavabus_protocol::EventId;
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};

use super::{Head, Journal};
use crate::error::StoreError;

/// How many refused messages are kept.
pub const REJECTED_KEPT: u64 = 1_000;
/// How many bytes of a refused message are kept, over all its frames.
pub const REJECTED_BYTES: usize = 4_096;

/// Called right before each commit; what it returns as an error fails that commit.
pub(crate) type CommitHook = Arc<dyn Fn() -> Result<(), StoreError> + Send + Sync>;

/// An event that is to be kept, borrowed from the message it came in.
#[derive(Debug, Clone, Copy)]
pub struct NewEvent<'a> {
    /// The second frame.
    pub id: &'a EventId,
    /// When it was received, in µs since 1970. A clock that went back is evened out: the journal stores at least
    /// the time of the event before.
    pub received_us: i64,
    /// The first frame.
    pub topic: &'a str,
    /// The third frame, as the sender wrote it.
    pub sent: &'a str,
    /// The fourth frame.
    pub user: &'a str,
    /// The fifth frame.
    pub data: &'a str,
    /// From which lab it came; empty where there is only one.
    pub lab: &'a str,
}

/// What became of an event that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// Kept under this number.
    New(u64),
    /// The same UUID with the same content is there already, under this number. Nothing was written.
    Repeat(u64),
    /// The same UUID is there already, under this number, with other content. Nothing was written.
    Conflict(u64),
}

/// A message that was refused, kept for the administrator.
#[derive(Debug, Clone, Copy)]
pub struct Rejected<'a> {
    /// When it was received, in µs since 1970.
    pub received_us: i64,
    /// Why, in one of the publisher's stable words.
    pub reason: &'a str,
    /// Where it came from, as far as that is known.
    pub peer: &'a str,
    /// What it was, as far as it was received. The first [`REJECTED_BYTES`] bytes are kept.
    pub frames: &'a [&'a [u8]],
    /// How many bytes it had on the wire.
    pub size: u64,
}

/// Something that is known to be missing after the event that is the newest at this moment.
#[derive(Debug, Clone, Copy)]
pub struct NewGap<'a> {
    /// The time of the first missing event, in µs since 1970.
    pub from_us: i64,
    /// The time of the last missing event, in µs since 1970.
    pub to_us: i64,
    /// How many are missing, where that is known.
    pub count: Option<u64>,
    /// Why, in one of the protocol's stable words.
    pub reason: &'a str,
    /// Of which lab; empty where there is only one.
    pub lab: &'a str,
}

/// A group of events that is committed whole or not at all. Dropping it undoes it.
#[must_use = "a group that is dropped is rolled back"]
pub struct Group<'j> {
    conn: &'j Connection,
    insert: CachedStatement<'j>,
    before_commit: Option<&'j CommitHook>,
    committed: &'j mut Head,
    head: Head,
    failed: bool,
}

impl Journal {
    /// Begins a group. Waits for another process's write lock no longer than
    /// [`Options::busy_timeout`](crate::Options::busy_timeout), then fails with [`StoreError::Busy`].
    pub fn group(&mut self) -> Result<Group<'_>, StoreError> {
        let conn = &self.conn;
        conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let insert = match conn.prepare_cached(
            "INSERT INTO event(seq, uuid, received, topic, sent, user, data, lab) VALUES(?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT(uuid) DO NOTHING",
        ) {
            Ok(insert) => insert,
            Err(error) => {
                roll_back(conn);
                return Err(error.into());
            }
        };
        Ok(Group {
            conn,
            insert,
            before_commit: self.before_commit.as_ref(),
            head: self.head,
            committed: &mut self.head,
            failed: false,
        })
    }

    /// Keeps refused messages, in a transaction of their own.
    pub fn reject(&mut self, rejected: &[Rejected<'_>]) -> Result<(), StoreError> {
        let mut group = self.group()?;
        group.reject(rejected)?;
        group.commit()
    }

    /// Records that something is missing after the newest event, in a transaction of its own.
    pub fn record_gap(&mut self, gap: &NewGap<'_>) -> Result<(), StoreError> {
        let mut group = self.group()?;
        group.record_gap(gap)?;
        group.commit()
    }
}

impl Journal {
    /// Notes that what was missing of a lab between these times, in µs since 1970, is there now: all gaps that lie in
    /// between. How many these are.
    pub fn fill_gaps(&mut self, lab: &str, from_us: i64, to_us: i64, now_us: i64) -> Result<u64, StoreError> {
        let filled = self.write(|conn| {
            conn.execute(
                "UPDATE gap SET filled = ?4 WHERE lab = ?1 AND from_time >= ?2 AND to_time <= ?3 AND filled IS NULL",
                params![lab, from_us, to_us, now_us],
            )
        })?;
        Ok(filled as u64)
    }
}

impl Group<'_> {
    /// Appends one event. Numbers are given in order, from 1, without holes: a repeat or a conflict uses none.
    /// After an error the whole group is undone and refuses everything with [`StoreError::RolledBack`].
    pub fn append(&mut self, event: &NewEvent<'_>) -> Result<Appended, StoreError> {
        if self.failed {
            return Err(StoreError::RolledBack);
        }
        let seq = self.head.seq + 1;
        let received_us = event.received_us.max(self.head.received_us);
        let key = event.id.key();
        let inserted = self.insert.execute(params![
            seq.cast_signed(),
            key,
            received_us,
            event.topic,
            event.sent,
            event.user,
            event.data,
            event.lab
        ]);
        match inserted {
            Ok(0) => match self.known(event, &key) {
                Ok(known) => known.ok_or_else(|| StoreError::Corrupt("an event's UUID is there and is not".to_owned())),
                Err(error) => Err(self.fail(error)),
            },
            Ok(_) => {
                self.head = Head { seq, received_us };
                Ok(Appended::New(seq))
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    /// What is there of this UUID already, those appended to this group included: [`Appended::Repeat`] or
    /// [`Appended::Conflict`]. Writes nothing.
    pub fn find(&mut self, event: &NewEvent<'_>) -> Result<Option<Appended>, StoreError> {
        if self.failed {
            return Err(StoreError::RolledBack);
        }
        self.known(event, &event.id.key()).map_err(|error| self.fail(error))
    }

    fn known(&self, event: &NewEvent<'_>, key: &[u8; 16]) -> Result<Option<Appended>, rusqlite::Error> {
        let mut known = self.conn.prepare_cached(
            "SELECT seq, topic = ?2 AND sent = ?3 AND user = ?4 AND data = ?5 FROM event WHERE uuid = ?1",
        )?;
        let row: Option<(i64, bool)> = known
            .query_row(params![key, event.topic, event.sent, event.user, event.data], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        Ok(row.map(|(seq, same)| match same {
            true => Appended::Repeat(seq.cast_unsigned()),
            false => Appended::Conflict(seq.cast_unsigned()),
        }))
    }

    /// Keeps refused messages with this group; the oldest beyond [`REJECTED_KEPT`] go.
    pub fn reject(&mut self, rejected: &[Rejected<'_>]) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::RolledBack);
        }
        self.insert_rejected(rejected).map_err(|error| self.fail(error))
    }

    fn insert_rejected(&self, rejected: &[Rejected<'_>]) -> Result<(), rusqlite::Error> {
        let kept = usize::try_from(REJECTED_KEPT).unwrap_or(usize::MAX);
        let mut insert = self
            .conn
            .prepare_cached("INSERT INTO rejected(received, reason, peer, frames, size) VALUES(?, ?, ?, ?, ?)")?;
        for message in &rejected[rejected.len().saturating_sub(kept)..] {
            let frames = crate::rejected::encode_frames(message.frames, REJECTED_BYTES);
            insert.execute(params![
                message.received_us,
                message.reason,
                message.peer,
                frames,
                message.size.cast_signed()
            ])?;
        }
        self.conn
            .prepare_cached("DELETE FROM rejected WHERE id <= (SELECT max(id) FROM rejected) - ?")?
            .execute([REJECTED_KEPT.cast_signed()])?;
        Ok(())
    }

    /// Records that something is missing after the newest event of this group.
    pub fn record_gap(&mut self, gap: &NewGap<'_>) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::RolledBack);
        }
        let after = self.head.seq.cast_signed();
        let count = gap.count.map(u64::cast_signed);
        let insert = || -> Result<usize, rusqlite::Error> {
            self.conn
                .prepare_cached(
                    "INSERT INTO gap(after_seq, from_time, to_time, count, reason, lab) VALUES(?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![after, gap.from_us, gap.to_us, count, gap.reason, gap.lab])
        };
        insert().map(drop).map_err(|error| self.fail(error))
    }

    /// Notes, with the events of this group, how far a lab was recorded.
    pub fn set_source(&mut self, lab: &str, cursor: &str, filter: &str) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::RolledBack);
        }
        let upsert = || -> Result<usize, rusqlite::Error> {
            self.conn
                .prepare_cached(
                    "INSERT INTO source(lab, cursor, filter) VALUES(?1, ?2, ?3)
                     ON CONFLICT(lab) DO UPDATE SET cursor = ?2, filter = ?3",
                )?
                .execute([lab, cursor, filter])
        };
        upsert().map(drop).map_err(|error| self.fail(error))
    }

    /// The number that the newest event will have when this group is committed.
    pub fn head(&self) -> u64 {
        self.head.seq
    }

    /// Makes the group durable: with [`Synchronous::Full`](crate::Synchronous::Full) it is on the disk when this
    /// returns. After an error nothing of it is kept and [`Journal::head`] is as before.
    pub fn commit(mut self) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::RolledBack);
        }
        if let Some(before_commit) = self.before_commit {
            before_commit()?;
        }
        let committed = self
            .conn
            .prepare_cached("COMMIT")
            .and_then(|mut commit| commit.execute([]));
        match committed {
            Ok(_) => {
                *self.committed = self.head;
                Ok(())
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    /// SQLite has undone the transaction itself after some errors and has not after others.
    fn fail(&mut self, error: rusqlite::Error) -> StoreError {
        self.failed = true;
        roll_back(self.conn);
        error.into()
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        roll_back(self.conn);
    }
}

/// A failed ROLLBACK leaves nothing to do: SQLite has then ended the transaction itself.
pub(super) fn roll_back(conn: &Connection) {
    if !conn.is_autocommit() {
        let _ = conn.execute_batch("ROLLBACK");
    }
}
