//! What goes to one subscriber: whole messages, taken from batches or pages without holding them while it stalls.
//!
//! The bytes of a message that the peer took only in part are copied (`rest`), so that a stalled subscriber keeps
//! that one message's tail and nothing else alive.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use lavabus_protocol::Epoch;
use lavabus_zmtp::Stream;

use super::position::Position;
use crate::fan_out::batch::Batch;
use crate::fan_out::matching::{Interests, Selection};
use crate::numbered;
use crate::replay::Page;

/// So many bytes are gathered for one write, roughly.
const WRITE_BYTES: usize = 256 * 1024;
/// So many separate pieces are handed to the kernel in one write.
const WRITE_PIECES: usize = 256;
/// Control messages that wait while a subscriber stalls: over this, in bytes, new ones are left out.
const MAX_WAITING: usize = 64 * 1024;

/// What a try to write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// Everything that there was.
    All,
    /// The peer's window is full.
    Blocked,
}

/// Bytes that must go out before anything else.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    rest: BytesMut,
    /// The peer's window took something since it was last asked.
    took: bool,
    /// Events that went out, or whose rest waits here, since it was last asked.
    delivered: u64,
    scratch: Scratch,
}

/// Buffers that are used again from write to write, and given back when there is nothing to do.
#[derive(Debug, Default)]
struct Scratch {
    pieces: Vec<Piece>,
    places: Vec<u16>,
    encoded: BytesMut,
    marks: Vec<Mark>,
}

/// Neighbouring wanted messages of one batch.
#[derive(Clone, Copy, Debug)]
struct Piece {
    batch: usize,
    first: usize,
    last: usize,
}

/// Where an encoded message ends, and the subscriber's place after it.
#[derive(Clone, Copy, Debug)]
struct Mark {
    end: usize,
    next: usize,
}

impl Outgoing {
    /// Queues a message of ours (a control message, a PING): it goes out whole, between events.
    /// False if it was left out because too much waits already.
    pub(crate) fn queue(&mut self, encode: impl FnOnce(&mut BytesMut)) -> bool {
        if self.waiting() > MAX_WAITING {
            return false;
        }
        encode(&mut self.rest);
        true
    }

    pub(crate) fn waiting(&self) -> usize {
        self.rest.len()
    }

    /// Whether the peer's window took something since the last call.
    pub(crate) fn took_something(&mut self) -> bool {
        std::mem::take(&mut self.took)
    }

    /// Events that went out since the last call.
    pub(crate) fn take_delivered(&mut self) -> u64 {
        std::mem::take(&mut self.delivered)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting() == 0
    }

    /// Gives memory back that only a busy subscriber needs.
    pub(crate) fn relax(&mut self) {
        self.scratch = Scratch::default();
        if self.is_empty() {
            self.rest = BytesMut::new();
        }
    }

    /// Writes what waits.
    pub(crate) fn flush(&mut self, stream: &Stream) -> io::Result<Written> {
        while !self.rest.is_empty() {
            match write(stream, &[IoSlice::new(&self.rest)], &mut self.took)? {
                Some(n) => self.rest.advance(n),
                None => return Ok(Written::Blocked),
            }
        }
        Ok(Written::All)
    }

    /// Writes the wanted events of some batches, beginning at `position`, and moves it behind what was written.
    /// `All` means that all the batches are done.
    pub(crate) fn write_batches(
        &mut self,
        stream: &Stream,
        batches: &[Arc<Batch>],
        interests: &Interests,
        position: &mut Position,
    ) -> io::Result<Written> {
        loop {
            if self.flush(stream)? == Written::Blocked {
                return Ok(Written::Blocked);
            }
            let until = self.gather(batches, interests, position);
            if self.scratch.pieces.is_empty() {
                position.move_to(batches, until);
                if until.0 == batches.len() {
                    return Ok(Written::All);
                }
                continue;
            }
            let pieces: Vec<IoSlice<'_>> = self
                .scratch
                .pieces
                .iter()
                .map(|piece| {
                    let batch = &batches[piece.batch];
                    IoSlice::new(&batch.bytes[batch.start_of(piece.first)..batch.end_of(piece.last)])
                })
                .collect();
            let Some(mut left) = write(stream, &pieces, &mut self.took)? else {
                return Ok(Written::Blocked);
            };
            let mut whole = true;
            for (piece, bytes) in self.scratch.pieces.iter().zip(&pieces) {
                if left >= bytes.len() {
                    left -= bytes.len();
                    self.delivered += (piece.last + 1 - piece.first) as u64;
                    continue;
                }
                whole = false;
                let batch = &batches[piece.batch];
                let start = batch.start_of(piece.first);
                let taken = start + left;
                // The message that the peer took in part, or the next one if it took whole ones only.
                let at = batch.messages.partition_point(|message| message.end as usize <= taken);
                let next = if batch.start_of(at) < taken {
                    self.rest.extend_from_slice(&batch.bytes[taken..batch.end_of(at)]);
                    at + 1
                } else {
                    at
                };
                self.delivered += (next - piece.first) as u64;
                position.move_to(batches, (piece.batch, next));
                break;
            }
            if whole {
                position.move_to(batches, until);
                if until.0 == batches.len() {
                    return Ok(Written::All);
                }
            }
        }
    }

