//! An event with its sixth frame, for subscribers that asked for `@seq`.
//!
//! ```text
//! frames 1 to 5   as the producer sent them, with the fifth one's `more` bit set
//! frame 6         <epoch>/<seq>, or `-` while the event has no number
//! ```

use bytes::{BufMut, BytesMut};
use lavabus_protocol::{Epoch, Position};
use lavabus_zmtp::FrameHeader;

/// The bit of a frame's first byte that says that another frame follows (RFC 37).
const MORE: u8 = 1;

/// Appends a whole message of ZMTP bytes with its number.
pub(crate) fn append(message: &[u8], epoch: Epoch, sequence: Option<u64>, out: &mut BytesMut) {
    let base = out.len();
    out.put_slice(message);
    let mut last = 0;
    let mut rest = 0;
    while let Ok(Some(header)) = FrameHeader::decode(&message[rest..]) {
        last = rest;
        rest += header.header_len() + header.body as usize;
    }
    out[base + last] |= MORE;
    put_number(epoch, sequence, out);
}

/// Encodes frames as one message with its number.
pub(crate) fn encode(frames: &[&[u8]], epoch: Epoch, sequence: u64, out: &mut BytesMut) {
    for frame in frames {
        FrameHeader::new(true, false, frame.len()).encode(out);
        out.put_slice(frame);
    }
    put_number(epoch, Some(sequence), out);
}

fn put_number(epoch: Epoch, sequence: Option<u64>, out: &mut BytesMut) {
    let number = Position::optional_text(sequence.map(|seq| Position { epoch, seq }));
    FrameHeader::new(false, false, number.len()).encode(out);
    out.put_slice(number.as_bytes());
}
