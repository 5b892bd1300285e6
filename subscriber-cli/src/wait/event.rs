//! `lavabus wait event`: the first event that a filter lets through.

use std::io::Write as _;
use std::time::Duration;

use jiff::{Timestamp, Zoned};
use lavabus_client::cursor_at;
use lavabus_protocol::event::read_datetime;
use lavabus_protocol::filter::{Field, Pattern};
use lavabus_protocol::time::parse_time;
use lavabus_protocol::{Cursor, Kind, Record};

use tokio::time::Instant;

use super::channel::Wanted;
use super::tracker::{Object, Quantity, Source, Tracker};
use super::watch::{Sources, Watch};
use super::{ConditionArguments, PatienceArguments};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::filter::FilterArguments;
use crate::format::{Format, Printer};
use crate::listen::Selection;
use crate::sources::sources;

/// After LAVA said that a job is over, its events may take so long to be heard where no publisher tells their order.
const ON_THEIR_WAY: Duration = Duration::from_secs(2);

/// Which event, and since when.
#[derive(Clone, Debug, clap::Args)]
pub struct EventArguments {
    /// Which event. With --job alone: one of that job, from its beginning, until the job is over.
    #[command(flatten)]
    pub filter: FilterArguments,

    /// Look from this time on: RFC 3339, "2h ago", -2h, yesterday or @SECONDS
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time, conflicts_with = "after")]
    pub since: Option<Timestamp>,

    /// Look from this event on, its cursor or UUID
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<Cursor>,

    /// For how long.
    #[command(flatten)]
    pub patience: PatienceArguments,
}

fn time(text: &str) -> Result<Timestamp, String> {
    parse_time(text, &Zoned::now()).map_err(|error| error.to_string())
}

pub(super) async fn run(arguments: &EventArguments, context: &Context) -> Result<Exit, Failure> {
    let started = Timestamp::now();
    let deadline = arguments.patience.deadline();
    let mut printer =
        Printer::new(context.format.as_ref().unwrap_or(&Format::Plain), context.color).map_err(|error| {
            Failure::new(
                Exit::Usage,
                "the template cannot be used",
                error,
                "`-o json` shows what there is",
            )
        })?;
    let selection = Selection::new(&arguments.filter, arguments.since, None)?;
    let sources = sources(context)?;
    let job = job(&arguments.filter);
    let since = match (arguments.after, arguments.since, &job) {
        (None, None, Some(job)) => match beginning(job, &sources, arguments, deadline, context).await? {
            Beginning::At(at) => Some(at),
            Beginning::Unknown => Some(started),
            Beginning::NoSuchJob => {
                return Ok(say(
                    Exit::NoSuchObject,
                    format_args!("there is no {job}, or it is private"),
                ));
            }
            Beginning::Timeout => return Ok(timeout()),
        },
        _ => arguments.since,
    };
    let wanted = Wanted {
        after: arguments.after.or(since.map(cursor_at)),
        is_time: arguments.after.is_none(),
        ..Wanted::default()
    };
    let mut watch = Watch::begin_with(sources, wanted, arguments.patience.patience(), context);
    let mut by_events = tracker(job.as_ref())?;
    let mut by_answers = tracker(job.as_ref())?;
    let mut over = None;
    loop {
        let next = [deadline, over].into_iter().flatten().min();
        if let Some(record) = watch.step(&mut by_answers, next).await? {
            if selection.wants(&record, context) {
                print(&record, &mut printer)?;
                return Ok(Exit::Success);
            }
            by_events.tell(&record, Source::Event);
        }
        if by_answers.decider().is_some() && watch.is_without_past() {
            // Its last events may still be on their way.
            over.get_or_insert_with(|| Instant::now() + ON_THEIR_WAY);
        }
        let decider = match over {
            Some(over) if over <= Instant::now() => by_answers.decider(),
            _ => by_events.decider(),
        };
        if let Some(decided) = decider
            && let Some(verdict) = &decided.verdict
        {
            let exit = match verdict.exit {
                Exit::NoSuchObject => Exit::NoSuchObject,
                _ => Exit::Unreachable,
            };
            let text = format!("{} is over ({}) and had no such event", decided.object, verdict.outcome);
            return Ok(say(exit, text));
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(timeout());
        }
    }
}

fn timeout() -> Exit {
    say(Exit::Timeout, "no such event before the time was over")
}

/// The last line, and the exit code in it.
fn say(exit: Exit, text: impl std::fmt::Display) -> Exit {
    eprintln!("lavabus: {text} (exit {})", exit.code());
    exit
}

enum Beginning {
    /// The job was submitted then.
    At(Timestamp),
    /// Nobody knows.
    Unknown,
    NoSuchJob,
    Timeout,
}

/// When the job began: its events of before may already have what is waited for.
async fn beginning(
    job: &Object,
    sources: &Sources,
    arguments: &EventArguments,
    deadline: Option<Instant>,
    context: &Context,
) -> Result<Beginning, Failure> {
    let objects = std::slice::from_ref(job);
    let mut watch = Watch::begin(sources.clone(), objects, arguments.patience.patience(), context);
    let mut tracker = tracker(Some(job))?;
    loop {
        if let Some(record) = watch.step(&mut tracker, deadline).await? {
            tracker.tell(&record, Source::Event);
        }
        let [tracked] = tracker.tracked() else {
            return Ok(Beginning::Unknown);
        };
        if let Some(record) = tracked.record() {
            return Ok(submitted(record).map_or(Beginning::Unknown, Beginning::At));
        }
        if tracked.verdict.is_some() {
            return Ok(Beginning::NoSuchJob);
        }
        if watch.is_without_past() && watch.server().is_none() || watch.is_told() && watch.server().is_none() {
            return Ok(Beginning::Unknown);
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(Beginning::Timeout);
        }
    }
}

fn tracker(job: Option<&Object>) -> Result<Tracker, Failure> {
    let conditions = ConditionArguments::default().conditions()?;
    Ok(Tracker::new(
        job.cloned().into_iter().collect(),
        conditions,
        Quantity::Any,
    ))
}

/// The job that an event is waited for, if there is just one.
fn job(filter: &FilterArguments) -> Option<Object> {
    let mut jobs = filter
        .filter
        .clauses()
        .iter()
        .filter(|clause| clause.field == Field::Job && !clause.negated);
    let (first, second) = (jobs.next()?, jobs.next());
    match (&first.pattern, second) {
        (Pattern::Exact(id), None) => Some(Object {
            kind: Kind::Testjob,
            id: id.clone(),
        }),
        _ => None,
    }
}

/// When a job was submitted, as its events say.
fn submitted(record: &Record) -> Option<Timestamp> {
    match record.event().body() {
        lavabus_protocol::event::Body::Job(job) => job.submit_time.as_deref().and_then(read_datetime),
        _ => None,
    }
}

fn print(record: &Record, printer: &mut Printer) -> Result<(), Failure> {
    let mut out = Vec::new();
    if let Err(error) = printer.write(record, &mut out) {
        return Err(Failure::new(
            Exit::Usage,
            "the template fails on the event",
            error,
            "`-o json` shows what there is",
        ));
    }
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(&out)
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::output(&error))
}
