//! Answers as JSON, for whoever hands them on. Times are RFC 3339 in UTC, durations seconds; what is not known is null.

use jiff::Timestamp;
use lavabus_protocol::event::Body;
use lavabus_protocol::{Epoch, Event};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::entities::{DeviceView, JobView, WorkerView, is_busy};
use super::timeline::{Timeline, Verdict};
use crate::projection::entity::Entity;
use crate::projection::fault::Fault;
use crate::reader::Status;
use crate::rejected::RejectedMessage;

fn time(us: i64) -> String {
    match Timestamp::from_microsecond(us) {
        Ok(at) => at.to_string(),
        // Beyond the years that can be written.
        Err(_) => format!("@{us}us"),
    }
}

fn times(us: Option<i64>) -> Option<String> {
    us.map(time)
}

fn seconds(us: Option<i64>) -> Option<f64> {
    us.map(|us| us as f64 / 1e6)
}

fn lab(lab: &str) -> Option<&str> {
    Some(lab).filter(|lab| !lab.is_empty())
}

impl Fault {
    /// With what is for administrators, or without.
    pub fn to_json(&self, details: bool) -> Value {
        let mut fault = json!({
            "subject": self.subject,
            "message": self.message,
            "origin": self.origin,
            "job": self.job,
            "first": time(self.first_us),
            "last": time(self.last_us),
            "count": self.count,
            "cleared": times(self.cleared_us),
        });
        if details {
            fault["details"] = json!(self.details);
        }
        fault
    }
}

impl Entity {
    /// What all kinds have, under the name of this kind.
    fn to_members(&self, name: &str, event: &Event) -> Map<String, Value> {
        let is_told = self.is_told();
        let members = json!({
            name: self.id,
            "lab": lab(&self.lab),
            "state": event.state(),
            "health": event.health(),
            "since": times(is_told.then_some(self.since_us)),
            "updated": times(is_told.then_some(self.latest.received_us)),
        });
        match members {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }
}

fn with(mut members: Map<String, Value>, more: Value) -> Value {
    if let Value::Object(more) = more {
        members.extend(more);
    }
    Value::Object(members)
}

impl DeviceView {
    /// Everything but its fault.
    pub fn to_json(&self) -> Value {
        let event = self.entity.told();
        let named = event.job().map(ToString::to_string);
        let (job, last_job) = if is_busy(&event) { (named, None) } else { (None, named) };
        let more = json!({
            "job": job,
            "last_job": last_job,
            "device_type": event.device_type(),
            "worker": event.worker(),
            "streak": self.streak.map(|streak| streak.to_string()),
            "success_rate": self.rate.share(),
            "last_failure": self.cause,
        });
        with(self.entity.to_members("device", &event), more)
    }
}

impl WorkerView {
    /// Everything but its fault.
    pub fn to_json(&self) -> Value {
        let event = self.entity.told();
        with(
            self.entity.to_members("worker", &event),
            json!({ "devices": self.devices }),
        )
    }
}

impl JobView {
    /// Everything but its fault.
    pub fn to_json(&self) -> Value {
        let (job, event) = (&self.entity, self.entity.told());
        let (description, priority, health_check) = match event.body() {
            Body::Job(told) => (told.description.clone(), told.priority, told.health_check),
            _ => (None, None, None),
        };
        let more = json!({
            "sub_id": job.sub_id,
            "description": description,
            "submitter": event.submitter(),
            "priority": priority,
            "health_check": health_check,
            "device": event.device(),
            "device_type": event.device_type(),
            "worker": event.worker(),
            "submitted": times(job.submitted_us),
            "started": times(job.started_us),
            "ended": times(job.ended_us),
            "finished": job.finished,
            "cause": self.cause(),
        });
        with(job.to_members("job", &event), more)
    }
}

impl Verdict {
    /// One word for programs: `success`, `failed`, `running`, a job's health in lower case …
    pub fn outcome(&self) -> String {
        match self {
            Verdict::Success { .. } => "success".to_owned(),
            Verdict::Failed { .. } => "failed".to_owned(),
            Verdict::Running { .. } => "running".to_owned(),
            Verdict::Requests { .. } => "requests".to_owned(),
            Verdict::Finished { health, .. } => health.as_deref().unwrap_or("finished").to_lowercase(),
            Verdict::State { .. } => "state".to_owned(),
            Verdict::Results { worst } => worst.to_lowercase(),
            Verdict::Mentioned => "mentioned".to_owned(),
        }
    }
}

impl Timeline {
    /// One line; its events are written as everywhere, with their time in front. `verdict` is a sentence for people, where
    /// there is one.
    pub fn to_json(&self, epoch: Epoch, verdict: Option<&str>) -> String {
        let states = self.states.iter().map(|span| {
            json!({
                "state": span.state,
                "health": span.health,
                "from": time(span.from_us),
                "to": times(span.to_us),
                "duration": seconds(span.to_us.map(|to_us| to_us - span.from_us)),
            })
        });
        let services = self.services.iter().map(|passage| {
            json!({
                "request": passage.request,
                "service": passage.service,
                "source": lab(&passage.source),
                "status": passage.status,
                "received": times(passage.received_us),
                "ended": times(passage.ended_us),
                "duration": seconds(passage.duration_us()),
                "gap": seconds(passage.gap_us),
                "skew": passage.is_skewed(),
                "message": passage.message,
            })
        });
        let results = self.results.iter();
        let results: Map<String, Value> = results
            .map(|(outcome, count)| (outcome.clone(), json!(count)))
            .collect();
        let about = &self.about;
        let head = [
            ("subject", Some(json!(self.subject.to_string()))),
            ("outcome", Some(json!(self.verdict.outcome()))),
            ("verdict", verdict.map(|verdict| json!(verdict))),
            ("job", Some(json!(about.job))),
            ("device", Some(json!(about.device))),
            ("device_type", Some(json!(about.device_type))),
            ("worker", Some(json!(about.worker))),
            ("submitter", Some(json!(about.submitter))),
            ("description", Some(json!(about.description))),
            ("account", Some(json!(about.account))),
            ("inventory", Some(json!(about.inventory))),
            ("system", Some(json!(about.system))),
            ("time_in_services", Some(json!(seconds(self.service_time_us)))),
            ("wall_time", Some(json!(seconds(self.wall_time_us)))),
            ("jobs", Some(json!(self.jobs))),
            ("results", Some(Value::Object(results))),
            ("states", Some(states.collect())),
            ("services", Some(services.collect())),
        ];
        let mut line = String::from("{");
        for (name, value) in head {
            if let Some(value) = value {
                line += &format!("{}:{value},", json!(name));
            }
        }
        line += "\"events\":[";
        for (index, entry) in self.events.iter().enumerate() {
            let record = entry.event.row().to_record(epoch).to_json_line();
            let members = record.strip_prefix('{').unwrap_or(&record);
            let comma = if index == 0 { "" } else { "," };
            line += &format!("{comma}{{\"time\":{},{members}", json!(time(entry.at_us)));
        }
        line += "]}";
        line
    }
}

#[derive(Serialize)]
struct Rejected<'a> {
    number: u64,
    time: String,
    reason: &'a str,
    peer: &'a str,
    size: u64,
    frames: Vec<Frame<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Frame<'a> {
    Text(&'a str),
    Hex(String),
}

impl Frame<'_> {
    fn of(bytes: &[u8]) -> Frame<'_> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Frame::Text(text),
            Err(_) => Frame::Hex(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }
}

