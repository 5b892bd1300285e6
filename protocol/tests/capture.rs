//! 208 messages captured from a running LAVA 2026.07 come through unchanged, and are understood.
//!
//! `tests/golden/capture.tsv` says what each of them is. `UPDATE_GOLDEN=1 cargo test -p lavabus-protocol --test capture`
//! writes it anew; look at the difference before you keep it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use lavabus_protocol::event::{Body, sent};
use lavabus_protocol::filter::{Candidate, Field, Filter};
use lavabus_protocol::{Envelope, Event, Record};

const MESSAGES: usize = 208;
const COLUMNS: &str =
    "kind\tentity\tjob\tsub_id\tdevice\tdevice_type\tworker\tstate\thealth\tsubmitter\tmessage\tfinished\tsent_us";

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn capture() -> Vec<String> {
    let text = std::fs::read_to_string(path("../tests/data/lava-capture.jsonl")).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The five frames, read without the code under test.
fn frames(line: &str) -> Vec<String> {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    serde_json::from_value(value["frames"].clone()).unwrap()
}

fn row(envelope: &Envelope<'_>) -> String {
    let event = Event::from(envelope);
    let sub_id = match event.body() {
        Body::Job(job) => job.sub_id.as_ref(),
        _ => None,
    };
    let text = |value: Option<&str>| value.unwrap_or("-").to_owned();
    let entity = event.entity().map(|(kind, id)| format!("{kind}/{id}"));
    [
        event.kind().to_string(),
        text(entity.as_deref()),
        text(event.job().map(|id| id.as_str())),
        text(sub_id.map(|id| id.as_str())),
        text(event.device()),
        text(event.device_type()),
        text(event.worker()),
        text(event.state()),
        text(event.health()),
        text(event.submitter()),
        text(event.message()),
        event.is_finished().to_string(),
        sent(envelope).map_or_else(|| "-".to_owned(), |at| at.as_microsecond().to_string()),
    ]
    .join("\t")
}

#[test]
fn every_message_is_passed_on_byte_for_byte() {
    let lines = capture();
    assert_eq!(lines.len(), MESSAGES);
    for line in &lines {
        let sent = frames(line);
        let envelope = Envelope::check(sent.iter().map(String::as_bytes)).unwrap();
        let mut uuid_text = [0; 36];
        let encoded = envelope.frames(&mut uuid_text);
        assert!(encoded.into_iter().eq(sent.iter().map(String::as_bytes)), "{line}");
    }
}

#[test]
fn every_message_is_the_same_as_a_line_of_json() {
    for line in &capture() {
        let record = Record::from_json_line(line).unwrap();
        let written = record.to_json_line();
        assert_eq!(Record::from_json_line(&written).unwrap(), record);

        let sent = frames(line);
        assert!(written.contains(&format!("\"data\":{}", sent[4])), "{written}");
        let raw = serde_json::to_string(&sent).unwrap();
        assert_eq!(Record::from_json_line(&raw).unwrap(), record);
        let mut uuid_text = [0; 36];
        let encoded = record.envelope().frames(&mut uuid_text);
        assert!(encoded.into_iter().eq(sent.iter().map(String::as_bytes)), "{line}");
    }
}

#[test]
fn every_message_is_understood() {
    let mut table = format!("{COLUMNS}\n");
    for line in &capture() {
        let sent = frames(line);
        let envelope = Envelope::check(sent.iter().map(String::as_bytes)).unwrap();
        table.push_str(&row(&envelope));
        table.push('\n');
    }
    let golden = path("tests/golden/capture.tsv");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &table).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap();
    for (number, (found, expected)) in table.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "line {}", number + 1);
    }
    assert_eq!(table.lines().count(), expected.lines().count());
}

#[test]
fn the_uuid_of_every_message_tells_nearly_the_time_of_its_datetime() {
    for line in &capture() {
        let record = Record::from_json_line(line).unwrap();
        let made = record.uuid.time().unwrap();
        let sent = sent(&record.envelope()).unwrap();
        let apart = sent.duration_since(made).unsigned_abs();
        assert!(apart.as_secs() < 2, "{line}: {apart:?}");
    }
}

/// Counts taken from the golden table with `cut -f8 capture.tsv | sort | uniq -c` and the like.
#[test]
fn filters_find_what_the_table_holds() {
    let records: Vec<Record> = capture()
        .iter()
        .map(|line| Record::from_json_line(line).unwrap())
        .collect();
    let count = |clauses: &[(Field, bool, &str)]| {
        let mut filter = Filter::default();
        for (field, negated, text) in clauses {
            filter.add(*field, *negated, text).unwrap();
        }
        records
            .iter()
            .filter(|record| filter.matches(&Candidate::from(*record)))
            .count()
    };
    assert_eq!(count(&[]), MESSAGES);
    assert_eq!(count(&[(Field::Kind, false, "device")]), 99);
    assert_eq!(count(&[(Field::Kind, false, "job")]), 77);
    assert_eq!(count(&[(Field::Kind, true, "job"), (Field::Kind, true, "device")]), 32);
    assert_eq!(count(&[(Field::State, false, "finished")]), 18);
    assert_eq!(
        count(&[(Field::State, false, "finished"), (Field::Health, true, "complete")]),
        11
    );
    assert_eq!(count(&[(Field::Job, false, "job/7.0")]), 7);
    let running = [
        (Field::Kind, false, "device"),
        (Field::Device, false, "~^qemu-0"),
        (Field::State, false, "RUNNING"),
    ];
    assert_eq!(count(&running), 18);
}
