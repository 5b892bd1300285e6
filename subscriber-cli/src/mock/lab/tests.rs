#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use lavabus_client::datetime_text;
use lavabus_protocol::Kind;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// What an observer of the stream knows, and what must never happen.
#[derive(Default)]
struct Observer {
    last: Option<(Timestamp, [u8; 16])>,
    workers: BTreeMap<String, bool>,
    /// State, and the job that it works for once that is known.
    devices: BTreeMap<String, (String, Option<String>)>,
    jobs: BTreeMap<u64, SeenJob>,
    last_job: u64,
}

struct SeenJob {
    state: String,
    submit_time: String,
    start_time: Option<String>,
    shown_as: String,
    device: Option<String>,
}

fn text(data: &Value, key: &str) -> Option<String> {
    data.get(key)?.as_str().map(str::to_owned)
}

impl Observer {
    fn see(&mut self, event: &LabEvent) {
        let record = &event.record;
        let key = record.uuid.key();
        assert_eq!(record.uuid.0[6] >> 4, 1, "version");
        if let Some((at, last)) = self.last.replace((event.at, key)) {
            assert!(event.at >= at && key > last);
        }
        assert_eq!(datetime_text(event.at), record.datetime);
        let data: Value = serde_json::from_str(&record.data).unwrap();
        match record.topic.strip_prefix("lab.x.").unwrap() {
            "worker" => self.see_worker(&data),
            "device" => self.see_device(&data),
            "testjob" => {
                assert_eq!(text(&data, "submitter").unwrap(), record.username);
                self.see_job(&data);
            }
            "event" => {
                let job = &self.jobs[&data["job"].as_u64().unwrap()];
                assert_eq!(job.state, "Running", "a message of a job that does not run");
            }
            "attempt" => {
                let job = &self.jobs[&data["job_id"].as_u64().unwrap()];
                assert!(["Running", "Canceling"].contains(&job.state.as_str()));
                assert_eq!(
                    (text(&data, "device"), text(&data, "started")),
                    (job.device.clone(), job.start_time.clone())
                );
                assert_eq!(data["exit_code"] == 0, data.get("error_type").is_none());
                let (started, finished) = (text(&data, "started").unwrap(), text(&data, "finished").unwrap());
                assert!(started.parse::<Timestamp>().unwrap() <= finished.parse().unwrap());
            }
            "fault" | "result" => {
                let job = &self.jobs[&data["job"].as_u64().unwrap()];
                assert!(["Running", "Canceling"].contains(&job.state.as_str()));
                assert_eq!(text(&data, "device"), job.device);
            }
            "stage" => {
                let state = &self.jobs[&data["job"].as_u64().unwrap()].state;
                let is_last = data["service"] == "archive" && data["status"] == "success";
                assert_eq!(state, if is_last { "Finished" } else { "Running" });
                assert_eq!(data["status"] == "error", data.get("message").is_some());
            }
            other => panic!("{other}"),
        }
        crate::schemas::check(record);
    }

    fn see_worker(&mut self, data: &Value) {
        let online = data["state"] == "Online";
        let before = self.workers.insert(text(data, "hostname").unwrap(), online);
        assert_ne!(before, Some(online), "a worker that changes to what it is");
    }

    fn see_device(&mut self, data: &Value) {
        let (device, state) = (text(data, "device").unwrap(), text(data, "state").unwrap());
        let job = data
            .get("job")
            .map(|job| job.as_str().map_or_else(|| job.to_string(), str::to_owned));
        let Some((before, job_before)) = self.devices.insert(device, (state.clone(), job.clone())) else {
            assert_eq!((state.as_str(), job), ("Idle", None));
            return;
        };
        match (before.as_str(), state.as_str()) {
            ("Idle", "Idle") | ("Reserved", "Reserved") => assert_eq!(job, None),
            ("Idle", "Reserved") => {
                assert_eq!(job, None);
                assert!(data["worker"].is_string());
                let online = self.workers[data["worker"].as_str().unwrap()];
                assert!(online, "a device of an absent worker is given a job");
                assert!(!["Bad", "Maintenance", "Retired"].contains(&data["health"].as_str().unwrap()));
            }
            ("Reserved", "Running" | "Idle") => assert!(job.is_some()),
            ("Running", "Running" | "Idle") => assert_eq!(job, job_before, "two jobs on one device"),
            other => panic!("{other:?}"),
        }
    }

