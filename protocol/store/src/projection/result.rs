//! What each test case found, of each thing that it tested: the newest [`KEPT`], each with the outcome before it.
//!
//! Whether a run was executed to its end is another matter than what it found: that is a row under the empty test case,
//! of which the newest [`RUNS_KEPT`] are kept.

use lavabus_protocol::event::{Body, MAX_MESSAGE};
use rusqlite::Row as SqlRow;
use rusqlite::types::Value;

use super::rows::{Owner, Projection, Table};
use super::told::{kept, name};
use super::{Told, integer, text};

/// How many results are kept of each test case and item.
pub const KEPT: usize = 100;
/// At most so many characters of a URL.
const URL: usize = 2_000;
/// How many runs are kept.
pub const RUNS_KEPT: usize = 1_000;

/// One result, or under the empty test case the end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestResult {
    /// In which lab; empty where there is only one.
    pub lab: String,
    /// Which test case; empty for the end of a run.
    pub testcase: String,
    /// What was tested; empty if that was not said.
    pub item: String,
    /// The number of the event that told it.
    pub first_seq: u64,
    /// The number of the last event that concerned it.
    pub touched: u64,
    /// What kind of thing the item is.
    pub item_type: Option<String>,
    /// What it found; of a run, whether it was executed: `complete`, `incomplete` or `aborted`.
    pub outcome: String,
    /// What it found the time before.
    pub previous: Option<String>,
    /// In which run.
    pub run: Option<String>,
    /// In which job.
    pub job: Option<String>,
    /// On which device.
    pub device: Option<String>,
    /// One line.
    pub note: Option<String>,
    /// Where to read more.
    pub url: Option<String>,
    /// When it was sent, or else received, in µs since 1970.
    pub sent_us: i64,
    /// Whether it is the newest of its test case and item.
    pub newest: bool,
}

impl TestResult {
    fn of(told: &Told<'_>) -> Option<TestResult> {
        let Body::Result(result) = told.event.body() else {
            return None;
        };
        let testcase = name(result.testcase.as_deref());
        let outcome = match (&testcase, &result.run) {
            (Some(_), _) => name(result.outcome.as_deref())?.to_uppercase(),
            (None, Some(_)) => name(result.status.as_deref())?,
            (None, None) => return None,
        };
        Some(TestResult {
            lab: told.row.lab.to_owned(),
            testcase: testcase.unwrap_or_default(),
            item: name(result.item.as_deref()).unwrap_or_default(),
            first_seq: told.row.seq,
            touched: told.row.seq,
            item_type: name(result.item_type.as_deref()),
            outcome,
            previous: None,
            run: name(result.run.as_deref()),
            job: result.job.as_ref().map(ToString::to_string),
            device: name(result.device.as_deref()),
            note: kept(result.note.as_deref(), MAX_MESSAGE),
            url: kept(result.url.as_deref(), URL),
            sent_us: told.at_us(),
            newest: true,
        })
    }
}

impl Projection for TestResult {
    const TABLE: Table = Table {
        name: "result",
        owner: &["lab", "testcase", "item"],
        rest: &[
            "type", "outcome", "previous", "run", "job", "device", "note", "url", "sent_us", "newest",
        ],
        outlives: true,
    };

    fn owners(told: &Told<'_>) -> Vec<Owner> {
        let result = TestResult::of(told);
        result
            .map(|result| vec![result.lab, result.testcase, result.item])
            .into_iter()
            .collect()
    }

    fn apply(rows: &mut Vec<TestResult>, _owner: &Owner, told: &Told<'_>) {
        let Some(result) = TestResult::of(told) else { return };
        let is_run = result.testcase.is_empty();
        let kept = if is_run { RUNS_KEPT } else { KEPT };
        rows.push(result);
        // A recording that is imported may be older than what is known.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|at| (rows[*at].sent_us, rows[*at].first_seq.cast_signed()));
        let mut before: Option<String> = None;
        for (place, at) in order.iter().enumerate() {
            let row = &mut rows[*at];
            let previous = before.replace(row.outcome.clone()).filter(|_| !is_run);
            // Who is cut off takes nothing away from those behind it.
            let previous = if place == 0 { row.previous.take() } else { previous };
            let newest = place + 1 == order.len();
            if row.newest != newest || (place > 0 && row.previous != previous) {
                row.touched = told.row.seq;
            }
            (row.newest, row.previous) = (newest, previous);
        }
        if rows.len() > kept {
            rows.remove(order[0]);
        }
    }

