//! Commands (RFC 37, "The NULL Security Mechanism", "The Publish-Subscribe Pattern" and "Heartbeats").
//!
//! ```text
//! body of a command frame: +-------------+------+------ … +
//!                          | name length | name | data    |
//!                          +-------------+------+------ … +
//! READY      data = *( name length (1), name, value length (4, BE), value )
//! ERROR      data = reason length (1), reason
//! SUBSCRIBE  data = prefix            CANCEL  data = prefix
//! PING       data = TTL (2, BE, tenths of a second), context of 0 to 16 bytes
//! PONG       data = context
//! ```

use crate::frame::FrameHeader;
use crate::socket_type::SocketType;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::time::Duration;

/// The longest context of a PING, in bytes.
pub const MAX_CONTEXT: usize = 16;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Ends a side's part of the handshake.
    Ready(Metadata),
    /// A peer refuses us and says why.
    Error {
        /// The peer's words, at most 255 bytes.
        reason: Bytes,
    },
    /// Asks for all messages that begin with this prefix.
    Subscribe(Bytes),
    /// Undoes one [`Command::Subscribe`].
    Cancel(Bytes),
    /// Asks for a [`Command::Pong`].
    Ping {
        /// In tenths of a second: when the sender may be taken for dead if nothing more is heard of it. 0: never.
        ttl: u16,
        /// To be sent back; at most 16 bytes.
        context: Bytes,
    },
    /// The answer to a [`Command::Ping`], with its context.
    Pong {
        /// The context of the PING.
        context: Bytes,
    },
    /// Any other command. A connection ignores it.
    Unknown {
        /// The command's name, 1 to 255 bytes.
        name: Bytes,
        /// All that follows the name.
        data: Bytes,
    },
}

/// The properties that READY carries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// `Socket-Type`, as sent; empty if absent.
    pub socket_type: Bytes,
    /// `Identity`, as sent; empty if absent. A peer may claim any: never trust it as a key.
    pub identity: Bytes,
    /// All other properties, in the order they came. Names have 1 to 255 bytes.
    pub other: Vec<(Bytes, Bytes)>,
}

