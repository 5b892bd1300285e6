//! From a path to a journal: lock, check, migrate, repair.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use lavabus_protocol::Epoch;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::lock::WriterLock;
use super::{Head, Journal, Options, Synchronous, salvage};
use crate::error::{OpenError, StoreError};
use crate::migration::{self, MIGRATIONS, Migration};
use crate::schema;

/// 4,096 as everywhere: the unit in which disks and file systems write.
pub(crate) const PAGE_BYTES: u64 = 4_096;
/// Time-ordered appends touch few pages: 64 MiB measured no faster than this, which holds a group of 10,000 events.
const CACHE_KIB: u32 = 8 << 10;
/// What a database begins with (SQLite file format, 1.3).
const MAGIC: &[u8] = b"SQLite format 3\0";
/// The log is cut to this after it was longer.
const WAL_KEPT_BYTES: i64 = 64 << 20;

impl Journal {
    /// Opens the database at `path` for writing, or makes it: the file with mode 0640, missing folders with 0750.
    ///
    /// Takes a lock for as long as the journal lives. A damaged database is moved aside to
    /// `<path>.corrupt-<time>` and what can be read of it is put into a fresh one: see [`Journal::salvage`].
    ///
    /// # Errors
    /// [`OpenError::InUse`] when there is another writer, [`OpenError::NewerSchema`] and [`OpenError::Foreign`] for
    /// a database that is not ours to write; it is left as it was.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Journal, OpenError> {
        Journal::open_with(path.as_ref(), options, MIGRATIONS)
    }

    pub(crate) fn open_with(path: &Path, options: &Options, migrations: &[Migration]) -> Result<Journal, OpenError> {
        let in_file = |source| OpenError::File {
            path: path.to_owned(),
            source,
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o750)
                .create(folder)
                .map_err(in_file)?;
        }
        refuse_other_files(path)?;
        let lock = WriterLock::take(path)?;
        create_if_missing(path).map_err(in_file)?;
        refuse_by_header(path, migrations)?;
        refuse_by_log(path, migrations)?;

        let opened = match salvage::marked_damaged(path) {
            Some(cause) => Err(OpenError::Store {
                path: path.to_owned(),
                source: StoreError::Corrupt(cause),
            }),
            None => connect(path, options, migrations),
        };
        let (mut conn, head, salvage) = match opened {
            Ok((conn, head)) => (conn, head, None),
            Err(OpenError::Store {
                source: StoreError::Corrupt(cause),
                ..
            }) => {
                let moved_to = salvage::move_aside(path).map_err(in_file)?;
                create_if_missing(path).map_err(in_file)?;
                let (conn, head) = connect(path, options, migrations)?;
                (conn, head, Some((moved_to, cause)))
            }
            Err(error) => return Err(error),
        };
        let store = |source| OpenError::Store {
            path: path.to_owned(),
            source,
        };
        let epoch = begin_run(&mut conn, options.synchronous).map_err(store)?;
        let mut journal = Journal {
            conn,
            path: path.to_owned(),
            epoch,
            head,
            before_commit: options.before_commit.clone(),
            salvage: None,
            _lock: lock,
        };
        if let Some((moved_to, cause)) = salvage {
            journal.salvage = Some(salvage::salvage(&mut journal, moved_to, cause).map_err(store)?);
        }
        Ok(journal)
    }
}

fn create_if_missing(path: &Path) -> io::Result<()> {
    match File::options().write(true).create_new(true).mode(0o640).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

/// A file that was never ours is not moved aside: it is somebody's, named by mistake. One whose lock file is there was
/// ours, whatever became of its first bytes.
fn refuse_other_files(path: &Path) -> Result<(), OpenError> {
    if migration::with_suffix(path, ".lock").exists() {
        return Ok(());
    }
    let mut header = Vec::with_capacity(MAGIC.len());
    let read = File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut header));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(OpenError::File {
                path: path.to_owned(),
                source,
            });
        }
        Ok(_) => {}
    }
    if !header.is_empty() && header != MAGIC {
        return Err(OpenError::NotADatabase { path: path.to_owned() });
    }
    Ok(())
}

/// Reads the file's header without SQLite, which would touch the file: closing the last connection copies the log
/// into it.
///
/// ```text
/// offset   0  "SQLite format 3\0"
///         60  user_version,   u32 big-endian   (SQLite file format, 1.3)
///         68  application_id, u32 big-endian
/// ```
fn refuse_by_header(path: &Path, migrations: &[Migration]) -> Result<(), OpenError> {
    let mut header = Vec::with_capacity(100);
    File::open(path)
        .and_then(|file| file.take(100).read_to_end(&mut header))
        .map_err(|source| OpenError::File {
            path: path.to_owned(),
            source,
        })?;
    if header.len() < 100 || !header.starts_with(MAGIC) {
        return Ok(());
    }
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    refuse(path, number(68), number(60), migrations)
}

