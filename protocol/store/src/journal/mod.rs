//! The one writer of a database.

mod checkpoint;
mod group;
mod lock;
mod open;
mod prune;
mod salvage;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lavabus_protocol::Epoch;
use rusqlite::Connection;

pub use self::checkpoint::{Checkpoint, Checkpointer};
use self::group::CommitHook;
pub use self::group::{Appended, Group, NewEvent, NewGap, REJECTED_BYTES, REJECTED_KEPT, Rejected};
use self::lock::WriterLock;
pub(crate) use self::open::{PAGE_BYTES, has_content};
pub use self::prune::{PruneBudget, Pruned, Retention};
pub(crate) use self::prune::{pages, used_bytes};
pub use self::salvage::Salvage;
use crate::error::StoreError;
use crate::migration::with_suffix;

/// When a commit counts as durable (SQLite's `PRAGMA synchronous` in WAL mode).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// When it is on the disk: survives a loss of power. One `fdatasync` a commit.
    #[default]
    Full,
    /// When the system has it: survives the end of the process, and a loss of power takes the newest commits away.
    /// After an unclean end the journal therefore begins a new epoch.
    Normal,
}

impl Synchronous {
    fn as_str(self) -> &'static str {
        match self {
            Synchronous::Full => "full",
            Synchronous::Normal => "normal",
        }
    }
}

/// How a [`Journal`] works.
#[derive(Clone)]
pub struct Options {
    /// When a commit counts as durable.
    pub synchronous: Synchronous,
    /// How long a group waits for another process's write lock before it fails with [`StoreError::Busy`].
    pub busy_timeout: Duration,
    /// A commit that leaves this many bytes or more in the write-ahead log copies them into the database before it
    /// returns, unless a [`Checkpointer`] has already done so: 64 MiB take some 150 ms. Not a limit: a reader that stays in one transaction
    /// makes the log longer.
    pub checkpoint_bytes: u64,
    /// A limit on the database's size in bytes, beyond which appending fails with [`StoreError::DiskFull`].
    pub max_bytes: Option<u64>,
    /// Runs right before each group's commit; an error from it fails the commit. For tests of what happens then.
    #[doc(hidden)]
    pub before_commit: Option<CommitHook>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            synchronous: Synchronous::Full,
            busy_timeout: Duration::from_secs(2),
            checkpoint_bytes: 64 << 20,
            max_bytes: None,
            before_commit: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("synchronous", &self.synchronous)
            .field("busy_timeout", &self.busy_timeout)
            .field("checkpoint_bytes", &self.checkpoint_bytes)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

/// The newest event.
#[derive(Debug, Clone, Copy)]
struct Head {
    seq: u64,
    received_us: i64,
}

/// The one writer of a database; see [`Journal::open`].
pub struct Journal {
    conn: Connection,
    path: PathBuf,
    epoch: Epoch,
    head: Head,
    before_commit: Option<CommitHook>,
    salvage: Option<Salvage>,
    _lock: WriterLock,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("path", &self.path)
            .field("epoch", &self.epoch)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

impl Journal {
    /// The database's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Within an epoch a number stands for one event for ever. It is new with the database, and at a start after
    /// an unclean end under [`Synchronous::Normal`].
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The number of the newest event; 0 when there is none yet.
    pub fn head(&self) -> u64 {
        self.head.seq
    }

    /// The number of the oldest event that is kept.
    pub fn oldest(&self) -> Result<Option<u64>, StoreError> {
        crate::reader::oldest(&self.conn)
    }

    /// What happened if the database that was found had to be moved aside.
    pub fn salvage(&self) -> Option<&Salvage> {
        self.salvage.as_ref()
    }

    /// Asks on the writer's own connection.
    pub(crate) fn read<T>(&self, ask: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        ask(&self.conn)
    }

    /// Leaves a mark beside the file, so that the next [`open`](Journal::open) moves it aside and saves what can be
    /// read. For damage that shows while running, as [`StoreError::Corrupt`].
    pub fn mark_damaged(&self) -> std::io::Result<()> {
        std::fs::File::create(with_suffix(&self.path, salvage::DAMAGED)).map(drop)
    }

    /// Ends cleanly: all is on the disk, in one file. Dropping a journal loses nothing that was committed either,
    /// but counts as an unclean end.
    pub fn close(self) -> Result<(), StoreError> {
        self.conn.pragma_update(None, "synchronous", "full")?;
        self.conn.execute("DELETE FROM meta WHERE key = 'unsynced_since'", [])?;
        self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        self.conn.close().map_err(|(_, error)| error.into())
    }
}
