//! What we say between events: control messages and heartbeats.

use super::*;

impl Subscriber {
    /// Queues a control message between events.
    pub(super) fn say(&mut self, message: &ControlMessage) -> bool {
        let frames = message.encode();
        let frames: Vec<&[u8]> = frames.iter().map(|frame| frame.as_bytes()).collect();
        self.outgoing.queue(|out| lavabus_zmtp::encode_message(&frames, out))
    }

    /// Says how far the journal and this connection are, if it is time. True if there is something to write now.
    pub(super) fn tell_head(&mut self, now: Instant) -> bool {
        if self.head_due.is_none_or(|due| due > now) {
            return false;
        }
        self.head_due = Some(now + HEAD_INTERVAL);
        if !self.outgoing.is_empty() {
            // A subscriber that does not read is not told how late it is.
            return false;
        }
        self.say_head()
    }

    pub(super) fn say_head(&mut self) -> bool {
        let at = |seq| EventPosition {
            epoch: self.shared.epoch,
            seq,
        };
        let oldest = self.shared.oldest.load(Ordering::Relaxed);
        // The shared head moves a moment after the events behind it can be had.
        let head = self.shared.fan_out.head().max(self.position.sequence);
        self.say(&ControlMessage::Head {
            head: at(head),
            oldest: (oldest > 0).then_some(oldest),
            skipped: self.skipped,
            position: Some(at(self.position.sequence)),
        })
    }

    /// Says what cannot be had, to whoever asked to be told.
    pub(super) fn tell_gap(&mut self, from: Option<u64>, to: Option<u64>, reason: GapReason) {
        self.shared.counters.gaps.add(1);
        if self.numbered {
            let at = |seq| EventPosition {
                epoch: self.shared.epoch,
                seq,
            };
            self.say(&ControlMessage::Gap {
                from: from.map(at),
                to: to.map(at),
                reason,
            });
        }
    }

    pub(super) fn heartbeat(&mut self, now: Instant) -> Result<(), End> {
        match self
            .heartbeat
            .poll(now.into_std(), |within| self.stream.host_answers(within))
        {
            Action::None => Ok(()),
            Action::SendPing => {
                let ping = Command::Ping {
                    ttl: self.heartbeat.ttl(),
                    context: Bytes::new(),
                };
                self.outgoing.queue(|out| ping.encode(out));
                Ok(())
            }
            Action::Dead => Err(End::Dead),
            Action::Stalled => Err(End::Stalled),
        }
    }
}
