//! A stock PUSH of libzmq and of the `zeromq` crate sends; our PULL receives every message as it was sent.

#![allow(clippy::unwrap_used)]

mod peers;

use libzmq_peer::Kind;
use peers::*;
use zeromq::{Socket as _, SocketSend as _};

#[tokio::test]
async fn libzmq() {
    let folder = tempfile::tempdir().unwrap();
    for endpoint in endpoints(&folder) {
        let (listener, endpoint) = listen(&endpoint).await;
        let sending = tokio::task::spawn_blocking(move || {
            let push = stock(Kind::Push);
            push.connect(&endpoint.to_string()).unwrap();
            for message in messages_of_every_size() {
                push.send(&message).unwrap();
            }
            push
        });
        let mut pull = accept_pull(&listener).await;
        assert_eq!(pull.peer().minor, 1);
        let expected = messages_of_every_size();
        assert_eq!(receive_pull(&mut pull, expected.len()).await, expected);
        drop(sending.await.unwrap());
        assert_eq!(pull.next().await.unwrap(), lavabus_zmtp::Received::Closed);
    }
}

#[tokio::test]
async fn zeromq_crate() {
    let folder = tempfile::tempdir().unwrap();
    for endpoint in endpoints(&folder) {
        let (listener, endpoint) = listen(&endpoint).await;
        let sending = tokio::spawn(async move {
            let mut push = zeromq::PushSocket::new();
            push.connect(&endpoint.to_string()).await.unwrap();
            for message in messages_of_every_size() {
                let frames: Vec<bytes::Bytes> = message.into_iter().map(Into::into).collect();
                push.send(zeromq::ZmqMessage::try_from(frames).unwrap()).await.unwrap();
            }
            push
        });
        let mut pull = accept_pull(&listener).await;
        assert_eq!(pull.peer().minor, 0);
        let expected = messages_of_every_size();
        assert_eq!(receive_pull(&mut pull, expected.len()).await, expected);
        drop(sending.await.unwrap());
    }
}

#[tokio::test]
async fn many_producers_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (listener, endpoint) = listen(&ipc(&folder, "socket")).await;
    for producer in 0..10u32 {
        let endpoint = endpoint.to_string();
        tokio::task::spawn_blocking(move || {
            let push = stock(Kind::Push);
            push.connect(&endpoint).unwrap();
            for number in 0..1000u32 {
                push.send(&[producer.to_be_bytes(), number.to_be_bytes()]).unwrap();
            }
        });
    }
    let mut tasks = Vec::new();
    for _ in 0..10 {
        let mut pull = accept_pull(&listener).await;
        tasks.push(tokio::spawn(async move { receive_pull(&mut pull, 1000).await }));
    }
    for task in tasks {
        let messages = task.await.unwrap();
        let producer = messages[0][0].clone();
        for (number, message) in (0u32..).zip(&messages) {
            assert_eq!(message, &[producer.clone(), number.to_be_bytes().to_vec()]);
        }
    }
}
