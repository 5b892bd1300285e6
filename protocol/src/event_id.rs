//! The event's UUID: frame 2 of the envelope.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

/// A UUID as it names one event. LAVA sends version 1; any version is taken.
///
/// The bytes are those of RFC 9562, in network order. Its only text is the canonical one: 36 characters, lower case.
///
/// ```
/// use lavabus_protocol::EventId;
///
/// let id: EventId = "8e503fbe-e568-11f1-8b37-02fc00000001".parse()?;
/// assert_eq!(id.time().map(|t| t.to_string()).as_deref(), Some("2026-11-21T05:01:05.217939Z"));
/// assert_eq!(EventId::from_key(id.key()), id);
/// # Ok::<(), lavabus_protocol::EventIdError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(pub [u8; 16]);

/// The text is not a canonical lower-case UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a UUID in canonical form: expected 36 characters, lower case, such as 8e503fbe-e568-11f1-8b37-02fc00000001"
)]
pub struct EventIdError;

impl EventId {
    /// No event's UUID (RFC 9562, "Nil UUID"). In a [`Cursor`](crate::Cursor) it says that the number alone counts.
    pub const NIL: EventId = EventId([0; 16]);
}

/// Length of the canonical text, in bytes.
pub const TEXT_LEN: usize = 36;

/// 100 ns intervals between 1582-10-15, where a version 1 time begins, and 1970-01-01 (RFC 9562, section 5.1).
const GREGORIAN_TO_UNIX: i128 = 0x01B2_1DD2_1381_4000;

const NOT_HEX: u8 = 0xff;
const HEX_VALUE: [u8; 256] = {
    let mut table = [NOT_HEX; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    table
};

/// Where each byte's two digits begin in the text `8e503fbe-e568-11f1-8b37-02fc00000001`.
const DIGITS_AT: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
const HYPHENS_AT: [usize; 4] = [8, 13, 18, 23];

impl EventId {
    /// Reads the canonical lower-case text; `None` for anything else. Does not allocate.
    pub fn parse(text: &[u8]) -> Option<EventId> {
        let text: &[u8; TEXT_LEN] = text.try_into().ok()?;
        if HYPHENS_AT.iter().any(|&at| text[at] != b'-') {
            return None;
        }
        let mut bytes = [0; 16];
        // One test at the end instead of one a digit: NOT_HEX is the only value with high bits.
        let mut seen = 0;
        for (byte, at) in bytes.iter_mut().zip(DIGITS_AT) {
            let high = HEX_VALUE[usize::from(text[at])];
            let low = HEX_VALUE[usize::from(text[at + 1])];
            seen |= high | low;
            *byte = (high << 4) | (low & 0x0f);
        }
        (seen < 16).then_some(EventId(bytes))
    }

    /// Writes the canonical text into `text` and gives it back as a string.
    pub fn write<'t>(&self, text: &'t mut [u8; TEXT_LEN]) -> &'t str {
        for at in HYPHENS_AT {
            text[at] = b'-';
        }
        for (byte, at) in self.0.iter().zip(DIGITS_AT) {
            text[at] = b"0123456789abcdef"[usize::from(byte >> 4)];
            text[at + 1] = b"0123456789abcdef"[usize::from(byte & 0x0f)];
        }
        std::str::from_utf8(text).expect("hexadecimal digits and hyphens are ASCII")
    }

    /// The key under which an index holds this UUID: the same 128 bits, with a version 1 time's most significant
    /// bits first, so that events made one after the other lie beside each other.
    ///
    /// ```text
    /// UUID   time_low (4) | time_mid (2) | time_hi_and_version (2) | clock_seq, node (8)
    /// key    time_hi_and_version (2) | time_mid (2) | time_low (4) | clock_seq, node (8)
    /// ```
    ///
    /// It is a permutation, so it holds for every 128-bit value and [`EventId::from_key`] undoes it. The version stays
    /// what it was.
    pub fn key(&self) -> [u8; 16] {
        let b = &self.0;
        [
            b[6], b[7], b[4], b[5], b[0], b[1], b[2], b[3], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15],
        ]
    }

    /// The UUID that has this [`key`](EventId::key).
    pub fn from_key(key: [u8; 16]) -> EventId {
        let k = &key;
        EventId([
            k[4], k[5], k[6], k[7], k[2], k[3], k[0], k[1], k[8], k[9], k[10], k[11], k[12], k[13], k[14], k[15],
        ])
    }

    /// When a version 1 UUID was made by its sender's clock (100 ns steps); `None` for other versions.
    pub fn time(&self) -> Option<Timestamp> {
        // RFC 9562: the version is the high nibble of octet 6, the variant `10` the high bits of octet 8.
        if self.0[6] >> 4 != 1 || self.0[8] >> 6 != 0b10 {
            return None;
        }
        let key = self.key();
        let ticks = u64::from_be_bytes([key[0] & 0x0f, key[1], key[2], key[3], key[4], key[5], key[6], key[7]]);
        Timestamp::from_nanosecond((i128::from(ticks) - GREGORIAN_TO_UNIX) * 100).ok()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.write(&mut [0; TEXT_LEN]))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventId({self})")
    }
}

