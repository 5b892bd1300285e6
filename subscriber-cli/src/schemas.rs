//! What we send is right by `docs/schemas`. For tests only.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jsonschema::Validator;
use lavabus_protocol::{Kind, Record};

static VALIDATORS: LazyLock<BTreeMap<Kind, Validator>> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/schemas");
    let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Other);
    let read = |kind: Kind| {
        let text = std::fs::read_to_string(format!("{folder}/{kind}.schema.json")).unwrap();
        let schema = serde_json::from_str(&text).unwrap();
        (kind, jsonschema::draft202012::new(&schema).unwrap())
    };
    kinds.map(read).collect()
});

/// Fails the test if the data is not as its kind's schema wants it.
#[track_caller]
pub(crate) fn check(record: &Record) {
    let data = serde_json::from_str(&record.data).unwrap();
    if let Err(error) = VALIDATORS[&Kind::of(&record.topic)].validate(&data) {
        panic!(
            "{error} at {:?}: {} {}",
            error.instance_path().to_string(),
            record.topic,
            record.data
        );
    }
}
