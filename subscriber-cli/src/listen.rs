//! `lavabus listen`: print events as they come, from one or more buses or from a file.

mod delivery;
mod follow;
mod past;
mod selection;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{Timestamp, Zoned};
use lavabus_client::cursor_at;
use lavabus_protocol::time::{TimeError, parse_duration, parse_time};
use lavabus_protocol::{Cursor, Record};
use tokio::time::Instant;

use self::delivery::Delivery;
pub(crate) use self::follow::{certificate_failure, connection_failure, gap_text};
pub(crate) use self::selection::{Selection, sent};
use crate::context::Context;
use crate::cursor_file::CursorFile;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::filter::FilterArguments;
use crate::format::{Format, Printer};
use crate::lines;
use crate::outlet::{Outlet, Wanted};
use crate::reader_gone::reader_gone;

/// Print events as they come.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Which events.
    #[command(flatten)]
    pub filter: FilterArguments,

    /// Begin with the newest N events
    #[arg(long, value_name = "N", group = "start", value_parser = clap::value_parser!(u64).range(1..))]
    pub last: Option<u64>,

    /// Begin at this time: RFC 3339, "2h ago", -2h, yesterday, @EPOCH-SECONDS
    #[arg(long, value_name = "TIME", group = "start", allow_hyphen_values = true, value_parser = time)]
    pub since: Option<Timestamp>,

    /// Begin after the event with this cursor: UUID or EPOCH/NUMBER/UUID
    #[arg(long, value_name = "CURSOR", group = "start")]
    pub after: Option<Cursor>,

    /// Begin where this file says, and keep it up to date
    #[arg(long, value_name = "FILE", group = "start", conflicts_with = "from")]
    pub cursor_file: Option<PathBuf>,

    /// End at this time, when all before it was printed
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    pub until: Option<Timestamp>,

    /// End after N events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// End after this time: with 0, or with 124 if --count is not reached
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,

    /// Read JSON lines from this file ('-': standard input) instead of a bus
    #[arg(long, value_name = "FILE", conflicts_with_all = ["after", "db", "strict"])]
    pub from: Option<PathBuf>,

    /// Journal to read for --last, if it is that of the bus
    #[arg(long, value_name = "PATH", requires = "last")]
    pub db: Option<PathBuf>,

    /// End with 22 when events are missing
    #[arg(long)]
    pub strict: bool,

    /// Time for the first connection
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub connect_timeout: Duration,

    /// Longest time without a connection later
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = parse_duration)]
    pub max_outage: Duration,
}

/// Reads a moment: RFC 3339, `-2h` and so on.
pub(crate) fn time(text: &str) -> Result<Timestamp, TimeError> {
    parse_time(text, &Zoned::now())
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what failed, the cause, and the next thing to try.
pub async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    tokio::select! {
        result = run_to(arguments, context, Box::new(std::io::stdout())) => result,
        () = reader_gone() => Err(Failure::OutputClosed),
    }
}

async fn run_to(arguments: Arguments, context: &Context, out: Box<dyn Write + Send>) -> Result<Exit, Failure> {
    let deadline = arguments.timeout.map(|timeout| Instant::now() + timeout);
    let ending = match arguments.count {
        Some(_) => Exit::Timeout,
        None => Exit::Success,
    };
    let listening = Box::pin(listen(arguments, context, out));
    match deadline {
        // Dropping it flushes what it printed.
        Some(deadline) => tokio::time::timeout_at(deadline, listening).await.unwrap_or(Ok(ending)),
        None => listening.await,
    }
}

