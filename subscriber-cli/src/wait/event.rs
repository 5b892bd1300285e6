//! `lavabus wait event`: the first event that a filter lets through.

use std::io::Write as _;
use std::time::Duration;

use jiff::{Timestamp, Zoned};
use lavabus_client::cursor_at;
use lavabus_protocol::event::read_datetime;
use lavabus_protocol::filter::{Field, Pattern};
use lavabus_protocol::time::parse_time;
use lavabus_protocol::{Cursor, Kind, Record, SnapshotScope};

use tokio::time::Instant;

use super::channel::Wanted;
use super::tracker::{Object, Quantity, Source, Tracked, Tracker};
use super::watch::{Sources, Watch};
use super::{ConditionArguments, PatienceArguments};
use crate::context::{Context, say};
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
    let mut search = Search::begin(arguments, sources, context)?;
    loop {
        match search.step().await? {
            Found::Event(record) if selection.wants(&record, context) => {
                print(&record, &mut printer)?;
                return Ok(Exit::Success);
            }
            Found::Event(record) => search.pass_over(&record),
            Found::Nothing => {}
            Found::End(exit) => return Ok(exit),
        }
    }
}

/// What a step of the search brings.
enum Found {
    /// An event that may be it.
    Event(Record),
    Nothing,
    /// There is no use in going on.
    End(Exit),
}

/// The events since the beginning: since a time, since an event, of a job since its submission, or since now.
struct Search<'a> {
    arguments: &'a EventArguments,
    context: &'a Context,
    started: Timestamp,
    deadline: Option<Instant>,
    job: Option<Object>,
    watch: Watch<'a>,
    /// It is not known yet when the job was submitted.
    is_before_beginning: bool,
    /// What the stream says of the job, in its order.
    by_events: Tracker,
    /// What LAVA says of it, which may be ahead of the stream.
    by_answers: Tracker,
    /// The job was not over when the stream was heard already.
    was_open: bool,
    /// Until then the last events of a job that is over may come.
    over: Option<Instant>,
    is_past_told: bool,
}

