//! Events made from arguments, with the keys that LAVA sends, in its order.

use lavabus_client::{datetime_text, new_event, new_id};
use lavabus_protocol::event::{JobId, health, state};
use lavabus_protocol::{Record, RecordError};
use serde::Serialize;
use serde_json::Value;

use super::Sending;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::python_json;

/// A message, as out of a test shell.
#[derive(Clone, Debug, clap::Args)]
pub struct MessageArguments {
    /// Any text; it arrives as it is written
    #[arg(allow_hyphen_values = true)]
    pub message: String,
    /// The job that says it
    #[arg(long, value_name = "ID", value_parser = job_id)]
    pub job: JobId,
}

/// A device's state and health.
#[derive(Clone, Debug, clap::Args)]
pub struct DeviceArguments {
    /// Its name
    pub name: String,
    /// Idle, Reserved or Running
    #[arg(long)]
    pub state: String,
    /// Good, Unknown, Looping, Bad, Maintenance or Retired
    #[arg(long)]
    pub health: String,
    /// Its device type
    #[arg(long = "type", alias = "device-type", value_name = "TYPE", default_value = "unknown")]
    pub device_type: String,
    /// Host name of its worker
    #[arg(long)]
    pub worker: Option<String>,
    /// The job that it runs
    #[arg(long, value_name = "ID", value_parser = job_id)]
    pub job: Option<JobId>,
}

/// A job's state and health.
#[derive(Clone, Debug, clap::Args)]
pub struct JobArguments {
    /// Its number
    #[arg(value_parser = job_id)]
    pub id: JobId,
    /// Submitted, Scheduling, Scheduled, Running, Canceling or Finished
    #[arg(long)]
    pub state: String,
    /// Unknown, Complete, Incomplete or Canceled
    #[arg(long, default_value = "Unknown")]
    pub health: String,
    /// Its description
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub description: String,
    /// Who submitted it; --user if not given
    #[arg(long, value_name = "NAME")]
    pub submitter: Option<String>,
    /// Its priority, 0 to 100
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub priority: u8,
    /// Sub id of a job on several devices, such as 7.0
    #[arg(long, value_name = "ID")]
    pub sub_id: Option<String>,
    /// The device that runs it
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// The device type that it asks for
    #[arg(long = "type", alias = "device-type", value_name = "TYPE")]
    pub device_type: Option<String>,
    /// Host name of the worker
    #[arg(long)]
    pub worker: Option<String>,
    /// It checks a device's health
    #[arg(long)]
    pub health_check: bool,
}

/// A worker's state and health.
#[derive(Clone, Debug, clap::Args)]
pub struct WorkerArguments {
    /// Its host name
    pub name: String,
    /// Online or Offline
    #[arg(long)]
    pub state: String,
    /// Active, Maintenance or Retired
    #[arg(long)]
    pub health: String,
}

/// Events as JSON lines.
#[derive(Clone, Debug, clap::Args)]
pub struct RawArguments {
    /// {"topic", "data", …} or the array of five; without uuid or datetime, new ones are made
    #[arg(required = true, value_name = "JSON")]
    pub lines: Vec<String>,
}

pub(super) fn job_id(text: &str) -> Result<JobId, String> {
    JobId::parse(text)
        .ok_or_else(|| "it is no job id, expected a number such as 1995, or a sub id such as 7.0".to_owned())
}

#[derive(Serialize)]
pub(super) struct Message<'a> {
    pub(super) message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<Value>,
}

#[derive(Serialize)]
struct Device<'a> {
    health: &'a str,
    state: &'a str,
    device: &'a str,
    device_type: &'a str,
    worker: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<Value>,
}

#[derive(Serialize)]
struct Job<'a> {
    health: &'a str,
    state: &'a str,
    job: Value,
    description: &'a str,
    priority: u8,
    submit_time: &'a str,
    submitter: &'a str,
    health_check: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_type: Option<&'a str>,
}

#[derive(Serialize)]
struct Worker<'a> {
    hostname: &'a str,
    health: &'a str,
    state: &'a str,
}

impl MessageArguments {
    pub(super) fn record(&self, sending: &Sending) -> Result<Record, Failure> {
        let data = Message {
            message: &self.message,
            job: Some(job_value(&self.job)),
        };
        make("event", &data, sending)
    }
}

