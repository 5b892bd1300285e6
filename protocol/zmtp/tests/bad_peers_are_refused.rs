//! Whatever connects and is no ZMTP 3 peer of the right kind is refused, in time, with a reason, and nobody else
//! notices.

#![allow(clippy::unwrap_used)]

mod peers;

use bytes::{BufMut, BytesMut};
use lavabus_zmtp::{
    Command, ConnectionError, Greeting, GreetingError, HandshakeError, HeartbeatConfig, Limits, Metadata,
    PullConnection, Received, SocketType, Stream, encode_message,
};
use peers::*;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A peer that says exactly these bytes, and our end of the connection.
async fn peer_that_says(bytes: &[u8]) -> (UnixStream, Stream) {
    let (mut theirs, ours) = UnixStream::pair().unwrap();
    theirs.write_all(bytes).await.unwrap();
    (theirs, Stream::from_unix(ours).unwrap().into_accepted())
}

fn hello(socket_type: SocketType) -> BytesMut {
    let mut bytes = BytesMut::from(&Greeting::encode()[..]);
    Command::Ready(Metadata::of(socket_type)).encode(&mut bytes);
    bytes
}

async fn handshake_with(bytes: &[u8], limits: &Limits) -> HandshakeError {
    let (_theirs, ours) = peer_that_says(bytes).await;
    PullConnection::accept(ours, limits, &HeartbeatConfig::default())
        .await
        .unwrap_err()
}

#[tokio::test]
async fn a_browser() {
    let error = handshake_with(b"GET / HTTP/1.1\r\n", &Limits::default()).await;
    assert!(
        matches!(error, HandshakeError::Greeting(GreetingError::NotZmtp)),
        "{error}"
    );
}

#[tokio::test]
async fn silence_and_slowness() {
    let limits = Limits {
        handshake: Duration::from_millis(50),
        ..Default::default()
    };
    for said in [&b""[..], &Greeting::encode()[..20], &Greeting::encode()] {
        let error = handshake_with(said, &limits).await;
        assert!(matches!(error, HandshakeError::Timeout(_)), "{error}");
    }
}

#[tokio::test]
async fn a_peer_that_leaves() {
    for said in [&b""[..], &Greeting::encode()[..20], &Greeting::encode()] {
        let (theirs, ours) = peer_that_says(said).await;
        drop(theirs);
        let error = PullConnection::accept(ours, &Limits::default(), &HeartbeatConfig::default())
            .await
            .unwrap_err();
        assert!(
            matches!(error, HandshakeError::Closed | HandshakeError::Io(_)),
            "{error}"
        );
    }
}

#[tokio::test]
async fn garbage_after_the_greeting() {
    for garbage in [
        &b"\xff\xff\xff"[..],
        b"\x00\x01a",
        b"\x04\x05\x04PING",
        b"\x04\x06\x05READYx",
    ] {
        let error = handshake_with(&[&Greeting::encode()[..], garbage].concat(), &Limits::default()).await;
        assert!(!matches!(error, HandshakeError::Timeout(_)), "{garbage:?}: {error}");
    }
}

#[tokio::test]
async fn a_huge_ready() {
    let mut said = BytesMut::from(&Greeting::encode()[..]);
    said.put_u8(6);
    said.put_u64(1 << 36);
    let error = handshake_with(&said, &Limits::default()).await;
    assert!(
        matches!(error, HandshakeError::TooLong { claimed, .. } if claimed == 1 << 36),
        "{error}"
    );
}

#[tokio::test]
async fn the_wrong_socket_type_is_told_so_in_place_of_ready() {
    let (mut theirs, ours) = peer_that_says(&hello(SocketType::Sub)).await;
    let error = PullConnection::accept(ours, &Limits::default(), &HeartbeatConfig::default())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the peer is a SUB socket, which a PULL socket cannot talk to"
    );
    let mut heard = Vec::new();
    theirs.read_to_end(&mut heard).await.unwrap();
    let mut expected = BytesMut::from(&Greeting::encode()[..]);
    Command::error("Invalid socket type: this is PULL").encode(&mut expected);
    assert_eq!(heard, expected);
}

