//! `lavabus record`: keep events in a database of one's own, and go on where it stopped.
//!
//! ```text
//! one task a bus ──▶ buses ──▶ conversation ──▶ writer
//!                    batches   filter, cursor,  one thread: groups,
//!                              gaps             projections, retention
//! ```
//!
//! What is known to be missing is a row too. An event's cursor is committed with the event, so the database and the
//! place to go on from are never of two minds, whatever ends the program.

mod buses;
mod conversation;
mod database;
mod entry;
mod explain;
pub(crate) mod file;
mod filter_text;
mod report;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{Timestamp, Zoned};
use lavabus_protocol::parse_size;
use lavabus_protocol::time::{TimeError, parse_duration, parse_time};
use lavabus_store::{Retention, location};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::entry::Batch;
use self::report::{Counts, Report};
use self::writer::{Ended, Writer, WriterOptions};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::filter::FilterArguments;
use crate::listen::Selection;

/// So many batches wait for the disk; then nothing more is read.
const AHEAD: usize = 16;
/// What the questions ask is brought up to date at the end, for so long at most.
const LAST_PROJECTIONS: Duration = Duration::from_secs(15);

/// Keep events in a database of one's own.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The database; otherwise recorded.db in ~/.local/state/lavabus
    #[arg(long, value_name = "PATH")]
    pub db: Option<PathBuf>,

    /// Which events.
    #[command(flatten)]
    pub filter: FilterArguments,

    /// Read JSON lines from this file ('-': standard input) instead of a bus
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,

    /// Ask the identity's LAVA server why jobs failed, and record what it says (docs/explain.md)
    #[arg(long, conflicts_with = "from")]
    pub explain: bool,

    /// A new recording begins at this time, not with all that the publisher still has: RFC 3339, "2h ago", -2h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    pub since: Option<Timestamp>,

    /// Keep events for this long; by default 30d, and with --from for ever
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub retain: Option<Duration>,

    /// Keep events up to this size of the database; by default 4G, and with --from without a limit
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub retain_size: Option<u64>,

    /// End after N events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// End after this time: with 0, or with 124 if --count is not reached
    #[arg(long, visible_alias = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,

    /// Time for the first connection
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub connect_timeout: Duration,

    /// Longest time later without a connection, or without room on the disk
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = parse_duration)]
    pub max_outage: Duration,
}

fn time(text: &str) -> Result<Timestamp, TimeError> {
    parse_time(text, &Zoned::now())
}

impl Arguments {
    /// A file's events may be of any age: they go only when that is asked for.
    fn retention(&self) -> Retention {
        let default = match self.from {
            Some(_) => Retention {
                max_age: None,
                max_bytes: None,
            },
            None => Retention::default(),
        };
        Retention {
            max_age: self.retain.or(default.max_age),
            max_bytes: self.retain_size.or(default.max_bytes),
        }
    }
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what failed, the cause, and the next thing to try.
pub async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    let deadline = arguments.timeout.map(|timeout| Instant::now() + timeout);
    // Better to fail before anything is opened.
    Selection::new(&arguments.filter, arguments.since, None)?;
    let path = arguments.db.clone().or_else(location::default_recording);
    let Some(path) = path else {
        return Err(Failure::new(
            Exit::Usage,
            "there is no place for the database",
            "neither XDG_STATE_HOME nor HOME is set",
            "--db PATH",
        ));
    };
    let explainer = match (arguments.explain, context.buses.as_slice()) {
        (false, _) => None,
        (true, [_]) => Some(explain::explainer(context)?),
        (true, _) => {
            return Err(Failure::new(
                Exit::Usage,
                "--explain goes with one bus",
                "an identity is of one LAVA server, and several buses are of several",
                "a recording of each with --explain, or the publishers' own --explain-from",
            ));
        }
    };
    let labs = match arguments.from {
        Some(_) => Vec::new(),
        None => buses::labels(&context.buses)?,
    };
    let opened = database::open(path, &labs, context).await?;
    let filter = filter_text::of(&arguments.filter);
    opened.tell_changed_filter(&filter, context);

    let path = opened.journal.path().to_owned();
    let counts = Arc::new(Counts::default());
    let report = Report::new(context, counts.clone());
    let options = WriterOptions {
        retention: arguments.retention(),
        filter,
        count: arguments.count,
        patience: arguments.max_outage,
        last_projections: arguments.from.is_none().then_some(LAST_PROJECTIONS),
    };
    let hurry = CancellationToken::new();
    let writer = Writer::new(
        opened.journal,
        &opened.labs,
        options,
        counts.clone(),
        report.clone(),
        hurry.clone(),
    );
    let (mut batches, waiting) = mpsc::channel(AHEAD);
    let runtime = tokio::runtime::Handle::current();
    let recording = Arc::new(Recording {
        writing: Mutex::new(tokio::task::spawn_blocking(move || writer.run(waiting, &runtime))),
        hurry,
        report: report.clone(),
    });
    if let Some(explainer) = explainer {
        let lab = opened.labs.first().map(|lab| lab.name.clone()).unwrap_or_default();
        let (read, unexplained) = mpsc::channel(AHEAD);
        let write = std::mem::replace(&mut batches, read);
        tokio::spawn(explain::explain(
            explainer,
            path,
            lab,
            unexplained,
            write,
            report.clone(),
        ));
    }
    let farewell = recording.clone();
    context.farewell.set(Box::pin(async move {
        farewell.hurry.cancel();
        if let Err(failure) = farewell.finish().await {
            crate::context::say(failure);
        }
    }));
    let result = {
        let reading = read(&arguments, &opened.labs, batches, &report, context);
        let over = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            result = Box::pin(reading) => result.map(|()| Exit::Success),
            () = over => {
                recording.hurry.cancel();
                Ok(match arguments.count {
                    Some(_) => Exit::Timeout,
                    None => Exit::Success,
                })
            }
        }
    };
    // What the disk says counts more than what the bus says.
    recording.finish().await?;
    context.farewell.take();
    result
}

async fn read(
    arguments: &Arguments,
    labs: &[database::KnownLab],
    batches: mpsc::Sender<Batch>,
    report: &Report,
    context: &Context,
) -> Result<(), Failure> {
    match &arguments.from {
        Some(path) => file::read(path, arguments, &batches, report, context).await,
        None => buses::follow(arguments, labs, &batches, report, context).await,
    }
}

/// The thread that writes, and how it is ended.
struct Recording {
    writing: Mutex<JoinHandle<Ended>>,
    /// What can be done later is left for the next run.
    hurry: CancellationToken,
    report: Report,
}

impl Recording {
    /// Waits until everything that was read is written, and says what came of it.
    async fn finish(&self) -> Result<(), Failure> {
        let mut writing = self.writing.lock().await;
        let ended = (&mut *writing)
            .await
            .map_err(|error| Failure::new(Exit::Internal, "the writing thread has failed", error, "again"))?;
        self.report.finish(&ended);
        ended.result
    }
}