impl DeviceArguments {
    pub(super) fn record(&self, sending: &Sending) -> Result<Record, Failure> {
        let data = Device {
            health: known("--health", "health of a device", &self.health, &health::DEVICE, sending)?,
            state: known("--state", "state of a device", &self.state, &state::DEVICE, sending)?,
            device: &self.name,
            device_type: &self.device_type,
            worker: self.worker.as_deref(),
            job: self.job.as_ref().map(job_value),
        };
        make("device", &data, sending)
    }
}

impl JobArguments {
    pub(super) fn record(&self, sending: &Sending) -> Result<Record, Failure> {
        let now = datetime_text(jiff::Timestamp::now());
        let data = Job {
            health: known("--health", "health of a job", &self.health, &health::JOB, sending)?,
            state: known("--state", "state of a job", &self.state, &state::JOB, sending)?,
            job: job_value(&self.id),
            description: &self.description,
            priority: self.priority,
            submit_time: &now,
            submitter: self.submitter.as_deref().unwrap_or(&sending.username),
            health_check: self.health_check,
            sub_id: self.sub_id.as_deref(),
            device: self.device.as_deref(),
            worker: self.worker.as_deref(),
            device_type: self.device_type.as_deref(),
        };
        make("testjob", &data, sending)
    }
}

impl WorkerArguments {
    pub(super) fn record(&self, sending: &Sending) -> Result<Record, Failure> {
        let data = Worker {
            hostname: &self.name,
            health: known("--health", "health of a worker", &self.health, &health::WORKER, sending)?,
            state: known("--state", "state of a worker", &self.state, &state::WORKER, sending)?,
        };
        make("worker", &data, sending)
    }
}

impl RawArguments {
    pub(super) fn records(&self, sending: &Sending) -> Result<Vec<Record>, Failure> {
        let read = |line: &String| {
            read_line(line, sending).map_err(|error| {
                let hint = r#"'{"topic": "org.lavasoftware.event", "data": {"message": "hello", "job": 1}}'"#;
                Failure::new(Exit::Usage, "an argument of `emit raw` is no event", error, hint)
            })
        };
        self.lines.iter().map(read).collect()
    }
}

/// Reads one event; keys that it leaves out, but for topic and data, are made.
pub(super) fn read_line(line: &str, sending: &Sending) -> Result<Record, RecordError> {
    let missing = |key: &'static str| {
        let object: Option<serde_json::Map<String, Value>> = serde_json::from_str(line).ok();
        object.is_some_and(|object| !object.contains_key(key) && !object.contains_key("frames"))
    };
    match Record::from_json_line(line) {
        Err(RecordError::Missing {
            key: "uuid" | "datetime" | "username",
        }) => {}
        read => return read,
    }
    let mut members = String::new();
    let mut add = |key: &'static str, value: String| {
        if missing(key) {
            members.push_str(&format!("{:?}:{},", key, Value::String(value)));
        }
    };
    add("uuid", new_id().to_string());
    add("datetime", datetime_text(jiff::Timestamp::now()));
    add("username", sending.username.clone());
    // The rest of the line stays byte for byte as it is.
    let rest = line.trim_start().strip_prefix('{').unwrap_or_default();
    Record::from_json_line(&format!("{{{members}{rest}"))
}

pub(super) fn make(kind: &str, data: &impl Serialize, sending: &Sending) -> Result<Record, Failure> {
    let prefix = sending.topic_prefix.trim_end_matches('.');
    let topic = if prefix.is_empty() {
        kind.to_owned()
    } else {
        format!("{prefix}.{kind}")
    };
    new_event(&topic, &sending.username, &python_json::to_text(data)).map_err(|refusal| {
        Failure::new(
            Exit::Usage,
            format!("--topic {:?} cannot be used", sending.topic_prefix),
            refusal,
            "--topic org.lavasoftware",
        )
    })
}

/// LAVA sends numbers as numbers, and ids such as 7.0 as text.
pub(super) fn job_value(id: &JobId) -> Value {
    match id.as_str().parse::<u64>() {
        Ok(number) if number.to_string() == id.as_str() => number.into(),
        _ => id.as_str().into(),
    }
}

