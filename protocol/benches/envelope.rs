//! What one event costs: `cargo bench -p lavabus-protocol`.
//!
//! The event is a job's of about 400 bytes. The publisher checks each event once, some 400,000 a second.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lavabus_protocol::filter::{Candidate, Field, Filter};
use lavabus_protocol::{Envelope, Event, EventId, Record};

const FRAMES: [&[u8]; 5] = [
    b"org.example.lab.testjob",
    b"b3741d6a-e568-11f1-9528-02fc00000001",
    b"2026-11-21T05:02:07.528714+00:00",
    b"admin",
    br#"{"health": "Complete", "state": "Finished", "job": 1, "description": "smoke \u2013 \u00e9 \"quoted\" <b>", "priority": 50, "submit_time": "2026-11-21T05:01:05.869831+00:00", "submitter": "admin", "health_check": false, "device": "qemu-03", "worker": "worker-01", "device_type": "qemu", "start_time": "2026-11-21T05:02:06.498821+00:00", "end_time": "2026-11-21T05:02:07.442968+00:00"}"#,
];

fn filter(clauses: &[(Field, &str)]) -> Filter {
    let mut filter = Filter::default();
    for (field, text) in clauses {
        filter.add(*field, false, text).unwrap();
    }
    filter
}

fn per_event(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("per_event");
    group.throughput(Throughput::Elements(1));
    group.bench_function("check", |bencher| {
        bencher.iter(|| Envelope::check(black_box(FRAMES)).unwrap())
    });

    let envelope = Envelope::check(FRAMES).unwrap();
    group.bench_function("frames", |bencher| {
        bencher.iter(|| {
            let mut uuid_text = [0; 36];
            black_box(black_box(&envelope).frames(&mut uuid_text));
        });
    });
    group.bench_function("uuid", |bencher| {
        bencher.iter(|| EventId::parse(black_box(FRAMES[1])).unwrap().key())
    });
    group.bench_function("read_event", |bencher| {
        bencher.iter(|| Event::from(black_box(&envelope)))
    });

    let record = Record::from(envelope);
    let line = record.to_json_line();
    group.bench_function("to_json_line", |bencher| {
        bencher.iter(|| black_box(&record).to_json_line())
    });
    group.bench_function("from_json_line", |bencher| {
        bencher.iter(|| Record::from_json_line(black_box(&line)).unwrap())
    });

    let by_kind = filter(&[(Field::Kind, "device"), (Field::State, "running")]);
    group.bench_function("filter_decided_by_kind", |bencher| {
        bencher.iter(|| by_kind.matches(&Candidate::from(black_box(&envelope))));
    });
    let by_data = filter(&[
        (Field::Kind, "job"),
        (Field::State, "finished"),
        (Field::Device, "~^qemu-"),
    ]);
    group.bench_function("filter_decided_by_data", |bencher| {
        bencher.iter(|| by_data.matches(&Candidate::from(black_box(&envelope))));
    });
    group.finish();
}

criterion_group!(benches, per_event);
criterion_main!(benches);
