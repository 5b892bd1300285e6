//! Every exit code is reached by the real program, each in the ways that a script meets it.

#![allow(clippy::unwrap_used)]

mod lab;

use std::collections::BTreeSet;
use std::fs::File;

use lab::{CLOSED_PORT, Cli, Ended, Lab, Message, RunningPublisher, StockPush};
use lava_stand_in::{Job, LavaServer, Options};
use lavabus_cli::Exit;
use nix::sys::signal::Signal;
use tokio::task::JoinSet;

const DEFINITION: &str = "job_name: smoke\ndevice_type: qemu\nvisibility: public\n";

#[tokio::test(flavor = "multi_thread")]
async fn every_exit_code_is_reached() {
    let mut cases: JoinSet<Vec<Ended>> = JoinSet::new();
    cases.spawn(done());
    cases.spawn(internal_error());
    cases.spawn(usage());
    cases.spawn(a_jobs_end());
    cases.spawn(never());
    cases.spawn(a_job_that_is_over_without_its_event());
    cases.spawn(no_such_object());
    cases.spawn(failed_tests());
    cases.spawn(a_refused_definition());
    cases.spawn(no_first_connection());
    cases.spawn(an_outage_that_is_too_long());
    cases.spawn(refused_by_rest());
    cases.spawn(a_gap());
    cases.spawn(the_database());
    cases.spawn(the_time_is_over());
    cases.spawn(signals());
    let mut reached = BTreeSet::new();
    while let Some(ended) = cases.join_next().await {
        match ended {
            Ok(ended) => reached.extend(ended.iter().filter_map(|ended| ended.code)),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    let all: BTreeSet<i32> = Exit::ALL.iter().map(|exit| i32::from(exit.code())).collect();
    assert_eq!(reached, all);
}

/// A server with one job in this state.
async fn lava_with_job(state: &str, health: &str) -> (LavaServer, String) {
    let lava = LavaServer::start().await;
    let id = lava.add_job(Job {
        state: state.into(),
        health: health.into(),
        ..Job::default()
    });
    (lava, id)
}

/// A publisher, and the words that name it.
async fn publisher() -> (RunningPublisher, String) {
    let publisher = Lab::new().journal().start().await;
    let bus = publisher.publish().to_string();
    (publisher, bus)
}

/// 0
async fn done() -> Vec<Ended> {
    let (lava, id) = lava_with_job("Finished", "Complete").await;
    let cli = Cli::of(&lava);
    vec![
        cli.run(["wait", "job", &id]).with(0).printed(""),
        cli.run(["--help"]).with(0),
    ]
}

/// 1: what is asked for is found, and cannot be written since the disk is full.
async fn internal_error() -> Vec<Ended> {
    let (lava, id) = lava_with_job("Finished", "Complete").await;
    let cli = Cli::of(&lava);
    let mut command = cli.command(["-o", "json", "wait", "job", &id]);
    command.stdout(File::options().write(true).open("/dev/full").unwrap());
    vec![cli.start_command(command).ended().with(1).said("No space left")]
}

/// 2
async fn usage() -> Vec<Ended> {
    let cli = Cli::new();
    vec![
        cli.run(["wait", "device", "qemu-01"]).with(2).said("--for"),
        cli.run(["wait", "job", "1", "--for", "done"]).with(2),
        cli.run(["wait", "job"]).with(2),
        cli.run(["wait", "job", "1", "-i", "nobody"]).with(2).said("nobody"),
        cli.run(["submit", "job.yaml"]).with(2).said("job.yaml"),
    ]
}

/// 10 and 11, with the cause in the last line.
async fn a_jobs_end() -> Vec<Ended> {
    let (lava, incomplete) = lava_with_job("Finished", "Incomplete").await;
    lava.change_job(&incomplete, |job| {
        job.error_type = Some("Infrastructure".into());
        job.error_msg = Some("no boot prompt".into());
    });
    let canceled = lava.add_job(Job {
        state: "Finished".into(),
        health: "Canceled".into(),
        ..Job::default()
    });
    let cli = Cli::of(&lava);
    vec![
        cli.run(["wait", "job", &incomplete])
            .with(10)
            .said("Infrastructure: no boot prompt"),
        cli.run(["wait", "job", &canceled]).with(11),
    ]
}

/// 12: it is over, or retired.
async fn never() -> Vec<Ended> {
    let (lava, id) = lava_with_job("Finished", "Complete").await;
    lava.set_device("qemu-01", "Idle", "Retired");
    let cli = Cli::of(&lava);
    vec![
        cli.run(["wait", "job", &id, "--for", "running"])
            .with(12)
            .said("it is Finished Complete, and can no longer be running"),
        cli.run(["wait", "device", "qemu-01", "--for", "health=Good"])
            .with(12)
            .said("Retired"),
    ]
}

/// 12
async fn a_job_that_is_over_without_its_event() -> Vec<Ended> {
    let (publisher, bus) = publisher().await;
    let push = StockPush::connect(publisher.intake());
    push.send(&Message::job(7, "Running", "Unknown"));
    publisher.published(1).await;
    let cli = Cli::new();
    let waiting = cli.start(["--bus", &bus, "wait", "event", "--job", "7", "--message", "ready"]);
    publisher.subscribers(2).await;
    push.send(&Message::job(7, "Finished", "Complete"));
    vec![waiting.ended().with(12).said("job 7 is over")]
}

/// 13: not there, and private.
async fn no_such_object() -> Vec<Ended> {
    let (lava, id) = lava_with_job("Running", "Unknown").await;
    lava.change_job(&id, |job| job.private = true);
    let anonymous = Cli::new().identity_text(&format!(
        "default: {{uri: {}, events: {{uri: {CLOSED_PORT}}}}}\n",
        lava.uri()
    ));
    vec![
        Cli::of(&lava).run(["wait", "job", "999"]).with(13),
        anonymous.run(["wait", "job", &id]).with(13).said("private"),
        Cli::of(&lava)
            .run(["wait", "device", "none", "--for", "state=Idle"])
            .with(13),
    ]
}

/// 14
async fn failed_tests() -> Vec<Ended> {
    let lava = LavaServer::start().await;
    let cli = Cli::of(&lava);
    cli.file("job.yaml", DEFINITION);
    let running = cli.start(["submit", "--tests", "job.yaml"]);
    let id = running.prints("1");
    lava.add_test(&id, "boot", "login", "pass");
    lava.add_test(&id, "boot", "network", "fail");
    lava.set_job(&id, "Finished", "Complete");
    vec![running.ended().with(14).said("boot/network").did_not_say("boot/login")]
}

/// 15
async fn a_refused_definition() -> Vec<Ended> {
    let lava = LavaServer::start().await;
    let cli = Cli::of(&lava);
    cli.file("job.yaml", "device_type: qemu\n");
    vec![cli.run(["submit", "job.yaml"]).with(15).printed("").said("job_name")]
}

/// 20
async fn no_first_connection() -> Vec<Ended> {
    let cli = Cli::new();
    let nobody = ["--bus", CLOSED_PORT, "wait", "job", "1", "--connect-timeout", "500ms"];
    vec![cli.run(nobody).with(20)]
}

/// 20
async fn an_outage_that_is_too_long() -> Vec<Ended> {
    let (publisher, bus) = publisher().await;
    let cli = Cli::new();
    let waiting = cli.start(["-v", "--bus", &bus, "wait", "job", "1", "--max-outage", "500ms"]);
    waiting.says("works");
    publisher.stop().await;
    vec![waiting.ended().with(20).said("500ms")]
}

/// 21
async fn refused_by_rest() -> Vec<Ended> {
    let lava = LavaServer::start_with(Options {
        web_socket: false,
        ..Options::default()
    })
    .await;
    let id = lava.add_job(Job::default());
    let cli = Cli::new().identity("default", &lava.uri(), "admin", "wrong", CLOSED_PORT);
    cli.file("job.yaml", DEFINITION);
    vec![
        cli.run(["wait", "job", &id]).with(21).said("Invalid token"),
        cli.run(["submit", "job.yaml"]).with(21),
    ]
}

/// 22
async fn a_gap() -> Vec<Ended> {
    let (_publisher, bus) = publisher().await;
    let cli = Cli::new();
    let unknown = "7c4d1f6e-0d5b-4b0e-9a61-0f1f5c0c4a11";
    vec![
        cli.run(["--bus", &bus, "wait", "event", "--after", unknown, "--strict"])
            .with(22),
    ]
}

/// 30
async fn the_database() -> Vec<Ended> {
    let cli = Cli::new();
    cli.file(
        "text.db",
        "this is no database, but it is long enough to look like a file that holds something",
    );
    vec![
        cli.run(["rejected", "--db", "missing.db"]).with(30).said("missing.db"),
        cli.run(["rejected", "--db", "text.db"]).with(30),
    ]
}

/// 124
async fn the_time_is_over() -> Vec<Ended> {
    let (lava, id) = lava_with_job("Running", "Unknown").await;
    let (_publisher, bus) = publisher().await;
    let cli = Cli::of(&lava);
    vec![
        cli.run(["wait", "job", &id, "--timeout", "5s"])
            .with(124)
            .said("still Running"),
        cli.run([
            "--bus",
            CLOSED_PORT,
            "wait",
            "job",
            &id,
            "--for",
            "running",
            "--timeout",
            "1s",
        ])
        .with(0),
        Cli::new()
            .run(["--bus", CLOSED_PORT, "wait", "job", "1", "--timeout", "500ms"])
            .with(124),
        cli.run(["--bus", &bus, "wait", "event", "--timeout", "300ms"])
            .with(124),
    ]
}

/// 130 and 143
async fn signals() -> Vec<Ended> {
    let (publisher, bus) = publisher().await;
    let cli = Cli::new();
    let mut ended = Vec::new();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let waiting = cli.start(["-v", "--bus", &bus, "wait", "job", "1"]);
        waiting.says("works");
        waiting.signal(signal);
        ended.push(waiting.ended().with(code));
    }
    drop(publisher);
    ended
}
