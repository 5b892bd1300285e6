//! The command as a whole, over files and over a libzmq publisher.
#![allow(clippy::unwrap_used)]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use lavabus_client::new_event;
use lavabus_protocol::{ControlMessage, Epoch, GapReason, Position, Record};
use libzmq_peer::{Kind, Socket, SocketOption};

use super::run_to;
use crate::arguments::{Arguments, Command};
use crate::exit::Exit;
use crate::failure::Failure;

const CAPTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/lava-capture.jsonl");

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn listen_into(line: &[&str], out: Box<dyn Write + Send>) -> Result<Exit, Failure> {
    let command_line = ["lavabus", "--quiet", "listen"].iter().chain(line);
    let arguments = Arguments::read(command_line).unwrap();
    let context = arguments.global.context();
    let Command::Listen(listen) = arguments.command else {
        panic!()
    };
    run_to(listen, &context, out).await
}

async fn listen(line: &[&str]) -> (Result<Exit, Failure>, String) {
    let output = Output::default();
    let result = listen_into(line, Box::new(output.clone())).await;
    let bytes = output.0.lock().unwrap().clone();
    (result, String::from_utf8(bytes).unwrap())
}

/// What `--from` the capture prints: exit 0, and how many lines.
async fn count(line: &[&str]) -> usize {
    let line = [&["--from", CAPTURE], line].concat();
    let (result, output) = listen(&line).await;
    assert_eq!(result.unwrap(), Exit::Success);
    output.lines().count()
}

fn capture() -> Vec<Record> {
    let text = std::fs::read_to_string(CAPTURE).unwrap();
    text.lines().map(|line| Record::from_json_line(line).unwrap()).collect()
}

#[tokio::test]
async fn every_filter_and_its_negation_over_a_file() {
    let all = capture().len();
    assert_eq!(count(&[]).await, all);
    for (flag, value) in [
        ("kind", "job"),
        ("device", "qemu-01"),
        ("device-type", "qemu"),
        ("worker", "worker-01"),
        ("submitter", "admin"),
        ("state", "finished"),
        ("health", "~^in"),
        ("topic", "org.example.lab.device"),
        ("user", "lavaserver"),
        ("job", "1"),
        ("message", "~."),
    ] {
        let positive = count(&[&format!("--{flag}"), value]).await;
        let negative = count(&[&format!("--not-{flag}"), value]).await;
        assert_eq!(positive + negative, all, "{flag}");
        assert!(positive > 0 && negative > 0, "{flag}: {positive}");
    }
    assert_eq!(
        count(&["--kind", "job", "--state", "finished"]).await,
        count(&[
            "--jq",
            "(.topic | endswith(\".testjob\")) and .data.state == \"Finished\""
        ])
        .await
    );
}

#[tokio::test]
async fn counts_times_and_ends_over_a_file() {
    let all = capture().len();
    assert_eq!(count(&["--count", "3"]).await, 3);
    assert_eq!(count(&["--count", "100000"]).await, all);
    let (_, last) = listen(&["--from", CAPTURE, "--last", "2", "-o", "json"]).await;
    let tail: Vec<_> = capture()[all - 2..].iter().map(Record::to_json_line).collect();
    assert_eq!(last.lines().collect::<Vec<_>>(), tail);
    let before = count(&["--until", "2026-11-21T05:02:00Z"]).await;
    let after = count(&["--since", "2026-11-21T05:02:00Z"]).await;
    assert!(before > 0 && after > 0);
    assert_eq!(before + after, all);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_and_a_reader_that_goes() {
    let (result, _) = listen(&["--from", "/nowhere/at/all"]).await;
    assert_eq!(result.unwrap_err().exit(), Exit::Usage);
    let failure = listen_into(&["--from", CAPTURE], Box::new(Closed)).await.unwrap_err();
    assert!(failure.is_silent());
}

#[tokio::test]
async fn lines_that_are_no_events_are_passed_over() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let good = capture()[0].to_json_line();
    std::fs::write(
        file.path(),
        [good.as_bytes(), b"\n\n{}\nnonsense\n\xff\xfe\n", good.as_bytes()].concat(),
    )
    .unwrap();
    let (result, output) = listen(&["--from", file.path().to_str().unwrap(), "-o", "json"]).await;
    assert_eq!(result.unwrap(), Exit::Success);
    assert_eq!(output, format!("{good}\n{good}\n"));
}

