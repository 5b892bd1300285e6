//! Accepting peers: handshakes in a bounded number, so that silent connections keep nobody out.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lavabus_zmtp::{Limits, Listener, Peer, SocketType, Stream, handshake};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::counters::Counters;

/// So many connections of all listeners may be in their handshake. Then the oldest makes room for the next,
const MAX_HANDSHAKES: usize = 512;
/// but not before it had so much time: peers that all come back at once are not turned away for it.
const HANDSHAKE_TURN: Duration = Duration::from_millis(100);
/// After a failure to accept (no file descriptors, no memory) the listener rests this long,
const REST: Duration = Duration::from_millis(100);
/// or only this long when it has ended a handshake, whose descriptor is free then.
const SHORT_REST: Duration = Duration::from_millis(2);

/// It is said no more often than this.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// What all listeners share.
#[derive(Clone, Debug)]
pub(crate) struct Doors {
    pub(crate) limits: Limits,
    /// One permit a connection, whatever its kind.
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) handshakes: Handshakes,
    pub(crate) counters: Arc<Counters>,
    /// Cancelled when no new connection is taken any more.
    pub(crate) closing: CancellationToken,
    /// Every task that serves a connection.
    pub(crate) tasks: TaskTracker,
}

impl Doors {
    /// Accepts connections until closing, and gives those whose handshake succeeds to `serve`, each in a task.
    pub(crate) async fn accept<F, Served>(&self, listener: Listener, ours: SocketType, serve: F)
    where
        F: Fn(Stream, Peer) -> Served + Clone + Send + Sync + 'static,
        Served: Future<Output = ()> + Send,
    {
        let mut warned = None;
        loop {
            // Both branches are cancel-safe.
            let accepted = tokio::select! {
                () = self.closing.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    if warned.is_none_or(|last: Instant| last.elapsed() >= WARN_INTERVAL) {
                        warned = Some(Instant::now());
                        warn!(endpoint = %listener.local_endpoint(), %error, "cannot accept connections; trying again");
                    }
                    let rest = if self.handshakes.evict_oldest() {
                        SHORT_REST
                    } else {
                        REST
                    };
                    tokio::time::sleep(rest).await;
                    continue;
                }
            };
            let Some(permit) = self.permit().await else {
                self.counters.too_many_connections.add(1);
                debug!(peer = %stream.peer(), "refused: too many connections");
                continue;
            };
            let turn = self.handshakes.begin().await;
            let (doors, serve) = (self.clone(), serve.clone());
            self.tasks.spawn(async move {
                let _permit = permit;
                if let Some((stream, peer)) = doors.shake_hands(stream, ours, turn).await {
                    serve(stream, peer).await;
                }
            });
        }
    }

    /// Room for one connection more, if need be in place of the oldest handshake.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = self.connections.clone().try_acquire_owned() {
            return Some(permit);
        }
        if !self.handshakes.evict_oldest() {
            return None;
        }
        tokio::time::timeout(REST, self.connections.clone().acquire_owned())
            .await
            .ok()?
            .ok()
    }

    async fn shake_hands(
        &self,
        mut stream: Stream,
        ours: SocketType,
        turn: CancellationToken,
    ) -> Option<(Stream, Peer)> {
        let address = stream.peer();
        let done = turn.clone().drop_guard();
        // A handshake that is given up drops its connection.
        let shaken = tokio::select! {
            shaken = handshake(&mut stream, ours, &self.limits) => shaken,
            () = turn.cancelled() => {
                self.counters.handshakes_evicted.add(1);
                return None;
            }
            () = self.closing.cancelled() => return None,
        };
        drop(done);
        match shaken {
            Ok(peer) => Some((stream, peer)),
            Err(error) => {
                self.counters.handshakes_failed.add(1);
                debug!(peer = %address, %error, "handshake failed");
                None
            }
        }
    }
}

/// The handshakes under way, oldest first; of all listeners, so that silent peers of one keep nobody out of another.
/// Cancelling one ends it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handshakes(Arc<Mutex<VecDeque<(Instant, CancellationToken)>>>);

impl Handshakes {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(Instant, CancellationToken)>> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// A token for a new handshake, as soon as there is room for it.
    async fn begin(&self) -> CancellationToken {
        if let Some(oldest) = self.oldest_if_full() {
            tokio::time::sleep_until(oldest + HANDSHAKE_TURN).await;
            self.evict_oldest();
        }
        let handshake = CancellationToken::new();
        self.lock().push_back((Instant::now(), handshake.clone()));
        handshake
    }

    /// When the oldest began, if there is no room for one more.
    fn oldest_if_full(&self) -> Option<Instant> {
        let mut handshakes = self.lock();
        // Those that are done have dropped their token's guard.
        handshakes.retain(|(_, handshake)| !handshake.is_cancelled());
        (handshakes.len() >= MAX_HANDSHAKES).then(|| handshakes[0].0)
    }

    /// Ends the oldest handshake; false if there is none.
    fn evict_oldest(&self) -> bool {
        let mut handshakes = self.lock();
        while let Some((_, oldest)) = handshakes.pop_front() {
            if !oldest.is_cancelled() {
                oldest.cancel();
                return true;
            }
        }
        false
    }
}
