//! One reader's way through the stream: in the ring, and in the journal where the ring has moved on.

use std::sync::Arc;
use std::time::Duration;

use lavabus_protocol::{Cursor, Epoch, GapReason};
use lavabus_store::Event;

use crate::authority::Lane;
use crate::counters::Counters;
use crate::fan_out::FanOut;
use crate::fan_out::batch::Batch;
use crate::fan_out::matching::{Signal, SubscriptionsFull};
use crate::fan_out::ring::Found;
use crate::metrics::outlet::{Outlet, Place};
use crate::replay::{ReplayError, Replays, Resume};
use crate::subscriber::position::{Position, Standing};

/// While the journal cannot number what went out, it is asked again this often.
const NUMBERING_INTERVAL: Duration = Duration::from_millis(100);
/// So many bytes of the journal are read in one go.
const PAGE_BYTES: usize = 64 * 1024;

/// What comes next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Events of the ring, from this one of the batch on.
    Batch(Arc<Batch>, usize),
    /// Events of the journal, in order. Up to the number everything was looked at.
    Events(Vec<Event>, u64),
    /// The events from the place before to the place now cannot be had any more.
    Gap(GapReason),
}

/// A place in the stream.
#[derive(Debug)]
pub(crate) struct Following {
    fan_out: Arc<FanOut>,
    replays: Option<Arc<Replays>>,
    counters: Arc<Counters>,
    signal: Arc<Signal>,
    position: Position,
    in_ring: bool,
    /// What its reader asks for: the past, until it has caught up.
    lane: Lane,
    place: Arc<Place>,
    outlet: Option<Outlet>,
    /// Behind this number something is missing that had none.
    gap: Option<(u64, GapReason)>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.fan_out.cancel(std::iter::once(&b""[..]), &self.signal);
    }
}

impl Following {
    /// From now on.
    pub(crate) fn live(
        fan_out: &Arc<FanOut>,
        replays: Option<&Arc<Replays>>,
        counters: &Arc<Counters>,
    ) -> Result<Following, SubscriptionsFull> {
        let signal = Arc::<Signal>::default();
        fan_out.subscribe(b"", &signal)?;
        let (batch, sequence) = fan_out.now();
        Ok(Following {
            fan_out: fan_out.clone(),
            replays: replays.cloned(),
            counters: counters.clone(),
            signal,
            position: Position::new(batch, 0, sequence),
            in_ring: true,
            lane: Lane::Live,
            place: Place::new(fan_out.clone()),
            outlet: None,
            gap: None,
        })
    }

    /// What is asked when it is asked who may see what comes next.
    pub(crate) fn lane(&self) -> Lane {
        self.lane
    }

    /// How far it is, for others to see.
    pub(crate) fn place(&self) -> Arc<Place> {
        self.place.clone()
    }

    /// Is a subscriber of this outlet from now on.
    pub(crate) fn joins(&mut self, outlet: Outlet) {
        self.counters.outlets.of(outlet).join(&self.place);
        self.outlet = Some(outlet);
    }

    /// So many events were written to the subscriber.
    pub(crate) fn delivered(&self, events: usize) {
        if let Some(outlet) = self.outlet {
            self.counters.outlets.of(outlet).delivered.add(events as u64);
        }
    }

    /// Goes to the place right after a cursor of this epoch.
    pub(crate) async fn resume(&mut self, cursor: Cursor, epoch: Epoch) -> Result<Resume, ReplayError> {
        let resume = match &self.replays {
            Some(replays) => replays.resume(vec![cursor], None).await?,
            None => self.fan_out.resume(&[cursor], epoch),
        };
        self.lane = Lane::Past;
        self.position = Position::new(0, 0, resume.after);
        self.find_place();
        Ok(resume)
    }

    /// The number up to which everything was sent or is not wanted.
    pub(crate) fn sequence(&self) -> u64 {
        self.position.sequence
    }

    /// The newest number that was published.
    pub(crate) fn head(&self) -> u64 {
        self.fan_out.head()
    }