    fn see_job(&mut self, data: &Value) {
        let id = data["job"].as_u64().unwrap();
        let state = text(data, "state").unwrap();
        let sub_id = text(data, "sub_id");
        let device = text(data, "device");
        let (start_time, end_time) = (text(data, "start_time"), text(data, "end_time"));
        let health = data["health"].as_str().unwrap();
        assert_eq!(state == "Finished", health != "Unknown");
        assert_eq!(state == "Finished", end_time.is_some());

        let Some(before) = self.jobs.get(&id) else {
            assert_eq!((state.as_str(), id), ("Submitted", self.last_job + 1));
            self.last_job = id;
            let shown_as = sub_id.unwrap_or_else(|| id.to_string());
            let submit_time = text(data, "submit_time").unwrap();
            self.jobs.insert(
                id,
                SeenJob {
                    state,
                    submit_time,
                    start_time,
                    shown_as,
                    device,
                },
            );
            return;
        };
        match (before.state.as_str(), state.as_str()) {
            ("Submitted", "Submitted") => {}
            ("Submitted", "Scheduling") => assert!(sub_id.is_some()),
            ("Submitted", "Scheduled") => assert!(sub_id.is_none()),
            ("Submitted", "Finished") => assert_eq!((health, &device), ("Canceled", &None)),
            ("Scheduling", "Scheduled") | ("Scheduled", "Running") => {}
            ("Scheduled" | "Running", "Canceling") => {}
            ("Running", "Finished") => assert_ne!(health, "Canceled"),
            ("Canceling", "Finished") => assert_eq!(health, "Canceled"),
            other => panic!("{other:?}"),
        }
        assert_eq!(text(data, "submit_time").unwrap(), before.submit_time);
        assert!(before.start_time.is_none() || before.start_time == start_time);
        assert!(before.device.is_none() || before.device == device);
        let shown_as = sub_id.unwrap_or_else(|| id.to_string());
        assert!(before.shown_as == shown_as || before.shown_as.is_empty());
        if let Some(device) = &device {
            let (device_state, job) = &self.devices[device];
            match state.as_str() {
                "Scheduling" | "Scheduled" => assert_eq!((device_state.as_str(), job), ("Reserved", &None)),
                "Running" => assert_eq!((device_state.as_str(), job), ("Running", &Some(shown_as.clone()))),
                "Finished" => assert_eq!((device_state.as_str(), job), ("Idle", &Some(shown_as.clone()))),
                _ => {}
            }
        }
        let submit_time = before.submit_time.clone();
        self.jobs.insert(
            id,
            SeenJob {
                state,
                submit_time,
                start_time,
                shown_as,
                device,
            },
        );
    }
}

fn lab(seed: u64, devices: u16, workers: u16) -> Lab {
    Lab::new(LabOptions {
        seed,
        devices,
        workers,
        topic: "lab.x".to_owned(),
        start: "2026-11-21T05:01:05Z".parse().unwrap(),
        ..LabOptions::default()
    })
}

/// Without our own kinds.
fn of_lava(lab: Lab) -> impl Iterator<Item = LabEvent> {
    lab.filter(|event| {
        matches!(
            Kind::of(&event.record.topic),
            Kind::Device | Kind::Testjob | Kind::Worker | Kind::Event
        )
    })
}

