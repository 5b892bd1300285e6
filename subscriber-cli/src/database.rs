//! A database that is only looked at, and what there is to say when it cannot be.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use lavabus_store::{OpenError, Reader, StoreError, location};

use crate::exit::Exit;
use crate::failure::Failure;

/// Opens the database at `path`, else the first one at the places where a publisher keeps it.
///
/// # Errors
///
/// [`Failure`] with [`Exit::Database`].
pub(crate) fn open(path: Option<PathBuf>) -> Result<Reader, Failure> {
    let Some(path) = path.or_else(location::find_default) else {
        return Err(Failure::new(
            Exit::Database,
            "there is no event database",
            "none lies in $STATE_DIRECTORY, /var/lib/lava-publisher or ~/.local/state/lavabus that you may see",
            "--db PATH, or `lavabus record` to keep one; query, show job|device|worker, timeline, status, rejected: --bus http://HOST:8001",
        ));
    };
    Reader::open(path).map_err(|error| cannot_open(&error))
}

/// Opens the database and asks it, in a thread of its own: reading blocks.
///
/// # Errors
///
/// [`Failure`] with [`Exit::Database`] where it cannot be opened, or that of the question.
pub(crate) async fn ask<A: Send + 'static>(
    path: Option<PathBuf>,
    question: impl FnOnce(&Reader) -> Result<A, Failure> + Send + 'static,
) -> Result<A, Failure> {
    blocking(move || question(&open(path)?)).await?
}

/// Reads a database in a thread of its own.
///
/// # Errors
///
/// [`Failure`] with [`Exit::Internal`] where the thread ends without an answer.
pub(crate) async fn blocking<A: Send + 'static>(read: impl FnOnce() -> A + Send + 'static) -> Result<A, Failure> {
    let reading = tokio::task::spawn_blocking(read).await;
    reading.map_err(|error| Failure::new(Exit::Internal, "cannot read the event database", error, "again"))
}

fn cannot_open(error: &OpenError) -> Failure {
    let hint = match error {
        OpenError::NotFound { .. } => "name it with --db PATH, or start lava-publisher once to make one",
        OpenError::NewerSchema { .. } => "the lavabus that came with its publisher, or --db with another path",
        OpenError::OlderSchema { .. } => "start this version's lava-publisher once: it migrates the database",
        OpenError::Foreign { .. } => "--db with the path of an event database",
        OpenError::NotADatabase { .. } => "--db with the path of an event database",
        OpenError::InUse { .. } => "again in a moment",
        OpenError::Store { source, .. } => return cannot_read_at(error, source),
        _ => "be a user who may read the file and its folder",
    };
    Failure::new(Exit::Database, "cannot open the event database", error, hint)
}

fn cannot_read_at(error: &OpenError, source: &StoreError) -> Failure {
    Failure::new(Exit::Database, "cannot open the event database", error, hint(source))
}

/// What to say when an open database cannot be read.
pub(crate) fn cannot_read(path: &Path, error: &StoreError) -> Failure {
    let cause = format!("{}: {error}", path.display());
    Failure::new(Exit::Database, "cannot read the event database", cause, hint(error))
}

fn hint(error: &StoreError) -> &'static str {
    match error {
        StoreError::Busy => "again in a moment",
        StoreError::Corrupt(_) => {
            "restart lava-publisher: it moves a damaged database aside and saves what can be read of it"
        }
        StoreError::Io(_) => "see to the disk: dmesg, smartctl",
        _ => "be a user who may read the file and its folder",
    }
}

/// Whether somebody writes to a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    /// The writer's lock is held.
    Running,
    /// It is free.
    Absent,
    /// The lock file may not be looked at.
    Unknown,
}

/// Tries the lock that a writer holds for life, and gives it back at once. A shared lock, so that two who ask do not
/// take each other for a writer; still, a writer that starts in the very same microseconds finds it taken.
pub(crate) fn writer(database: &Path) -> Writer {
    let mut lock = database.as_os_str().to_owned();
    lock.push(".lock");
    let file = match File::open(lock) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Writer::Absent,
        Err(_) => return Writer::Unknown,
    };
    match file.try_lock_shared() {
        Ok(()) => Writer::Absent,
        Err(TryLockError::WouldBlock) => Writer::Running,
        Err(TryLockError::Error(_)) => Writer::Unknown,
    }
}
