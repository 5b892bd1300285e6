//! The incremental decoder: bytes as they come from a socket become runs of whole messages, and commands.

use crate::command::{Command, CommandError};
use crate::frame::{FrameError, FrameHeader};
use crate::limits::Limits;
use crate::message::MessageRun;
use bytes::{Buf, Bytes, BytesMut};

/// A run has at most so many bytes, unless it is a single larger message.
pub const RUN_BYTES: usize = 64 * 1024;
/// So much of an oversize message is kept to be looked at.
pub const OVERSIZE_HEAD: usize = 4 * 1024;
/// An oversize message of more frames than this is a protocol violation.
const MAX_SKIPPED_FRAMES: u32 = 100_000;

/// What came out of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Whole messages within the limits.
    Messages(MessageRun),
    /// A command. It may have stood between two frames of one message, as libzmq sends PING there.
    Command(Command),
    /// A message beyond the limits was read over.
    Oversize {
        /// Its length with all headers, in bytes.
        bytes: u64,
        /// Its first bytes as they came, headers included, at most 4 KiB.
        head: Bytes,
    },
}

/// The peer does not keep to ZMTP or to our limits: the connection must be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A frame header is malformed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A command is malformed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A command is too long.
    #[error("command of {claimed} bytes, at most {limit} are allowed")]
    CommandTooLong {
        /// The length that the peer claims.
        claimed: u64,
        /// [`Limits::command`].
        limit: usize,
    },
    /// A message is too large even to be read over.
    #[error("message of {claimed} bytes or more, beyond the {limit} that are read over")]
    MessageTooLarge {
        /// The message's length so far, with what its current frame claims.
        claimed: u64,
        /// [`Limits::skip`].
        limit: u64,
    },
    /// An oversize message does not end.
    #[error("message of more than 100000 frames")]
    TooManyFrames,
}

/// Turns a connection's bytes into [`Item`]s, in order.
///
/// Nothing is allocated on the strength of a claimed length, and what was looked at once is not looked at again: a
/// message that arrives in many small reads costs no more than one that arrives whole.
///
/// ```
/// use lavabus_zmtp::{Decoder, Item, Limits, encode_message, frames};
/// let mut buffer = bytes::BytesMut::new();
/// encode_message(&[b"a", b"1"], &mut buffer);
/// encode_message(&[b"b", b"2"], &mut buffer);
/// buffer.truncate(buffer.len() - 1); // the last byte has not arrived yet
///
/// let mut decoder = Decoder::new(Limits::default());
/// let Some(Item::Messages(run)) = decoder.decode(&mut buffer)? else { panic!() };
/// assert_eq!(run.len(), 1);
/// assert_eq!(decoder.decode(&mut buffer)?, None);
///
/// buffer.extend_from_slice(b"2");
/// let Some(Item::Messages(run)) = decoder.decode(&mut buffer)? else { panic!() };
/// assert_eq!(frames(&run.bytes).collect::<Vec<_>>(), [b"b", b"2"]);
/// # Ok::<(), lavabus_zmtp::DecodeError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    /// Ends of the whole messages at the start of the buffer.
    ends: Vec<u32>,
    /// All frames before this offset of the buffer are whole and within the limits.
    scanned: usize,
    /// Frames and body bytes so far of the message that is not whole yet.
    frames: usize,
    bodies: usize,
    /// The start of that message, if a command had to be cut out of its middle.
    carried: BytesMut,
    skip: Option<Skip>,
}

/// An oversize message that is being read over.
#[derive(Debug)]
struct Skip {
    body_left: u64,
    more: bool,
    frames: u32,
    bytes: u64,
    head: BytesMut,
}

impl Decoder {
    /// A decoder for one connection, to be used after the handshake.
    pub fn new(mut limits: Limits) -> Decoder {
        limits.message = limits.message.min(Limits::LARGEST_MESSAGE);
        Decoder {
            limits,
            ends: Vec::new(),
            scanned: 0,
            frames: 0,
            bodies: 0,
            carried: BytesMut::new(),
            skip: None,
        }
    }

