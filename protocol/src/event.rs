//! A typed, tolerant view of an event's data.
//!
//! Nothing is refused here. A key that is missing or of an unexpected type is absent from the view, and a kind that is
//! not known keeps its keys as they are; the data as it was sent stays in the [`Envelope`].

mod fields;
mod job_id;
mod lava;
mod own;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use serde_json::{Map, Value};

pub use self::job_id::JobId;
pub use self::lava::{Device, Job, TestEvent, Worker, health, state};
pub use self::own::{Attempt, Fault, MAX_DETAILS, MAX_MESSAGE, Stage, TestResult, error_type, outcome, shorten};

use self::fields::Fields;
use crate::envelope::Envelope;
use crate::topic::Kind;

/// One event, read.
///
/// ```
/// use lavabus_protocol::Kind;
/// use lavabus_protocol::event::{Event, JobId};
///
/// let event = Event::read(Kind::Testjob, r#"{"job": 1995, "state": "Finished", "health": "Complete"}"#);
/// assert_eq!(event.job(), JobId::parse("job/1995").as_ref());
/// assert!(event.is_finished());
/// assert_eq!(event.entity(), Some((Kind::Testjob, "1995".to_owned())));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    kind: Kind,
    body: Body,
    /// Of kinds without a type here; the others have it in their body.
    other_job: Option<JobId>,
}

/// What an event says, by its kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Of [`Kind::Device`].
    Device(Device),
    /// Of [`Kind::Testjob`].
    Job(Box<Job>),
    /// Of [`Kind::Worker`].
    Worker(Worker),
    /// Of [`Kind::Event`].
    Message(TestEvent),
    /// Of [`Kind::Attempt`].
    Attempt(Box<Attempt>),
    /// Of [`Kind::Stage`].
    Stage(Box<Stage>),
    /// Of [`Kind::Fault`].
    Fault(Box<Fault>),
    /// Of [`Kind::Result`].
    Result(Box<TestResult>),
    /// Of any other kind: its keys, but for those whose values cannot be represented.
    Other(Map<String, Value>),
}

