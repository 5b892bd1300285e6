//! From the console to the publisher, beside everything else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lavabus_client::{EmitError, Emitter};
use lavabus_protocol::Record;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Sending;

/// So many events wait for a publisher that is away or slow: at 16 KiB each, some 16 MiB.
pub(super) const QUEUE: usize = 1_000;
/// So many are sent before it is asked whether they arrived.
const BATCH: usize = 100;
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(200);

/// Where events are put in.
#[derive(Debug)]
pub(super) struct Queue {
    events: Sender<Record>,
    tally: Arc<Tally>,
}

impl Queue {
    /// Puts in one event, without waiting; false if there is no room.
    pub(super) fn push(&self, event: Record) -> bool {
        let is_in = self.events.try_send(event).is_ok();
        if is_in {
            self.tally.accepted.fetch_add(1, Ordering::Relaxed);
        }
        is_in
    }
}

#[derive(Debug, Default)]
struct Tally {
    accepted: AtomicU64,
    /// The publisher has taken so many.
    sent: AtomicU64,
    /// The last thing that went wrong.
    cause: Mutex<Option<String>>,
}

/// What came of the events that were put in.
#[derive(Debug)]
pub(super) struct Unsent {
    pub(super) sent: u64,
    /// These may have arrived, but nobody said so.
    pub(super) waiting: u64,
    pub(super) cause: Option<String>,
}

/// A task that sends what is put in. It connects, and connects again, for as long as it takes.
#[derive(Debug)]
pub(super) struct Delivery {
    task: Mutex<Option<JoinHandle<()>>>,
    is_over: CancellationToken,
    tally: Arc<Tally>,
}

impl Delivery {
    pub(super) fn begin(sending: &Sending) -> (Queue, Delivery) {
        let (events, waiting) = channel(QUEUE);
        let tally = Arc::new(Tally::default());
        let is_over = CancellationToken::new();
        let task = tokio::spawn(deliver(waiting, sending.clone(), is_over.clone(), tally.clone()));
        let queue = Queue {
            events,
            tally: tally.clone(),
        };
        let delivery = Delivery {
            task: Mutex::new(Some(task)),
            is_over,
            tally,
        };
        (queue, delivery)
    }

    /// Nothing more is put in: sends the rest, for so long at most.
    pub(super) async fn end(&self, within: Duration) -> Unsent {
        self.is_over.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut task) = task
            && tokio::time::timeout(within, &mut task).await.is_err()
        {
            task.abort();
        }
        let sent = self.tally.sent.load(Ordering::Relaxed);
        Unsent {
            sent,
            waiting: self.tally.accepted.load(Ordering::Relaxed).saturating_sub(sent),
            cause: self.tally.cause.lock().unwrap_or_else(PoisonError::into_inner).take(),
        }
    }
}

async fn deliver(mut waiting: Receiver<Record>, sending: Sending, is_over: CancellationToken, tally: Arc<Tally>) {
    let mut connection = None;
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if batch.is_empty() {
            tokio::select! {
                biased;
                () = is_over.cancelled(), if !waiting.is_closed() => waiting.close(),
                received = waiting.recv_many(&mut batch, BATCH) => if received == 0 {
                    return;
                },
                () = lost(&mut connection) => connection = None,
            }
            continue;
        }
        match send(&mut connection, &batch, &sending).await {
            Ok(()) => {
                tally.sent.fetch_add(batch.len() as u64, Ordering::Relaxed);
                batch.clear();
            }
            // All of them again: a publisher knows those that it has by their UUIDs.
            Err(error) => {
                connection = None;
                *tally.cause.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// While nothing is to be sent, heartbeats are answered here.
async fn lost(connection: &mut Option<Emitter>) {
    match connection {
        Some(emitter) => drop(emitter.closed().await),
        None => std::future::pending().await,
    }
}

async fn send(connection: &mut Option<Emitter>, batch: &[Record], sending: &Sending) -> Result<(), EmitError> {
    let emitter = match connection {
        Some(emitter) => emitter,
        None => connection.insert(Emitter::connect(&sending.to, sending.within).await?),
    };
    let sent = async {
        for event in batch {
            emitter.send(&event.envelope()).await?;
        }
        emitter.confirm(sending.within).await
    };
    // A publisher that takes nothing for so long may hang: another connection may go better.
    match tokio::time::timeout(2 * sending.within.max(PAUSE), sent).await {
        Ok(sent) => sent,
        Err(_) => Err(EmitError::Unconfirmed {
            endpoint: sending.to.clone(),
            within: sending.within,
        }),
    }
}
