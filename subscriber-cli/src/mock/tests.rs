#![allow(clippy::unwrap_used)]

use clap::Parser as _;
use lavabus_protocol::{Envelope, Record};
use lavabus_zmtp::{BindOptions, HeartbeatConfig, Limits, Listener, PullConnection, Received, frames};

use super::*;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn arguments(flags: &[&str]) -> Arguments {
    Line::try_parse_from([&["mock"], flags].concat())
        .map_err(|error| error.to_string())
        .unwrap()
        .arguments
}

fn context() -> Context {
    Context {
        quiet: true,
        ..Context::default()
    }
}

async fn listen() -> (Listener, String) {
    let listener = Listener::bind(&"tcp://127.0.0.1:0".parse().unwrap(), &BindOptions::default())
        .await
        .unwrap();
    let endpoint = listener.local_endpoint().to_string();
    (listener, endpoint)
}

async fn accept(listener: &Listener) -> PullConnection {
    let stream = listener.accept().await.unwrap();
    PullConnection::accept(stream, &Limits::default(), &HeartbeatConfig::default())
        .await
        .unwrap()
}

/// What comes in until the producer closes, or until there are `enough`.
async fn receive(pull: &mut PullConnection, enough: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < enough {
        match pull.next().await {
            Ok(Received::Messages(run)) => {
                for message in run.messages() {
                    records.push(Record::from(Envelope::check(frames(message)).unwrap()));
                }
            }
            Ok(Received::Closed) => break,
            other => panic!("{other:?}"),
        }
    }
    records
}

#[tokio::test]
async fn a_publisher_gets_exactly_the_events_of_the_lab() {
    let (listener, endpoint) = listen().await;
    let receiving = tokio::spawn(async move { receive(&mut accept(&listener).await, usize::MAX).await });
    let flags = [
        "--to",
        &endpoint,
        "--seed",
        "5",
        "--start",
        "2026-11-21T05:01:05Z",
        "--count",
        "3000",
        "--no-wait",
    ];
    assert_eq!(run(arguments(&flags), &context()).await.unwrap(), Exit::Success);

    let start = "2026-11-21T05:01:05Z".parse().unwrap();
    let lab = Lab::new(LabOptions {
        seed: 5,
        start,
        ..LabOptions::default()
    });
    let expected: Vec<Record> = lab.take(3000).map(|event| event.record).collect();
    assert_eq!(receiving.await.unwrap(), expected);
}

#[tokio::test]
async fn a_lost_intake_is_found_again() {
    let (listener, endpoint) = listen().await;
    let receiving = async {
        let first = receive(&mut accept(&listener).await, 1).await;
        let second = receive(&mut accept(&listener).await, 1).await;
        (first, second)
    };
    let context = context();
    let (first, second) = tokio::select! {
        result = run(arguments(&["--to", &endpoint, "--rate", "300"]), &context) => panic!("{result:?}"),
        received = receiving => received,
    };
    assert!(second[0].uuid.key() > first[0].uuid.key());
}

#[tokio::test]
async fn without_an_intake_it_ends_with_20() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = format!("ipc://{}/none", folder.path().display());
    let flags = ["--to", &endpoint, "--count", "1", "--connect-timeout", "0s"];
    let failure = run(arguments(&flags), &context()).await.unwrap_err();
    assert_eq!(failure.exit(), Exit::NoConnection);
    assert!(failure.to_string().contains("start lava-publisher"), "{failure}");
}

#[tokio::test]
async fn another_machine_gets_nothing_without_more_words() {
    let failure = run(arguments(&["--to", "tcp://192.0.2.1:5500"]), &context())
        .await
        .unwrap_err();
    assert_eq!(failure.exit(), Exit::Usage);
    assert!(failure.to_string().contains("--yes-really"), "{failure}");
}

#[tokio::test]
async fn no_event_is_sent_before_it_is_due() {
    let (listener, endpoint) = listen().await;
    let receiving = tokio::spawn(async move { receive(&mut accept(&listener).await, usize::MAX).await });
    let producer = Producer::connect(endpoint.parse().unwrap(), Duration::from_secs(60))
        .await
        .unwrap();
    let mut outlet = Outlet::Producer(Box::new(producer));
    let start: Timestamp = "2026-11-21T05:01:05Z".parse().unwrap();
    let until = start + SignedDuration::from_millis(300);
    let lab = Lab::new(LabOptions {
        rate: 200.0,
        start,
        ..LabOptions::default()
    });
    let due: Vec<_> = lab.clone().map(|event| event.at).take_while(|at| *at < until).collect();

    let began = std::time::Instant::now();
    let limit = Limit {
        count: None,
        until: Some(until),
    };
    let mut sent = 0;
    let check = |progress: Progress| {
        sent = progress.sent as usize;
        let last = due[sent - 1].duration_since(start);
        assert!(began.elapsed() >= Duration::try_from(last).unwrap());
    };
    play(lab, start, true, limit, &mut outlet, check).await.unwrap();
    assert_eq!(sent, due.len());
    drop(outlet);
    assert_eq!(receiving.await.unwrap().len(), due.len());
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for flags in [
        ["--rate", "0"],
        ["--rate", "nan"],
        ["--devices", "0"],
        ["--workers", "70000"],
        ["--count", "0"],
        ["--topic", "@seq"],
        ["--to", "lava.events"],
        ["--profile", "wild"],
    ] {
        assert!(
            Line::try_parse_from([&["mock"], &flags[..]].concat()).is_err(),
            "{flags:?}"
        );
    }
    assert_eq!(arguments(&["--to", "-"]).to, Target::Stdout);
}
