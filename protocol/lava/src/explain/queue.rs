//! The questions that wait, and what became of the others, counted.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lavabus_protocol::EventId;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::question::Question;

/// Answered jobs that are remembered, so that a repeat of their event is not asked for again.
const REMEMBERED: usize = 1000;

/// The way into an [`Explainer`](super::Explainer), for whoever hears events. Cheap to clone. Never waits.
#[derive(Clone, Debug)]
pub struct Questions {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    most: usize,
    lists: Mutex<Lists>,
    came: Notify,
    left_out: AtomicU64,
}

#[derive(Debug, Default)]
struct Lists {
    waiting: VecDeque<Waiting>,
    /// Of those that wait, and of those that were answered.
    known: HashSet<EventId>,
    answered: VecDeque<EventId>,
}

#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) question: Question,
    pub(super) since: Instant,
}

impl Questions {
    pub(super) fn new(most: usize) -> Questions {
        Questions {
            inner: Arc::new(Inner {
                most,
                lists: Mutex::default(),
                came: Notify::new(),
                left_out: AtomicU64::new(0),
            }),
        }
    }

    /// Puts a question behind the others. One that waits already, or was answered lately, is passed over; one for which
    /// there is no room is counted, and dropped.
    pub fn ask(&self, question: Question) {
        let mut lists = self.lists();
        let id = question.attempt_id();
        if lists.known.contains(&id) {
            return;
        }
        if lists.waiting.len() >= self.inner.most {
            self.inner.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        lists.known.insert(id);
        let since = Instant::now();
        lists.waiting.push_back(Waiting { question, since });
        drop(lists);
        self.inner.came.notify_one();
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.lists().waiting.len()
    }

    /// How many had no room since the start.
    pub fn left_out(&self) -> u64 {
        self.inner.left_out.load(Ordering::Relaxed)
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.inner.lists.lock().expect("no holder of this lock panics")
    }

    /// The first one; it stays there. Waits until there is one. Cancel-safe.
    pub(super) async fn first(&self) -> Waiting {
        loop {
            if let Some(first) = self.lists().waiting.front() {
                return first.clone();
            }
            self.inner.came.notified().await;
        }
    }

    /// The first one is done with, and remembered.
    pub(super) fn answered(&self) {
        let lists = &mut *self.lists();
        if let Some(first) = lists.waiting.pop_front() {
            lists.answered.push_back(first.question.attempt_id());
        }
        if lists.answered.len() > REMEMBERED
            && let Some(oldest) = lists.answered.pop_front()
        {
            lists.known.remove(&oldest);
        }
    }

    /// Drops those that waited so long, and tells how many. They may be asked again when their event comes again.
    pub(super) fn give_up(&self, now: Instant, after: Duration) -> u64 {
        let Lists { waiting, known, .. } = &mut *self.lists();
        let before = waiting.len();
        waiting.retain(|one| {
            let stays = now.duration_since(one.since) < after;
            if !stays {
                known.remove(&one.question.attempt_id());
            }
            stays
        });
        (before - waiting.len()) as u64
    }

    /// The first one goes behind the others, so that it does not keep them.
    pub(super) fn later(&self) {
        let lists = &mut *self.lists();
        lists.waiting.rotate_left(1.min(lists.waiting.len()));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use lavabus_protocol::Envelope;

    use super::*;

    fn question(job: usize) -> Question {
        let data = format!(r#"{{"health": "Incomplete", "state": "Finished", "job": {job}}}"#);
        let event = Envelope {
            topic: "lab.testjob",
            uuid: EventId::NIL,
            datetime: "2026-11-21T05:01:06+00:00",
            username: "ada",
            data: &data,
        };
        Question::of(&event).unwrap()
    }

    #[tokio::test]
    async fn what_does_not_fit_is_counted() {
        let questions = Questions::new(10);
        (0..10_000).for_each(|job| questions.ask(question(job)));
        (0..10).for_each(|job| questions.ask(question(job)));
        assert_eq!((questions.waiting(), questions.left_out()), (10, 9_990));
        assert_eq!(questions.first().await.question.job, "0");
    }

    #[tokio::test]
    async fn a_repeat_is_passed_over() {
        let questions = Questions::new(10);
        questions.ask(question(1));
        questions.ask(question(1));
        questions.ask(question(2));
        questions.later();
        assert_eq!(questions.first().await.question.job, "2");
        questions.answered();
        questions.ask(question(2));
        assert_eq!(questions.waiting(), 1);
        assert_eq!(questions.give_up(Instant::now(), Duration::from_secs(9)), 0);
        assert_eq!(questions.give_up(Instant::now(), Duration::ZERO), 1);
        questions.ask(question(1));
        assert_eq!((questions.waiting(), questions.left_out()), (1, 0));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let questions = Questions::new(10);
        for job in 0..5 * REMEMBERED {
            questions.ask(question(job));
            questions.answered();
        }
        assert_eq!(questions.lists().known.len(), REMEMBERED);
        assert_eq!(questions.lists().answered.len(), REMEMBERED);
    }
}
