//! Which events are printed.

use std::cell::Cell;

use jiff::Timestamp;
use lavabus_protocol::event::read_datetime;
use lavabus_protocol::filter::Candidate;
use lavabus_protocol::{Filter, Record};

use super::Arguments;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::jq::Program;

/// The filters and the times of a command line.
pub(super) struct Selection<'a> {
    filter: &'a Filter,
    programs: Vec<Program>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// A jq program that failed on an event was told.
    is_failure_told: Cell<bool>,
}

impl Selection<'_> {
    pub(super) fn new<'a>(arguments: &'a Arguments, _context: &Context) -> Result<Selection<'a>, Failure> {
        let programs = arguments.filter.jq.iter().map(|text| {
            Program::compile(text)
                .map_err(|error| Failure::new(Exit::Usage, format!("--jq {text:?} cannot be used"), error, "--jq ."))
        });
        Ok(Selection {
            filter: &arguments.filter.filter,
            programs: programs.collect::<Result<_, _>>()?,
            since: arguments.since,
            until: arguments.until,
            is_failure_told: Cell::new(false),
        })
    }

    /// Whether an event is of those that are wanted, but for its end.
    pub(super) fn wants(&self, record: &Record, context: &Context) -> bool {
        if let (Some(since), Some(sent)) = (self.since, sent(record))
            && sent < since
        {
            return false;
        }
        self.filter.matches(&Candidate::from(record))
            && self.programs.iter().all(|program| self.keeps(program, record, context))
    }

    fn keeps(&self, program: &Program, record: &Record, context: &Context) -> bool {
        program.keeps(record).unwrap_or_else(|error| {
            if !self.is_failure_told.replace(true) {
                context.notice(format_args!(
                    "--jq fails on event {}, which is passed over (said once): {error}",
                    record.uuid
                ));
            }
            false
        })
    }

    /// Whether an event is of `--until` or later.
    pub(super) fn is_past_end(&self, record: &Record) -> bool {
        self.until
            .is_some_and(|until| sent(record).is_some_and(|sent| sent >= until))
    }
}

/// When an event was made: as its sender says, or else as its UUID does.
pub(super) fn sent(record: &Record) -> Option<Timestamp> {
    read_datetime(&record.datetime).or_else(|| record.uuid.time())
}
