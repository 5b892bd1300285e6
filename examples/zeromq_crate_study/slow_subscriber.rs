//! A subscriber that does not read.

use std::time::Duration;

use tokio::time::sleep;

use crate::peers::{Publisher, RawSubscriber, encoded_len, event};
use crate::{Outcome, run_myself};

const SLOW_EVENTS: u64 = 300_000;

pub(crate) fn run() -> Outcome {
    for (library, subscribers, size) in [
        ("zeromq", "1", "400"),
        ("zeromq", "10", "400"),
        ("zeromq", "1", "4096"),
        ("libzmq", "1", "400"),
        ("libzmq", "1", "4096"),
    ] {
        run_myself(&["slow-subscriber-run", library, subscribers, size])?;
    }
    Ok(())
}

/// Publishes at a pace that the publisher can keep (100 events, then 1 ms of rest) to subscribers that do not read; then
/// lets them read what is left.
pub(crate) async fn run_one(library: &str, subscribers: usize, size: usize) -> Outcome {
    let mut publisher = Publisher::bind(library).await?;
    let mut stalled = Vec::new();
    for _ in 0..subscribers {
        stalled.push(RawSubscriber::connect(&publisher.endpoint, b"").await?);
    }
    sleep(Duration::from_millis(200)).await;
    let before = resident_mib()?;
    let mut growth = Vec::new();
    for n in 1..=SLOW_EVENTS {
        publisher.send(event("device", size)).await?;
        if n % 100 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        if n % (SLOW_EVENTS / 3) == 0 {
            growth.push(format!("+{} MiB", resident_mib()? - before));
        }
    }
    let mut received = 0;
    for subscriber in &mut stalled {
        received += subscriber
            .count_messages(encoded_len("device", size), Duration::from_secs(1))
            .await?;
    }
    println!(
        "slow-subscriber: PUB of {library}, {subscribers} stalled, events of {size} bytes: memory after 100,000, 200,000, \
         300,000 events {}; then {} of {} lost, every send() Ok",
        growth.join(", "),
        SLOW_EVENTS * subscribers as u64 - received,
        SLOW_EVENTS * subscribers as u64,
    );
    Ok(())
}

/// The resident memory of this process.
fn resident_mib() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS")?;
    let kib: u64 = line.split_whitespace().next().ok_or("no number")?.parse()?;
    Ok(kib / 1024)
}
