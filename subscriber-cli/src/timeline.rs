//! `lavabus timeline ID`: what happened to a job, a device, a request …, in the order of the senders' clocks, and what
//! came of it.
//!
//! It reads the database file. Ends with 0, with 2 where an id fits several things, with 13 where no event mentions it,
//! and with 30 when there is no database that can be read.

mod report;

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use lavabus_client::SecondPort;
use lavabus_store::question::timeline::{MOST_EVENTS, Subject, timeline};
use lavabus_store::question::{Mentions, UNREAD_EVENTS};
use lavabus_store::{Reader, RefKind};

use self::report::Style;
use crate::context::Context;
use crate::database;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::Format;
use crate::listen::time;
use crate::outlet::port_failure;
use crate::question::cannot_read;
use crate::remote;
use crate::status::print;

/// Show what happened to a job, a device, a request …, in order, and what came of it
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Any id: of a job (1995, 4000.1, its URL), device, worker, request, run, account, inventory, system, subject or
    /// test case. With its kind where it fits several: job/12, request/abc, device/qemu-01
    #[arg(value_name = "ID")]
    pub id: String,

    /// Events received at this time or later; otherwise everything of a job, request or run, and 24 h of anything else
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    pub since: Option<Timestamp>,

    /// Instead: the newest N jobs of this device, worker or submitter, or requests of this account …, one by one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000), conflicts_with = "since")]
    pub last: Option<u64>,

    /// The same for the N before the newest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000), conflicts_with_all = ["since", "last"])]
    pub previous: Option<u64>,

    /// Only events from this lab, where the database has several
    #[arg(long, value_name = "LAB")]
    pub lab: Option<String>,

    /// Print the timeline's address at the publisher that --bus http(s)://… names, and end
    #[arg(long)]
    pub url: bool,

    /// The database; otherwise the one at the usual place
    #[arg(long, value_name = "PATH")]
    pub db: Option<PathBuf>,
}

/// Runs the command. `-o markdown` is for this command only.
///
/// # Errors
///
/// [`Failure`] says what failed, the cause, and the next thing to try.
pub async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    let style = match &context.format {
        None | Some(Format::Plain) => Style::Plain { color: context.color },
        Some(Format::Json) => Style::Json,
        Some(Format::Csv) => Style::Csv,
        Some(Format::Markdown) => Style::Markdown,
        Some(Format::Raw | Format::Template(_)) => {
            return Err(Failure::new(
                Exit::Usage,
                "`lavabus timeline` cannot be written like this",
                "-o raw and -o template are for events",
                "-o plain, json, csv or markdown",
            ));
        }
    };
    let port = remote::port(arguments.db.as_ref(), context)?;
    if arguments.url {
        let Some(port) = port else {
            return Err(Failure::new(
                Exit::Usage,
                "there is no address to link to",
                "a timeline is shown by a publisher's HTTP port, and none is named",
                format!("`lavabus timeline {} --url --bus http://HOST:8001`", arguments.id),
            ));
        };
        print(&format!("{}\n", port.url(&["timeline", &arguments.id])))?;
        return Ok(Exit::Success);
    }
    if let Some(port) = port {
        return ask_port(&arguments, style, context, &port).await;
    }
    let context = context.clone();
    database::ask(arguments.db.clone(), move |reader| {
        answer(&arguments, style, &context, reader)
    })
    .await
}

/// The same over HTTP.
async fn ask_port(arguments: &Arguments, style: Style, context: &Context, port: &SecondPort) -> Result<Exit, Failure> {
    if arguments.last.is_some() || arguments.previous.is_some() || arguments.lab.is_some() {
        return Err(Failure::new(
            Exit::Usage,
            "--last, --previous and --lab need a database",
            "over HTTP a publisher tells one timeline at a time",
            "without them, or --db PATH (`lavabus record` keeps one)",
        ));
    }
    let query: Vec<(String, String)> = arguments
        .since
        .map(|since| remote::parameter("since", since))
        .into_iter()
        .collect();
    let text = port.get(&["timeline", &arguments.id], &query).await;
    let text = text.map_err(|error| port_failure(port, &error))?;
    let answer: serde_json::Value = serde_json::from_str(&text).map_err(|_| remote::unreadable(port))?;
    let Some((timeline, epoch, is_cut)) = remote::timeline_of(&answer, &text) else {
        return Err(remote::unreadable(port));
    };
    if is_cut {
        context.notice(format_args!(
            "{} has more events: the newest are shown; --since shows fewer",
            timeline.subject
        ));
    }
    print(&report::text(&timeline, epoch, style, true))?;
    Ok(Exit::Success)
}