    /// Takes the next item from the front of `buffer`; `None` if more bytes are needed.
    ///
    /// Always pass the same buffer, and between calls only append to it. Call until `None` before reading more. After
    /// an error the connection is of no more use.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Item>, DecodeError> {
        match self.scan(buffer) {
            // What stood before the violation is given out first; the next call meets it again.
            Err(_) if !self.ends.is_empty() => Ok(self.take_run(buffer)),
            result => result,
        }
    }

    fn scan(&mut self, buffer: &mut BytesMut) -> Result<Option<Item>, DecodeError> {
        loop {
            if self.skip.is_some() {
                return self.read_over(buffer);
            }
            if self.run_end() >= RUN_BYTES {
                break;
            }
            let Some(header) = FrameHeader::decode(&buffer[self.scanned..])? else {
                break;
            };
            if header.command {
                self.check_command(header)?;
                if !self.ends.is_empty() {
                    break;
                }
                return self.command(header, buffer);
            }
            let (frames, bodies) = (self.frames + 1, self.bodies as u64 + header.body);
            if header.body > self.limits.frame as u64
                || bodies > self.limits.message as u64
                || frames > self.limits.frames
            {
                self.check_skip((self.carried.len() + self.scanned) as u64, header)?;
                if !self.ends.is_empty() {
                    break;
                }
                self.begin_skip(buffer);
                continue;
            }
            let end = self.scanned + header.header_len() + header.body as usize;
            if buffer.len() < end {
                break;
            }
            self.scanned = end;
            if header.more {
                (self.frames, self.bodies) = (frames, bodies as usize);
                continue;
            }
            (self.frames, self.bodies) = (0, 0);
            if !self.carried.is_empty() {
                return Ok(Some(self.take_carried(buffer)));
            }
            let before = self.run_end();
            if before > 0 && end > RUN_BYTES {
                let run = self.take_run(buffer);
                self.ends.push((end - before) as u32);
                return Ok(run);
            }
            self.ends.push(end as u32);
        }
        Ok(self.take_run(buffer))
    }

    /// Whether the stream may end here: no message has begun that is not whole. `buffer` is the one that is decoded.
    pub fn is_between_messages(&self, buffer: &BytesMut) -> bool {
        self.skip.is_none() && self.carried.is_empty() && buffer.len() == self.run_end()
    }

    fn run_end(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize)
    }

    fn take_run(&mut self, buffer: &mut BytesMut) -> Option<Item> {
        let end = self.run_end();
        if end == 0 {
            return None;
        }
        self.scanned -= end;
        let ends = std::mem::take(&mut self.ends);
        Some(Item::Messages(MessageRun {
            bytes: buffer.split_to(end).freeze(),
            ends,
        }))
    }

    fn take_carried(&mut self, buffer: &mut BytesMut) -> Item {
        self.carry(buffer);
        Item::Messages(MessageRun::of_one(std::mem::take(&mut self.carried).freeze()))
    }

    /// Moves what is scanned out of the buffer, so that each byte of a message is moved once, however many commands
    /// stand in it.
    fn carry(&mut self, buffer: &mut BytesMut) {
        self.carried.extend_from_slice(&buffer[..self.scanned]);
        buffer.advance(self.scanned);
        self.scanned = 0;
    }

    fn check_command(&self, header: FrameHeader) -> Result<(), DecodeError> {
        if header.body > self.limits.command as u64 {
            return Err(DecodeError::CommandTooLong {
                claimed: header.body,
                limit: self.limits.command,
            });
        }
        Ok(())
    }

    /// Takes the command that stands at `scanned`.
    fn command(&mut self, header: FrameHeader, buffer: &mut BytesMut) -> Result<Option<Item>, DecodeError> {
        let length = header.header_len() + header.body as usize;
        if buffer.len() < self.scanned + length {
            return Ok(None);
        }
        self.carry(buffer);
        let body = buffer.split_to(length).freeze().slice(header.header_len()..);
        Ok(Some(Item::Command(Command::decode(body)?)))
    }

    fn check_skip(&self, before: u64, header: FrameHeader) -> Result<u64, DecodeError> {
        let claimed = before
            .saturating_add(header.header_len() as u64)
            .saturating_add(header.body);
        if claimed > self.limits.skip {
            return Err(DecodeError::MessageTooLarge {
                claimed,
                limit: self.limits.skip,
            });
        }
        Ok(claimed)
    }

    fn begin_skip(&mut self, buffer: &mut BytesMut) {
        let mut skip = Skip {
            body_left: 0,
            more: true,
            frames: self.frames as u32,
            bytes: (self.carried.len() + self.scanned) as u64,
            head: BytesMut::new(),
        };
        skip.keep_head(&self.carried);
        skip.keep_head(&buffer[..self.scanned]);
        buffer.advance(self.scanned);
        self.carried = BytesMut::new();
        (self.scanned, self.frames, self.bodies) = (0, 0, 0);
        self.skip = Some(skip);
    }

    fn read_over(&mut self, buffer: &mut BytesMut) -> Result<Option<Item>, DecodeError> {
        loop {
            let Some(skip) = self.skip.as_mut() else {
                return Ok(None);
            };
            if skip.body_left > 0 {
                let here = buffer.len().min(usize::try_from(skip.body_left).unwrap_or(usize::MAX));
                skip.keep_head(&buffer[..here]);
                buffer.advance(here);
                skip.body_left -= here as u64;
                if skip.body_left > 0 {
                    return Ok(None);
                }
            }
            if !skip.more {
                let item = Item::Oversize {
                    bytes: skip.bytes,
                    head: std::mem::take(&mut skip.head).freeze(),
                };
                self.skip = None;
                return Ok(Some(item));
            }
            let before = skip.bytes;
            let Some(header) = FrameHeader::decode(buffer)? else {
                return Ok(None);
            };
            if header.command {
                self.check_command(header)?;
                return self.command(header, buffer);
            }
            let bytes = self.check_skip(before, header)?;
            let Some(skip) = self.skip.as_mut() else {
                return Ok(None);
            };
            skip.frames += 1;
            if skip.frames > MAX_SKIPPED_FRAMES {
                return Err(DecodeError::TooManyFrames);
            }
            skip.keep_head(&buffer[..header.header_len()]);
            buffer.advance(header.header_len());
            (skip.bytes, skip.body_left, skip.more) = (bytes, header.body, header.more);
        }
    }
}

