//! What happened, counted. Every refusal, drop and skip has a reason here and a number.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// One number each since the start of the process.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: Counter),+ }

        impl Counters {
            /// Every counter with its name.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.get())),+].into_iter()
            }
        }
    };
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

counters! {
    /// Messages read from producers, refused ones included.
    received,
    /// Events handed to the fan-out.
    published,
    /// Events in the journal, this process's.
    committed,
    /// Messages refused, for any reason.
    refused,
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