/// A publisher whose every message is written by the test, on a thread of its own.
struct Publisher(Socket);

impl Publisher {
    fn start(script: impl FnOnce(&Publisher) + Send + 'static) -> String {
        let socket = Socket::new(Kind::XPub).unwrap();
        socket.set(SocketOption::Linger, 0).unwrap();
        socket.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = socket.last_endpoint().unwrap();
        std::thread::spawn(move || {
            let publisher = Publisher(socket);
            script(&publisher);
            // It stays until nobody needs it.
            while publisher.0.recv().is_ok() {}
        });
        endpoint
    }

    fn subscriptions(&self) -> Vec<String> {
        let mut subscriptions = Vec::new();
        while subscriptions.last().is_none_or(|last| last != "@start") {
            let message = self.0.recv().unwrap();
            let (verb, prefix) = message[0].split_first().unwrap();
            if *verb == 1 {
                subscriptions.push(String::from_utf8(prefix.to_vec()).unwrap());
            }
        }
        subscriptions
    }

    fn head(&self, head: u64, position: u64) {
        let (head, position) = (at(head), Some(at(position)));
        let message = ControlMessage::Head {
            head,
            oldest: Some(1),
            skipped: 0,
            position,
        };
        self.0.send(&message.encode()).unwrap();
    }

    fn send(&self, record: &Record, position: Option<u64>) {
        let uuid = record.uuid.to_string();
        let position = position.map(|seq| at(seq).to_string());
        let mut frames = vec![
            record.topic.as_str(),
            &uuid,
            &record.datetime,
            &record.username,
            &record.data,
        ];
        frames.extend(position.as_deref());
        self.0.send(&frames).unwrap();
    }
}

fn at(seq: u64) -> Position {
    Position {
        epoch: Epoch::from_u32(0x5f0e_11d2),
        seq,
    }
}

fn event() -> Record {
    new_event("lab.event", "ann", r#"{"message": "m", "job": 7}"#).unwrap()
}

#[tokio::test]
async fn so_many_events_of_a_bus_and_then_the_end() {
    let endpoint = Publisher::start(|publisher| {
        publisher.subscriptions();
        publisher.head(0, 0);
        for seq in 1..=5 {
            publisher.send(&event(), Some(seq));
        }
    });
    let (result, output) = listen(&["--bus", &endpoint, "--count", "3", "-o", "template={{ cursor }}"]).await;
    assert_eq!(result.unwrap(), Exit::Success);
    let positions: Vec<_> = output.lines().map(|line| line.rsplit_once('/').unwrap().0).collect();
    assert_eq!(positions, ["5f0e11d2/1", "5f0e11d2/2", "5f0e11d2/3"]);
}

#[tokio::test]
async fn the_time_is_over() {
    let endpoint = Publisher::start(|publisher| {
        publisher.subscriptions();
        publisher.send(&event(), None);
    });
    let (result, _) = listen(&["--bus", &endpoint, "--timeout", "100ms"]).await;
    assert_eq!(result.unwrap(), Exit::Success);
    let (result, _) = listen(&["--bus", &endpoint, "--timeout", "100ms", "--count", "9"]).await;
    assert_eq!(result.unwrap(), Exit::Timeout);
}

#[tokio::test]
async fn a_cursor_file_is_written_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cursor");
    let file = file.to_str().unwrap();
    let seen = event();
    let sent = seen.clone();
    let endpoint = Publisher::start(move |publisher| {
        assert!(
            !publisher
                .subscriptions()
                .iter()
                .any(|option| option.starts_with("@after"))
        );
        publisher.send(&sent, Some(5));
    });
    let (result, _) = listen(&["--bus", &endpoint, "--count", "1", "--cursor-file", file]).await;
    assert_eq!(result.unwrap(), Exit::Success);
    let cursor = std::fs::read_to_string(file).unwrap();
    assert_eq!(cursor, format!("5f0e11d2/5/{}\n", seen.uuid));

    let (sender, subscriptions) = std::sync::mpsc::channel();
    let endpoint = Publisher::start(move |publisher| {
        sender.send(publisher.subscriptions()).unwrap();
        publisher.send(&event(), Some(6));
    });
    listen(&["--bus", &endpoint, "--count", "1", "--cursor-file", file])
        .await
        .0
        .unwrap();
    let option = format!("@after:5f0e11d2/5/{}", seen.uuid);
    assert!(subscriptions.recv().unwrap().contains(&option));
    assert!(std::fs::read_to_string(file).unwrap().starts_with("5f0e11d2/6/"));
}

