//! Accepting peers: handshakes in a bounded number, so that silent connections keep nobody out.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use lavabus_zmtp::{Limits, Listener, Peer, SocketType, Stream, handshake};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::counters::Counters;

/// So many connections of a listener may be in their handshake. Then the oldest makes room for the next,
const MAX_HANDSHAKES: usize = 512;
/// but not before it had so much time: peers that all come back at once are not turned away for it.
const HANDSHAKE_TURN: Duration = Duration::from_millis(100);
/// After a failure to accept (no file descriptors, no memory) the listener rests this long.
const REST: Duration = Duration::from_millis(100);

/// What all listeners share.
#[derive(Clone, Debug)]
pub(crate) struct Doors {
    pub(crate) limits: Limits,
    /// One permit a connection, whatever its kind.
    pub(crate) connections: Arc<Semaphore>,
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
        let mut handshakes = Handshakes::default();
        loop {
            // Both branches are cancel-safe.
            let accepted = tokio::select! {
                () = self.closing.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    warn!(endpoint = %listener.local_endpoint(), %error, "cannot accept a connection; trying again");
                    handshakes.evict_oldest();
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            let Some(permit) = self.permit(&mut handshakes).await else {
                self.counters.too_many_connections.add(1);
                debug!(peer = %stream.peer(), "refused: too many connections");
                continue;
            };
            let turn = handshakes.begin().await;
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
    async fn permit(&self, handshakes: &mut Handshakes) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = self.connections.clone().try_acquire_owned() {
            return Some(permit);
        }
        if !handshakes.evict_oldest() {
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

/// The handshakes of a listener that are under way, oldest first. Cancelling one ends it.
#[derive(Default)]
struct Handshakes(VecDeque<(Instant, CancellationToken)>);

impl Handshakes {
    /// A token for a new handshake, as soon as there is room for it.
    async fn begin(&mut self) -> CancellationToken {
        // Those that are done have dropped their token's guard.
        self.0.retain(|(_, handshake)| !handshake.is_cancelled());
        if self.0.len() >= MAX_HANDSHAKES {
            tokio::time::sleep_until(self.0[0].0 + HANDSHAKE_TURN).await;
            self.evict_oldest();
        }
        let handshake = CancellationToken::new();
        self.0.push_back((Instant::now(), handshake.clone()));
        handshake
    }

    /// Ends the oldest handshake; false if there is none.
    fn evict_oldest(&mut self) -> bool {
        while let Some((_, oldest)) = self.0.pop_front() {
            if !oldest.is_cancelled() {
                oldest.cancel();
                return true;
            }
        }
        false
    }
}
