//! Which events are printed.

use std::cell::Cell;

use jiff::Timestamp;
use lavabus_protocol::event::read_datetime;
use lavabus_protocol::filter::Candidate;
use lavabus_protocol::{Filter, Record};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::filter::FilterArguments;
use crate::jq::Program;

/// The filters and the times of a command line.
pub(crate) struct Selection<'a> {
    filter: &'a Filter,
    programs: Vec<Program>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// A jq program that failed on an event was told.
    is_failure_told: Cell<bool>,
}

impl Selection<'_> {
    pub(crate) fn new(
        arguments: &FilterArguments,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Selection<'_>, Failure> {
        let programs = arguments.jq.iter().map(|text| {
            Program::compile(text)
                .map_err(|error| Failure::new(Exit::Usage, format!("--jq {text:?} cannot be used"), error, "--jq ."))
        });
        Ok(Selection {
            filter: &arguments.filter,
            programs: programs.collect::<Result<_, _>>()?,
            since,
            until,
            is_failure_told: Cell::new(false),
        })
    }

    /// Whether an event is of those that are wanted, but for its end.
    pub(crate) fn wants(&self, record: &Record, context: &Context) -> bool {
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
    pub(crate) fn is_past_end(&self, record: &Record) -> bool {
        self.until
            .is_some_and(|until| sent(record).is_some_and(|sent| sent >= until))
    }
}

/// When an event was made: as its sender says, or else as its UUID does.
pub(crate) fn sent(record: &Record) -> Option<Timestamp> {
    read_datetime(&record.datetime).or_else(|| record.uuid.time())
}
