//! From a producer's connection to the next stage: reads, checks, hands over.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lavabus_protocol::Refusal;
use lavabus_zmtp::{ConnectionError, HeartbeatConfig, Peer, PullConnection, Received, Stream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::admission::{Admitted, Refused, admit};
use crate::counters::Counters;
use crate::fan_out::FanOut;
use crate::journal::{Outcome, Submission};

/// At the end producers' connections are read until they are quiet for this long.
const QUIET: Duration = Duration::from_millis(20);
/// But not longer than this.
const LAST_READ: Duration = Duration::from_millis(300);

/// The stage after the intake.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    /// Producers are read no faster than the journal commits.
    Journal(ToJournal),
    /// Without a journal events go straight to the fan-out.
    FanOut(Arc<FanOut>),
}

/// A channel that is bounded by bytes.
#[derive(Clone, Debug)]
pub(crate) struct ToJournal {
    submissions: mpsc::Sender<Submission>,
    room: Arc<Semaphore>,
}

impl ToJournal {
    /// What is sent may wait up to this many bytes, and up to as many runs as the channel has places.
    pub(crate) fn new(submissions: mpsc::Sender<Submission>, bytes: usize) -> ToJournal {
        let room = Arc::new(Semaphore::new(bytes));
        ToJournal { submissions, room }
    }

    /// Hands over what is to be kept whole or not at all, and answered. None if the journal has ended.
    pub(crate) async fn send_for_answer(
        &self,
        admitted: Admitted,
        peer: &Arc<str>,
    ) -> Option<oneshot::Receiver<Outcome>> {
        let (answer, answered) = oneshot::channel();
        self.send(admitted, peer, Some(answer)).await.then_some(answered)
    }

    /// False if the journal has ended.
    async fn send(&self, admitted: Admitted, peer: &Arc<str>, answer: Option<oneshot::Sender<Outcome>>) -> bool {
        let bytes = u32::try_from(admitted.bytes.len()).unwrap_or(u32::MAX);
        let Ok(room) = self.room.clone().acquire_many_owned(bytes).await else {
            return false;
        };
        let submission = Submission {
            admitted,
            received_us: Timestamp::now().as_microsecond(),
            peer: peer.clone(),
            answer,
            _room: Some(room),
        };
        self.submissions.send(submission).await.is_ok()
    }
}

/// Serves producers.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    pub(crate) next: Next,
    pub(crate) counters: Arc<Counters>,
    pub(crate) heartbeat: HeartbeatConfig,
    pub(crate) limits: lavabus_zmtp::Limits,
    /// Cancelled when what producers already sent is to be read, and no more.
    pub(crate) closing: CancellationToken,
}

impl Intake {
    /// Reads one producer until it closes, breaks the protocol, or the publisher ends.
    pub(crate) async fn serve(self, stream: Stream, peer: Peer) {
        self.counters.producers.add(1);
        let address: Arc<str> = stream.peer().to_string().into();
        let end = match PullConnection::after_handshake(stream, peer, &self.limits, &self.heartbeat) {
            Ok(mut connection) => self.read(&mut connection, &address).await,
            Err(error) => Err(error.into()),
        };
        self.counters.producers_gone.add(1);
        match end {
            Ok(()) => debug!(peer = %address, "producer gone"),
            Err(error) => {
                match &error {
                    ConnectionError::Decode(_) => self.counters.malformed_peers.add(1),
                    ConnectionError::Dead => self.counters.dead_peers.add(1),
                    _ => {}
                }
                warn!(peer = %address, %error, "producer disconnected");
            }
        }
    }

    async fn read(&self, connection: &mut PullConnection, peer: &Arc<str>) -> Result<(), ConnectionError> {
        loop {
            // Both branches are cancel-safe: a connection keeps what it has read in part.
            let received = tokio::select! {
                biased;
                () = self.closing.cancelled() => return self.read_last(connection, peer).await,
                received = connection.next() => received?,
            };
            if !self.take(received, peer).await {
                return Ok(());
            }
        }
    }

    /// What the producer already sent.
    async fn read_last(&self, connection: &mut PullConnection, peer: &Arc<str>) -> Result<(), ConnectionError> {
        let end = Instant::now() + LAST_READ;
        while let Ok(received) = tokio::time::timeout_at(end.min(Instant::now() + QUIET), connection.next()).await {
            if !self.take(received?, peer).await {
                break;
            }
        }
        Ok(())
    }

    /// False when there is nothing more to read, or nobody to hand it to.
    pub(crate) async fn take(&self, received: Received, peer: &Arc<str>) -> bool {
        let admitted = match received {
            Received::Messages(run) => {
                self.counters.received.add(run.len() as u64);
                admit(run)
            }
            Received::Oversize { bytes, head } => {
                self.counters.received.add(1);
                let refusal = Refusal::Oversize {
                    bytes,
                    limit: self.limits.message,
                };
                Admitted {
                    refused: vec![Refused {
                        refusal,
                        head,
                        size: bytes,
                    }],
                    ..Admitted::default()
                }
            }
            Received::Closed => return false,
        };
        for refused in &admitted.refused {
            self.counters.refused.add(&refused.refusal);
            debug!(%peer, reason = refused.refusal.reason(), cause = %refused.refusal, "message refused");
        }
        match &self.next {
            Next::Journal(journal) => journal.send(admitted, peer, None).await,
            Next::FanOut(fan_out) => {
                if !admitted.messages.is_empty() {
                    let (began, count) = (Instant::now(), admitted.messages.len() as u64);
                    fan_out.publish_unkept(admitted.events());
                    self.counters.published_within(began.elapsed(), count);
                }
                true
            }
        }
    }
}
