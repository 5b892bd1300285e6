//! `lavabus history device NAME`: is this failure a fluke, or has it failed all day?
//!
//! The answer in one line comes first, then the attempts, the newest first. As JSON one object:
//! `{"device","lab","verdict","summary","streak":{"outcome","count"},"success_rate","passes","fails","attempts":[…]}`;
//! `success_rate` is null without data. As CSV the attempts. Ends with 13 when nobody has told of the device.

use std::time::Duration;

use jiff::Timestamp;
use lavabus_protocol::redact::redact;
use lavabus_protocol::time::parse_duration;
use lavabus_store::Reader;
use lavabus_store::projection::attempt::Attempt;
use lavabus_store::question::history::{DeviceHistory, Rate, Verdict, one_line, rate, streak, tries};
use serde::Serialize;
use serde_json::Value;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::Format;
use crate::format::plain::printable;
use crate::question::{DatabaseArguments, Said, ask, cannot_read, lab_cell, not_known, time};
use crate::status::Micros;
use crate::table::{Cell, Table, duration_text, streak_json};

const COLUMNS: [&str; 9] = [
    "finished",
    "job",
    "phase",
    "outcome",
    "duration",
    "exit_code",
    "error_type",
    "detail",
    "lab",
];

/// Show what was tried on a device
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Of what
    #[command(subcommand)]
    pub subject: Subject,
}

/// Of what a history is known.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Subject {
    /// What was tried on a device, and what follows from it
    Device(DeviceArguments),
}

/// `lavabus history device`.
#[derive(Clone, Debug, clap::Args)]
pub struct DeviceArguments {
    /// Its name, or device/NAME
    #[arg(value_name = "NAME")]
    pub name: String,

    /// In which lab
    #[arg(long, value_name = "LAB")]
    pub lab: Option<String>,

    /// List at most so many attempts; 100 are kept
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,

    /// List attempts that ended at this time or later
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    pub since: Option<Timestamp>,

    /// The span of the success rate, and in which a failure is news
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "2d")]
    pub window: Duration,

    /// Where to look
    #[command(flatten)]
    pub database: DatabaseArguments,
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what failed, the cause, and the next thing to try.
pub async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    let Subject::Device(arguments) = arguments.subject;
    let database = arguments.database.clone();
    ask(&database, context, move |reader, context, now_us| {
        answer(&arguments, reader, context, now_us)
    })
    .await
}

/// The answer as of `now_us`, in µs since 1970.
///
/// # Errors
///
/// As [`run`].
pub fn answer(arguments: &DeviceArguments, reader: &Reader, context: &Context, now_us: i64) -> Result<Said, Failure> {
    let name = arguments.name.strip_prefix("device/").unwrap_or(&arguments.name);
    let lab = arguments.lab.as_deref();
    let mut answer = reader.device_history(name, lab).map_err(cannot_read(reader))?;
    if answer.value.is_empty() {
        // It may be known, but nothing was tried on it.
        let known = reader.device(name, lab, now_us).map_err(cannot_read(reader))?;
        if known.value.is_empty() {
            return Err(not_known(
                reader,
                "device",
                name,
                "`lavabus show devices` lists those that are",
            ));
        }
        answer.value = known
            .value
            .into_iter()
            .map(|view| DeviceHistory {
                lab: view.entity.lab,
                device: name.to_owned(),
                attempts: Vec::new(),
            })
            .collect();
    }
    let window_us = i64::try_from(arguments.window.as_micros()).unwrap_or(i64::MAX);
    let reports: Vec<Report> = answer
        .value
        .iter()
        .map(|history| Report::new(history, arguments, window_us, now_us))
        .collect();
    let text = match &context.format {
        None | Some(Format::Plain) => {
            let plain: Result<Vec<String>, Failure> = reports.iter().map(|report| report.to_plain(context)).collect();
            plain?.join("\n")
        }
        Some(Format::Json) => reports.iter().map(|report| json_line(&report.to_json())).collect(),
        format => {
            let mut table = Table::new(&COLUMNS);
            for report in &reports {
                report.push_to(&mut table, redact);
            }
            table.to_text(format.as_ref(), context.color, "history")?
        }
    };
    Ok(Said::new(text, &answer))
}

/// What is said of one device.
struct Report<'a> {
    history: &'a DeviceHistory,
    listed: Vec<&'a Attempt>,
    window_us: i64,
    rate: Rate,
    verdict: Verdict,
    streak: Value,
}

