//! `lavabus stuck`: what has been in one state for too long.
//!
//! | kind | when |
//! |---|---|
//! | job | not finished, and in its state for longer than `--older-than` |
//! | device | Reserved or Running for a job of which Finished was heard longer ago |
//! | request | a service received it longer ago, and has not ended it |
//!
//! Ends with 0 also when something is stuck: this is a question, not a check.

use std::time::Duration;

use lavabus_protocol::time::parse_duration;
use lavabus_store::Reader;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::question::{DatabaseArguments, Said, ask, cannot_read, lab_cell};
use crate::table::{Cell, Table, duration_text};

const COLUMNS: [&str; 12] = [
    "kind", "id", "state", "since", "elapsed", "device", "worker", "job", "service", "source", "user", "lab",
];
const OPTIONAL: [&str; 7] = ["device", "worker", "job", "service", "source", "user", "lab"];

/// Show what has been in one state for too long
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// For longer than this
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "1h")]
    pub older_than: Duration,

    /// At most so many jobs, devices and requests each, the longest first
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,

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
    ask(&database, context, move |reader, context, now_us| {
        answer(&arguments, reader, context, now_us)
    })
    .await
}

/// The answer as of `now_us`, in µs since 1970.
///
/// # Errors
///
/// As [`run`].
pub fn answer(arguments: &Arguments, reader: &Reader, context: &Context, now_us: i64) -> Result<Said, Failure> {
    let older_us = i64::try_from(arguments.older_than.as_micros()).unwrap_or(i64::MAX);
    let answer = reader
        .stuck(now_us.saturating_sub(older_us), arguments.limit)
        .map_err(cannot_read(reader))?;
    let stuck = &answer.value;
    let elapsed = |since_us: i64| Cell::Duration(Some(now_us.saturating_sub(since_us)));
    let mut table = Table::new(&COLUMNS).optional(&OPTIONAL);
    for job in &stuck.jobs {
        let event = job.told();
        table.push(vec![
            "job".into(),
            job.id.as_str().into(),
            event.state().into(),
            Cell::Time(Some(job.since_us)),
            elapsed(job.since_us),
            event.device().into(),
            event.worker().into(),
            Cell::Text(None),
            Cell::Text(None),
            Cell::Text(None),
            event.submitter().into(),
            lab_cell(&job.lab),
        ]);
    }
    for (device, job) in &stuck.devices {
        let event = device.told();
        table.push(vec![
            "device".into(),
            device.id.as_str().into(),
            event.state().into(),
            Cell::Time(Some(device.since_us)),
            elapsed(device.since_us),
            device.id.as_str().into(),
            event.worker().into(),
            job.id.as_str().into(),
            Cell::Text(None),
            Cell::Text(None),
            job.told().submitter().into(),
            lab_cell(&device.lab),
        ]);
    }
    for stage in &stuck.requests {
        table.push(vec![
            "request".into(),
            stage.request.as_str().into(),
            stage.status.as_str().into(),
            Cell::Time(Some(stage.since_us)),
            elapsed(stage.since_us),
            Cell::Text(None),
            Cell::Text(None),
            stage.job.clone().into(),
            stage.service.as_str().into(),
            Some(stage.source.as_str()).into(),
            stage.account.clone().into(),
            lab_cell(&stage.lab),
        ]);
    }
    let mut said = Said::new(table.to_text(context.format.as_ref(), context.color, "stuck")?, &answer);
    if table.is_empty() {
        said.notice(format!("nothing is stuck for longer than {}", duration_text(older_us)));
    }
    if stuck.more {
        said.notice(format!("there are more than {}: --limit", arguments.limit));
    }
    Ok(said)
}
