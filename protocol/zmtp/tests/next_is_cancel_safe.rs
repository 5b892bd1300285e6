//! `next` is dropped again and again while messages arrive in pieces: nothing is lost, doubled or torn.

#![allow(clippy::unwrap_used)]

mod peers;

use lavabus_zmtp::{Received, encode_message};
use peers::*;
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn nothing_is_lost() {
    let (listener, endpoint) = listen(&"tcp://127.0.0.1:0".parse().unwrap()).await;
    let connecting = tokio::spawn(async move { connect_sub(&endpoint).await });
    let mut publisher = PublishingPeer::accept(&listener).await;
    let mut sub = connecting.await.unwrap();

    let mut bytes = bytes::BytesMut::new();
    for number in 0..3000usize {
        encode_message(&[&number.to_be_bytes(), &vec![7; number % 700]], &mut bytes);
    }
    let writing = tokio::spawn(async move {
        for piece in bytes.chunks(997) {
            publisher.stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        publisher
    });
    let (mut messages, mut cancelled) = (Vec::new(), 0);
    while messages.len() < 3000 {
        // Each future is polled once, then dropped.
        tokio::select! {
            biased;
            received = sub.next() => match received.unwrap() {
                Received::Messages(run) => messages.extend(to_messages(&run)),
                other => panic!("{other:?}"),
            },
            () = std::future::ready(()) => cancelled += 1,
        }
        tokio::task::yield_now().await;
    }
    assert!(cancelled > 0, "nothing was cancelled");
    for (number, message) in messages.iter().enumerate() {
        assert_eq!(message[0], number.to_be_bytes());
        assert_eq!(message[1].len(), number % 700);
    }
    drop(writing.await.unwrap());
}
