//! `lavabus faults`: what is wrong with what.
//!
//! Those that are not over, the one that was seen last first; `--all` adds those that are. Texts are shown without
//! secrets. Details are shown with `--details` only; who may read the database file may read them.

use jiff::Timestamp;
use lavabus_protocol::redact::redact;
use lavabus_store::Reader;
use lavabus_store::question::faults::FaultQuestion;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::question::{DatabaseArguments, Said, ask, cannot_read, lab_cell, time};
use crate::table::{Cell, Table};

const COLUMNS: [&str; 9] = [
    "subject", "message", "first", "last", "count", "cleared", "origin", "job", "lab",
];
const WITH_DETAILS: [&str; 10] = [
    "subject", "message", "first", "last", "count", "cleared", "origin", "job", "lab", "details",
];

/// Show what is wrong with what
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// About what: device/NAME, worker/NAME, job/ID, any other subject, or a name alone
    #[arg(value_name = "SUBJECT")]
    pub subject: Option<String>,

    /// Only what is not over; this is the default
    #[arg(long, conflicts_with = "all")]
    pub open: bool,

    /// Also what is over
    #[arg(long)]
    pub all: bool,

    /// Only what was seen last at this time or later
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    pub since: Option<Timestamp>,

    /// In which lab
    #[arg(long, value_name = "LAB")]
    pub lab: Option<String>,

    /// At most so many, the newest; 100 a subject are kept
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,

    /// Show their details too, which are for administrators
    #[arg(long)]
    pub details: bool,

    /// Where to look
    #[command(flatten)]
    pub database: DatabaseArguments,
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what failed, the cause, and the next thing to try.
pub async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    let database = arguments.database.clone();
    ask(&database, context, move |reader, context, _| {
        answer(&arguments, reader, context)
    })
    .await
}

/// The answer.
///
/// # Errors
///
/// As [`run`].
pub fn answer(arguments: &Arguments, reader: &Reader, context: &Context) -> Result<Said, Failure> {
    let question = FaultQuestion {
        subject: arguments.subject.as_deref(),
        lab: arguments.lab.as_deref(),
        open: !arguments.all,
        since_us: arguments.since.map_or(i64::MIN, Timestamp::as_microsecond),
        limit: arguments.limit,
    };
    let answer = reader.faults(&question).map_err(cannot_read(reader))?;
    let columns: &'static [&'static str] = if arguments.details { &WITH_DETAILS } else { &COLUMNS };
    let mut table = Table::new(columns).optional(&["cleared", "origin", "job", "lab", "details"]);
    for fault in &answer.value.faults {
        let mut row = vec![
            fault.subject.as_str().into(),
            redact(&fault.message).into(),
            Cell::Time(Some(fault.first_us)),
            Cell::Time(Some(fault.last_us)),
            Cell::Number(i64::try_from(fault.count).unwrap_or(i64::MAX)),
            Cell::Time(fault.cleared_us),
            fault.origin.clone().into(),
            fault.job.clone().into(),
            lab_cell(&fault.lab),
        ];
        if arguments.details {
            row.push(fault.details.as_deref().map(redact).into());
        }
        table.push(row);
    }
    let mut said = Said::new(
        table.to_text(context.format.as_ref(), context.color, "faults")?,
        &answer,
    );
    if table.is_empty() {
        said.notice(match arguments.all {
            true => "no fault is known of that",
            false => "nothing is known to be wrong; --all shows what is over",
        });
    }
    if answer.value.more {
        said.notice(format!("there are more than {}: --limit", arguments.limit));
    }
    Ok(said)
}
