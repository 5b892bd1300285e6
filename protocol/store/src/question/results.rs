//! What test cases found, what changed, and apart from that whether a run was executed to its end.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;

use lavabus_protocol::JobId;
use lavabus_protocol::event::outcome;

use super::{Answer, Moment, is_lab, walk};
use crate::error::StoreError;
use crate::projection::result::TestResult;
use crate::reader::Reader;

const NEWEST: &str = "SELECT * FROM result WHERE newest = 1 ORDER BY sent_us DESC";
const OF_TESTCASE: &str = "SELECT * FROM result WHERE lab = ?1 AND testcase = ?2 AND newest = 1";
const NEXT_LAB: &str = "SELECT min(lab) FROM result WHERE lab >= ?1";
const OF_RUN: &str = "SELECT * FROM result WHERE run = ?1";
const OF_JOB: &str = "SELECT * FROM result WHERE job = ?1";

#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[NEWEST, OF_TESTCASE, NEXT_LAB, OF_RUN, OF_JOB];

/// Which results are asked for. Without a run and a job, the latest of each test case and item; else the latest of them
/// in that run or job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResultQuestion<'a> {
    /// Of which test case.
    pub testcase: Option<&'a str>,
    /// Of which item.
    pub item: Option<&'a str>,
    /// In which run.
    pub run: Option<&'a str>,
    /// In which job.
    pub job: Option<&'a JobId>,
    /// With which outcome, in any case.
    pub outcome: Option<&'a str>,
    /// In which lab.
    pub lab: Option<&'a str>,
    /// Only those that found something else than the time before.
    pub changes: bool,
    /// At most so many, the newest.
    pub limit: usize,
}

/// Results, and what they say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Results {
    /// At most as many as were asked for, the newest first.
    pub results: Vec<TestResult>,
    /// All that are asked for, counted, also those beyond the limit.
    pub summary: Summary,
    /// How the runs ended that are asked for or belong to the job that is: run, and `complete`, `incomplete` or
    /// `aborted`. That says nothing of what they found. A run without an end is missing.
    pub runs: Vec<(String, String)>,
    /// Whether anything at all is known of the run that is asked for.
    pub is_run_known: bool,
}

/// How many results there are of each outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary(BTreeMap<String, usize>);

impl Summary {
    /// One more.
    pub fn add(&mut self, outcome: &str) {
        *self.0.entry(outcome.to_owned()).or_default() += 1;
    }

    /// How many in all.
    pub fn count(&self) -> usize {
        self.0.values().sum()
    }

    /// The worst outcome; `None` if there is none.
    pub fn worst(&self) -> Option<&str> {
        self.0
            .keys()
            .map(String::as_str)
            .max_by_key(|found| (outcome::badness(found), Reverse(*found)))
    }
}

/// `3 PASSED, 1 INFO, 2 FAILED`, from the best to the worst.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts: Vec<(&String, &usize)> = self.0.iter().collect();
        counts.sort_by_key(|(found, _)| outcome::badness(found));
        for (at, (found, count)) in counts.into_iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{count} {found}")?;
        }
        Ok(())
    }
}

/// Whether it found something else than the time before.
pub fn is_change(result: &TestResult) -> bool {
    result
        .previous
        .as_ref()
        .is_some_and(|previous| *previous != result.outcome)
}

/// Of several results of one test case and item the last one counts.
fn latest(results: Vec<TestResult>) -> Vec<TestResult> {
    let mut latest: BTreeMap<(String, String, String), TestResult> = BTreeMap::new();
    for result in results {
        let key = (result.lab.clone(), result.testcase.clone(), result.item.clone());
        match latest.get(&key) {
            Some(known) if known.first_seq > result.first_seq => {}
            _ => {
                latest.insert(key, result);
            }
        }
    }
    latest.into_values().collect()
}

impl Moment<'_> {
    /// Everything that may be asked for, ends of runs among it.
    fn results(&self, question: &ResultQuestion<'_>) -> Result<Vec<TestResult>, StoreError> {
        let changed = &self.history.results;
        let mut found = Vec::new();
        let mut keep = |result: TestResult| {
            found.push(result);
            ControlFlow::Continue(())
        };
        let is_newest_asked = question.run.is_none() && question.job.is_none();
        match (question.run, question.job, question.testcase) {
            (Some(run), _, _) => walk(&self.conn, OF_RUN, [run], changed, &mut keep)?,
            (None, Some(job), _) => walk(&self.conn, OF_JOB, [job.as_str()], changed, &mut keep)?,
            (None, None, Some(testcase)) => {
                for lab in self.labs(NEXT_LAB, question.lab)? {
                    walk(&self.conn, OF_TESTCASE, [&lab, testcase], changed, &mut keep)?;
                }
            }
            (None, None, None) => walk(&self.conn, NEWEST, [], changed, &mut keep)?,
        }
        let is_asked = |result: &&TestResult| {
            (!is_newest_asked || result.newest)
                && question.run.is_none_or(|run| result.run.as_deref() == Some(run))
                && question
                    .job
                    .is_none_or(|job| result.job.as_deref() == Some(job.as_str()))
        };
        found.extend(
            changed
                .iter()
                .flat_map(|(_, results)| results)
                .filter(is_asked)
                .cloned(),
        );
        Ok(found)
    }
}

impl Reader {
    /// The results that are asked for.
    pub fn results(&self, question: &ResultQuestion<'_>) -> Result<Answer<Results>, StoreError> {
        let moment = self.moment()?;
        let mut found = moment.results(question)?;
        found.retain(|result| is_lab(question.lab, &result.lab));
        found.sort_by_key(|result| result.first_seq);
        let is_run_known = question.run.is_some() && !found.is_empty();
        let mut runs: Vec<(String, String)> = Vec::new();
        let (ends, found): (Vec<_>, Vec<_>) = found.into_iter().partition(|result| result.testcase.is_empty());
        if question.run.is_some() || question.job.is_some() {
            for end in ends {
                let Some(run) = end.run else { continue };
                runs.retain(|(known, _)| *known != run);
                runs.push((run, end.outcome));
            }
        }
        let wanted = |result: &TestResult| {
            question.testcase.is_none_or(|testcase| result.testcase == testcase)
                && question.item.is_none_or(|item| result.item == item)
                && question
                    .job
                    .is_none_or(|job| result.job.as_deref() == Some(job.as_str()))
                && question
                    .outcome
                    .is_none_or(|outcome| result.outcome.eq_ignore_ascii_case(outcome))
                && (!question.changes || is_change(result))
        };
        let mut results = latest(found);
        results.retain(wanted);
        let mut summary = Summary::default();
        for result in &results {
            summary.add(&result.outcome);
        }
        results.sort_by_key(|result| Reverse((result.sent_us, result.first_seq)));
        results.truncate(question.limit);
        Ok(moment.answer(Results {
            results,
            summary,
            runs,
            is_run_known,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_wins() {
        let mut summary = Summary::default();
        assert_eq!((summary.to_string(), summary.worst()), (String::new(), None));
        for outcome in ["FAILED", "PASSED", "INFO", "PASSED", "FAILED", "PASSED"] {
            summary.add(outcome);
        }
        assert_eq!(summary.to_string(), "3 PASSED, 1 INFO, 2 FAILED");
        assert_eq!((summary.worst(), summary.count()), (Some("FAILED"), 6));
        summary.add("CRASHED");
        summary.add("ODD");
        assert_eq!(summary.to_string(), "3 PASSED, 1 INFO, 1 ODD, 2 FAILED, 1 CRASHED");
        assert_eq!(summary.worst(), Some("CRASHED"));
    }
}
