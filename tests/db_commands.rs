//! `lavabus db`: what a database needs over the years, and what it says when it cannot be done.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lavabus_store::{Journal, NewEvent, NewGap, Options, Reader};
use rusqlite::Connection;

const CAPTURE: &str = include_str!("data/lava-capture.jsonl");

fn lavabus(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lavabus"))
        .args(arguments)
        .env_remove("LAVABUS_BUS")
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Lab {
        Lab {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A database with the captured messages.
    fn captured(&self) -> String {
        fs::write(self.path("capture.jsonl"), CAPTURE).unwrap();
        let db = self.text("events.db");
        let imported = lavabus(&["db", "--db", &db, "import", &self.text("capture.jsonl")]);
        assert_eq!(code(&imported), 0, "{}", said(&imported));
        assert!(said(&imported).contains("208 events taken in, 0 were there already, 0 passed over"));
        db
    }
}

/// Rows of a table as text, whole.
fn rows(db: &str, sql: &str) -> Vec<String> {
    let conn = Connection::open(db).unwrap();
    let mut select = conn.prepare(sql).unwrap();
    let columns = select.column_count();
    let mut rows = select.query([]).unwrap();
    let mut found = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let values: Vec<_> = (0..columns).map(|at| row.get_ref(at).unwrap()).collect();
        found.push(format!("{values:?}"));
    }
    found
}

const EVENTS: &str = "SELECT seq, uuid, topic, sent, user, data, lab FROM event ORDER BY seq";
const ATTEMPTS: &str = "SELECT * FROM attempt ORDER BY lab, device, first_seq";

#[test]
fn what_is_exported_is_imported_the_same() {
    let lab = Lab::new();
    let db = lab.captured();
    let exported = lavabus(&["db", "--db", &db, "export"]);
    assert_eq!(code(&exported), 0);
    assert_eq!(exported.stdout.iter().filter(|byte| **byte == b'\n').count(), 208);
    fs::write(lab.path("export.jsonl"), &exported.stdout).unwrap();
    let again = lab.text("again.db");
    let imported = lavabus(&["db", "--db", &again, "import", &lab.text("export.jsonl")]);
    assert_eq!(code(&imported), 0, "{}", said(&imported));
    assert_eq!(rows(&again, EVENTS), rows(&db, EVENTS));
    assert_eq!(rows(&again, ATTEMPTS), rows(&db, ATTEMPTS));
    assert!(!rows(&db, ATTEMPTS).is_empty());
    // And from database to database, twice: nothing is there twice.
    let third = lab.text("third.db");
    for (new, known) in [(208, 0), (0, 208)] {
        let imported = lavabus(&["db", "--db", &third, "import", &again]);
        assert!(
            said(&imported).contains(&format!("{new} events taken in, {known} were there already")),
            "{}",
            said(&imported)
        );
    }
    assert_eq!(rows(&third, EVENTS), rows(&db, EVENTS));
    // An export takes no file's place.
    let onto = lavabus(&["db", "--db", &db, "export", &lab.text("export.jsonl")]);
    assert_eq!(code(&onto), 2);
}

#[test]
fn lines_that_are_no_events_are_said_and_passed_over() {
    let lab = Lab::new();
    let lines: Vec<&str> = CAPTURE.lines().take(3).collect();
    let conflicting = lines[0].replace("Active", "Retired");
    assert_ne!(conflicting, lines[0]);
    let text = format!(
        "{}\n\nno event\n{}\n{}\n{}\n",
        lines[0], lines[1], lines[2], conflicting
    );
    fs::write(lab.path("some.jsonl"), text).unwrap();
    let imported = lavabus(&[
        "db",
        "--db",
        &lab.text("x.db"),
        "import",
        &lab.text("some.jsonl"),
        "--lab",
        "north",
    ]);
    assert_eq!(code(&imported), 0);
    let said = said(&imported);
    assert!(
        said.contains("line 3 of") && said.contains("some.jsonl is passed over"),
        "{said}"
    );
    assert!(said.contains("has the same UUID and other content"), "{said}");
    assert!(
        said.contains("3 events taken in, 0 were there already, 2 passed over"),
        "{said}"
    );
    let north = rows(&lab.text("x.db"), "SELECT count(*) FROM event WHERE lab = 'north'");
    assert_eq!(north, ["[Integer(3)]"]);
}

#[test]
fn what_reactobus_recorded_is_taken_in() {
    let lab = Lab::new();
    let conn = Connection::open(lab.path("reactobus.db")).unwrap();
    conn.execute_batch(
        "CREATE TABLE messages (id INTEGER NOT NULL PRIMARY KEY, topic VARCHAR(512), uuid VARCHAR(36), datetime DATETIME,
             username VARCHAR(512), data TEXT);
         INSERT INTO messages VALUES(1, 'org.linaro.validation.testjob', '8e503fbe-e568-11f1-8b37-02fc00000001',
             '2016-06-01 10:11:12.000000', 'lavaserver',
             '{\"job\": \"http://lava/scheduler/job/12\", \"status\": \"Running\", \"device\": \"d\"}');",
    )
    .unwrap();
    drop(conn);
    let db = lab.text("events.db");
    let imported = lavabus(&["db", "--db", &db, "import", &lab.text("reactobus.db")]);
    assert!(said(&imported).contains("1 events taken in"), "{}", said(&imported));
    assert_eq!(rows(&db, "SELECT seq FROM ref WHERE kind = 2 AND id = '12'").len(), 1);
    // 2016, not the day of the import.
    assert_eq!(
        rows(&db, "SELECT received / 31557600000000 FROM event"),
        ["[Integer(46)]"]
    );
}

