//! One event, read once for all projections.

use lavabus_protocol::event::read_datetime;
use lavabus_protocol::{Event as TypedEvent, Kind};

use crate::reader::EventRow;

/// A row of the journal and what it says.
#[derive(Debug, Clone)]
pub struct Told<'a> {
    /// As it lies in the journal.
    pub row: EventRow<'a>,
    /// Its typed view.
    pub event: TypedEvent,
    /// When it was sent in µs since 1970, by its third frame or else by its version 1 UUID.
    pub sent_us: Option<i64>,
}

impl<'a> Told<'a> {
    /// Reads one row.
    pub fn read(row: EventRow<'a>) -> Told<'a> {
        let sent = read_datetime(row.sent).or_else(|| row.id.time());
        Told {
            event: TypedEvent::read(Kind::of(row.topic), row.data),
            sent_us: sent.map(|sent| sent.as_microsecond()),
            row,
        }
    }

    /// When it happened, as far as that can be told: when it was sent, else when it was received.
    pub fn at_us(&self) -> i64 {
        self.sent_us.unwrap_or(self.row.received_us)
    }
}

/// A time in an event's data, in µs since 1970.
pub(crate) fn time_us(text: Option<&str>) -> Option<i64> {
    Some(read_datetime(text?)?.as_microsecond())
}
