//! Reading: any number of connections, in any process, while the journal writes.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lavabus_protocol::{Cursor, Envelope, Epoch, EventId, Position, Record, SnapshotScope};
use nix::unistd::{AccessFlags, access};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use crate::error::{OpenError, StoreError};
use crate::journal::{NewEvent, has_content};
use crate::migration::{self, MIGRATIONS, with_suffix};
use crate::projection::{self, Snapshot};
use crate::rejected::{RejectedMessage, decode_frames};
use crate::schema;

/// 1 GiB of the file is read through the page cache directly; what is beyond is read as usual.
const MMAP_BYTES: i64 = 1 << 30;

/// One event as it lies in the database, borrowed for the time of one visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRow<'a> {
    /// Its number.
    pub seq: u64,
    /// The second frame.
    pub id: EventId,
    /// When it was received, in µs since 1970; never less than that of the event before.
    pub received_us: i64,
    /// The first frame.
    pub topic: &'a str,
    /// The third frame, as the sender wrote it.
    pub sent: &'a str,
    /// The fourth frame.
    pub user: &'a str,
    /// The fifth frame, byte for byte as it was received.
    pub data: &'a str,
    /// From which lab it came; empty where there is only one.
    pub lab: &'a str,
}

/// One event, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number.
    pub seq: u64,
    /// The second frame.
    pub id: EventId,
    /// When it was received, in µs since 1970.
    pub received_us: i64,
    /// The first frame.
    pub topic: String,
    /// The third frame.
    pub sent: String,
    /// The fourth frame.
    pub user: String,
    /// The fifth frame.
    pub data: String,
    /// From which lab it came; empty where there is only one.
    pub lab: String,
}

impl<'a> EventRow<'a> {
    /// Its five frames, as they were checked when it was taken.
    pub fn envelope(&self) -> Envelope<'a> {
        Envelope {
            topic: self.topic,
            uuid: self.id,
            datetime: self.sent,
            username: self.user,
            data: self.data,
        }
    }

    /// The event on its own, with its place among the numbers of `epoch`, its database's, as cursor, and its lab if it
    /// has one.
    pub fn to_record(&self, epoch: Epoch) -> Record {
        Record {
            cursor: Some(Cursor {
                position: Some(Position { epoch, seq: self.seq }),
                uuid: self.id,
            }),
            lab: Some(self.lab.to_owned()).filter(|lab| !lab.is_empty()),
            ..self.envelope().into()
        }
    }

    /// As it is appended to another database.
    pub fn new_event(&self) -> NewEvent<'_> {
        NewEvent {
            id: &self.id,
            received_us: self.received_us,
            topic: self.topic,
            sent: self.sent,
            user: self.user,
            data: self.data,
            lab: self.lab,
        }
    }

    /// A copy that outlives the visit.
    pub fn to_event(&self) -> Event {
        Event {
            seq: self.seq,
            id: self.id,
            received_us: self.received_us,
            topic: self.topic.to_owned(),
            sent: self.sent.to_owned(),
            user: self.user.to_owned(),
            data: self.data.to_owned(),
            lab: self.lab.to_owned(),
        }
    }
}

impl Event {
    /// The same, borrowed.
    pub fn row(&self) -> EventRow<'_> {
        EventRow {
            seq: self.seq,
            id: self.id,
            received_us: self.received_us,
            topic: &self.topic,
            sent: &self.sent,
            user: &self.user,
            data: &self.data,
            lab: &self.lab,
        }
    }
}

/// Something that is known to be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// It is missing after the event with this number.
    pub after_seq: u64,
    /// The time of the first missing event, in µs since 1970.
    pub from_us: i64,
    /// The time of the last missing event, in µs since 1970.
    pub to_us: i64,
    /// How many are missing, where that is known.
    pub count: Option<u64>,
    /// Why.
    pub reason: String,
    /// Of which lab; empty where there is only one.
    pub lab: String,
    /// When it was filled after all, in µs since 1970.
    pub filled_us: Option<i64>,
}

