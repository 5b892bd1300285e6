//! `lavabus mock`: play a lab.
//!
//! [`Lab`] decides what happens and when, without I/O; [`play()`] sends it. Ends with 0 when `--count` or `--for` is
//! reached, with 20 when there is no publisher, with 2 for an endpoint on another machine without `--yes-really`.

mod clock;
mod data;
mod lab;
mod local_only;
mod play;
mod producer;

pub use clock::Profile;
pub use lab::{Lab, LabEvent, LabOptions};
pub(crate) use local_only::local_only;
pub use play::{Limit, Outlet, PlayError, Progress, play};
pub use producer::Producer;

use std::str::FromStr;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use lavabus_protocol::time::parse_duration;
use lavabus_zmtp::{ConnectError, Endpoint, EndpointError};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::Format;

/// Play a lab: made-up workers, devices and jobs, sent to a publisher's intake as a LAVA server sends them
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Devices in the lab
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    pub devices: u16,

    /// Workers in the lab
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub workers: u16,

    /// Events a second, in the mean
    #[arg(long, value_name = "EVENTS", default_value_t = 10.0, value_parser = parse_rate)]
    pub rate: f64,

    /// How the rate goes with time
    #[arg(long, value_enum, default_value_t, value_name = "PROFILE")]
    pub profile: Profile,

    /// The same seed gives the same lab, at other times: with the same --start the very same events
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// The time at which the lab begins, RFC 3339; otherwise now
    #[arg(long, value_name = "TIME")]
    pub start: Option<Timestamp>,

    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// End after so much of the lab's time, such as 90s
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// Do not wait until an event is due: a day in a second
    #[arg(long)]
    pub no_wait: bool,

    /// The intake, or - for JSON lines on standard output
    #[arg(long, value_name = "ENDPOINT", default_value = "ipc:///tmp/lava.events")]
    pub to: Target,

    /// What topics begin with
    #[arg(long, value_name = "PREFIX", default_value = "org.lavasoftware", value_parser = parse_topic)]
    pub topic: String,

    /// How long to try to connect, at first and when the connection is lost
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub connect_timeout: Duration,

    /// Send made-up events to another machine
    #[arg(long)]
    pub yes_really: bool,
}

/// Where `lavabus mock` sends to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A publisher's intake.
    Intake(Endpoint),
    /// Standard output, one JSON object a line.
    Stdout,
}

impl FromStr for Target {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Target, EndpointError> {
        match text {
            "-" => Ok(Target::Stdout),
            _ => Ok(Target::Intake(text.parse()?)),
        }
    }
}

/// Events a second.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("expected a number above 0, such as 0.5 or 100".to_owned()),
    }
}

/// The kind is added, and a topic must not begin with `@`: those are options.
fn parse_topic(text: &str) -> Result<String, String> {
    let fits = !text.starts_with('@') && text.len() < lavabus_protocol::envelope::MAX_TOPIC - ".testjob".len();
    match fits && !text.chars().any(char::is_control) {
        true => Ok(text.to_owned()),
        false => {
            Err("expected a prefix such as org.example.lab, at most 1,000 bytes, not beginning with '@'".to_owned())
        }
    }
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what failed, the cause, and the next thing to try.
pub async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    let mut outlet = match &arguments.to {
        Target::Stdout => {
            only_json(context)?;
            Outlet::Lines
        }
        Target::Intake(endpoint) => {
            local_only(endpoint, arguments.yes_really)?;
            let producer = Producer::connect(endpoint.clone(), arguments.connect_timeout).await;
            Outlet::Producer(Box::new(producer.map_err(|error| no_intake(&error))?))
        }
    };
    let start = arguments.start.unwrap_or_else(Timestamp::now);
    let seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let until = arguments.duration.map(|duration| {
        let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        start.checked_add(duration).unwrap_or(Timestamp::MAX)
    });
    context.detail(format_args!("seed {seed}, start {start}"));
    let lab = Lab::new(LabOptions {
        seed,
        devices: arguments.devices,
        workers: arguments.workers,
        topic: arguments.topic,
        start,
        rate: arguments.rate,
        profile: arguments.profile,
    });
    let limit = Limit {
        count: arguments.count,
        until,
    };
    let mut tally = Tally::new(context, seed);
    let played = play(lab, start, !arguments.no_wait, limit, &mut outlet, |progress| {
        tally.progress = progress
    })
    .await;
    match played {
        Ok(()) => Ok(Exit::Success),
        Err(PlayError::Connect(error)) => Err(no_intake(&error)),
        Err(PlayError::Output(failure)) => {
            tally.silent = failure.is_silent();
            Err(failure)
        }
        Err(PlayError::Unconfirmed(error)) => Err(Failure::new(
            Exit::NoConnection,
            "the publisher has not confirmed the last events",
            error,
            "see to the publisher: `lavabus status`",
        )),
    }
}

fn only_json(context: &Context) -> Result<(), Failure> {
    match context.format {
        None | Some(Format::Json) => Ok(()),
        _ => Err(Failure::new(
            Exit::Usage,
            "`lavabus mock --to -` writes JSON lines only",
            "another format was asked for",
            "`lavabus mock --to - | lavabus listen --from - -o FORMAT`",
        )),
    }
}

pub(crate) fn no_intake(error: &ConnectError) -> Failure {
    Failure::new(
        Exit::NoConnection,
        "no connection to the intake",
        error,
        "start lava-publisher, or name its intake with --to",
    )
}

/// Says at the end what was sent, also when a signal ends it.
struct Tally<'a> {
    context: &'a Context,
    began: Instant,
    seed: u64,
    progress: Progress,
    silent: bool,
}

impl Tally<'_> {
    fn new(context: &Context, seed: u64) -> Tally<'_> {
        let progress = Progress {
            sent: 0,
            late: Duration::ZERO,
            reconnects: 0,
        };
        Tally {
            context,
            began: Instant::now(),
            seed,
            progress,
            silent: false,
        }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        if self.silent {
            return;
        }
        let Progress { sent, late, reconnects } = self.progress;
        let seconds = self.began.elapsed().as_secs_f64();
        let rate = sent as f64 / seconds.max(1e-6);
        self.context.notice(format_args!(
            "sent {sent} events in {seconds:.1} s, {rate:.1} events/s (seed {})",
            self.seed
        ));
        if late > Duration::from_secs(1) {
            let late = late.as_secs_f64();
            self.context
                .notice(format_args!("could not keep up: the last event was {late:.1} s late"));
        }
        if reconnects > 0 {
            self.context.notice(format_args!(
                "the connection was lost {reconnects} times: events may be missing in the publisher"
            ));
        }
    }
}

#[cfg(test)]
mod tests;
