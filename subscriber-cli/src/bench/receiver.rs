//! One subscriber of a run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use lavabus_zmtp::{ConnectionError, Received, SubConnection, frames};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::count::Count;
use super::message::{READY, read};

/// What all subscribers of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    /// When the run began: times in events count from here.
    pub(super) began: Instant,
    /// Subscribers whose subscription was seen to be live.
    pub(super) ready: AtomicU64,
    /// Deliveries so far, all subscribers together.
    pub(super) delivered: AtomicU64,
    /// Rings whenever one of the two grows.
    pub(super) progress: Notify,
    /// In µs, at least 1.
    pub(super) latency: Mutex<Histogram<u64>>,
    /// Subscribers end.
    pub(super) stop: CancellationToken,
}

/// What became of one subscriber.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) subscriber: usize,
    pub(super) count: Count,
    /// After the begin of the run.
    pub(super) last: Duration,
    /// Why it ended before it was told to.
    pub(super) ended: Option<ConnectionError>,
}

/// Receives until it is told to stop, or its connection ends.
pub(super) async fn receive(
    subscriber: usize,
    mut connection: SubConnection,
    count: Count,
    shared: Arc<Shared>,
) -> Outcome {
    let mut outcome = Outcome {
        subscriber,
        count,
        last: Duration::ZERO,
        ended: None,
    };
    let mut ready = false;
    let mut latencies = Vec::new();
    loop {
        let received = tokio::select! {
            () = shared.stop.cancelled() => return outcome,
            received = connection.next() => received,
        };
        let run = match received {
            Ok(Received::Messages(run)) => run,
            Ok(Received::Oversize { .. }) => continue,
            Ok(Received::Closed) => {
                outcome.ended = Some(ConnectionError::Closed);
                shared.progress.notify_one();
                return outcome;
            }
            Err(error) => {
                outcome.ended = Some(error);
                shared.progress.notify_one();
                return outcome;
            }
        };
        let now = shared.began.elapsed();
        let before = outcome.count.received();
        for message in run.messages() {
            let Some(data) = frames(message).nth(4) else { continue };
            if !ready && data == READY.as_bytes() {
                ready = true;
                shared.ready.fetch_add(1, Ordering::Relaxed);
                shared.progress.notify_one();
            }
            if let Some((index, sent)) = read(data)
                && outcome.count.see(index)
            {
                outcome.last = now;
                latencies.push(now.saturating_sub(sent));
            }
        }
        if !latencies.is_empty() {
            let mut histogram = shared.latency.lock().unwrap_or_else(PoisonError::into_inner);
            for latency in latencies.drain(..) {
                let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                histogram.saturating_record(micros.max(1));
            }
        }
        let new = outcome.count.received() - before;
        if new > 0 {
            shared.delivered.fetch_add(new, Ordering::Relaxed);
            shared.progress.notify_one();
        }
    }
}
