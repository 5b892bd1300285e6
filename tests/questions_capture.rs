//! The questions, asked of what a real LAVA said: 208 messages, with every state of devices, jobs and workers.
//!
//! The answers are in `tests/snapshots`. They were read against the messages.

#![allow(clippy::unwrap_used)]

mod lab;

use std::path::{Path, PathBuf};

use lab::{Cli, Ended};
use lavabus_protocol::Record;
use lavabus_protocol::event::read_datetime;
use lavabus_store::{Journal, NewEvent, Options, Reader};

const CAPTURE: &str = include_str!("data/lava-capture.jsonl");

/// The captured messages, received when they were received, in a database of which projections have read so much.
fn database(cli: &Cli, name: &str, projected: u64) -> PathBuf {
    let lines = CAPTURE.lines().map(|line| {
        let outer: serde_json::Value = serde_json::from_str(line).unwrap();
        let received = read_datetime(outer["recv_time"].as_str().unwrap()).unwrap();
        (Record::from_json_line(line).unwrap(), received.as_microsecond(), "")
    });
    filled(cli, name, projected, lines)
}

fn filled<'e>(
    cli: &Cli,
    name: &str,
    projected: u64,
    events: impl IntoIterator<Item = (Record, i64, &'e str)>,
) -> PathBuf {
    let path = cli.folder().join(name);
    let mut journal = Journal::open(&path, &Options::default()).unwrap();
    let mut group = journal.group().unwrap();
    for (record, received_us, lab) in events {
        let event = NewEvent {
            id: &record.uuid,
            received_us,
            topic: &record.topic,
            sent: &record.datetime,
            user: &record.username,
            data: &record.data,
            lab,
        };
        group.append(&event).unwrap();
    }
    group.commit().unwrap();
    if projected > 0 {
        journal.project(projected).unwrap();
        journal.project_history(projected).unwrap();
    }
    journal.close().unwrap();
    path
}

fn ask(cli: &Cli, database: &Path, question: &str) -> Ended {
    let words = question.split_whitespace().chain(["--db", database.to_str().unwrap()]);
    cli.run(words)
}

/// What it printed, with the epoch, which is random, written as zeros.
fn answer(cli: &Cli, database: &Path, question: &str) -> String {
    let ended = ask(cli, database, question).with(0);
    assert_eq!(ended.stderr, "", "{question}");
    let epoch = Reader::open(database).unwrap().epoch().unwrap().to_string();
    ended.stdout.replace(&epoch, "00000000")
}

const DAY: &str = "--since 2026-11-21T05:00:00Z --until 2026-11-21T06:00:00Z";

