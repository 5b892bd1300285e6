//! `--explain-from`: for each job that ends Incomplete LAVA is asked why, once and off the events' way, and what it says
//! goes into the stream.

#![allow(clippy::unwrap_used)]

mod lab;

use std::time::Duration;

use jiff::Timestamp;
use lab::{Lab, Message, StockPush, StockSub, eventually, push_events_of};
use lava_publisher::ExplainConfig;
use lava_stand_in::{Failure, Job, LavaServer};
use lavabus_lava::explain::{Explainer, Pace, Question, Step};
use lavabus_lava::{Identity, Server, Token};
use lavabus_protocol::Envelope;
use lavabus_store::{Journal, NewEvent, Options};

const FOR_EVER: usize = 1_000_000;

/// Waits that a test can wait for.
fn pace() -> Pace {
    Pace {
        between_jobs: Duration::from_millis(1),
        retry: Duration::from_millis(1),
        retry_at_most: Duration::from_millis(20),
        pause: Duration::from_millis(20),
        ..Pace::default()
    }
}

fn identity(lava: &LavaServer, token: &str) -> Identity {
    let mut identity = Identity::anonymous(&lava.uri()).unwrap();
    identity.token = Some(Token::new(token));
    identity
}

fn explained_by(lab: Lab, lava: &LavaServer) -> Lab {
    let identity = identity(lava, LavaServer::ADMIN_TOKEN);
    lab.configure(|config| config.explain = Some(ExplainConfig { identity, pace: pace() }))
}

/// A job that runs on qemu-01.
fn job(lava: &LavaServer) -> String {
    lava.add_job(Job {
        state: "Running".into(),
        device: Some("qemu-01".into()),
        start_time: Some("2026-11-21T05:00:00Z".parse().unwrap()),
        end_time: Some("2026-11-21T05:01:05.217939Z".parse().unwrap()),
        ..Job::default()
    })
}

fn asked(lava: &LavaServer, id: &str) -> usize {
    let question = format!("GET /api/v0.2/jobs/{id}/");
    lava.requests().iter().filter(|request| **request == question).count()
}

