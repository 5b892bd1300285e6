//! `lavabus bench`: what a running publisher does, measured as its users see it.
//!
//! One producer, some subscribers, all in this process: over the wire as anybody else, so the figures hold for the
//! publisher *and* this tool on the same machine. First every subscriber must have seen an event of ours, which proves
//! that its subscription is live; then the run begins.
//!
//! Each run has topics of its own, so it counts nothing of others. Others see its events only if they subscribe to
//! everything; a publisher with a journal keeps them like any event.
//!
//! | ends with | when |
//! |---|---|
//! | 0 | every subscriber received everything |
//! | 22 | something was lost |
//! | 20 | no connection, or nothing of ours came back |
//! | 2 | an endpoint on another machine without `--yes-really` |

mod count;
mod message;
mod receiver;
mod report;
mod sender;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use lavabus_protocol::time::parse_duration;
use lavabus_zmtp::{ConnectError, ConnectOptions, ConnectionError, Endpoint, PushConnection, SubConnection};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::count::Count;
use self::message::{LEAST_SIZE, MOST_EVENTS, READY, Topics};
use self::receiver::{Outcome, Shared};
use self::report::{Latency, Report};
use self::sender::Load;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::mock::{local_only, no_intake, parse_rate};
use crate::status::{as_json, print};

/// One connection may take so long.
const CONNECT: Duration = Duration::from_secs(5);
/// Between two attempts to be seen by every subscriber.
const AGAIN: Duration = Duration::from_millis(50);
/// How long repetitions may trail behind the last event.
const LINGER: Duration = Duration::from_millis(200);

/// Measure a running publisher: throughput, latency, loss
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The intake; subscribers connect to the first --bus
    #[arg(long, value_name = "ENDPOINT", default_value = "ipc:///tmp/lava.events")]
    pub to: Endpoint,

    /// Events to send
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=MOST_EVENTS))]
    pub events: u64,

    /// Events a second; otherwise as many as are taken
    #[arg(long, value_name = "EVENTS", value_parser = parse_rate)]
    pub rate: Option<f64>,

    /// Subscribers
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub subscribers: u16,

    /// Each subscriber gets a part of the events, not all
    #[arg(long)]
    pub narrow: bool,

    /// Bytes of data of one event
    #[arg(long, value_name = "BYTES", default_value_t = 300, value_parser = clap::value_parser!(u32).range(LEAST_SIZE as i64..=65_536))]
    pub size: u32,

    /// What has not come after so long without any progress is lost
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub patience: Duration,

    /// Measure on another machine, whose users may see the events
    #[arg(long)]
    pub yes_really: bool,
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what failed, the cause, and the next thing to try.
pub async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    let as_json = as_json(context, "bench")?;
    let Some(bus) = context.buses.first() else {
        return Err(Failure::new(
            Exit::Usage,
            "there is no bus",
            "none is given",
            "--bus ENDPOINT",
        ));
    };
    local_only(&arguments.to, arguments.yes_really)?;
    let Some(endpoint) = bus.endpoint() else {
        return Err(Failure::new(
            Exit::Usage,
            format!("{bus} cannot be measured"),
            "it is a publisher's HTTP port; what is measured is ZeroMQ",
            "--bus tcp://HOST:PORT or ipc:///PATH",
        ));
    };
    local_only(endpoint, arguments.yes_really)?;

    let report = Box::pin(measure(&arguments, endpoint, context)).await?;
    print(&if as_json {
        report.to_json_line()
    } else {
        report.to_string()
    })?;
    Ok(if report.lost == 0 { Exit::Success } else { Exit::Gap })
}

