//! 100 subscribers, each of a topic of its own.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use zeromq::ZmqMessage;

use crate::Outcome;
use crate::peers::{Publisher, RawSubscriber, encoded_len, event};

const SUBSCRIBERS: usize = 100;
const EVENT_SIZE: usize = 400;

pub(crate) async fn run() -> Outcome {
    for library in ["zeromq", "libzmq"] {
        for rate in [50_000, 100_000, 200_000] {
            run_one(library, Some(rate), rate as usize * 4).await?;
        }
        run_one(library, None, 1_000_000).await?;
    }
    Ok(())
}

/// Publishes `events` at `rate` a second, or as fast as `send` takes them, and counts what arrives.
async fn run_one(library: &str, rate: Option<u32>, events: usize) -> Outcome {
    let mut publisher = Publisher::bind(library).await?;
    let topics: Vec<String> = (0..SUBSCRIBERS).map(|n| format!("device-{n:03}")).collect();
    let mut readers = Vec::new();
    for topic in &topics {
        let mut subscriber = RawSubscriber::connect(&publisher.endpoint, topic.as_bytes()).await?;
        let len = encoded_len(topic, EVENT_SIZE);
        readers.push(tokio::spawn(async move {
            subscriber.count_messages(len, Duration::from_secs(2)).await
        }));
    }
    sleep(Duration::from_millis(500)).await;

    let messages: Vec<ZmqMessage> = topics.iter().map(|topic| event(topic, EVENT_SIZE)).collect();
    let start = Instant::now();
    let mut failed = 0;
    for n in 0..events {
        if publisher.send(messages[n % SUBSCRIBERS].clone()).await.is_err() {
            failed += 1;
        }
        if let Some(rate) = rate {
            let ahead = Duration::from_secs_f64(n as f64 / f64::from(rate)).saturating_sub(start.elapsed());
            if ahead > Duration::from_millis(5) {
                sleep(ahead).await;
            }
        }
    }
    let reached = events as f64 / start.elapsed().as_secs_f64();
    let mut received = 0;
    for reader in readers {
        received += reader.await??;
    }
    println!(
        "narrow: PUB of {library}, {SUBSCRIBERS} subscribers of one topic each, {events} events at {reached:.0}/s ({}): \
         {:.1} % lost, {failed} errors of send()",
        if rate.is_some() {
            "paced"
        } else {
            "as fast as send() takes them"
        },
        100.0 * (events as u64 - received) as f64 / events as f64
    );
    Ok(())
}
