//! Fills a database with events that are JSON lines on standard input:
//!
//! `lavabus mock --to - --no-wait --count 1000000 --seed 1 | cargo run --release -p lavabus-store --example fill -- PATH`

use std::io::BufRead as _;

use lavabus_protocol::Record;
use lavabus_store::{Journal, NewEvent, Options};

const GROUP: usize = 2_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("which database?")?;
    let mut journal = Journal::open(&path, &Options::default())?;
    let mut lines = std::io::stdin().lock().lines();
    let mut received_us = 0;
    loop {
        let group: Vec<Record> = lines
            .by_ref()
            .take(GROUP)
            .map(|line| Ok(Record::from_json_line(&line?)?))
            .collect::<Result<_, Box<dyn std::error::Error>>>()?;
        if group.is_empty() {
            break;
        }
        let mut appending = journal.group()?;
        for record in &group {
            let sent = lavabus_protocol::event::read_datetime(&record.datetime).or_else(|| record.uuid.time());
            received_us = sent.map_or(received_us, |sent| received_us.max(sent.as_microsecond() + 1_000));
            appending.append(&NewEvent {
                id: &record.uuid,
                received_us,
                topic: &record.topic,
                sent: &record.datetime,
                user: &record.username,
                data: &record.data,
                lab: record.lab.as_deref().unwrap_or_default(),
            })?;
        }
        appending.commit()?;
        while journal.project(10_000)?.behind > 0 {}
        while journal.project_history(10_000)?.behind > 0 {}
    }
    println!("{} events", journal.head());
    journal.close()?;
    Ok(())
}
