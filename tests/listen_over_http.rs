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
    numbers.map(Message::test_event).collect()
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
async fn the_past_comes_first_and_the_stream_goes_on_behind_it() {
    let publisher = Lab::new().journal().http().start().await;
    let push = StockPush::connect(publisher.intake());
    let sent = events(0..3_500);
    push.send_all(&sent[..2_500]);
    publisher.published(2_500).await;
    let cli = Cli::new();
    let bus = http(&publisher);
    let (file, count) = ("cursor", "1000");
    let json = ["-v", "listen", "--bus", &bus, "-o", "json"];
    let after = cli.start([&json[..], &["--after", sent[0].uuid(), "--count", "3499"]].concat());
    let last = cli.start([&json[..], &["--last", "1500", "--count", "2500"]].concat());
    let first = cli
        .run([&json[..], &["--last", "2500", "--count", count]].concat())
        .with(0);
    assert_eq!(printed(&first.stdout), uuids(&sent[..1_000]));
    let until = cli.run([&json[..], &["--since", "-1h", "--until", "@1", "--strict"]].concat());
    until.with(0).printed("");
    for running in [&after, &last] {
        running.prints(sent[2_499].uuid());
    }
    eventually("two streams", || publisher.counters().event_streams.get() >= 4).await;
    push.send_all(&sent[2_500..]);
    assert_eq!(printed(&after.ended().with(0).stdout), uuids(&sent[1..]));
    assert_eq!(printed(&last.ended().with(0).stdout), uuids(&sent[1_000..]));
    // A file that keeps the place.
    let kept = [&json[..], &["--cursor-file", file, "--count", "1"]].concat();
    let running = cli.start(&kept);
    listening(&running, &publisher).await;
    let more = events(3_500..3_502);
    eventually("a stream", || publisher.counters().event_streams.get() >= 5).await;
    push.send(&more[0]);
    assert_eq!(printed(&running.ended().with(0).stdout), uuids(&more[..1]));
    push.send(&more[1]);
    assert_eq!(printed(&cli.run(&kept).with(0).stdout), uuids(&more[1..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_good_ends_it_and_one_that_is_opens_it() {
    let publisher = Lab::new().journal().http().tokens().start().await;
    let bus = http(&publisher);
    let listen = ["listen", "--bus", &bus, "--count", "1", "--last", "1"];
    Cli::new()
        .run(listen)
        .with(21)
        .said("refused")
        .said("LAVABUS_TOKEN_FILE");
    Cli::new()
        .variable("LAVABUS_TOKEN", "s3cret")
        .run(listen)
        .with(21)
        .did_not_say("s3cret");
    StockPush::connect(publisher.intake()).send(&Message::test_event(1));
    publisher.published(1).await;
    let cli = Cli::new();
    let file = cli.file("token", "reader-token\n");
    cli.variable("LAVABUS_TOKEN_FILE", file.display()).run(listen).with(0);
    // The token of a server is for that server, unless somebody says so.
    let identity = || Cli::new().identity("default", "http://lava.example.org/", "reader", "reader-token", "");
    identity().run(listen).with(21);
    identity().run([&["-i", "default"], &listen[..]].concat()).with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_is_gone_or_none_ends_it() {
    let publisher = Lab::new().journal().http().start().await;
    let bus = http(&publisher);
    let cli = Cli::new();
    let running = cli.start(["-v", "listen", "--bus", &bus, "--max-outage", "300ms"]);
    listening(&running, &publisher).await;
    publisher.stop().await;
    running.ended().with(20).said("--max-outage");
    let gone = ["listen", "--bus", &bus, "--connect-timeout", "100ms"];
    cli.run(gone).with(20).said("no connection");
    let gone = ["listen", "--bus", "tcp://127.0.0.1:1", "--connect-timeout", "100ms"];
    cli.run(gone).with(20).said("--bus http://127.0.0.1:8001");
    let publisher = Lab::new().http().start().await;
    cli.run(["listen", "--bus", &format!("{}/elsewhere", http(&publisher))])
        .with(20)
        .said("no publisher");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_is_heard_too() {
    let publisher = Lab::new().journal().http().start().await;
    let bus = format!("ws://{}", publisher.http());
    let cli = Cli::new();
    let running = cli.start(["-v", "listen", "--bus", &bus, "-o", "json", "--count", "2"]);
    running.says("connected to");
    publisher.websockets(1).await;
    let sent = captured();
    let wanted: Vec<Message> = sent.iter().take(2).cloned().collect();
    StockPush::connect(publisher.intake()).send_all(&wanted);
    assert_eq!(printed(&running.ended().with(0).stdout), uuids(&wanted));
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
