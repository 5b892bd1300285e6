//! A peer that sends ZMTP PING commands.

use std::time::{Duration, Instant};

use libzmq_peer::{Kind, MonitorEventKind, SocketOption};
use tokio::time::{sleep, timeout};
use zeromq::{Socket, SocketRecv, SubSocket};

use crate::Outcome;
use crate::peers::{Publisher, event};

const PING_EVERY: Duration = Duration::from_millis(500);
const PING_RUN: Duration = Duration::from_secs(5);

pub(crate) async fn run() -> Outcome {
    let (dropped, errors, sent, received) = pinged_subscriber_of_the_crate().await?;
    println!(
        "ping: SUB of the crate, libzmq PUB that pings every {PING_EVERY:?}, for {PING_RUN:?}: connection lost {dropped} \
         times, recv() failed {errors} times, {} of {sent} events lost",
        sent - received
    );
    let (dropped, sent, received) = pinging_subscriber(true).await?;
    println!(
        "ping: PUB of the crate, libzmq SUB that pings every {PING_EVERY:?}, for {PING_RUN:?}: connection lost {dropped} \
         times, {} of {sent} events lost",
        sent - received
    );
    let (dropped, sent, received) = pinging_subscriber(false).await?;
    println!(
        "ping: control, both ends libzmq: connection lost {dropped} times, {} of {sent} events lost",
        sent - received
    );
    Ok(())
}

/// LAVA's publisher (libzmq with heartbeats) and a stock subscriber of the crate.
async fn pinged_subscriber_of_the_crate() -> Outcome<(usize, usize, usize, usize)> {
    let publisher = libzmq_peer::Socket::new(Kind::XPub)?;
    publisher.set(SocketOption::HeartbeatIvl, PING_EVERY.as_millis().try_into()?)?;
    let monitor = publisher.monitor()?;
    publisher.bind("tcp://127.0.0.1:*")?;
    let mut subscriber = SubSocket::new();
    subscriber.connect(&publisher.last_endpoint()?).await?;
    subscriber.subscribe("").await?;
    publisher.recv_timeout(Duration::from_secs(5))?;

    let counter = tokio::spawn(async move {
        let (mut received, mut errors) = (0, 0);
        while let Ok(result) = timeout(Duration::from_secs(1), subscriber.recv()).await {
            match result {
                Ok(_) => received += 1,
                Err(_) => errors += 1,
            }
        }
        (received, errors)
    });
    let start = Instant::now();
    let mut sent = 0;
    while start.elapsed() < PING_RUN {
        publisher.send(&["org.example.lab.device", "{}"])?;
        sent += 1;
        sleep(Duration::from_millis(5)).await;
    }
    let dropped = monitor
        .try_iter()
        .filter(|event| event.kind == MonitorEventKind::Disconnected)
        .count();
    // Without a publisher the subscriber falls silent, and the count ends.
    drop(publisher);
    let (received, errors) = counter.await?;
    Ok((dropped, errors, sent, received))
}

/// A subscriber that pings, as SQUAD's does, at a publisher of the crate or of libzmq.
async fn pinging_subscriber(crate_publishes: bool) -> Outcome<(usize, usize, usize)> {
    let mut publisher = Publisher::bind(if crate_publishes { "zeromq" } else { "libzmq" }).await?;
    let subscriber = libzmq_peer::Socket::new(Kind::Sub)?;
    subscriber.set(SocketOption::HeartbeatIvl, PING_EVERY.as_millis().try_into()?)?;
    subscriber.subscribe(b"")?;
    let monitor = subscriber.monitor()?;
    subscriber.connect(&publisher.endpoint)?;
    publisher.send(event("warm-up", 0)).await?;
    while subscriber.recv_timeout(Duration::from_millis(20)).is_err() {
        publisher.send(event("warm-up", 0)).await?;
    }

    let start = Instant::now();
    let (mut sent, mut received) = (0, 0);
    while start.elapsed() < PING_RUN {
        publisher.send(event("device", 0)).await?;
        sent += 1;
        sleep(Duration::from_millis(5)).await;
        while subscriber.recv_timeout(Duration::ZERO).is_ok() {
            received += 1;
        }
    }
    while subscriber.recv_timeout(Duration::from_millis(500)).is_ok() {
        received += 1;
    }
    let dropped = monitor
        .try_iter()
        .filter(|event| event.kind == MonitorEventKind::Disconnected)
        .count();
    Ok((dropped, sent, received.min(sent)))
}
