//! `lavabus record --from`: a database out of a file of JSON lines, without a network.

#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Cli, Message, Recording, assert_same_events, captured};
use lavabus_store::Reader;

const CAPTURE: &str = include_str!("data/lava-capture.jsonl");

fn line(message: &Message) -> String {
    let texts: Vec<&str> = (0..5).map(|frame| message.text(frame)).collect();
    serde_json::to_string(&texts).unwrap() + "\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_is_recorded_whole_and_once() {
    let cli = Cli::new();
    cli.file("capture.jsonl", CAPTURE);
    let recording = Recording::at(cli.folder().join("x.db"));
    let run = || cli.run(["record", "--from", "capture.jsonl", "--db", "x.db"]);
    run().with(0).printed("").said("208 events recorded in x.db");
    assert_same_events(&recording.messages(), &captured());
    recording.assert_projected();
    let reader = Reader::open(recording.path()).unwrap();
    let first = reader.event(1).unwrap().unwrap();
    // As the capture says, 2026-11-21T05:01:05.222338Z.
    assert_eq!(first.received_us, 1_795_237_265_222_338);
    run().with(0).said("0 events recorded in x.db, 208 repeats");
    assert_same_events(&recording.messages(), &captured());
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_with_a_filter() {
    let cli = Cli::new();
    let arguments = ["record", "--from", "-", "--db", "x.db", "--kind", "job"];
    cli.run_with_input(arguments, CAPTURE).with(0);
    let jobs: Vec<_> = captured()
        .into_iter()
        .filter(|message| message.topic().ends_with(".testjob"))
        .collect();
    let recording = Recording::at(cli.folder().join("x.db"));
    assert_same_events(&recording.messages(), &jobs);
    let arguments = ["record", "--from", "-", "--db", "y.db", "--count", "5", "--quiet"];
    let ended = cli.run_with_input(arguments, CAPTURE).with(0);
    assert_eq!(ended.stderr, "");
    assert_eq!(Recording::at(cli.folder().join("y.db")).head(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_line_is_said_and_passed_over() {
    let cli = Cli::new();
    let events = [Message::test_event(1), Message::test_event(2)];
    let text = format!("{}\n{{\"topic\": 7}}\n{}nonsense\n", line(&events[0]), line(&events[1]));
    cli.file("e.jsonl", &text);
    cli.run(["record", "--from", "e.jsonl", "--db", "x.db"])
        .with(0)
        .said("e.jsonl:3: passed over")
        .said("e.jsonl:5: passed over")
        .said("2 events recorded in x.db, 2 bad lines");
    assert_same_events(&Recording::at(cli.folder().join("x.db")).messages(), &events);
    cli.run(["record", "--from", "absent.jsonl", "--db", "x.db"])
        .with(2)
        .said("absent.jsonl");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_events_stay_unless_told_otherwise() {
    let cli = Cli::new();
    let old = std::time::Duration::from_secs(400 * 24 * 3_600);
    let events: Vec<_> = (0..20).map(|number| Message::test_event_before(number, old)).collect();
    cli.file("old.jsonl", &events.iter().map(line).collect::<String>());
    let recording = Recording::at(cli.folder().join("x.db"));
    cli.run(["record", "--from", "old.jsonl", "--db", "x.db"]).with(0);
    assert_same_events(&recording.messages(), &events);
    cli.file("none.jsonl", "");
    cli.run(["record", "--from", "none.jsonl", "--db", "x.db", "--retain", "30d"])
        .with(0);
    let reader = Reader::open(recording.path()).unwrap();
    assert_eq!(reader.oldest().unwrap(), Some(20), "the newest one carries the numbers");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_event_with_the_same_uuid_is_refused_and_kept_aside() {
    let cli = Cli::new();
    let event = Message::test_event(1);
    let mut other = event.clone();
    other.0[3] = b"mallory".to_vec();
    cli.file("e.jsonl", &(line(&event) + &line(&other) + &line(&event)));
    cli.run(["record", "--from", "e.jsonl", "--db", "x.db"])
        .with(0)
        .said(event.uuid())
        .said("1 event recorded in x.db, 1 repeat, 1 UUID conflict");
    let recording = Recording::at(cli.folder().join("x.db"));
    assert_same_events(&recording.messages(), &[event]);
    let rejected = Reader::open(recording.path()).unwrap().rejected(10).unwrap();
    assert_eq!(rejected.len(), 1);
    assert_eq!(
        (rejected[0].reason.as_str(), &rejected[0].frames[3][..]),
        ("uuid_conflict", &b"mallory"[..])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_place_is_found_by_readers() {
    let cli = Cli::new();
    cli.file("capture.jsonl", CAPTURE);
    cli.run(["record", "--from", "capture.jsonl"])
        .with(0)
        .said(".local/state/lavabus/recorded.db");
    cli.run(["rejected"]).with(0);
}
