//! `lavabus wait`: until a job, a device or a worker is as it should be, or an event comes.
//!
//! The verdict is a pure function of what was heard (`condition`, `tracker`); `watch` hears and asks.

pub(crate) mod channel;
pub(crate) mod condition;
pub(crate) mod contact;
mod event;
pub(crate) mod inquiry;
pub(crate) mod report;
#[cfg(test)]
mod tests;
pub(crate) mod tracker;
mod trust;
pub(crate) mod watch;

use std::io::Write as _;
use std::time::Duration;

use lavabus_lava::Server;
use lavabus_protocol::Kind;
use lavabus_protocol::event::JobId;
use lavabus_protocol::time::parse_duration;
use tokio::time::{Instant, timeout};

pub use self::condition::Condition;
pub use self::event::EventArguments;

use self::condition::Conditions;
use self::report::{Report, last_line};
use self::tracker::{Object, Quantity, Tracked, Tracker};
use self::watch::{Patience, Watch};
use crate::context::{Context, say};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::Printer;
use crate::sources::sources;

/// A publisher answers for so many on one connection.
const MOST: usize = 256;
/// To look once takes no longer.
const ONE_LOOK: Duration = Duration::from_secs(3);
/// Why a job ended is not worth more time than this.
const CAUSE_WITHIN: Duration = Duration::from_secs(5);

/// Wait until something is as it should be; the exit code says what came of it
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// For what.
    #[command(subcommand)]
    pub what: What,
}

/// For what.
#[derive(Clone, Debug, clap::Subcommand)]
#[allow(clippy::large_enum_variant)] // There is one a process.
pub enum What {
    /// Jobs, by id: until they are finished, or as --for says. Exit code 10 for Incomplete, 11 for Canceled
    #[command(visible_alias = "testjob")]
    Job(ObjectArguments),
    /// Devices, by name: until they are as --for says
    Device(ObjectArguments),
    /// Workers, by name: until they are as --for says
    Worker(ObjectArguments),
    /// An event that a filter lets through. It is printed
    Event(EventArguments),
}

/// Objects and conditions.
#[derive(Clone, Debug, clap::Args)]
pub struct ObjectArguments {
    /// Which ones; a job's id in any form: 1995, 4000.1, job/1995, its URL
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<String>,

    /// What they are waited for.
    #[command(flatten)]
    pub conditions: ConditionArguments,

    /// For how long.
    #[command(flatten)]
    pub patience: PatienceArguments,
}

/// What is waited for.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConditionArguments {
    /// finished, running, state=S, health=H or jq=PROGRAM; of several all must hold at the same time
    #[arg(long = "for", value_name = "CONDITION")]
    pub conditions: Vec<Condition>,

    /// The same as --for state=S, in any case
    #[arg(long, value_name = "S")]
    pub state: Option<String>,

    /// The same as --for health=H, in any case
    #[arg(long, value_name = "H")]
    pub health: Option<String>,

    /// Of several: until all are decided; the worst decides the exit code (this is the default)
    #[arg(long, conflicts_with = "any")]
    pub all: bool,

    /// Of several: until the first is decided
    #[arg(long)]
    pub any: bool,
}

/// How patient a wait is.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Patience")]
pub struct PatienceArguments {
    /// End with 124 after this time; 0s: look once
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,

    /// Time for the first connection
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub connect_timeout: Duration,

    /// Longest time later in which nobody is heard
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = parse_duration)]
    pub max_outage: Duration,

    /// End with 22 when events are missing
    #[arg(long)]
    pub strict: bool,
}

impl PatienceArguments {
    pub(crate) fn patience(&self) -> Patience {
        Patience {
            connect_timeout: self.connect_timeout,
            max_outage: self.max_outage,
            strict: self.strict,
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        // What is beyond the clock is no limit.
        let timeout = self.timeout?;
        Instant::now().checked_add(if timeout.is_zero() { ONE_LOOK } else { timeout })
    }
}

impl ConditionArguments {
    /// `--state` and `--health` beside `--for`.
    pub(crate) fn conditions(&self) -> Result<Conditions, Failure> {
        let mut conditions = self.conditions.clone();
        conditions.extend(self.state.clone().map(Condition::State));
        conditions.extend(self.health.clone().map(Condition::Health));
        Conditions::new(conditions)
            .map_err(|error| Failure::new(Exit::Usage, "--for cannot be used", error, "`lavabus wait job --help`"))
    }

