//! A database of the first version becomes one of today, whole.
#![allow(clippy::unwrap_used)]

mod lab;

use std::os::unix::fs::PermissionsExt as _;

use lab::{Lab, id};
use lavabus_protocol::{Kind, SnapshotScope};
use rusqlite::{Connection, params};

/// The tables of version 1, as it made them.
const VERSION_1: &str = "
CREATE TABLE event(seq INTEGER PRIMARY KEY, uuid BLOB NOT NULL, received INTEGER NOT NULL, topic TEXT NOT NULL,
    sent TEXT NOT NULL, user TEXT NOT NULL, data TEXT NOT NULL) STRICT;
CREATE UNIQUE INDEX event_uuid ON event(uuid);
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES('created', '2026-11-01T00:00:00Z'), ('epoch', '0a0b0c0d');
CREATE TABLE rejected(id INTEGER PRIMARY KEY, received INTEGER NOT NULL, reason TEXT NOT NULL, peer TEXT NOT NULL,
    frames BLOB NOT NULL, size INTEGER NOT NULL) STRICT;
CREATE TABLE gap(id INTEGER PRIMARY KEY, after_seq INTEGER NOT NULL, from_time INTEGER NOT NULL,
    to_time INTEGER NOT NULL, count INTEGER, reason TEXT NOT NULL) STRICT;
INSERT INTO gap VALUES(1, 11, 5, 6, 7, 'not_recorded');
CREATE TABLE entity(kind TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL, uuid BLOB NOT NULL,
    received INTEGER NOT NULL, topic TEXT NOT NULL, sent TEXT NOT NULL, user TEXT NOT NULL, data TEXT NOT NULL,
    sub_id TEXT, sent_us INTEGER, finished INTEGER NOT NULL, PRIMARY KEY(kind, id)) STRICT;
CREATE INDEX entity_sub_id ON entity(sub_id) WHERE sub_id IS NOT NULL;
CREATE INDEX entity_open_job ON entity(received) WHERE kind = 'testjob' AND finished = 0;
CREATE TABLE projection(name TEXT PRIMARY KEY, cursor INTEGER NOT NULL) STRICT, WITHOUT ROWID;
PRAGMA application_id = 0x4c415642;
PRAGMA user_version = 1;
";

const JOB: &str = r#"{"job": 7, "device": "d", "state": "Finished", "health": "Complete",
    "submit_time": "1970-01-01T00:00:01+00:00", "start_time": "1970-01-01T00:00:02+00:00",
    "end_time": "1970-01-01T00:00:03.5+00:00"}"#;

/// Events 11 and 12, of which the first is projected; a worker whose event is gone.
fn first_version(lab: &Lab) {
    let conn = Connection::open(lab.path()).unwrap();
    conn.execute_batch(VERSION_1).unwrap();
    let entity =
        |kind: &str, name: &str, seq: i64, data: &str, finished: bool| {
            conn.execute(
            "INSERT INTO entity VALUES(?, ?, ?, ?, 4000000, ?, '1970-01-01T00:00:04+00:00', 'u', ?, NULL, 4000000, ?)",
            params![kind, name, seq, id(seq as u64).key(), format!("lab.{kind}"), data, finished],
        )
        .unwrap();
        };
    entity("worker", "w", 3, r#"{"hostname": "w", "state": "Online"}"#, false);
    entity("testjob", "7", 11, JOB, true);
    // What can be no JSON for SQLite can be an event.
    entity("device", "odd", 2, r#"{"device": "odd", "x": 1e99999}"#, false);
    for (seq, kind, data) in [
        (11, "testjob", JOB),
        (12, "device", r#"{"device": "d", "state": "Idle"}"#),
    ] {
        conn.execute(
            "INSERT INTO event VALUES(?, ?, 4000000, ?, '1970-01-01T00:00:04+00:00', 'u', ?)",
            params![seq, id(seq as u64).key(), format!("lab.{kind}"), data],
        )
        .unwrap();
    }
    conn.execute("INSERT INTO projection VALUES('entity', 11)", []).unwrap();
}

#[test]
fn it_is_migrated_with_a_copy_and_goes_on() {
    let lab = Lab::new();
    first_version(&lab);
    let mut journal = lab.journal();
    assert_eq!(
        (journal.head(), journal.epoch().to_string()),
        (12, "0a0b0c0d".to_owned())
    );
    assert_eq!(journal.project(10).unwrap().behind, 0);
    assert_eq!(journal.project_history(10).unwrap().behind, 0);
    let snapshot = lab.reader().snapshot(&SnapshotScope::All, 0).unwrap();
    let seqs: Vec<u64> = snapshot.events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, [2, 3, 12]);
    let one = SnapshotScope::One {
        kind: Kind::Testjob,
        id: "7".to_owned(),
    };
    assert_eq!(lab.reader().snapshot(&one, 0).unwrap().events[0].data, JOB);
    let conn = Connection::open(lab.path()).unwrap();
    let times: (i64, i64, i64) = conn
        .query_row(
            "SELECT submitted_us, started_us, ended_us FROM entity WHERE kind = 'testjob'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap();
    assert_eq!(times, (1_000_000, 2_000_000, 3_500_000));
    let attempts: i64 = conn
        .query_row(
            "SELECT count(*) FROM attempt WHERE job = '7' AND outcome = 'pass'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(attempts, 1);
    assert_eq!(lab.reader().gaps(0).unwrap()[0].count, Some(7));
    assert_eq!(lab.reader().verify().unwrap(), [""; 0]);
    let copy = lab.folder.path().join("events.db.v1.bak");
    assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o640);

    // A rebuild keeps what no kept event tells.
    journal.rebuild().unwrap();
    journal.project(10).unwrap();
    assert_eq!(lab.reader().snapshot(&SnapshotScope::All, 0).unwrap(), snapshot);
}

#[test]
fn a_damaged_one_is_saved() {
    let lab = Lab::new();
    first_version(&lab);
    std::fs::File::create(lab.folder.path().join("events.db.damaged")).unwrap();
    let mut journal = lab.journal();
    assert_eq!(journal.salvage().unwrap().events_saved, 2);
    while journal.project(10).unwrap().behind > 0 {}
    let snapshot = lab.reader().snapshot(&SnapshotScope::All, 0).unwrap();
    assert_eq!(snapshot.events.len(), 3, "{snapshot:?}");
}
