//! Any bytes are decoded or refused, and however they are cut the outcome is the same. The first byte says how.
#![no_main]

use bytes::{BufMut, BytesMut};
use lavabus_zmtp::{Decoder, Item, Limits, SubscriptionChange, canonical, frames, is_canonical};
use libfuzzer_sys::fuzz_target;

fn limits() -> Limits {
    Limits { frame: 200, message: 300, frames: 6, skip: 2000, command: 100, ..Limits::default() }
}

/// Everything that comes out, without the borders of the runs.
fn decode<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let (mut decoder, mut buffer, mut seen) = (Decoder::new(limits()), BytesMut::new(), Vec::new());
    for chunk in chunks {
        buffer.put_slice(chunk);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(Item::Messages(run))) => {
                    assert_eq!(run.ends.last().map(|end| *end as usize), Some(run.bytes.len()));
                    seen.extend(run.messages().map(|message| {
                        check(message);
                        format!("{message:?}")
                    }));
                }
                Ok(Some(item)) => seen.push(format!("{item:?}")),
                Ok(None) => break,
                Err(error) => {
                    seen.push(error.to_string());
                    return seen;
                }
            }
        }
        assert!(buffer.len() <= 1000, "more is kept than the limits allow");
    }
    seen
}

fn check(message: &[u8]) {
    let bodies: Vec<&[u8]> = frames(message).collect();
    assert!((1..=limits().frames).contains(&bodies.len()));
    assert!(bodies.iter().map(|body| body.len()).sum::<usize>() <= limits().message);
    let mut short = BytesMut::new();
    canonical(message, &mut short);
    assert!(is_canonical(&short));
    assert_eq!(frames(&short).collect::<Vec<_>>(), bodies);
    assert_eq!(is_canonical(message), short == message);
    let _ = SubscriptionChange::from_message(message);
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, bytes)) = data.split_first() else { return };
    let whole = decode(std::iter::once(bytes));
    assert_eq!(whole, decode(bytes.chunks(usize::from(size).max(1))));
    let _ = frames(bytes).count();
});
