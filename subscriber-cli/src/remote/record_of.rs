//! One object, as a publisher's second port shows it.

use lavabus_client::SecondPort;
use serde_json::Value;

use super::ask;
use crate::context::Context;
use crate::failure::Failure;
use crate::format::Format;
use crate::table::{Cell, Table};

/// The members that are known, in the order in which they are shown.
const COLUMNS: [&str; 24] = [
    "job",
    "device",
    "worker",
    "lab",
    "sub_id",
    "state",
    "health",
    "since",
    "description",
    "submitter",
    "priority",
    "health_check",
    "device_type",
    "last_job",
    "devices",
    "streak",
    "success_rate",
    "last_failure",
    "submitted",
    "started",
    "ended",
    "cause",
    "fault",
    "updated",
];

/// The text of `show job|device|worker NAME`; `path` is where it is.
pub(crate) async fn show_one(port: &SecondPort, path: &[&str], context: &Context) -> Result<String, Failure> {
    let object = ask(port, path, &[]).await?;
    if context.format == Some(Format::Json) {
        return Ok(format!("{object}\n"));
    }
    let mut table = Table::new(&COLUMNS);
    table.push(COLUMNS.iter().map(|name| cell(object.get(name))).collect());
    table.to_records(context.format.as_ref(), context.color, "show")
}

fn cell(value: Option<&Value>) -> Cell {
    let text = match value {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Array(items)) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            Some(items.join(" ")).filter(|text| !text.is_empty())
        }
        Some(Value::Object(fault)) => fault.get("message").and_then(Value::as_str).map(str::to_owned),
        Some(other) => Some(other.to_string()),
    };
    text.into()
}
