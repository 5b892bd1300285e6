//! The two kinds of failure: one that ends a start, and one of a single operation.

use std::io;
use std::path::PathBuf;

use rusqlite::ErrorCode;

/// Why a database could not be opened. Fatal for whoever wanted it; the file is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No database at this path (readers only; a writer makes one).
    #[error("there is no event database at {path}")]
    NotFound {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// Another process, or another [`Journal`](crate::Journal) of this one, writes to this database.
    #[error("{path} is in use by another writer")]
    InUse {
        /// The database that is taken.
        path: PathBuf,
    },
    /// The database was written by a newer version of this program.
    #[error("{path} has schema {found}, this program knows {known} at most: install the newer version")]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// The schema version in the file.
        found: u32,
        /// The newest schema version that this program knows.
        known: u32,
    },
    /// The database was written by an older version and its writer has not migrated it yet (readers only).
    #[error("{path} has schema {found}, this program reads {known}: start its writer once to migrate it")]
    OlderSchema {
        /// The database.
        path: PathBuf,
        /// The schema version in the file.
        found: u32,
        /// The schema version that this program reads.
        known: u32,
    },
    /// A SQLite database that belongs to another program.
    #[error("{path} is a SQLite database of another program (application id {application_id:#010x})")]
    Foreign {
        /// The database.
        path: PathBuf,
        /// What the file says in its header.
        application_id: u32,
    },
    /// A file that has something else in it, and never was an event database.
    #[error("{path} is no database: its first bytes are something else, and it is left as it is")]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// A file or folder could not be made, locked, moved or read.
    #[error("{path}: {source}")]
    File {
        /// The file or folder concerned.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// SQLite could not open, check or migrate the database.
    #[error("{path}: {source}")]
    Store {
        /// The database.
        path: PathBuf,
        /// What went wrong.
        source: StoreError,
    },
}

/// Why one operation on an open database failed. What was not committed has left no trace;
/// the same [`Journal`](crate::Journal) can be used again when the cause is gone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No room left on the disk, or the database reached its own limit.
    #[error("the disk is full")]
    DiskFull,
    /// The file, or the disk it is on, cannot be written.
    #[error("the database is read-only")]
    ReadOnly,
    /// Another process holds the write lock for longer than the busy timeout: try again.
    #[error("the database is locked by another process")]
    Busy,
    /// Damaged content. [`Journal::mark_damaged`](crate::Journal::mark_damaged) makes the next open repair it.
    #[error("the database is damaged: {0}")]
    Corrupt(String),
    /// The disk reported an error.
    #[error("disk error: {0}")]
    Io(String),
    /// An earlier failure in this group has undone all of it: begin a new one.
    #[error("an earlier failure has rolled this group back")]
    RolledBack,
    /// Anything else that SQLite reports.
    #[error(transparent)]
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::DiskFull,
            Some(ErrorCode::ReadOnly) => StoreError::ReadOnly,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt(error.to_string()),
            Some(ErrorCode::SystemIoFailure) => StoreError::Io(error.to_string()),
            _ => StoreError::Sqlite(error),
        }
    }
}
