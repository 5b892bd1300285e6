//! Durable events a second: a journal's groups of 1,000 against the same rows put into the same table by rusqlite
//! alone, both with `synchronous=FULL`.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lavabus_protocol::EventId;
use lavabus_store::{Journal, NewEvent, Options};
use rusqlite::{Connection, params};

const GROUP: u64 = 1_000;

fn data() -> String {
    format!(
        r#"{{"health": "Unknown", "state": "Running", "description": "{}", "job": 4000}}"#,
        "d".repeat(260)
    )
}

/// The bytes of a version 1 UUID with its time first.
fn key(number: u64) -> [u8; 16] {
    let mut key = [0x11; 16];
    key[..8].copy_from_slice(&(0x11f1_e568_0000_0000 + number * 10).to_be_bytes());
    key
}

fn raw(path: &Path) -> Connection {
    let conn = Connection::open(path).expect("opened");
    conn.execute_batch(
        "PRAGMA journal_mode = wal; PRAGMA synchronous = full;
         CREATE TABLE event(seq INTEGER PRIMARY KEY, uuid BLOB NOT NULL, received INTEGER NOT NULL,
            topic TEXT NOT NULL, sent TEXT NOT NULL, user TEXT NOT NULL, data TEXT NOT NULL) STRICT;
         CREATE UNIQUE INDEX event_uuid ON event(uuid);",
    )
    .expect("created");
    conn
}

fn append(c: &mut Criterion) {
    let data = data();
    let mut bench = c.benchmark_group("append_1000_durable");
    bench
        .throughput(Throughput::Elements(GROUP))
        .measurement_time(Duration::from_secs(4));

    let folder = tempfile::tempdir().expect("a folder");
    let mut number = 0;
    let mut conn = raw(&folder.path().join("raw.db"));
    bench.bench_function("rusqlite", |b| {
        b.iter_custom(|rounds| {
            let begin = Instant::now();
            for _ in 0..rounds {
                let transaction = conn.transaction().expect("begun");
                {
                    let mut insert = transaction
                        .prepare_cached("INSERT INTO event VALUES(?, ?, ?, ?, ?, ?, ?)")
                        .expect("prepared");
                    for _ in 0..GROUP {
                        number += 1;
                        let row = params![
                            number as i64,
                            key(number),
                            number as i64,
                            "org.example.lab.testjob",
                            "2026-11-21T05:01:05.217961+00:00",
                            "lavaserver",
                            data
                        ];
                        insert.execute(row).expect("inserted");
                    }
                }
                transaction.commit().expect("committed");
            }
            begin.elapsed()
        });
    });

    let mut number = 0;
    let mut journal = Journal::open(folder.path().join("events.db"), &Options::default()).expect("opened");
    bench.bench_function("journal", |b| {
        b.iter_custom(|rounds| {
            let begin = Instant::now();
            for _ in 0..rounds {
                let mut group = journal.group().expect("begun");
                for _ in 0..GROUP {
                    number += 1;
                    let event = NewEvent {
                        id: &EventId::from_key(key(number)),
                        received_us: number as i64,
                        topic: "org.example.lab.testjob",
                        sent: "2026-11-21T05:01:05.217961+00:00",
                        user: "lavaserver",
                        data: &data,
                        lab: "",
                    };
                    black_box(group.append(&event).expect("appended"));
                }
                group.commit().expect("committed");
            }
            begin.elapsed()
        });
    });
}

criterion_group!(benches, append);
criterion_main!(benches);