/// Why a command could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The name is empty or longer than the body.
    #[error("command without a name")]
    Name,
    /// The command's data ends too early or goes on too long.
    #[error("malformed {0} command")]
    Data(&'static str),
    /// A PING or PONG context of more than 16 bytes.
    #[error("{0} context of {1} bytes, at most 16 are allowed")]
    Context(&'static str, usize),
}

impl Metadata {
    /// What we say of ourselves.
    pub fn of(socket_type: SocketType) -> Metadata {
        Metadata {
            socket_type: Bytes::from_static(socket_type.as_str().as_bytes()),
            ..Default::default()
        }
    }

    fn decode(mut data: Bytes) -> Result<Metadata, CommandError> {
        const MALFORMED: CommandError = CommandError::Data("READY");
        let mut metadata = Metadata::default();
        while !data.is_empty() {
            let name = take_short(&mut data).ok_or(MALFORMED)?;
            // RFC 37: "Zero-sized names are not valid."
            if name.is_empty() {
                return Err(MALFORMED);
            }
            let length = data.try_get_u32().map_err(|_| MALFORMED)? as usize;
            if length > data.len() {
                return Err(MALFORMED);
            }
            let value = data.split_to(length);
            // RFC 37: "Metadata names SHALL be case-insensitive."
            if name.eq_ignore_ascii_case(b"Socket-Type") {
                metadata.socket_type = value;
            } else if name.eq_ignore_ascii_case(b"Identity") {
                metadata.identity = value;
            } else {
                metadata.other.push((name, value));
            }
        }
        Ok(metadata)
    }

    fn encode(&self, out: &mut BytesMut) {
        put_property(b"Socket-Type", &self.socket_type, out);
        if !self.identity.is_empty() {
            put_property(b"Identity", &self.identity, out);
        }
        for (name, value) in &self.other {
            put_property(name, value, out);
        }
    }
}

impl Command {
    /// Reads the body of a command frame.
    pub fn decode(mut body: Bytes) -> Result<Command, CommandError> {
        let name = take_short(&mut body)
            .filter(|name| !name.is_empty())
            .ok_or(CommandError::Name)?;
        Ok(match name.as_ref() {
            b"READY" => Command::Ready(Metadata::decode(body)?),
            b"ERROR" => {
                let reason = take_short(&mut body).ok_or(CommandError::Data("ERROR"))?;
                if !body.is_empty() {
                    return Err(CommandError::Data("ERROR"));
                }
                Command::Error { reason }
            }
            b"SUBSCRIBE" => Command::Subscribe(body),
            b"CANCEL" => Command::Cancel(body),
            b"PING" => {
                let ttl = body.try_get_u16().map_err(|_| CommandError::Data("PING"))?;
                Command::Ping {
                    ttl,
                    context: checked_context("PING", body)?,
                }
            }
            b"PONG" => Command::Pong {
                context: checked_context("PONG", body)?,
            },
            _ => Command::Unknown { name, data: body },
        })
    }

    /// Appends the command as a whole frame.
    ///
    /// An ERROR's reason is cut at 255 bytes, a context at 16, a name at 255.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut body = BytesMut::new();
        match self {
            Command::Ready(metadata) => {
                put_short(b"READY", &mut body);
                metadata.encode(&mut body);
            }
            Command::Error { reason } => {
                put_short(b"ERROR", &mut body);
                put_short(reason, &mut body);
            }
            Command::Subscribe(prefix) => {
                put_short(b"SUBSCRIBE", &mut body);
                body.put_slice(prefix);
            }
            Command::Cancel(prefix) => {
                put_short(b"CANCEL", &mut body);
                body.put_slice(prefix);
            }
            Command::Ping { ttl, context } => {
                put_short(b"PING", &mut body);
                body.put_u16(*ttl);
                body.put_slice(&context[..context.len().min(MAX_CONTEXT)]);
            }
            Command::Pong { context } => {
                put_short(b"PONG", &mut body);
                body.put_slice(&context[..context.len().min(MAX_CONTEXT)]);
            }
            Command::Unknown { name, data } => {
                put_short(name, &mut body);
                body.put_slice(data);
            }
        }
        FrameHeader::new(false, true, body.len()).encode(out);
        out.put_slice(&body);
    }

    /// An ERROR command with this reason, cut at 255 bytes.
    pub fn error(reason: &str) -> Command {
        Command::Error {
            reason: Bytes::copy_from_slice(reason.as_bytes()),
        }
    }
}

/// A PING's TTL, which counts tenths of a second, as a duration.
pub fn ttl_to_duration(ttl: u16) -> Duration {
    Duration::from_millis(u64::from(ttl) * 100)
}

/// A duration as a PING's TTL: rounded down, at most 6553.5 s.
pub fn ttl_from_duration(duration: Duration) -> u16 {
    u16::try_from(duration.as_millis() / 100).unwrap_or(u16::MAX)
}

fn checked_context(command: &'static str, context: Bytes) -> Result<Bytes, CommandError> {
    // RFC 37: "ping-context, which may be empty and MUST not exceed 16 octets".
    if context.len() > MAX_CONTEXT {
        Err(CommandError::Context(command, context.len()))
    } else {
        Ok(context)
    }
}

fn take_short(data: &mut Bytes) -> Option<Bytes> {
    let length = usize::from(*data.first()?);
    if data.len() <= length {
        return None;
    }
    data.advance(1);
    Some(data.split_to(length))
}

fn put_short(bytes: &[u8], out: &mut BytesMut) {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    out.put_u8(length);
    out.put_slice(&bytes[..usize::from(length)]);
}

