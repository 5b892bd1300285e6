//! What it costs to take ZMTP bytes apart into whole messages: five frames, about 420 bytes each.
#![allow(missing_docs)]

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lavabus_zmtp::{Decoder, Item, Limits, encode_message, frames};

const MESSAGES: usize = 150;

fn decode(criterion: &mut Criterion) {
    let mut wire = BytesMut::new();
    for _ in 0..MESSAGES {
        let uuid = b"8e503fbe-e568-11f1-8b37-02fc00000001";
        let time = b"2026-11-21T05:01:05.217961+00:00";
        encode_message(
            &[b"org.example.lab.testjob", uuid, time, b"lavaserver", &[b'x'; 300]],
            &mut wire,
        );
    }
    let mut group = criterion.benchmark_group("decoder");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    group.bench_function("64 KiB of events", |bencher| {
        let mut decoder = Decoder::new(Limits::default());
        bencher.iter_batched(
            || BytesMut::from(&wire[..]),
            |mut buffer| decoder.decode(&mut buffer).expect("the bytes are good"),
            BatchSize::SmallInput,
        );
    });
    let mut decoder = Decoder::new(Limits::default());
    let Ok(Some(Item::Messages(run))) = decoder.decode(&mut wire.clone()) else {
        panic!("the bytes are good")
    };
    group.bench_function("frames of each", |bencher| {
        bencher.iter(|| {
            run.messages()
                .map(|message| frames(message).map(<[u8]>::len).sum::<usize>())
                .sum::<usize>()
        });
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