    pub(crate) fn quantity(&self) -> Quantity {
        match self.any {
            true => Quantity::Any,
            false => Quantity::All,
        }
    }
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what failed, the cause, and the next thing to try.
pub async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    match arguments.what {
        What::Job(arguments) => objects(Kind::Testjob, &arguments, context).await,
        What::Device(arguments) => objects(Kind::Device, &arguments, context).await,
        What::Worker(arguments) => objects(Kind::Worker, &arguments, context).await,
        What::Event(arguments) => event::run(&arguments, context).await,
    }
}

async fn objects(kind: Kind, arguments: &ObjectArguments, context: &Context) -> Result<Exit, Failure> {
    let deadline = arguments.patience.deadline();
    let conditions = arguments.conditions.conditions()?;
    if conditions.is_empty() && kind != Kind::Testjob {
        return Err(Failure::new(
            Exit::Usage,
            format!("what the {kind} is waited for is missing"),
            "only a job has an end that can be waited for",
            "--for state=Idle, --for health=Good",
        ));
    }
    let mut objects: Vec<Object> = Vec::new();
    for id in &arguments.ids {
        let object = object(kind, id)?;
        if !objects.contains(&object) {
            objects.push(object);
        }
    }
    conditions.check(kind, context)?;
    if objects.len() > MOST {
        return Err(Failure::new(
            Exit::Usage,
            format!("{} {kind}s are too many", objects.len()),
            format!("one wait is for {MOST} at most"),
            "several waits at once, each for some of them",
        ));
    }
    let sources = sources(context)?;
    for id in &arguments.ids {
        is_of_server(id, sources.server.as_ref())?;
    }
    let mut watch = Watch::begin(sources, &objects, arguments.patience.patience(), context);
    let mut tracker = Tracker::new(objects, conditions, arguments.conditions.quantity());
    let mut report = Report::new(context);
    let is_decided = watch.decide(&mut tracker, deadline, &mut report).await?;
    drop(report);
    let printed = print_events(&tracker, context);
    let exit = conclude(&tracker, is_decided, watch.server(), context).await;
    match printed {
        // What could not be printed does not change what came of it.
        Err(failure) if exit == Exit::Success => Err(failure),
        _ => Ok(exit),
    }
}

/// A job's address names its server, too.
fn is_of_server(id: &str, server: Option<&Server>) -> Result<(), Failure> {
    let (Some((_, rest)), Some(server)) = (id.split_once("://"), server) else {
        return Ok(());
    };
    let host = rest.split(['/', ':', '?', '#']).next().unwrap_or_default();
    match server.uri().host_str() {
        Some(own) if !own.eq_ignore_ascii_case(host) => Err(Failure::new(
            Exit::Usage,
            format!("{id} is a job of another server"),
            format!("the identity is one of {own}"),
            "the identity of that server, -i NAME",
        )),
        _ => Ok(()),
    }
}

/// A number, or a multinode job's sub id: `1995`, `4000.1`.
fn is_job_id(id: &JobId) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match id.as_str().split_once('.') {
        Some((group, part)) => is_number(group) && is_number(part),
        None => is_number(id.as_str()),
    }
}

fn object(kind: Kind, id: &str) -> Result<Object, Failure> {
    let name = match kind {
        Kind::Testjob => JobId::parse(id).filter(is_job_id).map(|id| id.to_string()),
        // As `show` and the snapshot write it.
        _ => Some(
            id.strip_prefix(kind.as_str())
                .and_then(|id| id.strip_prefix('/'))
                .unwrap_or(id)
                .to_owned(),
        ),
    };
    match name.filter(|name| !name.is_empty()) {
        Some(id) => Ok(Object { kind, id }),
        None => Err(Failure::new(
            Exit::Usage,
            format!(
                "{id:?} is no {}",
                if kind == Kind::Testjob { "job" } else { kind.as_str() }
            ),
            "it is no id or name",
            "its id or name, such as 1995 or qemu-01",
        )),
    }
}

/// With `--output`, the events that decided.
fn print_events(tracker: &Tracker, context: &Context) -> Result<(), Failure> {
    let Some(format) = &context.format else { return Ok(()) };
    let mut printer = Printer::new(format, context.color).map_err(|error| {
        Failure::new(
            Exit::Usage,
            "the template cannot be used",
            error,
            "`-o json` shows what there is",
        )
    })?;
    let mut out = Vec::new();
    for record in tracker.tracked().iter().filter_map(Tracked::record) {
        if let Err(error) = printer.write(record, &mut out) {
            context.notice(format_args!("the template fails on event {}: {error}", record.uuid));
        }
    }
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(&out)
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::output(&error))
}

/// Says what came of it, the decider last, and gives the exit code.
pub(crate) async fn conclude(tracker: &Tracker, is_decided: bool, server: Option<&Server>, context: &Context) -> Exit {
    let open = tracker.tracked().iter().find(|tracked| tracked.verdict.is_none());
    let (decider, outcome, exit) = match (tracker.decider(), open) {
        (Some(tracked), _) if is_decided => match &tracked.verdict {
            Some(verdict) => (tracked, verdict.outcome.clone(), verdict.exit),
            None => return Exit::Internal,
        },
        (_, Some(tracked)) => {
            let outcome = match tracked.known() {
                Some((state, ..)) => format!("still {state} when the time was over"),
                None => "not heard of before the time was over".to_owned(),
            };
            (tracked, outcome, Exit::Timeout)
        }
        _ => return Exit::Internal,
    };
    let cause = match server {
        Some(server) if exit == Exit::JobIncomplete || exit == Exit::JobCanceled => {
            cause(server, &decider.object.id).await
        }
        _ => None,
    };
    let url = job_url(decider, server);
    let line = last_line(decider, &outcome, cause.as_deref(), url.as_deref(), exit);
    // Even under --quiet: why a command ended with something else than 0 is an error's text.
    match exit {
        Exit::Success => context.notice(line),
        _ => say(format_args!("lavabus: {line}")),
    }
    exit
}

fn job_url(tracked: &Tracked, server: Option<&Server>) -> Option<String> {
    let is_job = tracked.object.kind == Kind::Testjob;
    server
        .filter(|_| is_job)
        .map(|server| server.job_url(&tracked.object.id))
}

/// Why a job ended as it did, where LAVA knows.
async fn cause(server: &Server, id: &str) -> Option<String> {
    let failure = timeout(CAUSE_WITHIN, server.failure(id)).await.ok()?.ok()?;
    let parts: Vec<String> = [failure.error_type, failure.error_msg, failure.failure_comment]
        .into_iter()
        .flatten()
        .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|part| !part.is_empty())
        .collect();
    (!parts.is_empty()).then(|| parts.join(": "))
}
