//! The database of a recording: opened, and what it knows of the labs.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use lavabus_protocol::Cursor;
use lavabus_store::{Journal, OpenError, Options, Reader, Source, StoreError};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// The database, open for writing.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) journal: Journal,
    /// In the order in which they were asked for.
    pub(super) labs: Vec<KnownLab>,
    sources: Vec<Source>,
}

/// What the database knows of a lab.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KnownLab {
    /// Its name in the database; empty where there is only one.
    pub(super) name: String,
    /// Where its recording goes on.
    pub(super) cursor: Option<Cursor>,
    /// It was recorded up to this time at least, in µs since 1970.
    pub(super) recorded_until_us: Option<i64>,
}

/// Opens the database, or makes it, and says what is notable about it.
pub(super) async fn open(path: PathBuf, labs: &[String], context: &Context) -> Result<Opened, Failure> {
    let names = labs.to_vec();
    // A database of an older version is copied, a damaged one saved: that takes its time.
    let opened = tokio::task::spawn_blocking(move || open_now(&path, names)).await;
    let opened =
        opened.map_err(|error| Failure::new(Exit::Internal, "opening the database has failed", error, "again"))??;
    if let Some(salvage) = opened.journal.salvage() {
        context.notice(format_args!(
            "the database was damaged ({}): {} events are saved, {} are known to be lost, the damaged file is {}; \
             what the publisher still has is recorded again",
            salvage.cause,
            salvage.events_saved,
            salvage.events_lost,
            salvage.moved_to.display()
        ));
    }
    Ok(opened)
}

fn open_now(path: &Path, names: Vec<String>) -> Result<Opened, Failure> {
    let journal = Journal::open(path, &Options::default()).map_err(|error| cannot_open(path, &error))?;
    let reader = Reader::open(path).map_err(|error| cannot_open(path, &error))?;
    let known = || -> Result<(Vec<KnownLab>, Vec<Source>), StoreError> {
        let sources = reader.sources()?;
        let gaps = reader.gaps(0)?;
        let labs = names.into_iter().map(|name| {
            let source = sources.iter().find(|source| source.lab == name);
            // One that cannot be read is none: all comes again, and repeats are known by their UUIDs.
            let cursor: Option<Cursor> = source.and_then(|source| source.cursor.parse().ok());
            let last_event = match cursor {
                Some(cursor) => recorded_at(&reader, &cursor)?,
                None => None,
            };
            let last_gap = gaps.iter().filter(|gap| gap.lab == name).map(|gap| gap.to_us).max();
            Ok(KnownLab {
                recorded_until_us: last_event.max(last_gap).filter(|_| cursor.is_some()),
                name,
                cursor,
            })
        });
        let labs = labs.collect::<Result<_, StoreError>>()?;
        Ok((labs, sources))
    };
    let (labs, sources) = known().map_err(|error| cannot_write(path, &error))?;
    Ok(Opened { journal, labs, sources })
}

/// When the event of a cursor was received; of one that is not kept, when it was made.
fn recorded_at(reader: &Reader, cursor: &Cursor) -> Result<Option<i64>, StoreError> {
    let event = match reader.by_id(&cursor.uuid)? {
        Some(seq) => reader.event(seq)?,
        None => None,
    };
    Ok(match event {
        Some(event) => Some(event.received_us),
        None => cursor.uuid.time().map(Timestamp::as_microsecond),
    })
}

impl Opened {
    /// Says where the recording was made with another filter until now.
    pub(super) fn tell_changed_filter(&self, filter: &str, context: &Context) {
        for lab in &self.labs {
            let before = self.sources.iter().find(|source| source.lab == lab.name);
            if let Some(before) = before.filter(|before| before.filter != filter) {
                context.notice(format_args!(
                    "the filter is another from now on: {} (it was: {})",
                    shown(filter),
                    shown(&before.filter)
                ));
            }
        }
    }
}

fn shown(filter: &str) -> &str {
    if filter.is_empty() { "everything" } else { filter }
}

/// Why the database cannot be opened for writing, in three lines.
fn cannot_open(path: &Path, error: &OpenError) -> Failure {
    let hint = match error {
        OpenError::InUse { .. } => {
            "--db with another path: a database has one writer, and that of a running lava-publisher or of another \
             `lavabus record` cannot be shared"
        }
        OpenError::NewerSchema { .. } => "the newer lavabus, or --db with another path",
        OpenError::Foreign { .. } | OpenError::NotADatabase { .. } => {
            "--db with a path of its own: this file is left as it is"
        }
        OpenError::Store { source, .. } => return cannot_write(path, source),
        _ => "--db with a path in a folder that you may write to",
    };
    Failure::new(Exit::Database, "cannot open the database for recording", error, hint)
}

/// Why an open database cannot be written, in three lines.
pub(super) fn cannot_write(path: &Path, error: &StoreError) -> Failure {
    let hint = match error {
        StoreError::DiskFull => "make room on its disk and start again: it goes on where it stopped",
        StoreError::ReadOnly => "be a user who may write the file and its folder, or --db with another path",
        StoreError::Busy => "end the program that has it locked, such as an open sqlite3 shell, and start again",
        StoreError::Corrupt(_) => "start again: the damaged file is moved aside, and what can be read of it is saved",
        StoreError::Io(_) => "see to the disk: dmesg, smartctl",
        _ => "again; it goes on where it stopped",
    };
    let cause = format!("{}: {error}", path.display());
    Failure::new(Exit::Database, "the recording cannot be written", cause, hint)
}
