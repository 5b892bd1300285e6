//! Devices.

use lavabus_protocol::Event;
use lavabus_protocol::event::shorten;
use lavabus_store::Reader;
use lavabus_store::question::entities::{DeviceView, is_busy};
use lavabus_store::question::history::one_line;

use super::{ListArguments, OneArguments, in_full, is_stale, may_be_otherwise, name_of, silence, silent_us};
use crate::context::Context;
use crate::failure::Failure;
use crate::question::{Said, cannot_read, lab_cell, not_known};
use crate::table::{Cell, Table};

pub(super) const ONE: [&str; 20] = [
    "device",
    "lab",
    "state",
    "health",
    "since",
    "job",
    "last_job",
    "device_type",
    "worker",
    "streak",
    "success_rate",
    "last_failure",
    "fault",
    "fault_first",
    "fault_last",
    "fault_count",
    "fault_origin",
    "heard",
    "silent",
    "stale",
];

const LIST: [&str; 11] = [
    "device", "type", "worker", "state", "health", "since", "streak", "job", "comment", "updated", "lab",
];

/// A comment is shown up to so many characters.
const COMMENT_SHOWN: usize = 60;

/// The job that it is busy with, and the one that it names although it is idle.
fn jobs(event: &Event) -> (Option<String>, Option<String>) {
    let named = event.job().map(ToString::to_string);
    match is_busy(event) {
        true => (named, None),
        false => (None, named),
    }
}

pub(super) fn one(arguments: &OneArguments, reader: &Reader, context: &Context, now_us: i64) -> Result<Said, Failure> {
    let name = name_of(arguments, "device/");
    let answer = reader
        .device(name, arguments.lab.as_deref(), now_us)
        .map_err(cannot_read(reader))?;
    if answer.value.is_empty() {
        return Err(not_known(
            reader,
            "device",
            name,
            "`lavabus show devices` lists those that are",
        ));
    }
    let mut said = in_full(&ONE, &answer, |view| row(view, now_us), context)?;
    if answer.value.iter().any(|view| is_stale(&view.entity, now_us)) {
        said.notice(may_be_otherwise(name));
    }
    Ok(said)
}

fn row(view: &DeviceView, now_us: i64) -> Vec<Cell> {
    let (entity, event) = (&view.entity, view.entity.told());
    let (job, last_job) = jobs(&event);
    let fault = view.fault.as_ref();
    vec![
        entity.id.as_str().into(),
        lab_cell(&entity.lab),
        event.state().into(),
        event.health().into(),
        Cell::Time(entity.is_told().then_some(entity.since_us)),
        job.into(),
        last_job.into(),
        event.device_type().into(),
        event.worker().into(),
        Cell::Streak(view.streak),
        Cell::Share(view.rate.share()),
        view.cause.clone().into(),
        fault.map(|fault| one_line(&fault.message)).into(),
        Cell::Time(fault.map(|fault| fault.first_us)),
        Cell::Time(fault.map(|fault| fault.last_us)),
        fault.map_or(Cell::Text(None), |fault| Cell::Number(fault.count.cast_signed())),
        fault.and_then(|fault| fault.origin.as_deref()).into(),
        Cell::Time(Some(entity.heard_us)),
        Cell::Duration(Some(silent_us(entity, now_us))),
        Cell::Flag(is_stale(entity, now_us)),
    ]
}

pub(super) fn list(
    arguments: &ListArguments,
    reader: &Reader,
    context: &Context,
    now_us: i64,
) -> Result<Said, Failure> {
    let answer = reader
        .devices(now_us, |entity| arguments.accepts(entity, &entity.told()))
        .map_err(cannot_read(reader))?;
    let mut table = Table::new(&LIST).optional(&["lab"]);
    for view in &answer.value {
        let (entity, event) = (&view.entity, view.entity.told());
        let fault = view.fault.as_ref().map(|fault| one_line(&fault.message));
        let comment = fault.or_else(|| silence(entity, now_us)).or_else(|| view.cause.clone());
        table.push(vec![
            entity.id.as_str().into(),
            event.device_type().into(),
            event.worker().into(),
            event.state().into(),
            event.health().into(),
            Cell::Time(entity.is_told().then_some(entity.since_us)),
            Cell::Streak(view.streak),
            jobs(&event).0.into(),
            comment
                .map(|comment| shorten(&comment, COMMENT_SHOWN).into_owned())
                .into(),
            Cell::Time(Some(entity.heard_us)),
            lab_cell(&entity.lab),
        ]);
    }
    let mut said = Said::new(table.to_text(context.format.as_ref(), context.color, "show")?, &answer);
    if table.is_empty() {
        said.notice("no device is known, or none that is asked for");
    }
    Ok(said)
}
