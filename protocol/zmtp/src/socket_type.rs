//! Socket types and which of them may talk to each other (RFC 37, "The Socket-Type Property").

use std::fmt;

/// A ZeroMQ socket type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum SocketType {
    Pair,
    Pub,
    Sub,
    Req,
    Rep,
    Dealer,
    Router,
    Pull,
    Push,
    Xpub,
    Xsub,
}

impl SocketType {
    const ALL: [SocketType; 11] = [
        SocketType::Pair,
        SocketType::Pub,
        SocketType::Sub,
        SocketType::Req,
        SocketType::Rep,
        SocketType::Dealer,
        SocketType::Router,
        SocketType::Pull,
        SocketType::Push,
        SocketType::Xpub,
        SocketType::Xsub,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            SocketType::Pair => "PAIR",
            SocketType::Pub => "PUB",
            SocketType::Sub => "SUB",
            SocketType::Req => "REQ",
            SocketType::Rep => "REP",
            SocketType::Dealer => "DEALER",
            SocketType::Router => "ROUTER",
            SocketType::Pull => "PULL",
            SocketType::Push => "PUSH",
            SocketType::Xpub => "XPUB",
            SocketType::Xsub => "XSUB",
        }
    }

    /// Reads the value of `Socket-Type`; `None` for a name that ZMTP 3.1 does not know.
    pub fn decode(value: &[u8]) -> Option<SocketType> {
        Self::ALL
            .into_iter()
            .find(|socket_type| socket_type.as_str().as_bytes() == value)
    }

    /// Whether these two may be connected.
    pub fn may_talk_to(self, peer: SocketType) -> bool {
        use SocketType::*;
        // RFC 37: "This table shows the legal combinations".
        match self {
            Pair => peer == Pair,
            Pub | Xpub => matches!(peer, Sub | Xsub),
            Sub | Xsub => matches!(peer, Pub | Xpub),
            Req => matches!(peer, Rep | Router),
            Rep => matches!(peer, Req | Dealer),
            Dealer => matches!(peer, Rep | Dealer | Router),
            Router => matches!(peer, Req | Dealer | Router),
            Pull => peer == Push,
            Push => peer == Pull,
        }
    }
}

impl fmt::Display for SocketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_unknown_ones_are_not() {
        for socket_type in SocketType::ALL {
            assert_eq!(SocketType::decode(socket_type.as_str().as_bytes()), Some(socket_type));
        }
        assert_eq!(SocketType::decode(b"sub"), None);
        assert_eq!(SocketType::decode(b""), None);
    }

    #[test]
    fn the_table_is_symmetric() {
        for a in SocketType::ALL {
            for b in SocketType::ALL {
                assert_eq!(a.may_talk_to(b), b.may_talk_to(a), "{a} {b}");
            }
        }
        assert!(SocketType::Pub.may_talk_to(SocketType::Xsub));
        assert!(!SocketType::Pull.may_talk_to(SocketType::Sub));
    }
}
