//! `lavabus results`: what test cases found.
//!
//! The latest of each test case and item, or with `--run` and `--job` the latest in that run or job; a summary, worst
//! outcome last, and the outcome of all together, which is the worst. Whether a run was executed to its end is said apart:
//! `run 7: incomplete`. For people that follows the table; otherwise it goes to standard error. Ends with 13 when nothing is
//! known of the run.

use lavabus_protocol::JobId;
use lavabus_protocol::redact::redact;
use lavabus_store::Reader;
use lavabus_store::question::results::{ResultQuestion, is_change};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::Format;
use crate::format::plain::printable;
use crate::question::{DatabaseArguments, Said, ask, cannot_read, lab_cell, not_known};
use crate::table::{Cell, Table};

const COLUMNS: [&str; 12] = [
    "testcase", "item", "type", "outcome", "previous", "run", "job", "device", "time", "note", "url", "lab",
];
const OPTIONAL: [&str; 9] = ["item", "type", "previous", "run", "job", "device", "note", "url", "lab"];

/// Show what test cases found
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Of which test case
    #[arg(value_name = "TESTCASE")]
    pub testcase: Option<String>,

    /// Of which item
    #[arg(long, value_name = "ITEM")]
    pub item: Option<String>,

    /// In which run, and whether it was executed to its end
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,

    /// In which job: 1995, 4000.1, job/1995, its URL
    #[arg(long, value_name = "JOB", value_parser = job)]
    pub job: Option<JobId>,

    /// Only with this outcome, in any case
    #[arg(long, value_name = "OUTCOME")]
    pub outcome: Option<String>,

    /// Only those that found something else than the time before
    #[arg(long)]
    pub changes: bool,

    /// In which lab
    #[arg(long, value_name = "LAB")]
    pub lab: Option<String>,

    /// List at most so many, the newest; the summary counts all
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,

    /// Where to look
    #[command(flatten)]
    pub database: DatabaseArguments,
}

fn job(text: &str) -> Result<JobId, &'static str> {
    JobId::parse(text).ok_or("expected a job: 1995, 4000.1, job/1995 or its URL")
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what failed, the cause, and the next thing to try.
pub async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    let database = arguments.database.clone();
    ask(&database, context, move |reader, context, _| {
        answer(&arguments, reader, context)
    })
    .await
}

/// The answer.
///
/// # Errors
///
/// As [`run`].
pub fn answer(arguments: &Arguments, reader: &Reader, context: &Context) -> Result<Said, Failure> {
    let question = ResultQuestion {
        testcase: arguments.testcase.as_deref(),
        item: arguments.item.as_deref(),
        run: arguments.run.as_deref(),
        job: arguments.job.as_ref(),
        outcome: arguments.outcome.as_deref(),
        lab: arguments.lab.as_deref(),
        changes: arguments.changes,
        limit: arguments.limit,
    };
    let answer = reader.results(&question).map_err(cannot_read(reader))?;
    let found = &answer.value;
    if let Some(run) = &arguments.run
        && !found.is_run_known
    {
        return Err(not_known(
            reader,
            "run",
            run,
            "`lavabus results -o json` shows the run of each result",
        ));
    }
    let mut table = Table::new(&COLUMNS).optional(&OPTIONAL);
    for result in &found.results {
        table.push(vec![
            result.testcase.as_str().into(),
            Some(result.item.as_str()).into(),
            result.item_type.clone().into(),
            result.outcome.as_str().into(),
            result.previous.clone().filter(|_| is_change(result)).into(),
            result.run.clone().into(),
            result.job.clone().into(),
            result.device.clone().into(),
            Cell::Time(Some(result.sent_us)),
            result.note.as_deref().map(redact).into(),
            result.url.as_deref().map(redact).into(),
            lab_cell(&result.lab),
        ]);
    }
    let text = table.to_text(context.format.as_ref(), context.color, "results")?;
    let mut said = Said::new(text, &answer);

    let mut conclusion: Vec<String> = Vec::new();
    if let Some(worst) = found.summary.worst() {
        conclusion.push(format!("{}: {worst}", found.summary));
    }
    for (run, status) in &found.runs {
        conclusion.push(format!("run {run}: {status}"));
    }
    if let Some(run) = &arguments.run
        && found.runs.is_empty()
    {
        conclusion.push(format!("run {run}: its end is not known"));
    }
    match context.format {
        None | Some(Format::Plain) => {
            if !conclusion.is_empty() {
                said.text.push('\n');
            }
            for line in conclusion {
                said.text += &format!("{}\n", printable(&line));
            }
        }
        _ => said.notices.extend(conclusion.iter().map(|line| printable(line))),
    }
    if table.is_empty() {
        said.notice(match arguments.changes {
            true => "nothing has changed",
            false => "no result is known, or none that is asked for",
        });
    }
    if found.summary.count() > found.results.len() {
        let (all, listed) = (found.summary.count(), found.results.len());
        said.notice(format!("{listed} of {all} are listed: --limit"));
    }
    Ok(said)
}
