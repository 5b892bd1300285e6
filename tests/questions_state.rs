//! `show`, `history`, `faults`, `results` and `stuck`: the same answers wherever the projector stands; what they say of a
//! real lab's 208 messages, and of a lab that is made up.

#![allow(clippy::unwrap_used)]

mod lab;

use std::path::Path;

use lab::Cli;
use lavabus_cli::{Arguments, Command, Context, Failure, faults, history, results, show, stuck};
use lavabus_protocol::EventId;
use lavabus_store::{Journal, NewEvent, Options, Reader};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// A database, and the time at which it is asked.
struct Database {
    folder: TempDir,
    journal: Journal,
    now_us: i64,
}

fn micros(time: &str) -> i64 {
    lavabus_protocol::event::read_datetime(time).unwrap().as_microsecond()
}

impl Database {
    fn new(now: &str) -> Database {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path().join("events.db"), &Options::default()).unwrap();
        Database {
            folder,
            journal,
            now_us: micros(now),
        }
    }

    /// The 208 messages of a real server.
    fn captured() -> Database {
        let mut database = Database::new("2026-11-21T05:10:00Z");
        for line in include_str!("data/lava-capture.jsonl").lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let frame = |at: usize| line["frames"][at].as_str().unwrap();
            let id: EventId = frame(1).parse().unwrap();
            let received = micros(line["recv_time"].as_str().unwrap());
            database.append(&id, received, frame(0), frame(2), frame(4), "");
        }
        database
    }

    fn made_up() -> Database {
        let mut database = Database::new("2026-11-21T12:00:00Z");
        for line in include_str!("data/made-up-lab.jsonl").lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            database.told(
                line["at"].as_str().unwrap(),
                line["kind"].as_str().unwrap(),
                &line["data"].to_string(),
                "",
            );
        }
        database
    }

    fn told(&mut self, at: &str, kind: &str, data: &str, lab: &str) {
        let number = self.journal.head() + 1;
        let mut key = [0; 16];
        key[..8].copy_from_slice(&(0x11f1_e568_0000_0000 + number * 10_000).to_be_bytes());
        let topic = format!("org.example.lab.{kind}");
        self.append(&EventId::from_key(key), micros(at), &topic, at, data, lab);
    }

    fn append(&mut self, id: &EventId, received_us: i64, topic: &str, sent: &str, data: &str, lab: &str) {
        let mut group = self.journal.group().unwrap();
        let event = NewEvent {
            id,
            received_us,
            topic,
            sent,
            user: "lavaserver",
            data,
            lab,
        };
        group.append(&event).unwrap();
        group.commit().unwrap();
    }

    fn project_all(&mut self) {
        while self.journal.project(50).unwrap().behind > 0 {}
        while self.journal.project_history(50).unwrap().behind > 0 {}
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("events.db")
    }

    /// What this command line says: standard output, then standard error.
    fn ask(&self, line: &str) -> String {
        ask(&self.path(), self.now_us, line)
    }
}

fn ask(path: &Path, now_us: i64, line: &str) -> String {
    let words = ["lavabus"].into_iter().chain(line.split_whitespace());
    let arguments = Arguments::read(words).unwrap();
    let context = Context {
        format: arguments.global.format.clone(),
        ..Context::default()
    };
    let reader = Reader::open(path).unwrap();
    let said = match &arguments.command {
        Command::Show(show) => show::answer(&show.subject, &reader, &context, now_us),
        Command::History(history::Arguments {
            subject: history::Subject::Device(device),
        }) => history::answer(device, &reader, &context, now_us),
        Command::Faults(arguments) => faults::answer(arguments, &reader, &context),
        Command::Results(arguments) => results::answer(arguments, &reader, &context),
        Command::Stuck(arguments) => stuck::answer(arguments, &reader, &context, now_us),
        other => panic!("{other:?} is no question of state"),
    };
    match said {
        Ok(said) => {
            said.text
                + &said
                    .notices
                    .iter()
                    .map(|notice| format!("! {notice}\n"))
                    .collect::<String>()
        }
        Err(failure) => {
            let text = failure.to_string().replace(&path.display().to_string(), "DB");
            format!("{text}\n! {:?}\n", Failure::exit(&failure))
        }
    }
}

/// Each line with its answer.
fn answers(database: &Database, lines: &[&str]) -> String {
    let answer = |line: &&str| format!("$ lavabus {line}\n{}", database.ask(line));
    lines.iter().map(answer).collect::<Vec<_>>().join("\n")
}

const OF_CAPTURE: [&str; 19] = [
    "show devices",
    "show devices -o json",
    "show devices --state idle --health good",
    "show workers",
    "show jobs",
    "show jobs --submitter joe -o csv",
    "show device qemu-01",
    "show device ssh-01 -o json",
    "show worker worker-real",
    "show job 2",
    "show job http://lava.example.org/scheduler/job/18 -o json",
    "show job 7.0",
    "show device nobody",
    "history device qemu-01",
    "history device ssh-01 --limit 2 -o json",
    "faults --all",
    "results",
    "stuck",
    "stuck --older-than 1m",
];