impl FromStr for EventId {
    type Err = EventIdError;

    fn from_str(text: &str) -> Result<EventId, EventIdError> {
        EventId::parse(text.as_bytes()).ok_or(EventIdError)
    }
}

impl From<uuid::Uuid> for EventId {
    fn from(uuid: uuid::Uuid) -> EventId {
        EventId(uuid.into_bytes())
    }
}

impl From<EventId> for uuid::Uuid {
    fn from(id: EventId) -> uuid::Uuid {
        uuid::Uuid::from_bytes(id.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A version 1 UUID by RFC 9562's layout, made independently of `EventId`.
    fn version_1(ticks: u64, rest: u64) -> EventId {
        let seq = ((rest >> 48) & 0x3fff) as u16;
        let node = (rest & 0xffff_ffff_ffff).to_be_bytes();
        let node: [u8; 6] = node[2..].try_into().unwrap();
        uuid::Uuid::from_fields(
            ticks as u32,
            (ticks >> 32) as u16,
            0x1000 | ((ticks >> 48) & 0x0fff) as u16,
            &[
                0x80 | (seq >> 8) as u8,
                seq as u8,
                node[0],
                node[1],
                node[2],
                node[3],
                node[4],
                node[5],
            ],
        )
        .into()
    }

    #[test]
    fn only_the_canonical_form_is_read() {
        let text = "8e503fbe-e568-11f1-8b37-02fc00000001";
        assert_eq!(EventId::parse(text.as_bytes()).unwrap().to_string(), text);
        for bad in [
            "",
            "8E503FBE-E568-11F1-8B37-02FC00000001",
            "8e503fbee56811f18b3702fc00000001",
            "{8e503fbe-e568-11f1-8b37-02fc00000001}",
            "8e503fbe-e568-11f1-8b37-02fc0000000",
            "8e503fbe-e568-11f1-8b37-02fc000000011",
            "8e503fbe-e568-11f1-8b37_02fc00000001",
            "8e503fbe-e568-11f1-8b37-02fc0000000g",
            "g e503fbe-e568-11f1-8b37-02fc000000",
            "8e503fb-ee568-11f1-8b37-02fc00000001",
        ] {
            assert_eq!(EventId::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn every_single_byte_change_is_noticed_or_read_as_changed() {
        let text = *b"8e503fbe-e568-11f1-8b37-02fc00000001";
        let id = EventId::parse(&text).unwrap();
        for at in 0..TEXT_LEN {
            for byte in 0..=255 {
                let mut changed = text;
                changed[at] = byte;
                match EventId::parse(&changed) {
                    Some(read) => assert_eq!(read.to_string().as_bytes(), changed),
                    None => assert_ne!(byte, text[at]),
                }
            }
        }
        assert_eq!(id.to_string().as_bytes(), text);
    }

    #[test]
    fn other_versions_have_no_time() {
        let id: EventId = "919108f7-52d1-4320-9bac-f847db4148a8".parse().unwrap();
        assert_eq!(id.time(), None);
        assert_eq!(EventId([0; 16]).time(), None);
        // Version 1 by its nibble, but of another variant.
        let id: EventId = "8e503fbe-e568-11f1-0b37-02fc00000001".parse().unwrap();
        assert_eq!(id.time(), None);
    }

    #[test]
    fn the_example_of_rfc_9562_has_its_time() {
        // RFC 9562, appendix A.1.
        let id: EventId = "c232ab00-9414-11ec-b3c8-9f6bdeced846".parse().unwrap();
        assert_eq!(id.time().unwrap().to_string(), "2022-02-22T19:22:22Z");
    }

    proptest! {
        #[test]
        fn key_is_a_bijection(bytes: [u8; 16]) {
            prop_assert_eq!(EventId::from_key(EventId(bytes).key()), EventId(bytes));
            prop_assert_eq!(EventId::from_key(bytes).key(), bytes);
        }

        #[test]
        fn version_1_keys_sort_by_time(a in 0_u64..1 << 60, b in 0_u64..1 << 60, near in 0_u64..1 << 20, rest: u64, other: u64) {
            for b in [b, (a + near) & ((1 << 60) - 1)] {
                let (first, second) = (version_1(a, rest), version_1(b, other));
                if a != b {
                    prop_assert_eq!(a.cmp(&b), first.key().cmp(&second.key()));
                    prop_assert_eq!(a.cmp(&b), first.time().unwrap().cmp(&second.time().unwrap()));
                }
            }
        }

        #[test]
        fn text_round_trip_agrees_with_the_uuid_crate(bytes: [u8; 16]) {
            let id = EventId(bytes);
            prop_assert_eq!(id.to_string(), uuid::Uuid::from_bytes(bytes).hyphenated().to_string());
            prop_assert_eq!(id.to_string().parse::<EventId>(), Ok(id));
            prop_assert_eq!(EventId::from(uuid::Uuid::from(id)), id);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(id) = EventId::parse(&bytes) {
                prop_assert_eq!(id.to_string().into_bytes(), bytes);
            }
        }
    }
}
