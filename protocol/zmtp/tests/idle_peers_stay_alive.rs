//! Pairs with LAVA's heartbeat settings, and with SQUAD's shorter ones, are idle for 20 s; then traffic flows on the
//! same connections.

#![allow(clippy::unwrap_used)]

mod peers;

use lavabus_zmtp::{ConnectOptions, Endpoint, HeartbeatConfig, Limits, PullConnection, PushConnection, SubConnection};
use libzmq_peer::{Kind, SocketOption};
use peers::*;
use std::time::Duration;

const IDLE: Duration = Duration::from_secs(20);

fn tcp() -> Endpoint {
    "tcp://127.0.0.1:0".parse().unwrap()
}

/// SQUAD's SUB: a PING every second, dead after 10 s; and a TTL that makes us watch the peer as closely.
fn set_squads_heartbeats(socket: &libzmq_peer::Socket) {
    for (option, millis) in [
        (SocketOption::HeartbeatIvl, 1_000),
        (SocketOption::HeartbeatTimeout, 10_000),
        (SocketOption::HeartbeatTtl, 3_000),
    ] {
        socket.set(option, millis).unwrap();
    }
}

fn squads() -> HeartbeatConfig {
    HeartbeatConfig {
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(3),
        ttl: Duration::from_secs(3),
        ..Default::default()
    }
}

/// `next` must not end while the peer is idle; the message that comes then is on the same connection.
async fn libzmq_pub_with_our_sub(set: fn(&libzmq_peer::Socket), heartbeat: HeartbeatConfig) {
    let publisher = stock(Kind::XPub);
    set(&publisher);
    publisher.bind("tcp://127.0.0.1:*").unwrap();
    let options = ConnectOptions {
        heartbeat,
        ..Default::default()
    };
    let endpoint = publisher.last_endpoint().unwrap().parse().unwrap();
    let mut sub = SubConnection::connect(&endpoint, &options, LONG).await.unwrap();
    sub.subscribe(b"").await.unwrap();
    tokio::select! {
        received = sub.next() => panic!("{received:?} while idle"),
        () = tokio::time::sleep(IDLE) => {}
    }
    publisher.send(&["topic", "after"]).unwrap();
    assert_eq!(receive_sub(&mut sub, 1).await[0], [b"topic".as_slice(), b"after"]);
}

async fn libzmq_push_with_our_pull(set: fn(&libzmq_peer::Socket), heartbeat: HeartbeatConfig) {
    let (listener, endpoint) = listen(&tcp()).await;
    let push = stock(Kind::Push);
    set(&push);
    let events = push.monitor().unwrap();
    push.connect(&endpoint.to_string()).unwrap();
    let stream = listener.accept().await.unwrap();
    let mut pull = PullConnection::accept(stream, &Limits::default(), &heartbeat)
        .await
        .unwrap();
    tokio::select! {
        received = pull.next() => panic!("{received:?} while idle"),
        () = tokio::time::sleep(IDLE) => {}
    }
    push.send(&["topic", "after"]).unwrap();
    assert_eq!(receive_pull(&mut pull, 1).await[0], [b"topic".as_slice(), b"after"]);
    let disconnected = events
        .try_iter()
        .any(|event| event.kind == libzmq_peer::MonitorEventKind::Disconnected);
    assert!(!disconnected, "libzmq disconnected meanwhile");
}

async fn our_push_with_libzmq_pull(set: fn(&libzmq_peer::Socket), heartbeat: HeartbeatConfig) {
    let pull = stock(Kind::Pull);
    set(&pull);
    pull.bind("tcp://127.0.0.1:*").unwrap();
    let options = ConnectOptions {
        heartbeat,
        ..Default::default()
    };
    let endpoint = pull.last_endpoint().unwrap().parse().unwrap();
    let mut push = PushConnection::connect(&endpoint, &options, LONG).await.unwrap();
    tokio::select! {
        error = push.closed() => panic!("{error} while idle"),
        () = tokio::time::sleep(IDLE) => {}
    }
    push.send(&[b"topic", b"after"]).await.unwrap();
    push.flush_confirmed(LONG).await.unwrap();
    assert_eq!(
        beside(move || pull.recv_timeout(LONG).unwrap()).await,
        [b"topic".as_slice(), b"after"]
    );
}

#[tokio::test]
async fn for_20_seconds() {
    let defaults = HeartbeatConfig::default;
    tokio::join!(
        libzmq_pub_with_our_sub(set_lavas_heartbeats, defaults()),
        libzmq_pub_with_our_sub(set_squads_heartbeats, squads()),
        libzmq_push_with_our_pull(set_lavas_heartbeats, defaults()),
        libzmq_push_with_our_pull(set_squads_heartbeats, squads()),
        libzmq_push_with_our_pull(|_| {}, squads()),
        our_push_with_libzmq_pull(set_lavas_heartbeats, defaults()),
        our_push_with_libzmq_pull(set_squads_heartbeats, squads()),
    );
}