impl Skip {
    fn keep_head(&mut self, bytes: &[u8]) {
        let room = OVERSIZE_HEAD - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::message::{encode_message, frames};
    use bytes::BufMut;
    use proptest::prelude::*;

    /// What a stream holds, independent of how it was cut into runs.
    #[derive(Debug, Clone, PartialEq)]
    enum Seen {
        Message(Vec<u8>),
        Command(Command),
        Oversize(u64, Vec<u8>),
        Error(DecodeError),
    }

    fn small_limits() -> Limits {
        Limits {
            frame: 300,
            message: 500,
            frames: 5,
            skip: 5000,
            command: 400,
            ..Default::default()
        }
    }

    /// Decodes all chunks; checks what is true of every run.
    fn decode_chunks<'a>(limits: &Limits, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Seen> {
        let mut decoder = Decoder::new(limits.clone());
        let mut buffer = BytesMut::new();
        let mut seen = Vec::new();
        for chunk in chunks {
            buffer.extend_from_slice(chunk);
            loop {
                match decoder.decode(&mut buffer) {
                    Ok(Some(Item::Messages(run))) => {
                        assert!(!run.is_empty());
                        assert_eq!(*run.ends.last().unwrap() as usize, run.bytes.len());
                        assert!(run.len() == 1 || run.bytes.len() <= RUN_BYTES);
                        seen.extend(run.messages().map(|message| Seen::Message(message.to_vec())));
                    }
                    Ok(Some(Item::Command(command))) => seen.push(Seen::Command(command)),
                    Ok(Some(Item::Oversize { bytes, head })) => seen.push(Seen::Oversize(bytes, head.to_vec())),
                    Ok(None) => break,
                    Err(error) => {
                        seen.push(Seen::Error(error));
                        return seen;
                    }
                }
            }
            // What is kept of a message that is not whole is within the limits.
            assert!(buffer.len() <= limits.message + 9 * limits.frames + 9 + limits.frame.max(limits.command));
        }
        seen
    }

