//! Jobs.

use lavabus_protocol::JobId;
use lavabus_protocol::event::{Body, shorten};
use lavabus_store::Reader;
use lavabus_store::projection::entity::Entity;
use lavabus_store::question::entities::{FINISHED_JOBS_SEEN, JobView, OPEN_JOBS_LISTED};

use super::{JobListArguments, in_full, is_stale, silent_us};
use crate::context::Context;
use crate::failure::Failure;
use crate::question::{Said, cannot_read, lab_cell, not_known};
use crate::table::{Cell, Table};

pub(super) const ONE: [&str; 21] = [
    "job",
    "lab",
    "sub_id",
    "state",
    "health",
    "since",
    "description",
    "submitter",
    "priority",
    "health_check",
    "device",
    "worker",
    "device_type",
    "submitted",
    "started",
    "ended",
    "queued",
    "elapsed",
    "cause",
    "heard",
    "silent",
];

const LIST: [&str; 12] = [
    "job",
    "sub_id",
    "state",
    "health",
    "since",
    "device",
    "worker",
    "submitter",
    "description",
    "queued",
    "elapsed",
    "lab",
];

/// A description is shown up to so many characters.
const DESCRIPTION_SHOWN: usize = 40;

/// For how long it waited to run: until now if it waits still. `None` if that is not known, as of a job that was canceled
/// before it ran.
fn queued_us(job: &Entity, now_us: i64) -> Option<i64> {
    let until_us = match (job.started_us, job.finished) {
        (Some(started_us), _) => started_us,
        (None, true) => job.ended_us?,
        (None, false) => now_us,
    };
    Some(until_us.saturating_sub(job.submitted_us?).max(0))
}

/// For how long it runs or ran.
fn elapsed_us(job: &Entity, now_us: i64) -> Option<i64> {
    let until_us = if job.finished { job.ended_us? } else { now_us };
    Some(until_us.saturating_sub(job.started_us?).max(0))
}

pub(super) fn one(
    id: &JobId,
    lab: Option<&str>,
    reader: &Reader,
    context: &Context,
    now_us: i64,
) -> Result<Said, Failure> {
    let answer = reader.job(id, lab).map_err(cannot_read(reader))?;
    if answer.value.is_empty() {
        return Err(not_known(
            reader,
            "job",
            id.as_str(),
            "`lavabus show jobs` lists the newest of those that are",
        ));
    }
    let mut said = in_full(&ONE, &answer, |view| row(view, now_us), context)?;
    if answer
        .value
        .iter()
        .any(|view| !view.entity.finished && is_stale(&view.entity, now_us))
    {
        said.notice(format!(
            "nothing was heard of job {id} for more than a day: it may be over by now"
        ));
    }
    Ok(said)
}

fn row(view: &JobView, now_us: i64) -> Vec<Cell> {
    let (job, event) = (&view.entity, view.entity.told());
    let (description, priority, health_check) = match event.body() {
        Body::Job(told) => (told.description.clone(), told.priority, told.health_check),
        _ => (None, None, None),
    };
    vec![
        job.id.as_str().into(),
        lab_cell(&job.lab),
        job.sub_id.clone().into(),
        event.state().into(),
        event.health().into(),
        Cell::Time(Some(job.since_us)),
        description.into(),
        event.submitter().into(),
        priority.map_or(Cell::Text(None), Cell::Number),
        Cell::Flag(health_check.unwrap_or(false)),
        event.device().into(),
        event.worker().into(),
        event.device_type().into(),
        Cell::Time(job.submitted_us),
        Cell::Time(job.started_us),
        Cell::Time(job.ended_us),
        Cell::Duration(queued_us(job, now_us)),
        Cell::Duration(elapsed_us(job, now_us)),
        view.cause().into(),
        Cell::Time(Some(job.heard_us)),
        Cell::Duration((!job.finished).then(|| silent_us(job, now_us))),
    ]
}

pub(super) fn list(
    arguments: &JobListArguments,
    reader: &Reader,
    context: &Context,
    now_us: i64,
) -> Result<Said, Failure> {
    let is_wanted = |entity: &Entity| {
        let is_submitter = |submitter: &str| arguments.submitter.iter().any(|wanted| wanted == submitter);
        let event = entity.told();
        arguments.list.accepts(entity, &event)
            && (arguments.submitter.is_empty() || event.submitter().is_some_and(is_submitter))
    };
    let answer = reader.jobs(arguments.limit, is_wanted).map_err(cannot_read(reader))?;
    let jobs = &answer.value;
    let mut table = Table::new(&LIST).optional(&["sub_id", "lab"]);
    for job in jobs.open.iter().chain(&jobs.finished) {
        let event = job.told();
        let description = match event.body() {
            Body::Job(told) => told.description.as_deref(),
            _ => None,
        };
        table.push(vec![
            job.id.as_str().into(),
            job.sub_id.clone().into(),
            event.state().into(),
            event.health().into(),
            Cell::Time(Some(job.since_us)),
            event.device().into(),
            event.worker().into(),
            event.submitter().into(),
            description
                .map(|description| shorten(description, DESCRIPTION_SHOWN).into_owned())
                .into(),
            Cell::Duration(queued_us(job, now_us)),
            Cell::Duration(elapsed_us(job, now_us)),
            lab_cell(&job.lab),
        ]);
    }
    let mut said = Said::new(table.to_text(context.format.as_ref(), context.color, "show")?, &answer);
    if table.is_empty() {
        said.notice("no job is known, or none that is asked for");
    }
    if jobs.more_open {
        said.notice(format!(
            "there are more than {OPEN_JOBS_LISTED} unfinished jobs: the newest are listed"
        ));
    }
    if jobs.not_all_seen {
        said.notice(format!(
            "only the last {FINISHED_JOBS_SEEN} finished jobs were looked at"
        ));
    }
    Ok(said)
}
