//! `lavabus db`: look after a database of events, a publisher's journal or a recording.
//!
//! | command | needs the writer to be stopped |
//! |---|---|
//! | `verify`, `backup`, `export` | no: they read |
//! | `prune`, `rebuild`, `import` | yes: a database has one writer, and it is refused while there is another |
//!
//! They end with 0, and with 30 when the database is damaged, in use or cannot be read or written.

mod export;
mod import;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use lavabus_protocol::parse_size;
use lavabus_protocol::time::parse_duration;
use lavabus_store::{BackupError, Journal, OpenError, Options, PruneBudget, Retention, StoreError, location};

use crate::context::Context;
use crate::database;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::status::print;

/// Events that the projections take in at a time.
const PROJECTED_AT_ONCE: u64 = 5_000;

/// Look after a database of events
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The database; otherwise the one at the usual place
    #[arg(long, value_name = "PATH", global = true)]
    pub db: Option<PathBuf>,

    /// What to do.
    #[command(subcommand)]
    pub work: Work,
}

/// What to do with a database.
#[derive(Clone, Debug, Subcommand)]
pub enum Work {
    /// Look whether it is sound, all of it
    Verify,
    /// Delete old events now, and give the space back
    Prune(PruneArguments),
    /// Make everything that is derived from the events again
    Rebuild,
    /// Write all events as JSON lines
    Export(export::Arguments),
    /// Take in events: JSON lines, another database, or one of ReactOBus
    Import(import::Arguments),
    /// Write a copy; its writer goes on meanwhile
    Backup {
        /// The copy: a file that is not there yet
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// How much is to stay.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub struct PruneArguments {
    /// Keep events of this age, such as 30d
    #[arg(long, value_name = "AGE", value_parser = parse_duration)]
    pub retain: Option<Duration>,

    /// Keep events up to this size of the database, such as 4G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub retain_size: Option<u64>,
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what failed, the cause, and the next thing to try.
pub async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    let (db, context) = (arguments.db, context.clone());
    // A signal ends the process; what was not committed has left no trace then.
    let work = tokio::task::spawn_blocking(move || match arguments.work {
        Work::Verify => verify(db, &context),
        Work::Prune(prune_arguments) => prune(db, &prune_arguments, &context),
        Work::Rebuild => rebuild(db, &context),
        Work::Export(arguments) => export::export(db, &arguments, &context),
        Work::Import(arguments) => import::import(db, &arguments, &context),
        Work::Backup { file } => backup(db, &file, &context),
    });
    work.await
        .map_err(|error| Failure::new(Exit::Internal, "the work on the database broke off", error, "again"))?
}

fn verify(db: Option<PathBuf>, context: &Context) -> Result<Exit, Failure> {
    let reader = database::open(db)?;
    let path = reader.path().display().to_string();
    let findings = match reader.verify() {
        Ok(findings) => findings,
        Err(StoreError::Corrupt(cause)) => vec![cause],
        Err(error) => return Err(database::cannot_read(reader.path(), &error)),
    };
    for finding in &findings {
        print(&format!("{finding}\n"))?;
    }
    if findings.is_empty() {
        context.notice(format_args!("{path} is sound"));
        return Ok(Exit::Success);
    }
    Err(Failure::new(
        Exit::Database,
        format!("{path} is not sound"),
        format!("{} findings, see above", findings.len()),
        "`lavabus db export` what can be read; a damaged file is moved aside and saved when its writer starts; \
         what is derived is mended by `lavabus db rebuild`",
    ))
}

fn prune(db: Option<PathBuf>, arguments: &PruneArguments, context: &Context) -> Result<Exit, Failure> {
    let mut journal = open(db)?;
    let path = journal.path().to_owned();
    let retention = Retention {
        max_age: arguments.retain,
        max_bytes: arguments.retain_size,
    };
    let now_us = jiff::Timestamp::now().as_microsecond();
    let (mut events, mut freed) = (0, 0);
    let written = |error: StoreError| cannot_write(&path, &error);
    loop {
        let pruned = journal
            .prune(&retention, now_us, &PruneBudget::default())
            .map_err(written)?;
        events += pruned.events;
        freed += pruned.freed_bytes;
        if !pruned.more {
            break;
        }
    }
    journal.close().map_err(written)?;
    context.notice(format_args!("{events} events deleted, {} KiB given back", freed >> 10));
    Ok(Exit::Success)
}

fn rebuild(db: Option<PathBuf>, context: &Context) -> Result<Exit, Failure> {
    let mut journal = open(db)?;
    let path = journal.path().to_owned();
    let written = |error: StoreError| cannot_write(&path, &error);
    journal.rebuild().map_err(written)?;
    let events = project_all(&mut journal).map_err(written)?;
    journal.close().map_err(written)?;
    context.notice(format_args!("made again from {events} events"));
    Ok(Exit::Success)
}

fn backup(db: Option<PathBuf>, file: &Path, context: &Context) -> Result<Exit, Failure> {
    let reader = database::open(db)?;
    reader.backup(file).map_err(|error| {
        let hint = match &error {
            BackupError::Exists => "another name: a copy never takes the place of a file",
            BackupError::File(_) => "a folder that you may write to",
            BackupError::Store(_) => "see to the room on the disk of the copy",
        };
        Failure::new(
            Exit::Database,
            format!("cannot write the copy {}", file.display()),
            error,
            hint,
        )
    })?;
    context.notice(format_args!(
        "{} is a copy of {}",
        file.display(),
        reader.path().display()
    ));
    Ok(Exit::Success)
}

/// Opens a database to write to it, while nobody else does.
fn open(db: Option<PathBuf>) -> Result<Journal, Failure> {
    // Only what is there: a name with a mistake in it would become an empty database.
    let path = database::open(db)?.path().to_owned();
    open_or_make(&path)
}

fn open_or_make(path: &Path) -> Result<Journal, Failure> {
    let journal = Journal::open(path, &Options::default()).map_err(|error| {
        let hint = match &error {
            OpenError::InUse { .. } => {
                "stop its writer (lava-publisher or `lavabus record`) first; it keeps to its own retention"
            }
            OpenError::NewerSchema { .. } => "the lavabus that came with its writer",
            _ => "a file and a folder that you may write to",
        };
        Failure::new(Exit::Database, "cannot write to the event database", &error, hint)
    })?;
    Ok(journal)
}

/// Where a database is made if there is none.
fn path_for_writing(db: Option<PathBuf>) -> Result<PathBuf, Failure> {
    db.or_else(location::find_default).ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            "which database?",
            "there is none at the usual places",
            "--db PATH; it is made if it is not there",
        )
    })
}

fn project_all(journal: &mut Journal) -> Result<u64, StoreError> {
    while journal.project(PROJECTED_AT_ONCE)?.behind > 0 {}
    while journal.project_history(PROJECTED_AT_ONCE)?.behind > 0 {}
    let oldest = journal.oldest()?;
    Ok(oldest.map_or(0, |oldest| journal.head() - oldest + 1))
}

fn cannot_write(path: &Path, error: &StoreError) -> Failure {
    let hint = match error {
        StoreError::DiskFull => "make room on its disk; what was committed stays, the rest can be done again",
        StoreError::Busy => "again in a moment",
        StoreError::Corrupt(_) => {
            "`lavabus db verify`; its writer moves a damaged database aside and saves what can be read"
        }
        StoreError::ReadOnly => "a file and a folder that you may write to",
        _ => "see to the disk: dmesg, smartctl",
    };
    let cause = format!("{}: {error}", path.display());
    Failure::new(Exit::Database, "cannot write to the event database", cause, hint)
}
