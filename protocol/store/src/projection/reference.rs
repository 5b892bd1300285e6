//! Which ids an event mentions, so that any of them finds it.

use std::collections::BTreeSet;

use lavabus_protocol::event::Body;
use lavabus_protocol::topic;

use super::Told;
use super::told::NAME;

/// What kind of thing an id names. The numbers are in the database: they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum RefKind {
    /// The last part of the topic.
    Kind = 1,
    /// A job: its number and its sub id.
    Job = 2,
    /// A device's name.
    Device = 3,
    /// The name of a device type.
    DeviceType = 4,
    /// A worker's host name.
    Worker = 5,
    /// Who submitted a job.
    Submitter = 6,
    /// The request of a stage.
    Request = 7,
    /// The account of a stage.
    Account = 8,
    /// The service of a stage.
    Service = 9,
    /// A run of tests.
    Run = 10,
    /// A test case.
    Testcase = 11,
    /// What a fault is about.
    Subject = 12,
    /// The thing that a stage is about.
    Inventory = 13,
    /// Another name of that thing.
    System = 14,
}

impl RefKind {
    /// All of them.
    pub const ALL: [RefKind; 14] = [
        RefKind::Kind,
        RefKind::Job,
        RefKind::Device,
        RefKind::DeviceType,
        RefKind::Worker,
        RefKind::Submitter,
        RefKind::Request,
        RefKind::Account,
        RefKind::Service,
        RefKind::Run,
        RefKind::Testcase,
        RefKind::Subject,
        RefKind::Inventory,
        RefKind::System,
    ];

    /// As people write it: `job`, `device-type`.
    pub fn as_str(self) -> &'static str {
        match self {
            RefKind::Kind => "kind",
            RefKind::Job => "job",
            RefKind::Device => "device",
            RefKind::DeviceType => "device-type",
            RefKind::Worker => "worker",
            RefKind::Submitter => "submitter",
            RefKind::Request => "request",
            RefKind::Account => "account",
            RefKind::Service => "service",
            RefKind::Run => "run",
            RefKind::Testcase => "testcase",
            RefKind::Subject => "subject",
            RefKind::Inventory => "inventory",
            RefKind::System => "system",
        }
    }
}

/// Every id that the event mentions, each once.
pub fn references<'t>(told: &'t Told<'_>) -> BTreeSet<(RefKind, &'t str)> {
    let event = &told.event;
    let mut found = BTreeSet::from([(RefKind::Kind, topic::last_part(told.row.topic))]);
    let mut add = |kind, id: Option<&'t str>| {
        if let Some(id) = id.filter(|id| !id.is_empty() && id.len() <= NAME) {
            found.insert((kind, id));
        }
    };
    for id in event.job_ids() {
        add(RefKind::Job, Some(id.as_str()));
    }
    add(RefKind::Device, event.device());
    add(RefKind::DeviceType, event.device_type());
    add(RefKind::Worker, event.worker());
    add(RefKind::Submitter, event.submitter());
    add(RefKind::Service, event.service());
    add(RefKind::Account, event.account());
    match event.body() {
        Body::Stage(stage) => {
            add(RefKind::Request, stage.request.as_deref());
            add(RefKind::Inventory, stage.inventory.as_deref());
            add(RefKind::System, stage.system.as_deref());
        }
        Body::Fault(fault) => add(RefKind::Subject, fault.subject.as_deref()),
        Body::Result(result) => {
            add(RefKind::Run, result.run.as_deref());
            add(RefKind::Testcase, result.testcase.as_deref());
        }
        _ => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use lavabus_protocol::EventId;

    use super::*;
    use crate::reader::EventRow;

    fn mentioned(kind: &str, data: &str) -> String {
        let topic = format!("org.example.lab.{kind}");
        let told = Told::read(EventRow {
            seq: 1,
            id: EventId([0; 16]),
            received_us: 0,
            topic: &topic,
            sent: "",
            user: "u",
            data,
            lab: "",
        });
        let all = references(&told).into_iter();
        all.map(|(kind, id)| format!("{}={id}", kind.as_str()))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn every_id_is_found_once() {
        for (kind, data, expected) in [
            (
                "testjob",
                r#"{"job": 8, "sub_id": "7.1", "device": "d", "device_type": "t", "worker": "w", "submitter": "ann"}"#,
                "kind=testjob job=7.1 job=8 device=d device-type=t worker=w submitter=ann",
            ),
            (
                "device",
                r#"{"device": "d", "worker": null, "job": "http://x/scheduler/job/8"}"#,
                "kind=device job=8 device=d",
            ),
            ("worker", r#"{"hostname": "w"}"#, "kind=worker worker=w"),
            ("event", r#"{"message": "m", "job": 8}"#, "kind=event job=8"),
            (
                "attempt",
                r#"{"device": "d", "job_id": 8, "exit_code": 0}"#,
                "kind=attempt job=8 device=d",
            ),
            (
                "stage",
                r#"{"service": "s", "request_id": "q", "account": "a", "inventory_id": "i", "system_id": "y", "status": "x", "job": 8}"#,
                "kind=stage job=8 request=q account=a service=s inventory=i system=y",
            ),
            (
                "fault",
                r#"{"subject": "device/d", "message": "m"}"#,
                "kind=fault device=d subject=device/d",
            ),
            (
                "result",
                r#"{"testcase": "c", "run": "r", "outcome": "PASSED"}"#,
                "kind=result run=r testcase=c",
            ),
            ("power", r#"{"job": 8, "device": ""}"#, "kind=power job=8"),
        ] {
            assert_eq!(mentioned(kind, data), expected, "{kind}");
        }
    }

    #[test]
    fn numbers_never_change() {
        let numbers: Vec<u8> = RefKind::ALL.iter().map(|kind| *kind as u8).collect();
        assert_eq!(numbers, (1..=14).collect::<Vec<u8>>());
    }
}