const OF_MADE_UP: [&str; 38] = [
    "show devices",
    "show devices -o json",
    "show devices -o csv --worker worker-2",
    "show workers",
    "show jobs --limit 3",
    "show job 20",
    "show job testjob/19.1 -o json",
    "show job 3",
    "show job 4",
    "show job 6",
    "show job 22",
    "show job 99",
    "show device bbb-03",
    "show device rpi-new",
    "show device qemu-09",
    "show worker worker-2",
    "history device qemu-01",
    "history device qemu-01 -o csv --since 2026-11-21T07:15:00Z",
    "history device qemu-02",
    "history device qemu-02 -o json",
    "history device rpi-new",
    "history device qemu-09",
    "history device nobody",
    "faults",
    "faults --all",
    "faults bbb-03 --details -o json",
    "faults rack/3",
    "faults --since 2026-11-21T08:06:30Z --limit 1",
    "results",
    "results --changes",
    "results boot -o json",
    "results --run 8",
    "results --run 9",
    "results --run 10",
    "results --job 1 --outcome passed",
    "stuck",
    "stuck --older-than 30s -o json",
    "stuck --older-than 30s --limit 1",
];

#[test]
fn what_is_said_of_a_real_lab() {
    let mut database = Database::captured();
    database.project_all();
    insta::assert_snapshot!("real_lab", answers(&database, &OF_CAPTURE));
}

#[test]
fn what_is_said_of_a_made_up_lab() {
    let mut database = Database::made_up();
    database.project_all();
    insta::assert_snapshot!("made_up_lab", answers(&database, &OF_MADE_UP));
}

#[test]
fn the_answers_are_the_same_wherever_the_projector_stands() {
    let mut projected = Database::made_up();
    projected.project_all();
    let expected = answers(&projected, &OF_MADE_UP);
    for (entities, history) in [(0, 0), (20, 0), (0, 20), (10, 30), (30, 10), (45, 44)] {
        let mut database = Database::made_up();
        if entities > 0 {
            database.journal.project(entities).unwrap();
        }
        if history > 0 {
            database.journal.project_history(history).unwrap();
        }
        assert_eq!(answers(&database, &OF_MADE_UP), expected, "{entities} {history}");
    }
}

#[test]
fn each_lab_has_its_own() {
    let mut database = Database::new("2026-11-21T12:00:00Z");
    for (at, lab, health) in [
        ("2026-11-21T11:00:00Z", "north", "Complete"),
        ("2026-11-21T11:10:00Z", "south", "Incomplete"),
        ("2026-11-21T11:20:00Z", "south", "Incomplete"),
    ] {
        let device = r#"{"device": "qemu-01", "state": "Idle", "health": "Good"}"#;
        database.told(at, "device", device, lab);
        let job = format!(
            r#"{{"job": 1{}, "device": "qemu-01", "state": "Finished", "health": "{health}"}}"#,
            &at[14..16]
        );
        database.told(at, "testjob", &job, lab);
        database.told(
            at,
            "fault",
            &format!(r#"{{"subject": "rack/1", "message": "hot in {lab}"}}"#),
            lab,
        );
    }
    for projects in [false, true] {
        if projects {
            database.project_all();
        }
        let count = |line: &str, text: &str| database.ask(line).matches(text).count();
        assert_eq!(count("show device qemu-01", "qemu-01"), 2);
        assert_eq!(count("show device qemu-01 --lab south", "fail 2"), 1);
        assert_eq!(count("show device qemu-01 --lab west", "NoSuchObject"), 1);
        assert_eq!(count("show devices", "south"), 1);
        assert_eq!(count("show devices --lab north", "qemu-01"), 1);
        assert_eq!(count("show jobs --lab south", "Incomplete"), 2);
        assert_eq!(count("history device qemu-01", "healthy: passed once"), 1);
        assert_eq!(count("history device qemu-01 --lab south -o json", "failing"), 2);
        assert_eq!(count("faults rack/1 -o json", "hot in"), 2);
        assert_eq!(count("faults --lab south -o json", "\"count\":2"), 1);
    }
}

/// The real program, with its exit codes.
#[test]
fn exit_codes_and_channels() {
    let database = Database::made_up();
    let path = database.path().display().to_string();
    let cli = Cli::new();
    for (line, exit) in [
        ("show device qemu-01", 0),
        ("show device nobody", 13),
        ("show job 99", 13),
        ("history device nobody", 13),
        ("results --run 10", 13),
        ("stuck", 0),
        ("faults nobody", 0),
        ("show devices -o raw", 2),
        ("history device qemu-01 -o raw", 2),
        ("faults --open --all", 2),
    ] {
        let ended = cli.run(line.split_whitespace().chain(["--db", &path]));
        let ended = ended.with(exit);
        assert!(exit == 0 || ended.stdout.is_empty(), "{ended:?}");
    }
    cli.run(["show", "devices", "--db", "/nowhere/events.db"]).with(30);
}

/// Printed again only when something has changed; ended by Ctrl-C.
#[test]
fn a_table_is_watched() {
    let mut database = Database::made_up();
    let path = database.path().display().to_string();
    let cli = Cli::new();
    let watching = cli.start(["show", "workers", "--watch", "--db", &path]);
    watching.prints("Offline");
    database.told(
        "2026-11-21T11:59:30Z",
        "worker",
        r#"{"hostname": "worker-3", "state": "Online", "health": "Active"}"#,
        "",
    );
    watching.prints("worker-3");
    watching.signal(Signal::SIGINT);
    let ended = watching.ended().with(130);
    assert_eq!(ended.stdout.matches("WORKER").count(), 2, "{ended:?}");
}
