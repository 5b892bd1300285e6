//! A recording has what the publisher has for its filter, and goes on where it stopped; what is missing, and nobody can
//! give, is a row.

#![allow(clippy::unwrap_used)]

mod lab;

use std::path::Path;

use lab::{Cli, Lab, Message, Recording, RunningCli, RunningPublisher, StockPush, assert_same_events};
use lavabus_store::Reader;
use lavabus_zmtp::Endpoint;
use libzmq_peer::{Kind, Socket};
use nix::sys::signal::Signal;

/// A publisher in this process, its events so far, and recordings beside it.
struct Scene {
    publisher: RunningPublisher,
    push: StockPush,
    sent: Vec<Message>,
    cli: Cli,
}

impl Scene {
    async fn start() -> Scene {
        let publisher = Lab::new().journal().start().await;
        Scene {
            push: StockPush::connect(publisher.intake()),
            publisher,
            sent: Vec::new(),
            cli: Cli::new(),
        }
    }

    /// Sends so many events of jobs, devices and test shells, in turn.
    async fn send(&mut self, count: u64) {
        for _ in 0..count {
            let number = self.sent.len() as u64;
            let message = match number % 3 {
                0 => Message::job(number, "Running", "Unknown"),
                1 => Message::device("qemu-01", "Idle"),
                _ => Message::test_event(number),
            };
            self.push.send(&message);
            self.sent.push(message);
        }
        self.publisher.published(self.sent.len() as u64).await;
    }

    fn recording(&self, name: &str) -> Recording {
        Recording::at(self.cli.folder().join(name))
    }

    fn record(&self, recording: &Recording, arguments: &[&str]) -> RunningCli {
        record(&self.cli, &[self.publisher.publish()], recording.path(), arguments)
    }
}

fn record(cli: &Cli, buses: &[&Endpoint], db: &Path, arguments: &[&str]) -> RunningCli {
    let mut words: Vec<String> = Vec::new();
    for bus in buses {
        words.extend(["--bus".to_owned(), bus.to_string()]);
    }
    words.extend(["record", "--db", &db.display().to_string()].map(str::to_owned));
    words.extend(arguments.iter().map(|&argument| argument.to_owned()));
    cli.start(words)
}

fn stop(recorder: RunningCli) -> lab::Ended {
    recorder.signal(Signal::SIGTERM);
    recorder.ended().with(143)
}

