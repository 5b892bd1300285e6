//! What a peer may cost us.

use std::time::Duration;

/// Bounds on what one peer may send. Every one of them is checked before memory is given to it.
///
/// ```
/// let limits = lavabus_zmtp::Limits { message: 4096, ..Default::default() };
/// assert_eq!(limits.frame, 1024 * 1024);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The longest body of one message frame, in bytes. 1 MiB by default.
    pub frame: usize,
    /// The largest sum of a message's frame bodies, in bytes. 1 MiB by default; more than 1 GiB counts as 1 GiB.
    pub message: usize,
    /// The most frames of one message. 64 by default.
    pub frames: usize,
    /// A message beyond the three limits above is read over and reported, as long as it has no more than so many
    /// bytes with its headers. A peer that claims more is disconnected. 64 MiB by default.
    pub skip: u64,
    /// The longest command body, in bytes: READY, SUBSCRIBE and the like. 64 KiB by default.
    pub command: usize,
    /// The time for the whole handshake. 3 s by default.
    pub handshake: Duration,
}

impl Limits {
    /// No message may be larger than this, since offsets in a [`MessageRun`](crate::MessageRun) are 32 bits wide.
    pub(crate) const LARGEST_MESSAGE: usize = 1 << 30;
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            frame: 1 << 20,
            message: 1 << 20,
            frames: 64,
            skip: 64 << 20,
            command: 64 << 10,
            handshake: Duration::from_secs(3),
        }
    }
}
