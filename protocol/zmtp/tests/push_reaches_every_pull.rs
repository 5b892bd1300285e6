//! Our PUSH sends; a stock PULL of libzmq and of the `zeromq` crate receives, and `flush_confirmed` says so.

#![allow(clippy::unwrap_used)]

mod peers;

use lavabus_zmtp::{ConnectOptions, PushConnection};
use libzmq_peer::Kind;
use peers::*;
use zeromq::{Socket as _, SocketRecv as _};

async fn send_all(endpoint: &str) {
    let endpoint = endpoint.parse().unwrap();
    let mut push = PushConnection::connect(&endpoint, &ConnectOptions::default(), LONG)
        .await
        .unwrap();
    for message in messages_of_every_size() {
        let frames: Vec<&[u8]> = message.iter().map(Vec::as_slice).collect();
        push.send(&frames).await.unwrap();
    }
    push.flush_confirmed(LONG).await.unwrap();
}

#[tokio::test]
async fn libzmq() {
    let folder = tempfile::tempdir().unwrap();
    for endpoint in endpoints(&folder) {
        let pull = stock(Kind::Pull);
        pull.bind(&endpoint.to_string()).unwrap();
        send_all(&pull.last_endpoint().unwrap()).await;
        // All was confirmed before the connection went; so all must be here.
        let received = beside(move || {
            messages_of_every_size()
                .iter()
                .map(|_| pull.recv_timeout(LONG).unwrap())
                .collect::<Vec<_>>()
        });
        assert_eq!(received.await, messages_of_every_size());
    }
}

#[tokio::test]
async fn zeromq_crate() {
    let folder = tempfile::tempdir().unwrap();
    for endpoint in endpoints(&folder) {
        let mut pull = zeromq::PullSocket::new();
        let endpoint = pull.bind(&endpoint.to_string()).await.unwrap().to_string();
        let receiving = tokio::spawn(async move {
            let mut messages = Vec::new();
            while messages.len() < messages_of_every_size().len() {
                let message = tokio::time::timeout(LONG, pull.recv()).await.unwrap().unwrap();
                messages.push(
                    message
                        .into_vec()
                        .into_iter()
                        .map(|frame| frame.to_vec())
                        .collect::<Vec<_>>(),
                );
            }
            messages
        });
        send_all(&endpoint).await;
        assert_eq!(receiving.await.unwrap(), messages_of_every_size());
    }
}

#[tokio::test]
async fn a_confirmation_waits_for_what_the_peer_has_not_taken() {
    let pull = stock(Kind::Pull);
    pull.set(libzmq_peer::SocketOption::RcvHwm, 1).unwrap();
    pull.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = pull.last_endpoint().unwrap().parse().unwrap();
    let mut push = PushConnection::connect(&endpoint, &ConnectOptions::default(), LONG)
        .await
        .unwrap();
    let body = vec![0; 100_000];
    for _ in 0..20 {
        push.feed(&[&body]).await.unwrap();
    }
    let short = std::time::Duration::from_millis(200);
    let error = push.flush_confirmed(short).await.unwrap_err();
    assert!(
        matches!(error, lavabus_zmtp::ConnectionError::Unconfirmed(_)),
        "{error}"
    );
    let receiving = tokio::task::spawn_blocking(move || (0..20).for_each(|_| drop(pull.recv_timeout(LONG).unwrap())));
    push.flush_confirmed(LONG).await.unwrap();
    receiving.await.unwrap();
}

#[tokio::test]
async fn nobody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for endpoint in [format!("tcp://{free}"), ipc(&folder, "none").to_string()] {
        let error = PushConnection::connect(&endpoint.parse().unwrap(), &ConnectOptions::default(), LONG).await;
        let error = error.unwrap_err();
        assert!(matches!(error, lavabus_zmtp::ConnectError::Refused { .. }), "{error}");
        assert!(error.to_string().contains(&endpoint), "{error}");
    }
}

#[tokio::test]
async fn a_peer_that_goes_is_noticed() {
    let (listener, endpoint) = listen(&"tcp://127.0.0.1:0".parse().unwrap()).await;
    let accepting = tokio::spawn(async move { accept_pull(&listener).await });
    let mut push = PushConnection::connect(&endpoint, &ConnectOptions::default(), LONG)
        .await
        .unwrap();
    drop(accepting.await.unwrap());
    let error = tokio::time::timeout(LONG, push.closed()).await.unwrap();
    assert!(matches!(error, lavabus_zmtp::ConnectionError::Closed), "{error}");
}

#[tokio::test]
async fn a_peer_that_goes_is_noticed_by_the_sender() {
    let folder = tempfile::tempdir().unwrap();
    for endpoint in endpoints(&folder) {
        let (listener, endpoint) = listen(&endpoint).await;
        let accepting = tokio::spawn(async move { accept_pull(&listener).await });
        let mut push = PushConnection::connect(&endpoint, &ConnectOptions::default(), LONG)
            .await
            .unwrap();
        drop(accepting.await.unwrap());
        let sending = async {
            loop {
                if let Err(error) = push.send(&[b"is anybody there?"]).await {
                    return error;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, sending).await.unwrap();
        push.feed(&[b"lost"]).await.unwrap();
        push.flush().await.unwrap_err();
    }
}
