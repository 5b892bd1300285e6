//! docs/seeds.md says for each fact where it is answered, and names the test: every one of them is there.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

#[test]
fn every_fact_has_its_test_or_its_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/seeds.md")).unwrap();
    let facts: Vec<Vec<&str>> = document
        .lines()
        .filter(|line| line.starts_with("| M") || line.starts_with("| S") || line.starts_with("| B"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(facts.len(), 26 + 14 + 3);
    for fact in &facts {
        let [number, _, answered, test] = fact.as_slice() else {
            panic!("{fact:?} has not four columns");
        };
        if test.is_empty() {
            let reason = answered.strip_prefix("not yet: ");
            assert!(
                reason.is_some_and(|reason| reason.len() > 10),
                "{number} has neither test nor reason"
            );
            continue;
        }
        let (file, name) = test
            .split_once("::")
            .unwrap_or_else(|| panic!("{number}: {test} is no test"));
        let text = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{number}: {file}: {error}"));
        let defined = format!("fn {name}(");
        let at = text
            .find(&defined)
            .unwrap_or_else(|| panic!("{number}: there is no {test}"));
        let before = &text[..at];
        let is_test = before
            .rfind("test")
            .is_some_and(|test| test > before.rfind("}\n").unwrap_or(0));
        assert!(is_test, "{number}: {test} is no test");
    }
}
