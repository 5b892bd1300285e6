//! What `/metrics` answers, read strictly.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::HttpClient;

/// One answer.
#[derive(Clone, Debug)]
pub struct Exposition {
    /// As it came.
    pub text: String,
    /// Each family by its name.
    pub families: BTreeMap<String, Family>,
}

/// One metric.
#[derive(Clone, Debug)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    pub help: String,
    pub samples: Vec<Sample>,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Exposition {
    /// Asks for it.
    pub async fn of(address: SocketAddr) -> Exposition {
        let answer = HttpClient::new(address).get("/metrics").await;
        assert_eq!(
            (answer.status, &*answer.content_type),
            (200, "text/plain; version=0.0.4; charset=utf-8")
        );
        Exposition::parse(&answer.body)
    }

    /// Every line must be what the format asks for, in its order.
    pub fn parse(text: &str) -> Exposition {
        assert!(text.ends_with('\n'));
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let (mut help, mut current) = (None, String::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, text) = rest.split_once(' ').unwrap();
                help = Some((name.to_owned(), text.to_owned()));
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                let (helped, help) = help.take().expect("a help before each type");
                assert_eq!(helped, name);
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                current = name.to_owned();
                let family = Family {
                    kind: kind.to_owned(),
                    help,
                    samples: Vec::new(),
                };
                assert!(families.insert(current.clone(), family).is_none(), "{name} comes twice");
            } else {
                let sample = Sample::parse(line);
                let family = families.get_mut(&current).expect("a type before each sample");
                let own = sample.name.strip_prefix(&current).expect("samples of the family");
                match &*family.kind {
                    "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&own), "{line}"),
                    _ => assert_eq!(own, "", "{line}"),
                }
                family.samples.push(sample);
            }
        }
        let text = text.to_owned();
        Exposition { text, families }
    }

    /// The value of the sample with this name and exactly these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: BTreeMap<String, String> = labels
            .iter()
            .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()))
            .collect();
        let mut samples = self.families.values().flat_map(|family| &family.samples);
        let found = samples.find(|sample| sample.name == name && sample.labels == labels);
        found.unwrap_or_else(|| panic!("no {name} {labels:?}")).value
    }
}

impl Sample {
    fn parse(line: &str) -> Sample {
        let (name_and_labels, value) = line.rsplit_once(' ').expect("a value");
        let value = value.parse().unwrap();
        let (name, labels) = match name_and_labels.split_once('{') {
            None => (name_and_labels, ""),
            Some((name, rest)) => (name, rest.strip_suffix('}').expect("an end of the labels")),
        };
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
        Sample {
            name: name.to_owned(),
            labels: parse_labels(labels),
            value,
        }
    }
}

fn parse_labels(mut rest: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while let Some((label, behind)) = rest.split_once("=\"") {
        let (mut value, mut characters) = (String::new(), behind.char_indices());
        let end = loop {
            match characters.next().expect("an end of the value") {
                (at, '"') => break at,
                (_, '\\') => match characters.next().unwrap().1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        assert!(labels.insert(label.to_owned(), value).is_none());
        rest = &behind[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    assert_eq!(rest, "");
    labels
}
