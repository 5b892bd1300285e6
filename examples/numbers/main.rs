//! The figures of docs/performance.md that the side-by-side benchmark does not give.
//!
//! ```sh
//! cargo build --release && cargo run --release --example numbers -- all
//! cargo run --release --example numbers -- replay|record|start|memory|one-of-1000|help|wait|http-cost|http-crowd|http-stalled [EVENTS]
//! ```
//!
//! Each runs the real programs of the same target folder, on loopback, three times, and prints medians.
#![allow(clippy::unwrap_used)]

mod program;
mod second_port;

use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lavabus_protocol::EventId;
use lavabus_store::{Journal, NewEvent, Options, Reader};
use lavabus_zmtp::{ConnectOptions, PushConnection, Received, SubConnection};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use program::{Publisher, built};
use rusqlite::{Connection, params};

const ROUNDS: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Often enough to measure seconds by it, and cheap.
const POLL: Duration = Duration::from_millis(10);

#[tokio::main]
async fn main() {
    // The crowd takes more descriptors than the usual limit.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let what = arguments.first().map_or("all", String::as_str);
    let events: Option<u64> = arguments.get(1).map(|n| n.parse().unwrap());
    if matches!(what, "all" | "help") {
        help();
    }
    if matches!(what, "all" | "wait") {
        wait();
    }
    if matches!(what, "all" | "memory") {
        memory().await;
    }
    if matches!(what, "all" | "one-of-1000") {
        one_of_1000().await;
    }
    if matches!(what, "all" | "replay") {
        replay(events.unwrap_or(1_000_000)).await;
    }
    if matches!(what, "all" | "record") {
        record(events.unwrap_or(1_000_000));
    }
    if matches!(what, "all" | "http-cost") {
        second_port::cost().await;
    }
    if matches!(what, "all" | "http-crowd") {
        second_port::crowd().await;
    }
    if matches!(what, "all" | "http-stalled") {
        second_port::stalled().await;
    }
    if matches!(what, "all" | "start") {
        start(events.unwrap_or(10_000_000)).await;
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Fills a journal with events in time order, as the publisher would.
fn fill(path: &Path, events: u64) -> Vec<EventId> {
    let mut journal = Journal::open(path, &Options::default()).unwrap();
    let mut ids = Vec::new();
    let data = format!(
        r#"{{"state": "Running", "health": "Unknown", "job": 7, "description": "{}"}}"#,
        "x".repeat(230)
    );
    for start in (0..events).step_by(2000) {
        let mut group = journal.group().unwrap();
        for n in start..(start + 2000).min(events) {
            let id = EventId::parse(format!("{:08x}-0000-1000-8000-000000000001", n).as_bytes()).unwrap();
            if n < 1 || n + 1 == events {
                ids.push(id);
            }
            let event = NewEvent {
                id: &id,
                received_us: jiff::Timestamp::now().as_microsecond(),
                topic: "org.example.lab.testjob",
                sent: "2026-11-21T05:01:05.217961+00:00",
                user: "lavaserver",
                data: &data,
                lab: "",
            };
            group.append(&event).unwrap();
        }
        group.commit().unwrap();
    }
    journal.close().unwrap();
    ids
}

/// Events a second that one subscriber gets from the journal.
async fn replay(events: u64) {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("events.db");
    let first = fill(&database, events)[0];
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let publisher = Publisher::start(folder.path(), &["--db", database.to_str().unwrap()]);
        let mut sub = SubConnection::connect(publisher.publish(), &ConnectOptions::default(), TIMEOUT)
            .await
            .unwrap();
        for subscription in [String::new(), format!("@after:{first}"), "@start".into()] {
            sub.subscribe(subscription.as_bytes()).await.unwrap();
        }
        let (mut got, mut began) = (0, None);
        while got < events - 1 {
            if let Received::Messages(run) = sub.next().await.unwrap() {
                began.get_or_insert_with(Instant::now);
                got += run.len() as u64;
            }
        }
        rates.push(got as f64 / began.unwrap().elapsed().as_secs_f64());
    }
    println!(
        "replay of {events} events to one subscriber: {:.0} events/s",
        median(rates)
    );
}

/// From the start of the process until it accepts subscribers.
async fn start(events: u64) {
    for (name, count) in [("empty".to_owned(), 0), (format!("{events} events"), events)] {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("events.db");
        if count > 0 {
            fill(&database, count);
        }
        let mut times = Vec::new();
        for round in 0..ROUNDS + 2 {
            if count == 0 {
                let _ = std::fs::remove_file(&database);
            }
            let began = Instant::now();
            let publisher = Publisher::start(folder.path(), &["--db", database.to_str().unwrap()]);
            if round >= 2 {
                times.push(began.elapsed().as_secs_f64() * 1e3);
            }
            drop(publisher);
        }
        println!("start to ready, journal of {name}: {:.1} ms", median(times));
    }
}

/// Resident memory with nothing to do, and with 1,000 subscribers who have nothing to do.
async fn memory() {
    let (mut idle, mut many) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("events.db");
        let publisher = Publisher::start(folder.path(), &["--db", database.to_str().unwrap()]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        idle.push(publisher.memory_mib());
        let mut subscribers = Vec::new();
        for n in 0..1000 {
            let mut sub = SubConnection::connect(publisher.publish(), &ConnectOptions::default(), TIMEOUT)
                .await
                .unwrap();
            sub.subscribe(format!("org.example.lab.{n}").as_bytes()).await.unwrap();
            subscribers.push(sub);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        many.push(publisher.memory_mib());
    }
    println!(
        "resident, idle: {:.1} MiB; with 1,000 idle subscribers: {:.1} MiB",
        median(idle),
        median(many)
    );
}

/// CPU an event with one subscriber that matches, alone and among 999 that do not.
async fn one_of_1000() {
    const EVENTS: u64 = 20_000;
    let (mut alone, mut among) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (strangers, costs) in [(0, &mut alone), (999, &mut among)] {
            let folder = tempfile::tempdir().unwrap();
            let publisher = Publisher::start(folder.path(), &["--no-journal"]);
            let mut idle = Vec::new();
            for n in 0..strangers {
                let mut sub = SubConnection::connect(publisher.publish(), &ConnectOptions::default(), TIMEOUT)
                    .await
                    .unwrap();
                sub.subscribe(format!("com.other.{n}").as_bytes()).await.unwrap();
                idle.push(sub);
            }
            let mut sub = SubConnection::connect(publisher.publish(), &ConnectOptions::default(), TIMEOUT)
                .await
                .unwrap();
            sub.subscribe(b"org.example").await.unwrap();
            let mut push = PushConnection::connect(publisher.intake(), &ConnectOptions::default(), TIMEOUT)
                .await
                .unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            let before = publisher.cpu_seconds();
            let receiving = tokio::spawn(async move {
                let mut got = 0;
                while got < EVENTS {
                    if let Received::Messages(run) = sub.next().await.unwrap() {
                        got += run.len() as u64;
                    }
                }
            });
            // One event at a time, so that nothing is shared among events.
            for n in 0..EVENTS {
                let uuid = format!("{n:08x}-0000-1000-8000-000000000001");
                let frames = [
                    "org.example.lab.event",
                    &uuid,
                    "2026-11-21T05:01:05+00:00",
                    "ann",
                    r#"{"job": 1}"#,
                ];
                push.send(&frames.map(str::as_bytes)).await.unwrap();
                if n % 5 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            receiving.await.unwrap();
            costs.push((publisher.cpu_seconds() - before) * 1e6 / EVENTS as f64);
        }
    }
    let (alone, among) = (median(alone), median(among));
    println!(
        "CPU an event, one subscriber: {alone:.1} µs; among 999 that do not match: {among:.1} µs; ratio {:.2}",
        among / alone
    );
}

fn help() {
    println!("lavabus --help: {:.1} ms", took(&["--help"]));
}

/// The whole process, from its start to its exit code, for a job that is finished.
fn wait() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("events.db");
    let publisher = Publisher::start(folder.path(), &["--db", database.to_str().unwrap()]);
    let intake = publisher.intake().to_string();
    took_once(&[
        "emit", "--to", &intake, "job", "7", "--state", "Finished", "--health", "Complete",
    ]);
    let bus = publisher.publish().to_string();
    println!(
        "lavabus wait for a finished job: {:.1} ms",
        took(&["--bus", &bus, "wait", "job", "7"])
    );
}

/// How long the tool takes, in milliseconds; the median of 20 runs.
fn took(arguments: &[&str]) -> f64 {
    median((0..20).map(|_| took_once(arguments)).collect())
}

fn took_once(arguments: &[&str]) -> f64 {
    let began = Instant::now();
    assert!(
        Command::new(built("lavabus"))
            .args(arguments)
            .output()
            .unwrap()
            .status
            .success()
    );
    began.elapsed().as_secs_f64() * 1e3
}

/// Events a second that `lavabus record` takes from a journal into a database of its own, and the rows that rusqlite alone
/// puts into the same table, 1,000 a commit, both on the same disk and durable.
fn record(events: u64) {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("events.db");
    fill(&database, events);
    project_all(folder.path(), &database);
    let (mut recorded, mut raw) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        raw.push(insert_raw(
            &folder.path().join(format!("raw-{round}.db")),
            &database,
            events,
        ));
        let publisher = Publisher::start(folder.path(), &["--db", database.to_str().unwrap()]);
        let own = folder.path().join(format!("recorded-{round}.db"));
        let mut recorder = Command::new(built("lavabus"))
            .args(["--quiet", "--bus", &publisher.publish().to_string(), "record", "--db"])
            .arg(&own)
            .spawn()
            .unwrap();
        let reader = loop {
            if let Ok(reader) = Reader::open(&own)
                && reader.head().unwrap() > 0
            {
                break reader;
            }
            std::thread::sleep(POLL);
        };
        let (began, already) = (Instant::now(), reader.head().unwrap());
        while reader.head().unwrap() < events {
            std::thread::sleep(POLL);
        }
        recorded.push((events - already) as f64 / began.elapsed().as_secs_f64());
        recorder.kill().unwrap();
        recorder.wait().unwrap();
    }
    println!("recorded {recorded:.0?}/s, raw {raw:.0?}/s");
    let (recorded, raw) = (median(recorded), median(raw));
    println!(
        "lavabus record, {events} events: {recorded:.0}/s; rusqlite alone: {raw:.0}/s; ratio {:.2}",
        recorded / raw
    );
}

