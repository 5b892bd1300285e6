//! A batch as the second port's readers get it: made when the first of them comes to it, once for all of them.

use std::sync::OnceLock;

use crate::authority::Subject;
use crate::fan_out::batch::Batch;
use crate::http::websocket::frames::TextFrames;

/// They live as long as their batch. A batch's bytes are at most doubled by each (quotes in JSON are escaped), and the
/// ring bounds the batches.
#[derive(Debug, Default)]
pub(crate) struct Forms {
    subjects: OnceLock<Box<[Subject]>>,
    text: OnceLock<TextFrames>,
    deflated: OnceLock<TextFrames>,
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

    /// What each event is about.
    pub(crate) fn subjects(&self) -> &[Subject] {
        self.forms.subjects.get_or_init(|| {
            let events = (0..self.messages.len()).map(|message| self.event(message));
            events.map(|[topic, .., data]| Subject::of(topic, data)).collect()
        })
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
}
