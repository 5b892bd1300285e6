//! A damaged database is moved aside, and what can be read of it goes into a fresh one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{Appended, Group, Journal, NewGap};
use crate::error::StoreError;
use crate::migration::with_suffix;
use crate::projection::attempt::Attempt;
use crate::projection::entity::Entity;
use crate::projection::fault::Fault;
use crate::projection::result::TestResult;
use crate::projection::rows::{self, Projection, Writer};
use crate::reader::{self, EventRow};
use crate::schema;

/// The mark that [`Journal::mark_damaged`] leaves.
pub(super) const DAMAGED: &str = ".damaged";
/// Events that are saved in one transaction.
const CHUNK: u64 = 10_000;
/// Entities as version 1 of the schema has them, in the columns of today.
const ENTITIES_OF_VERSION_1: &str =
    "SELECT kind, id, '', seq, seq, seq, uuid, received, topic, sent, user, data, sub_id, sent_us, finished,
     coalesce(sent_us, received), NULL, NULL, NULL, received FROM entity";
/// What is recorded of the events that could not be read.
const GAP_REASON: &str = "damaged";

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
    copy_entities(journal, &damaged)?;
    // Where the oldest event cannot be told, nothing tells which rows the saved events will make again.
    if let Ok(oldest) = reader::oldest(&damaged) {
        let oldest = oldest.unwrap_or(i64::MAX.cast_unsigned());
        copy_base::<Attempt>(journal, &damaged, oldest)?;
        copy_base::<Fault>(journal, &damaged, oldest)?;
        copy_base::<TestResult>(journal, &damaged, oldest)?;
    }
    let mut last = None;
    // How far to jump over numbers that cannot be read; doubled until something can.
    let mut jump = 0;
    loop {
        let before = last;
        let after = last.map_or(0, |last: Place| last.seq);
        let readable = copy_chunk(journal, &damaged, after + jump, &mut last, &mut salvage)?;
        jump = match (last != before, readable) {
            (false, true) => return Ok(salvage),
            (false, false) if jump > 1 << 40 => return Ok(salvage),
            (false, false) => jump.max(1) * 2,
            (true, _) => 0,
        };
    }
}

/// The latest event of an object may be older than all events that are kept, or no longer be readable. Number 0 lets
/// any later event replace it.
fn copy_entities(journal: &mut Journal, damaged: &Connection) -> Result<(), StoreError> {
    let entities = match rows::all::<Entity>(damaged) {
        Ok(entities) => entities,
        Err(_) => match rows::read_all::<Entity>(damaged, ENTITIES_OF_VERSION_1) {
            Ok(entities) => entities,
            Err(_) => return Ok(()),
        },
    };
    journal.write(|conn| {
        let mut writer = Writer::<Entity>::new(conn, Entity::TABLE.name.to_owned());
        for (owner, mut entity) in entities {
            entity.latest.seq = 0;
            (entity.first_seq, entity.touched) = (0, 0);
            writer.upsert(&owner, &entity)?;
        }
        Ok(())
    })
}

/// What outlives its events, as it was before the oldest event that is kept: the events that are saved tell the rest.
/// Their numbers begin with 1 again, so those of older ones become less than that.
fn copy_base<P: Projection>(journal: &mut Journal, damaged: &Connection, oldest: u64) -> Result<(), StoreError> {
    let Ok(base) = rows::base::<P>(damaged, oldest) else {
        return Ok(());
    };
    journal.write(|conn| {
        let mut writer = Writer::<P>::new(conn, P::TABLE.name.to_owned());
        for (owner, row) in &base {
            writer.upsert(owner, row)?;
        }
        let name = P::TABLE.name;
        let sql =
            format!("UPDATE {name} SET first_seq = first_seq - (SELECT max(first_seq) + 1 FROM {name}), touched = 0");
        conn.execute(&sql, [])?;
        Ok(())
    })
}

/// The last event that was read, as it was numbered and timed in the damaged database.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    seq: u64,
    received_us: i64,
}

/// Says whether the damaged database could be read to the end of the chunk.
fn copy_chunk(
    journal: &mut Journal,
    damaged: &Connection,
    after: u64,
    last: &mut Option<Place>,
    salvage: &mut Salvage,
) -> Result<bool, StoreError> {
    let mut group = journal.group()?;
    let mut written = Ok(());
    // Version 1 had no labs.
    let has_lab = damaged.prepare_cached("SELECT lab FROM event LIMIT 0").is_ok();
    let lab = if has_lab { "lab" } else { "''" };
    let read = damaged
        .prepare_cached(&format!(
            "SELECT seq, uuid, received, topic, sent, user, data, {lab} FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2"
        ))
        .and_then(|mut select| {
            let mut rows = select.query([after.cast_signed(), CHUNK.cast_signed()])?;
            while let Some(row) = rows.next()? {
                let row = reader::event_row(row)?;
                written = copy_event(&mut group, &row, last, salvage);
                if written.is_err() {
                    break;
                }
            }
            Ok(())
        });
    written?;
    group.commit()?;
    Ok(read.is_ok())
}

fn copy_event(
    group: &mut Group<'_>,
    row: &EventRow<'_>,
    last: &mut Option<Place>,
    salvage: &mut Salvage,
) -> Result<(), StoreError> {
    let here = Place {
        seq: row.seq,
        received_us: row.received_us,
    };
    let lost = last.map_or(0, |last| here.seq.saturating_sub(last.seq + 1));
    if let Some(last) = last.filter(|_| lost > 0) {
        let (from_us, to_us) = (last.received_us, here.received_us);
        group.record_gap(&NewGap {
            from_us,
            to_us,
            count: Some(lost),
            reason: GAP_REASON,
            lab: row.lab,
        })?;
        salvage.events_lost += lost;
    }
    *last = Some(here);
    match group.append(&row.new_event())? {
        Appended::New(_) => salvage.events_saved += 1,
        // Damage can make two rows of one.
        Appended::Repeat(_) | Appended::Conflict(_) => salvage.events_lost += 1,
    }
    Ok(())
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