#[tokio::test]
async fn a_gap_ends_it_only_under_strict() {
    let gap = |publisher: &Publisher| {
        publisher.subscriptions();
        let reason = GapReason::RingOverrun;
        let message = ControlMessage::Gap {
            from: Some(at(1)),
            to: Some(at(4)),
            reason,
        };
        publisher.0.send(&message.encode()).unwrap();
        publisher.send(&event(), Some(5));
    };
    let endpoint = Publisher::start(gap);
    let (result, output) = listen(&["--bus", &endpoint, "--count", "1"]).await;
    assert_eq!((result.unwrap(), output.lines().count()), (Exit::Success, 1));
    let endpoint = Publisher::start(gap);
    let failure = listen(&["--bus", &endpoint, "--count", "1", "--strict"])
        .await
        .0
        .unwrap_err();
    assert_eq!(failure.exit(), Exit::Gap);
    assert!(failure.to_string().contains("ring_overrun"), "{failure}");
}

#[tokio::test]
async fn the_past_is_asked_for_by_a_cursor_of_that_time_and_the_rest_of_it_dropped() {
    let (sender, subscriptions) = std::sync::mpsc::channel();
    let mut old = event();
    old.datetime = "2020-01-01T00:00:00+00:00".to_owned();
    let endpoint = Publisher::start(move |publisher| {
        sender.send(publisher.subscriptions()).unwrap();
        let reason = GapReason::UnknownCursor;
        publisher
            .0
            .send(
                &ControlMessage::Gap {
                    from: None,
                    to: Some(at(3)),
                    reason,
                }
                .encode(),
            )
            .unwrap();
        publisher.send(&old, Some(4));
        publisher.send(&event(), Some(5));
    });
    let line = [
        "--bus",
        &endpoint,
        "--since",
        "-10m",
        "--count",
        "1",
        "--strict",
        "-o",
        "template={{ cursor }}",
    ];
    let (result, output) = listen(&line).await;
    assert_eq!(result.unwrap(), Exit::Success);
    assert!(output.starts_with("5f0e11d2/5/"), "{output}");
    let after = subscriptions
        .recv()
        .unwrap()
        .into_iter()
        .find_map(|option| Some(option.strip_prefix("@after:")?.to_owned()));
    let id: lavabus_protocol::EventId = after.unwrap().parse().unwrap();
    let age = jiff::Timestamp::now().duration_since(id.time().unwrap());
    assert!((600..700).contains(&age.as_secs()), "{age:?}");
}

#[tokio::test]
async fn the_last_events_come_before_the_next() {
    let endpoint = Publisher::start(|publisher| {
        publisher.subscriptions();
        publisher.head(4, 0);
        for seq in 1..=4 {
            publisher.send(&event(), Some(seq));
        }
        publisher.head(4, 4);
        publisher.send(&event(), Some(5));
    });
    let line = [
        "--bus",
        &endpoint,
        "--last",
        "2",
        "--count",
        "3",
        "-o",
        "template={{ cursor }}",
    ];
    let (result, output) = listen(&line).await;
    assert_eq!(result.unwrap(), Exit::Success);
    let positions: Vec<_> = output.lines().map(|line| line.rsplit_once('/').unwrap().0).collect();
    assert_eq!(positions, ["5f0e11d2/3", "5f0e11d2/4", "5f0e11d2/5"]);
}

