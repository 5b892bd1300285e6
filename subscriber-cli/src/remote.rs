//! The questions that a publisher's second port answers, for those who have no database: `--bus http(s)://…`.

mod record_of;

use std::path::PathBuf;

use jiff::Timestamp;
use lavabus_client::{SecondPort, filter_query};
use lavabus_protocol::filter::Candidate;
use lavabus_protocol::{Cursor, Record};
use lavabus_store::RejectedMessage;
use lavabus_store::question::timeline::{Subject, timeline};
use serde_json::Value;

pub(crate) use self::record_of::show_one;
use crate::bus::Address;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::outlet::{Outlet, port_failure};
use crate::query;

/// The most events of a page.
const PAGE: usize = 1000;

/// The port that is to be asked: that of the bus that was named, if it is one and no database was.
pub(crate) fn port(database: Option<&PathBuf>, context: &Context) -> Result<Option<SecondPort>, Failure> {
    let [bus] = context.buses.as_slice() else {
        return Ok(None);
    };
    if database.is_some() || !context.is_bus_named || !matches!(bus.address, Address::Http(_)) {
        return Ok(None);
    }
    Ok(Outlet::of(bus, context, &[])?.second_port().cloned())
}

/// The answer to one question.
pub(crate) async fn ask(port: &SecondPort, path: &[&str], query: &[(String, String)]) -> Result<Value, Failure> {
    let answer = port.get_json(path, query).await;
    answer.map_err(|error| port_failure(port, &error))
}

/// A parameter.
pub(crate) fn parameter(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

/// `lavabus query`: hands on the events that match until enough was taken, in the order of the pages.
pub(crate) async fn select(
    port: &SecondPort,
    arguments: &query::Arguments,
    newest_first: bool,
    mut take: impl FnMut(Record) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut fixed = filter_query(&arguments.filter.filter);
    fixed.push(parameter("limit", PAGE));
    fixed.extend(arguments.since.map(|since| parameter("since", since)));
    fixed.extend(arguments.until.map(|until| parameter("until", until)));
    if newest_first {
        fixed.push(parameter("reverse", true));
    }
    // A page goes on behind one cursor; the other one ends it.
    let (begin, end) = match newest_first {
        true => (arguments.before, arguments.after),
        false => (arguments.after, arguments.before),
    };
    let is_beyond = |record: &Record, end: Cursor| {
        let seq = |cursor: Cursor| cursor.position.map(|position| position.seq);
        match (record.cursor.and_then(seq), seq(end)) {
            (Some(seq), Some(end)) if newest_first => seq <= end,
            (Some(seq), Some(end)) => seq >= end,
            _ => record.uuid == end.uuid,
        }
    };
    let mut after = begin;
    loop {
        let mut query = fixed.clone();
        query.extend(after.map(|after| parameter("after", after)));
        let page = port.events(&query).await.map_err(|error| port_failure(port, &error))?;
        let is_unknown = |gap: &Value| gap.get("reason").is_some_and(|reason| reason == "unknown_cursor");
        if after == begin && page.gap.as_ref().is_some_and(is_unknown) {
            return Err(Failure::new(
                Exit::NoSuchObject,
                "there is no event with this cursor",
                "the publisher does not keep it, or never had it",
                "--since TIME, or the cursor of an event of this publisher (-o json)",
            ));
        }
        for record in page.events {
            if end.is_some_and(|end| is_beyond(&record, end)) {
                return Ok(());
            }
            if arguments.filter.filter.matches(&Candidate::from(&record)) && !take(record)? {
                return Ok(());
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

/// The events of a timeline as the publisher shows it, told again here. Whether more were left out comes with it.
pub(crate) fn timeline_of(
    answer: &Value,
    text: &str,
) -> Option<(
    lavabus_store::question::timeline::Timeline,
    lavabus_protocol::Epoch,
    bool,
)> {
    let subject = answer.get("subject")?.as_str()?;
    let subject = Subject::meant_by(subject).into_iter().next()?;
    #[derive(serde::Deserialize)]
    struct Events<'a> {
        #[serde(borrow)]
        events: Vec<&'a serde_json::value::RawValue>,
    }
    #[derive(serde::Deserialize)]
    struct Time {
        time: String,
    }
    let told: Events<'_> = serde_json::from_str(text).ok()?;
    let mut epoch = None;
    let mut events = Vec::new();
    for event in told.events {
        let record = Record::from_json_line(event.get()).ok()?;
        let time: Time = serde_json::from_str(event.get()).ok()?;
        let position = record.cursor?.position?;
        epoch = Some(position.epoch);
        events.push(lavabus_store::Event {
            seq: position.seq,
            id: record.uuid,
            received_us: time.time.parse::<Timestamp>().ok()?.as_microsecond(),
            topic: record.topic,
            sent: record.datetime,
            user: record.username,
            data: record.data,
            lab: record.lab.unwrap_or_default(),
        });
    }
    events.sort_by_key(|event| event.seq);
    let is_cut = answer.get("cut").and_then(Value::as_bool).unwrap_or(false);
    let now_us = Timestamp::now().as_microsecond();
    Some((timeline(&subject, events, now_us), epoch?, is_cut))
}

/// A refused message, as the publisher shows it.
pub(crate) fn rejected_of(message: &Value) -> Option<RejectedMessage> {
    let text = |name: &str| Some(message.get(name)?.as_str()?.to_owned());
    let frame = |frame: &Value| match (frame.get("text"), frame.get("hex")) {
        (Some(text), _) => Some(text.as_str()?.as_bytes().to_vec()),
        (None, hex) => {
            let hex = hex?.as_str()?.as_bytes();
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            hex.chunks(2).map(byte).collect()
        }
    };
    Some(RejectedMessage {
        number: message.get("number")?.as_u64()?,
        received_us: text("time")?.parse::<Timestamp>().ok()?.as_microsecond(),
        reason: text("reason")?,
        peer: text("peer")?,
        frames: message
            .get("frames")?
            .as_array()?
            .iter()
            .map(frame)
            .collect::<Option<_>>()?,
        size: message.get("size")?.as_u64()?,
    })
}

/// What is said of an answer that cannot be read.
pub(crate) fn unreadable(port: &SecondPort) -> Failure {
    Failure::new(
        Exit::NoConnection,
        format!("the answer of {} cannot be read", port.base()),
        "it is not as this version writes it",
        "-o json shows it as it is; a lavabus of the publisher's version",
    )
}
