//! Reading the journal: events that the ring no longer has, and snapshots.

use super::*;

impl Subscriber {
    pub(super) fn advance_in_journal(&mut self, now: Instant) -> Result<Wait, End> {
        let Stage::Replay { upto, page } = &mut self.stage else {
            unreachable!("called in the replay stage only")
        };
        if let Some(mut current) = page.take() {
            if self.outgoing.write_page(&self.stream, &mut current)? == Written::Blocked {
                // The page is dropped: a stalled reader holds nothing. It is read again when there is room.
                if let Some(sequence) = self.outgoing.keep_rest(&current) {
                    self.position.covers(sequence);
                }
                return Ok(self.blocked(now));
            }
            self.position.covers(current.after);
        }
        let after = self.position.sequence;
        match upto {
            Some(upto) if after >= *upto => {
                self.replayed();
                return Ok(Wait {
                    again: true,
                    ..Wait::default()
                });
            }
            None if self.shared.fan_out.ring().place_after(after).is_some() => {
                self.find_place();
                return Ok(Wait {
                    again: true,
                    ..Wait::default()
                });
            }
            _ => {}
        }
        // What was committed and not yet published is left to the ring.
        let head = self.shared.fan_out.head();
        if after >= head {
            return Ok(Wait {
                until: Some(now + NUMBERING_INTERVAL),
                ..Wait::default()
            });
        }
        let upto = upto.map_or(head, |upto| upto.min(head));
        let replays = self.shared.replays.clone().expect("a replay needs a journal");
        let request = PageRequest {
            after,
            upto,
            prefixes: self.interests.prefixes(),
            numbered: self.numbered,
        };
        self.ask(async move { Answer::Page(replays.page(request).await) });
        Ok(Wait::default())
    }

    pub(super) fn ask(&mut self, answer: impl Future<Output = Answer> + Send + 'static) {
        self.answer = Some(Box::pin(answer));
    }

    pub(super) fn answered(&mut self, answer: Answer) -> Result<(), End> {
        match answer {
            Answer::Resume(resume) => self.resumed(resume?),
            Answer::Page(read) => {
                let read = read?;
                if let Some(pruned) = read.expired {
                    let from = self.position.sequence + 1;
                    let lost = (pruned + 1).saturating_sub(from);
                    self.skipped += lost;
                    self.shared.counters.skipped.add(lost);
                    self.tell_gap(Some(from), Some(pruned), GapReason::Expired);
                    self.position.covers(pruned);
                }
                if let Stage::Replay { page, .. } = &mut self.stage {
                    *page = Some(read);
                }
            }
            Answer::Snapshot(request, snapshot) => {
                let Some(snapshot) = snapshot? else {
                    self.tell_gap(None, None, GapReason::Busy);
                    return Ok(());
                };
                // The events before the snapshot come first, the rest after it. A snapshot that is older than our place
                // (the projections lag far behind) takes us back: better twice than never.
                if let Standing::After(sequence) | Standing::NotRecorded(sequence) = self.position.standing() {
                    self.position = Position::new(0, 0, sequence.min(snapshot.position));
                }
                self.stage = Stage::Replay {
                    upto: Some(snapshot.position),
                    page: None,
                };
                self.snapshot = Some(SnapshotDelivery::new(request.subscription, snapshot));
            }
        }
        Ok(())
    }

    /// The replay has come to the place of the snapshot.
    pub(super) fn replayed(&mut self) {
        match &self.snapshot {
            Some(snapshot) => {
                let begin = snapshot.begin(self.shared.epoch);
                self.say(&begin);
                self.stage = Stage::Snapshot;
            }
            None => self.find_place(),
        }
    }

    pub(super) fn begin_snapshot(&mut self, request: SnapshotRequest) {
        let allowed =
            matches!(request.scope, SnapshotScope::One { .. }) || self.shared.history.is_open_to(self.stream.peer());
        let numbered = self.numbered;
        match self.shared.replays.clone() {
            Some(replays) if allowed => self.ask(async move {
                let snapshot = replays.snapshot(request.scope.clone(), numbered).await;
                Answer::Snapshot(request, snapshot)
            }),
            Some(_) => self.tell_gap(None, None, GapReason::NotPermitted),
            None => self.tell_gap(None, None, GapReason::NoJournal),
        }
    }

    pub(super) fn advance_in_snapshot(&mut self, now: Instant) -> Result<Wait, End> {
        let Some(snapshot) = &mut self.snapshot else {
            unreachable!("the snapshot stage has a snapshot")
        };
        if self.outgoing.write_page(&self.stream, snapshot.page())? == Written::Blocked {
            return Ok(self.blocked(now));
        }
        let end = snapshot.end();
        self.snapshot = None;
        self.say(&end);
        self.find_place();
        Ok(Wait {
            again: true,
            ..Wait::default()
        })
    }
}
