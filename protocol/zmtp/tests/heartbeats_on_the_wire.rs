//! A PING is answered with its context, ours carries our TTL, and a 3.0 peer gets none.

#![allow(clippy::unwrap_used)]

mod peers;

use bytes::BytesMut;
use lavabus_zmtp::{
    Command, ConnectOptions, Greeting, HeartbeatConfig, Item, Limits, Metadata, PullConnection, SocketType, Stream,
    SubConnection,
};
use peers::*;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn often() -> HeartbeatConfig {
    HeartbeatConfig {
        interval: Duration::from_millis(5),
        ..Default::default()
    }
}

async fn sub_and_publisher(heartbeat: HeartbeatConfig) -> (SubConnection, PublishingPeer) {
    let (listener, endpoint) = listen(&"tcp://127.0.0.1:0".parse().unwrap()).await;
    let options = ConnectOptions {
        heartbeat,
        ..Default::default()
    };
    let (sub, publisher) = tokio::join!(
        SubConnection::connect(&endpoint, &options, LONG),
        PublishingPeer::accept(&listener)
    );
    (sub.unwrap(), publisher)
}

#[tokio::test]
async fn the_context_comes_back() {
    let (mut sub, mut publisher) = sub_and_publisher(HeartbeatConfig::default()).await;
    for context in ["", "c", "0123456789abcdef"] {
        let mut ping = BytesMut::new();
        Command::Ping {
            ttl: 0,
            context: context.into(),
        }
        .encode(&mut ping);
        publisher.stream.write_all(&ping).await.unwrap();
        let answer = tokio::select! {
            received = sub.next() => panic!("{received:?}"),
            answer = publisher.next() => answer,
        };
        assert_eq!(
            answer,
            Item::Command(Command::Pong {
                context: context.into()
            })
        );
    }
}

#[tokio::test]
async fn ours_carries_the_ttl() {
    let (mut sub, mut publisher) = sub_and_publisher(often()).await;
    let item = tokio::select! {
        received = sub.next() => panic!("{received:?}"),
        item = publisher.next() => item,
    };
    assert_eq!(
        item,
        Item::Command(Command::Ping {
            ttl: 150,
            context: "".into()
        })
    );
}

#[tokio::test]
async fn none_to_a_3_0_peer() {
    let (mut theirs, ours) = tokio::net::UnixStream::pair().unwrap();
    let mut said = BytesMut::from(&Greeting::encode()[..]);
    said[11] = 0;
    Command::Ready(Metadata::of(SocketType::Push)).encode(&mut said);
    theirs.write_all(&said).await.unwrap();
    let ours = Stream::from_unix(ours).unwrap().into_accepted();
    let mut pull = PullConnection::accept(ours, &Limits::default(), &often())
        .await
        .unwrap();
    assert_eq!(pull.peer().minor, 0);
    tokio::select! {
        received = pull.next() => panic!("{received:?}"),
        () = tokio::time::sleep(Duration::from_millis(100)) => {}
    }
    drop(pull);
    let mut heard = Vec::new();
    theirs.read_to_end(&mut heard).await.unwrap();
    let mut expected = BytesMut::from(&Greeting::encode()[..]);
    Command::Ready(Metadata::of(SocketType::Pull)).encode(&mut expected);
    assert_eq!(heard, expected);
}
