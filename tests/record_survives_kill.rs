//! `kill -9` at any moment, of `lavabus record` or of the publisher: the recording has what the publisher's journal has,
//! in its order, none missing, none twice; and what is derived from it is the same as without a kill.
//!
//! `LAVABUS_KILLS=100 LAVABUS_PUBLISHER_KILLS=20 LAVABUS_RATE=5000 cargo test --release --test record_survives_kill`

#![allow(clippy::unwrap_used)]

mod lab;

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lab::{Cli, LONG, Lab, Message, Recording, RunningCli, StockPush, assert_same_events};
use lavabus_zmtp::Endpoint;
use nix::sys::signal::Signal;
use serde_json::json;

/// It lives at most so long.
const LIFE: Duration = Duration::from_millis(400);

fn variable<T: FromStr>(name: &str, default: T) -> T {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// What the recordings here are asked for.
const FILTER: [&str; 2] = ["--not-kind", "worker"];

fn is_wanted(message: &Message) -> bool {
    !message.topic().ends_with(".worker")
}

fn message(number: u64) -> Message {
    let in_turn = |texts: &[&'static str]| texts[number as usize / 8 % texts.len()];
    let state = in_turn(&["Submitted", "Running", "Finished"]);
    let outcome = in_turn(&["PASSED", "FAILED"]);
    let (device, job) = (format!("qemu-{:02}", number % 40), number / 80);
    let data = match number % 8 {
        0 => {
            return Message::job(job, state, "Complete");
        }
        1 => return Message::device(&device, "Idle"),
        2 => return Message::worker("worker-01", "Online"),
        3 => return Message::test_event(number),
        4 => json!({"device": device, "job_id": job, "exit_code": number % 3, "detail": format!("try {number}")}),
        5 => json!({"subject": format!("device/{device}"), "message": format!("fault {}", number % 5)}),
        6 => {
            json!({"testcase": format!("case-{}", number % 7), "outcome": outcome})
        }
        _ => {
            json!({"service": "s", "request_id": format!("r{job}"), "status": "received", "date": "2026-11-21T05:01:05Z"})
        }
    };
    Message::sent_at(
        Timestamp::now(),
        ["attempt", "fault", "result", "stage"][(number % 8 - 4) as usize],
        &data,
    )
}

/// Sends so many events a second, until it is stopped.
struct Producer {
    stop: Arc<AtomicBool>,
    sending: std::thread::JoinHandle<u64>,
}

impl Producer {
    fn start(intake: &Endpoint, rate: u64) -> Producer {
        const TICKS: u64 = 100;
        let (stop, intake) = (Arc::new(AtomicBool::new(false)), intake.clone());
        let stopped = stop.clone();
        let sending = std::thread::spawn(move || {
            let push = StockPush::connect(&intake);
            let (start, mut sent) = (Instant::now(), 0);
            for tick in 1_u32.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                for _ in 0..rate / TICKS {
                    sent += u64::from(push.try_send(&message(sent)));
                }
                let due = start + Duration::from_secs(1) / TICKS as u32 * tick;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            sent
        });
        Producer { stop, sending }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.sending.join().unwrap()
    }
}

/// At random, so that each run of the test is another.
fn any_part_of(whole: Duration) -> Duration {
    let random = uuid::Uuid::new_v4().as_u128() as u32;
    whole.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

fn record(cli: &Cli, bus: &Endpoint, recording: &Recording) -> RunningCli {
    let (bus, db) = (bus.to_string(), recording.path().display().to_string());
    cli.start(["--bus", &bus, "record", "--db", &db].into_iter().chain(FILTER))
}

/// What the journal has of what is asked for.
fn wanted(lab: &Lab) -> Vec<Message> {
    lab.journal_contents().into_iter().filter(is_wanted).collect()
}

/// Ends the load and the recording in order, and compares.
async fn compare(
    cli: &Cli,
    publisher: lab::PublisherProcess,
    producer: Producer,
    recorder: RunningCli,
    recording: &Recording,
) {
    let sent = producer.stop();
    let end = Message::test_event(0);
    StockPush::connect(publisher.intake()).send(&end);
    recording.has_event(&end).await;
    // What the producer had in hand comes behind it.
    let caught_up = || recording.head() == wanted(publisher.lab()).len() as u64;
    let deadline = Instant::now() + 10 * LONG;
    while !caught_up() {
        assert!(Instant::now() < deadline, "the recorder does not catch up");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let lab = publisher.terminate();
    let expected = wanted(&lab);
    recording.has(expected.len()).await;
    recorder.signal(Signal::SIGTERM);
    let ended = recorder.ended().with(143).said("recorded in");
    assert_same_events(&recording.messages(), &expected);
    assert_eq!(recording.gaps(), []);
    // What the end had no time for, the next run does.
    let db = recording.path().display().to_string();
    let next = cli.start(["record", "--from", "/dev/null", "--db", &db]);
    next.ended_within(10 * LONG).with(0);
    recording.assert_projected();
    println!(
        "{sent} events sent, {} of the journal recorded; at last: {}",
        expected.len(),
        ended.last_line()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorder_is_killed_again_and_again() {
    let (kills, rate) = (variable("LAVABUS_KILLS", 15), variable("LAVABUS_RATE", 1_500));
    let publisher = Lab::new().journal().start_process();
    let cli = Cli::new();
    let recording = Recording::at(cli.folder().join("recorded.db"));
    let producer = Producer::start(publisher.intake(), rate);
    let mut grown = 0;
    for kill in 0..kills {
        let before = recording.head();
        let recorder = record(&cli, publisher.publish(), &recording);
        if kill % 2 == 0 {
            recording.has(before as usize + 1).await;
        }
        tokio::time::sleep(any_part_of(LIFE)).await;
        // Whatever it is doing.
        drop(recorder);
        grown += u32::from(recording.head() > before);
    }
    println!("{kills} kills of the recorder, {grown} of which had recorded something");
    assert!(grown >= kills / 2, "too little was shown");
    let recorder = record(&cli, publisher.publish(), &recording);
    compare(&cli, publisher, producer, recorder, &recording).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_publisher_is_killed_again_and_again() {
    let (kills, rate) = (variable("LAVABUS_PUBLISHER_KILLS", 3), variable("LAVABUS_RATE", 1_500));
    let mut publisher = Lab::new().journal().start_process();
    let cli = Cli::new();
    let recording = Recording::at(cli.folder().join("recorded.db"));
    let producer = Producer::start(publisher.intake(), rate);
    let recorder = record(&cli, publisher.publish(), &recording);
    for _ in 0..kills {
        let before = recording.head() as usize;
        recording.has(before + 1).await;
        tokio::time::sleep(any_part_of(LIFE)).await;
        publisher = publisher.kill().start_process();
    }
    println!("{kills} kills of the publisher");
    compare(&cli, publisher, producer, recorder, &recording).await;
}
