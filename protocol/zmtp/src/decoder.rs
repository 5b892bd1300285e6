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
