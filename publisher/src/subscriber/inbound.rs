//! What a subscriber sends: subscriptions, options, heartbeats.

use super::*;

/// One read takes so many bytes at most, and there are so many reads before it is another's turn.
const READ_BYTES: usize = 4096;
const READS: usize = 16;

impl Subscriber {
    /// Reads what is there, without waiting, but not for so long that a peer who never pauses keeps us from writing.
    pub(super) fn read(&mut self) -> Result<(), End> {
        for _ in 0..READS {
            while let Some(item) = self.decoder.decode(&mut self.inbound)? {
                self.received(item)?;
            }
            if !self.readable {
                break;
            }
            self.inbound.reserve(READ_BYTES);
            match self.stream.try_read_buf(&mut self.inbound) {
                Ok(0) => return Err(End::Closed),
                Ok(_) => self.heartbeat.on_received(std::time::Instant::now()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) => return Err(error.into()),
            }
        }
        if self.inbound.is_empty() && !self.readable {
            // An idle connection holds no buffer.
            self.inbound = BytesMut::new();
        }
        Ok(())
    }

    pub(super) fn received(&mut self, item: Item) -> Result<(), End> {
        match item {
            Item::Messages(run) => {
                for message in run.messages() {
                    if let Some(change) = SubscriptionChange::from_message(message) {
                        self.changed(change)?;
                    }
                }
            }
            Item::Command(Command::Ping { ttl, context }) => {
                self.heartbeat.on_ping(std::time::Instant::now(), ttl);
                self.outgoing.queue(|out| Command::Pong { context }.encode(out));
            }
            Item::Command(command) => {
                if let Some(change) = SubscriptionChange::from_command(&command) {
                    self.changed(change)?;
                }
            }
            Item::Oversize { .. } => return Err(End::Oversize),
        }
        Ok(())
    }

    pub(super) fn changed(&mut self, change: SubscriptionChange) -> Result<(), End> {
        match change {
            SubscriptionChange::Subscribe(prefix) if prefix.starts_with(b"@") => {
                // An option that is not understood sets nothing, as a prefix that begins with `@` matches nothing.
                if let Some(Ok(option)) = SubscriptionOption::parse(&prefix) {
                    self.option(option, &prefix);
                }
            }
            SubscriptionChange::Subscribe(prefix) => self.subscribe(&prefix)?,
            SubscriptionChange::Cancel(prefix) => {
                if self.interests.remove(&prefix) {
                    self.shared.fan_out.cancel(std::iter::once(&prefix[..]), &self.signal);
                }
            }
        }
        Ok(())
    }

    pub(super) fn subscribe(&mut self, prefix: &Bytes) -> Result<(), End> {
        self.settle();
        if self.interests.contains(prefix) || prefix.len() > MAX_PREFIX {
            return Ok(());
        }
        if self.interests.len() >= self.shared.max_subscriptions {
            return Err(End::TooManySubscriptions(self.shared.max_subscriptions));
        }
        let interest = self
            .shared
            .fan_out
            .subscribe(prefix, &self.signal)
            .map_err(|_| End::SubscriptionsFull)?;
        self.interests.insert(prefix, interest);
        Ok(())
    }

    /// A subscription came: the settling begins or goes on.
    pub(super) fn settle(&mut self) {
        if let Stage::Settling(settling) = &mut self.stage
            && settling.subscribed(Instant::now())
        {
            let (batch, head) = self.shared.fan_out.now();
            self.position = Position::new(batch, 0, head);
        }
    }

    pub(super) fn option(&mut self, option: SubscriptionOption, subscription: &[u8]) {
        self.settle();
        match option {
            SubscriptionOption::Seq if !self.numbered => {
                self.numbered = true;
                if !matches!(self.stage, Stage::Settling(_)) {
                    self.head_due = Some(Instant::now());
                }
            }
            SubscriptionOption::After(cursor) => {
                if let Stage::Settling(settling) = &mut self.stage {
                    settling.after(cursor);
                }
            }
            SubscriptionOption::Start => {
                if let Stage::Settling(settling) = &mut self.stage {
                    settling.start();
                }
            }
            SubscriptionOption::Snapshot(scope) => {
                let subscription = String::from_utf8_lossy(subscription).into_owned();
                let request = SnapshotRequest { subscription, scope };
                if self.snapshots_seen.len() > MAX_SNAPSHOTS || self.snapshots_seen.contains(&request) {
                    return;
                }
                self.snapshots_seen.push(request.clone());
                if self.snapshots_seen.len() <= MAX_SNAPSHOTS {
                    self.snapshots.push_back(request);
                } else {
                    // The one too many is said, once.
                    self.tell_gap(None, None, GapReason::Busy);
                }
            }
            SubscriptionOption::Seq => {}
        }
    }
}
