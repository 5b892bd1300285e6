//! Trouble with the database of a recording: said with its cause and what to try, exit code 30, and nothing lost.

#![allow(clippy::unwrap_used)]

mod lab;

use std::path::Path;

use lab::{Cli, Lab, Message, Recording, RunningPublisher, StockPush, assert_same_events};
use nix::sys::signal::Signal;

fn arguments(publisher: &RunningPublisher, db: &Path) -> Vec<String> {
    let (bus, db) = (publisher.publish().to_string(), db.display().to_string());
    ["--bus", &bus, "record", "--db", &db].map(str::to_owned).to_vec()
}

/// A large event.
fn large() -> Message {
    let data = serde_json::json!({"message": "x".repeat(100_000), "job": 1995});
    Message::sent_at(jiff::Timestamp::now(), "event", &data)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_waited_for() {
    let Some(disk) = lab::own_disk("a_full_disk_is_waited_for", "size=8m") else {
        return;
    };
    let publisher = Lab::new().journal().start().await;
    let push = StockPush::connect(publisher.intake());
    let (cli, recording) = (Cli::new(), Recording::at(disk.join("r.db")));
    let recorder = cli.start(arguments(&publisher, recording.path()));
    let mut sent = vec![Message::test_event(1)];
    push.send(&sent[0]);
    recording.has(1).await;
    let ballast = lab::fill(&disk);
    for _ in 0..20 {
        sent.push(large());
        push.send(sent.last().unwrap());
    }
    recorder.says("the disk is full; it is tried again");
    std::fs::remove_file(ballast).unwrap();
    recorder.says("the disk takes events again");
    recording.has(21).await;

    // Not for ever.
    drop(recorder);
    let mut impatient = arguments(&publisher, recording.path());
    impatient.extend(["--max-outage", "1s"].map(str::to_owned));
    let recorder = cli.start(impatient);
    sent.push(Message::test_event(22));
    push.send(sent.last().unwrap());
    recording.has(22).await;
    let ballast = lab::fill(&disk);
    for _ in 0..20 {
        sent.push(large());
        push.send(sent.last().unwrap());
    }
    recorder
        .ended()
        .with(30)
        .said("the recording cannot be written")
        .said("the disk is full")
        .said("goes on where it stopped")
        .said("could not be written");
    std::fs::remove_file(ballast).unwrap();
    let recorder = cli.start(arguments(&publisher, recording.path()));
    recording.has(42).await;
    recorder.signal(Signal::SIGTERM);
    recorder.ended().with(143).did_not_say("gap");
    assert_same_events(&recording.messages(), &sent);
    recording.assert_projected();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_written_is_said() {
    let Some(disk) = lab::own_disk("a_folder_that_cannot_be_written_is_said", "ro") else {
        return;
    };
    let cli = Cli::new();
    cli.file("none.jsonl", "");
    let db = disk.join("r.db").display().to_string();
    cli.run(["record", "--from", "none.jsonl", "--db", &db])
        .with(30)
        .said("cannot open the database for recording")
        .said("try: --db with a path in a folder that you may write to");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_another_program_has_locked_is_waited_for() {
    let publisher = Lab::new().journal().start().await;
    let push = StockPush::connect(publisher.intake());
    let (cli, recording) = (Cli::new(), Recording::at(publisher.lab().folder().join("r.db")));
    let recorder = cli.start(arguments(&publisher, recording.path()));
    let sent = [Message::test_event(1), Message::test_event(2)];
    push.send(&sent[0]);
    recording.has(1).await;
    let other = rusqlite::Connection::open(recording.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    push.send(&sent[1]);
    recorder.says("locked by another process; it is tried again");
    other.execute_batch("ROLLBACK").unwrap();
    recorder.says("nothing is lost");
    recording.has(2).await;
    drop(recorder);

    // Nobody who only begins is kept waiting.
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    cli.run(arguments(&publisher, recording.path()))
        .with(30)
        .said("locked by another process")
        .said("try: end the program that has it locked");
    assert_same_events(&recording.messages(), &sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_publishers_own_database_is_refused() {
    let publisher = Lab::new().journal().start().await;
    let cli = Cli::new();
    cli.run(arguments(&publisher, &publisher.database()))
        .with(30)
        .said("in use by another writer")
        .said("try: --db with another path");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_with_a_damaged_database_comes_again() {
    let publisher = Lab::new().journal().start().await;
    let push = StockPush::connect(publisher.intake());
    let sent: Vec<_> = (1..=500).map(Message::test_event).collect();
    push.send_all(&sent);
    publisher.published(500).await;
    let (cli, recording) = (Cli::new(), Recording::at(publisher.lab().folder().join("r.db")));
    let with_count = |count: &str| {
        let mut arguments = arguments(&publisher, recording.path());
        arguments.extend(["--count", count].map(str::to_owned));
        cli.run(arguments)
    };
    with_count("400").with(0);
    let length = std::fs::metadata(recording.path()).unwrap().len();
    let mut bytes = std::fs::read(recording.path()).unwrap();
    bytes[..100].fill(0xee);
    std::fs::write(recording.path(), &bytes).unwrap();
    assert!(length > 4096);
    with_count("500")
        .with(0)
        .said("the database was damaged")
        .said("r.db.corrupt-");
    let found = recording.messages();
    assert_same_events(&found, &sent);

    // A file that never was such a database is somebody's.
    let file = cli.file("notes.txt", "not a database\n");
    cli.run(arguments(&publisher, &file))
        .with(30)
        .said("this file is left as it is");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "not a database\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_removed_meanwhile_is_noticed() {
    let publisher = Lab::new().journal().start().await;
    let push = StockPush::connect(publisher.intake());
    let (cli, recording) = (Cli::new(), Recording::at(publisher.lab().folder().join("r.db")));
    let recorder = cli.start(arguments(&publisher, recording.path()));
    let event = Message::test_event(1);
    push.send(&event);
    recording.has(1).await;
    std::fs::remove_file(recording.path()).unwrap();
    recorder
        .ended()
        .with(30)
        .said("was removed or replaced")
        .said("try: start again");
}
