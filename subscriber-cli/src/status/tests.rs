#![allow(clippy::unwrap_used)]

use std::path::Path;

use lavabus_protocol::EventId;
use lavabus_store::{Journal, NewEvent, NewGap, Options, Rejected};

use super::*;
use crate::database::{self, Writer};

const RECEIVED_US: i64 = 1_795_237_265_222_338;

/// Three events of a device, a gap, three refused messages.
pub(crate) fn small_journal(path: &Path) -> Journal {
    let mut journal = Journal::open(path, &Options::default()).unwrap();
    let mut group = journal.group().unwrap();
    for (index, state) in ["Idle", "Reserved", "Running"].into_iter().enumerate() {
        let id: EventId = format!("8e503fb{index}-e568-11f1-8b37-02fc00000001").parse().unwrap();
        let data = format!(r#"{{"device": "qemu-01", "state": "{state}", "health": "Good"}}"#);
        let event = NewEvent {
            id: &id,
            received_us: RECEIVED_US + 1_000_000 * index as i64,
            topic: "org.example.lab.device",
            sent: "2026-11-21T05:01:05.217961+00:00",
            user: "lavaserver",
            data: &data,
            lab: "",
        };
        group.append(&event).unwrap();
    }
    group.commit().unwrap();
    let gap = NewGap {
        from_us: RECEIVED_US,
        to_us: RECEIVED_US + 60_000_000,
        count: Some(17),
        reason: "disk_full",
        lab: "",
    };
    journal.record_gap(&gap).unwrap();
    let binary: &[&[u8]] = &[
        b"org.example.lab.device",
        b"\x1b[31mred\x1b[0m",
        b"\xff\xfe\x00",
        "é\u{202e}".as_bytes(),
    ];
    let long = vec![b'x'; 5000];
    for (reason, peer, frames) in [
        ("frame_count", "tcp://127.0.0.1:40312", binary),
        ("not_json", "ipc", &[b"t", b"u", b"d", b"n", b"{\"a\\b\": \"q"]),
        ("frame_count", "ipc (pid 812)", &[&long[..]]),
    ] {
        let size = frames.iter().map(|frame| frame.len() as u64).sum();
        let rejected = Rejected {
            received_us: RECEIVED_US,
            reason,
            peer,
            frames,
            size,
        };
        journal.reject(&[rejected]).unwrap();
    }
    journal.project(2).unwrap();
    journal
}

/// What differs from run to run, and with SQLite's version, becomes a word.
fn report(journal: &Journal) -> Report {
    let mut report = read(&Reader::open(journal.path()).unwrap()).unwrap();
    report.bus = vec![
        BusReport {
            endpoint: "tcp://127.0.0.1:5500".to_owned(),
            answers: true,
            error: None,
        },
        BusReport {
            endpoint: "ipc:///run/pub".to_owned(),
            answers: false,
            error: Some("nobody listens on ipc:///run/pub".to_owned()),
        },
    ];
    report.settle()
}

#[test]
fn the_text() {
    let folder = tempfile::tempdir().unwrap();
    let journal = small_journal(&folder.path().join("events.db"));
    insta::assert_snapshot!(report(&journal).to_string(), @r#"
    database    /var/lib/lava-publisher/events.db
                epoch 4f2a90c1, made 2026-11-21T05:00:00Z
    publisher   running
    bus         tcp://127.0.0.1:5500 answers
    bus         ipc:///run/pub does not answer: nobody listens on ipc:///run/pub
    events      3 kept
                oldest 1, received 2026-11-21T05:01:05.222338Z
                newest 3, received 2026-11-21T05:01:07.222338Z
    size        40.0 KiB used, file 60.0 KiB, log 4.0 MiB
    retention   by default 30 days or 4.0 GiB, whichever is first
    projection  1 objects, 1 events behind
    rejected    3 kept: 2 frame_count, 1 not_json
    gaps        1
                17 events after 3, 2026-11-21T05:01:05.222338Z to 2026-11-21T05:02:05.222338Z: disk_full
    "#);
}

#[test]
fn the_json() {
    let folder = tempfile::tempdir().unwrap();
    let journal = small_journal(&folder.path().join("events.db"));
    insta::assert_snapshot!(report(&journal).to_json_line(), @r#"{"database":"/var/lib/lava-publisher/events.db","epoch":"4f2a90c1","created":"2026-11-21T05:00:00Z","publisher":"running","bus":[{"endpoint":"tcp://127.0.0.1:5500","answers":true,"error":null},{"endpoint":"ipc:///run/pub","answers":false,"error":"nobody listens on ipc:///run/pub"}],"events":{"kept":3,"oldest":{"seq":1,"received":"2026-11-21T05:01:05.222338Z"},"newest":{"seq":3,"received":"2026-11-21T05:01:07.222338Z"}},"size":{"used_bytes":40960,"file_bytes":61440,"log_bytes":4194304},"retention":{"default_max_age_seconds":2592000,"default_max_bytes":4294967296},"projection":{"entities":1,"read_to":2,"behind":1},"rejected":{"kept":3,"reasons":{"frame_count":2,"not_json":1}},"gaps":{"known":1,"newest":[{"after_seq":3,"from":"2026-11-21T05:01:05.222338Z","to":"2026-11-21T05:02:05.222338Z","missing":17,"reason":"disk_full"}]}}"#);
}

#[test]
fn an_empty_journal() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path().join("events.db"), &Options::default()).unwrap();
    let mut report = report(&journal);
    report.bus.clear();
    insta::assert_snapshot!(report.to_string(), @r#"
    database    /var/lib/lava-publisher/events.db
                epoch 4f2a90c1, made 2026-11-21T05:00:00Z
    publisher   running
    events      0 kept
    size        40.0 KiB used, file 60.0 KiB, log 4.0 MiB
    retention   by default 30 days or 4.0 GiB, whichever is first
    projection  0 objects, 0 events behind
    rejected    0 kept
    gaps        0
    "#);
}

#[test]
fn a_writer_is_seen_by_its_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.db");
    assert_eq!(database::writer(&path), Writer::Absent);
    let journal = Journal::open(&path, &Options::default()).unwrap();
    assert_eq!(database::writer(&path), Writer::Running);
    journal.close().unwrap();
    assert_eq!(database::writer(&path), Writer::Absent);
    // Looking has not taken it.
    Journal::open(&path, &Options::default()).unwrap().close().unwrap();
}

fn failure(path: &Path) -> String {
    let failure = database::open(Some(path.to_owned())).unwrap_err();
    assert_eq!(failure.exit(), Exit::Database);
    let text = failure.to_string();
    assert_eq!(text.lines().count(), 3, "{text}");
    text.replace(path.to_str().unwrap(), "PATH")
}

#[test]
fn a_database_that_cannot_be_read_is_said_in_three_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.db");
    insta::assert_snapshot!(failure(&path), @r#"
    lavabus: cannot open the event database
      cause: there is no event database at PATH
      try: name it with --db PATH, or start lava-publisher once to make one
    "#);
    std::fs::write(&path, "no database at all, ".repeat(500)).unwrap();
    insta::assert_snapshot!(failure(&path), @r#"
    lavabus: cannot open the event database
      cause: PATH: the database is damaged: file is not a database
      try: restart lava-publisher: it moves a damaged database aside and saves what can be read of it
    "#);

    // The schema's version is at offset 60 of the file, the application's id at 68 (SQLite file format, 1.3).
    let path = folder.path().join("newer.db");
    Journal::open(&path, &Options::default()).unwrap().close().unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut newer = whole.clone();
    newer[60..64].copy_from_slice(&99_u32.to_be_bytes());
    std::fs::write(&path, newer).unwrap();
    insta::assert_snapshot!(failure(&path), @r#"
    lavabus: cannot open the event database
      cause: PATH has schema 99, this program knows 2 at most: install the newer version
      try: the lavabus that came with its publisher, or --db with another path
    "#);
    let mut foreign = whole;
    foreign[68..72].copy_from_slice(&1_u32.to_be_bytes());
    std::fs::write(&path, foreign).unwrap();
    insta::assert_snapshot!(failure(&path), @r#"
    lavabus: cannot open the event database
      cause: PATH is a SQLite database of another program (application id 0x00000001)
      try: --db with the path of an event database
    "#);
}

#[tokio::test]
async fn the_command_ends_with_30_without_a_database_and_with_2_for_a_format_of_events() {
    let folder = tempfile::tempdir().unwrap();
    let mut context = Context {
        buses: vec!["tcp://127.0.0.1:1".parse().unwrap()],
        quiet: true,
        ..Context::default()
    };
    let arguments = Arguments {
        db: Some(folder.path().join("none.db")),
    };
    let failure = run(arguments.clone(), &context).await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Database);
    context.format = Some(Format::Csv);
    assert_eq!(run(arguments, &context).await.unwrap_err().exit(), Exit::Usage);
}