    fn decode(bytes: &[u8]) -> Vec<Seen> {
        decode_chunks(&small_limits(), [bytes])
    }

    fn message(frames: &[&[u8]]) -> Vec<u8> {
        let mut out = BytesMut::new();
        encode_message(frames, &mut out);
        out.to_vec()
    }

    fn ping() -> (Vec<u8>, Command) {
        let command = Command::Ping {
            ttl: 1,
            context: "x".into(),
        };
        let mut out = BytesMut::new();
        command.encode(&mut out);
        (out.to_vec(), command)
    }

    #[test]
    fn a_run_ends_at_a_command() {
        let (ping_bytes, ping) = ping();
        let (a, b, c) = (message(&[b"a"]), message(&[b"b", b"2"]), message(&[b"c"]));
        let bytes = [a.clone(), b.clone(), ping_bytes, c.clone()].concat();
        assert_eq!(
            decode(&bytes),
            [
                Seen::Message(a),
                Seen::Message(b),
                Seen::Command(ping),
                Seen::Message(c)
            ]
        );
    }

    #[test]
    fn a_run_is_not_copied() {
        let mut buffer = BytesMut::from(&message(&[b"a", b"b"])[..]);
        let start = buffer.as_ptr();
        let Some(Item::Messages(run)) = Decoder::new(small_limits()).decode(&mut buffer).unwrap() else {
            panic!()
        };
        assert_eq!(run.bytes.as_ptr(), start);
    }

    #[test]
    fn a_command_between_the_frames_of_a_message_does_not_disturb_it() {
        let (ping_bytes, ping) = ping();
        let whole = message(&[b"one", b"two", b"three"]);
        let bytes = [
            &whole[..5],
            &ping_bytes,
            &whole[5..10],
            &ping_bytes,
            &ping_bytes,
            &whole[10..],
        ]
        .concat();
        let pings = [
            Seen::Command(ping.clone()),
            Seen::Command(ping.clone()),
            Seen::Command(ping),
        ];
        assert_eq!(decode(&bytes), [&pings[..], &[Seen::Message(whole)]].concat());
    }

    #[test]
    fn runs_are_of_64_kib_unless_a_message_is_larger() {
        let limits = Limits::default();
        let large = message(&[&vec![7; 100_000]]);
        let small = message(&[&vec![1; 1000]]);
        let bytes = [small.repeat(200), large.clone(), small.repeat(3)].concat();
        let mut buffer = BytesMut::from(&bytes[..]);
        let mut decoder = Decoder::new(limits);
        let mut lengths = Vec::new();
        while let Some(Item::Messages(run)) = decoder.decode(&mut buffer).unwrap() {
            lengths.push((run.len(), run.bytes.len()));
        }
        let total: usize = lengths.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(total, bytes.len());
        assert!(lengths.contains(&(1, large.len())), "{lengths:?}");
        assert!(
            lengths
                .iter()
                .all(|(messages, bytes)| *messages == 1 || *bytes <= RUN_BYTES),
            "{lengths:?}"
        );
        assert!(lengths[0].1 > RUN_BYTES - small.len(), "{lengths:?}");
    }

