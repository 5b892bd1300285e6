//! Which subscribers want which events: decided once a batch, for all subscribers together.
//!
//! A subscription is a byte prefix of the topic (ZeroMQ's rule). Equal prefixes of several connections are one
//! `Interest`. For a batch, [`Matcher::match_batch`] lists the events of each interest that matches anything, and wakes
//! only the connections behind those; what does not match costs nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound::{Included, Unbounded};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::batch::Message;

/// Names one prefix that somebody subscribes to. Used again for another one when nobody does any more: what an older
/// batch says under the name is not looked at, since [`Interest::since`] is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterestId(u32);

/// A prefix as a connection holds it.
#[derive(Clone, Copy, Debug)]
pub struct Interest {
    pub id: InterestId,
    /// Batches from this number on are matched with it.
    pub since: u64,
}

/// Where a connection that has nothing to do is told of its next batch.
#[derive(Debug, Default)]
pub struct Signal {
    first: Mutex<Option<Unserved>>,
    wake: Notify,
}

/// The first batch with something for the connection that it has not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unserved {
    pub batch: u64,
    /// The last event number given before that batch.
    pub previous: u64,
}

impl Signal {
    fn tell(&self, unserved: Unserved) {
        let mut first = self.first.lock().expect("no holder of this lock panics");
        if first.is_none() {
            *first = Some(unserved);
            drop(first);
            self.wake.notify_one();
        }
    }

    /// What came since the last call, if anything did.
    pub fn take(&self) -> Option<Unserved> {
        self.first.lock().expect("no holder of this lock panics").take()
    }

    /// Completes when something came that was not taken yet. Cancel-safe.
    pub async fn told(&self) {
        self.wake.notified().await;
    }
}

/// For each interest that matches anything in a batch: which of its events.
#[derive(Debug, Default)]
pub struct MatchIndex {
    /// Sorted by interest. `end` is the end of its places; they start where the ones before end.
    interests: Box<[(InterestId, MatchedEvents)]>,
    places: Box<[u16]>,
}

#[derive(Clone, Copy, Debug)]
enum MatchedEvents {
    All,
    Places { start: u32, end: u32 },
}

impl MatchIndex {
    pub fn memory(&self) -> usize {
        size_of_val(&*self.interests) + size_of_val(&*self.places)
    }

    fn of(&self, id: InterestId) -> Option<MatchedEvents> {
        let at = self.interests.binary_search_by_key(&id, |entry| entry.0).ok()?;
        Some(self.interests[at].1)
    }
}

/// The events of one batch that one connection wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Selection {
    Nothing,
    All,
    /// The places are in the buffer that the caller gave, in order, each once.
    Some,
}

/// Prefixes of topics.
#[derive(Clone, Debug, Default)]
pub struct PrefixSet(BTreeSet<Box<[u8]>>);

impl PrefixSet {
    /// Whether a topic begins with one of the prefixes.
    pub fn matches(&self, topic: &[u8]) -> bool {
        // All prefixes of the topic sort before it, and share their bytes with any key between them and the topic. So
        // the greatest key up to the topic is a prefix of it, or tells how long a prefix can still be.
        let mut rest = topic;
        while let Some(candidate) = self.0.range::<[u8], _>((Unbounded, Included(rest))).next_back() {
            if rest.starts_with(candidate) {
                return true;
            }
            let shared = candidate.iter().zip(rest).take_while(|(a, b)| a == b).count();
            rest = &rest[..shared];
        }
        false
    }
}

/// The prefixes of one connection. A set: an equal one twice is held once.
#[derive(Debug, Default)]
pub struct Interests {
    prefixes: Arc<PrefixSet>,
    ids: HashSet<InterestId>,
    by_prefix: HashMap<Box<[u8]>, Interest>,
    /// Every interest is known to the matcher for batches from this number on.
    since: u64,
}

impl Interests {
    pub fn is_empty(&self) -> bool {
        self.by_prefix.is_empty()
    }

    pub fn len(&self) -> usize {
        self.by_prefix.len()
    }

    pub fn contains(&self, prefix: &[u8]) -> bool {
        self.by_prefix.contains_key(prefix)
    }

