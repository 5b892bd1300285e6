//! What it costs to decide who wants what: one batch of 150 events with 100 topics, against so many subscribers.
#![allow(missing_docs)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lava_publisher::fan_out::batch::Message;
use lava_publisher::fan_out::matching::{Interests, Matcher, Signal};
use lavabus_protocol::EventId;

const EVENTS: usize = 150;

/// The prefix of the nth subscriber.
type Prefix<'a> = &'a dyn Fn(usize) -> String;

fn batch() -> (Vec<u8>, Vec<Message>) {
    let (mut bytes, mut messages) = (Vec::new(), Vec::new());
    for n in 0..EVENTS {
        let topic = format!("org.lava.d{:03}.testjob", n % 100);
        bytes.extend_from_slice(&[1, topic.len() as u8]);
        bytes.extend_from_slice(topic.as_bytes());
        bytes.extend_from_slice(&[b'x'; 400]);
        let (end, topic_length) = (bytes.len() as u32, topic.len() as u16);
        messages.push(Message {
            id: EventId([0; 16]),
            end,
            topic_start: 2,
            topic_length,
        });
    }
    (bytes, messages)
}

fn matching(criterion: &mut Criterion) {
    let (bytes, messages) = batch();
    let mut group = criterion.benchmark_group("match_batch");
    group.throughput(Throughput::Elements(EVENTS as u64));
    let all = |_: usize| String::new();
    let narrow = |n: usize| format!("org.lava.d{:03}", n % 100);
    let strangers = |n: usize| {
        if n == 0 {
            "org.lava.d000".into()
        } else {
            format!("com.other.{n}")
        }
    };
    let kinds: [(&str, usize, Prefix<'_>); 6] = [
        ("all", 1, &all),
        ("all", 1000, &all),
        ("narrow", 100, &narrow),
        ("one matches of", 1, &strangers),
        ("one matches of", 1000, &strangers),
        ("one matches of", 10_000, &strangers),
    ];
    for (name, subscribers, prefix) in kinds {
        let mut matcher = Matcher::default();
        let signals: Vec<_> = (0..subscribers).map(|_| Arc::new(Signal::default())).collect();
        for (n, signal) in signals.iter().enumerate() {
            matcher
                .subscribe(prefix(n).as_bytes(), signal, 0)
                .expect("there is room");
        }
        group.bench_function(BenchmarkId::new(name, subscribers), |bencher| {
            bencher.iter(|| matcher.match_batch(black_box(&bytes), black_box(&messages)));
        });
    }
    group.finish();

    let mut matcher = Matcher::default();
    let signal = Arc::new(Signal::default());
    let mut interests = Interests::default();
    interests.insert(
        b"org.lava.d042",
        matcher.subscribe(b"org.lava.d042", &signal, 0).expect("there is room"),
    );
    for n in 0..99 {
        matcher
            .subscribe(format!("org.lava.d{n:03}").as_bytes(), &Arc::default(), 0)
            .expect("there is room");
    }
    let index = matcher.match_batch(&bytes, &messages);
    criterion.bench_function("select/narrow of 100", |bencher| {
        let mut places = Vec::new();
        bencher.iter(|| interests.select(0, black_box(&index), EVENTS, |_| &[], &mut places));
    });
}

criterion_group!(benches, matching);
criterion_main!(benches);
