//! What is unkind to a wait: streams that nobody reads, another lab's bus, a WebSocket that comes and goes, wrong ids.

#![allow(clippy::unwrap_used)]

mod lab;

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use lab::{CLOSED_PORT, Cli, Lab, Message, StockPush, push_events_of};
use lava_stand_in::{Failure, Job, LavaServer};

fn job(lava: &LavaServer, state: &str, health: &str) -> String {
    lava.add_job(Job {
        state: state.into(),
        health: health.into(),
        ..Job::default()
    })
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_cannot_be_written_change_no_exit_code() {
    let lava = LavaServer::start().await;
    let id = job(&lava, "Finished", "Incomplete");
    let cli = Cli::of(&lava);
    let mut silent = cli.command(["wait", "job", &id]);
    silent.stderr(full());
    assert_eq!(silent.status().unwrap().code(), Some(10));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut unread = cli.command(["-o", "json", "wait", "job", &id]);
    unread.stdout(writer);
    cli.start_command(unread).ended().with(10);
}

/// Two labs behind one host: the bus that was guessed is another's, and has a job of the same number.
#[tokio::test(flavor = "multi_thread")]
async fn another_labs_bus_is_not_believed() {
    let other = Lab::new().journal().start().await;
    let lava = LavaServer::start().await;
    let id = job(&lava, "Running", "Unknown");
    StockPush::connect(other.intake()).send(&Message::job(id.parse().unwrap(), "Finished", "Complete"));
    other.published(1).await;
    let cli = Cli::with_bus(&lava, other.publish());
    let waiting = cli.start(["wait", "job", &id]);
    waiting.says("is not the bus of");
    lava.set_job(&id, "Finished", "Incomplete");
    waiting.ended().with(10);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_bus_is_believed() {
    let publisher = Lab::new().journal().start().await;
    let lava = LavaServer::start().await;
    push_events_of(&lava, publisher.intake());
    let id = job(&lava, "Submitted", "Unknown");
    lava.set_job(&id, "Running", "Unknown");
    let cli = Cli::with_bus(&lava, publisher.publish());
    let waiting = cli.start(["-v", "wait", "job", &id]);
    waiting.says("works");
    lava.set_job(&id, "Finished", "Canceled");
    waiting.ended().with(11).did_not_say("is not the bus of");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_that_comes_and_goes_lets_every_job_have_its_turn() {
    let lava = Arc::new(LavaServer::start().await);
    let mut ids: Vec<String> = (0..100).map(|_| job(&lava, "Running", "Unknown")).collect();
    ids.push(job(&lava, "Finished", "Incomplete"));
    lava.fail(Failure::Delay(Duration::from_millis(200)), "/api/v0.2/jobs/", 10_000);
    let closing = tokio::spawn({
        let lava = lava.clone();
        async move {
            let mut often = tokio::time::interval(Duration::from_millis(100));
            loop {
                often.tick().await;
                lava.close_web_sockets();
            }
        }
    });
    let words = ["wait", "job", "--any", "--timeout", "20s"].map(str::to_owned);
    let cli = Cli::of(&lava);
    cli.run(words.iter().chain(&ids)).with(10);
    closing.abort();
}

/// LAVA refuses with words of its own after the connection; what stands before it does not know the token.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_forbids_web_sockets_ends_no_wait() {
    let lava = LavaServer::start().await;
    lava.fail(Failure::Status(403), "/ws/", 1_000);
    let id = job(&lava, "Running", "Unknown");
    let cli = Cli::of(&lava);
    let waiting = cli.start(["wait", "job", &id]);
    waiting.says("asked again and again");
    lava.set_job(&id, "Finished", "Complete");
    waiting.ended().with(0);
}

/// REST takes the token alone, and the WebSocket wants the user's name too.
#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_that_refuses_what_rest_accepts_ends_no_wait() {
    let lava = LavaServer::start().await;
    let id = job(&lava, "Running", "Unknown");
    let cli = Cli::new().identity("default", &lava.uri(), "nobody", LavaServer::ADMIN_TOKEN, CLOSED_PORT);
    let waiting = cli.start(["wait", "job", &id]);
    waiting.says("Unknown user");
    lava.set_job(&id, "Finished", "Complete");
    waiting.ended().with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_come_is_refused_at_once() {
    let lava = LavaServer::start().await;
    let cli = Cli::of(&lava);
    let other = "https://other.example.org/scheduler/job/1";
    cli.run(["wait", "job", other]).with(2).said("another server");
    cli.run(["wait", "job", "nonsense"]).with(2);
    cli.run(["wait", "device", "d", "--for", "finished"])
        .with(2)
        .said("Idle, Reserved, Running");
    cli.run(["wait", "worker", "w", "--for", "running"]).with(2);
}

/// The publisher came after the job: its journal has nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_the_publisher_never_heard_of_is_over_all_the_same() {
    let publisher = Lab::new().journal().start().await;
    let lava = LavaServer::start().await;
    let id = job(&lava, "Finished", "Complete");
    let cli = Cli::of(&lava).variable("LAVABUS_BUS", publisher.publish());
    cli.run(["wait", "event", "--job", &id, "--message", "ready"]).with(12);
}

/// By the snapshot behind what is replayed, where nobody else can be asked.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_after_the_jobs_end_is_not_waited_for() {
    let publisher = Lab::new().journal().start().await;
    let push = StockPush::connect(publisher.intake());
    let end = Message::job(50, "Finished", "Complete");
    push.send(&end);
    publisher.published(1).await;
    let cli = Cli::new().variable("LAVABUS_BUS", publisher.publish());
    cli.run(["wait", "event", "--job", "50", "--after", end.uuid(), "--message", "x"])
        .with(12);
}
