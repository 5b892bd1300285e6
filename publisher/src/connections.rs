//! Accepting peers: handshakes in a bounded number, so that silent connections keep nobody out.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use lavabus_zmtp::{Limits, Listener, Peer, SocketType, Stream, handshake};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::counters::Counters;

/// So many connections of a listener may be in their handshake; the oldest makes room for the next.
const MAX_HANDSHAKES: usize = 128;
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
        let mut handshakes: VecDeque<CancellationToken> = VecDeque::new();
        loop {
            // Both branches are cancel-safe.
            let accepted = tokio::select! {
                () = self.closing.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            // Those that are done have dropped their token's guard.
            handshakes.retain(|handshake| !handshake.is_cancelled());
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    self.rest_after(&error, &mut handshakes, listener.local_endpoint())
                        .await;
                    continue;
                }
            };
            let Ok(permit) = self.connections.clone().try_acquire_owned() else {
                self.counters.too_many_connections.add(1);
                if self.evict(&mut handshakes).is_none() {
                    debug!(peer = %stream.peer(), "refused: too many connections");
                }
                continue;
            };
            if handshakes.len() >= MAX_HANDSHAKES {
                self.evict(&mut handshakes);
            }
            let turn = CancellationToken::new();
            handshakes.push_back(turn.clone());
            let (doors, serve) = (self.clone(), serve.clone());
            self.tasks.spawn(async move {
                let _permit = permit;
                if let Some((stream, peer)) = doors.shake_hands(stream, ours, turn).await {
                    serve(stream, peer).await;
                }
            });
        }
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

    fn evict(&self, handshakes: &mut VecDeque<CancellationToken>) -> Option<()> {
        handshakes.pop_front().map(|oldest| oldest.cancel())
    }

    async fn rest_after(
        &self,
        error: &io::Error,
        handshakes: &mut VecDeque<CancellationToken>,
        endpoint: &lavabus_zmtp::Endpoint,
    ) {
        warn!(%endpoint, %error, "cannot accept a connection; trying again");
        self.evict(handshakes);
        tokio::select! {
            () = tokio::time::sleep(REST) => {}
            () = self.closing.cancelled() => {}
        }
    }
}