async fn measure(arguments: &Arguments, bus: &Endpoint, context: &Context) -> Result<Report, Failure> {
    let subscribers = usize::from(arguments.subscribers);
    let topics = Topics::new(rand::random(), arguments.narrow);
    context.notice(format_args!(
        "topics of this run: {}*; only who subscribes to everything sees them too",
        topics.prefix()
    ));
    let load = Load {
        events: arguments.events,
        rate: arguments.rate,
        size: arguments.size as usize,
        topics: topics.topics(subscribers),
    };
    let shared = Arc::new(Shared {
        began: Instant::now(),
        ready: AtomicU64::new(0),
        delivered: AtomicU64::new(0),
        progress: Notify::new(),
        latency: Mutex::new(
            Histogram::new_with_bounds(1, 600_000_000, 3).expect("the least is 1, and the most is more than that"),
        ),
        stop: CancellationToken::new(),
    });

    let mut producer = PushConnection::connect(&arguments.to, &ConnectOptions::default(), CONNECT)
        .await
        .map_err(|error| no_intake(&error))?;
    let mut receivers = JoinSet::new();
    for subscriber in 0..subscribers {
        let connection = subscribe(bus, &topics.subscription(subscriber)).await?;
        let (first, step) = if arguments.narrow {
            (subscriber as u64, subscribers as u64)
        } else {
            (0, 1)
        };
        let count = Count::new(load.events, first, step);
        receivers.spawn(receiver::receive(subscriber, connection, count, Arc::clone(&shared)));
    }
    wait_until_ready(&mut producer, &load, &shared, subscribers as u64, arguments).await?;

    let sending = {
        let (load, began, patience) = (load.clone(), shared.began, arguments.patience);
        tokio::spawn(async move { sender::send(&mut producer, &load, began, patience).await })
    };
    let copies = if arguments.narrow { 1 } else { subscribers as u64 };
    wait_until_delivered(&shared, load.events * copies, arguments).await;
    shared.stop.cancel();
    let sent = match tokio::time::timeout(arguments.patience, sending).await {
        Ok(sent) => sent.map_err(|error| Failure::new(Exit::Internal, "cannot send", error, "again"))?,
        Err(_) => Err(ConnectionError::Stalled),
    };
    let first = sent.map_err(|error| lost_intake(&error))?;
    let mut outcomes: Vec<Outcome> = receivers.join_all().await;
    outcomes.sort_by_key(|outcome| outcome.subscriber);

    for error in outcomes.iter().filter_map(|outcome| outcome.ended.as_ref()) {
        context.notice(format_args!("a subscriber's connection ended: {error}"));
    }
    let last = outcomes.iter().map(|outcome| outcome.last).max().unwrap_or_default();
    let counts: Vec<Count> = outcomes.into_iter().map(|outcome| outcome.count).collect();
    let mut report = Report {
        topic: topics.prefix().to_owned(),
        sent: load.events,
        size: load.size,
        rate: load.rate,
        subscribers,
        narrow: arguments.narrow,
        received: Vec::new(),
        lost: 0,
        repeated: 0,
        out_of_order: 0,
        seconds: 0.0,
        events_per_second: 0.0,
        deliveries_per_second: 0.0,
        latency_us: Latency::of(&shared.latency.lock().unwrap_or_else(PoisonError::into_inner)),
    };
    report.count(&counts, last.saturating_sub(first));
    Ok(report)
}

async fn subscribe(bus: &Endpoint, prefix: &str) -> Result<SubConnection, Failure> {
    let no_bus = |error: ConnectError| {
        Failure::new(
            Exit::NoConnection,
            "no connection to the bus",
            error,
            "start lava-publisher, or name it with --bus",
        )
    };
    let mut connection = SubConnection::connect(bus, &ConnectOptions::default(), CONNECT)
        .await
        .map_err(no_bus)?;
    connection
        .subscribe(prefix.as_bytes())
        .await
        .map_err(|error| lost_bus(&error))?;
    Ok(connection)
}

/// Nothing tells a subscriber that its subscription is live, but an event that comes.
async fn wait_until_ready(
    producer: &mut PushConnection,
    load: &Load,
    shared: &Shared,
    subscribers: u64,
    arguments: &Arguments,
) -> Result<(), Failure> {
    let deadline = tokio::time::Instant::now() + arguments.patience;
    while shared.ready.load(Ordering::Relaxed) < subscribers {
        if tokio::time::Instant::now() >= deadline {
            let seen = shared.ready.load(Ordering::Relaxed);
            return Err(Failure::new(
                Exit::NoConnection,
                format!("{} of {subscribers} subscribers received nothing", subscribers - seen),
                "no event came from the intake to the bus in time",
                "--to and --bus of the same publisher, or a longer --patience",
            ));
        }
        sender::send_ready(producer, &load.topics, READY)
            .await
            .map_err(|error| lost_intake(&error))?;
        tokio::select! {
            () = reaches(&shared.ready, subscribers, shared) => {}
            () = tokio::time::sleep(AGAIN) => {}
            error = producer.closed() => return Err(lost_intake(&error)),
        }
    }
    Ok(())
}

/// Returns when all has been delivered, and a little later what may be there twice; or when nothing comes any more.
async fn wait_until_delivered(shared: &Shared, deliveries: u64, arguments: &Arguments) {
    // At a low rate nothing may come for long.
    let between = arguments.rate.map_or(0.0, |rate| 2.0 / rate);
    let patience = arguments
        .patience
        .saturating_add(Duration::try_from_secs_f64(between).unwrap_or(Duration::MAX));
    loop {
        let before = shared.delivered.load(Ordering::Relaxed);
        match tokio::time::timeout(patience, reaches(&shared.delivered, deliveries, shared)).await {
            Ok(()) => return tokio::time::sleep(LINGER).await,
            Err(_) if shared.delivered.load(Ordering::Relaxed) == before => return,
            Err(_) => {}
        }
    }
}

async fn reaches(counter: &AtomicU64, goal: u64, shared: &Shared) {
    while counter.load(Ordering::Relaxed) < goal {
        shared.progress.notified().await;
    }
}

fn lost_intake(error: &ConnectionError) -> Failure {
    Failure::new(
        Exit::NoConnection,
        "the connection to the intake ended",
        error,
        "see to the publisher: `lavabus status`",
    )
}

fn lost_bus(error: &ConnectionError) -> Failure {
    Failure::new(
        Exit::NoConnection,
        "the connection to the bus ended",
        error,
        "see to the publisher: `lavabus status`",
    )
}

#[cfg(test)]
mod tests;
