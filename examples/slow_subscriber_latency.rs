//! How long events are under way to ten subscribers, with and without an eleventh that reads nothing.
//!
//! ```text
//! cargo run --release --example slow_subscriber_latency [SECONDS A RUN, default 10]
//! ```
//!
//! A publisher with a journal, 5,000 events a second from a libzmq PUSH, ten libzmq SUBs; five runs of each kind in
//! turn. Printed is the 99th percentile over all deliveries of a run, and of each kind the median of its runs. It ends
//! with 1 if the stalled subscriber costs the others more than the larger of half as much again and 1 ms.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use lava_publisher::{Config, Publisher};
use lavabus_zmtp::Endpoint;
use libzmq_peer::{Kind, Socket, SocketOption};
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn Error + Send + Sync>;

const RUNS: usize = 5;
const SUBSCRIBERS: usize = 10;
const RATE: u64 = 5_000;
const PUSH_INTERVAL: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(30);
/// Asks for an object that nobody has heard of; the answer shows that the subscriptions are in force.
const IN_FORCE: &[u8] = b"@snapshot:worker/none";
/// Deliveries of the first moments are not counted.
const WARM_UP: u64 = RATE / 2;

fn main() -> ExitCode {
    match compare() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("slow_subscriber_latency: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> Result<ExitCode, Failure> {
    let seconds: u64 = std::env::args().nth(1).map_or(Ok(10), |text| text.parse())?;
    let runtime = tokio::runtime::Runtime::new()?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    println!("run  p99 without a stalled subscriber  with one");
    for run in 1..=RUNS {
        without.push(runtime.block_on(measure(seconds, false))?);
        with.push(runtime.block_on(measure(seconds, true))?);
        println!("{run:>3}  {:>32.2?}  {:>8.2?}", without[run - 1], with[run - 1]);
    }
    let (without, with) = (median(&mut without), median(&mut with));
    let limit = (without * 3 / 2).max(without + Duration::from_millis(1));
    println!("median {without:>30.2?}  {with:>8.2?}  allowed {limit:.2?}");
    Ok(if with <= limit {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// One run; returns the 99th percentile.
async fn measure(seconds: u64, stalled: bool) -> Result<Duration, Failure> {
    let folder = tempfile::tempdir()?;
    let tcp: Endpoint = "tcp://127.0.0.1:0".parse()?;
    let config = Config::new(vec![tcp.clone()], vec![tcp]).with_journal(folder.path().join("events.db"));
    let publisher = Publisher::bind(config).await?;
    let endpoints = publisher.endpoints();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(publisher.run(shutdown.clone()));
    let (intake, publish) = (endpoints.intake[0].to_string(), endpoints.publish[0].to_string());
    let p99 = tokio::task::spawn_blocking(move || deliver(&intake, &publish, seconds, stalled)).await??;
    shutdown.cancel();
    running.await??;
    Ok(p99)
}

/// Pushes, receives, and returns the 99th percentile of the times between.
fn deliver(intake: &str, publish: &str, seconds: u64, stalled: bool) -> Result<Duration, Failure> {
    let begin = Instant::now();
    let count = seconds * RATE;
    let events: Arc<Vec<[String; 5]>> = Arc::new((0..count).map(event).collect());
    // It is connected and subscribes, and nobody ever calls its recv.
    let _stalled = stalled.then(|| subscriber(publish, 1_000)).transpose()?;
    let readers = (0..SUBSCRIBERS)
        .map(|_| {
            let sub = subscriber(publish, 0)?;
            Ok(thread::spawn(move || receive(&sub, count, begin)))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let push = Socket::new(Kind::Push)?;
    push.connect(intake)?;
    let start = begin.elapsed();
    let mut pushed = 0;
    while pushed < count {
        let due = (begin.elapsed() - start).as_micros() as u64 * RATE / 1_000_000 + 1;
        for event in &events[pushed as usize..due.min(count) as usize] {
            let [topic, uuid, sent, _, data] = event;
            // The fourth frame may be any text: here, when the event was pushed.
            push.send(&[topic, uuid, sent, &begin.elapsed().as_nanos().to_string(), data])?;
        }
        pushed = due.min(count);
        thread::sleep(PUSH_INTERVAL);
    }
    let mut times = Vec::new();
    for reader in readers {
        times.extend(reader.join().map_err(|_| "a reader panicked")??);
    }
    times.sort_unstable();
    Ok(Duration::from_nanos(times[times.len() * 99 / 100]))
}

fn event(number: u64) -> [String; 5] {
    let time = uuid::Timestamp::from_unix_time(
        1_795_237_265 + number / 1_000_000,
        (number % 1_000_000) as u32 * 1_000,
        0,
        14,
    );
    [
        "org.example.lab.event".into(),
        uuid::Uuid::new_v1(time, &[2, 0xfc, 0, 0, 0, 1]).to_string(),
        "2026-11-21T05:01:05.217961+00:00".into(),
        String::new(),
        format!(r#"{{"message": "step {number} of a test shell, with the usual length of text", "job": 1995}}"#),
    ]
}

/// A libzmq SUB whose subscriptions are in force.
fn subscriber(publish: &str, high_water_mark: i32) -> Result<Socket, Failure> {
    let sub = Socket::new(Kind::Sub)?;
    sub.set(SocketOption::RcvHwm, high_water_mark)?;
    sub.subscribe(b"org")?;
    sub.subscribe(IN_FORCE)?;
    sub.connect(publish)?;
    for _ in ["begin", "end"] {
        sub.recv_timeout(LONG)?;
    }
    Ok(sub)
}

/// How long each event was under way, in nanoseconds.
fn receive(sub: &Socket, count: u64, begin: Instant) -> Result<Vec<u64>, Failure> {
    let mut times = Vec::new();
    for number in 0..count {
        let frames = sub.recv_timeout(LONG)?;
        let now = begin.elapsed().as_nanos() as u64;
        if number >= WARM_UP {
            times.push(now - std::str::from_utf8(&frames[3])?.parse::<u64>()?);
        }
    }
    Ok(times)
}
