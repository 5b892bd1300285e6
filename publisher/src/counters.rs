//! What happened, counted. Every refusal, drop and skip has a reason here and a number.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::metrics::histogram::Histogram;
use crate::metrics::outlet::Outlets;
use crate::metrics::refusals::Refusals;
use crate::metrics::stages::StageCounts;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// One number each since the start of the process.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)+
            /// Messages refused.
            pub refused: Refusals,
            /// How long the journal's groups took to commit.
            pub(crate) commits: Histogram,
            /// From receiving an event to handing it to the fan-out.
            pub(crate) latency: Histogram,
            pub(crate) outlets: Outlets,
            pub(crate) projections_behind: ProjectionsBehind,
            pub(crate) stages: StageCounts,
        }

        impl Counters {
            /// Every counter with its name.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.get()),)+ ("refused", self.refused.get())].into_iter()
            }
        }
    };
}

impl Counters {
    /// So many events were handed to the fan-out, so long after they had been received.
    pub(crate) fn published_within(&self, latency: Duration, events: u64) {
        // In this order: who sees them published finds their latency.
        self.latency.observe_many(latency, events);
        self.published.add(events);
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Its value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Events that the projections have not taken in.
#[derive(Debug, Default)]
pub(crate) struct ProjectionsBehind([AtomicU64; 2]);

impl ProjectionsBehind {
    /// Of the latest event of each object, and of what the questions ask.
    pub(crate) fn set(&self, behind: [u64; 2]) {
        for (known, behind) in self.0.iter().zip(behind) {
            known.store(behind, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> [u64; 2] {
        [0, 1].map(|projection| self.0[projection].load(Ordering::Relaxed))
    }
}

counters! {
    /// Messages read from producers, refused ones included.
    received,
    /// Events handed to the fan-out.
    published,
    /// Events in the journal, this process's.
    committed,
    /// Events dropped because the same one had come before.
    repeated,
    /// Events that went out live without a number, because the journal could not write.
    unnumbered,
    /// Events that went out but are in no journal: there was no room to wait for the disk.
    not_recorded,
    /// Events that slow subscribers could not be given: without a journal those that left the ring, else those that were
    /// pruned before they could be read.
    skipped,
    /// Replays, snapshots and cursors answered with a gap.
    gaps,
    /// Subscribers accepted.
    subscribers,
    /// Producers accepted.
    producers,
    /// Producers whose connection has ended.
    producers_gone,
    /// Connections that ended in the handshake: no ZMTP, wrong socket, too slow.
    handshakes_failed,
    /// Connections closed to make room for new ones before they had finished their handshake.
    handshakes_evicted,
    /// Peers disconnected because of malformed bytes.
    malformed_peers,
    /// Peers disconnected because they were dead.
    dead_peers,
    /// Peers disconnected because they did not read for too long.
    stalled_peers,
    /// Peers disconnected because they had too many subscriptions.
    too_many_subscriptions,
    /// Connections refused because there were too many.
    too_many_connections,
    /// Connections refused because there were too many of one address.
    too_many_of_address,
    /// WebSocket clients accepted.
    websockets,
    /// Event streams (SSE) opened.
    event_streams,
    /// Requests on the second port with a login that is not good.
    authentication_failures,
    /// Failed jobs of which LAVA was asked why, and answered.
    explained,
    /// Failed jobs of another lab: those of their numbers at the LAVA that was asked are others.
    explain_foreign,
    /// Failed jobs that were not asked for: too many others waited.
    explain_left_out,
    /// Failed jobs that were given up: LAVA did not answer for too long.
    explain_given_up,
}
