#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

/// Everything that was read, as text.
fn show(text: &str) -> String {
    let document = read(text);
    let mut shown = String::new();
    for result in &document.results {
        let TestCase {
            line, name, outcome, ..
        } = result;
        write!(shown, "{line}: {outcome} {name:?}").unwrap();
        let details = [
            ("item", &result.item),
            ("type", &result.item_type),
            ("note", &result.note),
        ];
        for (key, value) in details {
            if let Some(value) = value {
                write!(shown, " {key}={value:?}").unwrap();
            }
        }
        if !result.data.is_empty() {
            write!(shown, " {}", Value::from(result.data.clone())).unwrap();
        }
        shown.push('\n');
    }
    for warning in &document.warnings {
        writeln!(shown, "warning {}: {}", warning.line, warning.text).unwrap();
    }
    let note = document.note.map(|note| format!(": {note}")).unwrap_or_default();
    write!(shown, "{}{note}", document.status.as_str()).unwrap();
    shown
}

fn show_all(documents: &[(&str, &str)]) -> String {
    let shown = documents
        .iter()
        .map(|(name, text)| format!("# {name}\n{}\n", show(text)));
    shown.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_sample_of_taskotron_has_three_results() {
    insta::assert_snapshot!(show(include_str!("../../../../../tests/data/taskotron.tap")));
}

#[test]
fn a_plain_document() {
    insta::assert_snapshot!(show(
        "TAP version 13\n1..4\nok 1 - a\nnot ok 2 - b\nok 3 - c # SKIP no board\nnot ok 4 - d # TODO later\n# done\n"
    ));
}

#[test]
fn what_is_wrong_with_numbers_and_plans_is_said() {
    insta::assert_snapshot!(show_all(&[
        ("plan_last", "ok\nok\n1..2\n"),
        ("plan_not_met", "1..3\nok 1\nok 2\n"),
        ("plan_exceeded", "1..1\nok 1\nok 2\n"),
        ("plan_between", "ok 1\n1..2\nok 2\n"),
        ("two_plans", "1..1\nok 1\n1..5\n"),
        ("no_plan", "ok 1\n"),
        ("nothing", ""),
        ("skipped", "1..0 # SKIP no board today\n"),
        ("numbers", "1..4\nok 1\nok 3\nok 3\nok\n"),
        ("huge_plan", "1..18446744073709551616\nok 18446744073709551615\nok\n"),
        ("bail_out", "1..3\nok 1\nBail out! the power is gone\nok 2\n"),
    ]));
}

#[test]
fn subtests_are_told_from_mistakes() {
    insta::assert_snapshot!(show_all(&[
        (
            "subtest_with_plan_behind",
            "1..2\n    ok 1 - a\n    not ok 2 - b\n    1..2\nnot ok 1 - usb\nok 2 - net\n",
        ),
        (
            "subtest_announced",
            "1..1\n# Subtest: usb\n    1..1\n    ok 1 - a\n        ---\n        rc: 0\n        ...\nok 1 - usb\n",
        ),
        (
            "subtest_announced_inside",
            "1..1\n    # Subtest: usb\n    ok 1 - a\n    1..1\nok 1 - usb\n",
        ),
        (
            "subtest_in_subtest",
            "1..1\n        ok 1 - b\n        1..1\n    ok 1 - a\n    1..1\nok 1 - usb\n",
        ),
        ("subtest_not_met", "1..1\n    1..2\n    ok 1 - a\nok 1 - usb\n"),
        (
            "indented_by_mistake_twice",
            "ok 1\n  ok 2\n        ok 3\n    ok 4\n1..4\n"
        ),
        ("indented_by_mistake", "1..3\nok 1 - a\n  ok 2 - b\nok 3 - c\n"),
        ("indented_as_a_whole", "    1..2\n    ok 1 - a\n    ok 2 - b\n"),
    ]));
}

#[test]
fn blocks() {
    insta::assert_snapshot!(show_all(&[
        ("block_not_ended", "1..2\nok 1 - a\n  ---\n  item: x\nok 2 - b\n"),
        (
            "block_not_ended_hides_no_test",
            "1..2\nok 1 - a\n  ---\n  item: x\n    not ok 2 - b\n",
        ),
        (
            "block_with_text_like_tests",
            "1..1\nok 1 - a\n  ---\n  ok: true\n  details:\n    output: |\n      not ok 1\n      ...\n  ...\n",
        ),
        ("block_of_nobody", "1..1\n  ---\n  a: 1\n  ...\nok 1\n"),
        ("block_not_yaml", "1..1\nnot ok 1\n  ---\n  a: b: c\n  ...\n"),
        (
            "block_against_its_line",
            "1..3\nok 1\n  ---\n  outcome: failed\n  ...\nnot ok 2\n  ---\n  outcome: PASSED\n  ...\nok 3\n  ---\n  outcome: GREEN\n  ...\n",
        ),
        (
            "block_with_carriage_returns",
            "1..1\r\nok 1 - a\r\n  ---\r\n  item: x\r\n  ...\r\n",
        ),
    ]));
}

/// Whether this line is a test, decided without the code that is tested.
fn is_test(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let word = match words.as_slice() {
        ["not", word, ..] | [word, ..] => word,
        [] => return false,
    };
    let rest = word.strip_prefix("ok");
    rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
}

fn line() -> impl Strategy<Value = String> {
    let blanks = prop_oneof![
        Just(""),
        Just("  "),
        Just("    "),
        Just("        "),
        Just("\t"),
        Just("\u{a0}")
    ];
    let text = prop_oneof![
        4 => "(not )?ok( [0-9]{1,20})?( - )?[ -~]{0,12}",
        1 => "1\\.\\.[0-9]{1,2}( # SKIP)?",
        1 => Just("---".to_owned()),
        1 => Just("a: 1".to_owned()),
        1 => Just("# Subtest: s".to_owned()),
        1 => "\\PC{0,12}",
        1 => "[#\\\\ okSKIPTODO:.-]{0,12}",
    ];
    (blanks, text).prop_map(|(blanks, text)| format!("{blanks}{text}"))
}

proptest! {
    #[test]
    fn no_test_line_is_lost(lines in proptest::collection::vec(line(), 0..30)) {
        let text = lines.join("\n");
        // "ok:" may be a key in a block that is never closed: that alone is no test there.
        let expected = lines.iter().filter(|line| is_test(line) && !line.contains("ok:")).count();
        let keys = lines.iter().filter(|line| line.contains("ok:")).count();
        let found = read(&text).results.len();
        prop_assert!((expected..=expected + keys).contains(&found), "{found} of {expected}");
    }

    #[test]
    fn in_a_closed_block_it_stays_as_data(lines in proptest::collection::vec(line(), 0..10)) {
        let inside: String = lines.iter().map(|line| format!("      {line}\n")).collect();
        let text = format!("1..1\nok 1\n  ---\n  details:\n    output: |-\n{inside}  ...\n");
        let document = read(&text);
        prop_assert_eq!(document.results.len(), 1);
        let kept = Value::from(document.results[0].data.clone()).to_string();
        for line in lines.iter().filter(|line| is_test(line)) {
            let line = Value::from(line.trim()).to_string();
            prop_assert!(kept.contains(line.trim_matches('"')), "{line} is not in {kept}");
        }
    }

    #[test]
    fn any_text_is_read(text in "(\\PC|[ \t\r\n.#-]|ok|not ok|---|\\.\\.\\.|1\\.\\.2){0,60}") {
        let document = read(&text);
        prop_assert!(document.results.iter().all(|result| !result.name.is_empty()));
    }
}

#[test]
fn a_long_and_deep_document_takes_no_time() {
    let deep: String = (0..1_000)
        .map(|depth| format!("{:depth$}ok\n{:depth$} ---\n{:depth$}1..1\n", "", "", ""))
        .collect();
    assert_eq!(read(&deep).results.len(), 1_000);
    let open: String = (0..20_000).map(|_| "ok\n ---\n  ok\n").collect();
    assert_eq!(read(&open).results.len(), 40_000);
}
