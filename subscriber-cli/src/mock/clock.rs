//! When the lab's events come, and their UUIDs.

use jiff::{SignedDuration, Timestamp};
use lavabus_protocol::EventId;
use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus;
use uuid::Builder;

/// 100 ns intervals between 1582-10-15, where a version 1 time begins, and 1970-01-01 (RFC 9562, section 5.1).
const GREGORIAN_TO_UNIX: i128 = 0x01B2_1DD2_1381_4000;

/// How the rate of events goes with time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Always the same rate, at random distances
    #[default]
    Steady,
    /// In each 10 seconds, the first with 8.2 times the rate, the others with a fifth
    Burst,
    /// A day: 1.9 times the rate at 14:00 UTC, a tenth at 02:00
    Night,
    /// The rate at first, as much more every 10 seconds, at most 20 times
    Ramp,
}

impl Profile {
    /// What the rate is multiplied with; at most [`Profile::most`].
    fn factor(self, start: Timestamp, at: Timestamp) -> f64 {
        let since = at.duration_since(start).as_secs_f64();
        match self {
            Profile::Steady => 1.0,
            Profile::Burst if since.rem_euclid(10.0) < 1.0 => 8.2,
            Profile::Burst => 0.2,
            Profile::Night => {
                let hour = at.as_second().rem_euclid(86_400) as f64 / 3_600.0;
                1.0 + 0.9 * ((hour - 14.0) / 24.0 * std::f64::consts::TAU).cos()
            }
            Profile::Ramp => (1.0 + since / 10.0).min(20.0),
        }
    }

    fn most(self) -> f64 {
        match self {
            Profile::Steady => 1.0,
            Profile::Burst => 8.2,
            Profile::Night => 1.9,
            Profile::Ramp => 20.0,
        }
    }
}

/// The lab's own time: it stands still between two events.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    start: Timestamp,
    now: Timestamp,
    /// Events a second.
    rate: f64,
    profile: Profile,
    random: Xoshiro256PlusPlus,
    ids: IdSource,
}

impl Clock {
    pub(super) fn new(start: Timestamp, rate: f64, profile: Profile, mut random: Xoshiro256PlusPlus) -> Clock {
        Clock {
            start,
            now: start,
            rate,
            profile,
            ids: IdSource::new(random.random()),
            random,
        }
    }

    /// The time of the last event.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// Goes on to the next event: a Poisson process, made uneven by leaving out some of it (Lewis and Shedler).
    pub(super) fn advance(&mut self) -> (Timestamp, EventId) {
        loop {
            let uniform: f64 = self.random.random();
            let seconds = -(1.0 - uniform).ln() / (self.rate * self.profile.most());
            let wait = SignedDuration::try_from_secs_f64(seconds).unwrap_or(SignedDuration::MAX);
            self.now = self.now.checked_add(wait).unwrap_or(Timestamp::MAX);
            let kept = self.profile.factor(self.start, self.now) / self.profile.most();
            if self.now == Timestamp::MAX || self.random.random_bool(kept.clamp(0.0, 1.0)) {
                return (self.now, self.ids.next(self.now));
            }
        }
    }
}

/// Makes version 1 UUIDs that never repeat and whose time never goes back.
#[derive(Clone, Debug)]
pub(super) struct IdSource {
    node: [u8; 6],
    counter: u16,
    ticks: u64,
}

impl IdSource {
    /// Sources with different numbers make different UUIDs.
    pub(super) fn new(number: u64) -> IdSource {
        let [high, low, mut node @ ..] = number.to_be_bytes();
        // RFC 9562, section 6.10: a node that is no MAC address has its multicast bit set.
        node[0] |= 1;
        IdSource {
            node,
            counter: u16::from_be_bytes([high, low]),
            ticks: 0,
        }
    }

    /// The next one, with the time `at` or, where that is taken, the one after the last.
    pub(super) fn next(&mut self, at: Timestamp) -> EventId {
        let ticks = u64::try_from(at.as_nanosecond() / 100 + GREGORIAN_TO_UNIX).unwrap_or(0);
        self.ticks = ticks.max(self.ticks + 1);
        let uuid = Builder::from_gregorian_timestamp(self.ticks, self.counter, &self.node).into_uuid();
        EventId(uuid.into_bytes())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    fn count(profile: Profile, start: &str, seconds: i64, rate: f64) -> usize {
        let start: Timestamp = start.parse().unwrap();
        let mut clock = Clock::new(start, rate, profile, Xoshiro256PlusPlus::seed_from_u64(1));
        let end = start + SignedDuration::from_secs(seconds);
        std::iter::from_fn(|| Some(clock.advance().0))
            .take_while(|at| *at < end)
            .count()
    }

    #[test]
    fn the_mean_rate_is_what_was_asked_for() {
        let near = |found: usize, expected: usize| found.abs_diff(expected) < expected / 20;
        for profile in [Profile::Steady, Profile::Burst] {
            assert!(
                near(count(profile, "2026-11-21T00:00:00Z", 1_000, 10.0), 10_000),
                "{profile:?}"
            );
        }
        assert!(near(count(Profile::Night, "2026-11-21T00:00:00Z", 86_400, 0.2), 17_280));
        // 2 s at 1.0 to 1.2 times; an hour around 14:00 and one around 02:00.
        assert!(near(count(Profile::Ramp, "2026-11-21T00:00:00Z", 2, 5_000.0), 11_000));
        assert!(near(count(Profile::Night, "2026-11-21T13:30:00Z", 3_600, 5.0), 34_000));
        assert!(near(count(Profile::Night, "2026-11-21T01:30:00Z", 3_600, 5.0), 1_800));
    }

    #[test]
    fn uuids_are_version_1_and_go_up_even_within_one_tick() {
        let mut ids = IdSource::new(u64::MAX);
        let at: Timestamp = "2026-11-21T05:01:05.217961Z".parse().unwrap();
        let (first, second) = (ids.next(at), ids.next(at));
        assert_eq!(first.time(), Some(at));
        assert!(first.key() < second.key());
        assert!(second.key() < ids.next(at - SignedDuration::from_secs(1)).key());
    }
}
