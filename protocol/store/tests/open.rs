//! Starting: one writer, epochs, files that are not ours, files that are damaged.
#![allow(clippy::unwrap_used)]

mod lab;

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;

use lab::{Lab, all, append, event};
use lavabus_store::{Journal, OpenError, Options, Reader, Synchronous};
use rusqlite::Connection;

fn options(synchronous: Synchronous) -> Options {
    Options {
        synchronous,
        ..Options::default()
    }
}

#[test]
fn a_new_database_is_for_its_owner_and_group() {
    let lab = Lab::new();
    let path = lab.folder.path().join("new/folder/events.db");
    let journal = Journal::open(&path, &Options::default()).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode & !0o640, 0, "{mode:o}");
    assert_eq!((journal.head(), journal.oldest().unwrap()), (0, None));
    assert!(journal.salvage().is_none());
}

#[test]
fn what_was_committed_is_there_again() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    append(&mut journal, 1..6);
    let epoch = *journal.epoch();
    journal.close().unwrap();
    assert_eq!(lab.files(), ["events.db", "events.db.lock"]);
    let journal = lab.journal();
    assert_eq!((journal.head(), *journal.epoch()), (5, epoch));
    assert_eq!(all(&lab.reader()), (1..6).map(event).collect::<Vec<_>>());
}

#[test]
fn a_second_writer_is_refused() {
    let lab = Lab::new();
    let mut first = lab.journal();
    let second = Journal::open(lab.path(), &Options::default());
    assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
    append(&mut first, 1..2);
    drop(first);
    assert_eq!(lab.journal().head(), 1);
}

#[test]
fn the_epoch_changes_only_where_commits_may_be_lost() {
    let lab = Lab::new();
    let open = |synchronous| Journal::open(lab.path(), &options(synchronous)).unwrap();
    let full = open(Synchronous::Full);
    let epoch = *full.epoch();
    drop(full);
    let full = open(Synchronous::Full);
    assert_eq!(*full.epoch(), epoch, "an unclean end under full loses nothing");
    full.close().unwrap();

    let normal = open(Synchronous::Normal);
    assert_eq!(*normal.epoch(), epoch);
    normal.close().unwrap();
    let normal = open(Synchronous::Normal);
    assert_eq!(*normal.epoch(), epoch, "a clean end under normal loses nothing");
    drop(normal);

    // What counts is how the run before has committed, not how this one will.
    let full = open(Synchronous::Full);
    let renewed = *full.epoch();
    assert_ne!(renewed, epoch);
    assert_eq!(lab.reader().epoch().unwrap(), renewed);
    drop(full);
    assert_eq!(*open(Synchronous::Normal).epoch(), renewed);
}

