//! `docs/schemas` says of each kind what a sender shall write: what LAVA really sends is right by it, what is wrong is
//! refused, and every key in it is one that is read.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use jsonschema::Validator;
use lavabus_protocol::{Event, Kind, Record};
use serde_json::{Map, Value, json};

fn kinds() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| *kind != Kind::Other)
}

fn schema(kind: Kind) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas");
    let text = std::fs::read_to_string(root.join(format!("{kind}.schema.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn validator(kind: Kind) -> Validator {
    jsonschema::draft202012::new(&schema(kind)).unwrap()
}

/// Data of this kind with every key that it can have.
fn whole(kind: Kind) -> Value {
    match kind {
        Kind::Device => json!({"health": "Good", "state": "Running", "device": "d", "device_type": "t", "worker": "w",
            "job": "7.0"}),
        Kind::Testjob => json!({"health": "Complete", "state": "Finished", "job": 7, "description": "", "priority": 50,
            "submit_time": "2026-11-21T05:01:05+00:00", "submitter": "ann", "health_check": false, "sub_id": "7.0",
            "device": "d", "worker": "w", "device_type": "t", "start_time": "2026-11-21T05:01:05.217961+00:00",
            "end_time": "2026-11-21T05:02:05+00:00"}),
        Kind::Worker => json!({"hostname": "w", "health": "Active", "state": "Online"}),
        Kind::Event => json!({"message": "", "job": 7}),
        Kind::Attempt => json!({"device": "d", "job_id": 7, "exit_code": -9, "detail": "", "phase": "boot",
            "outcome": "neutral", "error_type": "Job", "started": "2026-11-21T05:01:05+00:00",
            "finished": "2026-11-21T05:02:05+00:00"}),
        Kind::Stage => json!({"service": "s", "request_id": "r", "status": "received", "source": "p", "account": "a",
            "date": "2026-11-21T05:01:05+00:00", "inventory_id": "i", "system_id": "s", "message": "m", "job": 7}),
        Kind::Fault => json!({"subject": "device/d", "message": "m", "details": "a\nb", "origin": "o", "job": 7,
            "device": "d", "cleared": false}),
        Kind::Result => json!({"testcase": "t", "outcome": "FAILED", "run": "r", "item": "i", "type": "t", "note": "n",
            "url": "u", "job": 7, "device": "d", "data": {"any": [1, {}]}}),
        Kind::Other => panic!("it has no schema"),
    }
}

fn with(data: &Value, key: &str, value: Value) -> Value {
    let mut data = data.clone();
    data[key] = value;
    data
}

fn without(data: &Value, key: &str) -> Value {
    let mut data = data.clone();
    data.as_object_mut().unwrap().remove(key).unwrap();
    data
}

#[test]
fn the_schemas_are_schemas() {
    for kind in kinds() {
        jsonschema::draft202012::meta::validate(&schema(kind)).unwrap();
    }
}

#[test]
fn what_lava_really_sends_is_right() {
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/lava-capture.jsonl");
    let mut counted = 0;
    for line in std::fs::read_to_string(capture).unwrap().lines() {
        let record = Record::from_json_line(line).unwrap();
        let data: Value = serde_json::from_str(&record.data).unwrap();
        if let Err(error) = validator(Kind::of(&record.topic)).validate(&data) {
            panic!("{error} at {}: {line}", error.instance_path());
        }
        counted += 1;
    }
    assert_eq!(counted, 208);
}

#[test]
fn what_is_required_is_required_and_each_key_has_its_type() {
    for kind in kinds() {
        let (schema, validator, whole) = (schema(kind), validator(kind), whole(kind));
        assert!(validator.is_valid(&whole), "{kind}: {:?}", validator.validate(&whole));
        let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
        for key in whole.as_object().unwrap().keys() {
            let is_required = required.contains(&json!(key))
                || matches!(key.as_str(), "testcase" | "outcome") && kind == Kind::Result;
            // A fault says what it is, or that it is over.
            let is_required = is_required || kind == Kind::Fault && key == "message";
            assert_eq!(
                validator.is_valid(&without(&whole, key)),
                !is_required,
                "{kind} without {key}"
            );
            for odd in [json!([1]), json!(1.5)] {
                assert!(
                    !validator.is_valid(&with(&whole, key, odd.clone())),
                    "{kind}: {key} = {odd}"
                );
            }
            if (kind, key.as_str()) != (Kind::Device, "worker") {
                assert!(
                    !validator.is_valid(&with(&whole, key, Value::Null)),
                    "{kind}: {key} = null"
                );
            }
        }
        for odd in [json!([]), json!("x"), json!(null), json!({})] {
            assert!(!validator.is_valid(&odd), "{kind}: {odd}");
        }
        // LAVA may say more one day; of ours an unknown key is a mistake in writing.
        let is_ours = matches!(kind, Kind::Attempt | Kind::Stage | Kind::Fault | Kind::Result);
        assert_eq!(
            validator.is_valid(&with(&whole, "odd_key", json!(1))),
            !is_ours,
            "{kind}"
        );
    }
}

#[test]
fn what_is_wrong_is_refused() {
    let wrong = [
        (Kind::Device, "state", json!("Finished")),
        (Kind::Device, "health", json!("good")),
        (Kind::Device, "job", json!("job/7")),
        (Kind::Testjob, "job", json!("7")),
        (Kind::Testjob, "priority", json!(101)),
        (Kind::Testjob, "health_check", json!(0)),
        (Kind::Worker, "state", json!("Idle")),
        (Kind::Event, "message", json!(1)),
        (Kind::Attempt, "exit_code", json!("0")),
        (Kind::Attempt, "outcome", json!("ok")),
        (Kind::Attempt, "detail", json!("x".repeat(65_536))),
        (Kind::Attempt, "started", json!("today")),
        (Kind::Stage, "date", json!("")),
        (Kind::Stage, "service", json!("")),
        (Kind::Fault, "message", json!("é".repeat(256))),
        (Kind::Fault, "message", json!("a\nb")),
        (Kind::Fault, "message", json!("")),
        (Kind::Fault, "subject", json!("")),
        (Kind::Result, "outcome", json!("passed")),
        (Kind::Result, "status", json!("complete")),
        (Kind::Result, "run", json!(-1000)),
        (Kind::Result, "run", json!("")),
        (Kind::Result, "data", json!("x")),
    ];
    for (kind, key, value) in wrong {
        assert!(
            !validator(kind).is_valid(&with(&whole(kind), key, value.clone())),
            "{kind}: {key} = {value}"
        );
    }
    let right = [
        (
            Kind::Device,
            json!({"health": "Good", "state": "Idle", "device": "d", "device_type": "t", "worker": null}),
        ),
        (Kind::Fault, json!({"subject": "device/d", "cleared": true})),
        (Kind::Fault, json!({"subject": "device/d", "message": "é".repeat(255)})),
        (Kind::Result, json!({"run": "r", "status": "aborted"})),
    ];
    for (kind, data) in right {
        assert!(validator(kind).is_valid(&data), "{kind}: {data}");
    }
    let wrong = [
        (Kind::Fault, json!({"subject": "device/d"})),
        (Kind::Fault, json!({"subject": "device/d", "cleared": false})),
        (Kind::Result, json!({"run": "r"})),
        (Kind::Result, json!({"status": "complete"})),
        (Kind::Result, json!({"run": "r", "status": "done"})),
        (
            Kind::Result,
            json!({"run": "r", "status": "complete", "outcome": "PASSED"}),
        ),
    ];
    for (kind, data) in wrong {
        assert!(!validator(kind).is_valid(&data), "{kind}: {data}");
    }
}

/// A key with another name than the one that is read would be lost silently.
#[test]
fn every_key_is_read() {
    for kind in kinds() {
        let empty = Event::read(kind, "{}");
        let whole = with(&with(&whole(kind), "status", json!("complete")), "cleared", json!(true));
        for key in schema(kind)["properties"].as_object().unwrap().keys() {
            let only = Value::Object(Map::from_iter([(key.clone(), whole[key].clone())]));
            assert_ne!(Event::read(kind, &only.to_string()), empty, "{kind}: {key}");
        }
    }
}
