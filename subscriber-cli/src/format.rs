//! How events are written.

use std::str::FromStr;

/// A way to write one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// One line for people, as lavacli prints it.
    Plain,
    /// One JSON object a line.
    Json,
    /// One JSON array of the five frames a line, as LAVA's WebSocket sends it.
    Raw,
    /// Comma-separated values with a header.
    Csv,
    /// One line by this minijinja template.
    Template(String),
}

/// Why a text is no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// No format has this name.
    #[error(
        "there is no such format; expected plain, json (or jsonl), raw, csv or template='{{{{ job }}}} {{{{ state }}}}'"
    )]
    Unknown,
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Format, FormatError> {
        match text {
            "plain" => Ok(Format::Plain),
            "json" | "jsonl" => Ok(Format::Json),
            "raw" => Ok(Format::Raw),
            "csv" => Ok(Format::Csv),
            _ => match text.strip_prefix("template=") {
                Some(template) => Ok(Format::Template(template.to_owned())),
                None => Err(FormatError::Unknown),
            },
        }
    }
}