#[test]
fn a_newer_schema_is_refused_and_untouched() {
    let lab = Lab::new();
    append(&mut lab.journal(), 1..10);
    let conn = Connection::open(lab.path()).unwrap();
    conn.execute_batch("PRAGMA user_version = 7; PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    conn.close().unwrap();
    let before = fs::read(lab.path()).unwrap();

    let writer = Journal::open(lab.path(), &Options::default());
    assert!(
        matches!(writer, Err(OpenError::NewerSchema { found: 7, known: 2, .. })),
        "{writer:?}"
    );
    let reader = Reader::open(lab.path());
    assert!(
        matches!(reader, Err(OpenError::NewerSchema { found: 7, known: 2, .. })),
        "{reader:?}"
    );
    assert!(fs::read(lab.path()).unwrap() == before);
    assert!(!lab.files().iter().any(|name| name.contains("corrupt")));
}

#[test]
fn a_newer_schema_in_the_log_alone_is_refused_too() {
    let lab = Lab::new();
    let newer = Lab::new();
    newer.journal().close().unwrap();
    let conn = Connection::open(newer.path()).unwrap();
    conn.execute_batch("PRAGMA user_version = 7").unwrap();
    for name in ["events.db", "events.db-wal"] {
        fs::copy(newer.folder.path().join(name), lab.folder.path().join(name)).unwrap();
    }
    let before = fs::read(lab.path()).unwrap();
    let log = fs::read(lab.folder.path().join("events.db-wal")).unwrap();
    assert!(!log.is_empty());

    let writer = Journal::open(lab.path(), &Options::default());
    assert!(
        matches!(writer, Err(OpenError::NewerSchema { found: 7, .. })),
        "{writer:?}"
    );
    assert!(fs::read(lab.path()).unwrap() == before);
    assert!(fs::read(lab.folder.path().join("events.db-wal")).unwrap() == log);
}

#[test]
fn another_programs_database_is_refused_and_untouched() {
    for (mark, sql) in [
        (0, "CREATE TABLE contacts(name)"),
        (0x4242, "PRAGMA application_id = 0x4242"),
    ] {
        let lab = Lab::new();
        Connection::open(lab.path()).unwrap().execute_batch(sql).unwrap();
        let before = fs::read(lab.path()).unwrap();
        let writer = Journal::open(lab.path(), &Options::default());
        assert!(
            matches!(writer, Err(OpenError::Foreign { application_id, .. }) if application_id == mark),
            "{writer:?}"
        );
        let reader = Reader::open(lab.path());
        assert!(reader.is_err(), "{reader:?}");
        assert!(fs::read(lab.path()).unwrap() == before);
    }
}

#[test]
fn a_database_that_became_something_else_is_moved_aside() {
    let lab = Lab::new();
    lab.journal().close().unwrap();
    fs::write(lab.path(), "not a database ".repeat(1_000)).unwrap();
    let mut journal = lab.journal();
    let salvage = journal.salvage().unwrap().clone();
    assert_eq!((salvage.events_saved, salvage.events_lost), (0, 0));
    assert_eq!(
        fs::read(&salvage.moved_to).unwrap(),
        "not a database ".repeat(1_000).as_bytes()
    );
    append(&mut journal, 1..2);
    journal.close().unwrap();
    assert!(lab.journal().salvage().is_none());
}

#[test]
fn what_can_be_read_of_a_damaged_database_is_saved() {
    let lab = Lab::new();
    let mut journal = lab.journal();
    append(&mut journal, 1..5_001);
    let epoch = *journal.epoch();
    journal.close().unwrap();
    // Noise over some pages in the middle, as a failing disk leaves it.
    let mut file = fs::File::options().write(true).open(lab.path()).unwrap();
    let middle = file.metadata().unwrap().len() / 2 / 4_096 * 4_096;
    file.seek(SeekFrom::Start(middle)).unwrap();
    file.write_all(&[0xa5; 5 * 4_096]).unwrap();
    drop(file);

    let journal = lab.journal();
    assert!(journal.salvage().is_none(), "a start does not read everything");
    journal.mark_damaged().unwrap();
    drop(journal);
    let journal = lab.journal();
    let salvage = journal.salvage().unwrap().clone();
    assert!(salvage.events_lost > 0, "{salvage:?}");
    assert!(salvage.events_saved > 4_000, "{salvage:?}");
    assert_eq!(salvage.events_saved + salvage.events_lost, 5_000, "{salvage:?}");
    assert_ne!(*journal.epoch(), epoch);

    let gaps = lab.reader().gaps(0).unwrap();
    assert_eq!(
        gaps.iter().filter_map(|gap| gap.count).sum::<u64>(),
        salvage.events_lost
    );
    for gap in &gaps {
        let missing = gap.to_us - gap.from_us - 1;
        assert_eq!(
            (gap.count, gap.reason.as_str()),
            (Some(missing.cast_unsigned()), "damaged")
        );
    }

    // Numbered anew without holes; each is one of those that were there, in their order.
    let saved = all(&lab.reader());
    assert_eq!(saved.len() as u64, salvage.events_saved);
    for (at, saved) in saved.iter().enumerate() {
        assert_eq!(saved.seq, at as u64 + 1);
        let original = event(saved.received_us.cast_unsigned());
        assert_eq!(
            *saved,
            lavabus_store::Event {
                seq: saved.seq,
                ..original
            }
        );
    }
    assert!(saved.windows(2).all(|pair| pair[0].received_us < pair[1].received_us));
    drop(journal);
    assert!(lab.journal().salvage().is_none(), "the mark is gone");
}

#[test]
fn readers_say_what_is_missing() {
    let lab = Lab::new();
    assert!(matches!(Reader::open(lab.path()), Err(OpenError::NotFound { .. })));
    fs::write(lab.path(), "").unwrap();
    assert!(matches!(Reader::open(lab.path()), Err(OpenError::NotFound { .. })));
    append(&mut lab.journal(), 1..2);
    assert_eq!(lab.reader().head().unwrap(), 1);
}

#[test]
fn a_file_that_was_never_a_database_is_left_alone() {
    let lab = Lab::new();
    fs::write(lab.path(), "notes of last week").unwrap();
    let writer = Journal::open(lab.path(), &Options::default());
    assert!(matches!(writer, Err(OpenError::NotADatabase { .. })), "{writer:?}");
    assert_eq!(fs::read_to_string(lab.path()).unwrap(), "notes of last week");
    assert_eq!(lab.files().len(), 1, "{:?}", lab.files());
}

#[test]
fn what_cannot_be_read_is_not_called_missing() {
    let lab = Lab::new();
    fs::create_dir(lab.path()).unwrap();
    let reader = Reader::open(lab.path());
    assert!(matches!(reader, Err(OpenError::File { .. })), "{reader:?}");
}
