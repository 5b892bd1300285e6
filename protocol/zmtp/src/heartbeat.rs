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
        let ping = self.may_ping().then(|| self.last_ping + self.config.interval);
        [ping, self.silence_deadline(), self.stalled_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// While a window is full a PING would only stand in the queue; what stands there already is probe enough. And
    /// RFC 37: "To avoid PONG storms, a peer should not send more than a small number of PING commands without
    /// receiving PONG replies." A silent peer's machine is watched by the kernel's keepalive.
    fn may_ping(&self) -> bool {
        self.active && self.blocked_since.is_none() && self.excused_at.is_none()
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
        if self.may_ping() && now >= self.last_ping + self.config.interval {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Clock(Instant);

    impl Clock {
        fn at(&self, seconds: u64) -> Instant {
            self.0 + Duration::from_secs(seconds)
        }
    }

    fn start(minor: u8) -> (Clock, Heartbeat) {
        let clock = Clock(Instant::now());
        let heartbeat = Heartbeat::new(HeartbeatConfig::default(), minor, clock.0);
        (clock, heartbeat)
    }

    fn answers(_: Duration) -> bool {
        true
    }

    fn no_answer(_: Duration) -> bool {
        false
    }

    fn not_asked(_: Duration) -> bool {
        panic!("the kernel need not be asked yet")
    }

    #[test]
    fn a_peer_that_answers_lives_for_ever() {
        let (clock, mut heartbeat) = start(1);
        for beat in 1..1000 {
            let now = clock.at(5 * beat);
            assert_eq!(heartbeat.next_deadline(), Some(now));
            assert_eq!(heartbeat.poll(now - Duration::from_millis(1), not_asked), Action::None);
            assert_eq!(heartbeat.poll(now, not_asked), Action::SendPing);
            heartbeat.on_received(now + Duration::from_millis(1));
        }
    }

    #[test]
    fn silence_after_a_ping_is_death_after_the_timeout() {
        let (clock, mut heartbeat) = start(1);
        for beat in [5, 10, 15] {
            assert_eq!(heartbeat.poll(clock.at(beat), not_asked), Action::SendPing);
        }
        assert_eq!(heartbeat.poll(clock.at(19), not_asked), Action::None);
        assert_eq!(heartbeat.next_deadline(), Some(clock.at(20)));
        assert_eq!(heartbeat.poll(clock.at(20), no_answer), Action::Dead);
    }

    #[test]
    fn any_traffic_is_a_sign_of_life() {
        let (clock, mut heartbeat) = start(1);
        assert_eq!(heartbeat.poll(clock.at(5), not_asked), Action::SendPing);
        heartbeat.on_received(clock.at(19));
        assert_eq!(heartbeat.poll(clock.at(20), not_asked), Action::SendPing);
        assert_eq!(heartbeat.poll(clock.at(34), not_asked), Action::SendPing);
        assert_eq!(heartbeat.poll(clock.at(35), no_answer), Action::Dead);
    }

    #[test]
    fn a_silent_peer_whose_machine_answers_is_stalled_after_ten_minutes_and_not_before() {
        let (clock, mut heartbeat) = start(1);
        let mut pings = 0;
        let stalled = loop {
            let now = heartbeat.next_deadline().expect("something to wait for");
            match heartbeat.poll(now, answers) {
                Action::SendPing => pings += 1,
                Action::None => {}
                Action::Stalled => break now,
                Action::Dead => panic!("slow is not dead"),
            }
        };
        assert_eq!(stalled, clock.at(5 + 600));
        assert!(pings <= 4, "{pings} PINGs without a PONG");
    }

    #[test]
    fn a_machine_that_ceases_to_answer_later_is_seen() {
        let (clock, mut heartbeat) = start(1);
        assert_eq!(heartbeat.poll(clock.at(5), not_asked), Action::SendPing);
        assert_eq!(heartbeat.poll(clock.at(20), answers), Action::None);
        assert_eq!(heartbeat.next_deadline(), Some(clock.at(25)));
        assert_eq!(heartbeat.poll(clock.at(25), no_answer), Action::Dead);
    }

    #[test]
    fn after_a_silence_that_was_excused_pings_begin_again() {
        let (clock, mut heartbeat) = start(1);
        heartbeat.poll(clock.at(5), not_asked);
        assert_eq!(heartbeat.poll(clock.at(20), answers), Action::None);
        heartbeat.on_received(clock.at(22));
        assert_eq!(heartbeat.poll(clock.at(22), not_asked), Action::SendPing);
    }

    #[test]
    fn a_full_window_is_no_reason_to_ping_and_is_tolerated_for_ten_minutes() {
        for minor in [0, 1] {
            let (clock, mut heartbeat) = start(minor);
            heartbeat.on_write_blocked(clock.at(1));
            heartbeat.on_write_blocked(clock.at(300));
            for second in 2..601 {
                assert_eq!(heartbeat.poll(clock.at(second), answers), Action::None);
            }
            assert_eq!(heartbeat.poll(clock.at(601), answers), Action::Stalled);
        }
    }

    #[test]
    fn a_window_that_opens_now_and_then_is_tolerated_for_ever() {
        let (clock, mut heartbeat) = start(1);
        for minute in 1..1000 {
            heartbeat.on_write_progress(clock.at(60 * minute));
            heartbeat.on_write_blocked(clock.at(60 * minute));
            assert_eq!(heartbeat.poll(clock.at(60 * minute + 59), answers), Action::None);
        }
    }

    #[test]
    fn the_time_to_answer_begins_when_the_window_opens() {
        let (clock, mut heartbeat) = start(1);
        assert_eq!(heartbeat.poll(clock.at(5), not_asked), Action::SendPing);
        heartbeat.on_write_blocked(clock.at(6));
        heartbeat.on_write_progress(clock.at(100));
        assert_ne!(heartbeat.poll(clock.at(114), not_asked), Action::Dead);
        assert_eq!(heartbeat.poll(clock.at(115), no_answer), Action::Dead);
    }

    #[test]
    fn a_3_0_peer_gets_no_ping() {
        let (clock, mut heartbeat) = start(0);
        assert_eq!(heartbeat.next_deadline(), None);
        assert_eq!(heartbeat.poll(clock.at(100_000), not_asked), Action::None);
    }

    #[test]
    fn the_peers_ttl_counts_from_its_last_sign_of_life() {
        let clock = Clock(Instant::now());
        let config = HeartbeatConfig {
            interval: Duration::ZERO,
            ..Default::default()
        };
        let mut heartbeat = Heartbeat::new(config, 1, clock.0);
        assert_eq!(heartbeat.next_deadline(), None);
        heartbeat.on_ping(clock.at(1), 100);
        heartbeat.on_received(clock.at(5));
        assert_eq!(heartbeat.next_deadline(), Some(clock.at(15)));
        assert_eq!(heartbeat.poll(clock.at(14), not_asked), Action::None);
        assert_eq!(heartbeat.poll(clock.at(15), no_answer), Action::Dead);
        heartbeat.on_ping(clock.at(15), 0);
        assert_eq!(heartbeat.next_deadline(), None);
    }

    proptest! {
        /// Whatever happens, a caller that sleeps until the deadline and polls does not spin, and a PING is never
        /// sent into a full window or sooner than an interval after the last.
        #[test]
        fn polling_at_the_deadline_makes_progress(
            minor in 0u8..2,
            steps in proptest::collection::vec((0u8..6, 0u64..20_000), 1..200),
        ) {
            let mut now = Instant::now();
            let mut heartbeat = Heartbeat::new(HeartbeatConfig::default(), minor, now);
            let (mut blocked, mut last_ping) = (false, now);
            for (what, millis) in steps {
                now += Duration::from_millis(millis);
                match what {
                    0 => heartbeat.on_received(now),
                    1 => heartbeat.on_ping(now, millis as u16),
                    2 => { heartbeat.on_write_blocked(now); blocked = true }
                    3 => { heartbeat.on_write_progress(now); blocked = false }
                    _ => {}
                }
                match heartbeat.poll(now, |_| what != 4) {
                    Action::SendPing => {
                        prop_assert!(minor == 1 && !blocked);
                        prop_assert!(now - last_ping >= Duration::from_secs(5));
                        last_ping = now;
                    }
                    Action::None => {}
                    Action::Dead | Action::Stalled => return Ok(()),
                }
                prop_assert!(heartbeat.next_deadline().is_none_or(|deadline| deadline > now));
            }
        }
    }
}