    #[test]
    fn beyond_a_limit_is_read_over_and_the_stream_goes_on() {
        let after = message(&[b"after"]);
        for frames in [vec![vec![1; 301]], vec![vec![1; 300], vec![2; 201]], vec![vec![]; 6]] {
            let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            let oversize = message(&frames);
            let bytes = [after.clone(), oversize.clone(), after.clone()].concat();
            let expected = [
                Seen::Message(after.clone()),
                Seen::Oversize(oversize.len() as u64, oversize),
                Seen::Message(after.clone()),
            ];
            assert_eq!(decode(&bytes), expected);
        }
    }

    #[test]
    fn exactly_the_limit_is_a_message() {
        for frames in [vec![vec![1; 300], vec![2; 200]], vec![vec![]; 5]] {
            let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            let whole = message(&frames);
            assert_eq!(decode(&whole), [Seen::Message(whole)]);
        }
    }

    #[test]
    fn an_oversize_message_keeps_4_kib_and_the_commands_in_it() {
        let (ping_bytes, ping) = ping();
        let start = message(&[&[9; 4500], b""]);
        let bytes = [&start[..start.len() - 2], &ping_bytes, b"\0\0"].concat();
        assert_eq!(
            decode(&bytes),
            [
                Seen::Command(ping),
                Seen::Oversize(start.len() as u64, start[..OVERSIZE_HEAD].to_vec())
            ]
        );
    }

    #[test]
    fn a_huge_claim_is_an_error_at_once() {
        for claimed in [5000 - 8, 1 << 36, (1 << 63) - 1] {
            let mut bytes = vec![2];
            bytes.put_u64(claimed);
            let error = DecodeError::MessageTooLarge {
                claimed: claimed.saturating_add(9),
                limit: 5000,
            };
            assert_eq!(decode(&bytes), [Seen::Error(error.clone())]);
            // In a continued message as well, and what stood before it is not lost.
            let before = message(&[b"before"]);
            let bytes = [before.clone(), b"\x01\0".to_vec(), bytes].concat();
            let error = DecodeError::MessageTooLarge {
                claimed: claimed.saturating_add(11),
                limit: 5000,
            };
            assert_eq!(decode(&bytes), [Seen::Message(before), Seen::Error(error)]);
        }
    }

    #[test]
    fn a_long_command_is_an_error_at_once() {
        let error = DecodeError::CommandTooLong {
            claimed: 401,
            limit: 400,
        };
        assert_eq!(decode(b"\x06\0\0\0\0\0\0\x01\x91"), [Seen::Error(error)]);
    }

    #[test]
    fn a_message_without_end_is_an_error() {
        let limits = Limits::default();
        let endless = b"\x01\0".repeat(100_001);
        assert_eq!(
            decode_chunks(&limits, [&endless[..]]),
            [Seen::Error(DecodeError::TooManyFrames)]
        );
        let endless = b"\x01\x01x".repeat(2000);
        let Seen::Error(DecodeError::MessageTooLarge { .. }) = decode(&endless)[0] else {
            panic!()
        };
    }

    #[test]
    fn a_message_in_many_small_reads_is_scanned_once() {
        let whole = message(&[&[1; 300], &[2; 100], &[3; 100]]);
        let mut decoder = Decoder::new(small_limits());
        let mut buffer = BytesMut::new();
        let mut scanned = 0;
        for byte in &whole[..whole.len() - 1] {
            buffer.put_u8(*byte);
            assert_eq!(decoder.decode(&mut buffer).unwrap(), None);
            assert!(decoder.scanned >= scanned);
            assert!(!decoder.is_between_messages(&buffer));
            scanned = decoder.scanned;
        }
        assert_eq!(scanned, 309 + 102);
    }

