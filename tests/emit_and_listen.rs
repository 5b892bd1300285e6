//! The tool as a user has it, against the publisher: what `lavabus emit` sends `lavabus listen` prints, filtered,
//! counted, and from where its cursor file says.

#![allow(clippy::unwrap_used)]

mod lab;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use lab::{Lab, Message, RunningPublisher, StockPush, StockSub, captured};
use serde_json::{Value, json};

/// `lavabus` against this publisher.
fn lavabus(publisher: &RunningPublisher, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lavabus"));
    command.env_clear().arg("--bus").arg(publisher.publish().to_string());
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs it to its end, which must be this one.
#[track_caller]
fn run(command: &mut Command, exit: i32) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{command:?}\n{said}");
    output
}

/// Each line of standard output as JSON.
fn lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A publisher that has the captured messages.
async fn publisher_with_capture() -> (RunningPublisher, Vec<Message>) {
    let captured = captured();
    let publisher = Lab::new().journal().start().await;
    StockPush::connect(publisher.intake()).send_all(&captured);
    publisher.published(captured.len() as u64).await;
    (publisher, captured)
}

/// As `-o raw` prints it.
fn raw(message: &Message) -> Value {
    (0..5).map(|frame| message.text(frame)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_emitted_is_listened_to() {
    let publisher = Lab::new().journal().start().await;
    let stock = StockSub::connect(publisher.publish(), &[""]);
    publisher.subscribers(1).await;
    let said = "  <b> 100 %  done\u{2026}\n\"second\" line\t> 5 < 6  ";
    let emits: [(&[&str], Value); 4] = [
        (&["event", "--job", "1995", said], json!({"message": said, "job": 1995})),
        (
            &[
                "device", "qemu-01", "--state", "Running", "--health", "Good", "--job", "1995", "--type", "qemu",
            ],
            json!({"device": "qemu-01", "state": "Running", "health": "Good", "job": 1995, "device_type": "qemu"}),
        ),
        (
            &[
                "job",
                "1995",
                "--state",
                "Finished",
                "--health",
                "Complete",
                "--submitter",
                "ann",
            ],
            json!({"job": 1995, "state": "Finished", "health": "Complete", "submitter": "ann"}),
        ),
        (
            &["worker", "worker-01", "--state", "Offline", "--health", "Maintenance"],
            json!({"hostname": "worker-01", "state": "Offline", "health": "Maintenance"}),
        ),
    ];
    let intake = publisher.intake().to_string();
    for (arguments, _) in &emits {
        let to = ["--to", &*intake, "--topic", "org.example.lab"];
        run(&mut lavabus(&publisher, &[&["emit"], *arguments, &to].concat()), 0);
    }
    let kinds = ["event", "device", "testjob", "worker"];
    let output = run(
        &mut lavabus(
            &publisher,
            &["-o", "json", "listen", "--since", "1h ago", "--count", "4"],
        ),
        0,
    );
    for ((printed, (_, expected)), kind) in lines(&output).iter().zip(&emits).zip(kinds) {
        assert_eq!(printed["topic"], format!("org.example.lab.{kind}"));
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(printed["data"][key], *value, "{printed}");
        }
        // A stock client has the same one.
        let seen = stock.next();
        assert_eq!((seen.0.len(), printed["uuid"].as_str()), (5, Some(seen.uuid())));
        assert_eq!(serde_json::from_str::<Value>(seen.text(4)).unwrap(), printed["data"]);
    }
    assert_eq!(lines(&output).len(), 4);
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_output_is_the_five_frames() {
    let (publisher, captured) = publisher_with_capture().await;
    let after = captured[0].uuid();
    let count = (captured.len() - 1).to_string();
    let output = run(
        &mut lavabus(
            &publisher,
            &["-o", "raw", "listen", "--after", after, "--count", &count],
        ),
        0,
    );
    assert_eq!(lines(&output), captured[1..].iter().map(raw).collect::<Vec<_>>());
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_choose() {
    let (publisher, captured) = publisher_with_capture().await;
    let data = |message: &Message| serde_json::from_str::<Value>(message.text(4)).unwrap();
    let kind = |message: &Message, kind: &str| message.topic().ends_with(&format!(".{kind}"));
    type Wanted<'a> = Box<dyn Fn(&Message) -> bool + 'a>;
    let some_job = captured
        .iter()
        .find(|message| kind(message, "testjob"))
        .map(data)
        .unwrap()["job"]
        .clone();
    let job = some_job.to_string();
    let job_url = format!("https://lava.example.org/scheduler/job/{job}");
    let has_job = |message: &Message| {
        let found = &data(message)["job"];
        *found == some_job || found.as_str() == Some(&job)
    };
    let cases: Vec<(Vec<&str>, Wanted<'_>)> = vec![
        (vec!["--kind", "testjob"], Box::new(|message| kind(message, "testjob"))),
        (
            vec!["--kind", "job", "--kind", "worker"],
            Box::new(|message| kind(message, "testjob") || kind(message, "worker")),
        ),
        (
            vec!["--not-kind", "device"],
            Box::new(|message| !kind(message, "device")),
        ),
        (vec!["--job", &job], Box::new(has_job)),
        (vec!["--job", &job_url], Box::new(has_job)),
        (
            vec!["--state", "running"],
            Box::new(|message| data(message)["state"] == "Running"),
        ),
        (
            vec!["--kind", "device", "--not-health", "~Good|Unknown"],
            Box::new(|message| {
                kind(message, "device") && !["Good", "Unknown"].map(Value::from).contains(&data(message)["health"])
            }),
        ),
        (
            vec!["--jq", ".data.state == \"Idle\""],
            Box::new(|message| data(message)["state"] == "Idle"),
        ),
    ];
    for (filter, wanted) in cases {
        let expected: Vec<_> = captured[1..]
            .iter()
            .filter(|message| wanted(message))
            .map(raw)
            .collect();
        assert!(
            !expected.is_empty() && expected.len() < captured.len() - 1,
            "{filter:?} shows nothing"
        );
        let until = jiff::Timestamp::now().to_string();
        // It ends when all before now was printed: one too many would show as well.
        let arguments = [
            &["-o", "raw", "listen", "--after", captured[0].uuid(), "--until", &*until],
            &filter[..],
        ]
        .concat();
        let output = run(&mut lavabus(&publisher, &arguments), 0);
        assert_eq!(lines(&output), expected, "{filter:?}");
    }
    publisher.stop().await;
}

/// What comes between two runs is not lost because the first one saw nothing; nor when the sender's clock is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_file_goes_on_though_nothing_was_seen() {
    let (publisher, captured) = publisher_with_capture().await;
    let file = publisher.lab().folder().join("cursor");
    let file = file.to_str().unwrap();
    let quiet = ["listen", "--cursor-file", file, "--timeout", "2s"];
    assert!(run(&mut lavabus(&publisher, &quiet), 0).stdout.is_empty());
    assert!(run(&mut lavabus(&publisher, &quiet), 0).stdout.is_empty());

    // Its UUID is of 2026-11-21, like the captured ones; it comes after them all the same.
    let mut late = captured[0].clone();
    late.0[1] = b"00000001-e568-11f1-8b37-02fc000000ff".to_vec();
    StockPush::connect(publisher.intake()).send(&late);
    publisher.published(captured.len() as u64 + 1).await;
    let next = [
        "-o",
        "raw",
        "listen",
        "--cursor-file",
        file,
        "--count",
        "1",
        "--timeout",
        "20s",
    ];
    assert_eq!(lines(&run(&mut lavabus(&publisher, &next), 0)), [raw(&late)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_file_that_cannot_be_written_is_said_at_once() {
    let publisher = Lab::new().start().await;
    let arguments = ["listen", "--cursor-file", "/nonexistent/cursor"];
    let output = run(&mut lavabus(&publisher, &arguments), 2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--cursor-file /nonexistent/cursor"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_file_goes_on_where_it_stood() {
    let (publisher, captured) = publisher_with_capture().await;
    let file = publisher.lab().folder().join("cursor");
    let file = file.to_str().unwrap();
    std::fs::write(file, format!("{}\n", captured[7].uuid())).unwrap();
    let mut printed = Vec::new();
    for count in ["1", "50", "100", "49"] {
        let arguments = ["-o", "raw", "listen", "--cursor-file", file, "--count", count];
        printed.extend(lines(&run(&mut lavabus(&publisher, &arguments), 0)));
    }
    assert_eq!(printed, captured[8..].iter().map(raw).collect::<Vec<_>>());
    // Now it stands at the end: what comes is next.
    let next = Message::test_event(1);
    StockPush::connect(publisher.intake()).send(&next);
    let arguments = ["-o", "raw", "listen", "--cursor-file", file, "--count", "1"];
    assert_eq!(lines(&run(&mut lavabus(&publisher, &arguments), 0)), [raw(&next)]);
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_messages_are_listed() {
    let publisher = Lab::new().journal().start().await;
    let push = StockPush::connect(publisher.intake());
    push.send_all([&Message::new(&["only", "two"]), &Message::test_event(1)]);
    publisher.published(1).await;
    // What was refused is written with the events, or a moment later.
    let lab = publisher.stop().await;
    let database = lab.database();
    let publisher = lab.start().await;
    let output = run(
        &mut lavabus(&publisher, &["-o", "json", "rejected", "--db", text(&database)]),
        0,
    );
    let rejected = lines(&output);
    assert_eq!(rejected.len(), 1, "{rejected:?}");
    assert_eq!(rejected[0]["reason"], "frame_count", "{rejected:?}");
    let output = run(&mut lavabus(&publisher, &["status", "--db", text(&database)]), 0);
    assert!(!output.stdout.is_empty());
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_are_told_apart() {
    let publisher = Lab::new().journal().start().await;
    // Nothing comes.
    run(&mut lavabus(&publisher, &["listen", "--timeout", "300ms"]), 0);
    run(
        &mut lavabus(&publisher, &["listen", "--timeout", "300ms", "--count", "1"]),
        124,
    );
    // What cannot be had.
    let unknown = "919108f7-52d1-4320-9bac-f847db4148a8";
    run(
        &mut lavabus(
            &publisher,
            &["listen", "--after", unknown, "--strict", "--timeout", "30s"],
        ),
        22,
    );
    // Wrong words name the option.
    let output = run(&mut lavabus(&publisher, &["listen", "--after", "yesterday"]), 2);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--after"), "{said}");
    let output = run(
        &mut lavabus(&publisher, &["emit", "--to", "nowhere", "event", "--job", "1", "x"]),
        2,
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--to") && said.contains("tcp://"), "{said}");
    // Nobody is there.
    let publish = publisher.publish().clone();
    let lab = publisher.stop().await;
    let mut nobody = Command::new(env!("CARGO_BIN_EXE_lavabus"));
    let bus = publish.to_string();
    nobody
        .env_clear()
        .args(["--bus", &bus, "listen", "--connect-timeout", "300ms"]);
    let output = run(&mut nobody, 20);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&bus), "{said}");
    drop(lab);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
