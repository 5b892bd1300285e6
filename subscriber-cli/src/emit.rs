//! `lavabus emit`: send events to a publisher.

mod console;
mod events;
mod own;
mod pace;
mod tap;

use std::path::PathBuf;
use std::time::Duration;

use lavabus_client::{EmitError, Emitter};
use lavabus_protocol::Record;
use lavabus_protocol::time::parse_duration;
use lavabus_zmtp::{Endpoint, Limits};
use tokio::time::Instant;

use self::pace::Schedule;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::Printer;
use crate::lines;

pub use self::console::ConsoleArguments;
pub use self::events::{DeviceArguments, JobArguments, MessageArguments, RawArguments, WorkerArguments};
pub use self::own::{AttemptArguments, FaultArguments, Origin, ResultArguments, StageArguments};
pub use self::pace::Pace;
pub use self::tap::TapArguments;

/// Send events to a publisher. It returns when the publisher took them.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = false, subcommand_negates_reqs = true)]
pub struct Arguments {
    /// Send the JSON lines of this file ('-': standard input); without uuid or datetime, new ones are made
    #[arg(long, value_name = "FILE", required_unless_present = "console")]
    pub from: Option<PathBuf>,

    /// With --from: how fast, such as 1x for the pace at which it was recorded (by recv_time, or else by datetime) or
    /// 10x; otherwise as fast as it is taken
    #[arg(
        long,
        value_name = "FACTOR",
        requires = "from",
        default_value = "0",
        hide_default_value = true
    )]
    pub pace: Pace,

    /// Out of a console.
    #[command(flatten)]
    pub console: ConsoleArguments,

    /// Which event.
    #[command(subcommand)]
    pub event: Option<EventCommand>,

    /// Where to and how.
    #[command(flatten)]
    pub sending: Sending,
}

/// Where to and how.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sending")]
pub struct Sending {
    /// Intake of the publisher
    #[arg(
        long,
        global = true,
        value_name = "ENDPOINT",
        default_value = "ipc:///tmp/lava.events"
    )]
    pub to: Endpoint,

    /// Topic before the kind, as EVENT_TOPIC in LAVA
    #[arg(
        long = "topic",
        global = true,
        value_name = "PREFIX",
        default_value = "org.lavasoftware"
    )]
    pub topic_prefix: String,

    /// Username of the event
    #[arg(long = "user", global = true, value_name = "NAME", default_value = "lavaserver")]
    pub username: String,

    /// Time to connect, and then for the publisher to take all
    #[arg(long = "timeout", global = true, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub within: Duration,

    /// Take states and healths that LAVA does not know
    #[arg(long, global = true)]
    pub any_value: bool,
}

/// Which event.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum EventCommand {
    /// A message, as out of a test shell
    Event(MessageArguments),
    /// A device's state and health
    Device(DeviceArguments),
    /// A job's state and health
    #[command(alias = "testjob")]
    Job(JobArguments),
    /// A worker's state and health
    Worker(WorkerArguments),
    /// One try at something on a device, ended
    Attempt(AttemptArguments),
    /// How far a service is with a request
    Stage(StageArguments),
    /// An error, to be kept with the thing that it is about
    Fault(FaultArguments),
    /// What a test case found, or how a run of them ended
    Result(ResultArguments),
    /// The tests of a TAP document, as results
    Tap(TapArguments),
    /// Events as JSON lines, in any of the forms that are read
    Raw(RawArguments),
}

impl EventCommand {
    /// The events that the arguments say; a TAP document's are sent by its own run.
    fn records(&self, sending: &Sending) -> Result<Vec<Record>, Failure> {
        let record = match self {
            EventCommand::Tap(_) => return Ok(Vec::new()),
            EventCommand::Raw(raw) => return raw.records(sending),
            EventCommand::Event(event) => event.record(sending),
            EventCommand::Device(device) => device.record(sending),
            EventCommand::Job(job) => job.record(sending),
            EventCommand::Worker(worker) => worker.record(sending),
            EventCommand::Attempt(attempt) => attempt.record(sending),
            EventCommand::Stage(stage) => stage.record(sending),
            EventCommand::Fault(fault) => fault.record(sending),
            EventCommand::Result(result) => result.record(sending),
        };
        Ok(vec![record?])
    }
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what failed, the cause, and the next thing to try.
pub async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    let sending = &arguments.sending;
    if arguments.console.console {
        return arguments.console.run(sending, context).await;
    }
    let records = match &arguments.event {
        Some(EventCommand::Tap(tap)) => return tap.run(sending, context).await,
        Some(event) => event.records(sending)?,
        None => Vec::new(),
    };
    let mut emission = Emission::connect(sending, context).await?;
    for record in &records {
        emission.send(record).await?;
    }
    if let Some(path) = &arguments.from {
        let mut lines = lines::read(path)?;
        let mut schedule = Schedule::new(arguments.pace);
        while let Some(line) = emission.next_line(&mut lines).await? {
            let read = |text| Ok((events::read_line(text, sending)?, text));
            match line.text().and_then(read) {
                Ok((record, text)) => {
                    if let Some(due) = schedule.due(text, &record) {
                        emission.idle_until(due).await?;
                    }
                    emission.send(&record).await?;
                }
                Err(error) => {
                    emission.confirm().await?;
                    let what = format!("line {} of {} is no event", line.number, lines.name());
                    return Err(Failure::new(
                        Exit::Usage,
                        what,
                        error,
                        "correct it; the lines before it were sent",
                    ));
                }
            }
        }
    }
    emission.confirm().await?;
    context.detail(format_args!("{} events sent to {}", emission.sent, sending.to));
    Ok(Exit::Success)
}