    /// Whether it reads the ring, where nothing is waited for but news.
    pub(crate) fn is_in_ring(&mut self) -> bool {
        if !self.in_ring {
            self.find_place();
        }
        self.in_ring
    }

    /// So many events of this batch are behind.
    pub(crate) fn passed(&mut self, batch: &Arc<Batch>, events: usize) {
        self.position.move_to(
            std::slice::from_ref(batch),
            match events == batch.messages.len() {
                true => (1, 0),
                false => (0, events),
            },
        );
        self.place.is_at(self.position.sequence);
    }

    /// Everything up to this number is behind.
    pub(crate) fn covers(&mut self, sequence: u64) {
        self.position.covers(sequence);
        self.place.is_at(self.position.sequence);
    }

    /// What comes next, as soon as there is something. It comes again until it is told to be behind. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Next, ReplayError> {
        loop {
            self.place.is_at(self.position.sequence);
            if let Some((_, reason)) = self.gap.take_if(|(after, _)| *after <= self.position.sequence) {
                return Ok(Next::Gap(reason));
            }
            if self.in_ring {
                // Before the ring is read, so that what comes after the last batch is told.
                self.signal.take();
                let mut batches = Vec::new();
                match self.fan_out.ring().read(self.position.batch, 1, &mut batches) {
                    Found::UpToDate => {
                        self.lane = Lane::Live;
                        self.place.is_up_to_date();
                        self.signal.told().await;
                    }
                    Found::Batches => {
                        if let Some(batch) = batches.pop() {
                            return Ok(Next::Batch(batch, self.position.message));
                        }
                    }
                    Found::Evicted => {
                        if let Some(gap) = self.leave_ring().await {
                            return Ok(gap);
                        }
                    }
                }
            } else if let Some(next) = self.read_journal().await? {
                return Ok(next);
            }
        }
    }

    fn find_place(&mut self) {
        let place = self.fan_out.ring().place_after(self.position.sequence);
        self.in_ring = match place {
            Some((batch, message)) => {
                self.position = Position::new(batch, message, self.position.sequence);
                true
            }
            None => self.replays.is_none(),
        };
    }

    async fn leave_ring(&mut self) -> Option<Next> {
        if self.replays.is_none() {
            let (batch, last_lost) = self.fan_out.ring().oldest();
            let lost = last_lost.saturating_sub(self.position.sequence);
            self.counters.skipped.add(lost);
            self.position = Position::new(batch, 0, last_lost);
            return Some(Next::Gap(GapReason::RingOverrun));
        }
        let (sequence, gap) = match self.position.standing() {
            Standing::After(sequence) => (sequence, None),
            Standing::NotRecorded(sequence) => (sequence, Some(Next::Gap(GapReason::NotRecorded))),
            Standing::Unknown => {
                tokio::time::sleep(NUMBERING_INTERVAL).await;
                return None;
            }
        };
        self.lane = Lane::Past;
        self.position = Position::new(0, 0, sequence);
        self.find_place();
        gap
    }

    async fn read_journal(&mut self) -> Result<Option<Next>, ReplayError> {
        let after = self.position.sequence;
        if self.fan_out.ring().place_after(after).is_some() {
            self.find_place();
            return Ok(None);
        }
        // What was committed and not yet published is left to the ring.
        let head = self.fan_out.head();
        let Some(replays) = self.replays.clone().filter(|_| after < head) else {
            tokio::time::sleep(NUMBERING_INTERVAL).await;
            return Ok(None);
        };
        let page = replays.events(after, head, PAGE_BYTES).await?;
        if let Some(pruned) = page.expired {
            let lost = pruned - after;
            self.counters.skipped.add(lost);
            self.position.covers(pruned);
            return Ok(Some(Next::Gap(GapReason::Expired)));
        }
        self.gap = page.gap.map(|reason| (page.after, reason));
        Ok(Some(Next::Events(page.events, page.after)))
    }
}
