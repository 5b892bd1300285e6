//! What an event or an object is about, as far as the right to see it goes.

use lavabus_protocol::event::{Body, Event, JobId};
use lavabus_protocol::{Envelope, Kind};

/// What an event or an object is about: who may see this may see the event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A job, by its database id or its sub id.
    Job(JobId),
    /// A device, by its name.
    Device(String),
    /// A worker, by its host name.
    Worker(String),
    /// Nothing that an authority could be asked for.
    Unbound,
}

impl Subject {
    /// Of an event with this topic and data.
    ///
    /// What comes out of a job is about the job, though it may name a device too: whoever may not see the job shall not
    /// read of it as a fault of its device.
    pub fn of(topic: &str, data: &str) -> Subject {
        Subject::of_event(&Event::read(Kind::of(topic), data))
    }

    /// Of an event that is read already.
    pub fn of_event(event: &Event) -> Subject {
        let job = event.job().cloned().map(Subject::Job);
        match event.body() {
            Body::Device(device) => named(device.device.as_deref(), Subject::Device),
            Body::Worker(worker) => named(worker.hostname.as_deref(), Subject::Worker),
            Body::Job(_) | Body::Message(_) | Body::Stage(_) => job.unwrap_or(Subject::Unbound),
            Body::Attempt(_) | Body::Result(_) => job.unwrap_or_else(|| named(event.device(), Subject::Device)),
            Body::Fault(fault) => Subject::of_fault(fault.subject.as_deref(), job),
            Body::Other(_) => Subject::Unbound,
        }
    }

    /// Of a fault's own `subject`, such as `device/qemu-01`, and of the job that it names beside it.
    pub(crate) fn of_fault(subject: Option<&str>, job: Option<Subject>) -> Subject {
        let (kind, name) = subject.and_then(|subject| subject.split_once('/')).unwrap_or_default();
        let own = match kind {
            "job" => JobId::parse(name).map_or(Subject::Unbound, Subject::Job),
            "device" => named(Some(name), Subject::Device),
            "worker" => named(Some(name), Subject::Worker),
            _ => Subject::Unbound,
        };
        match (own, job) {
            // Of two jobs neither can be trusted to be the less private one.
            (Subject::Job(own), Some(Subject::Job(job))) if own != job => Subject::Unbound,
            // Its name says nothing of who may see it, so the job says nothing either.
            (Subject::Unbound, _) => Subject::Unbound,
            (_, Some(job)) => job,
            (own, None) => own,
        }
    }
}

impl From<&Envelope<'_>> for Subject {
    fn from(envelope: &Envelope<'_>) -> Subject {
        Subject::of(envelope.topic, envelope.data)
    }
}

fn named(name: Option<&str>, subject: impl FnOnce(String) -> Subject) -> Subject {
    match name.filter(|name| !name.is_empty()) {
        Some(name) => subject(name.to_owned()),
        None => Subject::Unbound,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn job(id: &str) -> Subject {
        Subject::Job(JobId::parse(id).unwrap())
    }

    #[test]
    fn every_kind_has_its_subject() {
        let device = || Subject::Device("d".to_owned());
        let worker = || Subject::Worker("w".to_owned());
        for (kind, data, expected) in [
            ("device", r#"{"device": "d", "job": 1}"#, device()),
            ("device", r#"{"job": 1}"#, Subject::Unbound),
            ("device", r#"{"device": ""}"#, Subject::Unbound),
            (
                "testjob",
                r#"{"job": 1, "device": "d", "worker": "w", "sub_id": "1.0"}"#,
                job("1"),
            ),
            ("testjob", r#"{"device": "d"}"#, Subject::Unbound),
            ("worker", r#"{"hostname": "w"}"#, worker()),
            (
                "event",
                r#"{"message": "m", "job": "http://l/scheduler/job/1"}"#,
                job("1"),
            ),
            ("event", r#"{"message": "m"}"#, Subject::Unbound),
            ("attempt", r#"{"device": "d", "job_id": "4000.1"}"#, job("4000.1")),
            ("attempt", r#"{"device": "d"}"#, device()),
            ("attempt", "{}", Subject::Unbound),
            ("result", r#"{"job": 1, "device": "d"}"#, job("1")),
            ("result", r#"{"device": "d"}"#, device()),
            ("stage", r#"{"service": "s", "job": 1}"#, job("1")),
            ("stage", r#"{"service": "s"}"#, Subject::Unbound),
            ("fault", r#"{"subject": "device/d"}"#, device()),
            ("fault", r#"{"subject": "worker/w"}"#, worker()),
            ("fault", r#"{"subject": "job/1"}"#, job("1")),
            ("fault", r#"{"subject": "device/d", "job": 1}"#, job("1")),
            ("fault", r#"{"subject": "job/1", "job": 1}"#, job("1")),
            ("fault", r#"{"subject": "job/1", "job": 2}"#, Subject::Unbound),
            ("fault", r#"{"subject": "advisor/x", "job": 1}"#, Subject::Unbound),
            ("fault", r#"{"subject": "device/", "device": "d"}"#, Subject::Unbound),
            ("fault", r#"{"device": "d", "job": 1}"#, Subject::Unbound),
            ("power", r#"{"job": 1, "device": "d"}"#, Subject::Unbound),
        ] {
            assert_eq!(Subject::of(&format!("org.lab.{kind}"), data), expected, "{kind} {data}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_subject(topic in "(org\\.)?(fault|testjob|attempt|\\PC{0,8})", data in "\\PC{0,60}") {
            let _ = Subject::of(&topic, &data);
        }

        /// Nothing that names one private job is about anything else.
        #[test]
        fn what_names_a_job_is_never_about_its_device(
            kind in "testjob|event|attempt|result|stage|fault",
            number in 1_u32..1000,
            subject in "(device|worker|job|x)/[a-z0-9]{1,4}",
        ) {
            let data = format!(r#"{{"job": {number}, "device": "d", "subject": "{subject}"}}"#);
            let about = Subject::of(&format!("x.{kind}"), &data);
            prop_assert!(about == job(&number.to_string()) || about == Subject::Unbound);
        }
    }
}
