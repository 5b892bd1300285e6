//! The greeting: the first 64 bytes in each direction (RFC 37, "The Greeting").
//!
//! ```text
//!  0        1 … 8      9      10     11     12 … 31            32         33 … 63
//! +------+-----------+------+------+------+-------------------+-----------+----------+
//! | 0xFF | 8 padding | 0x7F | 0x03 | 0x01 | mechanism, 20     | as-server | 31 zeros |
//! +------+-----------+------+------+------+-------------------+-----------+----------+
//!  '----- signature -------' major  minor   "NULL" and zeros     0 or 1
//! ```

/// The greeting's length in bytes.
pub const GREETING_LEN: usize = 64;

const SIGNATURE_FIRST: u8 = 0xFF;
const SIGNATURE_LAST: u8 = 0x7F;
const SIGNATURE_END: usize = 9;
const MAJOR: usize = 10;
const MINOR: usize = 11;
const MECHANISM: std::ops::Range<usize> = 12..32;

/// The version that we speak.
const OUR_VERSION: (u8, u8) = (3, 1);

/// What a peer's greeting says, once it is one that we can talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeting {
    /// The minor version to use on this connection: 0 or 1. A peer of a higher version is spoken to as 3.1.
    pub minor: u8,
}

/// Why a greeting was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GreetingError {
    /// The first bytes are not ZMTP's signature: something else has connected, such as a browser.
    #[error("the peer does not speak ZMTP (no ZeroMQ signature in its first bytes)")]
    NotZmtp,
    /// ZMTP 1 or 2, as libzmq 2 and 3 speak it.
    #[error("the peer speaks ZMTP {major}; version 3 is needed (libzmq 4 or later)")]
    OldVersion {
        /// The peer's major version.
        major: u8,
    },
    /// A security mechanism other than NULL.
    #[error("the peer wants the security mechanism {0:?}; only NULL is spoken here")]
    Mechanism(String),
}

impl Greeting {
    /// Our greeting: ZMTP 3.1, NULL.
    pub fn encode() -> [u8; GREETING_LEN] {
        let mut bytes = [0; GREETING_LEN];
        bytes[0] = SIGNATURE_FIRST;
        bytes[SIGNATURE_END] = SIGNATURE_LAST;
        (bytes[MAJOR], bytes[MINOR]) = OUR_VERSION;
        bytes[MECHANISM.start..MECHANISM.start + 4].copy_from_slice(b"NULL");
        bytes
    }

    /// Reads a peer's greeting.
    pub fn decode(bytes: &[u8; GREETING_LEN]) -> Result<Greeting, GreetingError> {
        Self::check_start(bytes)?;
        // RFC 37: "null-padded as needed to fit 20 octets"; and: "If the mechanism that the peer received does not
        // exactly match the mechanism it sent, it MUST close the connection."
        let mechanism = &bytes[MECHANISM];
        let name = &mechanism[..mechanism.iter().position(|b| *b == 0).unwrap_or(mechanism.len())];
        if name != b"NULL" {
            return Err(GreetingError::Mechanism(String::from_utf8_lossy(name).into_owned()));
        }
        // RFC 37: "A peer MUST accept higher protocol versions as valid."
        let minor = if bytes[MAJOR] == OUR_VERSION.0 {
            bytes[MINOR].min(OUR_VERSION.1)
        } else {
            OUR_VERSION.1
        };
        Ok(Greeting { minor })
    }

    /// Looks at what has come of a greeting so far, so that a peer which speaks something else is known at its
    /// first byte.
    pub fn check_start(bytes: &[u8]) -> Result<(), GreetingError> {
        // RFC 37: "signature = %xFF padding %x7F", and the padding is not to be looked at.
        if bytes.first().is_some_and(|b| *b != SIGNATURE_FIRST)
            || bytes.get(SIGNATURE_END).is_some_and(|b| *b != SIGNATURE_LAST)
        {
            return Err(GreetingError::NotZmtp);
        }
        match bytes.get(MAJOR) {
            // RFC 37: "If a peer cannot downgrade its protocol to match its peer, it MUST close the connection."
            Some(major) if *major < OUR_VERSION.0 => Err(GreetingError::OldVersion { major: *major }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ours_is_read_as_3_1() {
        assert_eq!(Greeting::decode(&Greeting::encode()), Ok(Greeting { minor: 1 }));
    }

    #[test]
    fn the_layout_is_that_of_the_rfc() {
        let bytes = Greeting::encode();
        assert_eq!(&bytes[..16], b"\xff\0\0\0\0\0\0\0\0\x7f\x03\x01NULL");
        assert!(bytes[16..].iter().all(|b| *b == 0));
    }

    #[test]
    fn versions() {
        let with = |major, minor| {
            let mut bytes = Greeting::encode();
            (bytes[10], bytes[11]) = (major, minor);
            Greeting::decode(&bytes)
        };
        assert_eq!(with(3, 0), Ok(Greeting { minor: 0 }));
        assert_eq!(with(3, 7), Ok(Greeting { minor: 1 }));
        assert_eq!(with(4, 0), Ok(Greeting { minor: 1 }));
        assert_eq!(with(1, 0), Err(GreetingError::OldVersion { major: 1 }));
    }

    #[test]
    fn another_mechanism_is_named() {
        let mut bytes = Greeting::encode();
        bytes[12..17].copy_from_slice(b"CURVE");
        assert_eq!(Greeting::decode(&bytes), Err(GreetingError::Mechanism("CURVE".into())));
        bytes[12..32].copy_from_slice(b"NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert!(Greeting::decode(&bytes).is_ok());
    }

    #[test]
    fn padding_does_not_matter() {
        let mut bytes = Greeting::encode();
        bytes[8] = 1;
        assert!(Greeting::decode(&bytes).is_ok());
    }

    #[test]
    fn a_browser_is_known_at_its_first_byte() {
        assert_eq!(Greeting::check_start(b"G"), Err(GreetingError::NotZmtp));
        assert_eq!(Greeting::check_start(b""), Ok(()));
        assert_eq!(
            Greeting::check_start(b"\xff\0\0\0\0\0\0\0\0\x01"),
            Err(GreetingError::NotZmtp)
        );
    }

    proptest! {
        #[test]
        fn any_64_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 64)) {
            let bytes: [u8; 64] = bytes.try_into().unwrap();
            let _ = Greeting::decode(&bytes);
        }
    }
}
