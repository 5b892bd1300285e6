//! From the journal to the subscribers: batches in a ring, and the signals that wake whoever wants them.

pub(crate) mod batch;
pub(crate) mod matching;
pub(crate) mod ring;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use self::batch::{Batch, BatchBuilder, Numbering, SharedNumbering};
use self::matching::{Interest, Matcher, Signal, SubscriptionsFull, Unserved};
use self::ring::Ring;
use crate::admission::AdmittedMessage;

/// How a group of events is to be numbered.
#[derive(Clone, Debug)]
pub(crate) enum Numbers {
    /// They were committed; the first has this number.
    From(u64),
    /// The journal can't write: they go out without a number and get one later.
    Later,
    /// Nor is there room to wait: they get none. All such batches of one outage share the numbering.
    Never(SharedNumbering),
}

#[derive(Debug)]
pub(crate) struct FanOut {
    ring: Ring,
    publishing: Mutex<Publishing>,
    /// The newest number of which all subscribers concerned have been told.
    told: AtomicU64,
}

/// What only one publisher at a time may touch.
#[derive(Debug)]
struct Publishing {
    matcher: Matcher,
    builder: BatchBuilder,
    next_batch: u64,
    head: u64,
}

impl FanOut {
    /// `head` is the last number given so far, `ring_bytes` how much of the newest events is kept in memory.
    pub(crate) fn new(head: u64, ring_bytes: usize) -> FanOut {
        FanOut {
            ring: Ring::new(ring_bytes, head),
            publishing: Mutex::new(Publishing {
                matcher: Matcher::default(),
                builder: BatchBuilder::default(),
                next_batch: 0,
                head,
            }),
            told: AtomicU64::new(head),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Publishing> {
        self.publishing.lock().expect("no holder of this lock panics")
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The newest number of which all subscribers concerned have been told: a subscriber that looks at this first, and
    /// then finds that it was told of nothing, has had everything up to it.
    pub(crate) fn head(&self) -> u64 {
        self.told.load(Ordering::Acquire)
    }

    /// The number of the next batch, and of the last event before it.
    pub(crate) fn now(&self) -> (u64, u64) {
        let publishing = self.lock();
        (publishing.next_batch, publishing.head)
    }

    pub(crate) fn subscribe(&self, prefix: &[u8], signal: &Arc<Signal>) -> Result<Interest, SubscriptionsFull> {
        let publishing = &mut *self.lock();
        publishing.matcher.subscribe(prefix, signal, publishing.next_batch)
    }

    pub(crate) fn cancel<'a>(&self, prefixes: impl Iterator<Item = &'a [u8]>, signal: &Arc<Signal>) {
        let publishing = &mut *self.lock();
        prefixes.for_each(|prefix| publishing.matcher.cancel(prefix, signal));
    }

    /// Numbers and publishes events without a journal: the ring is all there is. Returns the last number given.
    pub(crate) fn publish_unkept<'a>(&self, events: impl Iterator<Item = (&'a [u8], &'a AdmittedMessage)>) -> u64 {
        let publishing = &mut *self.lock();
        let from = publishing.head + 1;
        publishing.publish(&self.ring, &self.told, events, Numbers::From(from), |_| ());
        publishing.head
    }

    /// Publishes events in the order given. With [`Numbers::Later`] the batches are handed to `later`, which numbers
    /// them when it can.
    pub(crate) fn publish<'a>(
        &self,
        events: impl Iterator<Item = (&'a [u8], &'a AdmittedMessage)>,
        numbers: Numbers,
        later: impl FnMut(&Arc<Batch>),
    ) {
        self.lock().publish(&self.ring, &self.told, events, numbers, later);
    }

    /// Events that went out without a number have been committed up to this one.
    pub(crate) fn numbered_late(&self, head: u64) {
        let publishing = &mut *self.lock();
        publishing.head = publishing.head.max(head);
        self.told.fetch_max(head, Ordering::Release);
    }
}

impl Publishing {
    fn publish<'a>(
        &mut self,
        ring: &Ring,
        told: &AtomicU64,
        events: impl Iterator<Item = (&'a [u8], &'a AdmittedMessage)>,
        numbers: Numbers,
        mut later: impl FnMut(&Arc<Batch>),
    ) {
        let (mut next, shared) = match numbers {
            Numbers::From(first) => (Some(first), None),
            Numbers::Later => (None, None),
            Numbers::Never(numbering) => (None, Some(numbering)),
        };
        let mut events = events.peekable();
        while let Some((bytes, message)) = events.next() {
            self.builder
                .push(bytes, message.id, message.topic_start, message.topic_length);
            if events
                .peek()
                .is_some_and(|(bytes, _)| self.builder.has_room_for(bytes.len()))
            {
                continue;
            }
            let batch = self.batch(next, shared.clone().unwrap_or_default());
            if let Some(first) = &mut next {
                *first += batch.messages.len() as u64;
                self.head = *first - 1;
            } else {
                later(&batch);
            }
            let unserved = Unserved {
                batch: batch.number,
                previous: batch.previous,
            };
            ring.push(batch);
            self.matcher.tell_matched(unserved);
            told.store(self.head, Ordering::Release);
        }
    }

    fn batch(&mut self, first: Option<u64>, numbering: SharedNumbering) -> Arc<Batch> {
        let (bytes, messages) = self.builder.take();
        let index = self.matcher.match_batch(&bytes, &messages);
        if let Some(first) = first {
            numbering.set(Numbering::From(first)).expect("the numbering is new");
        }
        let number = self.next_batch;
        self.next_batch += 1;
        Arc::new(Batch {
            number,
            numbering,
            previous: self.head,
            bytes,
            messages,
            index,
        })
    }
}
