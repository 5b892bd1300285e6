//! `lavabus show`: how devices, workers and jobs are, as the events tell it.
//!
//! | command | says |
//! |---|---|
//! | `show device\|worker\|job NAME` | everything about one object; ends with 13 when nobody has told of it |
//! | `show devices\|workers\|jobs` | a table; with `--watch` as it changes |
//!
//! `silent` is how long nothing was heard of it, by the clock of whoever received the events; what was silent for longer
//! than a day is `stale`: what is shown may be long over.

mod device;
mod job;
mod watch;
mod worker;

use lavabus_protocol::{Event, JobId};
use lavabus_store::Reader;
use lavabus_store::projection::entity::Entity;
use lavabus_store::question::Answer;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::question::{DatabaseArguments, Said, ask};
use crate::remote;
use crate::status::print;
use crate::table::{Cell, Table, duration_text};

/// What was not heard of for longer is marked. A day, in µs.
const STALE_US: i64 = 24 * 3_600 * 1_000_000;

/// Show how devices, workers and jobs are
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// What to show
    #[command(subcommand)]
    pub subject: Subject,
}

/// What to show.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Subject {
    /// One device
    Device(OneArguments),
    /// One worker
    Worker(OneArguments),
    /// One job
    #[command(alias = "testjob")]
    Job(OneArguments),
    /// All devices
    Devices(ListArguments),
    /// All workers
    Workers(ListArguments),
    /// Unfinished jobs, and those that finished last
    #[command(alias = "testjobs")]
    Jobs(JobListArguments),
}

/// One object.
#[derive(Clone, Debug, clap::Args)]
pub struct OneArguments {
    /// Its name; of a job its number or sub id in any form: 1995, 4000.1, job/1995, its URL
    #[arg(value_name = "NAME")]
    pub name: String,

    /// In which lab
    #[arg(long, value_name = "LAB")]
    pub lab: Option<String>,

    /// Where to look
    #[command(flatten)]
    pub database: DatabaseArguments,
}

/// A table of objects.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ListArguments {
    /// Only in this state, in any case; repeatable, as all of these
    #[arg(long, value_name = "STATE")]
    pub state: Vec<String>,

    /// Only with this health, in any case
    #[arg(long, value_name = "HEALTH")]
    pub health: Vec<String>,

    /// Only of this device type
    #[arg(long, value_name = "TYPE")]
    pub device_type: Vec<String>,

    /// Only of this worker
    #[arg(long, value_name = "HOSTNAME")]
    pub worker: Vec<String>,

    /// Only in this lab
    #[arg(long, value_name = "LAB")]
    pub lab: Vec<String>,

    /// Show it again whenever it changes, until Ctrl-C
    #[arg(long)]
    pub watch: bool,

    /// Where to look
    #[command(flatten)]
    pub database: DatabaseArguments,
}

/// A table of jobs.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct JobListArguments {
    /// What all tables have
    #[command(flatten)]
    pub list: ListArguments,

    /// Only jobs of this user
    #[arg(long, value_name = "USER")]
    pub submitter: Vec<String>,

    /// At most so many finished jobs, the last ones
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

impl ListArguments {
    fn accepts(&self, entity: &Entity, event: &Event) -> bool {
        let is_any = |wanted: &[String], found: Option<&str>| {
            let is = |wanted: &String| found.is_some_and(|found| found.eq_ignore_ascii_case(wanted));
            wanted.is_empty() || wanted.iter().any(is)
        };
        let is_named = |wanted: &[String], found: Option<&str>| {
            wanted.is_empty() || found.is_some_and(|found| wanted.iter().any(|wanted| wanted == found))
        };
        is_any(&self.state, event.state())
            && is_any(&self.health, event.health())
            && is_named(&self.device_type, event.device_type())
            && is_named(&self.worker, event.worker())
            && is_named(&self.lab, Some(&entity.lab))
    }
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what failed, the cause, and the next thing to try.
pub async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    let (database, is_watched) = match &arguments.subject {
        Subject::Device(one) | Subject::Worker(one) | Subject::Job(one) => (one.database.clone(), false),
        Subject::Devices(list) | Subject::Workers(list) => (list.database.clone(), list.watch),
        Subject::Jobs(jobs) => (jobs.list.database.clone(), jobs.list.watch),
    };
    let one = match &arguments.subject {
        Subject::Device(one) => Some(("devices", name_of(one, "device/").to_owned(), &device::ONE[..])),
        Subject::Worker(one) => Some(("workers", name_of(one, "worker/").to_owned(), &worker::ONE[..])),
        Subject::Job(one) => {
            let id = JobId::parse(&one.name).map_or(one.name.clone(), |id| id.to_string());
            Some(("jobs", id, &job::ONE[..]))
        }
        _ => None,
    };
    if let Some((kind, name, columns)) = one
        && let Some(port) = remote::port(database.db.as_ref(), context)?
    {
        print(&remote::show_one(&port, &[kind, &name], columns, context).await?)?;
        return Ok(Exit::Success);
    }
    if is_watched {
        return watch::run(arguments.subject, database, context).await;
    }
    ask(&database, context, move |reader, context, now_us| {
        answer(&arguments.subject, reader, context, now_us)
    })
    .await
}

/// The answer as of `now_us`, in µs since 1970.
///
/// # Errors
///
/// As [`run`].
pub fn answer(subject: &Subject, reader: &Reader, context: &Context, now_us: i64) -> Result<Said, Failure> {
    match subject {
        Subject::Device(one) => device::one(one, reader, context, now_us),
        Subject::Worker(one) => worker::one(one, reader, context, now_us),
        Subject::Job(one) => {
            let Some(id) = JobId::parse(&one.name) else {
                return Err(Failure::new(
                    Exit::Usage,
                    format!("{:?} is no job", one.name),
                    "it has neither a number nor a sub id",
                    "1995, 4000.1, job/1995 or the job's URL",
                ));
            };
            job::one(&id, one.lab.as_deref(), reader, context, now_us)
        }
        Subject::Devices(list) => device::list(list, reader, context, now_us),
        Subject::Workers(list) => worker::list(list, reader, context, now_us),
        Subject::Jobs(jobs) => job::list(jobs, reader, context, now_us),
    }
}

/// The name, which may be written with its kind before it.
fn name_of<'a>(one: &'a OneArguments, kind: &str) -> &'a str {
    one.name.strip_prefix(kind).unwrap_or(&one.name)
}

/// How long nothing was heard of it, in µs.
fn silent_us(entity: &Entity, now_us: i64) -> i64 {
    now_us.saturating_sub(entity.heard_us).max(0)
}

/// All that is known of the things of one name.
fn in_full<V>(
    columns: &'static [&'static str],
    answer: &Answer<Vec<V>>,
    row: impl Fn(&V) -> Vec<Cell>,
    context: &Context,
) -> Result<Said, Failure> {
    let mut table = Table::new(columns);
    answer.value.iter().for_each(|view| table.push(row(view)));
    let text = table.to_records(context.format.as_ref(), context.color, "show")?;
    Ok(Said::new(text, answer))
}

/// What is to be said where one of the things of this name is stale.
fn may_be_otherwise(name: &str) -> String {
    format!("nothing was heard of {name} for more than a day: it may be otherwise by now")
}

/// What is to be said of one that is stale.
fn silence(entity: &Entity, now_us: i64) -> Option<String> {
    let silent = || format!("silent for {}", duration_text(silent_us(entity, now_us)));
    is_stale(entity, now_us).then(silent)
}

fn is_stale(entity: &Entity, now_us: i64) -> bool {
    silent_us(entity, now_us) > STALE_US
}