    fn first_seq(&self) -> u64 {
        self.first_seq
    }

    fn touched(&self) -> u64 {
        self.touched
    }

    fn read(row: &SqlRow<'_>) -> Result<TestResult, rusqlite::Error> {
        Ok(TestResult {
            lab: row.get(0)?,
            testcase: row.get(1)?,
            item: row.get(2)?,
            first_seq: row.get::<_, i64>(3)?.cast_unsigned(),
            touched: row.get::<_, i64>(4)?.cast_unsigned(),
            item_type: row.get(5)?,
            outcome: row.get(6)?,
            previous: row.get(7)?,
            run: row.get(8)?,
            job: row.get(9)?,
            device: row.get(10)?,
            note: row.get(11)?,
            url: row.get(12)?,
            sent_us: row.get(13)?,
            newest: row.get(14)?,
        })
    }

    fn rest(&self) -> Vec<Value> {
        vec![
            text(self.item_type.as_deref()),
            text(Some(&self.outcome)),
            text(self.previous.as_deref()),
            text(self.run.as_deref()),
            text(self.job.as_deref()),
            text(self.device.as_deref()),
            text(self.note.as_deref()),
            text(self.url.as_deref()),
            integer(Some(self.sent_us)),
            integer(Some(i64::from(self.newest))),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::from_json_lines::fold;
    use super::*;

    #[test]
    fn each_result_knows_the_one_before_it() {
        let lines = r#"
            result {"testcase": "boot", "outcome": "passed", "run": "r1", "item": "k-6.12"}
            result {"testcase": "boot", "outcome": "FAILED", "run": "r2", "item": "k-6.12", "note": "panic"}
            result {"testcase": "boot", "outcome": "PASSED", "item": "k-6.13"}
            result {"testcase": "boot"}
            result {"run": "r2", "status": "incomplete"}
            result {"outcome": "PASSED"}
        "#;
        let all = fold::<TestResult>(lines);
        let show = |row: &TestResult| format!("{} after {:?} newest {}", row.outcome, row.previous, row.newest);
        let told: Vec<(&str, Vec<String>)> = all
            .iter()
            .map(|(owner, rows)| (owner.as_str(), rows.iter().map(show).collect()))
            .collect();
        assert_eq!(
            told,
            [
                ("", vec!["incomplete after None newest true".to_owned()]),
                (
                    "boot/k-6.12",
                    vec![
                        "PASSED after None newest false".to_owned(),
                        "FAILED after Some(\"PASSED\") newest true".to_owned()
                    ]
                ),
                ("boot/k-6.13", vec!["PASSED after None newest true".to_owned()]),
            ]
        );
    }

    #[test]
    fn an_older_result_that_comes_later_is_no_news() {
        let lines = r#"
            result@20 {"testcase": "boot", "outcome": "PASSED"}
            result@30 {"testcase": "boot", "outcome": "INFO"}
            result@10 {"testcase": "boot", "outcome": "FAILED"}
        "#;
        let all = fold::<TestResult>(lines);
        let show = |row: &TestResult| (row.outcome.clone(), row.previous.clone(), row.newest);
        let told: Vec<_> = all[0].1.iter().map(show).collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            told,
            [
                ("PASSED".to_owned(), some("FAILED"), false),
                ("INFO".to_owned(), some("PASSED"), true),
                ("FAILED".to_owned(), None, false)
            ]
        );
    }

    #[test]
    fn the_newest_stay() {
        let result = |number: u32| format!(r#"result {{"testcase": "t", "outcome": "PASSED", "run": "{number}"}}"#);
        let run = |number: u32| format!(r#"result {{"run": "{number}", "status": "complete"}}"#);
        let lines: Vec<String> = (1..=1_100).flat_map(|number| [result(number), run(number)]).collect();
        let all = fold::<TestResult>(&lines.join("\n"));
        let first = |rows: &[TestResult]| rows[0].run.clone();
        assert_eq!((all[0].1.len(), first(&all[0].1)), (RUNS_KEPT, Some("101".to_owned())));
        assert_eq!((all[1].1.len(), first(&all[1].1)), (KEPT, Some("1001".to_owned())));
    }
}
