//! One object, as a publisher's second port shows it, under the names that it has out of a database.

use jiff::Timestamp;
use lavabus_client::SecondPort;
use lavabus_store::question::history::one_line;
use serde_json::Value;

use super::ask;
use crate::context::Context;
use crate::failure::Failure;
use crate::format::Format;
use crate::table::{Cell, Table};

/// The text of `show job|device|worker NAME`; `path` is where it is.
pub(crate) async fn show_one(
    port: &SecondPort,
    path: &[&str],
    columns: &'static [&'static str],
    context: &Context,
) -> Result<String, Failure> {
    let object = ask(port, path, &[]).await?;
    if context.format == Some(Format::Json) {
        return Ok(format!("{object}\n"));
    }
    let mut table = Table::new(columns);
    table.push(columns.iter().map(|column| cell(&object, column)).collect());
    table.to_records(context.format.as_ref(), context.color, "show")
}

/// What the answer says of this column; nothing of those that only the reader's own clock tells.
fn cell(object: &Value, column: &str) -> Cell {
    let current = object.get("fault").filter(|fault| fault["cleared"].is_null());
    let fault = |name: &str| current?.get(name);
    let member = match column {
        "heard" => object.get("updated"),
        "device_names" => object.get("devices"),
        "fault" => fault("message"),
        "fault_first" => fault("first"),
        "fault_last" => fault("last"),
        "fault_count" => fault("count"),
        "fault_origin" => fault("origin"),
        _ => object.get(column),
    };
    match (column, member) {
        ("success_rate", share) => Cell::Share(share.and_then(Value::as_f64)),
        (_, None | Some(Value::Null)) => Cell::Text(None),
        (
            "since" | "submitted" | "started" | "ended" | "heard" | "fault_first" | "fault_last",
            Some(Value::String(time)),
        ) => Cell::Time(time.parse::<Timestamp>().ok().map(Timestamp::as_microsecond)),
        ("devices", Some(Value::Array(devices))) => Cell::Number(i64::try_from(devices.len()).unwrap_or(i64::MAX)),
        ("fault", Some(Value::String(message))) => one_line(message).into(),
        (_, Some(Value::String(text))) => text.as_str().into(),
        (_, Some(Value::Bool(flag))) => Cell::Flag(*flag),
        (_, Some(Value::Array(items))) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            items.join(" ").into()
        }
        (_, Some(other)) => other.to_string().into(),
    }
}
