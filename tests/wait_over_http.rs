//! `lavabus wait` over a publisher's second port: the stream first, then the state of now, so that there is no race.

#![allow(clippy::unwrap_used)]

mod lab;

use std::time::Duration;

use lab::{Cli, Lab, Message, RunningPublisher, StockPush, eventually};
use lava_publisher::{AuthorityConfig, LavaConfig};
use lava_stand_in::{Job, LavaServer};
use lavabus_lava::Identity;

fn cli(publisher: &RunningPublisher) -> Cli {
    Cli::new().variable("LAVABUS_BUS", format!("http://{}", publisher.http()))
}

async fn tell(publisher: &RunningPublisher, push: &StockPush, message: &Message) {
    let before = publisher.counters().published.get();
    push.send(message);
    publisher.published(before + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_so_already_decides_at_once() {
    let publisher = Lab::new().journal().http().start().await;
    let push = StockPush::connect(publisher.intake());
    tell(&publisher, &push, &Message::job(12, "Finished", "Incomplete")).await;
    tell(&publisher, &push, &Message::job(13, "Finished", "Complete")).await;
    tell(&publisher, &push, &Message::device("qemu-01", "Idle")).await;
    let cli = cli(&publisher);
    cli.run(["wait", "job", "12"]).with(10).said("job 12: Incomplete");
    cli.run(["wait", "job", "13", "http://lava.example.org/scheduler/job/12"])
        .with(10);
    cli.run(["wait", "job", "13", "--for", "running"]).with(12);
    cli.run(["wait", "device", "qemu-01", "--state", "idle"]).with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_so_later_decides_then_and_after_an_outage_too() {
    let publisher = Lab::new().journal().http().start().await;
    let push = StockPush::connect(publisher.intake());
    tell(&publisher, &push, &Message::job(12, "Running", "Unknown")).await;
    let cli = cli(&publisher);
    let waiting = cli.start(["-v", "wait", "job", "12"]);
    waiting.says("Running");
    tell(&publisher, &push, &Message::job(12, "Finished", "Canceled")).await;
    waiting.ended().with(11);

    tell(&publisher, &push, &Message::job(14, "Running", "Unknown")).await;
    let waiting = cli.start(["-v", "wait", "job", "14"]);
    waiting.says("Running");
    drop(push);
    let stopped = publisher.stop().await;
    waiting.says("no connection");
    let publisher = stopped.start().await;
    let push = StockPush::connect(publisher.intake());
    push.send(&Message::job(14, "Finished", "Complete"));
    waiting.ended().with(0);

    let waiting = cli.start([
        "-v",
        "wait",
        "device",
        "qemu-07",
        "--for",
        "state=Idle",
        "--max-outage",
        "300ms",
    ]);
    waiting.says("works");
    publisher.stop().await;
    waiting.ended().with(20);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_found_in_the_past_of_a_job_or_comes() {
    let publisher = Lab::new().journal().http().start().await;
    let push = StockPush::connect(publisher.intake());
    tell(&publisher, &push, &Message::job(12, "Running", "Unknown")).await;
    let cli = cli(&publisher);
    let arguments = ["-v", "wait", "event", "--job", "12", "--kind", "job", "-o", "json"];
    let found = cli.run([&arguments[..], &["--state", "running"]].concat()).with(0);
    assert!(found.stdout.contains("Running"), "{found:?}");
    let waiting = cli.start([&arguments[..], &["--state", "canceling"]].concat());
    waiting.says("works");
    eventually("a stream", || publisher.counters().event_streams.get() >= 2).await;
    tell(&publisher, &push, &Message::job(12, "Finished", "Complete")).await;
    waiting.ended_within(Duration::from_secs(30)).with(12);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_private_is_not_there_until_somebody_logs_in_who_may_see_it() {
    let lava = LavaServer::start().await;
    let job = lava.add_job(Job {
        state: "Finished".into(),
        health: "Complete".into(),
        private: true,
        submitter: "ada".into(),
        ..Job::default()
    });
    let publisher = Lab::new()
        .journal()
        .http()
        .configure(|config| {
            config.authority = AuthorityConfig::Lava(Box::new(LavaConfig {
                identity: Identity::anonymous(&lava.uri()).unwrap(),
                administrators: Vec::new(),
                tokens: None,
                workers: None,
            }));
        })
        .start()
        .await;
    let push = StockPush::connect(publisher.intake());
    tell(
        &publisher,
        &push,
        &Message::job(job.parse().unwrap(), "Finished", "Complete"),
    )
    .await;
    cli(&publisher)
        .run(["wait", "job", &job])
        .with(13)
        .said("or it is private");
    cli(&publisher)
        .variable("LAVABUS_TOKEN", LavaServer::ADMIN_TOKEN)
        .run(["wait", "job", &job])
        .with(0);
    cli(&publisher)
        .variable("LAVABUS_TOKEN", "s3cret")
        .run(["wait", "job", &job])
        .with(21);
}