fn put_property(name: &[u8], value: &[u8], out: &mut BytesMut) {
    put_short(name, out);
    out.put_u32(value.len() as u32);
    out.put_slice(value);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body_of(command: &Command) -> Bytes {
        let mut out = BytesMut::new();
        command.encode(&mut out);
        let header = FrameHeader::decode(&out).unwrap().unwrap();
        assert!(header.command && header.is_canonical());
        out.advance(header.header_len());
        assert_eq!(out.len() as u64, header.body);
        out.freeze()
    }

    #[test]
    fn ready_is_laid_out_as_in_the_rfc() {
        let mut out = BytesMut::new();
        Command::Ready(Metadata::of(SocketType::Pull)).encode(&mut out);
        assert_eq!(&out[..], b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x04PULL");
    }

    #[test]
    fn names_of_properties_have_no_case_and_unknown_ones_are_kept() {
        let body = b"\x05READY\x0bsocket-TYPE\0\0\0\x03SUB\x08Identity\0\0\0\x02me\x01X\0\0\0\x00";
        let Command::Ready(metadata) = Command::decode(Bytes::from_static(body)).unwrap() else {
            panic!()
        };
        assert_eq!(metadata.socket_type, "SUB");
        assert_eq!(metadata.identity, "me");
        assert_eq!(metadata.other, [(Bytes::from_static(b"X"), Bytes::new())]);
    }

    #[test]
    fn a_property_cannot_claim_more_than_is_there() {
        for body in [
            b"\x05READY\x0bSocket-Type\xff\xff\xff\xffSUB".as_slice(),
            b"\x05READY\x0bSocket-Ty",
            b"\x05READY\x00\0\0\0\0",
            b"\x05READY\x01X\0\0\0",
        ] {
            assert_eq!(
                Command::decode(Bytes::from_static(body)),
                Err(CommandError::Data("READY"))
            );
        }
    }

    #[test]
    fn heartbeats_are_laid_out_as_in_the_rfc() {
        assert_eq!(
            body_of(&Command::Ping {
                ttl: 150,
                context: "c".into()
            }),
            b"\x04PING\x00\x96c".as_slice()
        );
        assert_eq!(body_of(&Command::Pong { context: "c".into() }), b"\x04PONGc".as_slice());
        assert_eq!(Command::decode("\x04PING\0".into()), Err(CommandError::Data("PING")));
        assert_eq!(
            Command::decode("\x04PONG0123456789abcdefX".into()),
            Err(CommandError::Context("PONG", 17))
        );
    }

    #[test]
    fn no_name_no_command() {
        for body in ["", "\0", "\0abc", "\x05READ"] {
            assert_eq!(Command::decode(body.into()), Err(CommandError::Name));
        }
    }

    #[test]
    fn a_long_subscription_takes_the_long_form() {
        let command = Command::Subscribe(vec![b'x'; 300].into());
        assert_eq!(Command::decode(body_of(&command)), Ok(command));
    }

    #[test]
    fn ttl_counts_tenths_of_a_second() {
        assert_eq!(ttl_from_duration(Duration::from_secs(15)), 150);
        assert_eq!(ttl_from_duration(Duration::from_secs(100_000)), u16::MAX);
        assert_eq!(ttl_to_duration(150), Duration::from_secs(15));
    }

    fn bytes(length: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), length).prop_map(Bytes::from)
    }

    fn commands() -> impl Strategy<Value = Command> {
        let unknown_name = "[a-z]{1,20}".prop_map(Bytes::from);
        let metadata = (
            bytes(0..20),
            bytes(0..300),
            proptest::collection::vec((unknown_name.clone(), bytes(0..50)), 0..4),
        );
        prop_oneof![
            metadata
                .prop_filter("known names", |(_, _, o)| o.iter().all(|(n, _)| n != "identity"))
                .prop_map(|(socket_type, identity, other)| Command::Ready(Metadata {
                    socket_type,
                    identity,
                    other
                })),
            bytes(0..=255).prop_map(|reason| Command::Error { reason }),
            bytes(0..600).prop_map(Command::Subscribe),
            bytes(0..600).prop_map(Command::Cancel),
            (any::<u16>(), bytes(0..=16)).prop_map(|(ttl, context)| Command::Ping { ttl, context }),
            bytes(0..=16).prop_map(|context| Command::Pong { context }),
            (unknown_name, bytes(0..300)).prop_map(|(name, data)| Command::Unknown { name, data }),
        ]
    }

    proptest! {
        #[test]
        fn round_trip(command in commands()) {
            prop_assert_eq!(Command::decode(body_of(&command)), Ok(command));
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            name in prop_oneof![Just("READY"), Just("ERROR"), Just("PING"), Just("PONG"), Just("")],
            data in bytes(0..200),
        ) {
            let mut body = BytesMut::new();
            if !name.is_empty() {
                put_short(name.as_bytes(), &mut body);
            }
            body.put_slice(&data);
            let _ = Command::decode(body.freeze());
        }
    }
}
