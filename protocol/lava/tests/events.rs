//! LAVA's WebSocket, as the server speaks it.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[allow(dead_code)]
mod script;

use lavabus_lava::{Identity, Received, Server, ServerError, Token};
use script::Script;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tungstenite::handshake::derive_accept_key;

const EVENT: &str = r#"["lab.device", "8e503fbe-e568-11f1-8b37-02fc00000001", "2026-11-21T05:01:05+00:00", "lavaserver", "{\"device\": \"q\"}"]"#;

/// Accepts one connection, shakes hands and sends these bytes; gives the request and the open connection.
async fn web_socket(frames: Vec<u8>) -> (Server, JoinHandle<(String, TcpStream)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut identity = Identity::anonymous(&format!("http://{}/lava/", listener.local_addr().unwrap())).unwrap();
    identity.username = Some("ada".to_owned());
    identity.token = Some(Token::new("s3cret"));
    let peer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = script::request(&mut stream).await;
        let key = request
            .lines()
            .find_map(|line| line.strip_prefix("sec-websocket-key: "))
            .unwrap();
        let accept = derive_accept_key(key.as_bytes());
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&frames).await.unwrap();
        (request, stream)
    });
    (Server::new(&identity).unwrap(), peer)
}

/// RFC 6455 section 5.2: FIN and the opcode, the length in 7 or 7 + 16 bits, no mask from a server.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => frame.push(length),
        _ => {
            frame.push(126);
            frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;

#[tokio::test]
async fn events_and_what_is_none() {
    let mut frames = frame(TEXT, EVENT.as_bytes());
    frames.extend(frame(PING, b"x"));
    frames.extend(frame(TEXT, b"[1, 2]"));
    frames.extend(frame(BINARY, b"xyz"));
    frames.extend(frame(TEXT, EVENT.as_bytes()));
    frames.extend(frame(CLOSE, &1001_u16.to_be_bytes()));
    let (server, peer) = web_socket(frames).await;
    let mut socket = server.web_socket().await.unwrap();
    let Received::Event(record) = socket.next().await.unwrap() else {
        panic!("no event")
    };
    assert_eq!(
        (record.topic.as_str(), record.data.as_str()),
        ("lab.device", "{\"device\": \"q\"}")
    );
    for reason in ["2 frames", "a binary frame of 3 bytes"] {
        let Received::NoEvent { reason: given } = socket.next().await.unwrap() else {
            panic!("an event")
        };
        assert!(given.contains(reason), "{given}");
    }
    assert_eq!(socket.next().await.unwrap(), Received::Event(record));
    assert_eq!(socket.passed_over(), 2);
    let error = socket.next().await.unwrap_err();
    assert_eq!(error.to_string(), "unavailable: the WebSocket was closed: 1001 ");
    let (request, _) = peer.await.unwrap();
    assert!(request.starts_with("GET /lava/ws/ HTTP/1.1\r\n"), "{request}");
    // ada:s3cret
    assert!(
        request.contains("\r\nauthorization: Basic YWRhOnMzY3JldA==\r\n"),
        "{request}"
    );
    assert!(!request.contains("permessage-deflate"), "{request}");
}

#[tokio::test]
async fn the_error_object_is_a_refusal() {
    let mut frames = frame(TEXT, br#"{"error": "Unknown user"}"#);
    frames.extend(frame(CLOSE, &1000_u16.to_be_bytes()));
    let (server, _peer) = web_socket(frames).await;
    let error = server.web_socket().await.unwrap().next().await.unwrap_err();
    let expected = ServerError::Refused {
        status: None,
        message: "Unknown user".to_owned(),
    };
    assert_eq!(error, expected);
}

#[tokio::test]
async fn a_broken_connection_may_be_opened_again() {
    let (server, peer) = web_socket(frame(TEXT, b"x")[..2].to_vec()).await;
    let mut socket = server.web_socket().await.unwrap();
    drop(peer.await.unwrap());
    assert!(socket.next().await.unwrap_err().is_temporary());
}

#[tokio::test]
async fn no_web_socket_there() {
    // LAVA answers 101 to everybody: none of these is its word on the token or the address.
    for (status, expected) in [
        ("401 Unauthorized", Some(401)),
        ("403 Forbidden", Some(403)),
        ("404 Not Found", Some(404)),
        ("200 OK", Some(200)),
        ("429 Too Many Requests", None),
        ("502 Bad Gateway", None),
        ("503 Service Unavailable", None),
    ] {
        for answer in [script::html(status), script::json(status, r#"{"detail": "no"}"#)] {
            let script = Script::of(vec![answer]).await;
            let error = script.server().web_socket().await.unwrap_err();
            match error {
                ServerError::Unexpected { status, .. } => assert_eq!(status, expected),
                error => assert!(expected.is_none() && error.is_temporary(), "{status}: {error:?}"),
            }
        }
    }
}

#[tokio::test]
async fn no_error_repeats_the_token() {
    let basic = "Authorization: Basic YWRhOnMzY3JldA==, s3cret";
    let redacted = "Authorization: Basic …, …";
    // At the handshake.
    for status in ["200 OK", "403 Forbidden", "502 Bad Gateway"] {
        let echo = format!("Authorization: {}", script::ECHO_BASIC);
        let script = Script::of(vec![script::answer(status, "text/plain", &echo)]).await;
        let error = script.server().web_socket().await.unwrap_err();
        assert!(
            error.to_string().contains("Authorization: Basic …"),
            "{status}: {error}"
        );
    }
    // In the error object, in the reason of a close, in what is no event.
    let (server, _peer) = web_socket(frame(TEXT, format!(r#"{{"error": "{basic}"}}"#).as_bytes())).await;
    let error = server.web_socket().await.unwrap().next().await.unwrap_err();
    assert_eq!(error.to_string(), format!("refused: {redacted}"));
    let mut frames = frame(TEXT, format!(r#"["{basic}"]"#).as_bytes());
    frames.extend(frame(TEXT, basic.as_bytes()));
    frames.extend(frame(CLOSE, &[&1008_u16.to_be_bytes(), basic.as_bytes()].concat()));
    let (server, _peer) = web_socket(frames).await;
    let mut socket = server.web_socket().await.unwrap();
    for _ in 0..2 {
        let shown = format!("{:?}", socket.next().await.unwrap());
        assert!(!shown.contains("s3cret") && !shown.contains("YWRh"), "{shown}");
    }
    let error = socket.next().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("unavailable: the WebSocket was closed: 1008 {redacted}")
    );
}

#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    let (server, peer) = web_socket(Vec::new()).await;
    let mut socket = server.web_socket().await.unwrap();
    let (_, mut stream) = peer.await.unwrap();
    let whole = frame(TEXT, EVENT.as_bytes());
    stream.write_all(&whole[..50]).await.unwrap();
    tokio::select! {
        biased;
        _ = socket.next() => panic!("half a frame is none"),
        () = std::future::ready(()) => {}
    }
    stream.write_all(&whole[50..]).await.unwrap();
    assert!(matches!(socket.next().await.unwrap(), Received::Event(_)));
}

#[tokio::test]
async fn silence_is_an_end_after_pings() {
    let (server, peer) = web_socket(Vec::new()).await;
    let mut socket = server.web_socket().await.unwrap();
    let (_, mut stream) = peer.await.unwrap();
    // With the clock stopped, time goes on only where nothing else can.
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let error = socket.next().await.unwrap_err();
    assert_eq!(error.to_string(), "unavailable: nothing heard for 90 s");
    assert!(began.elapsed() <= std::time::Duration::from_secs(91));
    drop(socket);
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
    // Two empty pings, with FIN, a mask and no payload: 6 bytes each.
    let pings: Vec<[u8; 2]> = heard.chunks(6).map(|frame| [frame[0], frame[1]]).collect();
    assert_eq!(pings, [[0x80 | PING, 0x80]; 2]);
}
