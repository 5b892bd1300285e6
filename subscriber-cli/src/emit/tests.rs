#![allow(clippy::unwrap_used)]

use lavabus_protocol::Kind;
use proptest::prelude::*;

use super::*;
use crate::arguments::Command;
use crate::{own_data, schemas};

fn emit(line: &[&str]) -> Arguments {
    let command_line = ["lavabus", "emit"].iter().chain(line);
    match crate::Arguments::read(command_line).unwrap().command {
        Command::Emit(emit) => emit,
        other => panic!("{other:?}"),
    }
}

/// What is sent with these arguments, which is right by its schema.
fn records(line: &[&str]) -> Vec<Record> {
    let emit = emit(line);
    let records = match emit.event.unwrap() {
        EventCommand::Tap(tap) => {
            let sample = include_str!("../../../tests/data/taskotron.tap");
            tap.read(sample, &emit.sending).map(|(_, records)| records)
        }
        event => event.records(&emit.sending),
    };
    let records = records.unwrap();
    records.iter().for_each(schemas::check);
    records
}

#[test]
fn whatever_is_emitted_is_right_by_its_schema() {
    let long = "\u{1f600}".repeat(70_000);
    let lines: [(Kind, &[&str]); 19] = [
        (Kind::Event, &["event", "", "--job", "1"]),
        (Kind::Device, &["device", "d", "--state", "idle", "--health", "good"]),
        (
            Kind::Device,
            &[
                "device", "d", "--state", "idle", "--health", "good", "--worker", "w", "--type", "t", "--job", "7.0",
            ],
        ),
        (Kind::Testjob, &["job", "7", "--state", "submitted"]),
        (
            Kind::Testjob,
            &[
                "job",
                "7",
                "--state",
                "finished",
                "--health",
                "complete",
                "--description",
                "d",
                "--submitter",
                "s",
                "--priority",
                "100",
                "--sub-id",
                "7.0",
                "--device",
                "d",
                "--type",
                "t",
                "--worker",
                "w",
                "--health-check",
            ],
        ),
        (
            Kind::Worker,
            &["worker", "w", "--state", "online", "--health", "active"],
        ),
        (
            Kind::Attempt,
            &["attempt", "--device", "d", "--job", "7", "--exit-code", "0"],
        ),
        (
            Kind::Attempt,
            &[
                "attempt",
                "--device",
                "d",
                "--job",
                "7.1",
                "--exit-code",
                "-1",
                "--detail",
                &long,
            ],
        ),
        (
            Kind::Attempt,
            &[
                "attempt",
                "--device",
                "d",
                "--job",
                "99999999999999999999",
                "--exit-code",
                "0",
                "--started",
                "2h ago",
                "--finished",
                "-1h",
                "--outcome",
                "neutral",
                "--phase",
                "p",
                "--error-type",
                "Job",
            ],
        ),
        (
            Kind::Stage,
            &["stage", "--service", "s", "--request-id", "r", "--status", "received"],
        ),
        (
            Kind::Stage,
            &[
                "stage",
                "--service",
                "s",
                "--request-id",
                "r",
                "--status",
                "error",
                "--date",
                "yesterday",
                "--message",
                &long,
                "--source",
                "s",
                "--account",
                "a",
                "--inventory-id",
                "i",
                "--system-id",
                "s",
                "--job",
                "job/7",
            ],
        ),
        (Kind::Fault, &["fault", "--subject", "s", "--message", &long]),
        (
            Kind::Fault,
            &[
                "fault",
                "--subject",
                "s",
                "--message",
                "a\n b",
                "--details",
                &long,
                "--cleared",
            ],
        ),
        (Kind::Fault, &["fault", "--subject", "s", "--cleared"]),
        (Kind::Result, &["result", "--testcase", "t", "--outcome", "passed"]),
        (
            Kind::Result,
            &[
                "result",
                "--testcase",
                "t",
                "--outcome",
                "crashed",
                "--run",
                "r",
                "--item",
                "i",
                "--type",
                "t",
                "--note",
                "n",
                "--url",
                "u",
                "--job",
                "7",
                "--device",
                "d",
                "--data",
                "a=b",
            ],
        ),
        (
            Kind::Result,
            &["result", "--run", "r", "--status", "aborted", "--note", "n"],
        ),
        (Kind::Result, &["tap", "x"]),
        (
            Kind::Result,
            &[
                "tap",
                "x",
                "--run",
                "r",
                "--url-template",
                "u/{run}",
                "--job",
                "7",
                "--device",
                "d",
            ],
        ),
    ];
    for (kind, line) in lines {
        let records = records(line);
        assert!(!records.is_empty());
        for record in records {
            assert_eq!(Kind::of(&record.topic), kind);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tap_document_is_right_by_the_schema(lines in proptest::collection::vec(
        "(  |    )?((not )?ok( [0-9]+)?( - )?\\PC{0,9}( # (SKIP|TODO)?\\PC{0,5})?|1\\.\\.[0-9]|---|\\.\\.\\.|outcome: [A-Z]{0,6}|item: \\PC{0,9}|Bail out!.{0,5})",
        0..20,
    )) {
        let emit = emit(&["tap", "--run", "r"]);
        let EventCommand::Tap(tap) = emit.event.unwrap() else { panic!() };
        for record in tap.read(&lines.join("\n"), &emit.sending).unwrap().1 {
            schemas::check(&record);
        }
    }

    #[test]
    fn any_text_of_a_fault_is_right_by_the_schema(message in "\\PC{0,300}|[\\x00-\\x7f]{0,300}") {
        let cut = own_data::message(&message);
        prop_assert!(cut.chars().count() <= lavabus_protocol::event::MAX_MESSAGE && !cut.contains(['\r', '\n']));
    }
}