#[tokio::test]
async fn the_last_events_are_read_from_the_publishers_own_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.db");
    let mut journal = lavabus_store::Journal::open(&path, &lavabus_store::Options::default()).unwrap();
    let records = capture();
    let mut group = journal.group().unwrap();
    for record in &records[..20] {
        let event = lavabus_store::NewEvent {
            id: &record.uuid,
            received_us: 1_795_237_265_222_338,
            topic: &record.topic,
            sent: &record.datetime,
            user: &record.username,
            data: &record.data,
            lab: "",
        };
        group.append(&event).unwrap();
    }
    group.commit().unwrap();
    let epoch = lavabus_store::Reader::open(&path).unwrap().epoch().unwrap();
    for same in [true, false] {
        let epoch = if same { epoch } else { Epoch::from_u32(1) };
        let next = records[20].clone();
        let endpoint = Publisher::start(move |publisher| {
            let position = |seq| Some(Position { epoch, seq });
            let head = ControlMessage::Head {
                head: Position { epoch, seq: 20 },
                oldest: Some(1),
                skipped: 0,
                position: position(20),
            };
            // If the journal is another's, a second connection asks for the past.
            for _ in 0..if same { 1 } else { 2 } {
                publisher.subscriptions();
                publisher.0.send(&head.encode()).unwrap();
            }
            let uuid = next.uuid.to_string();
            let number = Position { epoch, seq: 21 }.to_string();
            let frames = [
                next.topic.as_str(),
                &uuid,
                &next.datetime,
                &next.username,
                &next.data,
                &number,
            ];
            publisher.0.send(&frames).unwrap();
        });
        let count = if same { "3" } else { "1" };
        let line = [
            "--bus",
            &endpoint,
            "--last",
            "2",
            "--db",
            path.to_str().unwrap(),
            "--count",
            count,
            "-o",
            "raw",
        ];
        let (result, output) = listen(&line).await;
        assert_eq!(result.unwrap(), Exit::Success);
        let uuids: Vec<_> = output
            .lines()
            .map(|line| Record::from_json_line(line).unwrap().uuid)
            .collect();
        let expected: Vec<_> = records[if same { 18 } else { 20 }..21]
            .iter()
            .map(|record| record.uuid)
            .collect();
        assert_eq!(uuids, expected);
    }
    let line = ["--bus", "ipc:///nowhere", "--last", "2", "--db", "/nowhere/at/all"];
    assert_eq!(listen(&line).await.0.unwrap_err().exit(), Exit::Database);
    journal.close().unwrap();
}

#[tokio::test]
async fn it_ends_at_a_time_that_has_come() {
    let endpoint = Publisher::start(|publisher| {
        publisher.subscriptions();
        publisher.head(2, 1);
        publisher.send(&event(), Some(1));
        publisher.head(2, 2);
    });
    // The event is of now, and so past the end.
    let (result, output) = listen(&["--bus", &endpoint, "--since", "-1h", "--until", "-1s"]).await;
    assert_eq!((result.unwrap(), output.as_str()), (Exit::Success, ""));
}

#[tokio::test]
async fn several_buses_have_labels() {
    let script = |publisher: &Publisher| {
        publisher.subscriptions();
        publisher.send(&event(), None);
    };
    let (one, two) = (Publisher::start(script), Publisher::start(script));
    let (one, two) = (format!("one={one}"), format!("two={two}"));
    let line = ["--bus", &one, "--bus", &two, "--count", "2", "-o", "template={{ lab }}"];
    let (result, output) = listen(&line).await;
    assert_eq!(result.unwrap(), Exit::Success);
    let mut labs: Vec<_> = output.lines().collect();
    labs.sort_unstable();
    assert_eq!(labs, ["one", "two"]);
}

#[tokio::test]
async fn no_connection_is_said_in_three_lines() {
    let line = ["--bus", "ipc:///nowhere/at/all", "--connect-timeout", "200ms"];
    let failure = listen(&line).await.0.unwrap_err();
    assert_eq!(failure.exit(), Exit::NoConnection);
    insta::assert_snapshot!(failure, @r"
    lavabus: no connection to ipc:///nowhere/at/all within 200ms
      cause: nobody listens on ipc:///nowhere/at/all: No such file or directory (os error 2)
      try: `lavabus status` on that machine, or another --bus ADDRESS
    ");
}
