//! `docs/metrics.md` and the dashboard `docs/grafana.json` say what a real `/metrics` says, and Prometheus' own tool takes
//! all of it: `cargo test --test metrics_documented -- --ignored`, which `.ci/run` does.

#![allow(clippy::unwrap_used)]

mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

use lab::{Exposition, Family, Lab, Message, StockPush, eventually};

/// Labels whose values are the lab's or the build's.
const OPEN_LABELS: [&str; 3] = ["service", "version", "le"];
/// Labels that Prometheus adds.
const OF_THE_TARGET: [&str; 2] = ["instance", "job"];

/// Of a publisher that has everything there are figures of.
async fn exposition() -> Exposition {
    let publisher = Lab::new()
        .journal()
        .http()
        .configure(|config| config.publish_public = vec!["tcp://127.0.0.1:0".parse().unwrap()])
        .start()
        .await;
    let push = StockPush::connect(publisher.intake());
    for status in ["received", "processing", "success", "error"] {
        let data = serde_json::json!({"service": "advisor \"1\"\\", "request_id": "r-1", "status": status});
        push.send(&Message::sent_at(jiff::Timestamp::now(), "stage", &data));
    }
    push.send(&Message::new(&["no event"]));
    eventually("a refusal", || publisher.counters().refused.get() == 1).await;
    publisher.published(4).await;
    let complete = async {
        loop {
            let exposition = Exposition::of(publisher.http()).await;
            if exposition.families["lavabus_stages_total"].samples.len() == 4 {
                return exposition;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(lab::LONG, complete).await.expect("all stages")
}

fn labels_of(family: &Family) -> BTreeSet<&str> {
    let labels = family.samples.iter().flat_map(|sample| sample.labels.keys());
    labels.map(String::as_str).filter(|label| *label != "le").collect()
}

/// The texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_documented_and_no_other() {
    let exposition = exposition().await;
    let mut documented = BTreeMap::new();
    for line in include_str!("../docs/metrics.md").lines() {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", name, kind, labels, meaning, ""] = columns[..]
            && let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`'))
        {
            assert!(!meaning.is_empty(), "{name}");
            assert!(documented.insert(name, (kind, labels)).is_none(), "{name} twice");
        }
    }
    let names: Vec<&str> = exposition.families.keys().map(String::as_str).collect();
    assert_eq!(documented.keys().copied().collect::<Vec<_>>(), names);
    for (name, family) in &exposition.families {
        let (kind, labels) = documented[&**name];
        assert_eq!(family.kind, kind, "{name}");
        let mut expected = labels_of(family);
        for sample in &family.samples {
            let closed = sample
                .labels
                .iter()
                .filter(|(label, _)| !OPEN_LABELS.contains(&&***label));
            expected.extend(closed.map(|(_, value)| value.as_str()));
        }
        assert_eq!(quoted(labels).collect::<BTreeSet<_>>(), expected, "{name}");
    }
}

/// Every PromQL expression in a JSON document, with what Grafana puts in for its variables.
fn expressions(value: &serde_json::Value, into: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (key, value) in object {
                match value {
                    serde_json::Value::String(text) if key == "expr" => into.push(text.clone()),
                    // Of a variable: `label_values(METRIC, LABEL)`.
                    serde_json::Value::String(text) if key == "query" && text.contains('(') => {
                        let (metric, _) = text
                            .strip_prefix("label_values(")
                            .and_then(|rest| rest.split_once(','))
                            .unwrap();
                        into.push(metric.to_owned());
                    }
                    value => expressions(value, into),
                }
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| expressions(value, into)),
        _ => {}
    }
}

fn dashboard() -> Vec<String> {
    let dashboard: serde_json::Value = serde_json::from_str(include_str!("../docs/grafana.json")).unwrap();
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    assert!(found.len() > 20);
    let put_in = |expression: &String| {
        expression
            .replace("$__rate_interval", "5m")
            .replace("$instance", "localhost:8001")
    };
    found.iter().map(put_in).collect()
}

/// The alert rules of the document, as they stand there.
fn alerts() -> &'static str {
    let (_, behind) = include_str!("../docs/metrics.md")
        .split_once("## Alerts worth having")
        .unwrap();
    let (_, behind) = behind.split_once("```yaml\n").unwrap();
    behind.split_once("```").unwrap().0
}

fn alert_expressions() -> Vec<String> {
    let found = alerts()
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("expr: "));
    found.map(str::to_owned).collect()
}

/// What PromQL has that is neither a metric nor a label.
const WORDS: [&str; 14] = [
    "sum",
    "max",
    "min",
    "by",
    "without",
    "rate",
    "increase",
    "histogram_quantile",
    "absent",
    "time",
    "or",
    "and",
    "unless",
    "on",
];

/// A piece of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    Text(String),
    Sign(char),
}

fn tokens(expression: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => {
                let end = rest[1..].find('"').expect("an end of the text");
                tokens.push(Token::Text(rest[1..=end].to_owned()));
                end + 2
            }
            // Numbers and durations.
            '0'..='9' => rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '.')
                .unwrap_or(rest.len()),
            'a'..='z' | 'A'..='Z' | '_' => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let end = end.unwrap_or(rest.len());
                tokens.push(Token::Name(rest[..end].to_owned()));
                end
            }
            ' ' => 1,
            sign => {
                tokens.push(Token::Sign(sign));
                sign.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    tokens
}

