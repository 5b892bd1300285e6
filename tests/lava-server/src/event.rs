//! Events: the five frames as `lava_scheduler_app/signals.py` makes them.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;
use uuid::Uuid;

use crate::job::{Device, Job, Worker};
use crate::time;

/// The node part of every version 1 UUID of this server.
const NODE: [u8; 6] = [0x02, 0xfc, 0, 0, 0, 1];

/// Whom an event concerns, which decides who may see it.
#[derive(Debug, Clone)]
pub(crate) enum Subject {
    Device(Device),
    Job { job: Box<Job>, worker: Option<String> },
    Worker,
}

#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) frames: [String; 5],
    pub(crate) subject: Subject,
}

#[derive(Serialize)]
struct DeviceData<'a> {
    health: &'a str,
    state: &'a str,
    device: &'a str,
    device_type: &'a str,
    /// The one key that is null rather than absent.
    worker: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobId<'a>>,
}

/// A number, or the text of a sub id.
#[derive(Serialize)]
#[serde(untagged)]
enum JobId<'a> {
    Number(u64),
    Text(&'a str),
}

#[derive(Serialize)]
struct JobData<'a> {
    health: &'a str,
    state: &'a str,
    job: u64,
    description: &'a str,
    priority: u8,
    submit_time: String,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<String>,
}

#[derive(Serialize)]
struct WorkerData<'a> {
    hostname: &'a str,
    health: &'a str,
    state: &'a str,
}

pub(crate) fn of_job(prefix: &str, job: &Job, worker: Option<String>) -> Event {
    let data = JobData {
        health: &job.health,
        state: &job.state,
        job: number(&job.id),
        description: &job.description,
        priority: job.priority,
        submit_time: time::iso(job.submit_time),
        submitter: &job.submitter,
        health_check: job.health_check,
        sub_id: job.sub_id.as_deref(),
        device: job.device.as_deref(),
        worker: worker.as_deref(),
        device_type: job.device_type.as_deref(),
        start_time: job.start_time.map(time::iso),
        end_time: job.end_time.map(time::iso),
    };
    Event {
        frames: frames(format!("{prefix}.testjob"), &job.submitter, &data),
        subject: Subject::Job {
            job: Box::new(job.clone()),
            worker,
        },
    }
}

pub(crate) fn of_device(prefix: &str, device: &Device, current: Option<&Job>) -> Event {
    let data = DeviceData {
        health: &device.health,
        state: &device.state,
        device: &device.hostname,
        device_type: &device.device_type,
        worker: device.worker.as_deref(),
        job: current.map(|job| match &job.sub_id {
            Some(sub_id) => JobId::Text(sub_id),
            None => JobId::Number(number(&job.id)),
        }),
    };
    Event {
        frames: frames(format!("{prefix}.device"), "lavaserver", &data),
        subject: Subject::Device(device.clone()),
    }
}

pub(crate) fn of_worker(prefix: &str, worker: &Worker) -> Event {
    let data = WorkerData {
        hostname: &worker.hostname,
        health: &worker.health,
        state: &worker.state,
    };
    Event {
        frames: frames(format!("{prefix}.worker"), "lavaserver", &data),
        subject: Subject::Worker,
    }
}

fn number(id: &str) -> u64 {
    id.parse().expect("a kept job's id is a number")
}

fn frames(topic: String, username: &str, data: &impl Serialize) -> [String; 5] {
    let uuid = Uuid::now_v1(&NODE).to_string();
    [
        topic,
        uuid,
        time::iso(time::now()),
        username.to_owned(),
        python_json(data),
    ]
}

/// JSON as Python's `json.dumps` writes it: a space after `:` and `,`, and nothing but ASCII.
pub(crate) fn python_json(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Python);
    value.serialize(&mut serializer).expect("plain data has a JSON form");
    String::from_utf8(bytes).expect("only ASCII was written")
}

struct Python;

impl Formatter for Python {
    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for character in fragment.chars() {
            // Python escapes DEL too.
            if character.is_ascii() && character != '\u{7f}' {
                writer.write_all(&[character as u8])?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn json_is_written_as_python_does() {
        let value = serde_json::json!(["smoke \u{2013} \"quoted\" <b>", 1, {"a": "\u{1f600}\t"}]);
        assert_eq!(
            python_json(&value),
            r#"["smoke \u2013 \"quoted\" <b>", 1, {"a": "\ud83d\ude00\t"}]"#
        );
    }

    #[test]
    fn keys_come_as_on_the_running_original() {
        let job = Job {
            id: "1".into(),
            device: Some("qemu-03".into()),
            submit_time: "2026-11-21T05:01:05.869831Z".parse().unwrap(),
            ..Job::default()
        };
        let event = of_job("org.example.lab", &job, Some("worker-01".into()));
        assert_eq!(event.frames[0], "org.example.lab.testjob");
        assert_eq!(Uuid::parse_str(&event.frames[1]).unwrap().get_version_num(), 1);
        assert_eq!(event.frames[3], "admin");
        assert_eq!(
            event.frames[4],
            "{\"health\": \"Unknown\", \"state\": \"Submitted\", \"job\": 1, \"description\": \"smoke\", \"priority\": 50, \
             \"submit_time\": \"2026-11-21T05:01:05.869831+00:00\", \"submitter\": \"admin\", \"health_check\": false, \
             \"device\": \"qemu-03\", \"worker\": \"worker-01\", \"device_type\": \"qemu\"}"
        );
        let device = Device {
            worker: None,
            ..Device::default()
        };
        let part = Job {
            sub_id: Some("1.0".into()),
            ..job
        };
        assert_eq!(
            of_device("x", &device, Some(&part)).frames[4],
            r#"{"health": "Good", "state": "Idle", "device": "qemu-01", "device_type": "qemu", "worker": null, "job": "1.0"}"#
        );
    }
}
