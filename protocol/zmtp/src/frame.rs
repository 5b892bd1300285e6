//! A frame's header (RFC 37, "Framing").
//!
//! ```text
//! short: body of 0 to 255 bytes          long: any body
//! +-------+--------+------ … +           +-------+-----------------------+------ … +
//! | flags | length | body    |           | flags | length, 8 bytes, BE   | body    |
//! +-------+--------+------ … +           +-------+-----------------------+------ … +
//!
//! flags: bit 0 MORE    another frame of the same message follows
//!        bit 1 LONG    the length takes 8 bytes
//!        bit 2 COMMAND the body is a command
//!        bits 3 … 7    reserved, zero
//! ```

use bytes::{BufMut, BytesMut};

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;
const RESERVED: u8 = !(MORE | LONG | COMMAND);

/// The longest body that the short form can carry.
pub(crate) const SHORT_MAX: usize = 255;
/// The longest header, that of the long form.
pub(crate) const LONGEST_HEADER: usize = 9;
const SHORT_HEADER: usize = 2;

/// A decoded frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Another frame of the same message follows.
    pub more: bool,
    /// The body is a command.
    pub command: bool,
    /// The 8-byte form of the length was used.
    pub long: bool,
    /// The body's length in bytes, as the peer claims it: at most 2^63-1.
    pub body: u64,
}

/// Why a frame header is no ZMTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// One of the bits 3 to 7 of the flags is set.
    #[error("frame flags 0x{0:02x} have reserved bits set")]
    ReservedFlags(u8),
    /// A command that claims to be continued.
    #[error("command frame with the MORE flag")]
    CommandWithMore,
    /// A length with its highest bit set.
    #[error("frame length 0x{0:016x} is beyond 2^63-1")]
    Length(u64),
}

impl FrameHeader {
    /// Reads the header at the start of `bytes`; `None` if more bytes are needed.
    ///
    /// The length is what the peer claims: compare it with a limit before giving it memory.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<Option<FrameHeader>, FrameError> {
        let Some(&flags) = bytes.first() else { return Ok(None) };
        // RFC 37: "Bits 7-3 of the flags field are reserved for future use and MUST be zero."
        if flags & RESERVED != 0 {
            return Err(FrameError::ReservedFlags(flags));
        }
        let (more, command, long) = (flags & MORE != 0, flags & COMMAND != 0, flags & LONG != 0);
        // RFC 37, of MORE: "This bit SHALL be zero on command frames."
        if command && more {
            return Err(FrameError::CommandWithMore);
        }
        let body = if long {
            let Some(length) = bytes.get(1..LONGEST_HEADER) else {
                return Ok(None);
            };
            let length = u64::from_be_bytes(length.try_into().expect("the slice has 8 bytes"));
            // RFC 37: "A long frame has a body of 0 to 2^63-1 octets."
            if length > i64::MAX as u64 {
                return Err(FrameError::Length(length));
            }
            length
        } else {
            let Some(&length) = bytes.get(1) else { return Ok(None) };
            u64::from(length)
        };
        Ok(Some(FrameHeader {
            more,
            command,
            long,
            body,
        }))
    }

    /// The header of a frame in its canonical form: short wherever the body allows it.
    pub fn new(more: bool, command: bool, body: usize) -> FrameHeader {
        FrameHeader {
            more,
            command,
            long: body > SHORT_MAX,
            body: body as u64,
        }
    }

    /// Appends the header to `out`.
    #[inline]
    pub fn encode(self, out: &mut BytesMut) {
        let flag = |set: bool, bit| if set { bit } else { 0 };
        let flags = flag(self.more, MORE) | flag(self.long, LONG) | flag(self.command, COMMAND);
        out.put_u8(flags);
        match u8::try_from(self.body) {
            Ok(short) if !self.long => out.put_u8(short),
            _ => out.put_u64(self.body),
        }
    }

    /// The header's own length in bytes: 2 or 9.
    #[inline]
    pub fn header_len(self) -> usize {
        if self.long { LONGEST_HEADER } else { SHORT_HEADER }
    }

    /// The short form is used wherever it can be.
    #[inline]
    pub fn is_canonical(self) -> bool {
        self.long == (self.body > SHORT_MAX as u64)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_shortest_form_is_written() {
        for (body, bytes) in [
            (0, b"\x01\x00".as_slice()),
            (255, b"\x01\xff"),
            (256, b"\x03\0\0\0\0\0\0\x01\x00"),
        ] {
            let mut out = BytesMut::new();
            FrameHeader::new(true, false, body).encode(&mut out);
            assert_eq!(&out[..], bytes);
        }
    }

    #[test]
    fn reserved_bits_are_refused_at_the_first_byte() {
        for bit in 3..8 {
            assert_eq!(
                FrameHeader::decode(&[1 << bit]),
                Err(FrameError::ReservedFlags(1 << bit))
            );
        }
    }

    #[test]
    fn a_command_is_one_frame() {
        assert_eq!(FrameHeader::decode(&[5, 0]), Err(FrameError::CommandWithMore));
    }

    #[test]
    fn the_highest_length_bit_is_refused() {
        let mut bytes = [0xff; 9];
        bytes[0] = 2;
        assert_eq!(FrameHeader::decode(&bytes), Err(FrameError::Length(u64::MAX)));
        bytes[1] = 0x7f;
        assert_eq!(FrameHeader::decode(&bytes).unwrap().unwrap().body, i64::MAX as u64);
    }

    proptest! {
        #[test]
        fn round_trip(more: bool, body in 0usize..1 << 40) {
            let header = FrameHeader::new(more, false, body);
            let mut out = BytesMut::new();
            header.encode(&mut out);
            prop_assert!(header.is_canonical());
            prop_assert_eq!(out.len(), header.header_len());
            prop_assert_eq!(FrameHeader::decode(&out).unwrap(), Some(header));
            prop_assert_eq!(FrameHeader::decode(&out[..out.len() - 1]).unwrap(), None);
        }
    }
}