fn jobs(messages: &[Message]) -> Vec<Message> {
    let is_job = |message: &&Message| message.topic().ends_with(".testjob");
    messages.iter().filter(is_job).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_begins_with_all_that_is_kept_and_goes_on_where_it_stopped() {
    let mut scene = Scene::start().await;
    let (all, filtered) = (scene.recording("all.db"), scene.recording("jobs.db"));
    scene.send(300).await;
    for round in 1..=3 {
        let recorders = [
            scene.record(&all, &[]),
            scene.record(&filtered, &["--kind", "job", "--jq", ".data.state == \"Running\""]),
        ];
        scene.send(150).await;
        all.has(300 * round).await;
        filtered.has(100 * round).await;
        for recorder in recorders {
            let ended = stop(recorder).did_not_say("gap");
            ended.did_not_say("repeat").did_not_say("filter");
        }
        scene.send(150).await;
    }
    scene
        .record(&all, &["--count", "150"])
        .ended()
        .with(0)
        .said("150 events recorded");
    scene
        .record(&filtered, &["--count", "50", "--kind", "job"])
        .ended()
        .with(0)
        .said("the filter is another");
    assert_same_events(&all.messages(), &scene.sent);
    assert_same_events(&filtered.messages(), &jobs(&scene.sent));
    assert_eq!(filtered.sources()[0].filter, "--kind \"testjob\"");
    all.assert_projected();
    assert_eq!((all.gaps(), filtered.gaps()), (vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_after_exactly_as_many_as_asked_for() {
    let mut scene = Scene::start().await;
    let recording = scene.recording("r.db");
    scene.send(60).await;
    for (count, until) in [(7, 7), (1, 8), (40, 48)] {
        let said = format!("{count} event");
        scene
            .record(&recording, &["--count", &count.to_string()])
            .ended()
            .with(0)
            .said(&said);
        assert_same_events(&recording.messages(), &scene.sent[..until]);
    }
    scene
        .record(&recording, &["--count", "100", "--timeout", "1s"])
        .ended()
        .with(124);
    scene
        .record(&recording, &["--for", "1s"])
        .ended()
        .with(0)
        .said("0 events recorded");
    assert_same_events(&recording.messages(), &scene.sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_goes_on_from_its_own_place() {
    let mut scene = Scene::start().await;
    let (recording, copy) = (scene.recording("r.db"), scene.recording("copy.db"));
    scene.send(30).await;
    scene.record(&recording, &["--count", "30"]).ended().with(0);
    std::fs::copy(recording.path(), copy.path()).unwrap();
    scene.send(30).await;
    scene.record(&recording, &["--count", "30"]).ended().with(0);
    scene.send(30).await;
    scene
        .record(&copy, &["--count", "60"])
        .ended()
        .with(0)
        .did_not_say("gap");
    assert_same_events(&copy.messages(), &scene.sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_does_not_know_the_place_is_a_gap() {
    let mut scene = Scene::start().await;
    let recording = scene.recording("r.db");
    scene.send(30).await;
    scene.record(&recording, &["--count", "30"]).ended().with(0);
    // Its database is lost.
    let lab = scene.publisher.stop().await;
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", lab.database().display()));
    }
    scene.publisher = lab.start().await;
    scene.push = StockPush::connect(scene.publisher.intake());
    let before = std::mem::take(&mut scene.sent);
    scene.send(6).await;
    // It is told once, however often it is begun before anything comes.
    for _ in 0..2 {
        let recorder = scene.record(&recording, &["--topic", "nothing", "-v"]);
        recorder.says("connected to");
        lab::eventually("the gap is written", || recording.gaps().len() == 1).await;
        stop(recorder);
    }
    let recorder = scene.record(&recording, &[]);
    scene.send(6).await;
    recording.has(36).await;
    stop(recorder);
    let gaps = recording.gaps();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(
        (gaps[0].after_seq, gaps[0].reason.as_str(), gaps[0].lab.as_str()),
        (30, "unknown_cursor", "")
    );
    assert!(gaps[0].from_us <= gaps[0].to_us);
    assert_same_events(&recording.messages()[..30], &before);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_buses_go_into_one_database_each_with_its_name_and_place() {
    let (mut one, mut other) = (Scene::start().await, Scene::start().await);
    let recording = one.recording("r.db");
    let buses = [
        format!("--bus=lab-a={}", one.publisher.publish()),
        format!("--bus=lab-b={}", other.publisher.publish()),
    ];
    let db = recording.path().display().to_string();
    let arguments = || buses.iter().map(String::as_str).chain(["record", "--db", &db]);
    for round in 1..=3 {
        one.send(30).await;
        other.send(60).await;
        let recorder = one.cli.start(arguments());
        recording.has(90 * round).await;
        stop(recorder).did_not_say("gap");
    }
    let events = recording.events();
    for (name, scene) in [("lab-a", &one), ("lab-b", &other)] {
        let of_lab = events.iter().filter(|(lab, _)| lab == name);
        let of_lab: Vec<_> = of_lab.map(|(_, message)| message.clone()).collect();
        assert_same_events(&of_lab, &scene.sent);
    }
    let labs: Vec<_> = recording.sources().into_iter().map(|source| source.lab).collect();
    assert_eq!(labs, ["lab-a", "lab-b"]);

    // One that is away for too long does not end the recording of the other.
    let recorder = one.cli.start(arguments().chain(["--max-outage", "0s", "-v"]));
    recorder.says("connected to lab-a");
    recorder.says("connected to lab-b");
    let lab = other.publisher.stop().await;
    recorder.says("is tried again");
    one.send(3).await;
    recording.has(273).await;
    other.publisher = lab.start().await;
    other.push = StockPush::connect(other.publisher.intake());
    other.push.send(&Message::test_event(7));
    recording.has(274).await;
    stop(recorder).did_not_say("gap");
}

/// libzmq's PUB.
fn plain(endpoint: &str) -> (Socket, Endpoint) {
    let socket = Socket::new(Kind::Pub).unwrap();
    // The port of one that has just gone may be taken for a moment.
    while socket.bind(endpoint).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let endpoint = socket.last_endpoint().unwrap().parse().unwrap();
    (socket, endpoint)
}

/// Sends events until one of them is recorded: nobody knows when a stock SUB is heard.
async fn send_until_recorded(socket: &Socket, recording: &Recording) {
    let mut sent = Vec::new();
    lab::eventually("an event is recorded", || {
        let event = Message::test_event(1);
        socket.send(&event.0).unwrap();
        sent.push(event.uuid().parse().unwrap());
        let reader = Reader::open(recording.path());
        reader.is_ok_and(|reader| sent.iter().any(|id| reader.by_id(id).unwrap().is_some()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_break_of_a_stock_publisher_is_a_gap() {
    let cli = Cli::new();
    let recording = Recording::at(cli.folder().join("r.db"));
    let (socket, endpoint) = plain("tcp://127.0.0.1:*");
    let recorder = record(&cli, &[&endpoint], recording.path(), &[]);
    recorder.says("only what happens from now on is recorded");
    send_until_recorded(&socket, &recording).await;
    assert_eq!(recording.gaps(), []);
    let mut socket = socket;
    for breaks in 1..=2 {
        drop(socket);
        recorder.says("no connection");
        (socket, _) = plain(&endpoint.to_string());
        send_until_recorded(&socket, &recording).await;
        assert_eq!(recording.gaps().len(), breaks);
    }
    stop(recorder).said("2 gaps");
    let recorder = record(&cli, &[&endpoint], recording.path(), &[]);
    recorder.says("what it sent meanwhile is missing");
    send_until_recorded(&socket, &recording).await;
    // Killed: the next run finds its beginning in what is there.
    drop(recorder);
    let recorder = record(&cli, &[&endpoint], recording.path(), &[]);
    send_until_recorded(&socket, &recording).await;
    stop(recorder);
    let gaps = recording.gaps();
    assert_eq!(gaps.len(), 4, "{gaps:?}");
    for gap in &gaps {
        assert_eq!(gap.reason, "plain_publisher");
        assert!(gap.from_us <= gap.to_us, "{gap:?}");
    }
    assert!(gaps.windows(2).all(|pair| pair[0].to_us <= pair[1].from_us), "{gaps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_job_failed_is_recorded_beside_its_events() {
    let lava = lava_stand_in::LavaServer::start().await;
    let publisher = Lab::new().journal().start().await;
    lab::push_events_of(&lava, publisher.intake());
    let fail = |cause: &str| {
        let job = lava.add_job(lava_stand_in::Job {
            state: "Running".into(),
            device: Some("qemu-01".into()),
            ..Default::default()
        });
        lava.fail_job(&job, "Infrastructure", cause);
    };
    let folder = tempfile::tempdir().unwrap();
    let recording = Recording::at(folder.path().join("x.db"));
    let record = |count: &str| {
        let bus = publisher.publish().to_string();
        std::process::Command::new(env!("CARGO_BIN_EXE_lavabus"))
            .args([
                "record",
                "--explain",
                "--bus",
                &bus,
                "--timeout",
                "60s",
                "--count",
                count,
                "--db",
            ])
            .arg(recording.path())
            .env("LAVABUS_URI", lava.uri())
            .env("LAVABUS_TOKEN", lava_stand_in::LavaServer::ADMIN_TOKEN)
            .status()
            .unwrap()
    };
    fail("no power");
    // The job's own two events, the attempt and the fault.
    assert_eq!(tokio::task::block_in_place(|| record("3")).code(), Some(0));
    let topics: Vec<String> = recording
        .messages()
        .iter()
        .map(|message| message.text(0).to_owned())
        .collect();
    assert!(
        topics[1].ends_with(".attempt") && topics[2].ends_with(".fault"),
        "{topics:?}"
    );
    assert!(recording.messages()[2].text(4).contains("no power"));

    // One that failed meanwhile is explained too, and nothing twice.
    fail("no net");
    assert_eq!(tokio::task::block_in_place(|| record("3")).code(), Some(0));
    assert_eq!(recording.messages().len(), 6);
    publisher.stop().await;
}
