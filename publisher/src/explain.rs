//! Why jobs failed: hears the stream as one more reader, asks LAVA, and puts what it answers into the stream.
//!
//! It is off an event's way. The reader takes from the ring what everybody takes; questions wait in a bounded queue;
//! LAVA's answers come in as a producer's messages do.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::BytesMut;
use jiff::Timestamp;
use lavabus_lava::explain::{Explainer, LOOK_BACK, Question, Questions, Step};
use lavabus_protocol::{Envelope, EventId, Record};
use lavabus_store::{OpenError, Reader, StoreError};
use lavabus_zmtp::{MessageRun, Received};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::counters::Counters;
use crate::fan_out::FanOut;
use crate::fan_out::matching::Signal;
use crate::fan_out::ring::Found;
use crate::intake::Intake;

/// Bytes of the ring that are looked at in one go.
const BATCHES: usize = 64 * 1024;

/// The parts of it, ready to run.
#[derive(Debug)]
pub(crate) struct Explain {
    reading: Reading,
    explainer: Explainer,
    intake: Intake,
}

/// Looks for jobs that failed.
#[derive(Debug)]
struct Reading {
    fan_out: Arc<FanOut>,
    signal: Arc<Signal>,
    /// The next batch of the ring.
    batch: u64,
    /// The last number given before it.
    sequence: u64,
    database: Option<PathBuf>,
    questions: Questions,
    counters: Arc<Counters>,
    closing: CancellationToken,
}

impl Explain {
    /// From now on no event is missed. `database` is the journal's, to look back, and for what left the ring.
    pub(crate) fn new(
        explainer: Explainer,
        fan_out: Arc<FanOut>,
        database: Option<PathBuf>,
        intake: Intake,
    ) -> Explain {
        let signal = Arc::<Signal>::default();
        let interest = fan_out.subscribe(b"", &signal);
        interest.expect("the first subscription of all has room");
        let (batch, sequence) = fan_out.now();
        let reading = Reading {
            fan_out,
            signal,
            batch,
            sequence,
            database,
            questions: explainer.questions(),
            counters: intake.counters.clone(),
            closing: intake.closing.clone(),
        };
        Explain {
            reading,
            explainer,
            intake,
        }
    }

    /// Works until the intake closes.
    pub(crate) async fn run(self) {
        let Explain {
            reading,
            explainer,
            intake,
        } = self;
        let closing = intake.closing.clone();
        tokio::select! {
            biased;
            () = closing.cancelled() => {}
            () = reading.run() => {}
            () = answer(explainer, intake) => {}
        }
    }
}

impl Reading {
    async fn run(mut self) {
        self.look_back().await;
        let mut counted = 0;
        loop {
            self.read_ring().await;
            let left_out = self.questions.left_out();
            self.counters.explain_left_out.add(left_out - counted);
            counted = left_out;
            self.signal.told().await;
        }
    }

    /// Everything that is in the ring now.
    async fn read_ring(&mut self) {
        let mut batches = Vec::new();
        loop {
            // Before the ring is read, so that what comes after the last batch is told.
            self.signal.take();
            match self.fan_out.ring().read(self.batch, BATCHES, &mut batches) {
                Found::UpToDate => return,
                Found::Evicted => self.catch_up().await,
                Found::Batches => {}
            }
            for batch in batches.drain(..) {
                for message in 0..batch.messages.len() {
                    if batch.topic(message).ends_with(b"testjob") {
                        let event = envelope(batch.message(message));
                        let question = event.as_ref().and_then(Question::of);
                        question.into_iter().for_each(|question| self.questions.ask(question));
                    }
                }
                self.batch = batch.number + 1;
                if let Some(sequence) = batch.sequence(batch.messages.len() - 1) {
                    self.sequence = sequence;
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// The ring has lost some of what was not looked at: the journal has it, if there is one.
    async fn catch_up(&mut self) {
        let after = self.sequence;
        (self.batch, self.sequence) = self.fan_out.now();
        if self.database.is_none() {
            warn!(
                events = self.sequence.saturating_sub(after),
                "events left the memory before it was looked whether their jobs failed"
            );
            return;
        }
        self.read_journal(Some(after)).await;
    }

    async fn look_back(&mut self) {
        if self.database.is_some() {
            self.read_journal(None).await;
        }
    }

    /// The journal after a number, or of the last hour, up to the place in the ring.
    async fn read_journal(&self, after: Option<u64>) {
        let Some(path) = self.database.clone() else { return };
        let (questions, upto, closing) = (self.questions.clone(), self.sequence, self.closing.clone());
        let read = move || read_journal(path, after, upto, &questions, &closing);
        let read = tokio::task::spawn_blocking(read).await;
        match read {
            Ok(Ok(()) | Err(ReadError::Closing)) => {}
            Ok(Err(error)) => warn!(%error, "the journal could not be read for jobs that failed"),
            Err(ended) => {
                if let Ok(panic) = ended.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}

/// An admitted event: it is not checked again.
fn envelope(message: &[u8]) -> Option<Envelope<'_>> {
    let mut frames = lavabus_zmtp::frames(message);
    let mut text = || std::str::from_utf8(frames.next()?).ok();
    Some(Envelope {
        topic: text()?,
        uuid: EventId::parse(text()?.as_bytes())?,
        datetime: text()?,
        username: text()?,
        data: text()?,
    })
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the publisher ends")]
    Closing,
}

/// Asks of each failed job that has no explanation in the journal yet.
fn read_journal(
    path: PathBuf,
    after: Option<u64>,
    upto: u64,
    questions: &Questions,
    closing: &CancellationToken,
) -> Result<(), ReadError> {
    let reader = Reader::open(path)?;
    let after = match after {
        Some(after) => after,
        None => {
            let since = Timestamp::now() - LOOK_BACK;
            reader.seq_received_since(since.as_microsecond())?.saturating_sub(1)
        }
    };
    questions.look_back(
        after,
        upto,
        |after, upto, visit| {
            if closing.is_cancelled() {
                return Err(ReadError::Closing);
            }
            reader.scan(after, upto, |row| {
                visit(&row.envelope());
                ControlFlow::Continue(())
            })?;
            Ok(())
        },
        |id| Ok(reader.by_id(id)?.is_some()),
    )
}

/// Puts what LAVA answers into the stream.
async fn answer(mut explainer: Explainer, intake: Intake) {
    let peer: Arc<str> = "explain".into();
    loop {
        match explainer.next().await {
            Step::Explained { job, events } => {
                intake.counters.explained.add(1);
                debug!(job, events = events.len(), "explained");
                if !events.is_empty() && !intake.take(Received::Messages(run_of(&events)), &peer).await {
                    return;
                }
            }
            step @ Step::Foreign { .. } => {
                intake.counters.explain_foreign.add(1);
                debug!("{step}");
            }
            step => {
                if let Step::GivenUp { jobs, .. } = &step {
                    intake.counters.explain_given_up.add(*jobs);
                }
                match step {
                    Step::Available => info!("{step}"),
                    _ => warn!("{step}"),
                }
            }
        }
    }
}

/// Events as a producer sends them.
fn run_of(events: &[Record]) -> MessageRun {
    let (mut bytes, mut ends) = (BytesMut::new(), Vec::new());
    for event in events {
        lavabus_zmtp::encode_message(&event.envelope().frames(&mut [0; 36]), &mut bytes);
        ends.push(u32::try_from(bytes.len()).expect("two events of some KiB"));
    }
    MessageRun {
        bytes: bytes.freeze(),
        ends,
    }
}
