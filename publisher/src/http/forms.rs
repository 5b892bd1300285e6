//! A batch as the second port's readers get it: made when the first of them comes to it, once for all of them.

use std::sync::OnceLock;

use lavabus_protocol::{Cursor, Envelope, Epoch, Event, Kind, Position, Record};

use crate::authority::Subject;
use crate::fan_out::batch::Batch;
use crate::http::stream;
use crate::http::websocket::frames::TextFrames;

/// They live as long as their batch. A batch's bytes are at most doubled by each (quotes in JSON are escaped), and the
/// ring bounds the batches.
#[derive(Debug, Default)]
pub(crate) struct Forms {
    events: OnceLock<Box<[Event]>>,
    subjects: OnceLock<Box<[Subject]>>,
    text: OnceLock<TextFrames>,
    deflated: OnceLock<TextFrames>,
    sse: OnceLock<Blocks>,
}

/// Server-sent events, one after the other.
#[derive(Debug)]
pub(crate) struct Blocks {
    pub(crate) bytes: Box<[u8]>,
    /// Where each ends.
    pub(crate) ends: Box<[u32]>,
}

impl Blocks {
    /// Where the event of this place begins; behind the last one, where that ends.
    pub(crate) fn start_of(&self, place: usize) -> usize {
        place.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }
}

impl Batch {
    /// The frames of an event. The publisher admits nothing else than five of UTF-8.
    pub(crate) fn event(&self, message: usize) -> [&str; 5] {
        let mut frames = lavabus_zmtp::frames(self.message(message));
        std::array::from_fn(|_| {
            let frame = frames.next().unwrap_or_default();
            std::str::from_utf8(frame).unwrap_or_default()
        })
    }

    /// The typed view of each event.
    pub(crate) fn events(&self) -> &[Event] {
        self.forms.events.get_or_init(|| {
            let events = (0..self.messages.len()).map(|message| self.event(message));
            events
                .map(|[topic, .., data]| Event::read(Kind::of(topic), data))
                .collect()
        })
    }

    /// What each event is about.
    pub(crate) fn subjects(&self) -> &[Subject] {
        let subjects = || self.events().iter().map(Subject::of_event).collect();
        self.forms.subjects.get_or_init(subjects)
    }

    /// As WebSocket messages.
    pub(crate) fn text_frames(&self, deflated: bool) -> &TextFrames {
        let form = if deflated {
            &self.forms.deflated
        } else {
            &self.forms.text
        };
        form.get_or_init(|| TextFrames::of((0..self.messages.len()).map(|message| self.event(message)), deflated))
    }

    /// As server-sent events. Those that have no number yet are without a cursor.
    pub(crate) fn sse(&self, epoch: Epoch) -> &Blocks {
        self.forms.sse.get_or_init(|| {
            let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(self.messages.len()));
            for (place, message) in self.messages.iter().enumerate() {
                let [topic, _, datetime, username, data] = self.event(place);
                let uuid = message.id;
                let position = self.sequence(place).map(|seq| Position { epoch, seq });
                let cursor = position.map(|position| Cursor {
                    position: Some(position),
                    uuid,
                });
                let envelope = Envelope {
                    topic,
                    uuid,
                    datetime,
                    username,
                    data,
                };
                let record = Record {
                    cursor,
                    ..Record::from(envelope)
                };
                stream::push_event(&mut bytes, cursor, Kind::of(topic), &record.to_json_line());
                ends.push(u32::try_from(bytes.len()).expect("a few times the bytes of its batch"));
            }
            Blocks {
                bytes: bytes.into(),
                ends: ends.into(),
            }
        })
    }
}
