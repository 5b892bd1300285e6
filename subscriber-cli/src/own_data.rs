//! The fifth frame of our own kinds: its keys and their order, and how long their texts may be.
//!
//! What is unknown is left out. A filler such as -1 or "" would be taken for a fact.

use std::borrow::Cow;

use lavabus_protocol::event::{MAX_DETAILS, MAX_MESSAGE, shorten};
use serde::Serialize;
use serde_json::{Map, Value};

#[derive(Debug, Serialize)]
pub(crate) struct AttemptData<'a> {
    pub(crate) device: &'a str,
    pub(crate) job_id: Value,
    pub(crate) exit_code: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) phase: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) started: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finished: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct StageData<'a> {
    pub(crate) service: &'a str,
    pub(crate) request_id: &'a str,
    pub(crate) status: &'a str,
    pub(crate) date: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) inventory_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) job: Option<Value>,
}

#[derive(Debug, Serialize)]
pub(crate) struct FaultData<'a> {
    pub(crate) subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) details: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) job: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) cleared: bool,
}

/// Either `testcase` and `outcome`, or `run` and `status`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct ResultData<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) testcase: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) item: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) item_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) job: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<&'a str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) data: Map<String, Value>,
}

/// A fault's message: one line of [`MAX_MESSAGE`] characters at most.
pub(crate) fn message(text: &str) -> String {
    let text = text.split(['\r', '\n']).map(str::trim).filter(|line| !line.is_empty());
    let text = text.collect::<Vec<_>>().join(" ");
    shorten(&text, MAX_MESSAGE).into_owned()
}

/// A text of [`MAX_DETAILS`] characters at most.
pub(crate) fn details(text: &str) -> Cow<'_, str> {
    shorten(text, MAX_DETAILS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_of_255_characters_at_most() {
        assert_eq!(message("a \n\r\n b\n"), "a b");
        let long = format!("a\n{}", "é".repeat(300));
        assert_eq!(message(&long), format!("a {}...", "é".repeat(250)));
    }

    #[test]
    fn details_have_65535_characters_at_most() {
        let longest = "😀".repeat(65_535);
        assert_eq!(details(&longest), longest);
        assert_eq!(details(&format!("{longest}x")).chars().count(), 65_535);
    }
}
