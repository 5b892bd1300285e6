//! How fast a large journal takes events, by the kind of their UUIDs: the unique index grows at its end for
//! version 1, and everywhere at once for version 4.
//!
//! `cargo run --release -p lavabus-store --example uuid_rate -- 10000000 random|time [FOLDER]`

use std::env;
use std::error::Error;
use std::time::{Duration, Instant};

use lavabus_protocol::EventId;
use lavabus_store::{Journal, NewEvent, Options};

const GROUP: u64 = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [count, order, folder @ ..] = arguments.as_slice() else {
        return Err("usage: COUNT random|time [FOLDER]".into());
    };
    let count: u64 = count.parse()?;
    let id_of: fn(u64) -> EventId = match order.as_str() {
        "random" => |_| EventId(*uuid::Uuid::new_v4().as_bytes()),
        "time" => time_ordered,
        _ => return Err("the order is random or time".into()),
    };
    let folder = match folder.first() {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let path = folder.path().join("events.db");
    let mut journal = Journal::open(&path, &Options::default())?;
    let data = format!(
        r#"{{"health": "Unknown", "state": "Running", "description": "{}", "job": 4000}}"#,
        "d".repeat(260)
    );

    let begin = Instant::now();
    let mut commits = Vec::new();
    let (mut part_begin, mut part_from) = (begin, 0);
    let mut done = 0;
    while done < count {
        let group_begin = Instant::now();
        let mut group = journal.group()?;
        for number in done..(done + GROUP).min(count) {
            group.append(&NewEvent {
                id: &id_of(number),
                received_us: number.cast_signed(),
                topic: "org.example.lab.testjob",
                sent: "2026-11-21T05:01:05.217961+00:00",
                user: "lavaserver",
                data: &data,
                lab: "",
            })?;
        }
        done = group.head();
        group.commit()?;
        commits.push(group_begin.elapsed());
        if done - part_from >= 1_000_000 || done == count {
            let rate = (done - part_from) as f64 / part_begin.elapsed().as_secs_f64();
            println!("{done:>9} events, {rate:>7.0} events/s");
            (part_begin, part_from) = (Instant::now(), done);
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    commits.sort_unstable();
    let at = |share: f64| {
        commits
            .get((commits.len() as f64 * share) as usize)
            .copied()
            .unwrap_or(Duration::ZERO)
    };
    println!(
        "{order}: {count} events in {seconds:.1} s, {:.0} events/s",
        count as f64 / seconds
    );
    println!(
        "groups of {GROUP}: p50 {:?}, p99 {:?}, longest {:?}",
        at(0.5),
        at(0.99),
        commits.last()
    );
    drop(journal);
    let begin = Instant::now();
    let journal = Journal::open(&path, &Options::default())?;
    println!(
        "opened again after {:?}, {} bytes",
        begin.elapsed(),
        path.metadata()?.len()
    );
    journal.close()?;
    Ok(())
}

/// Version 1 of RFC 9562: time_low, time_mid, time_hi with the version, then clock sequence and node.
fn time_ordered(number: u64) -> EventId {
    let time = 0x01f1_e568_0000_0000_u64 + number * 10;
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&(time as u32).to_be_bytes());
    bytes[4..6].copy_from_slice(&((time >> 32) as u16).to_be_bytes());
    bytes[6..8].copy_from_slice(&((time >> 48) as u16 | 0x1000).to_be_bytes());
    bytes[8..].copy_from_slice(b"\x8b\x37\x02\xfc\0\0\0\x01");
    EventId(bytes)
}
