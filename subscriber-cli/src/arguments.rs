//! The command line.

use std::time::Duration;

use clap::{Parser, Subcommand};
use lavabus_protocol::time::parse_duration;

use crate::bus::Bus;
use crate::context::{Color, Context};
use crate::exit;
use crate::format::Format;
use crate::sources::IdentityArguments;
use crate::{
    bench, completions, db, doctor, emit, listen, mock, query, record, rejected, stats, status, submit, timeline, wait,
};
use crate::{faults, history, results, show, stuck};

/// The whole command line.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "lavabus",
    version,
    about = "Listen to, emit and play the events of hardware test labs",
    after_help = exit::help(),
    max_term_width = 120,
    infer_subcommands = false,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Arguments {
    /// Arguments that all commands share.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Arguments that all commands share. They may stand before or after the command.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Where events come from: tcp://HOST:PORT, ipc:///PATH, a publisher's http(s)://HOST:8001, or LAVA's ws(s)://HOST;
    /// repeatable, each may have a name: NAME=ADDRESS. Otherwise that of the identity's server, or tcp://127.0.0.1:5500
    #[arg(
        long,
        global = true,
        env = "LAVABUS_BUS",
        value_name = "ADDRESS",
        value_delimiter = ','
    )]
    pub bus: Vec<Bus>,

    /// Which LAVA server, and who we are there.
    #[command(flatten)]
    pub identity: IdentityArguments,

    /// How events are written: plain, json (or jsonl), raw, csv, or template='{{ job }} {{ state }}'
    #[arg(short = 'o', long = "output", global = true, value_name = "FORMAT")]
    pub format: Option<Format>,

    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    pub color: Color,

    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say more; twice: everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl Global {
    pub(crate) fn context(self) -> Context {
        let default = Context::default();
        Context {
            farewell: default.farewell,
            is_bus_named: !self.bus.is_empty(),
            buses: if self.bus.is_empty() { default.buses } else { self.bus },
            identity: self.identity,
            format: self.format,
            color: self.color.on_stdout(),
            quiet: self.quiet,
            verbose: self.verbose,
        }
    }
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // There is one a process.
pub enum Command {
    /// Print events as they come
    Listen(listen::Arguments),
    /// Wait for a job, a device, a worker or an event; the exit code says what came of it
    Wait(wait::Arguments),
    /// Submit jobs to LAVA, and wait for them if asked to
    Submit(submit::Arguments),
    /// Submit jobs and follow them to their end
    Run(submit::RunArguments),
    /// Keep events in a database of one's own, and go on where it stopped
    Record(record::Arguments),
    /// Send events to a publisher
    Emit(emit::Arguments),
    /// Play a lab: made-up events, sent to a publisher
    Mock(mock::Arguments),
    /// Run a publisher with a made-up lab, to look at
    Demo(DemoArguments),
    /// Measure a publisher
    Bench(bench::Arguments),
    /// Look at what works from here, and what to try where something does not
    Doctor(doctor::Arguments),
    /// Show how devices, workers and jobs are
    Show(show::Arguments),
    /// Show what was tried on a device, and what follows from it
    History(history::Arguments),
    /// Show what is wrong with what
    Faults(faults::Arguments),
    /// Show what test cases found
    Results(results::Arguments),
    /// Show what has been in one state for too long
    Stuck(stuck::Arguments),
    /// Show how a publisher and its journal are
    Status(status::Arguments),
    /// Show the messages that the publisher refused
    Rejected(rejected::Arguments),
    /// Look after a database of events
    Db(db::Arguments),
    /// Print events that a database keeps
    Query(query::Arguments),
    /// Show what happened to a job, a device, a request …, in order, and what came of it
    Timeline(timeline::Arguments),
    /// Show how much, how well and how fast: events, jobs and services of the last 24 hours
    Stats(stats::Arguments),
    /// Write the completion script for a shell
    Completions(completions::Arguments),
    /// Write the manual page
    Man,
}

/// Arguments of `lavabus demo`, which the program itself runs: it needs the publisher too.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct DemoArguments {
    /// End after this time, such as 90s; otherwise on SIGINT
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// Devices in the lab
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub devices: u16,

    /// Events a second
    #[arg(long, value_name = "EVENTS", default_value_t = 10.0, value_parser = rate)]
    pub rate: f64,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("expected a number above 0, such as 0.5 or 100".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_hold_together() {
        Arguments::command().debug_assert();
    }
}
