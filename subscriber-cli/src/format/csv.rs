//! Comma-separated values, RFC 4180 but for the line end.

use lavabus_protocol::{Kind, Record};

const COLUMNS: [&str; 16] = [
    "datetime",
    "uuid",
    "topic",
    "kind",
    "username",
    "job",
    "device",
    "device_type",
    "worker",
    "state",
    "health",
    "submitter",
    "message",
    "cursor",
    "lab",
    "data",
];

pub(super) fn write_header(out: &mut Vec<u8>) {
    write_row(COLUMNS, out);
}

pub(super) fn write(record: &Record, out: &mut Vec<u8>) {
    let event = record.event();
    let uuid = record.uuid.to_string();
    let cursor = record.cursor.map(|cursor| cursor.to_string()).unwrap_or_default();
    let row: [&str; COLUMNS.len()] = [
        &record.datetime,
        &uuid,
        &record.topic,
        Kind::of(&record.topic).as_str(),
        &record.username,
        event.job().map(|job| job.as_str()).unwrap_or_default(),
        event.device().unwrap_or_default(),
        event.device_type().unwrap_or_default(),
        event.worker().unwrap_or_default(),
        event.state().unwrap_or_default(),
        event.health().unwrap_or_default(),
        event.submitter().unwrap_or_default(),
        event.message().unwrap_or_default(),
        &cursor,
        record.lab.as_deref().unwrap_or_default(),
        &record.data,
    ];
    write_row(row, out);
}

fn write_row(row: [&str; COLUMNS.len()], out: &mut Vec<u8>) {
    let mut writer = csv::WriterBuilder::new().buffer_capacity(1024).from_writer(out);
    writer
        .write_record(row)
        .and_then(|()| Ok(writer.flush()?))
        .expect("a vector takes all, and all rows have the same length");
}
