//! One connection: its messages read as events and control messages.

use lavabus_protocol::{ControlMessage, Envelope, FRAMES, Position, Record, Refusal};
use lavabus_zmtp::{ConnectionError, MessageRun, Received, SubConnection, frames};

/// A connection, and the messages of it that were not looked at yet.
#[derive(Debug)]
pub(crate) struct Live {
    connection: SubConnection,
    run: MessageRun,
    /// How many of the run's messages were looked at.
    taken: usize,
}

/// One message.
#[derive(Debug)]
pub(crate) enum Message {
    Event {
        record: Record,
        position: Option<Position>,
        /// Whether it has the sixth frame that only `@seq` brings.
        numbered: bool,
    },
    Control(ControlMessage),
    Unreadable(String),
}

impl Live {
    pub(crate) fn new(connection: SubConnection) -> Live {
        Live {
            connection,
            run: MessageRun::default(),
            taken: 0,
        }
    }

    /// The next message. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Message, ConnectionError> {
        loop {
            if let Some(message) = self.take() {
                return Ok(message);
            }
            match self.connection.next().await? {
                Received::Messages(run) => {
                    self.run = run;
                    self.taken = 0;
                }
                Received::Oversize { bytes, .. } => {
                    let cause = format!("it has {bytes} bytes, more than this program takes");
                    return Ok(Message::Unreadable(cause));
                }
                Received::Closed => return Err(ConnectionError::Closed),
            }
        }
    }

    fn take(&mut self) -> Option<Message> {
        let end = *self.run.ends.get(self.taken)? as usize;
        let start = self
            .taken
            .checked_sub(1)
            .map_or(0, |before| self.run.ends[before] as usize);
        let message = read(&self.run.bytes[start..end]);
        self.taken += 1;
        if self.taken == self.run.len() {
            self.run = MessageRun::default();
            self.taken = 0;
        }
        Some(message)
    }
}

/// ```text
/// topic | uuid | datetime | username | data                        an event
/// topic | uuid | datetime | username | data | <epoch>/<seq> or -   an event after @seq
/// @…    | …                                                        a control message
/// ```
fn read(message: &[u8]) -> Message {
    if let Some(control) = ControlMessage::decode(frames(message)) {
        return match control {
            Ok(control) => Message::Control(control),
            Err(error) => Message::Unreadable(error.to_string()),
        };
    }
    let count = frames(message).count();
    if count > FRAMES + 1 {
        return Message::Unreadable(Refusal::FrameCount { found: count }.to_string());
    }
    let envelope = match Envelope::check(frames(message).take(FRAMES)) {
        Ok(envelope) => envelope,
        Err(refusal) => return Message::Unreadable(refusal.to_string()),
    };
    let number = frames(message).nth(FRAMES);
    let position = match number.map(|frame| std::str::from_utf8(frame).map(Position::parse_optional)) {
        None => None,
        Some(Ok(Ok(position))) => position,
        Some(_) => return Message::Unreadable("its sixth frame is no position".to_owned()),
    };
    Message::Event {
        record: Record {
            cursor: Some(lavabus_protocol::Cursor {
                position,
                uuid: envelope.uuid,
            }),
            ..Record::from(envelope)
        },
        position,
        numbered: number.is_some(),
    }
}