/// The log of a run that was cut short may hold a newer first page. A read-only connection leaves it where it is.
fn refuse_by_log(path: &Path, migrations: &[Migration]) -> Result<(), OpenError> {
    if !has_content(&migration::with_suffix(path, "-wal")) {
        return Ok(());
    }
    let read = || -> Result<(u32, u32), rusqlite::Error> {
        let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let number = |pragma| conn.pragma_query_value(None, pragma, |row| row.get(0));
        Ok((number("application_id")?, number("user_version")?))
    };
    match read() {
        Ok((application_id, version)) => refuse(path, application_id, version, migrations),
        // What is wrong with it shows when it is opened for writing.
        Err(_) => Ok(()),
    }
}

/// A file without any mark may be ours, made by a start that was cut short, or have its first page in the log.
fn refuse(path: &Path, application_id: u32, version: u32, migrations: &[Migration]) -> Result<(), OpenError> {
    let path = path.to_owned();
    let known = migration::newest(migrations);
    match application_id {
        schema::APPLICATION_ID if version > known => Err(OpenError::NewerSchema {
            path,
            found: version,
            known,
        }),
        schema::APPLICATION_ID => Ok(()),
        0 if version == 0 => Ok(()),
        application_id => Err(OpenError::Foreign { path, application_id }),
    }
}

fn connect(path: &Path, options: &Options, migrations: &[Migration]) -> Result<(Connection, Head), OpenError> {
    let store = |source: rusqlite::Error| OpenError::Store {
        path: path.to_owned(),
        source: source.into(),
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags).map_err(store)?;
    conn.busy_timeout(options.busy_timeout).map_err(store)?;

    let number = |pragma: &str| {
        conn.pragma_query_value(None, pragma, |row| row.get::<_, u32>(0))
            .map_err(store)
    };
    let application_id = number("application_id")?;
    refuse(path, application_id, number("user_version")?, migrations)?;
    if application_id == 0 {
        let tables: u32 = conn
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(store)?;
        if tables > 0 {
            return Err(OpenError::Foreign {
                path: path.to_owned(),
                application_id,
            });
        }
    }
    configure(&conn, options).map_err(store)?;
    migration::migrate(&mut conn, path, migrations)?;
    let head = read_head(&conn).map_err(store)?;
    Ok((conn, head))
}

fn configure(conn: &Connection, options: &Options) -> Result<(), rusqlite::Error> {
    let pages = |bytes: u64| (bytes / PAGE_BYTES).max(1).cast_signed();
    // These two take effect only before the first table is made.
    conn.pragma_update(None, "page_size", PAGE_BYTES.cast_signed())?;
    conn.pragma_update(None, "auto_vacuum", "incremental")?;
    conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "cache_size", -i64::from(CACHE_KIB))?;
    conn.pragma_update(None, "temp_store", "memory")?;
    conn.pragma_update_and_check(None, "journal_size_limit", WAL_KEPT_BYTES, |_| Ok(()))?;
    conn.pragma_update_and_check(None, "wal_autocheckpoint", pages(options.checkpoint_bytes), |_| Ok(()))?;
    if let Some(max_bytes) = options.max_bytes {
        conn.pragma_update_and_check(None, "max_page_count", pages(max_bytes), |_| Ok(()))?;
    }
    Ok(())
}

fn read_head(conn: &Connection) -> Result<Head, rusqlite::Error> {
    let newest = conn
        .query_row("SELECT seq, received FROM event ORDER BY seq DESC LIMIT 1", [], |row| {
            Ok(Head {
                seq: row.get::<_, i64>(0)?.cast_unsigned(),
                received_us: row.get(1)?,
            })
        })
        .optional()?;
    Ok(newest.unwrap_or(Head {
        seq: 0,
        received_us: i64::MIN,
    }))
}

/// Renews the epoch if the run before may have lost commits that were seen, and marks this run if it may: with the
/// mark on the disk before anything is committed with less care. Without either there is nothing to write, so that
/// a journal on a nearly full disk can still be opened.
fn begin_run(conn: &mut Connection, synchronous: Synchronous) -> Result<Epoch, StoreError> {
    let unclean: bool = conn.query_row(
        "SELECT EXISTS(SELECT 1 FROM meta WHERE key = 'unsynced_since')",
        [],
        |row| row.get(0),
    )?;
    if unclean {
        let transaction = conn.transaction()?;
        transaction.execute(
            "UPDATE meta SET value = lower(hex(randomblob(4))) WHERE key = 'epoch'",
            [],
        )?;
        transaction.execute("DELETE FROM meta WHERE key = 'unsynced_since'", [])?;
        transaction.commit()?;
    }
    if synchronous == Synchronous::Normal {
        conn.execute(
            "INSERT INTO meta VALUES('unsynced_since', strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))",
            [],
        )?;
    }
    conn.pragma_update(None, "synchronous", synchronous.as_str())?;
    crate::reader::epoch(conn)
}

/// Whether a file is there and has any content.
pub(crate) fn has_content(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
}
