//! `lavabus submit` and `run`: ids alone on standard output and before any waiting, nothing submitted twice, nothing left
//! running on a board that was to be freed.

#![allow(clippy::unwrap_used)]

mod lab;

use std::net::TcpListener;
use std::time::Duration;

use lab::{CLOSED_PORT, Cli, Lab, eventually, push_events_of};
use lava_stand_in::{Failure, Job, LavaServer, Options};
use nix::sys::signal::Signal;

const DEFINITION: &str = "job_name: smoke\ndevice_type: qemu\nvisibility: public\n";
const MULTINODE: &str = "\
job_name: pair
visibility: public
protocols:
  lava-multinode:
    roles:
      client: {device_type: qemu, count: 1}
      server: {device_type: qemu, count: 1}
";
const POST: &str = "POST /api/v0.2/jobs/";
const AT_ONCE: Duration = Duration::ZERO;

/// A server, and a home with `job.yaml` in it.
async fn lava() -> (LavaServer, Cli) {
    let lava = LavaServer::start().await;
    let cli = Cli::of(&lava);
    cli.file("job.yaml", DEFINITION);
    (lava, cli)
}

/// Each job that is submitted ends so, at once.
fn ends(lava: &LavaServer, health: &str) {
    lava.auto_run(Some(&[(AT_ONCE, "Running", "Unknown"), (AT_ONCE, "Finished", health)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_and_nothing_else_is_printed() {
    let (lava, cli) = lava().await;
    cli.run(["submit", "job.yaml"]).with(0).printed("1\n");
    cli.run(["-v", "submit", "job.yaml"]).with(0).printed("2\n");
    assert_eq!(lava.submissions(), 2);
    assert_eq!(lava.job("1").definition, DEFINITION.trim_end());
    ends(&lava, "Complete");
    cli.run(["-v", "run", "--tests", "job.yaml"]).with(0).printed("3\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_is_printed_before_the_waiting() {
    let (lava, cli) = lava().await;
    let mut running = cli.start(["submit", "--wait", "job.yaml"]);
    assert_eq!(running.prints(""), "1");
    assert_eq!(lava.job("1").state, "Submitted");
    lava.set_job("1", "Running", "Unknown");
    running.says("job 1 on qemu-01: Running");
    assert!(running.is_running());
    lava.set_job("1", "Finished", "Complete");
    running.ended().with(0).printed("1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_files_and_standard_input() {
    let (lava, cli) = lava().await;
    cli.file("second.yaml", "job_name: second\n");
    cli.run(["submit", "job.yaml", "second.yaml"]).with(0).printed("1\n2\n");
    assert_eq!(lava.job("2").description, "second");
    cli.run_with_input(["submit", "-"], "job_name: third\n")
        .with(0)
        .printed("3\n");
    assert_eq!(lava.job("3").description, "third");
    // Nothing is submitted if not all can be read.
    cli.run(["submit", "job.yaml", "missing.yaml"])
        .with(2)
        .printed("")
        .said("missing.yaml");
    cli.run_with_input(["submit", "job.yaml", "-"], "").with(2).printed("");
    assert_eq!(lava.submissions(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_definition_is_said_with_its_line() {
    let (lava, cli) = lava().await;
    cli.file("syntax.yaml", "job_name: x\na: b\nb: c: d\n");
    cli.run(["submit", "syntax.yaml"])
        .with(15)
        .printed("")
        .said("syntax.yaml:3");
    cli.file("name.yaml", "device_type: qemu\njob_name: 3\n");
    cli.run(["submit", "--wait", "name.yaml"])
        .with(15)
        .printed("")
        .said("name.yaml:2")
        .said("expected str");
    cli.run_with_input(["submit", "-"], "- a\n")
        .with(15)
        .said("standard input");
    assert_eq!(lava.submissions(), 0);
    // What was submitted before it is known.
    let ended = cli.run(["submit", "--wait", "job.yaml", "name.yaml"]).with(15);
    assert_eq!(ended.stdout, "1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_parts_of_a_multinode_job_are_waited_for() {
    for rest in [true, false] {
        let lava = LavaServer::start_with(Options {
            rest,
            first_job: 4000,
            ..Options::default()
        })
        .await;
        let cli = Cli::of(&lava);
        cli.file("pair.yaml", MULTINODE);
        let mut running = cli.start(["submit", "--wait", "pair.yaml"]);
        running.prints("4000.0");
        running.prints("4000.1");
        lava.set_job("4000.0", "Finished", "Complete");
        running.says("job 4000.0");
        assert!(running.is_running());
        lava.set_job("4000.1", "Finished", "Incomplete");
        running.ended().with(10).printed("4000.0\n4000.1\n").said("job 4000.1");
        assert_eq!(lava.submissions(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_answer_was_lost_is_adopted() {
    let (lava, cli) = lava().await;
    // Another one of the same definition, of an hour before, and one of somebody else.
    let before = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
    for (submitter, submit_time) in [("admin", before), ("bob", jiff::Timestamp::now())] {
        lava.add_job(Job {
            submitter: submitter.into(),
            submit_time,
            definition: DEFINITION.into(),
            ..Job::default()
        });
    }
    lava.fail(Failure::CutAnswer, POST, 1);
    cli.run(["submit", "job.yaml"])
        .with(0)
        .printed("3\n")
        .said("the answer to the submission was lost");
    assert_eq!(lava.submissions(), 1);

    ends(&lava, "Incomplete");
    lava.fail(Failure::CutAnswer, POST, 1);
    cli.file("other.yaml", "job_name: other\n");
    cli.run(["submit", "--wait", "other.yaml"]).with(10).printed("4\n");
    assert_eq!(lava.submissions(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_which_the_id_is_known_is_not_adopted() {
    let (lava, cli) = lava().await;
    cli.file("slow.yaml", "job_name: slow\n");
    // Of three submissions the last one's answer is cut.
    lava.fail(Failure::Delay(AT_ONCE), POST, 2);
    lava.fail(Failure::CutAnswer, POST, 1);
    cli.run(["submit", "job.yaml", "slow.yaml", "job.yaml"])
        .with(0)
        .printed("1\n2\n3\n");
    assert_eq!(lava.submissions(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_multinode_job_whose_answer_was_lost_is_adopted_whole() {
    let (lava, cli) = lava().await;
    cli.file("pair.yaml", MULTINODE);
    lava.fail(Failure::CutAnswer, POST, 1);
    cli.run(["submit", "pair.yaml"]).with(0).printed("1.0\n1.1\n");
    assert_eq!(lava.submissions(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_gives_up_waiting_hides_no_job() {
    let (lava, cli) = lava().await;
    // The request was passed on, and the proxy's 502 came before LAVA's answer: a 502 says nothing of the job.
    lava.fail(Failure::CutAnswer, POST, 1);
    lava.fail(Failure::Status(502), "/api/v0.2/", 3);
    cli.run(["submit", "job.yaml"]).with(0).printed("1\n");
    assert_eq!(lava.submissions(), 1);
}

/// Two pipelines of one user with the same definition, one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_job_with_the_same_definition_is_not_adopted() {
    let (lava, cli) = lava().await;
    lava.add_job(Job {
        definition: DEFINITION.into(),
        submit_time: jiff::Timestamp::now(),
        ..Job::default()
    });
    lava.fail(Failure::CutAnswer, POST, 1);
    cli.run(["submit", "job.yaml"]).with(0).printed("2\n");
    assert_eq!(lava.submissions(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_nobody_reads_are_said_and_the_wait_goes_on() {
    let (lava, cli) = lava().await;
    ends(&lava, "Incomplete");
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut waiting = cli.command(["submit", "--wait", "job.yaml"]);
    waiting.stdout(full());
    cli.start_command(waiting).ended().with(10).said("submitted job 1");
    let mut alone = cli.command(["submit", "job.yaml"]);
    alone.stdout(full());
    cli.start_command(alone).ended().with(1).said("submitted job 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_is_closed_cancels_like_any_signal() {
    let (lava, cli) = lava().await;
    let running = cli.start(["run", "job.yaml", "--cancel-on", "signal"]);
    running.prints("1");
    running.signal(Signal::SIGHUP);
    running.ended().with(143);
    assert_eq!(lava.cancelled(), ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_cannot_be_had_take_no_verdict_away() {
    let (lava, cli) = lava().await;
    ends(&lava, "Incomplete");
    lava.fail(Failure::Status(404), "/api/v0.2/jobs/1/junit", 1_000);
    let ended = cli.run(["run", "job.yaml", "--junit", "report.xml"]).with(10);
    assert!(ended.last_line().contains("(exit 10)"), "{}", ended.last_line());
    assert!(!cli.folder().join("report.xml").exists());

    // A server that does not answer for a moment is asked again.
    ends(&lava, "Complete");
    lava.fail(Failure::Status(502), "/api/v0.2/jobs/2/suites", 1);
    cli.run(["run", "job.yaml", "--tests"]).with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_lava_has_just_made_is_not_believed_to_be_gone() {
    let (lava, cli) = lava().await;
    ends(&lava, "Complete");
    lava.fail(Failure::Status(404), "GET /api/v0.2/jobs/1/", 2);
    cli.run(["submit", "--wait", "job.yaml"]).with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_may_be_one_of_two_is_left_to_the_person() {
    let (lava, cli) = lava().await;
    lava.fail(Failure::CutAnswer, POST, 1);
    // So that it looks for the job only after a while.
    lava.fail(Failure::Status(502), "/api/v0.2/system/whoami", 2);
    let running = cli.start(["submit", "job.yaml"]);
    eventually("the submission", || lava.submissions() == 1).await;
    // Somebody else with our token submits the same at the same time.
    lava.add_job(Job {
        definition: DEFINITION.into(),
        submit_time: jiff::Timestamp::now(),
        ..Job::default()
    });
    running
        .ended()
        .with(20)
        .printed("")
        .said("it may be one of these: 2, 1");
    assert_eq!(lava.submissions(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_of_which_nothing_is_known_is_not_repeated() {
    let (lava, cli) = lava().await;
    lava.fail(Failure::CloseBefore, POST, 1);
    cli.run(["submit", "job.yaml"])
        .with(20)
        .printed("")
        .said("seems not to be submitted");
    assert_eq!(lava.submissions(), 0);
    let posts = lava
        .requests()
        .iter()
        .filter(|request| request.starts_with("POST"))
        .count();
    assert_eq!(posts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_go_out_is_sent_again() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let uri = format!("http://127.0.0.1:{port}/RPC2");
    let cli = Cli::new().identity("default", &uri, "admin", LavaServer::ADMIN_TOKEN, CLOSED_PORT);
    cli.file("job.yaml", DEFINITION);
    let running = cli.start(["submit", "job.yaml"]);
    running.says("trying again");
    let lava = LavaServer::start_with(Options {
        port,
        ..Options::default()
    })
    .await;
    running.ended().with(0).printed("1\n");
    assert_eq!(lava.submissions(), 1);

    // Nobody is there at all: patience ends.
    drop(lava);
    cli.run(["submit", "job.yaml", "--connect-timeout", "1s"])
        .with(20)
        .printed("");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_xml_rpc_alone_will_do() {
    let lava = LavaServer::start_with(Options {
        rest: false,
        web_socket: false,
        ..Options::default()
    })
    .await;
    let cli = Cli::of(&lava);
    cli.file("job.yaml", DEFINITION);
    cli.file("bad.yaml", "device_type: qemu\njob_name: 3\n");
    cli.run(["submit", "job.yaml"]).with(0).printed("1\n");
    cli.run(["submit", "bad.yaml"]).with(15).said("bad.yaml:2");
    ends(&lava, "Canceled");
    cli.run(["submit", "--wait", "job.yaml"]).with(11).printed("2\n");
    lava.auto_run(None);
    let running = cli.start(["submit", "--cancel-on", "timeout", "--timeout", "1s", "job.yaml"]);
    running.prints("3");
    running.ended().with(124);
    assert_eq!(lava.cancelled(), ["3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_printed_as_it_grows() {
    let (lava, cli) = lava().await;
    let mut running = cli.start(["run", "job.yaml"]);
    running.prints("1");
    lava.set_job("1", "Running", "Unknown");
    lava.add_log("1", "info", "booting");
    lava.add_log("1", "debug", "a detail");
    running.says("booting");
    lava.add_log("1", "target", "login: ✓ \"root\"");
    running.says("login: ✓ \"root\"");
    assert!(running.is_running());
    lava.add_log("1", "target", "the last words");
    lava.set_job("1", "Finished", "Complete");
    let ended = running.ended().with(0).printed("1\n").did_not_say("a detail");
    let at = |text: &str| {
        ended
            .stderr
            .find(text)
            .unwrap_or_else(|| panic!("{text:?} is not in {ended:?}"))
    };
    assert!(
        at("booting") < at("login:") && at("login:") < at("the last words"),
        "{ended:?}"
    );
    assert_eq!(ended.stderr.matches("booting").count(), 1, "{ended:?}");
    assert!(ended.last_line().contains("(exit 0)"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_tests_are_listed_and_saved() {
    let (lava, cli) = lava().await;
    let running = cli.start(["submit", "--tests", "--junit", "report.xml", "job.yaml"]);
    running.prints("1");
    for (name, result) in [
        ("login", "pass"),
        ("network", "fail"),
        ("sound", "skip"),
        ("video", "fail"),
    ] {
        lava.add_test("1", "boot", name, result);
    }
    lava.set_job("1", "Finished", "Complete");
    let ended = running
        .ended()
        .with(14)
        .said("boot/network")
        .said("boot/video")
        .did_not_say("boot/sound")
        .said("2 of 4 tests failed");
    assert!(ended.last_line().contains("exit 14"), "{ended:?}");
    let report = std::fs::read_to_string(cli.folder().join("report.xml")).unwrap();
    assert!(
        report.contains("network") && report.contains("failures=\"2\""),
        "{report}"
    );

    // A job that is Incomplete is that, whatever its tests say; and an own failed step of LAVA's is no test.
    let running = cli.start(["submit", "--tests", "job.yaml"]);
    running.prints("2");
    lava.add_test("2", "boot", "network", "fail");
    lava.set_job("2", "Finished", "Incomplete");
    running.ended().with(10);
    ends(&lava, "Complete");
    cli.run(["submit", "--tests", "job.yaml"]).with(0);
    // Better before the submission than after the job.
    cli.run(["submit", "--junit", "missing/report.xml", "job.yaml"])
        .with(2)
        .printed("");
    assert_eq!(lava.submissions(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_that_is_over_frees_the_board() {
    let (lava, cli) = lava().await;
    let running = cli.start(["run", "--cancel-on", "timeout,signal", "--timeout", "1s", "job.yaml"]);
    running.prints("1");
    lava.set_job("1", "Running", "Unknown");
    running.ended().with(124).printed("1\n").said("job 1 is cancelled");
    assert_eq!(lava.cancelled(), ["1"]);

    // Without the option it goes on.
    let running = cli.start(["run", "--timeout", "1s", "job.yaml"]);
    running.prints("2");
    running.ended().with(124);
    assert_eq!(lava.cancelled(), ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_frees_the_board() {
    let (lava, cli) = lava().await;
    for (id, signal, code) in [("1", Signal::SIGINT, 130), ("2", Signal::SIGTERM, 143)] {
        let running = cli.start(["run", "--cancel-on", "signal", "job.yaml"]);
        running.prints(id);
        running.signal(signal);
        running.ended().with(code).said(&format!("job {id} is cancelled"));
        assert_eq!(lava.cancelled().last().unwrap(), id);
    }
    let running = cli.start(["run", "job.yaml"]);
    running.prints("3");
    running.signal(Signal::SIGTERM);
    running.ended().with(143).said("not cancelled: job 3");
    // One that is over is left alone.
    assert_eq!(lava.cancelled(), ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_while_the_answer_is_on_its_way_loses_no_job() {
    let (lava, cli) = lava().await;
    lava.fail(Failure::Delay(Duration::from_millis(1500)), POST, 1);
    let running = cli.start(["submit", "--cancel-on", "signal", "job.yaml"]);
    eventually("the definition is on its way", || {
        lava.requests().iter().any(|request| request == POST)
    })
    .await;
    assert_eq!(lava.submissions(), 0);
    running.signal(Signal::SIGTERM);
    running.ended().with(143).printed("1\n").said("job 1 is cancelled");
    assert_eq!(lava.submissions(), 1);
    assert_eq!(lava.cancelled(), ["1"]);

    // Nobody asked for a cancellation: then at least it is said which job goes on.
    lava.fail(Failure::Delay(Duration::from_millis(1500)), POST, 1);
    let running = cli.start(["submit", "job.yaml"]);
    eventually("the definition is on its way", || {
        lava.requests().iter().filter(|request| *request == POST).count() == 2
    })
    .await;
    running.signal(Signal::SIGINT);
    running.ended().with(130).printed("2\n").said("job 2");
    assert_eq!(lava.cancelled(), ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_line_tells_all() {
    let (lava, cli) = lava().await;
    let running = cli.start(["submit", "--wait", "job.yaml"]);
    running.prints("1");
    lava.set_job("1", "Running", "Unknown");
    lava.change_job("1", |job| {
        job.error_type = Some("Infrastructure".into());
        job.error_msg = Some("no boot\n prompt".into());
        job.failure_comment = Some("the cable again".into());
    });
    lava.set_job("1", "Finished", "Incomplete");
    let ended = running.ended().with(10);
    let expected = format!(
        "lavabus: job 1 on qemu-01: Incomplete: Infrastructure: no boot prompt: the cable again, \
         http://{}/scheduler/job/1 (exit 10)",
        lava.address()
    );
    assert_eq!(ended.last_line(), expected);
    let again = cli.run(["-q", "wait", "job", "1"]).with(10);
    assert_eq!(again.last_line(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_proxy_stands_between_this_machine_and_itself() {
    let lava = LavaServer::start().await;
    let proxy = "http://127.0.0.1:1";
    let mut cli = Cli::of(&lava);
    for name in [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ] {
        cli = cli.variable(name, proxy);
    }
    cli.file("job.yaml", DEFINITION);
    ends(&lava, "Complete");
    cli.run(["submit", "--wait", "job.yaml"]).with(0).printed("1\n");
    cli.run(["wait", "job", "1"]).with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bus_is_heard_before_the_submission() {
    let lava = LavaServer::start_with(Options {
        web_socket: false,
        ..Options::default()
    })
    .await;
    let publisher = Lab::new().journal().start().await;
    push_events_of(&lava, publisher.intake());
    let cli = Cli::of(&lava).variable("LAVABUS_BUS", publisher.publish());
    cli.file("job.yaml", DEFINITION);
    // It is over before its id is known.
    ends(&lava, "Canceled");
    lava.fail(Failure::Delay(Duration::from_millis(100)), POST, 1);
    cli.run(["submit", "--wait", "job.yaml"]).with(11).printed("1\n");
    // LAVA's interface is gone from the moment that the job is there: the bus alone tells its end.
    lava.auto_run(None);
    let running = cli.start(["submit", "--wait", "job.yaml"]);
    running.prints("2");
    lava.fail(Failure::Status(502), "/api/", 10_000);
    lava.set_job("2", "Finished", "Complete");
    running.ended().with(0).printed("2\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_fails_meanwhile_loses_no_id() {
    let lava = LavaServer::start_with(Options {
        web_socket: false,
        ..Options::default()
    })
    .await;
    let publisher = Lab::new().journal().start().await;
    let cli = Cli::with_bus(&lava, publisher.publish());
    cli.file("job.yaml", DEFINITION);
    lava.fail(Failure::Delay(Duration::from_secs(4)), POST, 1);
    let running = cli.start(["submit", "--wait", "--strict", "job.yaml"]);
    eventually("the definition is on its way", || {
        lava.requests().iter().any(|request| request == POST)
    })
    .await;
    // With another journal the number to resume from is unknown: a gap.
    let stopped = publisher.stop().await;
    for ending in ["", "-wal", "-shm"] {
        let mut name = stopped.database().into_os_string();
        name.push(ending);
        let _ = std::fs::remove_file(name);
    }
    let _publisher = stopped.start().await;
    running.ended().with(22).printed("1\n");
    assert_eq!(lava.submissions(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_that_never_answers_delays_no_submission_for_ever() {
    let lava = LavaServer::start().await;
    lava.fail(Failure::Delay(Duration::from_secs(3600)), "/ws/", 1_000);
    let cli = Cli::new().identity_text(&format!(
        "default: {{uri: {}, username: admin, token: {}, timeout: 1, events: {{uri: \"{CLOSED_PORT}\"}}}}\n",
        lava.uri(),
        LavaServer::ADMIN_TOKEN
    ));
    cli.file("job.yaml", DEFINITION);
    ends(&lava, "Incomplete");
    cli.run(["submit", "--wait", "job.yaml"]).with(10).printed("1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_answers_502_has_not_said_that_there_is_no_job() {
    let (lava, cli) = lava().await;
    lava.fail(Failure::Status(502), POST, 1);
    cli.run(["submit", "job.yaml"])
        .with(20)
        .printed("")
        .said("seems not to be submitted");
    assert_eq!(lava.submissions(), 0);
}
