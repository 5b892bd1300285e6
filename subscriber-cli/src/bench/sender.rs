//! The producer of a run.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use lavabus_client::{datetime_text, new_id};
use lavabus_zmtp::{ConnectionError, PushConnection};

use super::message::write;

/// So many events are written at once at most.
const BATCH: u64 = 256;
/// A wait ends up to this much late, which is not the publisher's latency.
const TIMER_SLACK: Duration = Duration::from_millis(2);

/// What is sent in a run.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) events: u64,
    /// Events a second; `None`: as many as are taken.
    pub(super) rate: Option<f64>,
    /// Bytes of data.
    pub(super) size: usize,
    /// The event with index `i` has the topic `i` modulo their number.
    pub(super) topics: Vec<String>,
}

/// Sends all events; returns, once the intake has read them, when the first was sent, after `began`.
///
/// With a rate, an event that is sent late has the time at which it was due: else a publisher that makes its producer
/// wait would hide it.
pub(super) async fn send(
    connection: &mut PushConnection,
    load: &Load,
    began: Instant,
    confirm: Duration,
) -> Result<Duration, ConnectionError> {
    let first = began.elapsed();
    let due = |index: u64| match load.rate {
        Some(rate) => first + Duration::try_from_secs_f64(index as f64 / rate).unwrap_or(Duration::MAX),
        None => first,
    };
    let (mut data, mut uuid, mut index) = (String::new(), [0; 36], 0);
    while index < load.events {
        let now = began.elapsed();
        if due(index) > now {
            tokio::select! {
                () = tokio::time::sleep(due(index) - now) => continue,
                error = connection.closed() => return Err(error),
            }
        }
        let datetime = datetime_text(Timestamp::now());
        let end = load.events.min(index + BATCH);
        while index < end && due(index) <= now {
            let sending = began.elapsed();
            let late = load.rate.is_some() && sending.saturating_sub(due(index)) > TIMER_SLACK;
            write(&mut data, index, if late { due(index) } else { sending }, load.size);
            let topic = &load.topics[(index % load.topics.len() as u64) as usize];
            let id = new_id();
            let frames = [topic.as_str(), id.write(&mut uuid), &datetime, "lavaserver", &data];
            connection.feed(&frames.map(str::as_bytes)).await?;
            index += 1;
        }
        connection.flush().await?;
    }
    connection.flush_confirmed(confirm).await?;
    Ok(first)
}

/// Sends one event to each topic, so that a subscriber can see that its subscription is live.
pub(super) async fn send_ready(
    connection: &mut PushConnection,
    topics: &[String],
    ready: &str,
) -> Result<(), ConnectionError> {
    let datetime = datetime_text(Timestamp::now());
    let mut uuid = [0; 36];
    for topic in topics {
        let id = new_id();
        let frames = [topic.as_str(), id.write(&mut uuid), &datetime, "lavaserver", ready];
        connection.feed(&frames.map(str::as_bytes)).await?;
    }
    connection.flush().await
}