    pub fn insert(&mut self, prefix: &[u8], interest: Interest) {
        self.since = self.since.max(interest.since);
        self.ids.insert(interest.id);
        self.by_prefix.insert(prefix.into(), interest);
        Arc::make_mut(&mut self.prefixes).0.insert(prefix.into());
    }

    pub fn remove(&mut self, prefix: &[u8]) -> bool {
        let Some(interest) = self.by_prefix.remove(prefix) else {
            return false;
        };
        self.ids.remove(&interest.id);
        Arc::make_mut(&mut self.prefixes).0.remove(prefix);
        true
    }

    /// The prefixes as they are now.
    pub fn prefixes(&self) -> Arc<PrefixSet> {
        self.prefixes.clone()
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.by_prefix.keys().map(AsRef::as_ref)
    }

    /// Picks this connection's events of a batch. `number` is the batch's, `topic` gives an event's topic.
    pub fn select<'b>(
        &self,
        number: u64,
        index: &MatchIndex,
        messages: usize,
        topic: impl Fn(usize) -> &'b [u8],
        places: &mut Vec<u16>,
    ) -> Selection {
        places.clear();
        if self.is_empty() {
            return Selection::Nothing;
        }
        if number < self.since {
            // Matched before the matcher knew all of these prefixes.
            for message in 0..messages {
                if self.prefixes.matches(topic(message)) {
                    places.push(message as u16);
                }
            }
        } else {
            let mut found = 0;
            let mut add = |matched: MatchedEvents| match matched {
                MatchedEvents::All => true,
                MatchedEvents::Places { start, end } => {
                    found += 1;
                    places.extend_from_slice(&index.places[start as usize..end as usize]);
                    false
                }
            };
            let all = if self.ids.len() <= index.interests.len() {
                self.ids.iter().filter_map(|id| index.of(*id)).any(&mut add)
            } else {
                index
                    .interests
                    .iter()
                    .filter(|(id, _)| self.ids.contains(id))
                    .any(|(_, matched)| add(*matched))
            };
            if all {
                return Selection::All;
            }
            if found > 1 {
                places.sort_unstable();
                places.dedup();
            }
        }
        match places.len() {
            0 => Selection::Nothing,
            n if n == messages => Selection::All,
            _ => Selection::Some,
        }
    }
}

#[derive(Debug)]
struct Node {
    interest: Interest,
    signals: Vec<Arc<Signal>>,
    /// The places of the batch that is being matched.
    matched: Vec<u16>,
}

/// The topics that were matched lately are remembered, up to this many.
const REMEMBERED_TOPICS: usize = 4096;
/// All prefixes of all connections together may take this much memory, in bytes.
const MAX_PREFIX_BYTES: usize = 64 * 1024 * 1024;
/// What a held prefix costs beside its own bytes, roughly: the node, the maps' entries, the signal's place.
const NODE_OVERHEAD: usize = 256;

/// There is no room for more subscriptions, over all connections.
#[derive(Debug, PartialEq, Eq)]
pub struct SubscriptionsFull;

/// All prefixes of all connections. One owner: the fan-out, behind its lock.
#[derive(Debug, Default)]
pub struct Matcher {
    by_prefix: HashMap<Box<[u8]>, InterestId>,
    /// By interest; a place that became free is used again.
    nodes: Vec<Option<Node>>,
    free: Vec<InterestId>,
    /// How many nodes have a prefix of this length: only these lengths are looked up.
    lengths: BTreeMap<usize, usize>,
    prefix_bytes: usize,
    /// Topic → the interests that match it. Forgotten whenever an interest comes or goes.
    remembered: HashMap<Box<[u8]>, Arc<[InterestId]>>,
    /// The interests with a match in the batch that is being matched.
    touched: Vec<InterestId>,
}