/// The value as LAVA writes it, or as it is written with `--any-value`.
fn known<'a>(
    flag: &str,
    what: &str,
    value: &'a str,
    values: &[&'a str],
    sending: &Sending,
) -> Result<&'a str, Failure> {
    let found = values.iter().find(|known| known.eq_ignore_ascii_case(value));
    match found {
        Some(known) => Ok(known),
        None if sending.any_value => Ok(value),
        None => Err(Failure::new(
            Exit::Usage,
            format!("{flag} does not take {value:?}"),
            format!("LAVA knows no such {what}"),
            format!("{}; or --any-value", values.join(", ")),
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use lavabus_protocol::event::Body;

    fn emit(line: &[&str]) -> Result<Record, Failure> {
        let command_line = ["lavabus", "emit"].iter().chain(line);
        let arguments = Arguments::read(command_line).unwrap();
        let Command::Emit(emit) = arguments.command else {
            panic!()
        };
        let mut records = emit.event.unwrap().records(&emit.sending)?;
        Ok(records.remove(0))
    }

    #[test]
    fn the_keys_are_lavas_in_its_order() {
        let device = [
            "device", "qemu-01", "--state", "running", "--health", "GOOD", "--type", "qemu", "--worker", "w", "--job",
            "7.0",
        ];
        let device = emit(&device).unwrap();
        assert_eq!(
            (device.topic.as_str(), device.username.as_str()),
            ("org.lavasoftware.device", "lavaserver")
        );
        assert_eq!(
            device.data,
            r#"{"health": "Good", "state": "Running", "device": "qemu-01", "device_type": "qemu", "worker": "w", "job": "7.0"}"#
        );
        let worker = emit(&["worker", "w", "--state", "Offline", "--health", "Active"]).unwrap();
        assert_eq!(
            worker.data,
            r#"{"hostname": "w", "health": "Active", "state": "Offline"}"#
        );
        let message = emit(&[
            "event",
            "hello",
            "--job",
            "job/81233",
            "--topic",
            "lab",
            "--user",
            "ann",
        ])
        .unwrap();
        assert_eq!(
            (message.topic.as_str(), message.username.as_str()),
            ("lab.event", "ann")
        );
        assert_eq!(message.data, r#"{"message": "hello", "job": 81233}"#);
        let job = emit(&[
            "testjob",
            "9",
            "--state",
            "finished",
            "--health",
            "incomplete",
            "--user",
            "ann",
        ])
        .unwrap();
        let Body::Job(body) = job.event().body().clone() else {
            panic!()
        };
        assert_eq!(
            (body.state.as_deref(), body.health.as_deref()),
            (Some("Finished"), Some("Incomplete"))
        );
        assert_eq!(
            (body.submitter.as_deref(), body.priority, body.health_check),
            (Some("ann"), Some(50), Some(false))
        );
        assert!(job.data.starts_with(r#"{"health": "Incomplete", "state": "Finished", "job": 9, "description": "", "priority": 50, "submit_time": "2"#));
    }

    #[test]
    fn any_text_arrives_as_it_is_written() {
        for text in [
            "",
            "-x",
            "a \"b\" 'c' \\ > <b>",
            "two\nlines\ttab",
            "é – 😀 \u{1b}[0m \u{2028}",
            "{\"json\": 1}",
        ] {
            let record = emit(&["event", "--job", "1", "--", text]).unwrap();
            assert_eq!(record.event().message(), Some(text));
            assert!(record.data.is_ascii());
        }
    }

    #[test]
    fn unknown_values_are_refused_unless_asked_for() {
        let failure = emit(&["device", "d", "--state", "Broken", "--health", "Good"]).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        insta::assert_snapshot!(failure, @r#"
        lavabus: --state does not take "Broken"
          cause: LAVA knows no such state of a device
          try: Idle, Reserved, Running; or --any-value
        "#);
        let record = emit(&["device", "d", "--state", "Broken", "--health", "Good", "--any-value"]).unwrap();
        assert_eq!(record.event().state(), Some("Broken"));
    }

    #[test]
    fn what_a_line_leaves_out_is_made() {
        let record = emit(&["raw", r#" {"topic": "lab.event", "data": {"message":  "m", "job": 1}}"#]).unwrap();
        assert_eq!(
            (record.username.as_str(), record.data.as_str()),
            ("lavaserver", r#"{"message":  "m", "job": 1}"#)
        );
        assert!(record.uuid.time().is_some());
        let line = record.to_json_line();
        assert_eq!(emit(&["raw", &line]).unwrap(), record);
        assert!(emit(&["raw", "{}"]).is_err());
        assert!(emit(&["raw", r#"{"topic": "lab.event", "data": 1}"#]).is_err());
    }
}