    /// Collects the next wanted pieces. Returns the place behind them: index into `batches`, place in that batch.
    fn gather(&mut self, batches: &[Arc<Batch>], interests: &Interests, position: &Position) -> (usize, usize) {
        self.scratch.pieces.clear();
        let mut bytes = 0;
        for (at, batch) in batches.iter().enumerate() {
            if batch.number < position.batch {
                continue;
            }
            let from = if batch.number == position.batch {
                position.message
            } else {
                0
            };
            let count = batch.messages.len();
            if from >= count {
                continue;
            }
            let places = &mut self.scratch.places;
            match interests.select(
                batch.number,
                &batch.index,
                count,
                |message| batch.topic(message),
                places,
            ) {
                Selection::Nothing => {}
                Selection::All => {
                    self.scratch.pieces.push(Piece {
                        batch: at,
                        first: from,
                        last: count - 1,
                    });
                    bytes += batch.bytes.len();
                }
                Selection::Some => {
                    for place in places
                        .iter()
                        .map(|place| *place as usize)
                        .filter(|place| *place >= from)
                    {
                        let pieces = &mut self.scratch.pieces;
                        let full = pieces.len() >= WRITE_PIECES;
                        match pieces.last_mut() {
                            Some(piece) if piece.batch == at && piece.last + 1 == place => piece.last = place,
                            _ if full => return (at, place),
                            _ => pieces.push(Piece {
                                batch: at,
                                first: place,
                                last: place,
                            }),
                        }
                        bytes += batch.end_of(place) - batch.start_of(place);
                    }
                }
            }
            if bytes >= WRITE_BYTES || self.scratch.pieces.len() >= WRITE_PIECES {
                return (at + 1, 0);
            }
        }
        (batches.len(), 0)
    }

    /// As [`write_batches`](Self::write_batches), with a sixth frame that tells each event's number.
    pub(crate) fn write_batches_numbered(
        &mut self,
        stream: &Stream,
        batches: &[Arc<Batch>],
        interests: &Interests,
        position: &mut Position,
        epoch: Epoch,
    ) -> io::Result<Written> {
        for (index, batch) in batches.iter().enumerate() {
            if batch.number < position.batch {
                continue;
            }
            if self.flush(stream)? == Written::Blocked {
                return Ok(Written::Blocked);
            }
            let from = if batch.number == position.batch {
                position.message
            } else {
                0
            };
            let count = batch.messages.len();
            let Scratch {
                places, encoded, marks, ..
            } = &mut self.scratch;
            encoded.clear();
            marks.clear();
            let selection = interests.select(
                batch.number,
                &batch.index,
                count,
                |message| batch.topic(message),
                places,
            );
            if selection == Selection::All {
                places.clear();
                places.extend((0..count).map(|place| place as u16));
            }
            for place in places
                .iter()
                .map(|place| *place as usize)
                .filter(|place| *place >= from)
            {
                numbered::append(batch.message(place), epoch, batch.sequence(place), encoded);
                marks.push(Mark {
                    end: encoded.len(),
                    next: place + 1,
                });
            }
            if marks.is_empty() {
                position.move_to(batches, (index + 1, 0));
                continue;
            }
            let mut sent = 0;
            while sent < encoded.len()
                && let Some(n) = write(stream, &[IoSlice::new(&encoded[sent..])], &mut self.took)?
            {
                sent += n;
            }
            if sent == encoded.len() {
                self.delivered += marks.len() as u64;
                position.move_to(batches, (index + 1, 0));
                continue;
            }
            let at = marks.partition_point(|mark| mark.end <= sent);
            let start = if at == 0 { 0 } else { marks[at - 1].end };
            self.delivered += at as u64 + u64::from(start < sent);
            if start < sent {
                self.rest.extend_from_slice(&encoded[sent..marks[at].end]);
                position.move_to(batches, (index, marks[at].next));
            } else if at > 0 {
                position.move_to(batches, (index, marks[at - 1].next));
            }
            return Ok(Written::Blocked);
        }
        Ok(Written::All)
    }

    /// Writes a page from the journal.
    pub(crate) fn write_page(&mut self, stream: &Stream, page: &mut Page) -> io::Result<Written> {
        if self.flush(stream)? == Written::Blocked {
            return Ok(Written::Blocked);
        }
        while page.sent < page.bytes.len() {
            match write(stream, &[IoSlice::new(&page.bytes[page.sent..])], &mut self.took)? {
                Some(n) => page.sent += n,
                None => return Ok(Written::Blocked),
            }
        }
        self.delivered += page.marks.len() as u64;
        Ok(Written::All)
    }

    /// Keeps the rest of the event that a page was blocked in, so that the page can be dropped. Returns the number of
    /// the last event that needs nothing more of the page.
    pub(crate) fn keep_rest(&mut self, page: &Page) -> Option<u64> {
        let whole = page.marks.partition_point(|mark| mark.end <= page.sent);
        let start = if whole == 0 { 0 } else { page.marks[whole - 1].end };
        self.delivered += whole as u64 + u64::from(start < page.sent);
        if start < page.sent {
            self.rest
                .extend_from_slice(&page.bytes[page.sent..page.marks[whole].end]);
            return Some(page.marks[whole].sequence);
        }
        Some(page.marks[whole.checked_sub(1)?].sequence)
    }
}

/// Writes as much as the peer's window takes; None if it is full.
fn write(stream: &Stream, pieces: &[IoSlice<'_>], took: &mut bool) -> io::Result<Option<usize>> {
    match stream.try_write_vectored(pieces) {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        Ok(n) => {
            *took = true;
            Ok(Some(n))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
