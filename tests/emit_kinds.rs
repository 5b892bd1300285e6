//! Every kind of event can be sent from a shell, and is heard as it was meant: attempts, stages, faults, results, the tests
//! of a TAP document, and the signals in a console.

#![allow(clippy::unwrap_used)]

mod lab;

use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lab::{Cli, Lab, RunningPublisher, StockSub};
use serde_json::{Value, json};

/// A publisher, and a stock client that hears all.
async fn publisher() -> (RunningPublisher, StockSub) {
    let publisher = Lab::new().journal().start().await;
    let stock = StockSub::connect(publisher.publish(), &[""]);
    publisher.subscribers(1).await;
    (publisher, stock)
}

/// Topic and data of the next event.
fn next(stock: &StockSub) -> (String, Value) {
    let message = stock.next();
    (
        message.topic().to_owned(),
        serde_json::from_str(message.text(4)).unwrap(),
    )
}

fn data(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    folder.join(name).display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_arrives_with_its_keys() {
    let (publisher, stock) = publisher().await;
    let cli = Cli::new();
    let to = ["--to", &publisher.intake().to_string(), "--topic", "lab"];
    let long = "x".repeat(300);
    let cases: [(&str, Value, &[&str]); 9] = [
        (
            "attempt",
            json!({"device": "qemu-01", "job_id": 1995, "exit_code": 0}),
            &["--device", "qemu-01", "--job", "1995", "--exit-code", "0"],
        ),
        (
            "attempt",
            json!({"device": "d", "job_id": "7.0", "exit_code": -9, "detail": "-x\n", "phase": "provision",
                "outcome": "fail", "error_type": "Infrastructure", "started": "2026-11-21T05:00:00+00:00",
                "finished": "2026-11-21T05:00:01.500000+00:00"}),
            &[
                "--device",
                "d",
                "--job",
                "7.0",
                "--exit-code",
                "-9",
                "--detail",
                "-x\n",
                "--phase",
                "provision",
                "--outcome",
                "fail",
                "--error-type",
                "Infrastructure",
                "--started",
                "2026-11-21T06:00:00+01:00",
                "--finished",
                "2026-11-21T05:00:01.5Z",
            ],
        ),
        (
            "stage",
            json!({"service": "advisor", "request_id": "r-1", "status": "received", "date": "2026-11-21T05:00:00+00:00",
                "source": "in", "account": "42", "inventory_id": "i", "system_id": "s", "message": "m", "job": 7}),
            &[
                "--service",
                "advisor",
                "--request-id",
                "r-1",
                "--status",
                "received",
                "--date",
                "2026-11-21T05:00:00Z",
                "--source",
                "in",
                "--account",
                "42",
                "--inventory-id",
                "i",
                "--system-id",
                "s",
                "--message",
                "m",
                "--job",
                "7",
            ],
        ),
        (
            "fault",
            json!({"subject": "device/d", "message": format!("{}...", &long[..252]), "details": "a\nb", "origin": "o",
                "job": 7, "device": "d"}),
            &[
                "--subject",
                "device/d",
                "--message",
                &long,
                "--details",
                "a\nb",
                "--origin",
                "o",
                "--job",
                "7",
                "--device",
                "d",
            ],
        ),
        (
            "fault",
            json!({"subject": "device/d", "cleared": true}),
            &["--subject", "device/d", "--cleared"],
        ),
        (
            "result",
            json!({"testcase": "boot", "outcome": "PASSED"}),
            &["--testcase", "boot", "--outcome", "passed"],
        ),
        (
            "result",
            json!({"testcase": "boot", "outcome": "NEEDS_INSPECTION", "run": "r 1", "item": "i", "type": "t",
                "note": "n", "url": "https://lab/r 1/", "job": 7, "device": "d", "data": {"a": "1=2", "b": ""}}),
            &[
                "--testcase",
                "boot",
                "--outcome",
                "needs_inspection",
                "--run",
                "r 1",
                "--item",
                "i",
                "--type",
                "t",
                "--note",
                "n",
                "--url-template",
                "https://lab/{run}/",
                "--job",
                "7",
                "--device",
                "d",
                "--data",
                "a=1=2",
                "--data",
                "b=",
            ],
        ),
        (
            "result",
            json!({"run": "r1", "status": "incomplete", "url": "u"}),
            &["--run", "r1", "--status", "incomplete", "--url", "u"],
        ),
        ("event", json!({"message": "m", "job": 7}), &["m", "--job", "7"]),
    ];
    for (kind, expected, flags) in cases {
        cli.run([&["emit", kind], flags, to.as_slice()].concat()).with(0);
        assert_eq!(next(&stock), (format!("lab.{kind}"), expected));
    }
    // What is not said is not made up, but for the time.
    cli.run(
        [
            &["emit", "stage", "--service=s", "--request-id=r", "--status=success"],
            to.as_slice(),
        ]
        .concat(),
    )
    .with(0);
    let (_, stage) = next(&stock);
    let keys: Vec<_> = stage.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["date", "request_id", "service", "status"]);
    publisher.stop().await;
}

