//! A database is found sound or not, and a copy of it is the whole of it.
#![allow(clippy::unwrap_used)]

mod lab;

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt as _;

use lab::{Lab, all, append};
use lavabus_store::{BackupError, Reader, reactobus};
use rusqlite::Connection;

#[test]
fn what_is_wrong_is_said_and_what_is_sound_is_not() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    assert_eq!(lab.reader().verify().unwrap(), [""; 0]);
    append(&mut journal, 1..100);
    while journal.project_history(30).unwrap().behind > 0 {}
    assert_eq!(lab.reader().verify().unwrap(), [""; 0]);
    journal.close().unwrap();

    let conn = Connection::open(lab.path()).unwrap();
    conn.execute_batch(
        "DELETE FROM event WHERE seq IN (50, 51); UPDATE event SET received = 7 WHERE seq = 60;
         UPDATE event SET data = '[]' WHERE seq = 70; INSERT INTO ref VALUES(1, 'x', 1000);
         UPDATE projection SET cursor = 200",
    )
    .unwrap();
    drop(conn);
    assert_eq!(
        lab.reader().verify().unwrap(),
        [
            "events are missing between the oldest and the newest number: 2",
            "events were received earlier than the one before them: 1",
            "events have data that is no JSON object: 1",
            "references point to no event: 1",
            "projections have read events that are not there: 1",
        ]
    );
}

#[test]
fn a_damaged_page_is_said() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    append(&mut journal, 1..2_000);
    journal.close().unwrap();
    let mut bytes = fs::read(lab.path()).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0x5a);
    fs::write(lab.path(), bytes).unwrap();
    let findings = lab.reader().verify();
    assert!(
        findings.is_err() || !findings.as_ref().unwrap().is_empty(),
        "{findings:?}"
    );
}

#[test]
fn a_copy_is_whole_and_taken_while_the_journal_writes() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    append(&mut journal, 1..500);
    let copy = lab.folder.path().join("copy.db");
    lab.reader().backup(&copy).unwrap();
    append(&mut journal, 500..600);
    let reader = Reader::open(&copy).unwrap();
    assert_eq!(all(&reader).len(), 499);
    assert_eq!(&reader.epoch().unwrap(), journal.epoch());
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(matches!(lab.reader().backup(&copy), Err(BackupError::Exists)));
    assert!(lab.reader().backup(&lab.folder.path().join("no/folder.db")).is_err());
    assert!(
        !lab.files().iter().any(|name| name.ends_with(".part")),
        "{:?}",
        lab.files()
    );
}

#[test]
fn what_reactobus_kept_is_read() {
    let lab = Lab::new();
    let path = lab.folder.path().join("reactobus.db");
    let conn = Connection::open(&path).unwrap();
    // As SQLAlchemy makes it.
    conn.execute_batch(
        "CREATE TABLE messages (id INTEGER NOT NULL, topic VARCHAR(512) NOT NULL, uuid VARCHAR(36) NOT NULL,
             datetime DATETIME NOT NULL, username VARCHAR(512) NOT NULL, data TEXT NOT NULL, PRIMARY KEY (id));
         INSERT INTO messages VALUES(1, 'org.linaro.validation.testjob', '8e503fbe-e568-11f1-8b37-02fc00000001',
             '2016-06-01 10:11:12.000000', 'lavaserver', '{\"job\": 12, \"status\": \"Running\"}');
         INSERT INTO messages VALUES(2, 'x', 'no uuid', '2016-06-01 10:11:12', 'u', '{}');",
    )
    .unwrap();
    drop(conn);
    assert!(reactobus::is_reactobus(&path).unwrap());
    let mut seen = Vec::new();
    reactobus::messages(&path, |number, record| {
        seen.push((
            number,
            record.map(|record| record.event().job().map(ToString::to_string)),
        ));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(seen[0], (1, Ok(Some("12".to_owned()))));
    assert!(matches!(seen[1], (2, Err(_))), "{seen:?}");
    append(&mut lab.journal(), 1..2);
    assert!(!reactobus::is_reactobus(&lab.path()).unwrap());
}
