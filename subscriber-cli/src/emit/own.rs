//! Attempts, stages, faults and results made from arguments.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::{Timestamp, Zoned};
use lavabus_client::datetime_text;
use lavabus_protocol::event::{JobId, outcome};
use lavabus_protocol::time::parse_time;
use lavabus_protocol::{Kind, Record};
use serde_json::{Map, Value};

use super::Sending;
use super::events::{job_id, job_value, make};
use crate::failure::Failure;
use crate::own_data::{self, AttemptData, FaultData, ResultData, StageData};

/// One try at something on a device, ended.
#[derive(Clone, Debug, clap::Args)]
pub struct AttemptArguments {
    /// On which device
    #[arg(long, value_name = "NAME", value_parser = text())]
    pub device: String,
    /// For which job
    #[arg(long, visible_alias = "job-id", value_name = "ID", value_parser = job_id)]
    pub job: JobId,
    /// 0 is success
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub exit_code: i64,
    /// The error's text, 65,535 characters at most
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub detail: Option<String>,
    /// Which part of the job, such as provision; otherwise the whole job
    #[arg(long, value_name = "NAME", value_parser = text())]
    pub phase: Option<String>,
    /// Where the exit code is not all there is to say
    #[arg(long, value_parser = ["pass", "fail", "neutral"])]
    pub outcome: Option<String>,
    /// LAVA's class of the error, such as Infrastructure
    #[arg(long, value_name = "CLASS", value_parser = text())]
    pub error_type: Option<String>,
    /// When it began: RFC 3339, "10m ago", …
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    pub started: Option<Timestamp>,
    /// When it ended
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    pub finished: Option<Timestamp>,
}

/// How far a service is with a request.
#[derive(Clone, Debug, clap::Args)]
pub struct StageArguments {
    /// Which service
    #[arg(long, value_name = "NAME", value_parser = text())]
    pub service: String,
    /// Which request
    #[arg(long, value_name = "ID", value_parser = text())]
    pub request_id: String,
    /// received, then success or error; any other only informs
    #[arg(long, value_name = "STATUS", value_parser = text())]
    pub status: String,
    /// When: RFC 3339, "10m ago", …; now if not given
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    pub date: Option<Timestamp>,
    /// Which part of the service
    #[arg(long, value_name = "NAME", value_parser = text())]
    pub source: Option<String>,
    /// Whose request
    #[arg(long, value_name = "NAME", value_parser = text())]
    pub account: Option<String>,
    /// An id of the thing that the request is about
    #[arg(long, value_name = "ID", value_parser = text())]
    pub inventory_id: Option<String>,
    /// Another one
    #[arg(long, value_name = "ID", value_parser = text())]
    pub system_id: Option<String>,
    /// Why, or what, 65,535 characters at most
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub message: Option<String>,
    /// The job behind it
    #[arg(long, value_name = "ID", value_parser = job_id)]
    pub job: Option<JobId>,
}

/// An error to be kept with the thing that it is about.
#[derive(Clone, Debug, clap::Args)]
pub struct FaultArguments {
    /// What it is about: device/NAME, worker/NAME, job/ID, or any other name
    #[arg(long, value_name = "NAME", value_parser = text())]
    pub subject: String,
    /// One line, 255 characters at most
    #[arg(
        long,
        value_name = "TEXT",
        required_unless_present = "cleared",
        allow_hyphen_values = true
    )]
    pub message: Option<String>,
    /// More, for administrators, 65,535 characters at most
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub details: Option<String>,
    /// Who noticed it
    #[arg(long, value_name = "NAME", value_parser = text())]
    pub origin: Option<String>,
    /// In which job
    #[arg(long, value_name = "ID", value_parser = job_id)]
    pub job: Option<JobId>,
    /// On which device
    #[arg(long, value_name = "NAME", value_parser = text())]
    pub device: Option<String>,
    /// The fault with this message is over; without a message, all of this subject are
    #[arg(long)]
    pub cleared: bool,
}

/// What one test case found; or, without a test case, how a run of them ended.
#[derive(Clone, Debug, clap::Args)]
pub struct ResultArguments {
    /// Which test case
    #[arg(long, value_name = "NAME", required_unless_present = "status", requires = "outcome", value_parser = text())]
    pub testcase: Option<String>,
    /// What it found
    #[arg(long, requires = "testcase", ignore_case = true, value_parser = one_of(&outcome::ALL))]
    pub outcome: Option<&'static str>,
    /// Whether the run was executed to its end
    #[arg(long, requires = "run", conflicts_with = "testcase", ignore_case = true, value_parser = one_of(&STATUSES))]
    pub status: Option<&'static str>,
    /// What was tested
    #[arg(long, value_name = "NAME", value_parser = text())]
    pub item: Option<String>,
    /// What kind of thing that is
    #[arg(long = "type", value_name = "TYPE", value_parser = text())]
    pub item_type: Option<String>,
    /// One line
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub note: Option<String>,
    /// Free data; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub data: Vec<(String, String)>,
    /// Of which run, job and device.
    #[command(flatten)]
    pub origin: Origin,
}

