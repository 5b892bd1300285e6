//! Prometheus' text format, version 0.0.4.
//!
//! The crate `prometheus-client` writes OpenMetrics, where a counter's family has another name than its sample; `promtool
//! check metrics` reads the older format only, and finds no help for any counter of it.

use std::fmt::{Display, Write as _};

use super::histogram::{BOUNDS, Histogram};

/// What the answer is said to be.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Families of metrics, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Exposition(String);

/// The samples of one family.
#[derive(Debug)]
pub(crate) struct Family<'a> {
    name: &'static str,
    text: &'a mut String,
}

impl Exposition {
    /// A number that only grows; its name ends with `_total`.
    pub(crate) fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        debug_assert!(name.ends_with("_total"), "{name}");
        self.family(name, "counter", help)
    }

    /// A number that goes up and down.
    pub(crate) fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// Durations, in seconds.
    pub(crate) fn histogram(&mut self, name: &'static str, help: &str, histogram: &Histogram) {
        let Family { text, .. } = self.family(name, "histogram", help);
        let cumulated = histogram.cumulated();
        let all = cumulated[BOUNDS.len()];
        for ((_, bound), count) in BOUNDS.iter().zip(cumulated) {
            line(text, format_args!("{name}_bucket{{le=\"{bound}\"}} {count}"));
        }
        line(text, format_args!("{name}_bucket{{le=\"+Inf\"}} {all}"));
        line(text, format_args!("{name}_sum {}", histogram.sum_seconds()));
        line(text, format_args!("{name}_count {all}"));
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let text = &mut self.0;
        line(text, format_args!("# HELP {name} {help}"));
        line(text, format_args!("# TYPE {name} {kind}"));
        Family { name, text }
    }

    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// The only one.
    pub(crate) fn value(self, value: impl Display) {
        line(self.text, format_args!("{} {value}", self.name));
    }

    /// One of several, told apart by labels.
    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        for (at, (label, text)) in labels.iter().enumerate() {
            self.text.push_str(if at == 0 { "{" } else { "," });
            self.text.push_str(label);
            self.text.push_str("=\"");
            for character in text.chars() {
                match character {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
        }
        line(self.text, format_args!("}} {value}"));
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).expect("text takes whatever is written");
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut exposition = Exposition::default();
        let mut family = exposition.counter("a_total", "What.");
        family.sample(&[("x", "a\"b\\c\nd"), ("y", "")], 3);
        assert_eq!(
            exposition.into_text(),
            "# HELP a_total What.\n# TYPE a_total counter\na_total{x=\"a\\\"b\\\\c\\nd\",y=\"\"} 3\n"
        );
    }
}