#[test]
fn what_is_missing_or_unknown_is_refused_and_nothing_is_sent() {
    let cli = Cli::new();
    let refused = |line: &str, says: &[&str]| {
        let mut ended = cli
            .run(["emit", "--to", "ipc:///nobody"].into_iter().chain(line.split(' ')))
            .with(2);
        for text in says {
            ended = ended.said(text);
        }
    };
    refused(
        "result --testcase a --outcome GREEN",
        &["GREEN", "PASSED, INFO, NEEDS_INSPECTION, FAILED, ABORTED, CRASHED"],
    );
    refused(
        "result --run a --status done",
        &["done", "complete, incomplete, aborted"],
    );
    refused("result --testcase a", &["--outcome"]);
    refused("result --outcome PASSED", &["--testcase"]);
    refused("result --status complete", &["--run"]);
    refused(
        "result --testcase a --outcome PASSED --url-template x",
        &["--url-template", "{run}"],
    );
    refused("result --testcase a --outcome PASSED --url-template x{run}", &["--run"]);
    refused("result --testcase a --outcome PASSED --run= ", &["--run"]);
    refused("attempt --device a --job 1", &["--exit-code"]);
    refused("attempt --device a --job 1 --exit-code x", &["--exit-code"]);
    refused(
        "attempt --device a --job 1 --exit-code 1 --outcome bad",
        &["pass, fail, neutral"],
    );
    refused("stage --service a --request-id 1", &["--status"]);
    refused("stage --service a --request-id 1 --status s --date never", &["--date"]);
    refused("fault --subject a", &["--message"]);
    refused("fault --message a", &["--subject"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tap_document_arrives_as_results() {
    let (publisher, stock) = publisher().await;
    let (cli, to) = (Cli::new(), publisher.intake().to_string());
    let sample = data("taskotron.tap");
    cli.run([
        "emit", "tap", &sample, "--to", &to, "--run", "r1", "--job", "7", "--url", "u",
    ])
    .with(0)
    .said(&format!("{sample}:14: this test is indented"))
    .said("1 PASSED, 1 INFO, 1 FAILED; the run is complete");
    for (outcome, item) in [
        ("PASSED", "xchat-0.5-1.fc20"),
        ("FAILED", "foobar-1.2-3.fc20"),
        ("INFO", "f20-updates"),
    ] {
        let (topic, result) = next(&stock);
        assert_eq!(topic, "org.lavasoftware.result");
        assert_eq!((&result["outcome"], &result["item"]), (&json!(outcome), &json!(item)));
        assert_eq!(
            (&result["run"], &result["job"], &result["url"]),
            (&json!("r1"), &json!(7), &json!("u"))
        );
    }
    assert_eq!(
        next(&stock).1,
        json!({"run": "r1", "status": "complete", "url": "u", "job": 7})
    );

    // Without a run there is no end of one; with --fail the exit code tells.
    let tap = "1..2\nok 1 - a\nnot ok 2 - b\n";
    let flags = ["emit", "tap", "--to", &to, "--item", "i", "--fail"];
    cli.run_with_input(flags, tap)
        .with(14)
        .said("1 PASSED, 1 FAILED; the run is complete");
    assert_eq!(
        next(&stock).1,
        json!({"testcase": "a", "outcome": "PASSED", "item": "i"})
    );
    assert_eq!(
        next(&stock).1,
        json!({"testcase": "b", "outcome": "FAILED", "item": "i"})
    );
    cli.run_with_input(flags, "1..2\nok 1 - c\n")
        .with(14)
        .said("1 PASSED; the run is incomplete");
    assert_eq!(next(&stock).1["testcase"], "c");
    cli.run_with_input(flags, "1..1\nok 1 - d # SKIP\n")
        .with(0)
        .said("1 INFO; the run is complete");
    assert_eq!(next(&stock).1["testcase"], "d");
    cli.run(["emit", "tap", "/nowhere"])
        .with(2)
        .said("cannot read /nowhere");
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_is_passed_on_and_its_signals_are_sent() {
    let (publisher, stock) = publisher().await;
    let cli = Cli::new();
    let mut command = cli.command([
        "emit",
        "--console",
        "--job",
        "7",
        "--to",
        &publisher.intake().to_string(),
    ]);
    let mut console = command.stdin(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (console.stdin.take().unwrap(), console.stdout.take().unwrap());
    // No end of a line, no UTF-8, a signal in two pieces: each piece is there before the next one is written.
    let pieces: [&[u8]; 5] = [
        b"\x1b[1mlogin: \xff\x00",
        b"<LAVA_SIGNAL_TEST",
        b"EVENT flashed  ok> <LAVA_SIGNAL_TESTEVENT 2>\r\n",
        b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=boot RESULT=fail MEASUREMENT=12 UNITS=s>",
        b"\n<LAVA_SIGNAL_TESTEVENT never ended",
    ];
    for piece in pieces {
        input.write_all(piece).unwrap();
        let mut passed = vec![0; piece.len()];
        output.read_exact(&mut passed).unwrap();
        assert_eq!(passed, piece);
    }
    // They are sent while the console goes on.
    assert_eq!(
        next(&stock),
        (
            "org.lavasoftware.event".to_owned(),
            json!({"message": "flashed ok", "job": 7})
        )
    );
    assert_eq!(next(&stock).1, json!({"message": "2", "job": 7}));
    let data = json!({"result": "fail", "measurement": 12, "units": "s"});
    let result = json!({"testcase": "boot", "outcome": "FAILED", "job": 7, "data": data});
    assert_eq!(next(&stock), ("org.lavasoftware.result".to_owned(), result));
    drop(input);
    let ended = console.wait_with_output().unwrap();
    assert_eq!(
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap()),
        (Some(0), String::new())
    );
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_is_away_delays_no_console_and_gets_all_when_it_comes() {
    let lab = Lab::new();
    let intake = lab.config().intake[0].to_string();
    let cli = Cli::new();
    let flags = ["emit", "--console", "--to", &intake, "--timeout", "30s"];
    let mut console = cli.command(flags).stdin(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (console.stdin.take().unwrap(), console.stdout.take().unwrap());
    let said = b"<LAVA_SIGNAL_TESTEVENT early>\n".repeat(20);
    input.write_all(&said).unwrap();
    let mut passed = vec![0; said.len()];
    output.read_exact(&mut passed).unwrap();
    assert_eq!(passed, said);
    drop(input);
    let publisher = lab.journal().start().await;
    publisher.published(20).await;
    assert_eq!(console.wait().unwrap().code(), Some(0));
    publisher.stop().await;

    // One that never comes is told of at the end.
    let flags = [
        "emit",
        "--console",
        "--to",
        "ipc:///nowhere/at/all",
        "--timeout",
        "100ms",
    ];
    let said = String::from_utf8(said).unwrap();
    let ended = cli.run_with_input(flags, &said).with(20).printed(&said);
    ended.said("20 of 20 events were not sent to ipc:///nowhere/at/all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_played_at_its_pace() {
    let (publisher, stock) = publisher().await;
    let cli = Cli::new();
    let line = |second: u32| {
        let data = json!({"message": second.to_string(), "job": 1});
        json!({"topic": "lab.event", "datetime": format!("2026-11-21T05:00:{second:02}+00:00"), "data": data})
    };
    let recording: String = [0, 20, 10, 30].map(|second| format!("{}\n", line(second))).concat();
    let path = cli.file("recording.jsonl", &recording).display().to_string();
    let to = publisher.intake().to_string();
    // 30 s in 0.3 s; an event that was recorded late waits for nobody.
    let began = std::time::Instant::now();
    cli.run(["emit", "--from", &path, "--pace", "100x", "--to", &to])
        .with(0);
    assert!(began.elapsed() >= Duration::from_millis(300));
    let messages: Vec<Value> = (0..4).map(|_| next(&stock).1["message"].clone()).collect();
    assert_eq!(messages, ["0", "20", "10", "30"]);
    // What is due goes out although the next one is not.
    let mut playing = cli.start(["emit", "--from", &path, "--pace", "0.01x", "--to", &to]);
    assert_eq!(next(&stock).1["message"], "0");
    assert!(playing.is_running());
    // What no publisher would take is said before it is sent.
    let much = json!({"topic": "lab.event", "data": {"message": "x".repeat(1 << 20), "job": 1}});
    let path_of_much = cli.file("much.jsonl", &much.to_string()).display().to_string();
    let ended = cli.run(["emit", "--from", &path_of_much, "--to", &to]).with(2);
    ended.said("a publisher takes 1048576 at most");
    for wrong in ["-1", "fast"] {
        cli.run(["emit", "--from", &path, &format!("--pace={wrong}")])
            .with(2)
            .said("--pace");
    }
    publisher.stop().await;
}
