//! `/ws/`: LAVA's own dialect, for clients that know nothing of us.

#![allow(clippy::unwrap_used)]

mod lab;

use std::io::ErrorKind;
use std::time::Duration;

use futures_util::SinkExt as _;
use lab::{Lab, Message, StockPush, StockSub, WebSocket, captured, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message as Frame};

/// Everything until the server closes the connection.
async fn answer(publisher: &lab::RunningPublisher, request: &str) -> String {
    let mut stream = TcpStream::connect(publisher.http()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(lab::LONG, stream.read_to_string(&mut answer)).await;
    read.expect("an end").unwrap();
    answer
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_captured_message_comes_as_it_was_sent() {
    let publisher = Lab::new().journal().http().start().await;
    let mut client = WebSocket::connect(publisher.http(), &[]).await;
    publisher.websockets(1).await;
    let push = StockPush::connect(publisher.intake());
    let sent = captured();
    push.send_all(&sent);
    assert_eq!(client.take(sent.len()).await, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_too() {
    let publisher = Lab::new().http().start().await;
    let mut client = WebSocket::connect(publisher.http(), &[]).await;
    publisher.websockets(1).await;
    let push = StockPush::connect(publisher.intake());
    let sent: Vec<Message> = (0..5_000).map(Message::test_event).collect();
    push.send_all(&sent);
    assert_eq!(client.take(sent.len()).await, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_login_is_said_after_the_upgrade() {
    let publisher = Lab::new().http().start().await;
    for (header, expected) in [
        ("Bearer x", "Only Basic authentication is supported"),
        ("basic YTpi", "Only Basic authentication is supported"),
        ("Token x", "Only Basic authentication is supported"),
        ("Basic !", "Invalid basic authentication"),
        ("Basic YWI=", "Invalid basic authentication"),
    ] {
        let mut client = WebSocket::connect(publisher.http(), &[("authorization", header)]).await;
        let said: serde_json::Value = serde_json::from_str(&client.text().await).unwrap();
        assert_eq!(said, serde_json::json!({"error": expected}), "{header}");
        assert_eq!(client.closed().await.unwrap().code, CloseCode::Normal, "{header}");
    }
    assert_eq!(publisher.counters().authentication_failures.get(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_paths_are_lavas() {
    let publisher = Lab::new().journal().http().start().await;
    let healthz = answer(&publisher, &get("/ws/v1/healthz")).await;
    assert!(
        healthz.starts_with("HTTP/1.1 200 OK\r\n") && healthz.ends_with(r#"{"health": "good"}"#),
        "{healthz}"
    );
    assert!(answer(&publisher, &get("/ws")).await.starts_with("HTTP/1.1 404 "));
    assert!(answer(&publisher, &get("/ws/")).await.starts_with("HTTP/1.1 400 "));
    assert!(answer(&publisher, &get("/livez")).await.starts_with("HTTP/1.1 200 "));
    assert!(answer(&publisher, &get("/readyz")).await.starts_with("HTTP/1.1 200 "));
    let wrong = answer(&publisher, &get("/ws/").replace("GET", "POST")).await;
    assert!(
        wrong.starts_with("HTTP/1.1 405 ") && wrong.contains("application/problem+json"),
        "{wrong}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_may_not_listen() {
    let publisher = Lab::new()
        .http()
        .configure(|config| config.http.origins = vec!["https://lab.example.org".to_owned()])
        .start()
        .await;
    let own = format!("http://{}", publisher.http());
    for (origin, allowed) in [
        (own.as_str(), true),
        ("https://lab.example.org", true),
        ("https://evil.example.org", false),
        ("null", false),
    ] {
        match WebSocket::try_connect(publisher.http(), &[("origin", origin)]).await {
            Ok(_) => assert!(allowed, "{origin}"),
            Err(Error::Http(response)) => assert!(!allowed && response.status() == 403, "{origin}"),
            Err(error) => panic!("{origin}: {error}"),
        }
    }
}

/// Nor may one whose name was made to point to this machine.
#[tokio::test(flavor = "multi_thread")]
async fn this_machines_port_is_asked_by_this_machines_names() {
    let publisher = Lab::new()
        .http()
        .configure(|config| config.http.origins = vec!["https://lab.example.org".to_owned()])
        .start()
        .await;
    for (host, expected) in [
        ("localhost", 200),
        ("localhost:8001", 200),
        ("127.0.0.1:8001", 200),
        ("[::1]", 200),
        ("[::1]:8001", 200),
        ("lab.example.org", 200),
        ("evil.example.org", 403),
        ("evil.example.org:8001", 403),
    ] {
        let answer = answer(&publisher, &get("/livez").replace("localhost", host)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{host}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_are_answered_and_a_close_is_a_close() {
    let publisher = Lab::new().http().start().await;
    let mut client = WebSocket::connect(publisher.http(), &[]).await;
    client
        .stream()
        .send(Frame::Text("nobody listens".into()))
        .await
        .unwrap();
    client.stream().send(Frame::Ping(b"42".to_vec().into())).await.unwrap();
    assert_eq!(
        client.frame().await.unwrap().unwrap(),
        Frame::Pong(b"42".to_vec().into())
    );
    client.stream().close(None).await.unwrap();
    assert_eq!(client.closed().await.unwrap().code, CloseCode::Normal);
    assert!(client.frame().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_frames_end_their_connection_only() {
    let publisher = Lab::new().http().start().await;
    let mut good = WebSocket::connect(publisher.http(), &[]).await;
    for bytes in [
        &[0x89, 0][..],
        &[0xff; 64],
        &[0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let mut bad = WebSocket::connect(publisher.http(), &[]).await;
        bad.tcp().writable().await.unwrap();
        bad.tcp().try_write(bytes).unwrap();
        let code = bad.closed().await.unwrap().code;
        assert!(matches!(code, CloseCode::Protocol | CloseCode::Size), "{code:?}");
    }
    eventually("counted", || publisher.counters().malformed_peers.get() == 3).await;
    publisher.websockets(4).await;
    let push = StockPush::connect(publisher.intake());
    push.send(&Message::test_event(1));
    assert_eq!(good.next().await.number(), 1);
}

/// Whoever offers `permessage-deflate` gets it; the messages are the same.
#[tokio::test(flavor = "multi_thread")]
async fn deflated_messages_say_the_same() {
    let publisher = Lab::new().journal().http().start().await;
    let mut stream = TcpStream::connect(publisher.http()).await.unwrap();
    let request = "GET /ws/ HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(
        head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{head}"
    );
    assert!(
        head.contains("sec-websocket-extensions: permessage-deflate; server_no_context_takeover"),
        "{head}"
    );
    publisher.websockets(1).await;
    let push = StockPush::connect(publisher.intake());
    let sent = captured();
    push.send_all(&sent);
    for message in &sent {
        // Final, compressed, text.
        assert_eq!(stream.read_u8().await.unwrap(), 0b1100_0001);
        let length = match stream.read_u8().await.unwrap() {
            126 => u64::from(stream.read_u16().await.unwrap()),
            127 => stream.read_u64().await.unwrap(),
            length => u64::from(length),
        };
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.unwrap();
        payload.extend([0, 0, 0xff, 0xff]);
        let mut text = Vec::with_capacity(1 << 16);
        let mut inflate = flate2::Decompress::new(false);
        inflate
            .decompress_vec(&payload, &mut text, flate2::FlushDecompress::Sync)
            .unwrap();
        let frames: [String; 5] = serde_json::from_slice(&text).unwrap();
        assert_eq!(&Message::new(&frames), message);
    }
}

/// More than the windows of both ends hold.
fn more_than_the_windows_hold() -> Vec<Message> {
    let padding = "x".repeat(4_000);
    let event = |number: u64| {
        let data = serde_json::json!({"message": padding, "job": 1995, "number": number});
        Message::sent_at(jiff::Timestamp::now(), "event", &data)
    };
    (0..8_000).map(event).collect()
}

/// A client that stops reading delays nobody, and has everything when it reads on: it is only further behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_only_further_behind() {
    let publisher = Lab::new()
        .journal()
        .http()
        .configure(|config| config.ring_bytes = 256 * 1024)
        .start()
        .await;
    let mut slow = WebSocket::connect(publisher.http(), &[]).await;
    let mut quick = WebSocket::connect(publisher.http(), &[]).await;
    let sub = StockSub::connect(publisher.publish(), &[""]);
    publisher.websockets(2).await;
    publisher.subscribers(1).await;
    let push = StockPush::connect(publisher.intake());
    let sent = more_than_the_windows_hold();
    let (pushing, all) = (sent.clone(), sent.len());
    let pushed = tokio::task::spawn_blocking(move || push.send_all(&pushing));
    let subscribed = tokio::task::spawn_blocking(move || sub.take(all));
    assert_eq!(quick.take(all).await, sent);
    assert_eq!(subscribed.await.unwrap(), sent);
    pushed.await.unwrap();
    assert_eq!(slow.take(all).await, sent);
}

/// One that reads nothing for too long is told to come again, counted, and closed; a reset harms nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_given_up() {
    let publisher = Lab::new()
        .journal()
        .http()
        .configure(|config| config.heartbeat.stalled_timeout = Duration::from_secs(2))
        .start()
        .await;
    let stalled = WebSocket::connect(publisher.http(), &[]).await;
    let reset = WebSocket::connect(publisher.http(), &[]).await;
    let mut good = WebSocket::connect(publisher.http(), &[]).await;
    publisher.websockets(3).await;
    let push = StockPush::connect(publisher.intake());
    let sent = more_than_the_windows_hold();
    let pushing = sent.clone();
    let pushed = tokio::task::spawn_blocking(move || push.send_all(&pushing));
    assert_eq!(good.take(sent.len() / 2).await, sent[..sent.len() / 2]);
    // What is unread when it is closed makes it a reset.
    drop(reset);
    assert_eq!(good.take(sent.len() / 2).await, sent[sent.len() / 2..]);
    pushed.await.unwrap();
    eventually("given up", || publisher.counters().stalled_peers.get() >= 1).await;
    drop(stalled);
}

/// At the end everybody has what was published, and is told that it is the end.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_comes_after_the_last_event() {
    let publisher = Lab::new().journal().http().start().await;
    let mut client = WebSocket::connect(publisher.http(), &[]).await;
    publisher.websockets(1).await;
    let push = StockPush::connect(publisher.intake());
    let sent: Vec<Message> = (0..2_000).map(Message::test_event).collect();
    push.send_all(&sent);
    publisher.published(sent.len() as u64).await;
    let (got, lab) = tokio::join!(client.take(sent.len()), publisher.stop());
    assert_eq!(got, sent);
    assert_eq!(client.closed().await.unwrap().code, CloseCode::Away);
    drop(lab);
}

/// A connection that asks for nothing is closed.
#[tokio::test(flavor = "multi_thread")]
async fn requests_without_end_are_cut_off() {
    let publisher = Lab::new().http().start().await;
    let mut stream = TcpStream::connect(publisher.http()).await.unwrap();
    let endless = format!("GET /ws/ HTTP/1.1\r\nX: {}", "x".repeat(200_000));
    let ended = async {
        let _ = stream.write_all(endless.as_bytes()).await;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer).await {
            Ok(_) => String::from_utf8_lossy(&answer).into_owned(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                String::from("HTTP/1.1 431 ")
            }
        }
    };
    let answer = tokio::time::timeout(lab::LONG, ended).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}