#[tokio::test]
async fn a_stock_peer_of_the_wrong_type_gets_nowhere_and_the_next_one_is_served() {
    let (listener, endpoint) = listen(&"tcp://127.0.0.1:0".parse().unwrap()).await;
    let wrong = stock(libzmq_peer::Kind::Dealer);
    wrong.set(libzmq_peer::SocketOption::ReconnectIvl, -1).unwrap();
    wrong.connect(&endpoint.to_string()).unwrap();
    let stream = listener.accept().await.unwrap();
    let error = PullConnection::accept(stream, &Limits::default(), &HeartbeatConfig::default())
        .await
        .unwrap_err();
    assert!(matches!(error, HandshakeError::Incompatible { .. }), "{error}");
    let push = stock(libzmq_peer::Kind::Push);
    push.connect(&endpoint.to_string()).unwrap();
    push.send(&["hello"]).unwrap();
    assert_eq!(receive_pull(&mut accept_pull(&listener).await, 1).await[0], [b"hello"]);
}

async fn connected(said: &[u8], limits: Limits) -> (UnixStream, PullConnection) {
    let (theirs, ours) = peer_that_says(&[&hello(SocketType::Push)[..], said].concat()).await;
    (
        theirs,
        PullConnection::accept(ours, &limits, &HeartbeatConfig::default())
            .await
            .unwrap(),
    )
}

#[tokio::test]
async fn a_frame_that_claims_2_to_the_36_ends_the_connection_at_once() {
    let mut said = BytesMut::new();
    encode_message(&[b"before"], &mut said);
    said.put_u8(2);
    said.put_u64(1 << 36);
    let (_theirs, mut pull) = connected(&said, Limits::default()).await;
    assert_eq!(receive_pull(&mut pull, 1).await[0], [b"before"]);
    let error = pull.next().await.unwrap_err();
    assert!(matches!(error, ConnectionError::Decode(_)), "{error}");
}

#[tokio::test]
async fn an_oversize_message_is_reported_and_the_connection_goes_on() {
    let limits = Limits {
        message: 1000,
        ..Default::default()
    };
    let mut said = BytesMut::new();
    encode_message(&[&[1; 900], &[2; 101]], &mut said);
    let oversize = said.len() as u64;
    encode_message(&[b"after"], &mut said);
    let (theirs, mut pull) = connected(&said, limits).await;
    let Received::Oversize { bytes, head } = pull.next().await.unwrap() else {
        panic!()
    };
    assert_eq!((bytes, head.len() as u64), (oversize, oversize));
    assert_eq!(receive_pull(&mut pull, 1).await[0], [b"after"]);
    drop(theirs);
    assert_eq!(pull.next().await.unwrap(), Received::Closed);
}

#[tokio::test]
async fn a_message_cut_off_by_the_end_is_not_delivered() {
    let (theirs, mut pull) = connected(b"\x01\x01a\x01\x01b", Limits::default()).await;
    drop(theirs);
    let error = pull.next().await.unwrap_err();
    assert!(matches!(error, ConnectionError::ClosedInMessage), "{error}");
}

#[tokio::test]
async fn pings_that_nobody_reads_the_answers_of_do_not_pile_up() {
    let (mut theirs, mut pull) = connected(b"", Limits::default()).await;
    let mut ping = BytesMut::new();
    Command::Ping {
        ttl: 0,
        context: "0123456789abcdef".into(),
    }
    .encode(&mut ping);
    let flood = ping.repeat(1000);
    let sent = tokio::select! {
        received = pull.next() => panic!("{received:?}"),
        sent = async {
            let mut sent = 0;
            // Until the peer's window is full, because we have ceased to read.
            while let Ok(result) = tokio::time::timeout(Duration::from_millis(300), theirs.write(&flood)).await {
                sent += result.unwrap();
                assert!(sent < 64 << 20, "everything is read");
            }
            sent
        } => sent,
    };
    assert!(sent > 0);
    // It goes on when the answers are read.
    let reading = tokio::spawn(async move {
        let mut total = 0;
        let mut buffer = vec![0; 1 << 16];
        while total < 1 << 16 {
            total += theirs.read(&mut buffer).await.unwrap();
        }
        theirs
    });
    tokio::select! {
        received = pull.next() => panic!("{received:?}"),
        theirs = reading => drop(theirs.unwrap()),
    }
}

#[tokio::test]
async fn what_a_producer_sent_before_it_went_is_received_though_answers_fail() {
    // The PING makes us write to a peer that is gone already.
    let mut said = BytesMut::new();
    Command::Ping {
        ttl: 0,
        context: "x".into(),
    }
    .encode(&mut said);
    for number in 0u32..5000 {
        encode_message(&[&number.to_be_bytes()], &mut said);
    }
    let (theirs, mut pull) = connected(&said, Limits::default()).await;
    drop(theirs);
    assert_eq!(receive_pull(&mut pull, 5000).await.len(), 5000);
    let end = pull.next().await;
    assert!(
        matches!(end, Ok(Received::Closed) | Err(ConnectionError::Io(_))),
        "{end:?}"
    );
}
