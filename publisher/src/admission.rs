//! The check at the door: what is an event goes on, what is not is refused with its reason. Pure; no I/O.

use bytes::{Bytes, BytesMut};
use lavabus_protocol::{Envelope, EventId, Refusal};
use lavabus_zmtp::{FrameHeader, MessageRun};

/// Of a refused message so much is kept for the administrator, in bytes.
pub(crate) const KEPT_OF_REFUSED: usize = 4096;

/// One admitted event's place in its run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdmittedMessage {
    pub(crate) id: EventId,
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// The topic's body, counted from the start of the message.
    pub(crate) topic_start: u16,
    pub(crate) topic_length: u16,
}

/// A message that is no event.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    /// Its ZMTP bytes, cut to [`KEPT_OF_REFUSED`].
    pub(crate) head: Bytes,
    /// Its whole size on the wire.
    pub(crate) size: u64,
}

/// What came of one run of messages, in its order.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    /// ZMTP bytes with each frame in its shortest form, as libzmq writes them.
    pub(crate) bytes: Bytes,
    pub(crate) messages: Vec<AdmittedMessage>,
    pub(crate) refused: Vec<Refused>,
}

impl Admitted {
    /// The events with their ZMTP bytes.
    pub(crate) fn events(&self) -> impl Iterator<Item = (&[u8], &AdmittedMessage)> {
        self.messages
            .iter()
            .map(|message| (&self.bytes[message.start as usize..message.end as usize], message))
    }
}

/// Checks each message of a run.
pub(crate) fn admit(run: MessageRun) -> Admitted {
    let run = in_shortest_form(run);
    let mut admitted = Admitted {
        messages: Vec::with_capacity(run.ends.len()),
        ..Admitted::default()
    };
    let mut start = 0;
    for &end in &run.ends {
        let message = &run.bytes[start as usize..end as usize];
        let frames = lavabus_zmtp::frames(message);
        match Envelope::check(frames) {
            Ok(envelope) => {
                let topic_start = if envelope.topic.len() > 255 { 9 } else { 2 };
                let topic_length = u16::try_from(envelope.topic.len()).expect("a checked topic is at most 1,024 bytes");
                admitted.messages.push(AdmittedMessage {
                    id: envelope.uuid,
                    start,
                    end,
                    topic_start,
                    topic_length,
                });
            }
            Err(refusal) => admitted.refused.push(Refused {
                refusal,
                head: Bytes::copy_from_slice(&message[..message.len().min(KEPT_OF_REFUSED)]),
                size: message.len() as u64,
            }),
        }
        start = end;
    }
    admitted.bytes = run.bytes;
    admitted
}

/// A peer may write a short frame in the long form. Events are stored by their contents and must come out of the
/// journal as they come out of the ring, so the form is made one.
fn in_shortest_form(run: MessageRun) -> MessageRun {
    let mut start = 0;
    let each = |end: &u32| {
        let message = &run.bytes[start as usize..*end as usize];
        start = *end;
        lavabus_zmtp::is_canonical(message)
    };
    if run.ends.iter().all(each) {
        return run;
    }
    let mut bytes = BytesMut::with_capacity(run.bytes.len());
    let mut ends = Vec::with_capacity(run.ends.len());
    let mut start = 0;
    for &end in &run.ends {
        lavabus_zmtp::canonical(&run.bytes[start as usize..end as usize], &mut bytes);
        ends.push(u32::try_from(bytes.len()).expect("the shortest form is not longer than the run"));
        start = end;
    }
    MessageRun {
        bytes: bytes.freeze(),
        ends,
    }
}

/// The frames of a message that may be cut short; so much of the last one as is there.
pub(crate) fn kept_frames(head: &[u8]) -> Vec<Vec<u8>> {
    let mut kept = Vec::new();
    let mut rest = head;
    while let Ok(Some(header)) = FrameHeader::decode(rest) {
        rest = &rest[header.header_len().min(rest.len())..];
        let body = usize::try_from(header.body).unwrap_or(usize::MAX).min(rest.len());
        let (frame, behind) = rest.split_at(body);
        kept.push(frame.to_vec());
        rest = behind;
    }
    kept
}
