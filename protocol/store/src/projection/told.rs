//! One event, read once for all projections.

use lavabus_protocol::event::{read_datetime, shorten};
use lavabus_protocol::{Event as TypedEvent, Kind};

use crate::reader::EventRow;

/// A clock that is further ahead than this counts as this far ahead, so that one event from a wrong century does not
/// stay the newest for ever. A day, in µs.
pub(crate) const AHEAD_US: i64 = 24 * 3_600 * 1_000_000;

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
        self.sent_us
            .map_or(self.row.received_us, |sent_us| self.not_ahead(sent_us))
    }

    /// A time in its data, in µs since 1970.
    pub(crate) fn time_us(&self, text: Option<&str>) -> Option<i64> {
        Some(self.not_ahead(time_us(text)?))
    }

    fn not_ahead(&self, time_us: i64) -> i64 {
        time_us.min(self.row.received_us.saturating_add(AHEAD_US))
    }
}

/// A time in an event's data as it stands there, in µs since 1970.
pub(crate) fn time_us(text: Option<&str>) -> Option<i64> {
    Some(read_datetime(text?)?.as_microsecond())
}

/// At most so many bytes of a name or an id: what is longer is none.
pub(crate) const NAME: usize = 255;

/// A name that can be one: not empty, not endless.
pub(crate) fn name(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty() && text.len() <= NAME)
        .map(str::to_owned)
}

/// So much of a text as is kept.
pub(crate) fn kept(text: Option<&str>, characters: usize) -> Option<String> {
    text.map(|text| shorten(text, characters).into_owned())
}
