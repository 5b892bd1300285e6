//! What LAVA said somebody may see: how long an answer is good, and when to ask again.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::flights::Flights;
use super::reader::Sight;
use super::recent::Recent;
use super::subject::Subject;
use super::turns::Lane;

/// LAVA may tell of a new job this much before it shows it.
pub(super) const COMMIT: Duration = Duration::from_millis(250);
/// So long after a first no somebody waits for it, and asks again.
const AWAITED: Duration = Duration::from_secs(1);
/// A thing that was seen is asked for again after this time. With the time that a question takes, a right that is
/// withdrawn stops within [`GRACE`].
const FRESH: Duration = Duration::from_secs(45);
/// When no answer comes, what was seen is shown no longer than this.
pub(super) const GRACE: Duration = Duration::from_secs(60);
/// What was not seen is asked for again after this time, doubled each time,
const PAUSE: Duration = Duration::from_secs(2);
/// up to this. LAVA tells of a job a moment before it shows it: an answer that it is not there must not stay.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// LAVA shows it.
    Seen,
    /// It is not there, or LAVA does not show it.
    Absent,
    /// No answer.
    Failed,
}

/// What is known of one thing. Times are of the question, not of the answer.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// When it was seen last; none if LAVA has said since that it is absent.
    seen: Option<Instant>,
    missed: Option<Missed>,
}

/// That it was not seen last.
#[derive(Clone, Copy, Debug)]
struct Missed {
    asked: Instant,
    answered: Instant,
    /// In a row.
    times: u32,
    why: Outcome,
}

impl Known {
    fn learn(&mut self, asked: Instant, answered: Instant, outcome: Outcome) {
        match outcome {
            Outcome::Seen => {
                self.seen = Some(asked);
                self.missed = None;
            }
            Outcome::Absent | Outcome::Failed => {
                if outcome == Outcome::Absent {
                    self.seen = None;
                }
                self.missed = Some(Missed {
                    asked,
                    answered,
                    times: self.missed.map_or(0, |missed| missed.times).saturating_add(1),
                    why: outcome,
                });
            }
        }
    }

    fn seen_within(&self, time: Duration, now: Instant) -> bool {
        self.seen.is_some_and(|seen| now.duration_since(seen) < time)
    }

    fn sight(&self, now: Instant) -> Sight {
        if self.seen_within(FRESH, now) {
            return Sight::Shown;
        }
        let pause = |times: u32| PAUSE.saturating_mul(1 << (times - 1).min(8)).min(LONGEST_PAUSE);
        match self.missed {
            // Whoever asks waits for it too.
            _ if self.is_awaited(now) => Sight::Ask,
            Some(missed) if now.duration_since(missed.asked) < pause(missed.times) => self.without_asking(now),
            _ => Sight::Ask,
        }
    }

    fn is_awaited(&self, now: Instant) -> bool {
        let is_first_no = |missed: &Missed| missed.times == 1 && missed.why == Outcome::Absent;
        let missed = self.missed.filter(is_first_no);
        missed.is_some_and(|missed| now.duration_since(missed.answered) < AWAITED)
    }

    /// What it comes to if LAVA cannot be asked.
    fn without_asking(&self, now: Instant) -> Sight {
        if self.seen_within(GRACE, now) {
            Sight::Shown
        } else {
            Sight::Hidden
        }
    }
}

/// What LAVA shows to one visitor.
#[derive(Debug)]
pub(super) struct Answers {
    known: Mutex<Recent<Subject, Known>>,
    /// Questions of this visitor.
    pub(super) questions: Flights<Subject, ()>,
}

impl Answers {
    /// Keeps up to `2 * half` of them.
    pub(super) fn new(half: usize) -> Answers {
        Answers {
            known: Mutex::new(Recent::new(half)),
            questions: Flights::default(),
        }
    }

    fn known(&self, subject: &Subject) -> Known {
        let known = self.known.lock().expect("no holder of this lock panics");
        known.get(subject).copied().unwrap_or_default()
    }

    pub(super) fn sight(&self, subject: &Subject) -> Sight {
        self.known(subject).sight(Instant::now())
    }

    pub(super) fn without_asking(&self, subject: &Subject) -> Sight {
        self.known(subject).without_asking(Instant::now())
    }

    /// Whether a first question has just found that it is not there, so that it may still come.
    pub(super) fn is_awaited(&self, subject: &Subject) -> bool {
        self.known(subject).is_awaited(Instant::now())
    }