impl Event {
    /// Reads `data`, one JSON object, as an event of this kind. What is no object reads like an empty one.
    pub fn read(kind: Kind, data: &str) -> Event {
        let fields = Fields::read(data);
        let mut other_job = None;
        let body = match kind {
            Kind::Device => Body::Device(Device::read(&fields)),
            Kind::Testjob => Body::Job(Box::new(Job::read(&fields))),
            Kind::Worker => Body::Worker(Worker::read(&fields)),
            Kind::Event => Body::Message(TestEvent::read(&fields)),
            Kind::Attempt => Body::Attempt(Box::new(Attempt::read(&fields))),
            Kind::Stage => Body::Stage(Box::new(Stage::read(&fields))),
            Kind::Fault => Body::Fault(Box::new(Fault::read(&fields))),
            Kind::Result => Body::Result(Box::new(TestResult::read(&fields))),
            Kind::Other => {
                other_job = fields.job("job").or_else(|| fields.job("job_id"));
                Body::Other(fields.to_map())
            }
        };
        Event { kind, body, other_job }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What it says.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The job that it mentions. Of a multinode job's own event, its number in the database.
    pub fn job(&self) -> Option<&JobId> {
        match &self.body {
            Body::Device(device) => device.job.as_ref(),
            Body::Job(job) => job.job.as_ref(),
            Body::Message(message) => message.job.as_ref(),
            Body::Attempt(attempt) => attempt.job.as_ref(),
            Body::Stage(stage) => stage.job.as_ref(),
            Body::Fault(fault) => fault.job.as_ref(),
            Body::Result(result) => result.job.as_ref(),
            Body::Other(_) => self.other_job.as_ref(),
            Body::Worker(_) => None,
        }
    }

    /// Whether it mentions this job, by its number or by its sub id.
    pub fn mentions_job(&self, id: &JobId) -> bool {
        self.job_ids().any(|own| own == id)
    }

    /// Every id of the job that it mentions: number and sub id.
    pub fn job_ids(&self) -> impl Iterator<Item = &JobId> {
        let sub_id = match &self.body {
            Body::Job(job) => job.sub_id.as_ref(),
            _ => None,
        };
        self.job().into_iter().chain(sub_id)
    }

    /// Name of the device that it mentions.
    pub fn device(&self) -> Option<&str> {
        match &self.body {
            Body::Device(device) => device.device.as_deref(),
            Body::Job(job) => job.device.as_deref(),
            Body::Attempt(attempt) => attempt.device.as_deref(),
            Body::Fault(fault) => fault.on_device(),
            Body::Result(result) => result.device.as_deref(),
            Body::Other(map) => map_text(map, "device"),
            Body::Worker(_) | Body::Message(_) | Body::Stage(_) => None,
        }
    }

    /// Type of the device that it mentions, or that the job asks for.
    pub fn device_type(&self) -> Option<&str> {
        match &self.body {
            Body::Device(device) => device.device_type.as_deref(),
            Body::Job(job) => job.device_type.as_deref(),
            Body::Other(map) => map_text(map, "device_type"),
            _ => None,
        }
    }

    /// Host name of the worker that it mentions.
    pub fn worker(&self) -> Option<&str> {
        match &self.body {
            Body::Device(device) => device.worker.as_deref(),
            Body::Job(job) => job.worker.as_deref(),
            Body::Worker(worker) => worker.hostname.as_deref(),
            Body::Fault(fault) => fault.subject.as_deref()?.strip_prefix("worker/"),
            Body::Other(map) => map_text(map, "worker"),
            _ => None,
        }
    }

    /// State of what it is about. Compare in any case.
    pub fn state(&self) -> Option<&str> {
        match &self.body {
            Body::Device(device) => device.state.as_deref(),
            Body::Job(job) => job.state.as_deref(),
            Body::Worker(worker) => worker.state.as_deref(),
            Body::Other(map) => map_text(map, "state"),
            _ => None,
        }
    }

    /// Health of what it is about. Compare in any case.
    pub fn health(&self) -> Option<&str> {
        match &self.body {
            Body::Device(device) => device.health.as_deref(),
            Body::Job(job) => job.health.as_deref(),
            Body::Worker(worker) => worker.health.as_deref(),
            Body::Other(map) => map_text(map, "health"),
            _ => None,
        }
    }

    /// Who submitted the job that it is about.
    pub fn submitter(&self) -> Option<&str> {
        match &self.body {
            Body::Job(job) => job.submitter.as_deref(),
            Body::Other(map) => map_text(map, "submitter"),
            _ => None,
        }
    }

    /// The message of a test shell, a fault or a stage, the note of a result, the detail of an attempt.
    pub fn message(&self) -> Option<&str> {
        match &self.body {
            Body::Message(message) => message.message.as_deref(),
            Body::Attempt(attempt) => attempt.detail.as_deref(),
            Body::Stage(stage) => stage.message.as_deref(),
            Body::Fault(fault) => fault.message.as_deref(),
            Body::Result(result) => result.note.as_deref(),
            Body::Other(map) => map_text(map, "message"),
            Body::Device(_) | Body::Job(_) | Body::Worker(_) => None,
        }
    }

    /// The service of a stage.
    pub fn service(&self) -> Option<&str> {
        match &self.body {
            Body::Stage(stage) => stage.service.as_deref(),
            Body::Other(map) => map_text(map, "service"),
            _ => None,
        }
    }

    /// The status of a stage, or of a run of tests.
    pub fn status(&self) -> Option<&str> {
        match &self.body {
            Body::Stage(stage) => stage.status.as_deref(),
            Body::Result(result) => result.status.as_deref(),
            Body::Other(map) => map_text(map, "status"),
            _ => None,
        }
    }

    /// The account of a stage.
    pub fn account(&self) -> Option<&str> {
        match &self.body {
            Body::Stage(stage) => stage.account.as_deref(),
            Body::Other(map) => map_text(map, "account"),
            _ => None,
        }
    }

    /// Whether it says that a job is finished, which is final.
    pub fn is_finished(&self) -> bool {
        self.kind == Kind::Testjob
            && self
                .state()
                .is_some_and(|state| state.eq_ignore_ascii_case(state::FINISHED))
    }

    /// The object whose state this event tells: kind and device name, job id or worker host name. `None` for events
    /// that only mention objects.
    pub fn entity(&self) -> Option<(Kind, String)> {
        let name = match &self.body {
            Body::Device(device) => device.device.clone()?,
            Body::Job(job) => job.job.as_ref()?.to_string(),
            Body::Worker(worker) => worker.hostname.clone()?,
            _ => return None,
        };
        (!name.is_empty()).then_some((self.kind, name))
    }
}

impl From<&Envelope<'_>> for Event {
    fn from(envelope: &Envelope<'_>) -> Event {
        Event::read(Kind::of(envelope.topic), envelope.data)
    }
}