/// Every name is a metric or a label of one of the expression's metrics, and every value that is asked for exists.
fn check(expression: &str, exposition: &Exposition) {
    let samples: Vec<_> = exposition
        .families
        .values()
        .flat_map(|family| &family.samples)
        .collect();
    let tokens = tokens(expression);
    let is_sample = |name: &String| samples.iter().any(|sample| sample.name == *name);
    let metrics: Vec<&String> = tokens
        .iter()
        .filter_map(|token| match token {
            Token::Name(name) if is_sample(name) => Some(name),
            _ => None,
        })
        .collect();
    assert!(!metrics.is_empty(), "no metric of ours: {expression}");
    let values = |label: &str| -> BTreeSet<&str> {
        let own = samples.iter().filter(|sample| metrics.contains(&&sample.name));
        own.filter_map(|sample| sample.labels.get(label).map(String::as_str))
            .collect()
    };
    for (at, token) in tokens.iter().enumerate() {
        let Token::Name(name) = token else { continue };
        if metrics.contains(&name) || WORDS.contains(&&**name) || OF_THE_TARGET.contains(&&**name) {
            continue;
        }
        let known = values(name);
        assert!(!known.is_empty(), "{name} is neither metric nor label: {expression}");
        let asked = tokens[at + 1..]
            .iter()
            .take_while(|token| matches!(token, Token::Sign('=' | '~' | '!') | Token::Text(_)));
        for text in asked {
            if let Token::Text(text) = text {
                for value in text.split('|') {
                    assert!(known.contains(value), "{name} is never {value}: {expression}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_and_the_alerts_ask_for_what_there_is() {
    let exposition = exposition().await;
    let alerts = alert_expressions();
    assert_eq!(alerts.len(), 3);
    for expression in dashboard().iter().chain(&alerts) {
        check(expression, &exposition);
    }
    let wrong = [
        "lavabus_no_such_total",
        "sum by (reasons) (lavabus_events_refused_total)",
        r#"lavabus_events_refused_total{reason="no_such"}"#,
        r#"lavabus_ready{outlet="zeromq"}"#,
    ];
    for expression in wrong {
        assert!(
            std::panic::catch_unwind(|| check(expression, &exposition)).is_err(),
            "{expression}"
        );
    }
}

/// What promtool says of this input, if it finds fault.
fn promtool(arguments: &[&str], input: &str) -> Result<(), String> {
    let mut promtool = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool in the PATH: Debian's package prometheus");
    promtool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    // It names what is not as it should be, and ends with 0 or 3.
    let is_good = output.status.success() && (arguments[1] == "rules" || said.is_empty());
    if is_good { Ok(()) } else { Err(said) }
}

fn check_rules(rules: &str) -> Result<(), String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(rules.as_bytes()).unwrap();
    promtool(&["check", "rules", file.path().to_str().unwrap()], "")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs promtool of Debian's package prometheus, which .ci/run installs"]
async fn promtool_finds_no_fault() {
    let exposition = exposition().await;
    promtool(&["check", "metrics"], &exposition.text).unwrap();
    promtool(
        &["check", "metrics"],
        &exposition.text.replace("# HELP lavabus_ready", "# lavabus_ready"),
    )
    .unwrap_err();

    check_rules(alerts()).unwrap();
    let rule = |(number, expression): (usize, &String)| {
        let expression = serde_json::to_string(expression).unwrap();
        format!("      - {{record: \"dashboard:{number}\", expr: {expression}}}\n")
    };
    let group = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    let rules: String = dashboard().iter().enumerate().map(rule).collect();
    check_rules(&(group.clone() + &rules)).unwrap();
    check_rules(&(group + &rule((0, &"sum(rate(lavabus_ready))".to_owned())))).unwrap_err();
}