    /// Whether a question that was asked then or later is answered.
    pub(super) fn is_answered_since(&self, subject: &Subject, then: Instant) -> bool {
        let Known { seen, missed } = self.known(subject);
        seen.is_some_and(|seen| seen >= then) || missed.is_some_and(|missed| missed.asked >= then)
    }

    pub(super) fn learn(&self, subject: &Subject, asked: Instant, outcome: Outcome) {
        let mut known = self.known.lock().expect("no holder of this lock panics");
        known
            .entry(subject, Known::default)
            .learn(asked, Instant::now(), outcome);
    }
}

/// What LAVA shows to one visitor, by who asked. Anybody may request what is not there yet, so what streams are about to
/// show is not hidden by what was said to a request.
#[derive(Debug)]
pub(super) struct AnswersByLane {
    streams: Answers,
    requests: Answers,
}

impl AnswersByLane {
    /// Keeps up to `2 * half` of each.
    pub(super) fn new(half: usize) -> AnswersByLane {
        AnswersByLane {
            streams: Answers::new(half),
            requests: Answers::new(half),
        }
    }

    pub(super) fn of(&self, lane: Lane) -> &Answers {
        match lane {
            Lane::Live | Lane::Past => &self.streams,
            Lane::Request => &self.requests,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outcomes() -> impl Strategy<Value = Vec<(u64, Outcome)>> {
        let outcome = prop_oneof![Just(Outcome::Seen), Just(Outcome::Absent), Just(Outcome::Failed)];
        prop::collection::vec((0_u64..70, outcome), 0..8)
    }

    proptest! {
        /// Whatever came before: shown means that LAVA showed it within the last minute and has not taken it back.
        #[test]
        fn nothing_is_shown_without_a_recent_yes(outcomes in outcomes(), later in 0_u64..130) {
            let mut now = Instant::now();
            let mut known = Known::default();
            let mut yes: Option<Instant> = None;
            for (pause, outcome) in outcomes {
                now += Duration::from_secs(pause);
                known.learn(now, now, outcome);
                match outcome {
                    Outcome::Seen => yes = Some(now),
                    Outcome::Absent => yes = None,
                    Outcome::Failed => {}
                }
            }
            now += Duration::from_secs(later);
            let age = yes.map(|yes| now.duration_since(yes));
            for sight in [known.sight(now), known.without_asking(now)] {
                if sight == Sight::Shown {
                    prop_assert!(age.is_some_and(|age| age < GRACE));
                }
            }
            prop_assert_ne!(known.without_asking(now), Sight::Ask);
            if age.is_some_and(|age| age < FRESH) {
                prop_assert_eq!(known.sight(now), Sight::Shown);
            }
            // No answer is kept: after its time it is asked for again.
            prop_assert_eq!(known.sight(now + GRACE), Sight::Ask);
        }
    }

    #[test]
    fn an_absent_thing_is_asked_for_again_soon_then_less_often() {
        let start = Instant::now();
        let after = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut known = Known::default();
        assert_eq!(known.sight(start), Sight::Ask);
        known.learn(start, start, Outcome::Absent);
        assert_eq!(known.sight(after(1.9)), Sight::Hidden);
        assert_eq!(known.sight(after(2.0)), Sight::Ask);
        known.learn(after(2.0), after(2.0), Outcome::Absent);
        assert_eq!(known.sight(after(5.9)), Sight::Hidden);
        assert_eq!(known.sight(after(6.0)), Sight::Ask);
        for _ in 0..100 {
            known.learn(start, start, Outcome::Absent);
        }
        assert_eq!(known.sight(after(9.9)), Sight::Hidden);
        assert_eq!(known.sight(after(10.0)), Sight::Ask);
        known.learn(after(10.0), after(10.0), Outcome::Seen);
        assert_eq!(known.sight(after(54.9)), Sight::Shown);
        assert_eq!(known.sight(after(55.0)), Sight::Ask);
    }

    #[test]
    fn a_failed_question_takes_nothing_back_before_its_time() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let mut known = Known::default();
        known.learn(start, start, Outcome::Seen);
        known.learn(after(45), after(45), Outcome::Failed);
        assert_eq!(known.sight(after(46)), Sight::Shown);
        known.learn(after(59), after(59), Outcome::Failed);
        assert_eq!(known.sight(after(60)), Sight::Hidden);
        known.learn(after(60), after(60), Outcome::Absent);
        assert_eq!(known.without_asking(after(60)), Sight::Hidden);
    }
}