/// A connection to the intake, and what was asked of it.
struct Emission<'a> {
    emitter: Emitter,
    sending: &'a Sending,
    /// Shows what is sent, if a format was asked for.
    printer: Option<Printer>,
    sent: u64,
}

impl Emission<'_> {
    async fn connect<'a>(sending: &'a Sending, context: &Context) -> Result<Emission<'a>, Failure> {
        let printer = context
            .format
            .as_ref()
            .map(|format| Printer::new(format, context.color))
            .transpose();
        Ok(Emission {
            emitter: Emitter::connect(&sending.to, sending.within)
                .await
                .map_err(|error| failure(sending, &error))?,
            sending,
            printer: printer
                .map_err(|error| Failure::new(Exit::Usage, "the template cannot be used", error, "-o json"))?,
            sent: 0,
        })
    }

    async fn send(&mut self, record: &Record) -> Result<(), Failure> {
        let bytes: usize = record
            .envelope()
            .frames(&mut [0; 36])
            .iter()
            .map(|frame| frame.len())
            .sum();
        let most = Limits::default().message;
        if bytes > most {
            let what = format!("the event has {bytes} bytes");
            let cause = format!("a publisher takes {most} at most");
            return Err(Failure::new(Exit::Usage, what, cause, "shorter texts"));
        }
        let within = self.sending.within;
        let sent = tokio::time::timeout(within, self.emitter.send(&record.envelope())).await;
        match sent {
            Ok(sent) => sent.map_err(|error| failure(self.sending, &error))?,
            Err(_) => {
                let endpoint = self.sending.to.clone();
                return Err(failure(self.sending, &EmitError::Unconfirmed { endpoint, within }));
            }
        }
        self.sent += 1;
        match &mut self.printer {
            None => Ok(()),
            Some(printer) => {
                let mut text = Vec::new();
                let written = printer.write(record, &mut text);
                written.map_err(|error| Failure::new(Exit::Usage, "the template fails", error, "-o json"))?;
                let mut out = std::io::stdout().lock();
                std::io::Write::write_all(&mut out, &text).map_err(|error| Failure::output(&error))
            }
        }
    }

    /// The next line; the connection is kept alive meanwhile.
    async fn next_line(&mut self, lines: &mut lines::Lines) -> Result<Option<lines::Line>, Failure> {
        match lines.try_next() {
            Some(line) => line,
            None => tokio::select! {
                line = lines.next() => line,
                error = self.emitter.closed() => Err(failure(self.sending, &error)),
            },
        }
    }

    /// Waits; the connection is kept alive, and what was sent before goes out.
    async fn idle_until(&mut self, due: Instant) -> Result<(), Failure> {
        if due <= Instant::now() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep_until(due) => Ok(()),
            error = self.emitter.closed() => Err(failure(self.sending, &error)),
        }
    }

    async fn confirm(&mut self) -> Result<(), Failure> {
        let confirmed = self.emitter.confirm(self.sending.within).await;
        confirmed.map_err(|error| failure(self.sending, &error))
    }
}

fn failure(sending: &Sending, error: &EmitError) -> Failure {
    let (what, hint) = match error {
        EmitError::NoConnection(_) => (
            format!("no connection to {} within {:?}", sending.to, sending.within),
            "see that the publisher runs, or give --to ENDPOINT of its intake",
        ),
        EmitError::Lost { .. } => (
            format!("the connection to {} was lost", sending.to),
            "again: with --from and given uuids, what arrived is not taken twice",
        ),
        EmitError::Unconfirmed { .. } => (
            format!("{} has not taken all", sending.to),
            "a longer --timeout; it may have arrived all the same",
        ),
    };
    Failure::new(Exit::NoConnection, what, error, hint)
}

#[cfg(test)]
mod tests;