/// How far a lab was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name; empty where there is only one.
    pub lab: String,
    /// After which event recording goes on.
    pub cursor: String,
    /// What of it was asked for, in the words of whoever recorded it.
    pub filter: String,
}

/// The figures of a database, for `status`. Each takes a look or two into an index; nothing is counted through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The epoch of its numbers.
    pub epoch: Epoch,
    /// When the database was made, RFC 3339.
    pub created: String,
    /// The newest number; 0 when there is none.
    pub head: u64,
    /// The oldest number that is kept.
    pub oldest: Option<u64>,
    /// How many events are kept.
    pub events: u64,
    /// When the oldest kept event was received, in µs since 1970.
    pub oldest_received_us: Option<i64>,
    /// When the newest event was received, in µs since 1970.
    pub newest_received_us: Option<i64>,
    /// What the content takes, in bytes; this is what retention compares.
    pub used_bytes: u64,
    /// The database file's size, in bytes.
    pub file_bytes: u64,
    /// The write-ahead log's size, in bytes.
    pub log_bytes: u64,
    /// How many refused messages are kept.
    pub rejected: u64,
    /// How many gaps are known.
    pub gaps: u64,
    /// How many devices, workers and jobs are known.
    pub entities: u64,
    /// Up to which number the projection `entity` has read.
    pub projected: u64,
    /// Up to which number the projections behind the questions have read.
    pub history_projected: u64,
}

/// A read-only connection. Every call is one short transaction: a call that stays in one for long keeps the
/// journal's log from being used anew, so read much in several calls.
#[derive(Debug)]
pub struct Reader {
    conn: Connection,
    path: PathBuf,
}

impl Reader {
    /// Opens the database at `path` for reading. Needs no writer to be there.
    pub fn open(path: impl AsRef<Path>) -> Result<Reader, OpenError> {
        let path = path.as_ref().to_owned();
        match readable(&path) {
            Ok(()) => {}
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Err(OpenError::NotFound { path }),
            Err(source) => return Err(OpenError::File { path, source }),
        }
        let store = |source: rusqlite::Error| OpenError::Store {
            path: path.clone(),
            source: source.into(),
        };
        let conn = connect(&path).map_err(store)?;
        let number = |pragma: &str| {
            conn.pragma_query_value(None, pragma, |row| row.get::<_, u32>(0))
                .map_err(store)
        };
        let (application_id, found) = (number("application_id")?, number("user_version")?);
        let known = migration::newest(MIGRATIONS);
        if application_id != schema::APPLICATION_ID {
            // A writer that is just making the database has not committed its first table yet.
            let unfinished = application_id == 0 && found == 0;
            return Err(if unfinished {
                OpenError::NotFound { path }
            } else {
                OpenError::Foreign { path, application_id }
            });
        }
        match found {
            found if found > known => Err(OpenError::NewerSchema { path, found, known }),
            found if found < known => Err(OpenError::OlderSchema { path, found, known }),
            _ => Ok(Reader { conn, path }),
        }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.conn
    }

    /// The database's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The epoch of the numbers.
    pub fn epoch(&self) -> Result<Epoch, StoreError> {
        epoch(&self.conn)
    }

    /// The number of the newest event; 0 when there is none.
    pub fn head(&self) -> Result<u64, StoreError> {
        Ok(head(&self.conn)?)
    }

    /// The number of the oldest event that is kept.
    pub fn oldest(&self) -> Result<Option<u64>, StoreError> {
        oldest(&self.conn)
    }