/// Name and question.
fn questions() -> Vec<(&'static str, String)> {
    [
        ("query_plain", "query --kind job --state finished --limit 5"),
        ("query_reverse", "query --device qemu-02 --reverse --limit 5"),
        ("query_json", "query --kind event --job 1 -o json"),
        ("query_csv", "query --worker ~02$ --not-kind device --limit 4 -o csv"),
        (
            "query_time",
            "query --since 2026-11-21T05:04:30Z --until 2026-11-21T05:04:33Z",
        ),
        ("timeline_complete", "timeline job/1"),
        (
            "timeline_incomplete",
            "timeline https://lava.example.org/scheduler/job/2",
        ),
        ("timeline_canceled_in_queue", "timeline 13"),
        ("timeline_multinode_by_sub_id", "timeline 7.1"),
        ("timeline_markdown", "timeline job/4 -o markdown"),
        ("timeline_json", "timeline job/1 -o json"),
        ("timeline_csv", "timeline job/1 -o csv"),
        ("timeline_device", "timeline qemu-02 --since 2026-11-21T05:00:00Z"),
        (
            "timeline_worker",
            "timeline worker/worker-02 --since 2026-11-21T05:04:30Z",
        ),
        ("timeline_last", "timeline qemu-02 --last 2 -o csv"),
        ("timeline_previous", "timeline qemu-02 --previous 1"),
        ("stats_plain", "stats DAY"),
        ("stats_csv", "stats DAY -o csv"),
        ("stats_json", "stats DAY --device-type ssh -o json"),
    ]
    .map(|(name, question)| (name, question.replace("DAY", DAY)))
    .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_as_it_was_read() {
    let cli = Cli::new();
    let database = database(&cli, "all.db", 1_000);
    for (name, question) in questions() {
        let text = format!("$ lavabus {question}\n{}", answer(&cli, &database, &question));
        insta::assert_snapshot!(name, text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answers_do_not_depend_on_how_far_the_projections_are() {
    let cli = Cli::new();
    let all = database(&cli, "all.db", 1_000);
    for (name, projected) in [("none.db", 0), ("some.db", 77), ("most.db", 200)] {
        let behind = database(&cli, name, projected);
        for (_, question) in questions() {
            assert_eq!(
                answer(&cli, &behind, &question),
                answer(&cli, &all, &question),
                "{question} {projected}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_right_and_pages_join() {
    let cli = Cli::new();
    let database = database(&cli, "all.db", 150);
    let records: Vec<Record> = CAPTURE
        .lines()
        .map(|line| Record::from_json_line(line).unwrap())
        .collect();
    let count = |filter: &str| answer(&cli, &database, &format!("query {filter} --count-only"));
    let of = |wants: fn(&Record) -> bool| format!("{}\n", records.iter().filter(|record| wants(record)).count());
    assert_eq!(count(""), "208\n");
    assert_eq!(count("--kind job"), of(|record| record.topic.ends_with("testjob")));
    assert_eq!(
        count("--device qemu-01"),
        of(|record| record.event().device() == Some("qemu-01"))
    );
    assert_eq!(
        count("--jq .data.priority>50"),
        of(|record| record.data.contains("\"priority\": 100"))
    );
    assert_eq!(count("--user nobody"), "0\n");
    assert_eq!(
        ask(&cli, &database, "query --limit 0 -o raw")
            .with(0)
            .stdout
            .lines()
            .count(),
        208
    );

    let uuids = |question: &str| -> Vec<String> {
        let lines = ask(&cli, &database, question).with(0).stdout;
        lines
            .lines()
            .map(|line| Record::from_json_line(line).unwrap().cursor.unwrap().to_string())
            .collect()
    };
    let all = uuids("query --kind job --limit 0 -o json");
    assert_eq!(all.len(), 77);
    let mut back = uuids("query --kind job --limit 30 -o json");
    for page in [30, 17, 0] {
        let before = uuids(&format!("query --kind job --limit 30 -o json --before {}", back[0]));
        assert_eq!(before.len(), page);
        back = [before, back].concat();
    }
    assert_eq!(back, all);
    let mut forth = uuids(&format!("query --kind job --limit 30 -o json --before {}", all[30]));
    for page in [30, 17, 0] {
        let last = forth.last().unwrap();
        let after = uuids(&format!("query --kind job --limit 30 -o json --after {last}"));
        assert_eq!(after.len(), page);
        forth.extend(after);
    }
    assert_eq!(forth, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_answered_says_so() {
    let cli = Cli::new();
    let database = database(&cli, "all.db", 1_000);
    for (question, code, said) in [
        ("timeline nothing", 13, "nothing is known of \"nothing\""),
        ("timeline job/99999", 13, "no event in"),
        ("timeline device/1", 13, "nothing is known of \"device/1\""),
        ("timeline qemu-01 -o raw", 2, "-o plain, json, csv or markdown"),
        ("timeline job/1 --last 1", 2, "has no jobs or requests of its own"),
        ("timeline job/1 --last 0", 2, "--last does not take \"0\""),
        ("timeline worker-02 --last 999 --previous 1", 2, "one too many"),
        ("timeline", 2, "<ID> is missing"),
        ("query -o markdown", 2, "-o markdown is for `lavabus timeline`"),
        (
            "query -o template={{job.x.y}} --limit 1",
            0,
            "the template fails on event",
        ),
        ("query --since soon", 2, "--since does not take \"soon\""),
        ("query --limit -1", 2, "there is no -1"),
        ("query --count-only --limit 3", 2, "one too many"),
        (
            "query --after 8e503fbe-e568-11f1-8b37-0000000000ff",
            13,
            "there is no event with the cursor",
        ),
        ("query --job 99999", 0, ""),
        ("stats --since -1h --until -2h", 2, "there is no time to tell of"),
        ("stats -o raw", 2, "-o plain, json or csv"),
    ] {
        ask(&cli, &database, question).with(code).said(said);
    }
    let old = ask(&cli, &database, "timeline qemu-01 --since 2030-01-01T00:00:00Z").with(0);
    old.said("no event of device/qemu-01 in this time");
    let no_database = cli.file("no.db", "this is no database, but a text of some length");
    for question in ["query", "timeline 1", "stats"] {
        ask(&cli, &no_database, question).with(30);
        ask(&cli, Path::new("missing.db"), question).with(30);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_answers() {
    let cli = Cli::new();
    let empty = filled(&cli, "empty.db", 0, []);
    ask(&cli, &empty, "query").with(0).printed("");
    ask(&cli, &empty, "query --count-only").with(0).printed("0\n");
    ask(&cli, &empty, "timeline 1").with(13);
    let stats = ask(&cli, &empty, "stats").with(0).stdout;
    assert!(stats.contains("n/a"), "{stats}");
    let rows = ask(&cli, &empty, "stats -o json").with(0).stdout;
    assert!(rows.lines().all(|row| row.contains("\"success_rate\":null")), "{rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_several_things_or_labs_has_to_be_told_apart() {
    let cli = Cli::new();
    let line = |uuid: u32, kind: &str, data: &str| {
        let line = format!(
            r#"{{"topic":"lab.{kind}","uuid":"8e503fbe-e568-11f1-8b37-02fc{uuid:08}","datetime":"2026-11-21T05:01:0{uuid}+00:00","username":"u","data":{data}}}"#
        );
        Record::from_json_line(&line).unwrap()
    };
    let finished =
        |device: &str| format!(r#"{{"job": 12, "state": "Finished", "health": "Complete", "device": "{device}"}}"#);
    let stage = r#"{"service": "s", "request_id": "12", "status": "received"}"#;
    let events = [
        (line(1, "testjob", &finished("d1")), 1, "north"),
        (line(2, "testjob", &finished("d2")), 2, "south"),
        (line(3, "stage", stage), 3, "south"),
    ];
    let database = filled(&cli, "labs.db", 2, events);
    let several = ask(&cli, &database, "timeline 12").with(2);
    several.said("job/12, request/12").said("`lavabus timeline job/12`");
    ask(&cli, &database, "timeline job/12").with(2).said("north, south");
    let south = ask(&cli, &database, "timeline job/12 --lab south").with(0).stdout;
    assert!(south.starts_with("job/12: Complete on d2\n"), "{south}");
    let request = ask(&cli, &database, "timeline request/12").with(0).stdout;
    assert!(request.starts_with("request/12: still running for "), "{request}");
    assert!(request.lines().next().unwrap().ends_with(", last at s"), "{request}");
    let of_lab = ask(&cli, &database, "query --lab north -o json").with(0).stdout;
    assert_eq!(of_lab.lines().count(), 1);
    assert!(of_lab.contains(r#""lab":"north""#), "{of_lab}");
}

/// Of the captured messages none is of a service.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_through_services() {
    let cli = Cli::new();
    let stage = |number: i64, second: u32, rest: &str| {
        let data = format!(r#"{{"request_id":"r-1","date":"2026-11-21T05:01:{second:02}+00:00",{rest}}}"#);
        let line = format!(
            r#"{{"topic":"lab.stage","uuid":"8e503fbe-e568-11f1-8b37-02fc{number:08}","datetime":"2026-11-21T05:02:00+00:00","username":"u","data":{data}}}"#
        );
        (Record::from_json_line(&line).unwrap(), number, "")
    };
    let events = [
        stage(1, 10, r#""service":"ingress","status":"received""#),
        stage(2, 12, r#""service":"ingress","status":"success","account":"540155""#),
        stage(
            3,
            15,
            r#""service":"puptoo","source":"a","status":"received","inventory_id":"i-7""#,
        ),
        stage(4, 15, r#""service":"puptoo","source":"a","status":"unpacking""#),
        stage(5, 18, r#""service":"puptoo","source":"a","status":"success""#),
        // Its clock is 2 s behind.
        stage(6, 16, r#""service":"advisor","status":"received""#),
        stage(
            7,
            19,
            r#""service":"advisor","status":"error","message":"no rules for *this* | <host>""#,
        ),
    ];
    let database = filled(&cli, "stages.db", 4, events);
    let words = ["request/r-1", "540155 --since 1970-01-01T00:00:00Z", "r-1 -o markdown"];
    let answers = words.map(|words| answer(&cli, &database, &format!("timeline {words}")));
    insta::assert_snapshot!("request_plain", answers[0]);
    assert_eq!(
        answers[1].lines().skip(1).collect::<Vec<_>>(),
        answers[0].lines().skip(1).collect::<Vec<_>>()
    );
    insta::assert_snapshot!("request_markdown", answers[2]);
    let stats = answer(
        &cli,
        &database,
        "stats --since 1970-01-01T00:00:00Z --until 1970-01-01T00:00:01Z -o csv",
    );
    insta::assert_snapshot!("request_stats", stats);
    let json = answer(&cli, &database, "timeline r-1 -o json");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["outcome"], "failed");
    assert_eq!(
        (json["time_in_services"].as_f64(), json["wall_time"].as_f64()),
        (Some(8.0), Some(9.0))
    );
    assert_eq!(
        (&json["services"][2]["gap"], &json["services"][2]["skew"]),
        (&(-2.0).into(), &true.into())
    );
    assert_eq!(json["events"].as_array().unwrap().len(), 7);
}
