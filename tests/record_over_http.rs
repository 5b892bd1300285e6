//! `lavabus record` over a publisher's second port: as over ZeroMQ; over a WebSocket each break is a gap.

#![allow(clippy::unwrap_used)]

mod lab;

use std::time::Duration;

use lab::{
    Cli, Lab, Message, Recording, Relay, RunningCli, RunningPublisher, StockPush, assert_same_events, captured,
    eventually,
};
use nix::sys::signal::Signal;

/// Home, and recordings in it.
struct Scene {
    cli: Cli,
    recording: Recording,
}

impl Scene {
    fn new() -> Scene {
        let cli = Cli::new();
        Scene {
            recording: Recording::at(cli.folder().join("r.db")),
            cli,
        }
    }

    fn record(&self, bus: &str, filter: &[&str]) -> RunningCli {
        let db = self.recording.path().display().to_string();
        self.cli
            .start([&["-v", "--bus", bus, "record", "--db", &db], filter].concat())
    }
}

fn stop(recorder: RunningCli) -> lab::Ended {
    recorder.signal(Signal::SIGTERM);
    recorder.ended().with(143)
}

fn events(numbers: std::ops::Range<u64>) -> Vec<Message> {
    numbers.map(Message::test_event).collect()
}

async fn send(publisher: &RunningPublisher, push: &StockPush, messages: &[Message]) {
    let before = publisher.counters().published.get();
    push.send_all(messages);
    publisher.published(before + messages.len() as u64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_it_has_what_the_journal_has_of_its_filter() {
    let publisher = Lab::new().journal().http().start().await;
    let push = StockPush::connect(publisher.intake());
    let (scene, bus, filter) = (Scene::new(), publisher.http_bus(), ["--not-kind", "worker"]);
    let is_wanted = |message: &Message| !message.topic().ends_with(".worker");
    let mut wanted = 0;
    for part in captured().chunks(50) {
        // It comes to what was sent while nobody recorded, and to what is sent now.
        let (before, now) = part.split_at(part.len() / 2);
        send(&publisher, &push, before).await;
        let recorder = scene.record(&bus, &filter);
        send(&publisher, &push, now).await;
        wanted += part.iter().filter(|message| is_wanted(message)).count();
        scene.recording.has(wanted).await;
        recorder.signal(Signal::SIGKILL);
        assert_eq!(recorder.ended().did_not_say("gap").code, None);
    }
    let lab = publisher.stop().await;
    let mut kept = lab.journal_contents();
    kept.retain(is_wanted);
    assert_same_events(&scene.recording.messages(), &kept);
    assert_eq!(scene.recording.gaps(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pruned_meanwhile_is_a_gap() {
    let publisher = Lab::new().journal().http().start().await;
    let push = StockPush::connect(publisher.intake());
    let (scene, sent) = (Scene::new(), events(0..22));
    send(&publisher, &push, &sent[..10]).await;
    let recorder = scene.record(&publisher.http_bus(), &[]);
    scene.recording.has(10).await;
    drop(recorder);
    send(&publisher, &push, &sent[10..20]).await;
    let lab = publisher.stop().await;
    lab.prune_all_but_the_newest();
    let publisher = lab.start().await;
    let recorder = scene.record(&publisher.http_bus(), &[]);
    recorder.says("no longer kept (expired)");
    let push = StockPush::connect(publisher.intake());
    send(&publisher, &push, &sent[20..]).await;
    scene.recording.has(13).await;
    stop(recorder);
    assert_same_events(&scene.recording.messages(), &[&sent[..10], &sent[19..]].concat());
    let gaps = scene.recording.gaps();
    let told: Vec<_> = gaps
        .iter()
        .map(|gap| (gap.after_seq, &*gap.reason, gap.count))
        .collect();
    assert_eq!(told, [(10, "expired", Some(9))]);
}

/// Its place is not that of the last event that it wanted.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_rare_events_has_no_gap_when_others_are_pruned() {
    let publisher = Lab::new().journal().http().start().await;
    let push = StockPush::connect(publisher.intake());
    let (scene, filter) = (Scene::new(), ["--kind", "device"]);
    let place = || -> u64 {
        let sources = scene.recording.sources();
        let number = sources.first().and_then(|source| source.cursor.split('/').nth(1));
        number.map_or(0, |number| number.parse().unwrap())
    };
    let record = |time: &str| scene.record(&publisher.http_bus(), &[&filter[..], &["--for", time]].concat());
    // A place alone is written at the end. It moves while others' events come.
    let mut recorder = record("3s");
    recorder.says("connected to");
    let mut sent = 0;
    while recorder.is_running() {
        send(&publisher, &push, &events(0..1)).await;
        sent += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    recorder.ended().with(0);
    assert!(place() >= 5, "the place does not move on: {} of {sent}", place());
    eventually("it has come to the end", || {
        record("300ms").ended().with(0);
        place() == sent
    })
    .await;
    let lab = publisher.stop().await;
    lab.prune_all_but_the_newest();
    let publisher = lab.start().await;
    let recorder = scene.record(&publisher.http_bus(), &filter);
    let device = Message::device("qemu-01", "Idle");
    send(
        &publisher,
        &StockPush::connect(publisher.intake()),
        std::slice::from_ref(&device),
    )
    .await;
    scene.recording.has(1).await;
    stop(recorder).did_not_say("gap");
    assert_same_events(&scene.recording.messages(), &[device]);
    assert_eq!(scene.recording.gaps(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_break_of_a_web_socket_is_a_gap() {
    let publisher = Lab::new().journal().http().start().await;
    let relay = Relay::to(publisher.http()).await;
    let push = StockPush::connect(publisher.intake());
    let (scene, bus) = (Scene::new(), format!("ws://{}", relay.address()));
    let sent = events(0..6);
    send(&publisher, &push, &sent[..1]).await;
    let recorder = scene.record(&bus, &[]);
    recorder.says("only what happens from now on is recorded");
    publisher.websockets(1).await;
    send(&publisher, &push, &sent[1..2]).await;
    scene.recording.has(1).await;
    assert_eq!(scene.recording.gaps(), []);
    relay.cut();
    recorder.says("no connection");
    send(&publisher, &push, &sent[2..3]).await;
    relay.mend();
    publisher.websockets(2).await;
    recorder.says("what it sent meanwhile is missing");
    send(&publisher, &push, &sent[3..4]).await;
    scene.recording.has(2).await;
    recorder.signal(Signal::SIGKILL);
    recorder.ended();
    send(&publisher, &push, &sent[4..5]).await;
    let recorder = scene.record(&bus, &[]);
    publisher.websockets(3).await;
    send(&publisher, &push, &sent[5..]).await;
    scene.recording.has(3).await;
    stop(recorder);
    let recorded = [1, 3, 5].map(|number: usize| sent[number].clone());
    assert_same_events(&scene.recording.messages(), &recorded);
    let gaps = scene.recording.gaps();
    let told: Vec<_> = gaps.iter().map(|gap| (gap.after_seq, &*gap.reason)).collect();
    assert_eq!(told, [(1, "plain_publisher"), (2, "plain_publisher")]);
}
