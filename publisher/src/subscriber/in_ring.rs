//! Finding the place in the ring, and reading on from there.

use super::*;

impl Subscriber {
    /// The subscriptions are in: finds the starting point.
    pub(super) fn settled(&mut self) {
        let settling = match std::mem::replace(&mut self.stage, Stage::Ring { awake: true }) {
            Stage::Settling(settling) => settling,
            _ => unreachable!("only a settling connection settles"),
        };
        let cursors = settling.into_cursors();
        if cursors.is_empty() {
            self.started();
        } else if let Some(replays) = self.shared.replays.clone() {
            let earliest = self.shared.history.earliest(self.stream.peer());
            self.ask(async move { Answer::Resume(replays.resume(cursors, earliest).await) });
        } else {
            let fan_out = &self.shared.fan_out;
            let resume = match self.shared.outlet {
                // What everybody might see then not everybody may see now.
                Outlet::Public => Resume {
                    after: fan_out.head(),
                    known: false,
                    gap: Some(GapReason::NotPermitted),
                },
                _ => fan_out.resume(&cursors, self.shared.epoch),
            };
            self.resumed(resume);
        }
    }

    pub(super) fn resumed(&mut self, resume: Resume) {
        self.position = Position::new(0, 0, resume.after);
        self.find_place();
        self.started();
        self.is_catching_up = true;
        if let Some(reason) = resume.gap {
            self.tell_gap(None, Some(resume.after), reason);
        }
    }

    /// The starting point is known: the head is told before the first event, however much is to be caught up.
    pub(super) fn started(&mut self) {
        if self.numbered {
            self.head_due = Some(Instant::now() + HEAD_INTERVAL);
            self.say_head();
        }
    }

    /// Goes on in the ring if it has everything after the position, else in the journal.
    pub(super) fn find_place(&mut self) {
        match self.shared.fan_out.ring().place_after(self.position.sequence) {
            Some((batch, message)) => {
                self.position = Position::new(batch, message, self.position.sequence);
                self.stage = Stage::Ring { awake: true };
            }
            None if self.shared.replays.is_some() => self.stage = Stage::Replay { upto: None, page: None },
            None => self.skip_to_ring(),
        }
    }

    pub(super) fn advance_in_ring(&mut self, now: Instant) -> Result<Wait, End> {
        // Among events without a number there is no place to put a snapshot: it waits until they have one.
        if !matches!(self.position.standing(), Standing::Unknown)
            && let Some(request) = self.snapshots.pop_front()
        {
            self.begin_snapshot(request);
            return Ok(Wait {
                again: true,
                ..Wait::default()
            });
        }
        let Stage::Ring { awake } = &mut self.stage else {
            unreachable!("called in the ring stage only")
        };
        // In this order: what was told before the head moved is seen.
        let head = self.shared.fan_out.head();
        if let Some(unserved) = self.signal.take() {
            if !*awake {
                self.position.jump(unserved.batch, unserved.previous);
            }
            *awake = true;
        }
        if !*awake {
            self.position.covers(head);
            if std::mem::take(&mut self.is_catching_up) && self.numbered {
                // Whoever asked for the past learns at once that this was it.
                self.head_due = Some(now);
            }
            self.reader.has_had_everything();
            self.outgoing.relax();
            return Ok(Wait {
                told: true,
                idle: true,
                ..Wait::default()
            });
        }
        self.reader.is_at(self.position.batch);
        let mut batches = Vec::new();
        match self
            .shared
            .fan_out
            .ring()
            .read(self.position.batch, RING_READ_BYTES, &mut batches)
        {
            Found::UpToDate => {
                *awake = false;
                Ok(Wait {
                    again: true,
                    ..Wait::default()
                })
            }
            Found::Evicted => {
                self.leave_ring(now);
                Ok(Wait {
                    again: true,
                    ..Wait::default()
                })
            }
            Found::Batches => {
                let Self {
                    outgoing,
                    stream,
                    interests,
                    position,
                    ..
                } = self;
                let written = if self.numbered {
                    outgoing.write_batches_numbered(stream, &batches, interests, position, self.shared.epoch)?
                } else {
                    outgoing.write_batches(stream, &batches, interests, position)?
                };
                match written {
                    Written::All => Ok(Wait {
                        again: true,
                        ..Wait::default()
                    }),
                    Written::Blocked => Ok(self.blocked(now)),
                }
            }
        }
    }

    /// The place in the ring is gone: goes on in the journal, or skips what nobody has any more.
    pub(super) fn leave_ring(&mut self, now: Instant) {
        if self.shared.replays.is_none() {
            return self.skip_to_ring();
        }
        match self.position.standing() {
            Standing::After(sequence) => self.position = Position::new(0, 0, sequence),
            Standing::NotRecorded(sequence) => {
                self.position = Position::new(0, 0, sequence);
                self.tell_gap(None, Some(sequence), GapReason::NotRecorded);
            }
            Standing::Unknown => {
                self.stage = Stage::AwaitNumbering(now + NUMBERING_INTERVAL);
                return;
            }
        }
        self.find_place();
    }

    /// Without a journal: what left the ring is lost to this subscriber, and it is told so.
    pub(super) fn skip_to_ring(&mut self) {
        let (batch, last_lost) = self.shared.fan_out.ring().oldest();
        let lost = last_lost.saturating_sub(self.position.sequence);
        self.skipped += lost;
        self.shared.counters.skipped.add(lost);
        self.tell_gap(
            Some(self.position.sequence + 1),
            Some(last_lost),
            GapReason::RingOverrun,
        );
        self.position = Position::new(batch, 0, last_lost);
        self.stage = Stage::Ring { awake: true };
    }
}