fn answer(arguments: &Arguments, style: Style, context: &Context, reader: &Reader) -> Result<Exit, Failure> {
    let mentions = reader.mentions().map_err(cannot_read(reader))?;
    if mentions.left_out() > 0 {
        context.notice(format_args!(
            "the newest {} events are not taken in yet: the database is more than {UNREAD_EVENTS} behind; again in a moment",
            mentions.left_out()
        ));
    }
    let subject = subject(&arguments.id, &mentions, reader)?;
    let epoch = reader.epoch().map_err(cannot_read(reader))?;
    let subjects = match (arguments.last, arguments.previous) {
        (None, None) => vec![subject],
        (Some(count), _) => parts(&subject, 0, count, &mentions, reader)?,
        (None, Some(count)) => parts(&subject, 1, count, &mentions, reader)?,
    };
    let is_all = arguments.last.or(arguments.previous).is_some();
    let mut is_first = true;
    for subject in subjects {
        let after = match since(arguments, &subject).filter(|_| !is_all) {
            Some(since) => {
                reader
                    .seq_received_since(since.as_microsecond())
                    .map_err(cannot_read(reader))?
                    - 1
            }
            None => 0,
        };
        let mut story = mentions.story(&subject, after).map_err(cannot_read(reader))?;
        if story.is_cut {
            context.notice(format_args!(
                "{subject} has more than {MOST_EVENTS} events: the newest are shown; --since shows fewer"
            ));
        }
        if let Some(lab) = &arguments.lab {
            story.events.retain(|event| event.lab == *lab);
        }
        let labs: BTreeSet<&str> = story.events.iter().map(|event| event.lab.as_str()).collect();
        if labs.len() > 1 && is_of_one_lab(subject.kind) {
            return Err(several_labs(&subject, &labs));
        }
        if story.events.is_empty() {
            context.notice(format_args!("no event of {subject} in this time; try --since -30d"));
        }
        let timeline = timeline(&subject, story.events, Timestamp::now().as_microsecond());
        print(&report::text(&timeline, epoch, style, is_first))?;
        is_first = false;
    }
    Ok(Exit::Success)
}

/// What the id means.
fn subject(text: &str, mentions: &Mentions<'_>, reader: &Reader) -> Result<Subject, Failure> {
    let known = mentions.known(Subject::meant_by(text)).map_err(cannot_read(reader))?;
    match known.as_slice() {
        [subject] => Ok(subject.clone()),
        [] => Err(Failure::new(
            Exit::NoSuchObject,
            format!("nothing is known of {text:?}"),
            format!("no event in {} mentions it", reader.path().display()),
            "`lavabus query` shows what there is; ids are compared as they are written",
        )),
        several => {
            let names: Vec<String> = several.iter().map(Subject::to_string).collect();
            Err(Failure::new(
                Exit::Usage,
                format!("{text:?} is the id of several things"),
                names.join(", "),
                format!("name the kind: `lavabus timeline {}`", names[0]),
            ))
        }
    }
}

/// The jobs or requests of a subject.
fn parts(
    subject: &Subject,
    skip: usize,
    count: u64,
    mentions: &Mentions<'_>,
    reader: &Reader,
) -> Result<Vec<Subject>, Failure> {
    if matches!(subject.kind, RefKind::Job | RefKind::Request) {
        return Err(Failure::new(
            Exit::Usage,
            format!("{subject} has no jobs or requests of its own"),
            "--last and --previous are for what jobs and requests belong to",
            format!("`lavabus timeline {subject}`, or --last with a device or an account"),
        ));
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let parts = mentions.latest(subject, skip, count).map_err(cannot_read(reader))?;
    match parts.is_empty() {
        false => Ok(parts),
        true => Err(Failure::new(
            Exit::NoSuchObject,
            format!("{subject} has no such job or request"),
            "no event names one",
            format!("`lavabus timeline {subject}`"),
        )),
    }
}

/// A job, a request or a run ends, so all of it is shown; of anything else a day.
fn since(arguments: &Arguments, subject: &Subject) -> Option<Timestamp> {
    let ends = matches!(subject.kind, RefKind::Job | RefKind::Request | RefKind::Run);
    let day = || (!ends).then(|| Timestamp::now() - SignedDuration::from_hours(24));
    arguments.since.or_else(day)
}

/// The same id means another thing in another lab.
fn is_of_one_lab(kind: RefKind) -> bool {
    matches!(
        kind,
        RefKind::Job | RefKind::Device | RefKind::Worker | RefKind::Request | RefKind::Run
    )
}

fn several_labs(subject: &Subject, labs: &BTreeSet<&str>) -> Failure {
    let name = |lab: &&str| {
        if lab.is_empty() {
            "''".to_owned()
        } else {
            (*lab).to_owned()
        }
    };
    let names: Vec<String> = labs.iter().map(name).collect();
    Failure::new(
        Exit::Usage,
        format!("{subject} is in several labs"),
        names.join(", "),
        format!("`lavabus timeline {subject} --lab {}`", names[names.len() - 1]),
    )
}
