//! One line for people: what lavacli 3.1 prints for `events listen`, so that scripts that read its lines still do.
//!
//! ```text
//! <datetime> <topic> <username> - <message>
//!
//! device   [NAME] <TYPE> state=… health=… for JOB
//! testjob  [JOB] <DEVICE> state=… health=… (DESCRIPTION)
//! worker   [HOSTNAME] state=… health=…
//! event    [JOB] message=…
//! attempt  [DEVICE] <PHASE> exit_code=… for JOB (DETAIL)
//! stage    [REQUEST] <SERVICE> status=… (MESSAGE)
//! fault    [SUBJECT] message=…
//! result   [TESTCASE] <ITEM> outcome=… for JOB (NOTE)
//! others   the data
//! ```
//!
//! What is missing is `??`. Where there are several labs, the line begins with the lab's name. Control characters in
//! what others wrote are escaped: they could command the terminal.

use std::fmt::Write as _;
use std::io::Write as _;

use anstyle::{AnsiColor, Style};
use lavabus_protocol::Record;
use lavabus_protocol::event::Body;

pub(super) fn write(record: &Record, color: bool, out: &mut Vec<u8>) {
    let style = |style: Style| if color { style } else { Style::new() };
    let time = style(AnsiColor::BrightBlack.on_default());
    let topic = style(Style::new().bold());
    let user = style(AnsiColor::Green.on_default());
    let lab = style(AnsiColor::Cyan.on_default());
    if let Some(name) = &record.lab {
        let _ = write!(out, "{lab}{}{lab:#} ", printable(name));
    }
    // Writing into memory does not fail.
    let _ = write!(
        out,
        "{time}{}{time:#} {topic}{}{topic:#} {user}{}{user:#} - {}",
        printable(&record.datetime),
        printable(&record.topic),
        printable(&record.username),
        printable(&message(record)),
    );
}

/// What stands behind the dash.
pub(crate) fn message(record: &Record) -> String {
    let event = record.event();
    let or_unknown = |text: Option<&str>| text.unwrap_or("??").to_owned();
    let job = or_unknown(event.job().map(|job| job.as_str()));
    let (state, health) = (or_unknown(event.state()), or_unknown(event.health()));
    match event.body() {
        Body::Device(device) => {
            let name = or_unknown(device.device.as_deref());
            let device_type = or_unknown(device.device_type.as_deref());
            let mut line = format!("[{name}] <{device_type}> state={state} health={health}");
            if device.job.is_some() {
                let _ = write!(line, " for {job}");
            }
            line
        }
        Body::Job(body) => {
            let device = or_unknown(body.device.as_deref());
            let description = body.description.as_deref().unwrap_or_default();
            format!("[{job}] <{device}> state={state} health={health} ({description})")
        }
        Body::Worker(worker) => {
            let name = or_unknown(worker.hostname.as_deref());
            format!("[{name}] state={state} health={health}")
        }
        Body::Message(body) => format!("[{job}] message={}", or_unknown(body.message.as_deref())),
        Body::Attempt(attempt) => {
            let device = or_unknown(attempt.device.as_deref());
            let phase = attempt.phase.as_deref().unwrap_or("job");
            let code = attempt.exit_code.map_or("??".to_owned(), |code| code.to_string());
            let detail = attempt.detail.as_deref().unwrap_or_default();
            format!("[{device}] <{phase}> exit_code={code} for {job} ({detail})")
        }
        Body::Stage(stage) => {
            let [request, service, status] =
                [&stage.request, &stage.service, &stage.status].map(|text| or_unknown(text.as_deref()));
            let message = stage.message.as_deref().unwrap_or_default();
            format!("[{request}] <{service}> status={status} ({message})")
        }
        Body::Fault(fault) => {
            let subject = or_unknown(fault.subject.as_deref());
            match fault.cleared {
                Some(true) => format!("[{subject}] cleared {}", fault.message.as_deref().unwrap_or("all")),
                _ => format!("[{subject}] message={}", or_unknown(fault.message.as_deref())),
            }
        }
        Body::Result(result) => match (&result.testcase, &result.status) {
            (None, Some(status)) => format!("[run {}] status={status}", or_unknown(result.run.as_deref())),
            (testcase, _) => {
                let [testcase, outcome] = [testcase, &result.outcome].map(|text| or_unknown(text.as_deref()));
                let item = result.item.as_deref().unwrap_or_default();
                let note = result.note.as_deref().unwrap_or_default();
                format!("[{testcase}] <{item}> outcome={outcome} for {job} ({note})")
            }
        },
        Body::Other(_) => record.data.replace(['\n', '\r'], " "),
    }
}

/// The text with its control characters escaped.
pub(crate) fn printable(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let mut printable = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character.is_control() {
            true => printable.extend(character.escape_default()),
            false => printable.push(character),
        }
    }
    printable
}
