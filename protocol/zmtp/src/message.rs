//! Whole messages as their ZMTP bytes: runs of them, their frames, their canonical form.

use crate::frame::FrameHeader;
use bytes::{BufMut, Bytes, BytesMut};

/// Whole messages that stood one after the other, as their ZMTP bytes, not copied.
///
/// The bytes can be sent on to a peer as they are. `bytes` shares the connection's read buffer: a run that is kept
/// for long keeps that buffer (at most 256 KiB, or the message itself) in memory; copy it if that matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageRun {
    /// The messages, one after the other.
    pub bytes: Bytes,
    /// Where each message ends in `bytes`, ascending; the last is `bytes.len()`.
    pub ends: Vec<u32>,
}

impl MessageRun {
    /// A run of one message.
    pub(crate) fn of_one(bytes: Bytes) -> MessageRun {
        let ends = vec![bytes.len() as u32];
        MessageRun { bytes, ends }
    }

    /// How many messages these are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// No message at all.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Each message's ZMTP bytes, in order.
    pub fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let message = &self.bytes[start..*end as usize];
            start = *end as usize;
            message
        })
    }

    /// As [`messages`](Self::messages), sharing the run's memory instead of borrowing it.
    pub fn to_messages(&self) -> impl Iterator<Item = Bytes> {
        self.messages().map(|message| self.bytes.slice_ref(message))
    }
}

/// The frame bodies of one whole message, as a [`Decoder`](crate::Decoder) passed it.
///
/// Given other bytes it ends early; it never panics.
///
/// ```
/// let mut message = bytes::BytesMut::new();
/// lavabus_zmtp::encode_message(&[b"topic", b""], &mut message);
/// assert_eq!(lavabus_zmtp::frames(&message).collect::<Vec<_>>(), [b"topic".as_slice(), b""]);
/// ```
pub fn frames(message: &[u8]) -> Frames<'_> {
    Frames { rest: message }
}

/// Iterator over the bodies of one message's frames; see [`frames`].
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    fn next_frame(&mut self) -> Option<(FrameHeader, &'a [u8])> {
        let header = FrameHeader::decode(self.rest).ok()??;
        let start = header.header_len();
        let end = start.checked_add(usize::try_from(header.body).ok()?)?;
        let body = self.rest.get(start..end)?;
        self.rest = &self.rest[end..];
        Some((header, body))
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        self.next_frame().map(|(_, body)| body)
    }
}

/// Whether every frame of this whole message uses the short form wherever it can.
pub fn is_canonical(message: &[u8]) -> bool {
    let mut frames = frames(message);
    while let Some((header, _)) = frames.next_frame() {
        if !header.is_canonical() {
            return false;
        }
    }
    true
}

/// Appends this whole message to `out` with the short form wherever it can be used, so that equal messages have equal
/// bytes.
pub fn canonical(message: &[u8], out: &mut BytesMut) {
    out.reserve(message.len());
    let mut frames = frames(message);
    while let Some((header, body)) = frames.next_frame() {
        FrameHeader::new(header.more, false, body.len()).encode(out);
        out.put_slice(body);
    }
}

/// Appends one message with these frames to `out`, in canonical form. No frames, no message.
pub fn encode_message(frames: &[&[u8]], out: &mut BytesMut) {
    out.reserve(
        frames
            .iter()
            .map(|frame| frame.len() + crate::frame::LONGEST_HEADER)
            .sum(),
    );
    for (index, frame) in frames.iter().enumerate() {
        FrameHeader::new(index + 1 < frames.len(), false, frame.len()).encode(out);
        out.put_slice(frame);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_long_form_of_a_short_body_is_made_short() {
        let long = b"\x03\0\0\0\0\0\0\0\x01a\x00\x01b";
        assert!(!is_canonical(long));
        let mut out = BytesMut::new();
        canonical(long, &mut out);
        assert_eq!(&out[..], b"\x01\x01a\x00\x01b");
        assert!(is_canonical(&out));
    }

    #[test]
    fn a_run_gives_its_messages() {
        let run = MessageRun {
            bytes: Bytes::from_static(b"\0\x01a\0\0\0\x01c"),
            ends: vec![3, 5, 8],
        };
        assert_eq!(
            run.messages().collect::<Vec<_>>(),
            [b"\0\x01a".as_slice(), b"\0\0", b"\0\x01c"]
        );
        assert_eq!(run.to_messages().count(), run.len());
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_canonical_and_has_the_same_frames(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 1..8)
        ) {
            let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
            let mut out = BytesMut::new();
            encode_message(&bodies, &mut out);
            prop_assert!(is_canonical(&out));
            prop_assert_eq!(frames(&out).collect::<Vec<_>>(), bodies);
            let mut again = BytesMut::new();
            canonical(&out, &mut again);
            prop_assert_eq!(out, again);
        }

        #[test]
        fn frames_of_any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(frames(&bytes).count() <= bytes.len() / 2);
            let _ = is_canonical(&bytes);
            canonical(&bytes, &mut BytesMut::new());
        }
    }
}
