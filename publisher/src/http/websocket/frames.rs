//! WebSocket frames (RFC 6455 §5): what we send, ready to write, and what a client may send, which is little.

use std::io::Cursor;

use bytes::{Buf, BytesMut};
use flate2::{Compress, Compression, FlushCompress};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// A control frame's payload (RFC 6455 §5.5).
const MAX_CONTROL: u64 = 125;
/// A client has nothing to say: what it says is passed over, up to this size of a frame.
const MAX_DATA: u64 = 64 * 1024;
/// What a deflated message ends with and what is left out (RFC 7692 §7.2.1).
const FLUSHED: [u8; 4] = [0, 0, 0xff, 0xff];

/// Text messages, one after the other as they go out. Servers do not mask, so they are the same bytes for everybody.
#[derive(Debug, Default)]
pub(crate) struct TextFrames {
    pub(crate) bytes: Vec<u8>,
    /// Where each ends.
    pub(crate) ends: Vec<u32>,
}

impl TextFrames {
    /// The five frames of each message as a JSON array of strings, as LAVA writes them.
    pub(crate) fn of<'a>(messages: impl Iterator<Item = [&'a str; 5]>, deflated: bool) -> TextFrames {
        let mut frames = TextFrames::default();
        let mut text = Vec::new();
        let mut small = Vec::new();
        for message in messages {
            text.clear();
            serde_json::to_writer(&mut text, &message).expect("strings are JSON, and memory takes them");
            if deflated {
                deflate(&text, &mut small);
                frames.push(&small, true);
            } else {
                frames.push(&text, false);
            }
        }
        frames
    }

    fn push(&mut self, payload: &[u8], deflated: bool) {
        put(OpCode::Data(Data::Text), payload, deflated, &mut self.bytes);
        let end = u32::try_from(self.bytes.len()).expect("a batch is a few MiB at most, by the message limit");
        self.ends.push(end);
    }

    /// Where a message begins.
    pub(crate) fn start_of(&self, message: usize) -> usize {
        message.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }
}

fn put(opcode: OpCode, payload: &[u8], deflated: bool, out: &mut Vec<u8>) {
    let header = FrameHeader {
        rsv1: deflated,
        opcode,
        ..FrameHeader::default()
    };
    header
        .format(payload.len() as u64, out)
        .expect("memory takes what is written to it");
    out.extend_from_slice(payload);
}

/// Each message for itself (`server_no_context_takeover`): so it is deflated once for everybody.
fn deflate(text: &[u8], out: &mut Vec<u8>) {
    let mut compress = Compress::new(Compression::fast(), false);
    out.clear();
    // A block that does not shrink is stored with five bytes more a 64 KiB.
    out.reserve(text.len() + text.len() / 8 + 64);
    loop {
        let read = usize::try_from(compress.total_in())
            .unwrap_or(usize::MAX)
            .min(text.len());
        // Memory is the only thing that it could lack, and it gets more below.
        let _ = compress.compress_vec(&text[read..], out, FlushCompress::Sync);
        if out.len() < out.capacity() {
            break;
        }
        out.reserve(out.len() + 64);
    }
    if out.ends_with(&FLUSHED) {
        out.truncate(out.len() - FLUSHED.len());
    }
}

/// A text message that is no event.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    put(OpCode::Data(Data::Text), text.as_bytes(), false, &mut frame);
    frame
}

/// An answer to a ping.
pub(crate) fn pong(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    put(OpCode::Control(Control::Pong), payload, false, &mut frame);
    frame
}

/// The last frame.
pub(crate) fn close(code: CloseCode, reason: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    let payload = [&u16::from(code).to_be_bytes(), reason.as_bytes()].concat();
    put(OpCode::Control(Control::Close), &payload, false, &mut frame);
    frame
}

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Ping(Vec<u8>),
    Close,
}

/// Why a client is not listened to any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("a frame that RFC 6455 does not allow")]
    Protocol,
    #[error("a message of more than 64 KiB")]
    TooBig,
}

/// Reads what a client sends, in pieces of whatever size.
#[derive(Debug, Default)]
pub(crate) struct ClientFrames {
    buffer: BytesMut,
    /// So much of a data frame is still to be passed over.
    passing: u64,
}

