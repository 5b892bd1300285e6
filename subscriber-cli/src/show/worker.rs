//! Workers.

use lavabus_store::Reader;
use lavabus_store::question::entities::WorkerView;
use lavabus_store::question::history::one_line;

use super::{ListArguments, OneArguments, in_full, is_stale, may_be_otherwise, name_of, silence, silent_us};
use crate::context::Context;
use crate::failure::Failure;
use crate::question::{Said, cannot_read, lab_cell, not_known};
use crate::table::{Cell, Table};

pub(super) const ONE: [&str; 12] = [
    "worker",
    "lab",
    "state",
    "health",
    "since",
    "devices",
    "device_names",
    "fault",
    "fault_first",
    "heard",
    "silent",
    "stale",
];

const LIST: [&str; 8] = [
    "worker", "state", "health", "since", "devices", "comment", "updated", "lab",
];

pub(super) fn one(arguments: &OneArguments, reader: &Reader, context: &Context, now_us: i64) -> Result<Said, Failure> {
    let name = name_of(arguments, "worker/");
    let answer = reader
        .worker(name, arguments.lab.as_deref())
        .map_err(cannot_read(reader))?;
    if answer.value.is_empty() {
        return Err(not_known(
            reader,
            "worker",
            name,
            "`lavabus show workers` lists those that are",
        ));
    }
    let mut said = in_full(&ONE, &answer, |view| row(view, now_us), context)?;
    if answer.value.iter().any(|view| is_stale(&view.entity, now_us)) {
        said.notice(may_be_otherwise(name));
    }
    Ok(said)
}

fn row(view: &WorkerView, now_us: i64) -> Vec<Cell> {
    let (entity, event) = (&view.entity, view.entity.told());
    let fault = view.fault.as_ref();
    vec![
        entity.id.as_str().into(),
        lab_cell(&entity.lab),
        event.state().into(),
        event.health().into(),
        Cell::Time(Some(entity.since_us)),
        count(&view.devices),
        Some(view.devices.join(" ")).into(),
        fault.map(|fault| one_line(&fault.message)).into(),
        Cell::Time(fault.map(|fault| fault.first_us)),
        Cell::Time(Some(entity.heard_us)),
        Cell::Duration(Some(silent_us(entity, now_us))),
        Cell::Flag(is_stale(entity, now_us)),
    ]
}

fn count(devices: &[String]) -> Cell {
    Cell::Number(i64::try_from(devices.len()).unwrap_or(i64::MAX))
}

pub(super) fn list(
    arguments: &ListArguments,
    reader: &Reader,
    context: &Context,
    now_us: i64,
) -> Result<Said, Failure> {
    let answer = reader
        .workers(|entity| arguments.accepts(entity, &entity.told()))
        .map_err(cannot_read(reader))?;
    let mut table = Table::new(&LIST).optional(&["lab"]);
    for view in &answer.value {
        let (entity, event) = (&view.entity, view.entity.told());
        let fault = view.fault.as_ref().map(|fault| one_line(&fault.message));
        table.push(vec![
            entity.id.as_str().into(),
            event.state().into(),
            event.health().into(),
            Cell::Time(Some(entity.since_us)),
            count(&view.devices),
            fault.or_else(|| silence(entity, now_us)).into(),
            Cell::Time(Some(entity.heard_us)),
            lab_cell(&entity.lab),
        ]);
    }
    let mut said = Said::new(table.to_text(context.format.as_ref(), context.color, "show")?, &answer);
    if table.is_empty() {
        said.notice("no worker is known, or none that is asked for");
    }
    Ok(said)
}
