//! How events are written.

mod csv;
pub(crate) mod plain;
mod template;

use std::str::FromStr;

use lavabus_protocol::Record;

pub use self::template::TemplateError;

/// A way to write one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// One line for people, as lavacli prints it.
    Plain,
    /// One JSON object a line.
    Json,
    /// One JSON array of the five frames a line, as LAVA's WebSocket sends it.
    Raw,
    /// Comma-separated values with a header; the columns stay as they are, more may follow at the end.
    Csv,
    /// One line by this minijinja template, which is known to be sound.
    Template(String),
    /// For pasting into an issue; `lavabus timeline` only.
    Markdown,
}

/// Why a text is no format.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// No format has this name.
    #[error("there is no such format, expected {EXPECTED}")]
    Unknown,
    /// The template cannot be read.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

const EXPECTED: &str = "plain, json (or jsonl), raw, csv or template='{{ job }} {{ state }}'";

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Format, FormatError> {
        match text {
            "plain" => Ok(Format::Plain),
            "json" | "jsonl" => Ok(Format::Json),
            "raw" => Ok(Format::Raw),
            "csv" => Ok(Format::Csv),
            "markdown" => Ok(Format::Markdown),
            _ => match text.strip_prefix("template=") {
                Some(template) => {
                    template::Template::compile(template)?;
                    Ok(Format::Template(template.to_owned()))
                }
                None => Err(FormatError::Unknown),
            },
        }
    }
}

/// Writes events, one after the other.
///
/// ```
/// use lavabus_cli::format::{Format, Printer};
/// use lavabus_protocol::Record;
///
/// let record = Record::from_json_line(
///     r#"["lab.worker", "8e503fbe-e568-11f1-8b37-02fc00000001", "2026-11-21T05:01:05+00:00", "lavaserver",
///         "{\"hostname\": \"worker-02\", \"state\": \"Online\", \"health\": \"Active\"}"]"#,
/// )?;
/// let mut text = Vec::new();
/// Printer::new(&Format::Plain, false)?.write(&record, &mut text)?;
/// let line = "2026-11-21T05:01:05+00:00 lab.worker lavaserver - [worker-02] state=Online health=Active\n";
/// assert_eq!(text, line.as_bytes());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Printer {
    style: Style,
}

enum Style {
    Plain { color: bool },
    Json,
    Raw,
    Csv { has_header: bool },
    Template(Box<template::Template>),
}

impl Printer {
    /// A printer for this format; only plain has colour.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] if the template cannot be read.
    pub fn new(format: &Format, color: bool) -> Result<Printer, TemplateError> {
        let style = match format {
            // `run` lets nobody print events as markdown.
            Format::Plain | Format::Markdown => Style::Plain { color },
            Format::Json => Style::Json,
            Format::Raw => Style::Raw,
            Format::Csv => Style::Csv { has_header: false },
            Format::Template(text) => Style::Template(Box::new(template::Template::compile(text)?)),
        };
        Ok(Printer { style })
    }

    /// Appends one event to `out`, with the newline at its end.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] if the template fails on this event; nothing is appended then.
    pub fn write(&mut self, record: &Record, out: &mut Vec<u8>) -> Result<(), TemplateError> {
        match &mut self.style {
            Style::Plain { color } => plain::write(record, *color, out),
            Style::Json => out.extend_from_slice(record.to_json_line().as_bytes()),
            Style::Raw => out.extend_from_slice(raw(record).as_bytes()),
            Style::Csv { has_header } => {
                if !*has_header {
                    csv::write_header(out);
                    *has_header = true;
                }
                csv::write(record, out);
            }
            Style::Template(template) => out.extend_from_slice(template.render(record)?.as_bytes()),
        }
        // The csv writer ends its rows itself.
        if !out.ends_with(b"\n") {
            out.push(b'\n');
        }
        Ok(())
    }
}

impl std::fmt::Debug for Printer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Printer").finish_non_exhaustive()
    }
}

/// One event as plain writes it, without colour and newline.
pub fn plain_line(record: &Record) -> String {
    let mut line = Vec::new();
    plain::write(record, false, &mut line);
    String::from_utf8_lossy(&line).into_owned()
}

/// The data is JSON inside a string, so it stands there byte for byte.
fn raw(record: &Record) -> String {
    let uuid = record.uuid.to_string();
    let frames = [&record.topic, &uuid, &record.datetime, &record.username, &record.data];
    serde_json::to_string(&frames).expect("texts are always representable as JSON")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const CAPTURE: &str = include_str!("../../tests/data/lava-capture.jsonl");

    /// One event of each kind, and one with all that can be odd.
    fn sample() -> Vec<Record> {
        let mut records: Vec<Record> = [0, 1, 2, 6, 7]
            .into_iter()
            .map(|index| Record::from_json_line(CAPTURE.lines().nth(index).unwrap()).unwrap())
            .collect();
        let event = CAPTURE.lines().find(|line| line.contains(".event\"")).unwrap();
        records.push(Record::from_json_line(event).unwrap());
        records.push(
            Record::from_json_line(
                r#"{"topic":"lab.event","uuid":"8e503fbe-e568-11f1-8b37-02fc00000001","datetime":"2026-11-21T05:01:05+00:00","username":"a,\"b\"","data":{"message":"red \u001b[31m é\n, \"x\"","job":"4000.1"},"cursor":"5f0e11d2/7/8e503fbe-e568-11f1-8b37-02fc00000001","lab":"staging"}"#,
            )
            .unwrap(),
        );
        records.push(
            Record::from_json_line(
                r#"["lab.fault", "8e503fbe-e568-11f1-8b37-02fc00000002", "", "ann", "{\"job\": 7,\n\"message\": \"m\"}"]"#,
            )
            .unwrap(),
        );
        records
    }

    fn written(format: &str, color: bool) -> String {
        let mut printer = Printer::new(&format.parse().unwrap(), color).unwrap();
        let mut out = Vec::new();
        for record in sample() {
            printer.write(&record, &mut out).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn golden_output_of_every_format() {
        insta::assert_snapshot!("plain", written("plain", false));
        insta::assert_snapshot!("plain_color", written("plain", true).replace('\u{1b}', "ESC"));
        insta::assert_snapshot!("json", written("json", false));
        insta::assert_snapshot!("raw", written("raw", false));
        insta::assert_snapshot!("csv", written("csv", false));
        let template = "template={{ kind }}|{{ job }}|{{ device }}|{{ state }}|{{ data.message }}|{{ lab }}|{{ cursor }}|{{ username }}";
        insta::assert_snapshot!("template", written(template, false));
    }

    #[test]
    fn json_and_raw_read_back() {
        for line in CAPTURE.lines() {
            let record = Record::from_json_line(line).unwrap();
            for format in [Format::Json, Format::Raw] {
                let mut out = Vec::new();
                Printer::new(&format, false).unwrap().write(&record, &mut out).unwrap();
                assert_eq!(
                    Record::from_json_line(std::str::from_utf8(&out).unwrap()),
                    Ok(record.clone())
                );
            }
        }
    }

    #[test]
    fn jsonl_is_json_and_what_is_wrong_is_said() {
        assert_eq!("jsonl".parse::<Format>().unwrap(), Format::Json);
        let error = |text: &str| text.parse::<Format>().unwrap_err().to_string();
        assert!(error("xml").contains("expected plain, json"));
        assert!(
            error("template={{ job").contains("line 1"),
            "{}",
            error("template={{ job")
        );
    }
}
