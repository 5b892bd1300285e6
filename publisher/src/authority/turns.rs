//! Whose turn it is to ask: so many questions at a time, and whoever else has one waits.
//!
//! A question begins when it has its turn. Until then there is only who waits for it, so one who goes away leaves
//! nothing behind, and no more questions are under way than there are turns.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Who may be told to come again waits no longer for a turn,
const PATIENCE: Duration = Duration::from_secs(5);
/// and when so many wait already, not at all.
const WAITING: usize = 64;

/// What is asked for. Each has turns of its own: however many questions are of one kind, another's do not wait for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// A stream's news. It waits, since what it cannot show is lost to its reader.
    Live,
    /// What a stream reads until it has caught up. It waits, too.
    Past,
    /// A request, which can come again.
    Request,
}

/// Too many wait for their turn: the same may be asked later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many ask at once: try again")]
pub(crate) struct Crowded;

/// One question's turn, until it is dropped.
pub(super) type Turn = OwnedSemaphorePermit;

/// Turns, in the order in which they are waited for.
#[derive(Debug)]
pub(super) struct Queue {
    turns: Arc<Semaphore>,
    /// Places to wait in. None: there is no end of them.
    places: Option<Semaphore>,
}

impl Queue {
    /// Of so many turns at a time, for who must wait.
    pub(super) fn new(turns: usize) -> Queue {
        Queue {
            turns: Arc::new(Semaphore::new(turns)),
            places: None,
        }
    }

    /// The same for who may be told to come again.
    pub(super) fn bounded(turns: usize) -> Queue {
        Queue {
            places: Some(Semaphore::new(WAITING)),
            ..Queue::new(turns)
        }
    }

    /// Waits for a turn. Cancel-safe.
    pub(super) async fn turn(&self) -> Result<Turn, Crowded> {
        let turn = || self.turns.clone();
        let taken = match (turn().try_acquire_owned(), &self.places) {
            (Ok(turn), _) => return Ok(turn),
            (Err(_), None) => turn().acquire_owned().await,
            (Err(_), Some(places)) => {
                let _place = places.try_acquire().map_err(|_| Crowded)?;
                let taken = timeout(PATIENCE, turn().acquire_owned()).await;
                taken.map_err(|_| Crowded)?
            }
        };
        Ok(taken.expect("it is never closed"))
    }
}

/// One queue for each lane.
#[derive(Debug)]
pub(super) struct Lanes {
    live: Queue,
    past: Queue,
    request: Queue,
}

impl Lanes {
    /// Of so many turns for what is live, and so many for each of the others.
    pub(super) fn new(live: usize, other: usize) -> Lanes {
        Lanes {
            live: Queue::new(live),
            past: Queue::new(other),
            request: Queue::bounded(other),
        }
    }

    pub(super) async fn turn(&self, lane: Lane) -> Result<Turn, Crowded> {
        let queue = match lane {
            Lane::Live => &self.live,
            Lane::Past => &self.past,
            Lane::Request => &self.request,
        };
        queue.turn().await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test(start_paused = true)]
    async fn who_may_come_again_waits_neither_long_nor_with_many() {
        let lanes = Arc::new(Lanes::new(1, 1));
        let held = lanes.turn(Lane::Request).await.unwrap();
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..WAITING {
            let lanes = lanes.clone();
            waiting.spawn(async move { lanes.turn(Lane::Request).await.map(drop) });
        }
        tokio::task::yield_now().await;
        assert_eq!(lanes.turn(Lane::Request).await.map(drop), Err(Crowded));
        // Those who have a place lose it when their time is over.
        assert!(waiting.join_all().await.iter().all(|turn| *turn == Err(Crowded)));
        let next = tokio::spawn({
            let lanes = lanes.clone();
            async move { lanes.turn(Lane::Request).await.map(drop) }
        });
        tokio::task::yield_now().await;
        drop(held);
        assert_eq!(next.await.unwrap(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn no_lane_waits_for_another_and_a_stream_waits_as_long_as_it_takes() {
        for lane in [Lane::Past, Lane::Live] {
            let lanes = Lanes::new(1, 1);
            let mut held = Vec::new();
            for lane in [Lane::Request, Lane::Past, Lane::Live] {
                held.push(lanes.turn(lane).now_or_never().unwrap().unwrap());
            }
            let mut turn = std::pin::pin!(lanes.turn(lane));
            assert!(timeout(Duration::from_secs(3600), &mut turn).await.is_err());
            held.clear();
            assert!(turn.await.is_ok());
        }
    }
}