fn keys(data: &str) -> Vec<String> {
    // In the order in which they stand there, which a parsed object does not keep.
    let mut pieces: Vec<&str> = data.split("\": ").collect();
    pieces.pop();
    let before_colon = |piece: &&str| piece.rsplit_once('"').unwrap().1.to_owned();
    pieces.iter().map(before_colon).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nothing_impossible_happens(seed: u64, devices in 0..40_u16, workers in 0..6_u16) {
        let mut observer = Observer::default();
        for event in lab(seed, devices, workers).take(2_000) {
            observer.see(&event);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_events(seed: u64) {
        let first: Vec<_> = lab(seed, 12, 3).take(300).collect();
        prop_assert_eq!(&first, &lab(seed, 12, 3).take(300).collect::<Vec<_>>());
        let other: Vec<_> = lab(seed.wrapping_add(1), 12, 3).take(300).collect();
        prop_assert_ne!(first, other);
    }
}

#[test]
fn whatever_a_lab_can_do_happens() {
    let mut seen = BTreeSet::new();
    let mut finished = BTreeMap::<String, u32>::new();
    for event in of_lava(lab(1, 20, 4)).take(40_000) {
        let data: Value = serde_json::from_str(&event.record.data).unwrap();
        let topic = event.record.topic.strip_prefix("lab.x.").unwrap().to_owned();
        for key in ["state", "health", "job", "sub_id", "worker", "health_check"] {
            let value = match data.get(key) {
                Some(Value::String(text)) if key == "state" || key == "health" => text.clone(),
                Some(Value::String(_)) => "text".to_owned(),
                Some(Value::Number(_)) => "number".to_owned(),
                Some(other) => other.to_string(),
                None => continue,
            };
            seen.insert(format!("{topic} {key} {value}"));
        }
        if data["state"] == "Finished" {
            *finished.entry(text(&data, "health").unwrap()).or_default() += 1;
        }
    }
    let expected = [
        "device health Bad",
        "device health Good",
        "device health Looping",
        "device health Maintenance",
        "device health Retired",
        "device health Unknown",
        "device job number",
        "device job text",
        "device state Idle",
        "device state Reserved",
        "device state Running",
        "device worker null",
        "device worker text",
        "event job number",
        "testjob health Canceled",
        "testjob health Complete",
        "testjob health Incomplete",
        "testjob health Unknown",
        "testjob health_check false",
        "testjob health_check true",
        "testjob job number",
        "testjob state Canceling",
        "testjob state Finished",
        "testjob state Running",
        "testjob state Scheduled",
        "testjob state Scheduling",
        "testjob state Submitted",
        "testjob sub_id text",
        "testjob worker text",
        "worker health Active",
        "worker state Offline",
        "worker state Online",
    ];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    let share = |health: &str| f64::from(finished[health]) / f64::from(finished.values().sum::<u32>());
    assert!((0.6..0.85).contains(&share("Complete")), "{finished:?}");
    assert!((0.1..0.3).contains(&share("Incomplete")), "{finished:?}");
    assert!((0.03..0.2).contains(&share("Canceled")), "{finished:?}");
}

#[test]
fn every_event_has_keys_that_a_real_server_sent_in_its_order() {
    let capture = include_str!("../../../../tests/data/lava-capture.jsonl");
    let kind = |topic: &str| topic.rsplit_once('.').unwrap().1.to_owned();
    let real: BTreeSet<_> = capture
        .lines()
        .map(|line| Record::from_json_line(line).unwrap())
        .map(|record| (kind(&record.topic), keys(&record.data)))
        .collect();
    for event in of_lava(lab(2, 20, 4)).take(20_000) {
        let found = (kind(&event.record.topic), keys(&event.record.data));
        // The capture has no multinode job that was canceled; its keys are those of the others with `sub_id`.
        let plain = (
            found.0.clone(),
            found.1.iter().filter(|key| *key != "sub_id").cloned().collect(),
        );
        assert!(real.contains(&found) || real.contains(&plain), "{found:?}");
    }
}

#[test]
fn a_queued_job_that_is_canceled_is_finished_at_once() {
    let mut last = BTreeMap::new();
    let mut direct = 0;
    for event in lab(3, 4, 1)
        .take(60_000)
        .filter(|event| event.record.topic == "lab.x.testjob")
    {
        let data: Value = serde_json::from_str(&event.record.data).unwrap();
        let before = last.insert(data["job"].as_u64(), text(&data, "state"));
        if before == Some(Some("Submitted".to_owned())) && data["state"] == "Finished" {
            assert_eq!(data["start_time"], data["end_time"]);
            direct += 1;
        }
    }
    assert!(direct > 0);
}

#[test]
fn whatever_can_be_reported_of_a_job_is() {
    let mut seen = BTreeMap::<String, u32>::new();
    let mut count = |what: String| *seen.entry(what).or_default() += 1;
    let mut open_stages = BTreeSet::new();
    let (mut last_outcomes, mut changes) = (BTreeMap::new(), 0);
    let mut ended_jobs = Vec::new();
    let mut faults_of_devices = BTreeMap::<String, u32>::new();
    for event in lab(1, 20, 4).take(60_000) {
        let data: Value = serde_json::from_str(&event.record.data).unwrap();
        let value = |key: &str| {
            data.get(key)
                .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        };
        match Kind::of(&event.record.topic) {
            Kind::Attempt => {
                let outcome =
                    value("outcome").unwrap_or_else(|| if data["exit_code"] == 0 { "pass" } else { "fail" }.to_owned());
                count(format!("attempt {} {outcome}", value("phase").unwrap_or_default()));
            }
            Kind::Stage => {
                let (service, request) = (value("service").unwrap(), value("request_id").unwrap());
                count(format!("stage {service} {}", value("status").unwrap()));
                match data["status"] == "received" {
                    true => assert!(open_stages.insert((service, request)), "received twice"),
                    false => assert!(
                        open_stages.remove(&(service, request)),
                        "ended without having been received"
                    ),
                }
            }
            Kind::Fault => {
                let subject = value("subject").unwrap();
                let (kind, name) = subject.split_once('/').unwrap();
                let is_cleared = data.get("cleared").is_some();
                count(format!("fault {kind} {}", if is_cleared { "cleared" } else { "new" }));
                match (kind, is_cleared) {
                    ("device", true) => assert!(faults_of_devices.remove(name).is_some(), "nothing to be cleared"),
                    ("device", false) => *faults_of_devices.entry(name.to_owned()).or_default() += 1,
                    _ => {}
                }
                let most = faults_of_devices.values().max().copied().unwrap_or(0);
                if most >= 3 {
                    count("fault three in a row".to_owned());
                }
            }
            Kind::Result => match value("status") {
                Some(status) => count(format!("run {status}")),
                None => {
                    let outcome = value("outcome").unwrap();
                    count(format!("result {outcome}"));
                    let before = last_outcomes.insert((value("item"), value("testcase")), outcome.clone());
                    changes += u32::from(before.is_some_and(|before| before != outcome));
                }
            },
            Kind::Testjob if data["state"] == "Finished" => ended_jobs.push(value("job").unwrap()),
            _ => {}
        }
    }
    let expected = [
        "attempt  fail",
        "attempt  neutral",
        "attempt  pass",
        "attempt boot fail",
        "attempt boot pass",
        "attempt provision fail",
        "attempt provision pass",
        "fault device cleared",
        "fault device new",
        "fault job new",
        "fault three in a row",
        "result CRASHED",
        "result FAILED",
        "result INFO",
        "result NEEDS_INSPECTION",
        "result PASSED",
        "run aborted",
        "run complete",
        "run incomplete",
        "stage archive received",
        "stage archive success",
        "stage dispatch error",
        "stage dispatch received",
        "stage dispatch success",
        "stage download error",
        "stage download received",
        "stage download success",
    ];
    assert_eq!(seen.keys().map(String::as_str).collect::<Vec<_>>(), expected);
    assert!(changes > 100, "{changes}");
    // Some services never end with a job that is over for long.
    let long_over: BTreeSet<_> = ended_jobs
        .iter()
        .take(ended_jobs.len() / 2)
        .map(|job| format!("request-{job:0>6}"))
        .collect();
    let stuck = open_stages
        .iter()
        .filter(|(_, request)| long_over.contains(request))
        .count();
    assert!(
        (5..ended_jobs.len() / 5).contains(&stuck),
        "{stuck} of {}",
        ended_jobs.len()
    );
}
