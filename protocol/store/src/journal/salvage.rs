//! A damaged database is moved aside, and what can be read of it goes into a fresh one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lavabus_protocol::EventId;
use rusqlite::{Connection, OpenFlags};

use super::{Journal, NewEvent};
use crate::error::StoreError;
use crate::migration::with_suffix;
use crate::schema;

/// The mark that [`Journal::mark_damaged`] leaves.
pub(super) const DAMAGED: &str = ".damaged";
/// Events that are saved in one transaction.
const CHUNK: u64 = 10_000;

/// What was done about a damaged database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salvage {
    /// Where the damaged file is now.
    pub moved_to: PathBuf,
    /// What SQLite said about it.
    pub cause: String,
    /// How many events could be read. They were numbered anew, from 1, in a new epoch.
    pub events_saved: u64,
    /// How many events are known to be lost, by the numbers that are missing between those saved.
    pub events_lost: u64,
}

pub(super) fn marked_damaged(path: &Path) -> Option<String> {
    with_suffix(path, DAMAGED)
        .exists()
        .then(|| "marked as damaged when it was last in use".to_owned())
}

/// Gives the database and its log names that SQLite still sees as belonging together.
pub(super) fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let mut aside = with_suffix(path, &format!(".corrupt-{time}"));
    let mut attempt = 1;
    while aside.exists() {
        attempt += 1;
        aside = with_suffix(path, &format!(".corrupt-{time}-{attempt}"));
    }
    for suffix in ["-wal", ""] {
        match fs::rename(with_suffix(path, suffix), with_suffix(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    for leftover in ["-shm", DAMAGED] {
        match fs::remove_file(with_suffix(path, leftover)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

/// Copies every event that can be read. A failure to read ends nothing; a failure to write does.
pub(super) fn salvage(journal: &mut Journal, moved_to: PathBuf, cause: String) -> Result<Salvage, StoreError> {
    let mut salvage = Salvage {
        moved_to,
        cause,
        events_saved: 0,
        events_lost: 0,
    };
    let Ok(damaged) = open_damaged(&salvage.moved_to) else {
        return Ok(salvage);
    };
    let mut after = 0;
    let mut first = true;
    // How far to jump over numbers that cannot be read; doubled until something can.
    let mut jump = 0_u64;
    loop {
        let chunk = copy_chunk(journal, &damaged, after + jump)?;
        if let Some(begin) = chunk.first_seq {
            salvage.events_saved += chunk.saved;
            salvage.events_lost += if first { 0 } else { begin - after - 1 };
            first = false;
        }
        salvage.events_lost += chunk.skipped;
        match (chunk.last_seq, chunk.readable) {
            (Some(last), true) => (after, jump) = (last, 0),
            (Some(last), false) => (after, jump) = (last, 16),
            (None, true) => return Ok(salvage),
            (None, false) => {
                jump = jump.max(8) * 2;
                if jump > 1 << 40 {
                    return Ok(salvage);
                }
            }
        }
    }
}

struct Chunk {
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    saved: u64,
    skipped: u64,
    readable: bool,
}

fn copy_chunk(journal: &mut Journal, damaged: &Connection, after: u64) -> Result<Chunk, StoreError> {
    let mut chunk = Chunk {
        first_seq: None,
        last_seq: None,
        saved: 0,
        skipped: 0,
        readable: false,
    };
    let mut group = journal.group()?;
    let mut write_error = None;
    let read = damaged
        .prepare_cached(
            "SELECT seq, uuid, received, topic, sent, user, data FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        )
        .and_then(|mut select| {
            let mut rows = select.query([after.cast_signed(), CHUNK.cast_signed()])?;
            while let Some(row) = rows.next()? {
                let seq = row.get::<_, i64>(0)?.cast_unsigned();
                let id = EventId::from_key(row.get(1)?);
                let topic: String = row.get(3)?;
                let sent: String = row.get(4)?;
                let user: String = row.get(5)?;
                let data: String = row.get(6)?;
                let received_us = row.get(2)?;
                let event = NewEvent {
                    id: &id,
                    received_us,
                    topic: &topic,
                    sent: &sent,
                    user: &user,
                    data: &data,
                };
                if let Some(last) = chunk.last_seq {
                    chunk.skipped += seq - last - 1;
                }
                match group.append(&event) {
                    Ok(super::Appended::New(_)) => chunk.saved += 1,
                    Ok(_) => chunk.skipped += 1,
                    Err(error) => {
                        write_error = Some(error);
                        return Ok(());
                    }
                }
                chunk.first_seq.get_or_insert(seq);
                chunk.last_seq = Some(seq);
            }
            Ok(())
        });
    if let Some(error) = write_error {
        return Err(error);
    }
    chunk.readable = read.is_ok();
    group.commit()?;
    Ok(chunk)
}

/// Only a database of ours, and one that can be opened at all, is worth reading.
fn open_damaged(path: &Path) -> Result<Connection, rusqlite::Error> {
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    let application_id: u32 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if application_id != schema::APPLICATION_ID {
        return Err(rusqlite::Error::QueryReturnedNoRows);
    }
    Ok(conn)
}