fn data(message: &Message) -> serde_json::Value {
    serde_json::from_str(message.text(4)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_events_reach_a_subscriber_byte_for_byte() {
    for lab in [Lab::new().journal(), Lab::new()] {
        let lava = LavaServer::start().await;
        let publisher = explained_by(lab, &lava).start().await;
        let sub = StockSub::connect(publisher.publish(), &["org."]);
        publisher.subscribers(1).await;
        push_events_of(&lava, publisher.intake());
        let good = job(&lava);
        lava.set_job(&good, "Finished", "Complete");
        let bad = job(&lava);
        let ended = lava.fail_job(&bad, "Infrastructure", "no power at https://ada:s3cret@pdu/");

        sub.next();
        assert_eq!(sub.next(), Message::new(&ended));
        let sent = &ended[2];
        let (attempt, fault) = (sub.next(), sub.next());
        assert_eq!(
            attempt,
            Message::new(&[
                "org.lavasoftware.attempt",
                attempt.uuid(),
                sent,
                "lavabus",
                r#"{"detail":"no power at https://ada:…@pdu/","device":"qemu-01","error_type":"Infrastructure","exit_code":1,"finished":"2026-11-21T05:01:05.217939+00:00","job_id":2,"outcome":"fail","started":"2026-11-21T05:00:00+00:00"}"#,
            ])
        );
        assert_eq!(
            fault,
            Message::new(&[
                "org.lavasoftware.fault",
                fault.uuid(),
                sent,
                "lavabus",
                r#"{"device":"qemu-01","job":2,"message":"no power at https://ada:…@pdu/","origin":"explain","subject":"device/qemu-01"}"#,
            ])
        );
        // The time of its job's end.
        assert!(attempt.uuid().starts_with("8e503fbe-e568-11f1-"), "{}", attempt.uuid());
        assert_eq!((asked(&lava, &good), asked(&lava, &bad)), (0, 1));
        publisher.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_waited_for() {
    let lava = LavaServer::start().await;
    let publisher = explained_by(Lab::new().journal(), &lava).start().await;
    let sub = StockSub::connect(publisher.publish(), &["org.lavasoftware.fault"]);
    publisher.subscribers(1).await;
    push_events_of(&lava, publisher.intake());
    lava.fail(Failure::Status(502), "/api/", FOR_EVER);
    let ids: Vec<String> = (0..3).map(|_| job(&lava)).collect();
    for id in &ids {
        lava.fail_job(id, "Job", "no kernel");
    }
    eventually("it is tried again", || ids.iter().all(|id| asked(&lava, id) > 2)).await;
    lava.heal();
    let mut subjects: Vec<String> = sub
        .take(3)
        .iter()
        .map(|fault| data(fault)["subject"].to_string())
        .collect();
    subjects.sort();
    assert_eq!(subjects, ["\"job/1\"", "\"job/2\"", "\"job/3\""]);
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_lava_delays_no_event_and_no_end() {
    let lava = LavaServer::start().await;
    let publisher = explained_by(Lab::new().journal(), &lava).start().await;
    let sub = StockSub::connect(publisher.publish(), &[""]);
    publisher.subscribers(1).await;
    push_events_of(&lava, publisher.intake());
    lava.fail(Failure::Delay(Duration::from_secs(3600)), "/api/", FOR_EVER);
    let id = job(&lava);
    let ended = lava.fail_job(&id, "Bug", "slow");
    assert_eq!(sub.next(), Message::new(&ended));
    eventually("LAVA is asked", || asked(&lava, &id) == 1).await;
    let push = StockPush::connect(publisher.intake());
    for number in 0..1000 {
        push.send(&Message::test_event(number));
        assert_eq!(sub.next().number(), number);
    }
    assert_eq!(publisher.counters().explained.get(), 0);
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_what_was_missed_is_asked_for_and_nothing_twice() {
    let lava = LavaServer::start().await;
    // Nobody explains yet.
    let publisher = Lab::new().journal().start().await;
    push_events_of(&lava, publisher.intake());
    let missed = job(&lava);
    lava.fail_job(&missed, "Configuration", "no template");
    publisher.published(1).await;

    let publisher = explained_by(publisher.stop().await, &lava).start().await;
    publisher.published(2).await;
    let later = job(&lava);
    lava.fail_job(&later, "Test", "no shell");
    publisher.published(5).await;

    // All of it is in the journal: the events of the last job come after whatever the look back may ask.
    let publisher = publisher.stop().await.start().await;
    let last = job(&lava);
    lava.fail_job(&last, "Infrastructure", "no power");
    publisher.published(3).await;
    for id in [&missed, &later, &last] {
        assert_eq!(asked(&lava, id), 1, "job {id}");
    }
    let lab = publisher.stop().await;
    let kinds: Vec<String> = lab
        .journal_contents()
        .iter()
        .map(|message| message.topic().rsplit('.').next().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["testjob", "attempt", "fault"].repeat(3));
}

/// The start looks back for an hour, no further.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_is_not_asked_for() {
    let lava = LavaServer::start().await;
    let lab = explained_by(Lab::new().journal(), &lava);
    let [old, recent] = [120, 10].map(|minutes| {
        let id = job(&lava);
        let ended = lava.fail_job(&id, "Infrastructure", "no power");
        (minutes, id, ended)
    });
    let mut journal = Journal::open(lab.database(), &Options::default()).unwrap();
    let mut group = journal.group().unwrap();
    for (minutes, _, ended) in [&old, &recent] {
        let received = Timestamp::now() - Duration::from_secs(minutes * 60);
        let event = NewEvent {
            id: &ended[1].parse().unwrap(),
            received_us: received.as_microsecond(),
            topic: &ended[0],
            sent: &ended[2],
            user: &ended[3],
            data: &ended[4],
            lab: "",
        };
        group.append(&event).unwrap();
    }
    group.commit().unwrap();
    journal.close().unwrap();
    let publisher = lab.start().await;
    publisher.published(2).await;
    assert_eq!((asked(&lava, &old.1), asked(&lava, &recent.1)), (0, 1));
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_bounded_and_counted() {
    let lava = LavaServer::start().await;
    lava.fail(Failure::Status(503), "/api/", FOR_EVER);
    // So small that the reader falls out of it: the rest comes from the journal.
    let lab = explained_by(Lab::new().journal(), &lava).configure(|config| config.ring_bytes = 64 * 1024);
    let publisher = lab.start().await;
    let push = StockPush::connect(publisher.intake());
    for number in 1..=10_000 {
        push.send(&Message::job(number, "Finished", "Incomplete"));
    }
    publisher.published(10_000).await;
    let left_out = || publisher.counters().explain_left_out.get();
    eventually("what does not fit is counted", || left_out() == 9_000).await;
    assert_eq!(publisher.counters().explained.get(), 0);
    publisher.stop().await;
}

/// As it is installed: the token comes from a file, and nothing that is written shows it.
#[tokio::test(flavor = "multi_thread")]
async fn the_real_program_with_a_token_that_is_refused() {
    let lava = LavaServer::start().await;
    let lab = Lab::new().journal();
    let file = lab.folder().join("token");
    std::fs::write(&file, "wrong-token-0123456789\n").unwrap();
    let lab = lab.argument("--explain-from").argument(lava.uri());
    let lab = lab
        .argument("--explain-token-file")
        .argument(file.display().to_string());
    let checked = lab
        .command()
        .arg("--check")
        .stdout(std::process::Stdio::piped())
        .output()
        .unwrap();
    let checked = String::from_utf8(checked.stdout).unwrap();
    assert!(
        checked.contains("explain  asks http://127.0.0.1") && checked.contains("with a token"),
        "{checked}"
    );
    assert!(checked.contains("others can read it: chmod 600"), "{checked}");

    let publisher = lab.start_process();
    publisher.wait_for_log("others can read it");
    push_events_of(&lava, publisher.intake());
    lava.fail_job(&job(&lava), "Bug", "no shell");
    let line = publisher.wait_for_log("LAVA does not say why jobs failed");
    assert!(line.contains("Invalid token"), "{line}");
    assert!(!publisher.log().contains("wrong-token") && !checked.contains("wrong-token"));
    publisher.terminate();
}

/// The questions that a job's event raises.
fn question(frames: &[String; 5]) -> Question {
    let event = Envelope::check(frames.iter().map(String::as_bytes)).unwrap();
    Question::of(&event).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_is_said_once() {
    let lava = LavaServer::start().await;
    let server = Server::new(&identity(&lava, "wrong-token-0123456789")).unwrap();
    let mut explainer = Explainer::new(server, pace());
    let id = job(&lava);
    explainer
        .questions()
        .ask(question(&lava.fail_job(&id, "Job", "no kernel")));
    let step = explainer.next().await;
    assert!(matches!(step, Step::Refused { .. }), "{step:?}");
    assert!(step.to_string().contains("Invalid token"), "{step}");
    assert!(!format!("{step}{explainer:?}").contains("wrong-token"));
    // It is asked again and again, and nothing is said until it is good.
    let again = async {
        let before = asked(&lava, &id);
        eventually("it is asked again", || asked(&lava, &id) >= before + 3).await;
        lava.add_user("explain", "wrong-token-0123456789");
    };
    let (step, ()) = tokio::join!(explainer.next(), again);
    assert!(
        matches!(&step, Step::Explained { events, .. } if events.len() == 2),
        "{step:?}"
    );
    assert_eq!(explainer.next().await, Step::Available);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lava_does_not_show_is_unknown_and_not_asked_for_again() {
    let lava = LavaServer::start().await;
    lava.add_user("explain", "token-0123456789");
    let server = Server::new(&identity(&lava, "token-0123456789")).unwrap();
    let mut explainer = Explainer::new(server, pace());
    let id = job(&lava);
    lava.change_job(&id, |job| job.private = true);
    let ended = question(&lava.fail_job(&id, "Infrastructure", "secret"));
    explainer.questions().ask(ended.clone());
    let Step::Explained { events, .. } = explainer.next().await else {
        panic!("an answer")
    };
    assert_eq!(events.len(), 1);
    assert!(events[0].data.contains("cause unknown") && !events[0].data.contains("secret"));
    explainer.questions().ask(ended);
    assert_eq!(explainer.questions().waiting(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_another_lab_gets_no_events() {
    let (lava, other) = (LavaServer::start().await, LavaServer::start().await);
    let server = Server::new(&identity(&lava, LavaServer::ADMIN_TOKEN)).unwrap();
    let mut explainer = Explainer::new(server, pace());
    // The first job of each.
    let id = job(&lava);
    lava.fail_job(&id, "Infrastructure", "no power");
    job(&other);
    other.change_job(&id, |job| job.submit_time = "2026-11-21T04:00:00Z".parse().unwrap());
    explainer
        .questions()
        .ask(question(&other.fail_job(&id, "Bug", "no shell")));
    assert_eq!(explainer.next().await, Step::Foreign { job: id });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_comes_before_lava_shows_the_end_is_asked_for_again() {
    let lava = LavaServer::start().await;
    let server = Server::new(&identity(&lava, LavaServer::ADMIN_TOKEN)).unwrap();
    let mut explainer = Explainer::new(server, pace());
    let id = job(&lava);
    let ended = lava.fail_job(&id, "Infrastructure", "no power");
    lava.change_job(&id, |job| job.state = "Running".into());
    explainer.questions().ask(question(&ended));
    let shown = async {
        eventually("it is asked again", || asked(&lava, &id) > 2).await;
        lava.change_job(&id, |job| job.state = "Finished".into());
    };
    let (step, ()) = tokio::join!(explainer.next(), shown);
    assert!(
        matches!(&step, Step::Explained { events, .. } if events.len() == 2),
        "{step:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_too_long_an_outage_jobs_are_given_up() {
    let lava = LavaServer::start().await;
    lava.fail(Failure::CloseBefore, "/", FOR_EVER);
    let server = Server::new(&identity(&lava, LavaServer::ADMIN_TOKEN)).unwrap();
    let pace = Pace {
        give_up: Duration::ZERO,
        waiting: 2,
        ..pace()
    };
    let mut explainer = Explainer::new(server, pace);
    for _ in 0..5 {
        let id = job(&lava);
        explainer
            .questions()
            .ask(question(&lava.fail_job(&id, "Infrastructure", "no power")));
    }
    assert_eq!(explainer.next().await, Step::LeftOut { jobs: 3 });
    let step = explainer.next().await;
    assert!(matches!(step, Step::Unavailable { .. }), "{step:?}");
    let step = explainer.next().await;
    assert!(matches!(step, Step::GivenUp { jobs: 2, .. }), "{step:?}");
    assert_eq!(explainer.questions().waiting(), 0);
}
