//! `lavabus listen` over a publisher's second port: as over ZeroMQ, where only HTTP passes.

#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Cli, Lab, Message, RunningCli, RunningPublisher, StockPush, captured, eventually};

fn http(publisher: &RunningPublisher) -> String {
    format!("http://{}", publisher.http())
}

/// The UUIDs that were printed with `-o json`.
fn printed(text: &str) -> Vec<String> {
    let uuid = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        event["uuid"].as_str().unwrap().to_owned()
    };
    text.lines().map(uuid).collect()
}

fn uuids(events: &[Message]) -> Vec<&str> {
    events.iter().map(Message::uuid).collect()
}

fn events(numbers: std::ops::Range<u64>) -> Vec<Message> {
    numbers
        .map(|number| Message::test_event(number.try_into().unwrap()))
        .collect()
}

/// It hears what is published from now on.
async fn listening(listening: &RunningCli, publisher: &RunningPublisher) {
    listening.says("connected to");
    eventually("a stream", || publisher.counters().event_streams.get() > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_printed_as_it_was_sent() {
    let publisher = Lab::new().journal().http().start().await;
    let sent = captured();
    let count = sent.len().to_string();
    let cli = Cli::new();
    let running = cli.start([
        "-v",
        "listen",
        "--bus",
        &http(&publisher),
        "-o",
        "raw",
        "--count",
        &count,
    ]);
    listening(&running, &publisher).await;
    StockPush::connect(publisher.intake()).send_all(&sent);
    let ended = running.ended().with(0);
    let lines: Vec<Vec<String>> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), sent.len());
    for (line, sent) in lines.iter().zip(&sent) {
        let frames: Vec<&str> = (0..5).map(|frame| sent.text(frame)).collect();
        assert_eq!(*line, frames);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_filters_want() {
    let publisher = Lab::new().journal().http().start().await;
    let sent = captured();
    let wanted: Vec<Message> = sent
        .iter()
        .filter(|event| event.topic().ends_with(".device"))
        .cloned()
        .collect();
    let count = wanted.len().to_string();
    let cli = Cli::new();
    let bus = http(&publisher);
    let arguments = [
        "-v",
        "listen",
        "--bus",
        &bus,
        "-o",
        "json",
        "--kind",
        "device",
        "--jq",
        ".data.device",
        "--count",
        &count,
    ];
    let running = cli.start(arguments);
    listening(&running, &publisher).await;
    StockPush::connect(publisher.intake()).send_all(&sent);
    let ended = running.ended().with(0);
    assert_eq!(printed(&ended.stdout), uuids(&wanted));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_twice_across_a_restart_of_the_publisher() {
    let publisher = Lab::new().journal().http().start().await;
    let cli = Cli::new();
    let running = cli.start([
        "-v",
        "listen",
        "--bus",
        &http(&publisher),
        "-o",
        "json",
        "--strict",
        "--count",
        "4000",
    ]);
    listening(&running, &publisher).await;
    // It is lost before the first event: its place is the one at which it began.
    let stopped = publisher.stop().await;
    running.says("no connection");
    let publisher = stopped.start().await;
    let sent = events(0..4_000);
    let push = StockPush::connect(publisher.intake());
    push.send_all(&sent[..2_000]);
    publisher.published(2_000).await;
    drop(push);
    let stopped = publisher.stop().await;
    let publisher = stopped.start().await;
    StockPush::connect(publisher.intake()).send_all(&sent[2_000..]);
    let ended = running.ended().with(0).said("connected to");
    assert_eq!(printed(&ended.stdout), uuids(&sent));
}
