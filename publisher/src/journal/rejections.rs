//! Refused messages on their way to the database: written with the next group, or once a second.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lavabus_store::{Group, REJECTED_BYTES, REJECTED_KEPT, Rejected, StoreError};

use crate::admission::{Refused, kept_frames};

/// A flood of malformed messages costs a commit this often.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Rejections {
    waiting: VecDeque<Waiting>,
    since: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    received_us: i64,
    reason: &'static str,
    peer: Arc<str>,
    frames: Vec<Vec<u8>>,
    size: u64,
}

impl Rejections {
    pub(super) fn add(&mut self, refused: Refused, received_us: i64, peer: &Arc<str>) {
        let frames = kept_frames(&refused.head);
        self.push(Waiting {
            received_us,
            reason: refused.refusal.reason(),
            peer: peer.clone(),
            frames,
            size: refused.size,
        });
    }

    pub(super) fn add_message(&mut self, reason: &'static str, message: &[u8], received_us: i64, peer: &Arc<str>) {
        let size = message.len() as u64;
        let frames = kept_frames(&message[..message.len().min(REJECTED_BYTES)]);
        self.push(Waiting {
            received_us,
            reason,
            peer: peer.clone(),
            frames,
            size,
        });
    }

    fn push(&mut self, waiting: Waiting) {
        // Only the newest are kept in the database too.
        if self.waiting.len() as u64 >= REJECTED_KEPT {
            self.waiting.pop_front();
        }
        self.waiting.push_back(waiting);
        self.since.get_or_insert_with(Instant::now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether some wait long enough for a commit of their own.
    pub(super) fn are_due(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= INTERVAL)
    }

    pub(super) fn write(&self, group: &mut Group<'_>) -> Result<(), StoreError> {
        for waiting in &self.waiting {
            let frames: Vec<&[u8]> = waiting.frames.iter().map(Vec::as_slice).collect();
            group.reject(&[Rejected {
                received_us: waiting.received_us,
                reason: waiting.reason,
                peer: &waiting.peer,
                frames: &frames,
                size: waiting.size,
            }])?;
        }
        Ok(())
    }

    /// They could not be written: they wait for as long again.
    pub(super) fn postpone(&mut self) {
        self.since = Some(Instant::now());
    }

    pub(super) fn written(&mut self) {
        self.waiting.clear();
        self.since = None;
    }
}