    /// While what this gives is there, every call sees the database as it was at the first of them. For a short time
    /// only: see [`Reader`]. Not to be taken twice, nor with a call that has one of its own, such as
    /// [`status`](Reader::status).
    pub fn transaction(&self) -> Result<impl Drop + use<'_>, StoreError> {
        Ok(self.conn.unchecked_transaction()?)
    }

    /// Visits the events with `after < number <= upto` in order, until `visit` breaks. Returns the last number
    /// that was visited, or `after`.
    pub fn scan(
        &self,
        after: u64,
        upto: u64,
        visit: impl FnMut(EventRow<'_>) -> ControlFlow<()>,
    ) -> Result<u64, StoreError> {
        scan(&self.conn, after, upto, visit)
    }

    /// Visits the events with `after < number < before` from the newest to the oldest, until `visit` breaks.
    pub fn scan_back(
        &self,
        before: u64,
        after: u64,
        visit: impl FnMut(EventRow<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut select = self.conn.prepare_cached(SELECT_BACKWARD)?;
        visit_rows(select.query([to_sql(before), to_sql(after)])?, visit)?;
        Ok(())
    }

    /// The event with this number.
    pub fn event(&self, seq: u64) -> Result<Option<Event>, StoreError> {
        let mut found = None;
        self.scan(seq.saturating_sub(1), seq, |row| {
            found = Some(row.to_event());
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// The number of the event with this UUID.
    pub fn by_id(&self, id: &EventId) -> Result<Option<u64>, StoreError> {
        let mut select = self.conn.prepare_cached("SELECT seq FROM event WHERE uuid = ?")?;
        Ok(select.query_row([id.key()], seq_of).optional()?)
    }

    /// The first number whose event was received at `time_us` (µs since 1970) or later; one more than the newest
    /// when there is none. A binary search over the numbers.
    pub fn seq_received_since(&self, time_us: i64) -> Result<u64, StoreError> {
        seq_received_since(&self.conn, time_us)
    }

    /// The number of the event whose version 1 UUID is the first at, or after, the time of `id` less `slack`: where
    /// to go on after a UUID that is not known here. `None` when `id` is of another version, or when no kept event
    /// is as new.
    pub fn first_id_at_or_after(&self, id: &EventId, slack: Duration) -> Result<Option<u64>, StoreError> {
        let Some(from) = earlier_key(&id.key(), slack) else {
            return Ok(None);
        };
        let mut select = self
            .conn
            .prepare_cached("SELECT seq FROM event WHERE uuid >= ?1 AND uuid < x'20' ORDER BY uuid LIMIT 1")?;
        Ok(select.query_row([from], seq_of).optional()?)
    }

    /// The newest refused messages, newest first.
    pub fn rejected(&self, limit: u32) -> Result<Vec<RejectedMessage>, StoreError> {
        let mut select = self
            .conn
            .prepare_cached("SELECT id, received, reason, peer, frames, size FROM rejected ORDER BY id DESC LIMIT ?")?;
        let rows = select.query_map([limit], |row| {
            Ok(RejectedMessage {
                number: seq_of(row)?,
                received_us: row.get(1)?,
                reason: row.get(2)?,
                peer: row.get(3)?,
                frames: decode_frames(row.get_ref(4)?.as_blob()?),
                size: row.get::<_, i64>(5)?.cast_unsigned(),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What is known to be missing after the event `after` or later, oldest first.
    pub fn gaps(&self, after: u64) -> Result<Vec<Gap>, StoreError> {
        let mut select = self.conn.prepare_cached(
            "SELECT after_seq, from_time, to_time, count, reason, lab, filled FROM gap WHERE after_seq >= ? ORDER BY id",
        )?;
        let rows = select.query_map([to_sql(after)], |row| {
            Ok(Gap {
                after_seq: seq_of(row)?,
                from_us: row.get(1)?,
                to_us: row.get(2)?,
                count: row.get::<_, Option<i64>>(3)?.map(i64::cast_unsigned),
                reason: row.get(4)?,
                lab: row.get(5)?,
                filled_us: row.get(6)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How far each lab was recorded, by name.
    pub fn sources(&self) -> Result<Vec<Source>, StoreError> {
        let mut select = self
            .conn
            .prepare_cached("SELECT lab, cursor, filter FROM source ORDER BY lab")?;
        let rows = select.query_map([], |row| {
            Ok(Source {
                lab: row.get(0)?,
                cursor: row.get(1)?,
                filter: row.get(2)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The latest event of every device and worker and of every unfinished job that was received at
    /// `jobs_since_us` (µs since 1970) or later; or of one object, finished or not. True at
    /// [`Snapshot::position`]: what comes after it is in the events that follow.
    pub fn snapshot(&self, scope: &SnapshotScope, jobs_since_us: i64) -> Result<Snapshot, StoreError> {
        projection::snapshot(&self.conn, scope, jobs_since_us)
    }

    /// The figures of the database.
    pub fn status(&self) -> Result<Status, StoreError> {
        let conn = self.conn.unchecked_transaction()?;
        let meta = |key: &str| -> Result<String, rusqlite::Error> {
            conn.query_row("SELECT value FROM meta WHERE key = ?", [key], |row| row.get(0))
        };
        let count = |table: &str| -> Result<u64, rusqlite::Error> {
            conn.query_row(&format!("SELECT count(*) FROM {table}"), [], seq_of)
        };
        let head = head(&conn)?;
        let oldest = oldest(&conn)?;
        let received = |seq: u64| received_at(&conn, seq);
        Ok(Status {
            epoch: epoch(&conn)?,
            created: meta("created")?,
            head,
            oldest,
            events: oldest.map_or(0, |oldest| head - oldest + 1),
            oldest_received_us: oldest.map(received).transpose()?.flatten(),
            newest_received_us: received(head)?,
            used_bytes: crate::journal::used_bytes(&conn)?,
            file_bytes: crate::journal::pages(&conn, "page_count")? * crate::journal::PAGE_BYTES,
            log_bytes: std::fs::metadata(with_suffix(&self.path, "-wal")).map_or(0, |metadata| metadata.len()),
            rejected: count("rejected")?,
            gaps: count("gap")?,
            entities: count("entity")?,
            projected: projection::entity_cursor(&conn)?,
            history_projected: projection::history_cursor(&conn)?,
        })
    }
}

/// A read-only connection needs the log and its index to be there, or to be able to make them. Where neither is
/// so, and there is no log, nobody writes, and the file alone is everything.
/// Says what SQLite would not. The file is not opened for it: to close it again would take away the locks that other
/// connections of this process have on it.
fn readable(path: &Path) -> io::Result<()> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    Ok(access(path, AccessFlags::R_OK)?)
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(Duration::from_secs(2))?;
    let readable = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
    let conn = match readable {
        Err(error)
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen)
                && !has_content(&with_suffix(path, "-wal")) =>
        {
            let uri = format!("file:{}?immutable=1", escape_uri(path));
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?
        }
        other => {
            other?;
            conn
        }
    };
    conn.pragma_update_and_check(None, "mmap_size", MMAP_BYTES, |_| Ok(()))?;
    conn.pragma_update(None, "temp_store", "memory")?;
    Ok(conn)
}

/// SQLite's URI file names: `?` begins the options, `#` the fragment, `%` an escape.
fn escape_uri(path: &Path) -> String {
    path.to_string_lossy()
        .replace('%', "%25")
        .replace('?', "%3f")
        .replace('#', "%23")
}

/// Events in the order of their numbers.
pub(crate) const SELECT_FORWARD: &str =
    "SELECT seq, uuid, received, topic, sent, user, data, lab FROM event WHERE seq > ?1 AND seq <= ?2 ORDER BY seq";
/// Events from the newest to the oldest.
pub(crate) const SELECT_BACKWARD: &str = "SELECT seq, uuid, received, topic, sent, user, data, lab FROM event
    WHERE seq < ?1 AND seq > ?2 ORDER BY seq DESC";

pub(crate) fn to_sql(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

pub(crate) fn seq_of(row: &Row<'_>) -> Result<u64, rusqlite::Error> {
    row.get::<_, i64>(0).map(i64::cast_unsigned)
}

pub(crate) fn epoch(conn: &Connection) -> Result<Epoch, StoreError> {
    let text: String = conn.query_row("SELECT value FROM meta WHERE key = 'epoch'", [], |row| row.get(0))?;
    Epoch::parse(&text).ok_or_else(|| StoreError::Corrupt(format!("meta.epoch is {text:?}")))
}

pub(crate) fn head(conn: &Connection) -> Result<u64, rusqlite::Error> {
    let newest: Option<i64> = conn
        .prepare_cached("SELECT max(seq) FROM event")?
        .query_row([], |row| row.get(0))?;
    Ok(newest.unwrap_or(0).cast_unsigned())
}

pub(crate) fn oldest(conn: &Connection) -> Result<Option<u64>, StoreError> {
    let oldest: Option<i64> = conn
        .prepare_cached("SELECT min(seq) FROM event")?
        .query_row([], |row| row.get(0))?;
    Ok(oldest.map(i64::cast_unsigned))
}

fn received_at(conn: &Connection, seq: u64) -> Result<Option<i64>, rusqlite::Error> {
    conn.prepare_cached("SELECT received FROM event WHERE seq = ?")?
        .query_row([to_sql(seq)], |row| row.get(0))
        .optional()
}

/// `received` never decreases and numbers have no holes, so no index is needed.
pub(crate) fn seq_received_since(conn: &Connection, time_us: i64) -> Result<u64, StoreError> {
    let Some(oldest) = oldest(conn)? else { return Ok(1) };
    let (mut low, mut high) = (oldest, head(conn)? + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        match received_at(conn, middle)? {
            Some(received) if received >= time_us => high = middle,
            _ => low = middle + 1,
        }
    }
    Ok(low)
}

pub(crate) fn scan(
    conn: &Connection,
    after: u64,
    upto: u64,
    visit: impl FnMut(EventRow<'_>) -> ControlFlow<()>,
) -> Result<u64, StoreError> {
    Ok(scan_rows(conn, after, upto, visit)?.unwrap_or(after))
}

pub(crate) fn scan_rows(
    conn: &Connection,
    after: u64,
    upto: u64,
    visit: impl FnMut(EventRow<'_>) -> ControlFlow<()>,
) -> Result<Option<u64>, rusqlite::Error> {
    let mut select = conn.prepare_cached(SELECT_FORWARD)?;
    visit_rows(select.query(params![to_sql(after), to_sql(upto)])?, visit)
}

fn visit_rows(
    mut rows: rusqlite::Rows<'_>,
    mut visit: impl FnMut(EventRow<'_>) -> ControlFlow<()>,
) -> Result<Option<u64>, rusqlite::Error> {
    let mut last = None;
    while let Some(row) = rows.next()? {
        let event = event_row(row)?;
        last = Some(event.seq);
        if visit(event).is_break() {
            break;
        }
    }
    Ok(last)
}

pub(crate) fn event_row<'r>(row: &'r Row<'_>) -> Result<EventRow<'r>, rusqlite::Error> {
    Ok(EventRow {
        seq: seq_of(row)?,
        id: EventId::from_key(row.get(1)?),
        received_us: row.get(2)?,
        topic: row.get_ref(3)?.as_str()?,
        sent: row.get_ref(4)?.as_str()?,
        user: row.get_ref(5)?.as_str()?,
        data: row.get_ref(6)?.as_str()?,
        lab: row.get_ref(7)?.as_str()?,
    })
}

/// The lowest key of a version 1 UUID that is `slack` older, or `None` if `key` is not of version 1.
///
/// ```text
/// key   0                               8
///       | version 4 bits | time 60 bits | rest
/// ```
/// The time counts 100 ns (RFC 9562, 5.1).
fn earlier_key(key: &[u8; 16], slack: Duration) -> Option<[u8; 16]> {
    const VERSION_1: u64 = 1 << 60;
    let (time, _) = key.split_first_chunk::<8>()?;
    let time = u64::from_be_bytes(*time);
    if time >> 60 != 1 {
        return None;
    }
    let slack = u64::try_from(slack.as_nanos() / 100).unwrap_or(u64::MAX);
    let earlier = VERSION_1 | (time - VERSION_1).saturating_sub(slack);
    let mut earliest = [0; 16];
    earliest[..8].copy_from_slice(&earlier.to_be_bytes());
    Some(earliest)
}
