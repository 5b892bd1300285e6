//! A map that forgets what was not used for longest, when it is full.

use std::collections::HashMap;
use std::hash::Hash;

/// Holds between `half` and `2 * half` of the entries used last. All it does takes constant time.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    half: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// Of at most `2 * half` entries.
    pub(super) fn new(half: usize) -> Recent<K, V> {
        Recent {
            half: half.max(1),
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// The entry, made if need be; it counts as used.
    pub(super) fn entry(&mut self, key: &K, new: impl FnOnce() -> V) -> &mut V
    where
        K: Clone,
    {
        if !self.young.contains_key(key) {
            let value = self.old.remove(key).unwrap_or_else(new);
            if self.young.len() >= self.half {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(key.clone(), value);
        }
        self.young.get_mut(key).expect("it was put there")
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_bounded_and_keeps_what_was_used_last(half in 1_usize..6, uses in prop::collection::vec(0_u8..20, 1..200)) {
            let mut recent = Recent::new(half);
            for (at, key) in uses.iter().enumerate() {
                *recent.entry(key, || 0_usize) += 1;
                prop_assert!(recent.len() <= 2 * half);
                let mut last: Vec<u8> = Vec::new();
                for key in uses[..=at].iter().rev() {
                    if !last.contains(key) {
                        last.push(*key);
                    }
                }
                for key in last.iter().take(half) {
                    prop_assert!(recent.get(key).is_some());
                }
            }
        }
    }
}
