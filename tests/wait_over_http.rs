//! `lavabus wait` over a publisher's second port: the stream first, then the state of now, so that there is no race.

#![allow(clippy::unwrap_used)]

mod lab;

use std::time::Duration;

use lab::{Cli, Lab, Message, RunningPublisher, StockPush, eventually, push_events_of};
use lava_publisher::{AuthorityConfig, LavaConfig};
use lava_stand_in::{Failure, Job, LavaServer, Options};
use lavabus_lava::Identity;

fn cli(publisher: &RunningPublisher) -> Cli {
    Cli::new().variable("LAVABUS_BUS", publisher.http_bus())
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
    // It may as well not be there yet, so it is waited for.
    let mut waiting = cli(&publisher).start(["wait", "job", &job]);
    waiting.says("or it is private");
    assert!(waiting.is_running());
    cli(&publisher)
        .variable("LAVABUS_TOKEN", LavaServer::ADMIN_TOKEN)
        .run(["wait", "job", &job])
        .with(0);
    cli(&publisher)
        .variable("LAVABUS_TOKEN", "s3cret")
        .run(["wait", "job", &job])
        .with(21);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_heard_of_yet_is_waited_for() {
    let publisher = Lab::new().journal().http().start().await;
    let push = StockPush::connect(publisher.intake());
    let cli = cli(&publisher);
    let words = [
        &["wait", "job", "12"][..],
        &["wait", "device", "qemu-01", "--state", "Idle"],
        &["wait", "worker", "worker-01", "--for", "state=Online"],
        &["wait", "event", "--job", "12", "--message", "flashed"],
    ];
    for words in words {
        cli.run([words, &["--timeout", "500ms"]].concat()).with(124);
    }
    let streams = || publisher.counters().event_streams.get();
    let before = streams();
    let waiting = words.map(|words| cli.start(words));
    for waiting in &waiting[..3] {
        waiting.says("nothing was heard of");
    }
    // To find where the job begins, the wait for its event hears twice.
    eventually("all hear", || streams() >= before + 5).await;
    push.send_all(&[
        Message::device("qemu-01", "Idle"),
        Message::worker("worker-01", "Online"),
        Message::sent_at(
            jiff::Timestamp::now(),
            "event",
            &serde_json::json!({"job": 12, "message": "flashed"}),
        ),
        Message::job(12, "Finished", "Incomplete"),
    ]);
    for (waiting, code) in waiting.into_iter().zip([10, 0, 0, 0]) {
        waiting.ended().with(code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lava_does_not_know_is_not_there() {
    let lava = LavaServer::start().await;
    let publisher = Lab::new().journal().http().start().await;
    let cli = Cli::of(&lava).variable("LAVABUS_BUS", publisher.http_bus());
    cli.run(["wait", "job", "999"]).with(13);
    // And what the publisher has not heard of, LAVA may know.
    let job = lava.add_job(Job {
        state: "Finished".into(),
        health: "Canceled".into(),
        ..Job::default()
    });
    cli.run(["wait", "job", &job]).with(11);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_what_happens_from_now_on_decides() {
    let publisher = Lab::new().http().start().await;
    let push = StockPush::connect(publisher.intake());
    tell(&publisher, &push, &Message::job(12, "Finished", "Complete")).await;
    let cli = cli(&publisher);
    let waiting = cli.start(["wait", "job", "12"]);
    waiting.says("keeps no journal: only what happens from now on is seen");
    tell(&publisher, &push, &Message::job(12, "Finished", "Incomplete")).await;
    waiting.ended().with(10);
    // An event that is still in memory is found; of a job's beginning nobody knows.
    let found = cli.run(["wait", "event", "--kind", "job", "--since", "-1h", "-o", "json"]);
    assert!(found.with(0).stdout.contains("Complete"));
    // LAVA is asked.
    let lava = LavaServer::start().await;
    let job = lava.add_job(Job {
        state: "Running".into(),
        ..Job::default()
    });
    let asking = Cli::of(&lava).variable("LAVABUS_BUS", publisher.http_bus());
    let waiting = asking.start(["-v", "wait", "job", &job]);
    waiting.says("Running");
    lava.set_job(&job, "Finished", "Canceled");
    waiting.ended().with(11);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submitted_job_is_heard_over_http() {
    let lava = LavaServer::start_with(Options {
        web_socket: false,
        ..Options::default()
    })
    .await;
    let publisher = Lab::new().journal().http().start().await;
    push_events_of(&lava, publisher.intake());
    let cli = Cli::of(&lava).variable("LAVABUS_BUS", publisher.http_bus());
    cli.file("job.yaml", "job_name: smoke\ndevice_type: qemu\nvisibility: public\n");
    let waiting = cli.start(["submit", "--wait", "job.yaml"]);
    waiting.prints("1");
    // LAVA cannot be asked: what happens is heard.
    lava.fail(Failure::Status(502), "/api/v0.2/jobs/", usize::MAX);
    lava.set_job("1", "Running", "Unknown");
    waiting.says("job 1 on qemu-01: Running");
    lava.set_job("1", "Finished", "Incomplete");
    waiting.ended().with(10).printed("1\n");
    lava.heal();
    let following = cli.start(["submit", "--follow", "job.yaml"]);
    following.prints("2");
    lava.set_job("2", "Running", "Unknown");
    lava.add_log("2", "info", "U-Boot");
    following.says("U-Boot");
    lava.set_job("2", "Finished", "Complete");
    following.ended().with(0).printed("2\n");
    assert_eq!(lava.submissions(), 2);
}