/// Lets a publisher bring up to date what it does beside the stream: it has nothing else to do afterwards.
fn project_all(folder: &Path, database: &Path) {
    let _publisher = Publisher::start(folder, &["--db", database.to_str().unwrap()]);
    let reader = Reader::open(database).unwrap();
    let head = reader.head().unwrap();
    loop {
        let status = reader.status().unwrap();
        if status.projected.min(status.history_projected) >= head {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Rows a second. They are those of `from`, read before.
fn insert_raw(path: &Path, from: &Path, events: u64) -> f64 {
    let mut rows = Vec::new();
    let reader = Reader::open(from).unwrap();
    reader
        .scan(0, events, |row| {
            rows.push(row.to_event());
            ControlFlow::Continue(())
        })
        .unwrap();
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(
        "PRAGMA journal_mode = wal; PRAGMA synchronous = full;
         CREATE TABLE event(seq INTEGER PRIMARY KEY, uuid BLOB NOT NULL, received INTEGER NOT NULL,
            topic TEXT NOT NULL, sent TEXT NOT NULL, user TEXT NOT NULL, data TEXT NOT NULL) STRICT;
         CREATE UNIQUE INDEX event_uuid ON event(uuid);",
    )
    .unwrap();
    let began = Instant::now();
    for rows in rows.chunks(1_000) {
        let transaction = conn.unchecked_transaction().unwrap();
        let mut insert = transaction
            .prepare_cached("INSERT INTO event VALUES(?, ?, ?, ?, ?, ?, ?)")
            .unwrap();
        for row in rows {
            let (seq, key) = (row.seq.cast_signed(), row.id.key());
            insert
                .execute(params![
                    seq,
                    key,
                    row.received_us,
                    row.topic,
                    row.sent,
                    row.user,
                    row.data
                ])
                .unwrap();
        }
        drop(insert);
        transaction.commit().unwrap();
    }
    events as f64 / began.elapsed().as_secs_f64()
}