fn map_text<'m>(map: &'m Map<String, Value>, key: &str) -> Option<&'m str> {
    map.get(key)?.as_str()
}

/// When the sender made the event, by its `datetime` frame.
///
/// ISO 8601 with `T` or a blank, with or without fraction. Without an offset it is UTC, as servers before 2026.05 meant
/// it. `None` for any other text: the event's own time is then unknown, which a version 1
/// [`EventId::time`](crate::EventId::time) may still tell.
///
/// ```
/// use lavabus_protocol::event::read_datetime;
///
/// let at = read_datetime("2026-11-21T05:01:05+00:00");
/// assert!(at.is_some());
/// assert_eq!(read_datetime("2026-11-21 05:01:05.000000"), at);
/// assert_eq!(read_datetime("2026-11-21T06:01:05+01:00"), at);
/// assert_eq!(read_datetime("yesterday"), None);
/// ```
pub fn read_datetime(text: &str) -> Option<Timestamp> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp);
    }
    let naive: DateTime = text.parse().ok()?;
    Offset::UTC.to_timestamp(naive).ok()
}

/// When the sender made this event: [`read_datetime`] of its frame.
pub fn sent(envelope: &Envelope<'_>) -> Option<Timestamp> {
    read_datetime(envelope.datetime)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(text: &str) -> JobId {
        JobId::parse(text).unwrap()
    }

    #[test]
    fn a_device_of_2018() {
        let event = Event::read(
            Kind::Device,
            r#"{"status": "Running", "health_status": "Pass", "pipeline": true, "device": "bbb-01",
                "device_type": "beaglebone-black", "job": "http://lava.example.org/scheduler/job/1995"}"#,
        );
        assert_eq!(event.state(), Some("Running"));
        assert_eq!(event.health(), Some("Pass"));
        assert_eq!(event.job(), Some(&id("1995")));
        assert_eq!(event.entity(), Some((Kind::Device, "bbb-01".to_owned())));
        let Body::Device(device) = event.body() else {
            panic!("not a device")
        };
        assert_eq!(device.pipeline, Some(true));
    }

    #[test]
    fn todays_keys_win_over_those_of_2018() {
        let event = Event::read(
            Kind::Device,
            r#"{"status": "Old", "state": "Idle", "health_status": "x"}"#,
        );
        assert_eq!(event.state(), Some("Idle"));
        assert_eq!(event.health(), Some("x"));
    }

    #[test]
    fn a_multinode_job_is_found_by_number_and_by_sub_id() {
        let event = Event::read(Kind::Testjob, r#"{"job": 8, "sub_id": "7.1", "state": "Running"}"#);
        assert_eq!(event.job(), Some(&id("8")));
        assert_eq!(event.entity(), Some((Kind::Testjob, "8".to_owned())));
        assert!(event.mentions_job(&id("8")));
        assert!(event.mentions_job(&id("7.1")));
        assert!(!event.mentions_job(&id("7")));
        let device = Event::read(Kind::Device, r#"{"device": "d", "job": "7.1"}"#);
        assert!(device.mentions_job(&id("7.1")));
    }

    #[test]
    fn a_value_of_an_unexpected_type_loses_nothing_else() {
        let event = Event::read(
            Kind::Testjob,
            r#"{"job": [1], "sub_id": 7.0, "state": {"x": 1}, "health": "Complete", "priority": "high",
                "health_check": 1, "device": null, "new_key": [[[]]]}"#,
        );
        let expected = Job {
            sub_id: Some(id("7.0")),
            health: Some("Complete".to_owned()),
            ..Job::default()
        };
        assert_eq!(event.body(), &Body::Job(Box::new(expected)));
        assert_eq!(event.entity(), None);
    }

    #[test]
    fn a_job_number_is_never_rounded() {
        let event = Event::read(
            Kind::Event,
            r#"{"message": "m", "job": 123456789012345678901234567890}"#,
        );
        assert_eq!(event.job(), Some(&id("123456789012345678901234567890")));
        assert_eq!(Event::read(Kind::Event, r#"{"job": true}"#).job(), None);
        assert_eq!(Event::read(Kind::Event, r#"{"job": ""}"#).job(), None);
    }

    #[test]
    fn finished_is_said_by_a_job_only_in_any_case() {
        assert!(Event::read(Kind::Testjob, r#"{"state": "finished"}"#).is_finished());
        assert!(!Event::read(Kind::Testjob, r#"{"state": "Running"}"#).is_finished());
        assert!(!Event::read(Kind::Device, r#"{"state": "Finished"}"#).is_finished());
        assert!(!Event::read(Kind::Other, r#"{"state": "Finished"}"#).is_finished());
    }

    #[test]
    fn our_kinds_are_read_and_others_keep_their_keys() {
        let event = Event::read(Kind::Attempt, r#"{"device": "qemu-01", "job_id": 12, "exit_code": 1}"#);
        assert_eq!(event.device(), Some("qemu-01"));
        assert!(event.mentions_job(&id("12")));
        assert_eq!(event.entity(), None);
        let Body::Attempt(attempt) = event.body() else {
            panic!("not an attempt")
        };
        assert_eq!(attempt.exit_code, Some(1));
        let stage = Event::read(
            Kind::Stage,
            r#"{"service": "advisor", "status": "received", "status_msg": "m"}"#,
        );
        assert_eq!(stage.service(), Some("advisor"));
        assert_eq!((stage.status(), stage.message()), (Some("received"), Some("m")));
        let fault = Event::read(Kind::Fault, r#"{"subject": "device/qemu-01", "message": "m"}"#);
        assert_eq!((fault.device(), fault.entity()), (Some("qemu-01"), None));
        let other = Event::read(Kind::Other, r#"{"power": "on", "job": 12}"#);
        let Body::Other(map) = other.body() else {
            panic!("not kept")
        };
        assert_eq!(map["power"], "on");
        assert!(other.mentions_job(&id("12")));
    }

    #[test]
    fn datetimes() {
        let at = |text: &str| read_datetime(text).map(|at| at.to_string());
        let same = Some("2026-11-21T05:01:05.217961Z".to_owned());
        for text in [
            "2026-11-21T05:01:05.217961+00:00",
            "2026-11-21T05:01:05.217961Z",
            "2026-11-21T05:01:05.217961",
            "2026-11-21 05:01:05.217961",
            "2026-11-21T07:01:05.217961+02:00",
            "2026-11-21T00:01:05.217961-05:00",
        ] {
            assert_eq!(at(text), same, "{text}");
        }
        assert_eq!(at("2026-11-21T05:01:05").as_deref(), Some("2026-11-21T05:01:05Z"));
        for text in [
            "",
            "now",
            "2026-11-21T25:01:05",
            "2026-02-30T00:00:00",
            "1795237265",
            "2026-11-21T05:01:05+99:00",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_data_is_read(data in "\\PC{0,80}|\\{(\"(job|state|device|sub_id)\": [-0-9a-z\"\\[\\]{}.]{0,9},? ?){0,4}\\}") {
            for kind in Kind::ALL {
                let event = Event::read(kind, &data);
                let _ = (event.entity(), event.is_finished(), event.job_ids().count());
            }
        }

        #[test]
        fn any_datetime_is_read_or_unknown(text in "\\PC{0,40}|[-0-9T:.+Z ]{0,32}") {
            let _ = read_datetime(&text);
        }

        #[test]
        fn every_written_form_of_a_job_is_the_same_job(number: u32) {
            let event = |job: String| Event::read(Kind::Event, &format!("{{\"job\": {job}}}"));
            let id = id(&number.to_string());
            for job in [
                number.to_string(),
                format!("\"{number}\""),
                format!("\"https://lava/scheduler/job/{number}\""),
                format!("\"https://lava/scheduler/job/{number}/\""),
            ] {
                prop_assert_eq!(event(job).job().cloned(), Some(id.clone()));
            }
        }
    }
}
