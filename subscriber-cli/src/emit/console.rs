//! `lavabus emit --console`: what a test shell says on its console, as events.
//!
//! ```text
//! standard input ─▶ standard output, byte for byte
//!                └▶ signals ─▶ queue ─▶ delivery ─▶ publisher
//! ```
//!
//! The queue is bounded and nobody waits for room in it: a publisher that is away never delays the console. What was not
//! sent is counted and said at the end, with exit code 20.

mod delivery;
mod signal;

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lavabus_protocol::event::{JobId, outcome};
use lavabus_protocol::{Kind, Record};
use serde_json::{Map, Number, Value};

use self::delivery::{Delivery, Queue};
use self::signal::{Signal, Signals};
use super::Sending;
use super::events::{Message, job_id, job_value, make};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::own_data::{self, ResultData};

/// So many bytes are read at once at most.
const CHUNK: usize = 64 * 1024;

/// Of which job, run and device the console is.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConsoleArguments {
    /// Pass standard input on as it is, and send the signals of LAVA's test shell in it as events and results
    #[arg(long, conflicts_with = "from")]
    pub console: bool,
    /// With --console: the job that it is of; events without a job do without it
    #[arg(long, value_name = "ID", requires = "console", conflicts_with = "from", value_parser = job_id)]
    pub job: Option<JobId>,
    /// With --console: the run that results belong to
    #[arg(long, value_name = "ID", requires = "console", conflicts_with = "from")]
    pub run: Option<String>,
    /// With --console: the device that it is of
    #[arg(long, value_name = "NAME", requires = "console", conflicts_with = "from")]
    pub device: Option<String>,
}

/// What was seen and not sent.
#[derive(Debug, Default)]
struct Counts {
    /// The queue was full.
    no_room: AtomicU64,
    /// A test case without a name or a result that is known.
    malformed: AtomicU64,
    /// Longer than [`signal::MAX_SIGNAL`].
    too_long: AtomicU64,
}

impl ConsoleArguments {
    /// Passes everything on, until standard input ends.
    pub(super) async fn run(&self, sending: &Sending, context: &Context) -> Result<Exit, Failure> {
        // What cannot be made into an event now never can: it is said before anything is read.
        self.message("", sending)?;
        let (queue, delivery) = Delivery::begin(sending);
        let counts = Arc::new(Counts::default());
        let delivery = Arc::new(delivery);
        // Whoever ends the console with a signal has the rest sent all the same.
        let (last, at_end, to, within) = (delivery.clone(), counts.clone(), sending.to.to_string(), sending.within);
        let told = context.clone();
        context.farewell.set(Box::pin(async move {
            let unsent = last.end(within).await;
            if let Err(failure) = at_end.say(unsent, &to, &told) {
                crate::context::say(failure);
            }
        }));
        let passing = {
            let (console, sending, counts) = (self.clone(), sending.clone(), counts.clone());
            tokio::task::spawn_blocking(move || console.pass(&sending, &queue, &counts))
        };
        let passed = passing
            .await
            .unwrap_or_else(|error| Err(Failure::output(&io::Error::other(error))));
        // From here on a signal ends it at once.
        drop(context.farewell.take());
        let unsent = delivery.end(sending.within).await;
        let said = counts.say(unsent, &sending.to.to_string(), context);
        match passed {
            Ok(()) => said,
            Err(closed) if closed.is_silent() => said.and(Err(closed)),
            Err(failure) => Err(failure),
        }
    }

    /// Blocks. It ends with standard input, or when nobody reads standard output any more.
    fn pass(&self, sending: &Sending, queue: &Queue, counts: &Counts) -> Result<(), Failure> {
        let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
        let mut signals = Signals::default();
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = match input.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(read) => &chunk[..read],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let what = "cannot read standard input";
                    return Err(Failure::new(
                        Exit::Internal,
                        what,
                        error,
                        "see to the program that writes it",
                    ));
                }
            };
            let written = output.write_all(read).and_then(|()| output.flush());
            written.map_err(|error| Failure::output(&error))?;
            for signal in signals.push(read) {
                let record = match &signal {
                    Signal::TestEvent(message) => self.message(message, sending).ok(),
                    Signal::TestCase(parameters) => self.result(parameters, sending),
                };
                let missed = match record.map(|record| queue.push(record)) {
                    Some(true) => continue,
                    Some(false) => &counts.no_room,
                    None => &counts.malformed,
                };
                missed.fetch_add(1, Ordering::Relaxed);
            }
            counts.too_long.store(signals.too_long(), Ordering::Relaxed);
        }
    }

    fn message(&self, message: &str, sending: &Sending) -> Result<Record, Failure> {
        let job = self.job.as_ref().map(job_value);
        make(Kind::Event.as_str(), &Message { message, job }, sending)
    }

    /// `None`: it has no name, or a result that nobody knows.
    fn result(&self, parameters: &[(String, String)], sending: &Sending) -> Option<Record> {
        let value = |wanted: &str| {
            let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
        };
        let outcome = match value("RESULT")?.to_ascii_lowercase().as_str() {
            "pass" => outcome::PASSED,
            "fail" => outcome::FAILED,
            "skip" => outcome::INFO,
            "unknown" => outcome::NEEDS_INSPECTION,
            _ => return None,
        };
        let rest = parameters
            .iter()
            .map(|(key, value)| (key.to_ascii_lowercase(), value))
            .filter(|(key, _)| key != "test_case_id");
        let data = rest.map(|(key, value)| {
            let number = value.parse::<Number>().ok().filter(|_| key == "measurement");
            (
                key,
                number.map_or_else(|| Value::from(own_data::details(value)), Value::from),
            )
        });
        let data = ResultData {
            testcase: Some(value("TEST_CASE_ID")?),
            outcome: Some(outcome),
            run: self.run.as_deref(),
            job: self.job.as_ref().map(job_value),
            device: self.device.as_deref(),
            data: data.collect::<Map<_, _>>(),
            ..ResultData::default()
        };
        make(Kind::Result.as_str(), &data, sending).ok()
    }
}

impl Counts {
    /// Says what was not sent, if anything.
    fn say(&self, unsent: delivery::Unsent, to: &str, context: &Context) -> Result<Exit, Failure> {
        let malformed = self.malformed.load(Ordering::Relaxed);
        if malformed > 0 {
            context.notice(format_args!(
                "{malformed} test cases without TEST_CASE_ID or a known RESULT were not sent"
            ));
        }
        let too_long = self.too_long.load(Ordering::Relaxed);
        if too_long > 0 {
            let most = signal::MAX_SIGNAL;
            context.notice(format_args!(
                "{too_long} signals longer than {most} bytes were not sent"
            ));
        }
        let no_room = self.no_room.load(Ordering::Relaxed);
        match unsent.waiting + no_room {
            0 => Ok(Exit::Success),
            missing => Err(Failure::new(
                Exit::NoConnection,
                format!("{missing} of {} events were not sent to {to}", missing + unsent.sent),
                unsent
                    .cause
                    .unwrap_or_else(|| "the publisher took them too slowly".to_owned()),
                "see that the publisher runs, or give --to ENDPOINT of its intake",
            )),
        }
    }
}

#[cfg(test)]
mod tests;
