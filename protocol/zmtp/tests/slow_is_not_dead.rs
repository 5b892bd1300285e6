//! A stock PULL whose application does not read answers no PING. It is not taken for dead, and when it reads on it has
//! lost nothing.

#![allow(clippy::unwrap_used)]

mod peers;

use lavabus_zmtp::{ConnectOptions, HeartbeatConfig, PushConnection};
use libzmq_peer::{Kind, SocketOption};
use peers::*;
use std::time::Duration;

async fn sends_to_a_reader_that_sleeps(messages: u32, length: usize) {
    let pull = stock(Kind::Pull);
    pull.set(SocketOption::RcvHwm, 1).unwrap();
    pull.bind("tcp://127.0.0.1:*").unwrap();
    let heartbeat = HeartbeatConfig {
        interval: Duration::from_millis(20),
        timeout: Duration::from_millis(60),
        ..Default::default()
    };
    let options = ConnectOptions {
        heartbeat,
        ..Default::default()
    };
    let endpoint = pull.last_endpoint().unwrap().parse().unwrap();
    let mut push = PushConnection::connect(&endpoint, &options, LONG).await.unwrap();
    let body = vec![0; length];
    let sending = tokio::spawn(async move {
        for number in 0..messages {
            push.send(&[&number.to_be_bytes(), &body]).await.unwrap();
        }
        tokio::select! {
            error = push.closed() => panic!("{error}"),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        push.flush_confirmed(LONG).await.unwrap();
    });
    let reading = tokio::task::spawn_blocking(move || {
        // Many timeouts long.
        std::thread::sleep(Duration::from_secs(1));
        for number in 0..messages {
            assert_eq!(pull.recv_timeout(LONG).unwrap()[0], number.to_be_bytes());
        }
        pull
    });
    sending.await.unwrap();
    drop(reading.await.unwrap());
}

#[tokio::test]
async fn with_a_full_window() {
    sends_to_a_reader_that_sleeps(200, 100_000).await;
}

#[tokio::test]
async fn with_little_traffic_that_fills_no_window() {
    sends_to_a_reader_that_sleeps(20, 10).await;
}