impl ClientFrames {
    /// Where the next piece is to be appended. It never holds more than a piece and a control frame.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// What the pieces so far say next; `None` when more must come first.
    pub(crate) fn next(&mut self) -> Result<Option<Said>, Malformed> {
        loop {
            if self.passing > 0 {
                let here = usize::try_from(self.passing)
                    .unwrap_or(usize::MAX)
                    .min(self.buffer.len());
                self.buffer.advance(here);
                self.passing -= here as u64;
                if self.passing > 0 {
                    return Ok(None);
                }
            }
            let mut cursor = Cursor::new(&self.buffer[..]);
            let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Malformed::Protocol)?;
            let Some((header, length)) = parsed else {
                return Ok(None);
            };
            let begin = usize::try_from(cursor.position()).map_err(|_| Malformed::Protocol)?;
            let Some(mask) = header.mask else {
                return Err(Malformed::Protocol);
            };
            let is_reserved = header.rsv2 || header.rsv3 || matches!(header.opcode, OpCode::Data(Data::Reserved(_)));
            if is_reserved {
                return Err(Malformed::Protocol);
            }
            let OpCode::Control(control) = header.opcode else {
                if length > MAX_DATA {
                    return Err(Malformed::TooBig);
                }
                self.buffer.advance(begin);
                self.passing = length;
                continue;
            };
            if length > MAX_CONTROL || !header.is_final || header.rsv1 {
                return Err(Malformed::Protocol);
            }
            let end = begin + length as usize;
            if self.buffer.len() < end {
                return Ok(None);
            }
            let masked = self.buffer[begin..end].iter().zip(mask.iter().cycle());
            let payload = masked.map(|(byte, mask)| byte ^ mask).collect();
            self.buffer.advance(end);
            match control {
                Control::Ping => return Ok(Some(Said::Ping(payload))),
                Control::Close => return Ok(Some(Said::Close)),
                Control::Pong => {}
                Control::Reserved(_) => return Err(Malformed::Protocol),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use flate2::{Decompress, FlushDecompress};
    use proptest::prelude::*;
    use tungstenite::protocol::frame::Frame;

    use super::*;

    fn messages(frames: &TextFrames) -> Vec<(bool, Vec<u8>)> {
        let mut all = Vec::new();
        for at in 0..frames.ends.len() {
            let bytes = &frames.bytes[frames.start_of(at)..frames.ends[at] as usize];
            let mut cursor = Cursor::new(bytes);
            let (header, length) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
            let payload = bytes[cursor.position() as usize..].to_vec();
            assert_eq!(payload.len() as u64, length);
            assert_eq!((header.is_final, header.mask), (true, None));
            all.push((header.rsv1, payload));
        }
        all
    }

    fn inflate(payload: &[u8]) -> Vec<u8> {
        let mut input = payload.to_vec();
        input.extend(FLUSHED);
        let mut out = Vec::with_capacity(1 << 21);
        Decompress::new(false)
            .decompress_vec(&input, &mut out, FlushDecompress::Sync)
            .unwrap();
        out
    }

    proptest! {
        #[test]
        fn every_message_says_what_its_frames_say(
            batch in prop::collection::vec(prop::array::uniform5(".{0,200}"), 0..8), deflated: bool,
        ) {
            let borrowed = batch.iter().map(|message| message.each_ref().map(String::as_str));
            let frames = TextFrames::of(borrowed, deflated);
            let sent = messages(&frames);
            prop_assert_eq!(sent.len(), batch.len());
            for ((is_deflated, payload), message) in sent.iter().zip(&batch) {
                prop_assert_eq!(*is_deflated, deflated);
                let text = if deflated { inflate(payload) } else { payload.clone() };
                let read: [String; 5] = serde_json::from_slice(&text).unwrap();
                prop_assert_eq!(&read, message);
            }
        }

        #[test]
        fn pieces_of_any_size_say_the_same(pings in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..126), 0..6),
            text in ".{0,300}", piece in 1_usize..40,
        ) {
            let mut bytes = Vec::new();
            let masked = |frame: Frame, bytes: &mut Vec<u8>| {
                let mut frame = frame;
                frame.header_mut().mask = Some([1, 2, 3, 4]);
                frame.format(bytes).unwrap();
            };
            for ping in &pings {
                masked(Frame::ping(ping.clone()), &mut bytes);
                masked(Frame::message(text.clone(), OpCode::Data(Data::Text), true), &mut bytes);
            }
            masked(Frame::close(None), &mut bytes);
            let mut client = ClientFrames::default();
            let mut said = Vec::new();
            for part in bytes.chunks(piece) {
                client.buffer().extend_from_slice(part);
                while let Some(one) = client.next().unwrap() {
                    said.push(one);
                }
            }
            let mut expected: Vec<Said> = pings.into_iter().map(Said::Ping).collect();
            expected.push(Said::Close);
            prop_assert_eq!(said, expected);
        }

        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut client = ClientFrames::default();
            client.buffer().extend_from_slice(&bytes);
            while let Ok(Some(_)) = client.next() {}
        }
    }

    #[test]
    fn large_texts_are_deflated_whole() {
        let text: String = (0..300_000_u32)
            .map(|n| char::from(b'!' + (n.wrapping_mul(2_654_435_761) >> 25) as u8 % 90))
            .collect();
        let frames = TextFrames::of(std::iter::once(["a", "b", "c", "d", &text]), true);
        let read: [String; 5] = serde_json::from_slice(&inflate(&messages(&frames)[0].1)).unwrap();
        assert_eq!(read[4], text);
    }

    #[test]
    fn a_client_must_mask_and_be_brief() {
        let next = |bytes: &[u8]| {
            let mut client = ClientFrames::default();
            client.buffer().extend_from_slice(bytes);
            client.next()
        };
        assert_eq!(next(&[0x89, 0]), Err(Malformed::Protocol));
        assert_eq!(
            next(&[0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0]),
            Err(Malformed::TooBig)
        );
        assert_eq!(next(&[0x89, 0xfe, 0, 126, 0, 0, 0, 0]), Err(Malformed::Protocol));
        assert_eq!(next(&[0x89, 0x80, 0, 0, 0, 0]), Ok(Some(Said::Ping(Vec::new()))));
    }
}
