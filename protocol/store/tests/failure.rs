//! When the disk, another process or the end of this one gets in the way.
#![allow(clippy::unwrap_used)]

mod lab;

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lab::{Lab, all, append, event, new_event};
use lavabus_store::{Journal, Options, StoreError};
use rusqlite::Connection;

/// Appends groups of 100 until one fails; says why, and how many events were committed before.
fn fill(journal: &mut Journal, next: &mut u64) -> StoreError {
    loop {
        let mut group = journal.group().unwrap();
        for number in *next..*next + 100 {
            if let Err(error) = group.append(&new_event(&event(number))) {
                assert!(matches!(
                    group.append(&new_event(&event(number))),
                    Err(StoreError::RolledBack)
                ));
                assert!(matches!(group.commit(), Err(StoreError::RolledBack)));
                return error;
            }
        }
        if let Err(error) = group.commit() {
            return error;
        }
        *next += 100;
    }
}

#[test]
fn a_full_database_refuses_a_group_and_goes_on_when_there_is_room() {
    let lab = Lab::new();
    let small = Options {
        max_bytes: Some(1 << 20),
        ..Options::default()
    };
    let mut journal = Journal::open(lab.path(), &small).unwrap();
    let mut next = 1;
    let error = fill(&mut journal, &mut next);
    assert!(matches!(error, StoreError::DiskFull), "{error:?}");
    assert!(next > 1);
    assert_eq!(journal.head(), next - 1);
    assert_eq!(all(&lab.reader()), (1..next).map(event).collect::<Vec<_>>());

    // Pruning makes room, and the same journal goes on with the next number.
    let retention = lavabus_store::Retention {
        max_age: Some(Duration::ZERO),
        max_bytes: None,
    };
    journal.prune(&retention, i64::MAX, &Default::default()).unwrap();
    append(&mut journal, next..next + 100);
    assert_eq!(journal.head(), next + 99);
}

#[test]
fn a_commit_that_fails_leaves_nothing_and_the_next_one_works() {
    let lab = Lab::new();
    let broken = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&broken);
    let before_commit = Arc::new(move || match seen.load(Ordering::Relaxed) {
        true => Err(StoreError::Io("the disk is gone".to_owned())),
        false => Ok(()),
    });
    let mut journal = Journal::open(
        lab.path(),
        &Options {
            before_commit: Some(before_commit),
            ..Options::default()
        },
    )
    .unwrap();
    append(&mut journal, 1..11);
    broken.store(true, Ordering::Relaxed);
    let mut group = journal.group().unwrap();
    group.append(&new_event(&event(11))).unwrap();
    assert!(matches!(group.commit(), Err(StoreError::Io(_))));
    assert_eq!((journal.head(), lab.reader().head().unwrap()), (10, 10));
    broken.store(false, Ordering::Relaxed);
    append(&mut journal, 11..12);
    assert_eq!(all(&lab.reader()), (1..12).map(event).collect::<Vec<_>>());
}

#[test]
fn another_process_in_the_way_is_waited_for_then_told() {
    let lab = Lab::new();
    let options = Options {
        busy_timeout: Duration::from_millis(20),
        ..Options::default()
    };
    let mut journal = Journal::open(lab.path(), &options).unwrap();
    append(&mut journal, 1..2);
    let other = Connection::open(lab.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(matches!(journal.group().map(drop), Err(StoreError::Busy)));
    assert!(matches!(journal.prune(&Default::default(), 0, &Default::default()), Ok(pruned) if pruned.events == 0));
    other.execute_batch("ROLLBACK").unwrap();
    append(&mut journal, 2..3);
    assert_eq!(journal.head(), 2);
}

const SMALL_DISK: &str = "LAVABUS_STORE_TEST_SMALL_DISK";

/// Not a test of its own: it runs where the next test has mounted a disk of 8 MiB.
#[test]
fn child_on_a_small_disk() {
    let Ok(folder) = env::var(SMALL_DISK) else { return };
    let folder = std::path::Path::new(&folder);
    std::fs::write(folder.join("ballast"), vec![0; 6 << 20]).unwrap();
    let path = folder.join("events.db");
    let mut journal = Journal::open(&path, &Options::default()).unwrap();
    let mut next = 1;
    for _ in 0..2 {
        let error = fill(&mut journal, &mut next);
        assert!(matches!(error, StoreError::DiskFull), "{error:?}");
        assert_eq!(journal.head(), next - 1);
        let reader = lavabus_store::Reader::open(&path).unwrap();
        assert_eq!(all(&reader), (1..next).map(event).collect::<Vec<_>>());
    }
    std::fs::remove_file(folder.join("ballast")).unwrap();
    append(&mut journal, next..next + 100);
    let head = journal.head();
    drop(journal);
    assert_eq!(Journal::open(&path, &Options::default()).unwrap().head(), head);
    println!("{head} events on a small disk");
}

/// A disk can only be mounted by root, within a mount namespace of the test's own; elsewhere this tests nothing.
#[test]
fn a_full_disk_refuses_a_group_and_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let mounted = |then: &str| {
        let script = format!(r#"mount -t tmpfs -o size=8m tmpfs "${SMALL_DISK}" && {then}"#);
        Command::new("unshare")
            .args(["--mount", "sh", "-c", &script, "sh"])
            .arg(env::current_exe().unwrap())
            .env(SMALL_DISK, folder.path())
            .output()
    };
    if !mounted("true").is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no right to mount");
        return;
    }
    let output = mounted(r#"exec "$1" --exact child_on_a_small_disk --nocapture"#).unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("events on a small disk"),
        "{output:?}"
    );
}

const CHILD: &str = "LAVABUS_STORE_TEST_DATABASE";

/// Not a test of its own: the process that the next test kills.
#[test]
fn child_that_is_killed() {
    let Ok(path) = env::var(CHILD) else { return };
    let mut journal = Journal::open(path, &Options::default()).unwrap();
    loop {
        let first = journal.head() + 1;
        append(&mut journal, first..first + 7);
        println!("committed {}", journal.head());
    }
}

#[test]
fn a_kill_loses_nothing_that_was_committed() {
    let lab = Lab::new();
    let mut told = 0;
    for _ in 0..3 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child_that_is_killed", "--nocapture"])
            .env(CHILD, lab.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let committed = lines.filter_map(|line| line.unwrap().strip_prefix("committed ")?.parse::<u64>().ok());
        told = committed.take(20).last().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let head = lab.reader().head().unwrap();
        assert!(head >= told && head.is_multiple_of(7), "{head}, told {told}");
        assert_eq!(all(&lab.reader()), (1..head + 1).map(event).collect::<Vec<_>>());
    }
    let journal = lab.journal();
    assert!(journal.head() >= told && told >= 3 * 20 * 7);
    assert!(journal.salvage().is_none());
}
