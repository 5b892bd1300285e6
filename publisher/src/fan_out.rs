//! From the journal to the subscribers: batches in a ring, and the signals that wake whoever wants them.

pub mod batch;
pub mod matching;
pub(crate) mod ring;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use lavabus_protocol::{Cursor, Epoch, GapReason, Position};

use self::batch::{Batch, BatchBuilder, Numbering, SharedNumbering};
use self::matching::{Interest, Matcher, Signal, SubscriptionsFull, Unserved};
use self::ring::{Limit, Ring};
use crate::admission::AdmittedMessage;
use crate::http::forms::Forms;
use crate::replay::Resume;

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
    /// `head` is the last number given so far, `ring` how much of the newest events is kept in memory.
    pub(crate) fn new(head: u64, ring: Limit) -> FanOut {
        FanOut {
            ring: Ring::new(ring, head),
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

    /// Without a journal: right after the furthest of these cursors that the ring knows, or else all that it has.
    pub(crate) fn resume(&self, cursors: &[Cursor], epoch: Epoch) -> Resume {
        let head = self.head();
        let is_ours = |position: &Position| position.epoch == epoch && position.seq <= head;
        let find = |cursor: &Cursor| match cursor.position_alone() {
            Some(position) => Some(position).filter(is_ours).map(|position| position.seq),
            None => self.ring.find(&cursor.uuid),
        };
        match cursors.iter().filter_map(find).max() {
            Some(after) => Resume {
                after,
                known: true,
                gap: None,
            },
            None => Resume {
                after: self.ring.oldest().1,
                known: false,
                gap: Some(GapReason::UnknownCursor),
            },
        }
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
            forms: Forms::default(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::BytesMut;
    use lavabus_protocol::EventId;
    use proptest::prelude::*;

    use super::batch::MAX_BATCH_BYTES;
    use super::matching::{Interests, Selection};
    use super::ring::Found;
    use super::*;

    fn new(head: u64, bytes: usize) -> FanOut {
        FanOut::new(
            head,
            Limit {
                usual: bytes,
                most: bytes,
            },
        )
    }

    fn event(topic: &str, padding: usize) -> (Vec<u8>, AdmittedMessage) {
        let id = EventId::from(uuid::Uuid::new_v4());
        let mut bytes = BytesMut::new();
        lavabus_zmtp::encode_message(&[topic.as_bytes(), &vec![b'x'; padding]], &mut bytes);
        let (end, topic_length) = (bytes.len() as u32, topic.len() as u16);
        (
            bytes.to_vec(),
            AdmittedMessage {
                id,
                start: 0,
                end,
                topic_start: 2,
                topic_length,
            },
        )
    }

    fn publish(fan_out: &FanOut, events: &[(Vec<u8>, AdmittedMessage)], numbers: Numbers) -> Vec<Arc<Batch>> {
        let mut later = Vec::new();
        fan_out.publish(events.iter().map(|(bytes, m)| (&bytes[..], m)), numbers, |batch| {
            later.push(batch.clone())
        });
        later
    }

    /// All that a subscriber at this batch would find, as topics.
    fn selected(fan_out: &FanOut, interests: &Interests, from: u64) -> Vec<String> {
        let (mut topics, mut places, mut next) = (Vec::new(), Vec::new(), from);
        loop {
            let mut batches = Vec::new();
            if fan_out.ring().read(next, 1 << 20, &mut batches) != Found::Batches {
                return topics;
            }
            for batch in batches {
                next = batch.number + 1;
                let count = batch.messages.len();
                let selection = interests.select(batch.number, &batch.index, count, |m| batch.topic(m), &mut places);
                let chosen: Vec<usize> = match selection {
                    Selection::Nothing => Vec::new(),
                    Selection::All => (0..count).collect(),
                    Selection::Some => places.iter().map(|place| *place as usize).collect(),
                };
                topics.extend(
                    chosen
                        .iter()
                        .map(|m| String::from_utf8(batch.topic(*m).to_vec()).unwrap()),
                );
            }
        }
    }

    proptest! {
        /// Whatever was subscribed, cancelled and published in whatever order: a subscriber gets exactly the events
        /// that one of its prefixes matches, is told of the first one, and of nothing else.
        #[test]
        fn exactly_what_matches(
            early in proptest::collection::vec("[ab]{0,3}", 0..4),
            others in proptest::collection::vec("[ab]{0,3}", 0..4),
            before in proptest::collection::vec("[ab]{1,4}", 0..20),
            late in proptest::collection::vec("[ab]{0,3}", 0..3),
            cancelled in proptest::collection::vec("[ab]{0,3}", 0..3),
            after in proptest::collection::vec("[ab]{1,4}", 1..20),
        ) {
            let fan_out = new(0, 1 << 20);
            let (signal, other) = (Arc::new(Signal::default()), Arc::new(Signal::default()));
            let mut interests = Interests::default();
            let subscribe = |interests: &mut Interests, prefix: &str| {
                if !interests.contains(prefix.as_bytes()) {
                    interests.insert(prefix.as_bytes(), fan_out.subscribe(prefix.as_bytes(), &signal).unwrap());
                }
            };
            early.iter().for_each(|prefix| subscribe(&mut interests, prefix));
            for prefix in &others {
                fan_out.subscribe(prefix.as_bytes(), &other).unwrap();
            }
            let events: Vec<_> = before.iter().map(|topic| event(topic, 1)).collect();
            publish(&fan_out, &events, Numbers::From(1));

            let told_before = signal.take().is_some();
            let matches = |prefixes: &[&String], topic: &str| prefixes.iter().any(|p| topic.starts_with(p.as_str()));
            let early_prefixes: Vec<_> = early.iter().collect();
            prop_assert_eq!(told_before, before.iter().any(|topic| matches(&early_prefixes, topic)));

            late.iter().for_each(|prefix| subscribe(&mut interests, prefix));
            for prefix in &cancelled {
                if interests.remove(prefix.as_bytes()) {
                    fan_out.cancel(std::iter::once(prefix.as_bytes()), &signal);
                }
            }
            let events: Vec<_> = after.iter().map(|topic| event(topic, 1)).collect();
            publish(&fan_out, &events, Numbers::From(before.len() as u64 + 1));

            let now: Vec<_> = early.iter().chain(&late).filter(|prefix| !cancelled.contains(prefix)).collect();
            let wanted = |topic: &&String| matches(&now, topic);
            let expected: Vec<_> = before.iter().chain(&after).filter(wanted).cloned().collect();
            prop_assert_eq!(selected(&fan_out, &interests, 0), expected);
            prop_assert_eq!(signal.take().is_some(), after.iter().any(|topic| matches(&now, topic)));
        }

        /// The place after any number is right for it, or there is none; never a place too late.
        #[test]
        fn no_place_skips_anything(counts in proptest::collection::vec(1usize..200, 1..30), limit in 1usize..100_000) {
            let fan_out = new(7, limit);
            let mut head = 7;
            for count in counts {
                let events: Vec<_> = (0..count).map(|_| event("a", 50)).collect();
                publish(&fan_out, &events, Numbers::From(head + 1));
                head += count as u64;
            }
            for sequence in 0..=head {
                let Some((number, message)) = fan_out.ring().place_after(sequence) else { continue };
                let mut batches = Vec::new();
                match fan_out.ring().read(number, 1, &mut batches) {
                    Found::Batches => prop_assert_eq!(batches[0].sequence(message), Some(sequence + 1)),
                    found => prop_assert_eq!((found, sequence), (Found::UpToDate, head)),
                }
            }
            prop_assert!(fan_out.ring().place_after(head).is_some());
        }
    }

    #[test]
    fn batches_are_bounded_and_single_large_events_stand_alone() {
        let fan_out = new(0, 64 << 20);
        let mut events: Vec<_> = (0..1000).map(|_| event("a", 400)).collect();
        events.insert(500, event("b", 300_000));
        publish(&fan_out, &events, Numbers::From(1));
        let (mut batches, mut sum) = (Vec::new(), 0);
        assert_eq!(fan_out.ring().read(0, usize::MAX, &mut batches), Found::Batches);
        for batch in &batches {
            assert!(batch.bytes.len() <= MAX_BATCH_BYTES || batch.messages.len() == 1);
            sum += batch.messages.len();
        }
        assert_eq!((sum, fan_out.head()), (1001, 1001));
    }

    #[test]
    fn the_ring_is_bounded_by_bytes_and_keeps_the_newest() {
        let fan_out = new(0, 200_000);
        for n in 0..100 {
            publish(&fan_out, &[event("a", 10_000)], Numbers::From(n + 1));
        }
        let mut batches = Vec::new();
        assert_eq!(fan_out.ring().read(0, 1, &mut batches), Found::Evicted);
        assert!(fan_out.ring().place_after(50).is_none());
        assert!(fan_out.ring().place_after(95).is_some());
    }

    /// Where no journal has the rest, an active subscriber that is behind may have more than the usual, up to a limit.
    #[test]
    fn the_ring_grows_for_an_active_subscriber_only() {
        let fan_out = FanOut::new(
            0,
            Limit {
                usual: 100_000,
                most: 400_000,
            },
        );
        let reader = fan_out.ring().join();
        let mut sequence = 0;
        let mut publish_20 = || {
            for _ in 0..20 {
                sequence += 1;
                publish(&fan_out, &[event("a", 10_000)], Numbers::From(sequence));
            }
        };
        reader.is_at(0);
        publish_20();
        assert!(fan_out.ring().place_after(0).is_some());
        publish_20();
        assert!(fan_out.ring().place_after(0).is_none());
        reader.has_had_everything();
        publish_20();
        assert!(fan_out.ring().place_after(45).is_none());
        assert!(fan_out.ring().place_after(55).is_some());
    }

    /// Events that went out without a number and left the ring are not passed over: until they are numbered nobody
    /// finds a place behind them.
    #[test]
    fn unnumbered_events_are_not_skipped() {
        let fan_out = new(0, 100_000);
        publish(&fan_out, &[event("a", 1)], Numbers::From(1));
        let mut later = Vec::new();
        for _ in 0..30 {
            later.extend(publish(&fan_out, &[event("a", 10_000)], Numbers::Later));
        }
        assert_eq!(fan_out.ring().place_after(1), None);
        assert_eq!(fan_out.head(), 1);
        for (n, batch) in later.iter().enumerate() {
            batch.numbering.set(Numbering::From(2 + n as u64)).unwrap();
        }
        fan_out.numbered_late(31);
        assert_eq!(fan_out.ring().place_after(1), None);
        let (number, message) = fan_out.ring().place_after(29).unwrap();
        let mut batches = Vec::new();
        fan_out.ring().read(number, 1, &mut batches);
        assert_eq!(batches[0].sequence(message), Some(30));
    }

    #[test]
    fn subscriptions_of_all_connections_are_bounded() {
        let fan_out = new(0, 1000);
        let signal = Arc::new(Signal::default());
        let full = (0..1_000_000u32).find(|n| {
            fan_out
                .subscribe(&[&n.to_be_bytes()[..], &[0; 1000]].concat(), &signal)
                .is_err()
        });
        let full = full.unwrap();
        assert!(full > 10_000);
        for n in 0..full {
            let prefix = [&n.to_be_bytes()[..], &[0; 1000]].concat();
            fan_out.cancel(std::iter::once(&prefix[..]), &signal);
        }
        assert!(fan_out.subscribe(b"again", &signal).is_ok());
    }
}
