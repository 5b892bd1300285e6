//! `lavabus listen` over a publisher's second port: as over ZeroMQ, where only HTTP passes.

#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Cli, Lab, Message, Relay, RunningCli, RunningPublisher, StockPush, captured, eventually};

/// Somebody who listens to that bus, and says what he does.
fn listen(cli: &Cli, bus: &str, arguments: &[&str]) -> RunningCli {
    cli.start([&["-v", "listen", "--bus", bus, "-o", "json"], arguments].concat())
}

/// The same; he hears what is published from now on.
async fn listen_from_now(cli: &Cli, publisher: &RunningPublisher, arguments: &[&str]) -> RunningCli {
    let streams = publisher.counters().event_streams.get();
    let running = listen(cli, &publisher.http_bus(), arguments);
    streams_behind(publisher, streams).await;
    running
}

async fn streams_behind(publisher: &RunningPublisher, count: u64) {
    eventually("a stream", || publisher.counters().event_streams.get() > count).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_printed_as_it_was_sent() {
    let publisher = Lab::new().journal().http().start().await;
    let sent = captured();
    let count = sent.len().to_string();
    let bus = publisher.http_bus();
    let running = Cli::new().start(["listen", "--bus", &bus, "-o", "raw", "--count", &count]);
    streams_behind(&publisher, 0).await;
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
    let mut wanted = sent.clone();
    wanted.retain(|event| event.topic().ends_with(".device"));
    let count = wanted.len().to_string();
    let arguments = ["--kind", "device", "--jq", ".data.device", "--count", &count];
    let running = listen_from_now(&Cli::new(), &publisher, &arguments).await;
    StockPush::connect(publisher.intake()).send_all(&sent);
    assert_eq!(printed(&running.ended().with(0).stdout), uuids(&wanted));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_comes_first_and_the_stream_goes_on_behind_it() {
    let publisher = Lab::new().journal().http().start().await;
    let push = StockPush::connect(publisher.intake());
    let sent = events(0..3_500);
    push.send_all(&sent[..2_500]);
    publisher.published(2_500).await;
    let (cli, bus) = (Cli::new(), publisher.http_bus());
    let after = listen(&cli, &bus, &["--after", sent[0].uuid(), "--count", "3499"]);
    let last = listen(&cli, &bus, &["--last", "1500", "--count", "2500"]);
    let first = listen(&cli, &bus, &["--last", "2500", "--count", "1000"])
        .ended()
        .with(0);
    assert_eq!(printed(&first.stdout), uuids(&sent[..1_000]));
    for running in [&after, &last] {
        running.prints(sent[2_499].uuid());
    }
    push.send_all(&sent[2_500..]);
    assert_eq!(printed(&after.ended().with(0).stdout), uuids(&sent[1..]));
    assert_eq!(printed(&last.ended().with(0).stdout), uuids(&sent[1_000..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn until_a_time_all_before_it_is_printed() {
    for lab in [Lab::new().journal().http(), Lab::new().http()] {
        let publisher = lab.start().await;
        let push = StockPush::connect(publisher.intake());
        let sent = events(0..1_000);
        push.send_all(&sent);
        publisher.published(1_000).await;
        let (cli, bus) = (Cli::new(), publisher.http_bus());
        let before = listen(&cli, &bus, &["--since", "-1h", "--until", "@1", "--strict"]);
        before.ended().with(0).printed("");
        let until = (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(1)).to_string();
        let all = listen(&cli, &bus, &["--since", "-1h", "--until", &until]);
        assert_eq!(printed(&all.ended().with(0).stdout), uuids(&sent));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_keeps_the_place_though_nothing_was_wanted() {
    let publisher = Lab::new().journal().http().start().await;
    let push = StockPush::connect(publisher.intake());
    let sent = events(0..3);
    let cli = Cli::new();
    let kept = ["--cursor-file", "cursor", "--count", "1"];
    let running = listen_from_now(&cli, &publisher, &kept).await;
    push.send(&sent[0]);
    assert_eq!(printed(&running.ended().with(0).stdout), uuids(&sent[..1]));
    push.send(&sent[1]);
    let running = listen(&cli, &publisher.http_bus(), &kept).ended().with(0);
    assert_eq!(printed(&running.stdout), uuids(&sent[1..2]));
    // Nothing was printed, and it is known how far that was.
    let path = cli.folder().join("fresh");
    let fresh = ["--cursor-file", "fresh", "--kind", "device"];
    let running = listen_from_now(&cli, &publisher, &fresh).await;
    push.send(&sent[2]);
    publisher.published(3).await;
    eventually("the place is written", || {
        std::fs::read_to_string(&path).is_ok_and(|text| text.contains("/3/"))
    })
    .await;
    drop(running);
    let device = Message::device("qemu-01", "Idle");
    push.send(&device);
    let running = listen(
        &cli,
        &publisher.http_bus(),
        &["--cursor-file", "fresh", "--count", "1", "--strict"],
    );
    assert_eq!(printed(&running.ended().with(0).stdout), [device.uuid()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_good_ends_it_and_one_that_is_opens_it() {
    let publisher = Lab::new().journal().http().tokens().start().await;
    let bus = publisher.http_bus();
    let arguments = ["--count", "1", "--last", "1"];
    let refused = listen(&Cli::new(), &bus, &arguments).ended().with(21);
    refused.said("refused").said("LAVABUS_TOKEN_FILE");
    let wrong = Cli::new().variable("LAVABUS_TOKEN", "s3cret");
    listen(&wrong, &bus, &arguments).ended().with(21).did_not_say("s3cret");
    StockPush::connect(publisher.intake()).send(&Message::test_event(1));
    publisher.published(1).await;
    let cli = Cli::new();
    let file = cli.file("token", "reader-token\n");
    let cli = cli.variable("LAVABUS_TOKEN_FILE", file.display());
    listen(&cli, &bus, &arguments).ended().with(0);
    // The token of a server is for that server, unless somebody says so.
    let identity = Cli::new().identity("default", "http://lava.example.org/", "reader", "reader-token", "");
    listen(&identity, &bus, &arguments).ended().with(21);
    let named = [&["-i", "default"], &arguments[..]].concat();
    listen(&identity, &bus, &named).ended().with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_is_gone_or_none_ends_it() {
    let publisher = Lab::new().journal().http().start().await;
    let (cli, bus) = (Cli::new(), publisher.http_bus());
    let running = listen_from_now(&cli, &publisher, &["--max-outage", "300ms"]).await;
    publisher.stop().await;
    running.ended().with(20).said("--max-outage");
    let impatient = ["--connect-timeout", "100ms"];
    listen(&cli, &bus, &impatient).ended().with(20).said("no connection");
    let closed = listen(&cli, "tcp://127.0.0.1:1", &impatient).ended().with(20);
    closed.said("--bus http://127.0.0.1:8001");
    let publisher = Lab::new().http().start().await;
    let elsewhere = format!("{}/elsewhere", publisher.http_bus());
    listen(&cli, &elsewhere, &[]).ended().with(20).said("no publisher");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_twice_across_a_restart_of_the_publisher() {
    let publisher = Lab::new().journal().http().start().await;
    let running = listen_from_now(&Cli::new(), &publisher, &["--strict", "--count", "4000"]).await;
    running.says("connected to");
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

#[tokio::test(flavor = "multi_thread")]
async fn what_the_publisher_pruned_meanwhile_is_a_gap_and_ends_a_strict_one() {
    let publisher = Lab::new().journal().http().start().await;
    let relay = Relay::to(publisher.http()).await;
    let (cli, bus) = (Cli::new(), format!("http://{}", relay.address()));
    let strict = listen(&cli, &bus, &["--strict"]);
    let patient = listen(&cli, &bus, &["--count", "3"]);
    streams_behind(&publisher, 1).await;
    let sent = events(0..4);
    let push = StockPush::connect(publisher.intake());
    push.send(&sent[0]);
    for running in [&strict, &patient] {
        running.prints(sent[0].uuid());
    }
    relay.cut();
    push.send_all(&sent[1..3]);
    publisher.published(3).await;
    let lab = publisher.stop().await;
    lab.prune_all_but_the_newest();
    let publisher = lab.start().await;
    relay.mend();
    let ended = strict.ended().with(22).said("no longer kept (expired)");
    assert_eq!(printed(&ended.stdout), [sent[0].uuid()]);
    patient.says("no longer kept (expired)");
    StockPush::connect(publisher.intake()).send(&sent[3]);
    let seen = printed(&patient.ended().with(0).stdout);
    assert_eq!(seen, [sent[0].uuid(), sent[2].uuid(), sent[3].uuid()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_the_newest_events_can_be_had() {
    let publisher = Lab::new().http().start().await;
    let relay = Relay::to(publisher.http()).await;
    let (cli, bus) = (Cli::new(), format!("http://{}", relay.address()));
    let running = listen(&cli, &bus, &["--strict"]);
    running.says("connected to");
    streams_behind(&publisher, 0).await;
    // A connection that was lost before the first event is no loss.
    relay.cut();
    running.says("no connection");
    let sent = events(0..1_000);
    let push = StockPush::connect(publisher.intake());
    push.send_all(&sent);
    publisher.published(1_000).await;
    relay.mend();
    running.prints(sent[999].uuid());
    assert_eq!(printed(&running.stdout()), uuids(&sent));
    let after = listen(&cli, &bus, &["--after", sent[899].uuid(), "--count", "100", "--strict"]);
    assert_eq!(printed(&after.ended().with(0).stdout), uuids(&sent[900..]));
    let last = listen(&cli, &bus, &["--last", "10", "--count", "11"]);
    last.prints(sent[999].uuid());
    push.send(&Message::test_event(1));
    assert_eq!(printed(&last.ended().with(0).stdout)[..10], uuids(&sent[990..]));
    // What was before its start nobody has.
    let lab = publisher.stop().await;
    let _publisher = lab.start().await;
    running.ended().with(22).said("unknown_cursor");
}
