//! Only an outage that is longer than its limit, or a refused token, ends a wait.

#![allow(clippy::unwrap_used)]

mod lab;

use std::time::Duration;

use lab::{CLOSED_PORT, Cli, Lab, PlainPublisher, eventually, push_events_of};
use lava_stand_in::{Failure, Job, LavaServer, Options};
use nix::sys::signal::Signal;

const FOR_EVER: usize = 1_000_000;

async fn lava_without_web_socket() -> LavaServer {
    LavaServer::start_with(Options {
        web_socket: false,
        ..Options::default()
    })
    .await
}

fn job(lava: &LavaServer) -> String {
    lava.add_job(Job {
        state: "Running".into(),
        ..Job::default()
    })
}

fn questions(lava: &LavaServer, id: &str) -> usize {
    let question = format!("GET /api/v0.2/jobs/{id}/");
    lava.requests().iter().filter(|request| **request == question).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_was_gone_tells_what_happened_meanwhile() {
    let lava = LavaServer::start().await;
    let publisher = Lab::new().journal().start().await;
    push_events_of(&lava, publisher.intake());
    let id = job(&lava);
    let cli = Cli::new().variable("LAVABUS_BUS", publisher.publish());
    let waiting = cli.start(["-v", "wait", "job", &id, "--max-outage", "20s"]);
    waiting.says("works");
    let stopped = publisher.stop().await;
    waiting.says("no connection");
    // Nobody hears it until the publisher is back.
    lava.set_job(&id, "Finished", "Incomplete");
    let publisher = stopped.start().await;
    waiting.ended().with(10);
    drop(publisher);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_publisher_lost_when_it_was_killed_is_asked_for() {
    // What was in its sockets when it was killed is in no journal. LAVA knows.
    let lava = lava_without_web_socket().await;
    let publisher = Lab::new().journal().start().await;
    let id = job(&lava);
    let cli = Cli::of(&lava).variable("LAVABUS_BUS", publisher.publish());
    let waiting = cli.start(["-v", "wait", "job", &id]);
    waiting.says("works");
    waiting.says("Running");
    lava.fail(Failure::Status(502), "/", FOR_EVER);
    let stopped = publisher.stop().await;
    waiting.says("no connection");
    let publisher = stopped.start().await;
    publisher.subscribers(1).await;
    lava.set_job_quietly(&id, "Finished", "Incomplete");
    lava.heal();
    waiting.ended().with(10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_publisher_that_was_gone_tells_nothing_so_lava_is_asked() {
    let lava = lava_without_web_socket().await;
    let plain = PlainPublisher::of(&lava);
    let endpoint = plain.endpoint().clone();
    let id = job(&lava);
    let waiting = Cli::with_bus(&lava, &endpoint).start(["-v", "wait", "job", &id]);
    waiting.says(&format!("{endpoint} works"));
    plain.go_down();
    waiting.says(&format!("no connection to {endpoint}"));
    lava.set_job_quietly(&id, "Finished", "Canceled");
    waiting.ended().with(11);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_was_lost_on_its_way_is_asked_for() {
    // LAVA drops events when the publisher's queue is full: nobody ever hears of the job's end.
    let lava = lava_without_web_socket().await;
    let plain = PlainPublisher::of(&lava);
    let id = job(&lava);
    let waiting = Cli::with_bus(&lava, plain.endpoint()).start(["-v", "wait", "job", &id]);
    waiting.says("Running");
    waiting.says("works");
    let asked = questions(&lava, &id);
    lava.set_job_quietly(&id, "Finished", "Canceled");
    // Again a second after the connection was made.
    waiting.ended().with(11);
    assert!(questions(&lava, &id) > asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_that_answers_502_for_a_while_is_asked_again() {
    let lava = lava_without_web_socket().await;
    let id = job(&lava);
    lava.fail(Failure::Status(502), "/", FOR_EVER);
    let waiting = Cli::of(&lava).start(["wait", "job", &id]);
    waiting.says("502");
    lava.heal();
    waiting.says("Running");
    lava.fail(Failure::Status(503), "/api/", FOR_EVER);
    waiting.says("503");
    lava.set_job(&id, "Finished", "Complete");
    lava.heal();
    waiting.ended().with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_that_closes_connections_is_asked_again() {
    let lava = lava_without_web_socket().await;
    let id = job(&lava);
    lava.fail(Failure::CloseBefore, "/", 2);
    let waiting = Cli::of(&lava).start(["wait", "job", &id]);
    waiting.says("Running");
    lava.fail(Failure::CutAnswer, "/", 2);
    lava.set_job(&id, "Finished", "Complete");
    waiting.ended().with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_that_is_closed_is_opened_again() {
    let lava = LavaServer::start().await;
    let id = job(&lava);
    let waiting = Cli::of(&lava).start(["-v", "wait", "job", &id]);
    eventually("a WebSocket", || lava.web_sockets() == 1).await;
    waiting.says("Running");
    lava.close_web_sockets();
    waiting.says("no connection to the WebSocket");
    eventually("another WebSocket", || lava.web_sockets() == 1).await;
    lava.set_job(&id, "Finished", "Incomplete");
    waiting.ended().with(10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ends_while_the_web_socket_is_away_is_asked_for() {
    let lava = LavaServer::start().await;
    let id = job(&lava);
    let waiting = Cli::of(&lava).start(["-v", "wait", "job", &id]);
    eventually("a WebSocket", || lava.web_sockets() == 1).await;
    waiting.says("Running");
    lava.fail(Failure::Status(502), "/ws/", FOR_EVER);
    lava.close_web_sockets();
    waiting.says("no connection to the WebSocket");
    lava.set_job(&id, "Finished", "Incomplete");
    waiting.ended().with(10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_in_the_middle_ends_the_wait() {
    for web_socket in [false, true] {
        let lava = LavaServer::start_with(Options {
            web_socket,
            ..Options::default()
        })
        .await;
        let id = job(&lava);
        let waiting = Cli::of(&lava).start(["-v", "wait", "job", &id]);
        waiting.says("Running");
        if web_socket {
            eventually("a WebSocket", || lava.web_sockets() == 1).await;
        }
        lava.refuse_tokens(true);
        lava.close_web_sockets();
        waiting.ended().with(21).said("refused the credentials");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_longer_than_its_limit_ends_the_wait() {
    // Of the bus.
    let publisher = Lab::new().journal().start().await;
    let bus = publisher.publish().to_string();
    let waiting = Cli::new().start(["-v", "--bus", &bus, "wait", "job", "1", "--max-outage", "1s"]);
    waiting.says("works");
    publisher.stop().await;
    waiting.ended().with(20).said("1s");
    // Of the server.
    let lava = lava_without_web_socket().await;
    let id = job(&lava);
    let waiting = Cli::of(&lava).start(["-v", "wait", "job", &id, "--max-outage", "1s"]);
    waiting.says("Running");
    // That it has no WebSocket is not why it cannot be heard later.
    waiting.says("no connection to the WebSocket");
    lava.fail(Failure::Status(502), "/", FOR_EVER);
    waiting.ended().with(20).said("502");
    lava.heal();
    lava.fail(Failure::Status(502), "/api/", FOR_EVER);
    // Nobody was ever there.
    Cli::of(&lava)
        .run(["wait", "job", &id, "--connect-timeout", "1s", "--max-outage", "1h"])
        .with(20)
        .said("502");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_one_does_not() {
    let lava = lava_without_web_socket().await;
    let publisher = Lab::new().journal().start().await;
    push_events_of(&lava, publisher.intake());
    let id = job(&lava);
    let bus = publisher.publish().to_string();
    let cli = Cli::of(&lava);
    // Long enough for several attempts of both, and for two outages of which only the sum would be too long.
    let words = ["-v", "--bus", &bus, "wait", "job", &id, "--max-outage", "6s"];
    let waiting = cli.start(words);
    waiting.says("works");
    let mut publisher = publisher;
    for _ in 0..2 {
        lava.fail(Failure::Status(502), "/", FOR_EVER);
        let stopped = publisher.stop().await;
        tokio::time::sleep(Duration::from_millis(3500)).await;
        publisher = stopped.start().await;
        publisher.subscribers(1).await;
        lava.heal();
    }
    lava.set_job(&id, "Finished", "Complete");
    waiting.ended().with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_can_still_be_asked_is_no_outage() {
    let lava = lava_without_web_socket().await;
    let publisher = Lab::new().journal().start().await;
    let id = job(&lava);
    let bus = publisher.publish().to_string();
    let words = ["-v", "--bus", &bus, "wait", "job", &id, "--max-outage", "500ms"];
    let waiting = Cli::of(&lava).start(words);
    waiting.says("works");
    publisher.stop().await;
    waiting.says("no connection");
    let asked = questions(&lava, &id);
    eventually("LAVA is asked again and again", || questions(&lava, &id) >= asked + 3).await;
    lava.set_job(&id, "Finished", "Complete");
    waiting.ended().with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_with_an_empty_journal_is_no_lost_job() {
    // The disk was replaced: the epoch is another one, and the number to resume from is unknown.
    let lava = LavaServer::start().await;
    let publisher = Lab::new().journal().start().await;
    push_events_of(&lava, publisher.intake());
    let id = job(&lava);
    lava.set_job(&id, "Running", "Unknown");
    publisher.published(1).await;
    let bus = publisher.publish().to_string();
    let waiting = Cli::new().start(["-v", "--bus", &bus, "wait", "job", &id]);
    waiting.says("Running");
    let stopped = publisher.stop().await;
    for ending in ["", "-wal", "-shm"] {
        let mut name = stopped.database().into_os_string();
        name.push(ending);
        let _ = std::fs::remove_file(name);
    }
    let publisher = stopped.start().await;
    publisher.subscribers(1).await;
    lava.set_job(&id, "Finished", "Incomplete");
    waiting.ended().with(10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_an_answer_in_time_is_asked_again() {
    let lava = lava_without_web_socket().await;
    let id = job(&lava);
    lava.fail(Failure::Delay(Duration::from_secs(3600)), "/api/", 1);
    let cli = Cli::new().identity_text(&format!(
        "default: {{uri: {}, username: admin, token: {}, timeout: 1, events: {{uri: {CLOSED_PORT}}}}}\n",
        lava.uri(),
        LavaServer::ADMIN_TOKEN
    ));
    let waiting = cli.start(["wait", "job", &id]);
    waiting.says("no answer in time");
    waiting.says("Running");
    lava.set_job(&id, "Finished", "Complete");
    waiting.ended().with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_hangs_for_a_while_is_waited_for() {
    let lava = LavaServer::start().await;
    let publisher = Lab::new().journal().start_process();
    push_events_of(&lava, publisher.intake());
    let id = job(&lava);
    let bus = publisher.publish().to_string();
    let mut waiting = Cli::new().start(["-v", "--bus", &bus, "wait", "job", &id, "--max-outage", "1s"]);
    waiting.says("works");
    publisher.signal(Signal::SIGSTOP);
    lava.set_job(&id, "Finished", "Incomplete");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(waiting.is_running(), "a connection that stands is no outage");
    publisher.signal(Signal::SIGCONT);
    waiting.ended().with(10);
}