async fn listen(arguments: Arguments, context: &Context, out: Box<dyn Write + Send>) -> Result<Exit, Failure> {
    let printer = Printer::new(context.format.as_ref().unwrap_or(&Format::Plain), context.color).map_err(|error| {
        Failure::new(
            Exit::Usage,
            "the template cannot be used",
            error,
            "`lavabus listen -o json` shows what there is",
        )
    })?;
    let cursor_file = arguments.cursor_file.as_deref().map(|path| {
        CursorFile::open(path).map_err(|error| {
            let what = format!("--cursor-file {} cannot be used", path.display());
            Failure::new(
                Exit::Usage,
                what,
                error,
                "a file in a folder that you may write to; remove a damaged one to begin with what happens from now on",
            )
        })
    });
    let mut delivery = Delivery::new(out, printer, cursor_file.transpose()?, arguments.count);
    let selection = Selection::new(&arguments.filter, arguments.since, arguments.until)?;
    let result = match &arguments.from {
        Some(path) => from_file(path, &arguments, &selection, &mut delivery, context).await,
        None => from_buses(&arguments, &selection, &mut delivery, context).await,
    };
    let finished = delivery.finish();
    result.and_then(|exit| finished.map(|()| exit))
}

async fn from_buses(
    arguments: &Arguments,
    selection: &Selection<'_>,
    delivery: &mut Delivery,
    context: &Context,
) -> Result<Exit, Failure> {
    let outlets: Vec<Outlet> = context
        .buses
        .iter()
        .map(|bus| Outlet::of(bus, context, &[]))
        .collect::<Result<_, _>>()?;
    let mut streams = Vec::new();
    for outlet in &outlets {
        let bus = outlet.bus();
        let lab = bus.lab();
        let key = if context.buses.len() == 1 { "" } else { lab.as_str() };
        let past = match arguments.last {
            Some(_) => Some(past::beginning(bus)),
            None => arguments.since.map(cursor_at),
        };
        let after = past.or(arguments.after).or_else(|| delivery.cursor(key));
        streams.push(outlet.open(wanted(arguments, after)));
    }
    if let Some(count) = arguments.last {
        let found = past::last(count, &outlets, &mut streams, arguments, selection, context).await?;
        for record in found {
            if delivery.print(&record, context)? {
                return Ok(Exit::Success);
            }
        }
        delivery.flush()?;
    }
    follow::follow(streams, arguments, selection, delivery, context).await
}

fn wanted(arguments: &Arguments, after: Option<Cursor>) -> Wanted {
    Wanted {
        filter: arguments.filter.filter.clone(),
        after,
        snapshots: Vec::new(),
        connect_timeout: arguments.connect_timeout,
        max_outage: arguments.max_outage,
    }
}

async fn from_file(
    path: &Path,
    arguments: &Arguments,
    selection: &Selection<'_>,
    delivery: &mut Delivery,
    context: &Context,
) -> Result<Exit, Failure> {
    let mut lines = lines::read(path)?;
    let mut last = arguments.last.map(past::Last::new);
    while let Some(record) = next_record(&mut lines, delivery, context).await? {
        if !selection.wants(&record, context) || selection.is_past_end(&record) {
            continue;
        }
        match &mut last {
            Some(last) => last.push(record),
            None => {
                if delivery.print(&record, context)? {
                    return Ok(Exit::Success);
                }
            }
        }
    }
    for record in last.map(past::Last::into_records).unwrap_or_default() {
        if delivery.print(&record, context)? {
            break;
        }
    }
    Ok(Exit::Success)
}

/// The next line that is an event. What was printed is flushed before it is waited for.
async fn next_record(
    lines: &mut lines::Lines,
    delivery: &mut Delivery,
    context: &Context,
) -> Result<Option<Record>, Failure> {
    loop {
        let line = match lines.try_next() {
            Some(line) => line,
            None => {
                delivery.flush()?;
                lines.next().await
            }
        };
        let Some(line) = line? else { return Ok(None) };
        match line.record() {
            Ok((record, _)) => return Ok(Some(record)),
            Err(error) => context.notice(format_args!(
                "line {} of {} is passed over: {error}",
                line.number,
                lines.name()
            )),
        }
    }
}
