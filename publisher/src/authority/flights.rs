//! One question in flight for each key, however many wait for its answer.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

/// Questions in flight.
#[derive(Debug)]
pub(super) struct Flights<K, V> {
    going: Arc<Mutex<Going<K, V>>>,
}

type Going<K, V> = HashMap<K, watch::Receiver<Option<V>>>;

impl<K, V> Default for Flights<K, V> {
    fn default() -> Flights<K, V> {
        Flights { going: Arc::default() }
    }
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The question of this key that is in flight.
    pub(super) fn find(&self, key: &K) -> Option<Flight<V>> {
        let going = self.going.lock().expect("no holder of this lock panics");
        going.get(key).cloned().map(Flight)
    }

    /// The same; begins it if none is. It goes on to its end when nobody waits any more.
    pub(super) fn find_or_begin<F>(&self, key: &K, begin: impl FnOnce() -> F) -> Flight<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut going = self.going.lock().expect("no holder of this lock panics");
        if let Some(answer) = going.get(key) {
            return Flight(answer.clone());
        }
        let (sender, answer) = watch::channel(None);
        going.insert(key.clone(), answer.clone());
        let landing = Landing {
            going: self.going.clone(),
            key: key.clone(),
        };
        let question = begin();
        tokio::spawn(async move {
            let value = question.await;
            drop(landing);
            sender.send_replace(Some(value));
        });
        Flight(answer)
    }
}

/// A question in flight.
pub(super) struct Flight<V>(watch::Receiver<Option<V>>);

impl<V: Clone> Flight<V> {
    /// Waits for its answer. None: it panicked.
    pub(super) async fn landed(mut self) -> Option<V> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// Takes the question off the list, however it ends.
struct Landing<K: Eq + Hash, V> {
    going: Arc<Mutex<Going<K, V>>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.going
            .lock()
            .expect("no holder of this lock panics")
            .remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn many_wait_for_one() {
        let flights = Arc::new(Flights::<u8, usize>::default());
        let asked = Arc::new(AtomicUsize::new(0));
        let (open, gate) = watch::channel(false);
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (flights, asked, mut gate) = (flights.clone(), asked.clone(), gate.clone());
            waiting.spawn(async move {
                let question = || async move {
                    let number = asked.fetch_add(1, Ordering::SeqCst);
                    let _ = gate.wait_for(|open| *open).await;
                    number
                };
                flights.find_or_begin(&7, question).landed().await
            });
        }
        // One that goes away takes nothing from the others.
        waiting.spawn({
            let flights = flights.clone();
            async move {
                tokio::select! {
                    biased;
                    answer = flights.find_or_begin(&7, || async { 99 }).landed() => answer,
                    () = async {} => Some(0),
                }
            }
        });
        tokio::task::yield_now().await;
        open.send_replace(true);
        while let Some(answer) = waiting.join_next().await {
            assert_eq!(answer.expect("no panic"), Some(0));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert!(flights.find(&7).is_none());
        assert_eq!(flights.find_or_begin(&7, || async { 5 }).landed().await, Some(5));
    }

    #[tokio::test]
    async fn a_panic_is_told_and_leaves_nothing_behind() {
        let flights = Flights::<u8, u8>::default();
        let panics = flights.find_or_begin(&1, || async { panic!("a defect") });
        assert_eq!(panics.landed().await, None);
        assert_eq!(flights.find_or_begin(&1, || async { 2 }).landed().await, Some(2));
    }
}