#[test]
fn gaps_are_filled_by_who_has_everything() {
    let lab = Lab::new();
    let db = lab.path("events.db");
    let mut journal = Journal::open(&db, &Options::default()).unwrap();
    let records: Vec<_> = CAPTURE
        .lines()
        .map(|line| lavabus_protocol::Record::from_json_line(line).unwrap())
        .collect();
    let sent = |at: usize| {
        lavabus_protocol::event::read_datetime(&records[at].datetime)
            .unwrap()
            .as_microsecond()
    };
    let mut group = journal.group().unwrap();
    for record in &records[..20] {
        let event = NewEvent {
            id: &record.uuid,
            received_us: 0,
            topic: &record.topic,
            sent: &record.datetime,
            user: &record.username,
            data: &record.data,
            lab: "",
        };
        group.append(&event).unwrap();
    }
    let gap = |from_us, to_us, lab| NewGap {
        from_us,
        to_us,
        count: None,
        reason: "no_resume",
        lab,
    };
    group.record_gap(&gap(sent(20), sent(60), "")).unwrap();
    group.record_gap(&gap(sent(20), sent(60), "elsewhere")).unwrap();
    group.record_gap(&gap(sent(200), sent(207) + 1, "")).unwrap();
    group.commit().unwrap();
    journal.close().unwrap();
    fs::write(lab.path("capture.jsonl"), CAPTURE).unwrap();
    let (db, capture) = (lab.text("events.db"), lab.text("capture.jsonl"));
    // Who does not say that it is everything fills nothing.
    assert_eq!(code(&lavabus(&["db", "--db", &db, "import", &capture])), 0);
    assert!(
        Reader::open(&db)
            .unwrap()
            .gaps(0)
            .unwrap()
            .iter()
            .all(|gap| gap.filled_us.is_none())
    );
    let imported = lavabus(&["db", "--db", &db, "import", &capture, "--complete"]);
    assert!(said(&imported).contains("1 gaps filled"), "{}", said(&imported));
    let filled: Vec<bool> = Reader::open(&db)
        .unwrap()
        .gaps(0)
        .unwrap()
        .iter()
        .map(|gap| gap.filled_us.is_some())
        .collect();
    assert_eq!(filled, [true, false, false]);
}

