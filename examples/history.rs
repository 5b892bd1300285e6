//! A database of a made-up lab, as large as one likes: what it costs to keep events and to derive history from them.
//!
//! ```sh
//! cargo run --release --example history -- /tmp/lab.db [EVENTS]
//! ```
//!
//! It writes the events in groups of 1,000, then brings the projections up to date, and prints the rates and the size of
//! the file with and without history. The database stays, to put questions to.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Instant;

use lavabus_cli::mock::{Lab, LabOptions};
use lavabus_store::{Journal, NewEvent, Options, PruneBudget, Retention};

const GROUP: usize = 1_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = Path::new(arguments.first().map_or("/tmp/lab.db", String::as_str));
    let events: usize = arguments.get(1).map_or(1_000_000, |events| events.parse().unwrap());
    let options = LabOptions {
        seed: 1,
        devices: 100,
        workers: 10,
        // A week of a large lab, up to now.
        start: jiff::Timestamp::now() - jiff::SignedDuration::from_hours(7 * 24),
        rate: events as f64 / (7.0 * 24.0 * 3_600.0),
        ..LabOptions::default()
    };
    let mut lab = Lab::new(options);
    let mut journal = Journal::open(path, &Options::default()).unwrap();
    let mut taken = std::time::Duration::ZERO;
    let mut left = events;
    while left > 0 {
        let records: Vec<_> = lab.by_ref().take(GROUP.min(left)).map(|event| event.record).collect();
        left -= records.len();
        let began = Instant::now();
        let mut group = journal.group().unwrap();
        for record in &records {
            let sent = lavabus_protocol::event::read_datetime(&record.datetime).unwrap();
            group
                .append(&NewEvent {
                    id: &record.uuid,
                    received_us: sent.as_microsecond() + 1_000,
                    topic: &record.topic,
                    sent: &record.datetime,
                    user: &record.username,
                    data: &record.data,
                    lab: "",
                })
                .unwrap();
        }
        group.commit().unwrap();
        taken += began.elapsed();
    }
    let rate = |taken: std::time::Duration| events as f64 / taken.as_secs_f64();
    println!("kept       {:>9.0} events/s", rate(taken));
    journal.checkpoint().unwrap();
    let bytes = || std::fs::metadata(path).unwrap().len() as f64 / events as f64;
    println!("size       {:>9.0} bytes an event", bytes());

    let began = Instant::now();
    while journal.project(1_000).unwrap().behind > 0 {}
    println!("entities   {:>9.0} events/s", rate(began.elapsed()));
    let began = Instant::now();
    while journal.project_history(1_000).unwrap().behind > 0 {}
    println!("history    {:>9.0} events/s", rate(began.elapsed()));
    journal.checkpoint().unwrap();
    println!("size       {:>9.0} bytes an event", bytes());

    // What retention costs, for as many events as one call takes.
    let retention = Retention {
        max_age: Some(std::time::Duration::ZERO),
        max_bytes: None,
    };
    let began = Instant::now();
    let pruned = journal.prune(&retention, i64::MAX, &PruneBudget::default()).unwrap();
    println!(
        "prune      {:>9.0} events/s ({} in {:.1} ms)",
        pruned.events as f64 / began.elapsed().as_secs_f64(),
        pruned.events,
        began.elapsed().as_secs_f64() * 1e3
    );
    journal.close().unwrap();
}
