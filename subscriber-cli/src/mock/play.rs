//! From a lab to where its events go, each at its time.

use std::io::Write;
use std::time::Duration;

use jiff::Timestamp;
use lavabus_protocol::Record;
use lavabus_zmtp::ConnectError;
use tokio::time::Instant;

use super::lab::{Lab, LabEvent};
use super::producer::Producer;
use crate::failure::Failure;

/// So many events are sent at once at most: some 250 KiB.
const BATCH: usize = 512;
/// How long the publisher may take to confirm the last events.
const CONFIRM: Duration = Duration::from_secs(10);

/// When a play ends. Both may be given; neither: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// After so many events.
    pub count: Option<u64>,
    /// Before the first event at this time or later, on the lab's clock.
    pub until: Option<Timestamp>,
}

/// Where events go.
#[derive(Debug)]
pub enum Outlet {
    /// To a publisher's intake.
    Producer(Box<Producer>),
    /// One JSON object a line to standard output.
    Lines,
}

/// Why a play ended early.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The publisher was away for too long.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Standard output failed.
    #[error(transparent)]
    Output(#[from] Failure),
    /// All was sent, but the publisher has not confirmed that it read all.
    #[error(transparent)]
    Unconfirmed(#[from] lavabus_zmtp::ConnectionError),
}

/// What has been sent so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How many events.
    pub sent: u64,
    /// How much later than it should have been the last one was sent.
    pub late: Duration,
    /// How often the connection was lost and made again.
    pub reconnects: u64,
}

/// Sends the lab's events, each when it is due: its time on the lab's clock after `start` is its time after now.
/// Without `in_time` all are sent as fast as they are taken.
///
/// `report` is called after each batch.
///
/// # Errors
///
/// [`PlayError`].
pub async fn play(
    lab: Lab,
    start: Timestamp,
    in_time: bool,
    limit: Limit,
    outlet: &mut Outlet,
    mut report: impl FnMut(Progress),
) -> Result<(), PlayError> {
    let began = Instant::now();
    let due_at = |event: &LabEvent| match in_time {
        true => began + Duration::try_from(event.at.duration_since(start)).unwrap_or(Duration::ZERO),
        false => began,
    };
    let count = limit
        .count
        .map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
    let in_limit = |event: &LabEvent| limit.until.is_none_or(|until| event.at < until);
    let mut events = lab.take(count).take_while(in_limit).peekable();
    let mut progress = Progress {
        sent: 0,
        late: Duration::ZERO,
        reconnects: 0,
    };
    let mut batch: Vec<Record> = Vec::with_capacity(BATCH);

    while let Some(next) = events.peek() {
        let due = due_at(next);
        let now = Instant::now();
        if due > now {
            outlet.idle_until(due).await?;
            continue;
        }
        while batch.len() < BATCH
            && let Some(event) = events.next_if(|event| due_at(event) <= now)
        {
            if in_time {
                progress.late = now.saturating_duration_since(due_at(&event));
            }
            batch.push(event.record);
        }
        outlet.send(&batch).await?;
        progress.sent += batch.len() as u64;
        progress.reconnects = outlet.reconnects();
        batch.clear();
        report(progress);
        // Without a socket nothing here waits, and a signal has to be heard.
        tokio::task::yield_now().await;
    }
    outlet.finish().await
}

impl Outlet {
    async fn send(&mut self, events: &[Record]) -> Result<(), PlayError> {
        match self {
            Outlet::Producer(producer) => Ok(producer.send(events).await?),
            Outlet::Lines => {
                let mut out = std::io::stdout().lock();
                let mut lines = String::new();
                for event in events {
                    lines.push_str(&event.to_json_line());
                    lines.push('\n');
                }
                let written = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
                written.map_err(|error| Failure::output(&error).into())
            }
        }
    }

    async fn idle_until(&mut self, until: Instant) -> Result<(), PlayError> {
        match self {
            Outlet::Producer(producer) => Ok(producer.idle_until(until).await?),
            Outlet::Lines => {
                tokio::time::sleep_until(until).await;
                Ok(())
            }
        }
    }

    fn reconnects(&self) -> u64 {
        match self {
            Outlet::Producer(producer) => producer.reconnects(),
            Outlet::Lines => 0,
        }
    }

    async fn finish(&mut self) -> Result<(), PlayError> {
        match self {
            Outlet::Producer(producer) => Ok(producer.confirm(CONFIRM).await?),
            Outlet::Lines => Ok(()),
        }
    }
}
