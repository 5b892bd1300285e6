//! Events a second read from a warm journal, which is what replay to a subscriber begins with.

use std::ops::ControlFlow;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lavabus_protocol::EventId;
use lavabus_store::{Journal, NewEvent, Options, Reader};

const EVENTS: u64 = 200_000;

fn scan(c: &mut Criterion) {
    let data = format!(
        r#"{{"health": "Unknown", "state": "Running", "description": "{}", "job": 4000}}"#,
        "d".repeat(260)
    );
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("events.db");
    let mut journal = Journal::open(&path, &Options::default()).expect("opened");
    let mut group = journal.group().expect("begun");
    for number in 0..EVENTS {
        let mut key = [0x11; 16];
        key[..8].copy_from_slice(&(0x11f1_e568_0000_0000 + number * 10).to_be_bytes());
        let event = NewEvent {
            id: &EventId::from_key(key),
            received_us: number as i64,
            topic: "org.example.lab.testjob",
            sent: "2026-11-21T05:01:05.217961+00:00",
            user: "lavaserver",
            data: &data,
            lab: "",
        };
        group.append(&event).expect("appended");
    }
    group.commit().expect("committed");

    let reader = Reader::open(&path).expect("opened");
    let mut bench = c.benchmark_group("scan");
    bench.throughput(Throughput::Elements(EVENTS)).sample_size(20);
    bench.bench_function("400_bytes_warm", |b| {
        b.iter(|| {
            let mut bytes = 0;
            reader
                .scan(0, EVENTS, |row| {
                    bytes += row.topic.len() + row.sent.len() + row.user.len() + row.data.len();
                    ControlFlow::Continue(())
                })
                .expect("scanned");
            bytes
        });
    });
    // As a subscriber's replay reads: a transaction for some hundred events.
    bench.bench_function("400_bytes_warm_500_a_call", |b| {
        b.iter(|| {
            let mut bytes = 0;
            for from in (0..EVENTS).step_by(500) {
                reader
                    .scan(from, from + 500, |row| {
                        bytes += row.data.len();
                        ControlFlow::Continue(())
                    })
                    .expect("scanned");
            }
            bytes
        });
    });
}

criterion_group!(benches, scan);
criterion_main!(benches);