impl RejectedMessage {
    /// One line. A frame is `{"text":"…"}`, or `{"hex":"…"}` where it is no text.
    pub fn to_json(&self) -> String {
        let rejected = Rejected {
            number: self.number,
            time: time(self.received_us),
            reason: &self.reason,
            peer: &self.peer,
            size: self.size,
            frames: self.frames.iter().map(|frame| Frame::of(frame)).collect(),
        };
        serde_json::to_string(&rejected).expect("strings and numbers are always written")
    }
}

impl Status {
    /// The figures of the database; those of refused messages, gaps and projections for administrators.
    pub fn to_json(&self, administrator: bool) -> Value {
        let numbered = |seq: u64, received_us| json!({"seq": seq, "received": times(received_us)});
        let mut status = json!({
            "epoch": self.epoch.to_string(),
            "head": self.head,
            "oldest": self.oldest,
            "events": {
                "kept": self.events,
                "oldest": self.oldest.map(|seq| numbered(seq, self.oldest_received_us)),
                "newest": (self.head > 0).then(|| numbered(self.head, self.newest_received_us)),
            },
            "size": {
                "used_bytes": self.used_bytes,
                "file_bytes": self.file_bytes,
                "log_bytes": self.log_bytes,
            },
        });
        if administrator {
            status["created"] = json!(self.created);
            status["rejected"] = json!(self.rejected);
            status["gaps"] = json!(self.gaps);
            status["entities"] = json!(self.entities);
            status["projection"] = json!({
                "read_to": self.projected,
                "behind": self.head.saturating_sub(self.projected.min(self.history_projected)),
            });
        }
        status
    }
}