    #[derive(Debug, Clone)]
    enum Sent {
        Message(Vec<(Vec<u8>, bool)>),
        /// With a command after the first frame.
        Disturbed(Vec<(Vec<u8>, bool)>, Command),
        Command(Command),
    }

    fn sent() -> impl Strategy<Value = Sent> {
        let body = prop_oneof![8 => 0usize..40, 1 => 250usize..350]
            .prop_flat_map(|length| (proptest::collection::vec(any::<u8>(), length), any::<bool>()));
        let bodies = proptest::collection::vec(body, 1..8);
        let command = prop_oneof![
            (any::<u16>(), "[a-z]{0,16}").prop_map(|(ttl, c)| Command::Ping { ttl, context: c.into() }),
            "[a-z]{0,300}".prop_map(|prefix| Command::Subscribe(prefix.into())),
            Just(Command::Unknown {
                name: "JOIN".into(),
                data: "x".into()
            }),
        ];
        prop_oneof![
            4 => bodies.clone().prop_map(Sent::Message),
            1 => (bodies, command.clone()).prop_map(|(bodies, command)| Sent::Disturbed(bodies, command)),
            1 => command.prop_map(Sent::Command),
        ]
    }

    fn encode(sent: &[Sent], limits: &Limits) -> (Vec<u8>, Vec<Seen>) {
        let (mut bytes, mut expected) = (BytesMut::new(), Vec::new());
        for sent in sent {
            let (bodies, command) = match sent {
                Sent::Command(command) => {
                    command.encode(&mut bytes);
                    expected.push(Seen::Command(command.clone()));
                    continue;
                }
                Sent::Message(bodies) => (bodies, None),
                Sent::Disturbed(bodies, command) => (bodies, Some(command)),
            };
            let mut whole = BytesMut::new();
            for (index, (body, long)) in bodies.iter().enumerate() {
                if let Some(command) = command.filter(|_| index == 1) {
                    command.encode(&mut bytes);
                    expected.push(Seen::Command(command.clone()));
                }
                let mut frame = BytesMut::new();
                let header = FrameHeader::new(index + 1 < bodies.len(), false, body.len());
                FrameHeader {
                    long: header.long || *long,
                    ..header
                }
                .encode(&mut frame);
                frame.put_slice(body);
                bytes.put_slice(&frame);
                whole.put_slice(&frame);
            }
            let sum: usize = bodies.iter().map(|(body, _)| body.len()).sum();
            let longest = bodies.iter().map(|(body, _)| body.len()).max().unwrap_or(0);
            expected.push(
                if sum > limits.message || longest > limits.frame || bodies.len() > limits.frames {
                    Seen::Oversize(whole.len() as u64, whole.to_vec())
                } else {
                    assert_eq!(frames(&whole).count(), bodies.len());
                    Seen::Message(whole.to_vec())
                },
            );
        }
        (bytes.to_vec(), expected)
    }

    /// Cuts `bytes` at these places.
    fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
    }

    proptest! {
        #[test]
        fn what_is_sent_is_decoded_however_it_is_cut(
            sent in proptest::collection::vec(sent(), 0..20),
            cuts in proptest::collection::vec(any::<usize>(), 0..40),
        ) {
            let limits = small_limits();
            let (bytes, expected) = encode(&sent, &limits);
            prop_assert_eq!(&decode(&bytes), &expected);
            prop_assert_eq!(&decode_chunks(&limits, cut(&bytes, &cuts)), &expected);
            prop_assert_eq!(&decode_chunks(&limits, bytes.chunks(1)), &expected);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused_however_they_are_cut(
            bytes in proptest::collection::vec(prop_oneof![3 => 0u8..8, 1 => any::<u8>()], 0..2000),
            cuts in proptest::collection::vec(any::<usize>(), 0..20),
        ) {
            prop_assert_eq!(decode(&bytes), decode_chunks(&small_limits(), cut(&bytes, &cuts)));
        }
    }
}