impl Report<'_> {
    fn new<'a>(history: &'a DeviceHistory, arguments: &DeviceArguments, window_us: i64, now_us: i64) -> Report<'a> {
        let tries = tries(&history.attempts);
        let since_us = arguments.since.map_or(i64::MIN, Timestamp::as_microsecond);
        let listed = history
            .attempts
            .iter()
            .filter(|attempt| attempt.finished_us >= since_us);
        Report {
            listed: listed.take(arguments.limit).collect(),
            window_us,
            rate: rate(&tries, now_us.saturating_sub(window_us)),
            verdict: Verdict::of(&tries, window_us),
            streak: streak_json(streak(&tries)),
            history,
        }
    }

    fn push_to(&self, table: &mut Table, detail: fn(&str) -> String) {
        for attempt in &self.listed {
            table.push(vec![
                Cell::Time(Some(attempt.finished_us)),
                attempt.job.clone().into(),
                attempt.phase.as_str().into(),
                attempt.outcome.as_str().into(),
                Cell::Duration(
                    attempt
                        .started_us
                        .map(|started_us| attempt.finished_us.saturating_sub(started_us)),
                ),
                attempt.exit_code.map_or(Cell::Text(None), Cell::Number),
                attempt.error_type.clone().into(),
                attempt.detail.as_deref().map(detail).into(),
                lab_cell(&attempt.lab),
            ]);
        }
    }

    fn to_plain(&self, context: &Context) -> Result<String, Failure> {
        let DeviceHistory { lab, device, .. } = self.history;
        let place = if lab.is_empty() {
            String::new()
        } else {
            format!("{lab} ")
        };
        let mut text = printable(&format!("{place}{device}: {}", self.verdict)) + "\n";
        let window = window_text(self.window_us);
        text += &match self.rate.share() {
            Some(share) => {
                let (passes, all) = (self.rate.passes, self.rate.passes + self.rate.fails);
                format!(
                    "success rate: {:.0} % ({passes} of {all} in the last {window})\n",
                    share * 100.0
                )
            }
            None => format!("success rate: n/a (nothing passed or failed in the last {window})\n"),
        };
        if !self.listed.is_empty() {
            let mut table = Table::new(&COLUMNS).optional(&["exit_code", "error_type", "detail", "lab"]);
            self.push_to(&mut table, one_line);
            text += "\n";
            text += &table.to_text(None, context.color, "history")?;
        }
        Ok(text)
    }

    fn to_json(&self) -> Json<'_> {
        let attempts = self.listed.iter().map(|attempt| AttemptJson {
            finished: Micros(attempt.finished_us),
            started: attempt.started_us.map(Micros),
            job: attempt.job.as_deref(),
            phase: &attempt.phase,
            outcome: attempt.outcome.as_str(),
            exit_code: attempt.exit_code,
            error_type: attempt.error_type.as_deref(),
            detail: attempt.detail.as_deref().map(redact),
        });
        Json {
            device: &self.history.device,
            lab: Some(self.history.lab.as_str()).filter(|lab| !lab.is_empty()),
            verdict: self.verdict.as_str(),
            summary: self.verdict.to_string(),
            streak: &self.streak,
            success_rate: self.rate.share(),
            passes: self.rate.passes,
            fails: self.rate.fails,
            attempts: attempts.collect(),
        }
    }
}

#[derive(Serialize)]
struct Json<'a> {
    device: &'a str,
    lab: Option<&'a str>,
    verdict: &'static str,
    summary: String,
    streak: &'a Value,
    success_rate: Option<f64>,
    passes: u64,
    fails: u64,
    attempts: Vec<AttemptJson<'a>>,
}

#[derive(Serialize)]
struct AttemptJson<'a> {
    finished: Micros,
    started: Option<Micros>,
    job: Option<&'a str>,
    phase: &'a str,
    outcome: &'static str,
    exit_code: Option<i64>,
    error_type: Option<&'a str>,
    detail: Option<String>,
}

fn json_line(json: &Json<'_>) -> String {
    serde_json::to_string(json).expect("texts and numbers only") + "\n"
}

/// `2d`, not `2d 0h`.
fn window_text(window_us: i64) -> String {
    let text = duration_text(window_us);
    match text.split_once(" 0") {
        Some((first, _)) => first.to_owned(),
        None => text,
    }
}