impl Matcher {
    /// Adds a connection to a prefix. `next_batch` is the number that the next batch will have.
    pub fn subscribe(
        &mut self,
        prefix: &[u8],
        signal: &Arc<Signal>,
        next_batch: u64,
    ) -> Result<Interest, SubscriptionsFull> {
        let cost = prefix.len() + NODE_OVERHEAD;
        if self.prefix_bytes + cost > MAX_PREFIX_BYTES {
            return Err(SubscriptionsFull);
        }
        self.prefix_bytes += cost;
        if let Some(id) = self.by_prefix.get(prefix) {
            let node = self.nodes[id.0 as usize].as_mut().expect("a named interest has a node");
            node.signals.push(signal.clone());
            return Ok(node.interest);
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(None);
            InterestId(u32::try_from(self.nodes.len() - 1).expect("MAX_PREFIX_BYTES bounds the interests"))
        });
        let interest = Interest { id, since: next_batch };
        self.nodes[id.0 as usize] = Some(Node {
            interest,
            signals: vec![signal.clone()],
            matched: Vec::new(),
        });
        self.by_prefix.insert(prefix.into(), id);
        *self.lengths.entry(prefix.len()).or_default() += 1;
        self.remembered.clear();
        Ok(interest)
    }

    /// Takes a connection from a prefix that it had subscribed to.
    pub fn cancel(&mut self, prefix: &[u8], signal: &Arc<Signal>) {
        let Some(&id) = self.by_prefix.get(prefix) else { return };
        let node = self.nodes[id.0 as usize].as_mut().expect("a named interest has a node");
        let Some(at) = node.signals.iter().position(|held| Arc::ptr_eq(held, signal)) else {
            return;
        };
        node.signals.swap_remove(at);
        self.prefix_bytes -= prefix.len() + NODE_OVERHEAD;
        if node.signals.is_empty() {
            self.nodes[id.0 as usize] = None;
            self.free.push(id);
            self.by_prefix.remove(prefix);
            self.remembered.clear();
            let count = self
                .lengths
                .get_mut(&prefix.len())
                .expect("each held prefix is counted by its length");
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }

    fn interests_of(&mut self, topic: &[u8]) -> Arc<[InterestId]> {
        if let Some(known) = self.remembered.get(topic) {
            return known.clone();
        }
        let lengths = self.lengths.range(..=topic.len()).map(|(length, _)| *length);
        let matching: Arc<[InterestId]> = lengths
            .filter_map(|length| self.by_prefix.get(&topic[..length]))
            .copied()
            .collect();
        if self.remembered.len() >= REMEMBERED_TOPICS {
            self.remembered.clear();
        }
        self.remembered.insert(topic.into(), matching.clone());
        matching
    }

    /// Lists each interest's events of a batch.
    pub fn match_batch(&mut self, bytes: &[u8], messages: &[Message]) -> MatchIndex {
        for id in self.touched.drain(..) {
            if let Some(node) = &mut self.nodes[id.0 as usize] {
                node.matched.clear();
            }
        }
        if self.by_prefix.is_empty() {
            return MatchIndex::default();
        }
        let mut start = 0;
        let mut last: Option<(&[u8], Arc<[InterestId]>)> = None;
        for (place, message) in messages.iter().enumerate() {
            let topic_start = start + message.topic_start as usize;
            let topic = &bytes[topic_start..topic_start + message.topic_length as usize];
            start = message.end as usize;
            let matching = match last {
                Some((known, matching)) if known == topic => matching,
                _ => self.interests_of(topic),
            };
            for id in matching.iter() {
                let node = self.nodes[id.0 as usize]
                    .as_mut()
                    .expect("remembered interests have nodes");
                if node.matched.is_empty() {
                    self.touched.push(*id);
                }
                node.matched.push(place as u16);
            }
            last = Some((topic, matching));
        }
        self.touched.sort_unstable();
        let mut places = Vec::new();
        let mut interests = Vec::with_capacity(self.touched.len());
        for id in &self.touched {
            let node = self.nodes[id.0 as usize]
                .as_ref()
                .expect("touched interests have nodes");
            if node.matched.len() == messages.len() {
                interests.push((*id, MatchedEvents::All));
            } else {
                let start = places.len() as u32;
                places.extend_from_slice(&node.matched);
                interests.push((
                    *id,
                    MatchedEvents::Places {
                        start,
                        end: places.len() as u32,
                    },
                ));
            }
        }
        MatchIndex {
            interests: interests.into(),
            places: places.into(),
        }
    }

    /// Tells the connections behind the batch that [`match_batch`](Self::match_batch) was last called for.
    pub fn tell_matched(&self, unserved: Unserved) {
        for id in &self.touched {
            let node = self.nodes[id.0 as usize]
                .as_ref()
                .expect("touched interests have nodes");
            for signal in &node.signals {
                signal.tell(unserved);
            }
        }
    }
}