impl<'a> Search<'a> {
    fn begin(arguments: &'a EventArguments, sources: Sources, context: &'a Context) -> Result<Search<'a>, Failure> {
        let job = job(&arguments.filter);
        let after = arguments.after.or(arguments.since.map(cursor_at));
        let is_before_beginning = after.is_none() && job.is_some();
        let patience = arguments.patience.patience();
        let watch = match &job {
            Some(job) if is_before_beginning => Watch::begin(sources, std::slice::from_ref(job), patience, context),
            job => Watch::begin_with(sources, stream(job.as_ref(), after, arguments), patience, context),
        };
        Ok(Search {
            started: Timestamp::now(),
            deadline: arguments.patience.deadline(),
            by_events: tracker(job.as_ref())?,
            by_answers: tracker(job.as_ref())?,
            was_open: false,
            over: None,
            is_past_told: false,
            arguments,
            context,
            job,
            watch,
            is_before_beginning,
        })
    }

    /// Cancel-safe.
    async fn step(&mut self) -> Result<Found, Failure> {
        let next = [self.deadline, self.over].into_iter().flatten().min();
        if let Some((record, in_snapshot)) = self.watch.step(&mut self.by_answers, next).await? {
            if !in_snapshot {
                return Ok(Found::Event(record));
            }
            self.by_events.tell(&record, Source::Event);
        }
        if self.is_before_beginning
            && self.watch.is_known()
            && let Some(beginning) = self.beginning()
        {
            self.begin_at(beginning)?;
            return Ok(Found::Nothing);
        }
        self.look_at_job()
    }

    /// This event was not it; it may be the job's last.
    fn pass_over(&mut self, record: &Record) {
        self.by_events.tell(record, Source::Event);
    }

    /// When the job was submitted; `None` as long as somebody may still tell.
    fn beginning(&self) -> Option<Timestamp> {
        let known = [&self.by_events, &self.by_answers]
            .into_iter()
            .flat_map(|tracker| tracker.tracked());
        match known.filter_map(Tracked::record).next() {
            Some(record) => Some(submitted(record).unwrap_or(self.started)),
            None if self.watch.is_told() && self.watch.server().is_none() => Some(self.started),
            None => None,
        }
    }

    /// From the job's beginning on.
    fn begin_at(&mut self, beginning: Timestamp) -> Result<(), Failure> {
        let wanted = stream(self.job.as_ref(), Some(cursor_at(beginning)), self.arguments);
        let patience = self.arguments.patience.patience();
        self.watch = Watch::begin_with(self.watch.sources(), wanted, patience, self.context);
        self.is_before_beginning = false;
        self.by_events = tracker(self.job.as_ref())?;
        self.by_answers = tracker(self.job.as_ref())?;
        self.over = None;
        Ok(())
    }

    /// Whether the job is over, or the time.
    fn look_at_job(&mut self) -> Result<Found, Failure> {
        let wants_past = self.arguments.since.is_some() || self.arguments.after.is_some() || self.job.is_some();
        if wants_past && self.watch.is_without_past() && !std::mem::replace(&mut self.is_past_told, true) {
            self.context
                .notice("nobody can tell the past here: only what happens from now on is looked at");
        }
        let has_heard_all = self.watch.has_heard_all();
        self.was_open |= has_heard_all && (is_open(&self.by_events) || is_open(&self.by_answers));
        let is_answered = self.by_answers.decider().is_some();
        if is_answered && (self.watch.is_without_past() || self.watch.is_caught_up() && !self.is_before_beginning) {
            self.over.get_or_insert_with(|| Instant::now() + ON_THEIR_WAY);
        }
        let is_absent = |tracked: &&Tracked| {
            tracked
                .verdict
                .as_ref()
                .is_some_and(|verdict| verdict.exit == Exit::NoSuchObject)
        };
        if let Some(absent) = self.by_answers.decider().filter(is_absent) {
            let text = format!("there is no {}, or it is private", absent.object);
            return Ok(say_end(Exit::NoSuchObject, text));
        }
        let decider = match self.over {
            Some(over) if over <= Instant::now() => self.by_answers.decider(),
            _ if self.is_before_beginning && self.watch.is_known() => None,
            _ => self.by_events.decider(),
        };
        if let Some(decided) = decider
            && let Some(verdict) = &decided.verdict
        {
            if has_heard_all && (self.watch.is_known() || self.was_open) {
                let text = format!("{} is over ({}) and had no such event", decided.object, verdict.outcome);
                return Ok(say_end(Exit::Unreachable, text));
            }
            return Err(not_heard(&decided.object, self.arguments.patience.strict));
        }
        match self.deadline {
            Some(deadline) if deadline <= Instant::now() => {
                Ok(say_end(Exit::Timeout, "no such event before the time was over"))
            }
            _ => Ok(Found::Nothing),
        }
    }
}

/// All events after one, and the job's last state after them.
fn stream(job: Option<&Object>, after: Option<Cursor>, arguments: &EventArguments) -> Wanted {
    let scope = job.map(|job| SnapshotScope::One {
        kind: job.kind,
        id: job.id.clone(),
    });
    Wanted {
        after,
        snapshots: scope.into_iter().collect(),
        is_time: arguments.after.is_none(),
        is_stream: true,
    }
}

fn is_open(tracker: &Tracker) -> bool {
    let mut jobs = tracker.tracked().iter();
    jobs.any(|job| job.record().is_some() && job.verdict.is_none())
}

/// The job is over, and it is not known whether it had the event.
fn not_heard(object: &Object, is_strict: bool) -> Failure {
    let exit = if is_strict { Exit::Gap } else { Exit::NoConnection };
    Failure::new(
        exit,
        format!("{object} is over; whether it had such an event could not be heard"),
        "no publisher was heard that tells what was before, or all that happened meanwhile",
        "lavabus' own lava-publisher with its journal, and its port 5500; LAVA's WebSocket has no events of test shells",
    )
}

/// The last line, and the exit code in it.
fn say_end(exit: Exit, text: impl std::fmt::Display) -> Found {
    say(format_args!("lavabus: {text} (exit {})", exit.code()));
    Found::End(exit)
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
