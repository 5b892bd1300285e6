#![allow(clippy::unwrap_used)]

use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use clap::Parser as _;
use libzmq_peer::{Kind, Socket, SocketOption};

use super::*;

/// A plain forwarder of libzmq, which may be made to misbehave.
struct Forwarder {
    intake: String,
    bus: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// `forward` is given each message of a run with its index, and what it returns is sent.
    fn start(mut forward: impl FnMut(u64, Vec<Vec<u8>>) -> Vec<Vec<Vec<u8>>> + Send + 'static) -> Forwarder {
        let (pull, publish) = (Socket::new(Kind::Pull).unwrap(), Socket::new(Kind::Pub).unwrap());
        publish.set(SocketOption::SndHwm, 0).unwrap();
        pull.bind("tcp://127.0.0.1:*").unwrap();
        publish.bind("tcp://127.0.0.1:*").unwrap();
        let (intake, bus) = (pull.last_endpoint().unwrap(), publish.last_endpoint().unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok(message) = pull.recv_timeout(Duration::from_millis(20)) else {
                    continue;
                };
                let messages = match message::read(&message[4]) {
                    Some((index, _)) => forward(index, message),
                    None => vec![message],
                };
                for message in messages {
                    publish.send(&message).unwrap();
                }
            }
        });
        Forwarder {
            intake,
            bus,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(())) | None) || std::thread::panicking());
    }
}

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn arguments(to: &str, flags: &[&str]) -> Arguments {
    let line = Line::try_parse_from([&["bench", "--to", to], flags].concat());
    line.map_err(|error| error.to_string()).unwrap().arguments
}

fn context(bus: &str) -> Context {
    Context {
        buses: vec![bus.parse().unwrap()],
        quiet: true,
        ..Context::default()
    }
}

async fn bench(forwarder: &Forwarder, flags: &[&str]) -> Report {
    let context = context(&forwarder.bus);
    let arguments = arguments(&forwarder.intake, flags);
    Box::pin(measure(&arguments, context.buses[0].endpoint().unwrap(), &context))
        .await
        .unwrap()
}

fn figures(report: &Report) -> (u64, u64, u64) {
    (report.lost, report.repeated, report.out_of_order)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_run_wide_and_narrow() {
    let forwarder = Forwarder::start(|_, message| vec![message]);
    let report = bench(&forwarder, &["--events", "1000", "--subscribers", "3"]).await;
    assert_eq!(figures(&report), (0, 0, 0));
    assert_eq!(report.received, [1000, 1000, 1000]);
    assert!(report.seconds > 0.0 && report.latency_us.is_some());
    assert!(report.deliveries_per_second > 2.9 * report.events_per_second);

    let report = bench(&forwarder, &["--events", "1000", "--subscribers", "3", "--narrow"]).await;
    assert_eq!(figures(&report), (0, 0, 0));
    assert_eq!(report.received, [334, 333, 333]);

    let report = bench(&forwarder, &["--events", "50", "--rate", "500", "--size", "2000"]).await;
    assert_eq!((report.received[0], report.size), (50, 2000));
    assert!(report.seconds > 0.09, "the last is due after 98 ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_repeated_and_late_is_counted() {
    let mut held = Vec::new();
    let forwarder = Forwarder::start(move |index, message| match index {
        10 | 20 | 99 => vec![],
        30 => vec![message.clone(), message],
        40 => {
            held.push(message);
            vec![]
        }
        45 => [vec![message], held.split_off(0)].concat(),
        _ => vec![message],
    });
    let flags = ["--events", "100", "--subscribers", "2", "--patience", "1s"];
    let report = bench(&forwarder, &flags).await;
    assert_eq!(figures(&report), (6, 2, 2));
    assert_eq!(report.received, [97, 97]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_says_whether_something_was_lost() {
    let forwarder = Forwarder::start(|_, message| vec![message]);
    let flags = ["--events", "10", "--patience", "1s"];
    let exit = run(arguments(&forwarder.intake, &flags), &context(&forwarder.bus))
        .await
        .unwrap();
    assert_eq!(exit, Exit::Success);
    let lossy = Forwarder::start(|_, _| vec![]);
    let exit = run(arguments(&lossy.intake, &flags), &context(&lossy.bus))
        .await
        .unwrap();
    assert_eq!(exit, Exit::Gap);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_publisher_it_ends_with_20() {
    let forwarder = Forwarder::start(|_, message| vec![message]);
    let other = Forwarder::start(|_, message| vec![message]);
    let flags = ["--events", "10", "--patience", "200ms"];
    let exit = async |to: &str, bus: &str| {
        let failure = run(arguments(to, &flags), &context(bus)).await.unwrap_err();
        (failure.exit(), failure.to_string())
    };
    // Nobody listens on port 1; two publishers that have nothing to do with each other; PUSH to a PUB.
    assert_eq!(exit("tcp://127.0.0.1:1", &forwarder.bus).await.0, Exit::NoConnection);
    assert_eq!(exit(&forwarder.intake, "tcp://127.0.0.1:1").await.0, Exit::NoConnection);
    let (code, text) = exit(&forwarder.intake, &other.bus).await;
    assert_eq!(code, Exit::NoConnection);
    assert!(text.contains("1 of 1 subscribers received nothing"), "{text}");
    assert_eq!(exit(&forwarder.bus, &forwarder.bus).await.0, Exit::NoConnection);
}

#[tokio::test]
async fn another_machine_is_not_measured_without_more_words() {
    for (to, bus) in [
        ("tcp://192.0.2.1:1", "tcp://127.0.0.1:1"),
        ("tcp://127.0.0.1:1", "tcp://192.0.2.1:1"),
    ] {
        let failure = run(arguments(to, &[]), &context(bus)).await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
    }
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for flags in [
        ["--events", "0"],
        ["--rate", "-1"],
        ["--subscribers", "0"],
        ["--size", "10"],
        ["--size", "100000"],
    ] {
        assert!(
            Line::try_parse_from([&["bench"], &flags[..]].concat()).is_err(),
            "{flags:?}"
        );
    }
}
