//! Refused messages as they lie in the table.
//!
//! ```text
//! ┌───────────────┬───────────────┬──┄ for each frame
//! │ length        │ bytes         │
//! │ u32, big-end. │ fewer in the  │
//! │ as received   │ last, if cut  │
//! └───────────────┴───────────────┴──┄
//! ```
//! Frames beyond the cut are left out; `size` in the row says how much there was on the wire.

/// A refused message as it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedMessage {
    /// Its number in the order of arrival; older ones are dropped, so it need not begin with 1.
    pub number: u64,
    /// When it was received, in µs since 1970.
    pub received_us: i64,
    /// Why it was refused.
    pub reason: String,
    /// Where it came from.
    pub peer: String,
    /// What it was, cut to [`REJECTED_BYTES`](crate::REJECTED_BYTES).
    pub frames: Vec<Vec<u8>>,
    /// How many bytes it had on the wire.
    pub size: u64,
}

/// Frames cut to `limit` bytes of content.
pub(crate) fn encode_frames(frames: &[&[u8]], limit: usize) -> Vec<u8> {
    let mut encoded = Vec::new();
    let mut left = limit;
    for frame in frames {
        // An empty frame costs a byte of the limit too: a message may have any number of them.
        let Some(rest) = left.checked_sub(frame.len().max(1)) else {
            if left > 0 {
                encoded.extend_from_slice(&length(frame).to_be_bytes());
                encoded.extend_from_slice(&frame[..left]);
            }
            break;
        };
        encoded.extend_from_slice(&length(frame).to_be_bytes());
        encoded.extend_from_slice(frame);
        left = rest;
    }
    encoded
}

fn length(frame: &[u8]) -> u32 {
    u32::try_from(frame.len()).unwrap_or(u32::MAX)
}

/// The frames that were kept, the last one cut if need be.
pub(crate) fn decode_frames(mut encoded: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = encoded.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length))
            .unwrap_or(usize::MAX)
            .min(rest.len());
        let (frame, rest) = rest.split_at(length);
        frames.push(frame.to_vec());
        encoded = rest;
    }
    frames
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_cut_to_the_limit() {
        let frames: [&[u8]; 4] = [b"topic", b"", b"0123456789", b"never seen"];
        assert_eq!(decode_frames(&encode_frames(&frames, 100)), frames);
        assert_eq!(
            decode_frames(&encode_frames(&frames, 10)),
            [&b"topic"[..], b"", b"0123"]
        );
        assert_eq!(
            decode_frames(&encode_frames(&frames, 16)),
            [&b"topic"[..], b"", b"0123456789"]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            decode_frames(&bytes);
        }

        #[test]
        fn small_messages_come_back_whole(frames: Vec<Vec<u8>>) {
            let borrowed: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(decode_frames(&encode_frames(&borrowed, usize::MAX)), frames);
        }
    }
}
