//! What one subscriber received of what it should have, without keeping every index.

use std::collections::BTreeMap;

/// The indexes that should come are `first`, `first + step`, …, below `events`.
#[derive(Clone, Debug)]
pub(super) struct Count {
    first: u64,
    step: u64,
    expected: u64,
    /// Which one comes next, counted from 0.
    next: u64,
    /// Ranges that were jumped over and have not come: from the first to behind the last.
    missing: BTreeMap<u64, u64>,
    received: u64,
    repeated: u64,
    out_of_order: u64,
}

impl Count {
    pub(super) fn new(events: u64, first: u64, step: u64) -> Count {
        Count {
            first,
            step,
            expected: events.saturating_sub(first).div_ceil(step),
            next: 0,
            missing: BTreeMap::new(),
            received: 0,
            repeated: 0,
            out_of_order: 0,
        }
    }

    /// Takes one index into account; whether it is one that had not come yet.
    pub(super) fn see(&mut self, index: u64) -> bool {
        let Some(offset) = index.checked_sub(self.first).filter(|offset| offset % self.step == 0) else {
            return false;
        };
        let position = offset / self.step;
        if position >= self.expected {
            return false;
        }
        if position >= self.next {
            if position > self.next {
                self.missing.insert(self.next, position);
            }
            self.next = position + 1;
        } else if self.take_missing(position) {
            self.out_of_order += 1;
        } else {
            self.repeated += 1;
            return false;
        }
        self.received += 1;
        true
    }

    fn take_missing(&mut self, position: u64) -> bool {
        let Some((&from, &end)) = self.missing.range(..=position).next_back() else {
            return false;
        };
        if position >= end {
            return false;
        }
        self.missing.remove(&from);
        if from < position {
            self.missing.insert(from, position);
        }
        if position + 1 < end {
            self.missing.insert(position + 1, end);
        }
        true
    }

    /// How many different ones came.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// How many did not come.
    pub(super) fn lost(&self) -> u64 {
        self.expected - self.received
    }

    /// How many came once more.
    pub(super) fn repeated(&self) -> u64 {
        self.repeated
    }

    /// How many came after one that was sent later.
    pub(super) fn out_of_order(&self) -> u64 {
        self.out_of_order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_whole_stream() {
        let mut count = Count::new(10, 1, 3);
        for index in 0..10 {
            count.see(index);
        }
        assert_eq!(
            (count.received(), count.lost(), count.repeated(), count.out_of_order()),
            (3, 0, 0, 0)
        );
        assert_eq!(Count::new(2, 5, 3).lost(), 0, "more subscribers than events");
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(
            indexes in proptest::collection::vec(0..40_u64, 0..120),
            events in 0..40_u64,
            first in 0..4_u64,
            step in 1..5_u64,
        ) {
            let mut count = Count::new(events, first, step);
            let (mut seen, mut repeated, mut out_of_order) = (BTreeSet::new(), 0, 0);
            for index in indexes.into_iter().filter(|index| (first..events).step_by(step as usize).any(|i| i == *index)) {
                if seen.contains(&index) {
                    repeated += 1;
                } else if seen.last().is_some_and(|last| *last > index) {
                    out_of_order += 1;
                }
                prop_assert_eq!(count.see(index), seen.insert(index));
            }
            let expected = (first..events).step_by(step as usize).count();
            prop_assert_eq!(count.received(), seen.len() as u64);
            prop_assert_eq!(count.lost(), (expected - seen.len()) as u64);
            prop_assert_eq!(count.repeated(), repeated);
            prop_assert_eq!(count.out_of_order(), out_of_order);
        }
    }
}
