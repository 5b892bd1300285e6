//! Who is alive: PING and PONG as a state machine that gets the time as an argument (RFC 37, "Heartbeats").
//!
//! *Slow is not dead.* A stock SUB whose application does not read stops reading from its socket once its queue is
//! full, and then leaves PING unanswered; so a missing PONG alone proves nothing. When one is overdue, the peer's
//! kernel is asked: as long as it acknowledges what we send (or our probes of its full window), the peer is slow, and
//! is tolerated for [`HeartbeatConfig::stalled_timeout`]. When it does not, the peer is dead.

use crate::command::{ttl_from_duration, ttl_to_duration};
use std::time::{Duration, Instant};

/// How a connection is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatConfig {
    /// A PING is sent so often. Zero: never. 5 s by default.
    pub interval: Duration,
    /// A PONG, or anything else, is expected within this time after a PING. 15 s by default.
    pub timeout: Duration,
    /// Sent with each PING: the peer may take us for dead when it hears nothing for so long. 15 s by default, at
    /// most 6553.5 s.
    pub ttl: Duration,
    /// A peer that is there but takes nothing (or answers nothing) is tolerated for so long. 10 min by default.
    pub stalled_timeout: Duration,
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        HeartbeatConfig {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(15),
            ttl: Duration::from_secs(15),
            stalled_timeout: Duration::from_secs(600),
        }
    }
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing before [`Heartbeat::next_deadline`].
    None,
    /// Send a PING with [`Heartbeat::ttl`].
    SendPing,
    /// Close: the peer is not heard of, and its kernel does not answer either.
    Dead,
    /// Close: the peer's machine answers, but the peer has taken nothing of ours (or answered nothing) for
    /// [`HeartbeatConfig::stalled_timeout`].
    Stalled,
}

/// The heartbeat of one connection.
///
/// ```
/// use lavabus_zmtp::{Action, Heartbeat, HeartbeatConfig};
/// use std::time::{Duration, Instant};
/// let start = Instant::now();
/// let at = |s| start + Duration::from_secs(s);
/// let mut heartbeat = Heartbeat::new(HeartbeatConfig::default(), 1, start);
/// assert_eq!(heartbeat.poll(at(5), |_| true), Action::SendPing);
/// // The peer's kernel does not acknowledge the PING:
/// assert_eq!(heartbeat.poll(at(20), |_| false), Action::Dead);
/// ```
#[derive(Debug, Clone)]
pub struct Heartbeat {
    config: HeartbeatConfig,
    /// PING and PONG are spoken on this connection.
    active: bool,
    last_ping: Instant,
    /// When something was last received, or when a full window was last seen to open.
    last_sign: Instant,
    /// When the first PING was sent that nothing has followed.
    unanswered_since: Option<Instant>,
    peer_ttl: Option<Duration>,
    blocked_since: Option<Instant>,
    /// The peer's kernel answered for it at this time.
    excused_at: Option<Instant>,
}

impl Heartbeat {
    /// For a connection whose handshake ended at `now`, with a peer of this minor version. A 3.0 peer gets no PING
    /// (it may not know the command); there only a full window is watched.
    pub fn new(config: HeartbeatConfig, peer_minor: u8, now: Instant) -> Heartbeat {
        Heartbeat {
            active: peer_minor >= 1 && !config.interval.is_zero(),
            config,
            last_ping: now,
            last_sign: now,
            unanswered_since: None,
            peer_ttl: None,
            blocked_since: None,
            excused_at: None,
        }
    }

    /// Any bytes were received.
    pub fn on_received(&mut self, now: Instant) {
        self.last_sign = now;
        self.unanswered_since = None;
        self.excused_at = None;
    }

    /// A PING was received: its TTL, in tenths of a second, is how long the peer's silence may last. 0: for ever.
    pub fn on_ping(&mut self, now: Instant, ttl: u16) {
        self.on_received(now);
        self.peer_ttl = (ttl > 0).then(|| ttl_to_duration(ttl));
    }

    /// The socket took less than was to be written: something of ours waits in the peer's window.
    pub fn on_write_blocked(&mut self, now: Instant) {
        self.blocked_since.get_or_insert(now);
    }

    /// The socket took something again, or there is nothing left to write.
    pub fn on_write_progress(&mut self, now: Instant) {
        if self.blocked_since.take().is_some() {
            // It has just made room, so its time to answer begins now.
            self.last_sign = self.last_sign.max(now);
            self.unanswered_since = self.unanswered_since.map(|_| now);
            self.excused_at = None;
        }
    }

    /// The TTL for our PINGs, in tenths of a second.
    pub fn ttl(&self) -> u16 {
        ttl_from_duration(self.config.ttl)
    }

    /// When to call [`poll`](Self::poll) again at the latest. `None`: not before something happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        let stalled = self.stalled_deadline();
        if self.blocked_since.is_some() {
            return [stalled, self.silence_deadline()].into_iter().flatten().min();
        }
        let ping = self.active.then(|| self.last_ping + self.config.interval);
        [ping, self.silence_deadline(), stalled].into_iter().flatten().min()
    }

    /// What is to be done at `now`.
    ///
    /// `host_answers` is asked only when an answer is overdue: has the peer's kernel acknowledged all that we sent, or
    /// at least something within this time? [`Stream::host_answers`](crate::Stream::host_answers) knows.
    pub fn poll(&mut self, now: Instant, host_answers: impl FnOnce(Duration) -> bool) -> Action {
        if self.stalled_deadline().is_some_and(|deadline| now >= deadline) {
            return Action::Stalled;
        }
        if self.silence_deadline().is_some_and(|deadline| now >= deadline) {
            if !host_answers(self.config.timeout) {
                return Action::Dead;
            }
            self.excused_at = Some(now);
        }
        // While a window is full a PING would only stand in the queue; what stands there already is probe enough.
        if self.active && self.blocked_since.is_none() && now >= self.last_ping + self.config.interval {
            self.last_ping = now;
            self.unanswered_since.get_or_insert(now);
            return Action::SendPing;
        }
        Action::None
    }

    /// When silence begins to be suspicious.
    fn silence_deadline(&self) -> Option<Instant> {
        if !self.active && self.peer_ttl.is_none() {
            return None;
        }
        let unanswered = self.unanswered_since.map(|since| since + self.config.timeout);
        let ttl = self.peer_ttl.map(|ttl| self.last_sign + ttl);
        let overdue = [unanswered, ttl].into_iter().flatten().min()?;
        // Once excused, the kernel is asked again an interval later.
        let again = self.config.interval.max(Duration::from_secs(1));
        Some(self.excused_at.map_or(overdue, |excused| overdue.max(excused + again)))
    }

    fn stalled_deadline(&self) -> Option<Instant> {
        let blocked = self.blocked_since;
        // Without a full window, silence counts from the PING that was not answered.
        let silent = self.excused_at.and(self.unanswered_since.or(Some(self.last_sign)));
        [blocked, silent]
            .into_iter()
            .flatten()
            .min()
            .map(|since| since + self.config.stalled_timeout)
    }
}