/// Where results come from.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Origin {
    /// In which run; left out if it is not given
    #[arg(long, value_name = "ID", value_parser = text())]
    pub run: Option<String>,
    /// Where to read more
    #[arg(long, value_name = "URL", value_parser = text())]
    pub url: Option<String>,
    /// The same, with the run's id in the place of {run}
    #[arg(long, value_name = "URL", requires = "run", conflicts_with = "url", value_parser = url_template)]
    pub url_template: Option<String>,
    /// In which job
    #[arg(long, value_name = "ID", value_parser = job_id)]
    pub job: Option<JobId>,
    /// On which device
    #[arg(long, value_name = "NAME", value_parser = text())]
    pub device: Option<String>,
}

/// How a run may have been executed; that says nothing of what it found.
pub(super) const STATUSES: [&str; 3] = ["complete", "incomplete", "aborted"];

impl Origin {
    pub(super) fn url(&self) -> Option<String> {
        match (&self.url, &self.url_template, &self.run) {
            (Some(url), ..) => Some(url.clone()),
            (None, Some(template), Some(run)) => Some(template.replace("{run}", run)),
            _ => None,
        }
    }

    pub(super) fn job(&self) -> Option<Value> {
        self.job.as_ref().map(job_value)
    }
}

impl AttemptArguments {
    pub(super) fn record(&self, sending: &Sending) -> Result<Record, Failure> {
        let (started, finished) = (self.started.map(datetime_text), self.finished.map(datetime_text));
        let detail = self.detail.as_deref().map(own_data::details);
        let data = AttemptData {
            device: &self.device,
            job_id: job_value(&self.job),
            exit_code: self.exit_code,
            detail: detail.as_deref(),
            phase: self.phase.as_deref(),
            outcome: self.outcome.as_deref(),
            error_type: self.error_type.as_deref(),
            started: started.as_deref(),
            finished: finished.as_deref(),
        };
        make(Kind::Attempt.as_str(), &data, sending)
    }
}

impl StageArguments {
    pub(super) fn record(&self, sending: &Sending) -> Result<Record, Failure> {
        let message = self.message.as_deref().map(own_data::details);
        let data = StageData {
            service: &self.service,
            request_id: &self.request_id,
            status: &self.status,
            date: &datetime_text(self.date.unwrap_or_else(Timestamp::now)),
            source: self.source.as_deref(),
            account: self.account.as_deref(),
            inventory_id: self.inventory_id.as_deref(),
            system_id: self.system_id.as_deref(),
            message: message.as_deref(),
            job: self.job.as_ref().map(job_value),
        };
        make(Kind::Stage.as_str(), &data, sending)
    }
}

impl FaultArguments {
    pub(super) fn record(&self, sending: &Sending) -> Result<Record, Failure> {
        let message = self.message.as_deref().map(own_data::message);
        let details = self.details.as_deref().map(own_data::details);
        let data = FaultData {
            subject: &self.subject,
            message: message.as_deref(),
            details: details.as_deref(),
            origin: self.origin.as_deref(),
            job: self.job.as_ref().map(job_value),
            device: self.device.as_deref(),
            cleared: self.cleared,
        };
        make(Kind::Fault.as_str(), &data, sending)
    }
}

impl ResultArguments {
    pub(super) fn record(&self, sending: &Sending) -> Result<Record, Failure> {
        let text = |(key, value): &(String, String)| (key.clone(), Value::from(own_data::details(value)));
        let url = self.origin.url();
        let note = self.note.as_deref().map(own_data::details);
        let data = ResultData {
            testcase: self.testcase.as_deref(),
            outcome: self.outcome,
            run: self.origin.run.as_deref(),
            status: self.status,
            item: self.item.as_deref(),
            item_type: self.item_type.as_deref(),
            note: note.as_deref(),
            url: url.as_deref(),
            job: self.origin.job(),
            device: self.origin.device.as_deref(),
            data: self.data.iter().map(text).collect::<Map<_, _>>(),
        };
        make(Kind::Result.as_str(), &data, sending)
    }
}

/// A text that is not empty: an empty one is most often a variable of a script that is not set.
fn text() -> impl TypedValueParser<Value = String> {
    clap::builder::NonEmptyStringValueParser::new()
}

/// One of these, in any case.
fn one_of(values: &'static [&'static str]) -> impl TypedValueParser<Value = &'static str> {
    PossibleValuesParser::new(values).map(|value| {
        let known = values.iter().find(|known| known.eq_ignore_ascii_case(&value));
        *known.expect("clap takes no other value")
    })
}

fn time(text: &str) -> Result<Timestamp, lavabus_protocol::time::TimeError> {
    parse_time(text, &Zoned::now())
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("it has no key, expected KEY=VALUE".to_owned()),
    }
}

fn url_template(text: &str) -> Result<String, String> {
    match text.contains("{run}") {
        true => Ok(text.to_owned()),
        false => Err("it has no place for the run's id, expected such as https://example.org/runs/{run}".to_owned()),
    }
}