#[test]
fn a_sound_database_is_said_to_be_and_a_damaged_one_ends_with_30() {
    let lab = Lab::new();
    let db = lab.captured();
    let verified = lavabus(&["db", "--db", &db, "verify"]);
    assert_eq!(code(&verified), 0, "{}", said(&verified));
    assert!(said(&verified).contains("is sound"));
    Connection::open(&db)
        .unwrap()
        .execute("DELETE FROM event WHERE seq = 100", [])
        .unwrap();
    let verified = lavabus(&["db", "--db", &db, "verify"]);
    assert_eq!(code(&verified), 30);
    assert_eq!(
        String::from_utf8_lossy(&verified.stdout),
        "events are missing between the oldest and the newest number: 1\n"
    );
}

#[test]
fn a_rebuild_gives_the_same_and_pruning_keeps_what_outlives() {
    let lab = Lab::new();
    let db = lab.captured();
    let before = rows(&db, ATTEMPTS);
    assert_eq!(code(&lavabus(&["db", "--db", &db, "rebuild"])), 0);
    assert_eq!(rows(&db, ATTEMPTS), before);
    // The capture is of one day.
    assert_eq!(
        code(&lavabus(&["db", "--db", &db, "prune"])),
        2,
        "what is to stay has to be said"
    );
    let pruned = lavabus(&["db", "--db", &db, "prune", "--retain", "1s"]);
    assert_eq!(code(&pruned), 0, "{}", said(&pruned));
    assert!(said(&pruned).contains("207 events deleted"), "{}", said(&pruned));
    assert_eq!(rows(&db, ATTEMPTS), before);
    assert_eq!(code(&lavabus(&["db", "--db", &db, "rebuild"])), 0);
    assert_eq!(rows(&db, ATTEMPTS), before);
    assert_eq!(code(&lavabus(&["db", "--db", &db, "verify"])), 0);
}

#[test]
fn a_backup_is_a_database_and_takes_no_files_place() {
    let lab = Lab::new();
    let db = lab.captured();
    let copy = lab.text("copy.db");
    assert_eq!(code(&lavabus(&["db", "--db", &db, "backup", &copy])), 0);
    assert_eq!(rows(&copy, EVENTS), rows(&db, EVENTS));
    let again = lavabus(&["db", "--db", &db, "backup", &copy]);
    assert_eq!(code(&again), 30);
    assert!(said(&again).contains("there is a file of this name already"));
}

#[test]
fn who_would_write_is_refused_while_there_is_a_writer_and_who_reads_is_not() {
    let lab = Lab::new();
    let db = lab.captured();
    let _writer = Journal::open(&db, &Options::default()).unwrap();
    for arguments in [
        &["rebuild"][..],
        &["prune", "--retain", "1d"],
        &["import", &lab.text("capture.jsonl")],
    ] {
        let refused = lavabus(&[&["db", "--db", &db], arguments].concat());
        assert_eq!(code(&refused), 30, "{arguments:?}");
        assert!(
            said(&refused).contains("in use by another writer"),
            "{}",
            said(&refused)
        );
        assert!(said(&refused).contains("stop its writer"), "{}", said(&refused));
    }
    for arguments in [&["verify"][..], &["export"], &["backup", &lab.text("copy.db")]] {
        let done = lavabus(&[&["db", "--db", &db], arguments].concat());
        assert_eq!(code(&done), 0, "{arguments:?} {}", said(&done));
    }
}

#[test]
fn a_name_with_a_mistake_makes_no_database() {
    let lab = Lab::new();
    let missing = lab.text("nothing.db");
    for arguments in [&["verify"][..], &["rebuild"], &["prune", "--retain", "1d"], &["export"]] {
        let refused = lavabus(&[&["db", "--db", &missing], arguments].concat());
        assert_eq!(code(&refused), 30, "{arguments:?}");
        assert!(!Path::new(&missing).exists());
    }
    let import = lavabus(&["db", "--db", &lab.text("new.db"), "import", &lab.text("no such file")]);
    assert_eq!(code(&import), 2, "{}", said(&import));
}
