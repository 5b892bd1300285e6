//! Jobs that failed before anybody asked: looked for among events that are kept.

use std::time::Duration;

use lavabus_protocol::{Envelope, EventId};

use super::question::Question;
use super::queue::Questions;

/// Jobs that ended longer before the start are not asked for.
pub const LOOK_BACK: Duration = Duration::from_secs(3_600);

/// Events that are read in one go, and the failed jobs among them held.
const PAGE: u64 = 2_000;

impl Questions {
    /// Puts the questions that kept events with `after < number <= upto` raise, but for those whose answer is kept too.
    ///
    /// `read` shows the events above its first number and up to its second; `is_kept` tells whether an event of this
    /// UUID is there.
    ///
    /// # Errors
    ///
    /// The first one of `read` or `is_kept`, which ends it.
    pub fn look_back<E>(
        &self,
        mut after: u64,
        upto: u64,
        mut read: impl FnMut(u64, u64, &mut dyn FnMut(&Envelope<'_>)) -> Result<(), E>,
        mut is_kept: impl FnMut(&EventId) -> Result<bool, E>,
    ) -> Result<(), E> {
        while after < upto {
            let last = upto.min(after + PAGE);
            let mut found = Vec::new();
            read(after, last, &mut |event| found.extend(Question::of(event)))?;
            for question in found {
                if !is_kept(&question.attempt_id())? && !is_kept(&question.fault_id())? {
                    self.ask(question);
                }
            }
            after = last;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn event(data: &str) -> Envelope<'_> {
        Envelope {
            topic: "lab.testjob",
            uuid: EventId::NIL,
            datetime: "2026-11-21T05:01:06+00:00",
            username: "ada",
            data,
        }
    }

    /// Every 1,000th of 10,000 kept events tells of a failed job.
    fn data(number: u64) -> String {
        let health = if number.is_multiple_of(1_000) {
            "Incomplete"
        } else {
            "Complete"
        };
        format!(r#"{{"health": "{health}", "state": "Finished", "job": {number}}}"#)
    }

    fn question(number: u64) -> Question {
        Question::of(&event(&data(number))).unwrap()
    }

    #[tokio::test]
    async fn what_is_answered_in_either_way_is_not_asked_again() {
        let kept = [question(3_000).attempt_id(), question(5_000).fault_id()];
        let questions = Questions::new(100);
        let mut read = Vec::new();
        let looked = questions.look_back(
            1_000,
            7_500,
            |after, upto, visit| {
                read.push((after, upto));
                (after + 1..=upto).for_each(|number| visit(&event(&data(number))));
                Ok::<(), ()>(())
            },
            |id| Ok(kept.contains(id)),
        );
        looked.unwrap();
        assert_eq!(read, [(1_000, 3_000), (3_000, 5_000), (5_000, 7_000), (7_000, 7_500)]);
        let mut asked = Vec::new();
        while questions.waiting() > 0 {
            asked.push(questions.first().await.question.job);
            questions.answered();
        }
        assert_eq!(asked, ["2000", "4000", "6000", "7000"]);
    }

    #[test]
    fn an_error_ends_it() {
        let questions = Questions::new(100);
        let looked = questions.look_back(
            0,
            10_000,
            |after, upto, visit| {
                (after + 1..=upto).for_each(|number| visit(&event(&data(number))));
                if upto == 4_000 { Err("closed") } else { Ok(()) }
            },
            |_| Ok(false),
        );
        assert_eq!((looked, questions.waiting()), (Err("closed"), 2));
    }
}
