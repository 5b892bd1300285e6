//! How long something took, as a number of observations for each bucket.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets, in µs, with the text that Prometheus gets (seconds).
pub(crate) const BOUNDS: [(u64, &str); 16] = [
    (100, "0.0001"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
];

/// Durations since the start of the process.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// Not cumulated; the last one has what is above all bounds.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Something took so long.
    pub(crate) fn observe(&self, duration: Duration) {
        self.observe_many(duration, 1);
    }

    /// So many things took so long each.
    pub(crate) fn observe_many(&self, duration: Duration, count: u64) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|(bound, _)| *bound < us);
        self.buckets[bucket].fetch_add(count, Ordering::Relaxed);
        self.sum_us.fetch_add(us.saturating_mul(count), Ordering::Relaxed);
    }

    /// The observations up to each bound and, last, all of them.
    pub(crate) fn cumulated(&self) -> [u64; BOUNDS.len() + 1] {
        let mut sum = 0;
        std::array::from_fn(|bucket| {
            sum += self.buckets[bucket].load(Ordering::Relaxed);
            sum
        })
    }

    /// All durations together, in seconds.
    pub(crate) fn sum_seconds(&self) -> f64 {
        self.sum_us.load(Ordering::Relaxed) as f64 / 1e6
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_what_their_texts_say() {
        for (us, text) in BOUNDS {
            assert_eq!(text.parse::<f64>().unwrap(), us as f64 / 1e6);
        }
        assert!(BOUNDS.is_sorted_by(|(one, _), (next, _)| one < next));
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(100));
        histogram.observe_many(Duration::from_micros(101), 3);
        histogram.observe(Duration::from_secs(11));
        let cumulated = histogram.cumulated();
        assert_eq!((cumulated[0], cumulated[1]), (1, 4));
        assert_eq!((cumulated[BOUNDS.len() - 1], cumulated[BOUNDS.len()]), (4, 5));
        assert!((histogram.sum_seconds() - 11.000_403).abs() < 1e-9);
    }
}
