//! The latest event of each device, worker and job.

use lavabus_protocol::event::{Body, read_datetime};
use lavabus_protocol::{Event as TypedEvent, Kind};

use crate::reader::{Event, EventRow};

/// A sender's clock that is further ahead than this counts as this far ahead, so that one event from a wrong
/// century does not stay the latest for ever. A day, in µs.
const AHEAD_US: i64 = 24 * 3_600 * 1_000_000;

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntityKey {
    /// [`Kind::Device`], [`Kind::Testjob`] or [`Kind::Worker`].
    pub kind: Kind,
    /// The device's name, the job's number in LAVA's database or the worker's host name.
    pub id: String,
}

/// An event as the state of the object that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityState {
    /// The event as it was received.
    pub event: Event,
    /// A multinode job's other id, such as `4000.1`.
    pub sub_id: Option<String>,
    /// When it was sent in µs since 1970, by its third frame or else by its version 1 UUID.
    pub sent_us: Option<i64>,
    /// Whether it is a job's last state.
    pub finished: bool,
}

/// The state that an event says its object is in; `None` for an event that is about none.
pub fn state_after(row: &EventRow<'_>) -> Option<(EntityKey, EntityState)> {
    let kind = Kind::of(row.topic);
    if !matches!(kind, Kind::Device | Kind::Testjob | Kind::Worker) {
        return None;
    }
    let typed = TypedEvent::read(kind, row.data);
    let (kind, id) = typed.entity()?;
    let sub_id = match typed.body() {
        Body::Job(job) => job.sub_id.as_ref().map(ToString::to_string),
        _ => None,
    };
    let sent = read_datetime(row.sent).or_else(|| row.id.time());
    let state = EntityState {
        event: row.to_event(),
        sub_id,
        sent_us: sent.map(|sent| sent.as_microsecond()),
        finished: typed.is_finished(),
    };
    Some((EntityKey { kind, id }, state))
}

impl EntityState {
    /// Whether this event, read after `latest`, is the later one.
    ///
    /// By the sender's time, since around a restart of LAVA two events can arrive in the wrong order; by the time
    /// of receipt where the sender's cannot be read; of two at the same time the one that arrived later. Finished
    /// is final: no other state replaces it, whatever its time.
    pub fn replaces(&self, latest: &EntityState) -> bool {
        self.order() > latest.order()
    }

    fn order(&self) -> (bool, i64, u64) {
        let received_us = self.event.received_us;
        let time = self
            .sent_us
            .map_or(received_us, |sent_us| sent_us.min(received_us.saturating_add(AHEAD_US)));
        (self.finished, time, self.event.seq)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use lavabus_protocol::EventId;
    use proptest::prelude::*;

    use super::*;

    const RECEIVED: i64 = 1_795_237_265_222_338;

    fn job(seq: u64, sent: &str, state: &str) -> EntityState {
        let data = format!(r#"{{"job": 7, "sub_id": "6.1", "state": "{state}"}}"#);
        let row = EventRow {
            seq,
            id: EventId([0; 16]),
            received_us: RECEIVED + seq.cast_signed(),
            topic: "org.example.lab.testjob",
            sent,
            user: "ann",
            data: &data,
        };
        let (key, state) = state_after(&row).unwrap();
        assert_eq!(
            (key.kind, key.id.as_str(), state.sub_id.as_deref()),
            (Kind::Testjob, "7", Some("6.1"))
        );
        state
    }

    #[test]
    fn the_senders_time_decides() {
        let (early, late) = ("2026-11-21T05:01:05+00:00", "2026-11-21T05:01:06+00:00");
        assert!(job(2, late, "Running").replaces(&job(1, early, "Scheduled")));
        assert!(!job(2, early, "Scheduled").replaces(&job(1, late, "Running")));
        assert!(job(2, early, "Running").replaces(&job(1, early, "Scheduled")));
    }

    #[test]
    fn finished_is_final() {
        let (early, late) = ("2026-11-21T05:01:05+00:00", "2026-11-21T05:01:06+00:00");
        assert!(job(2, early, "Finished").replaces(&job(1, late, "Running")));
        assert!(!job(2, late, "Running").replaces(&job(1, early, "Finished")));
        assert!(job(2, late, "Finished").replaces(&job(1, early, "Finished")));
    }

    #[test]
    fn without_a_senders_time_arrival_decides() {
        assert!(job(2, "", "Running").replaces(&job(1, "soon", "Scheduled")));
        // 05:01:05.2 was the receipt.
        assert!(!job(2, "", "Running").replaces(&job(1, "2026-11-21T05:01:09+00:00", "Scheduled")));
        assert!(job(2, "", "Running").replaces(&job(1, "2026-11-21T05:01:00+00:00", "Scheduled")));
    }

    #[test]
    fn a_wrong_century_does_not_stay() {
        let mut next = job(2, "2026-11-23T05:01:05+00:00", "Running");
        next.event.received_us += 2 * AHEAD_US;
        assert!(next.replaces(&job(1, "2126-11-21T05:01:05+00:00", "Scheduled")));
    }

    #[test]
    fn events_that_tell_no_state_are_left_out() {
        for (topic, data) in [
            ("lab.event", r#"{"message": "m", "job": 7}"#),
            ("lab.device", r#"{"state": "Idle"}"#),
            ("lab.result", r#"{"job": 7}"#),
            ("lab.testjob", "{}"),
        ] {
            let id = EventId([0; 16]);
            let row = EventRow {
                seq: 1,
                id,
                received_us: 0,
                topic,
                sent: "",
                user: "",
                data,
            };
            assert_eq!(state_after(&row), None, "{topic} {data}");
        }
    }

    proptest! {
        /// So the latest is the same in whichever chunks the events are folded.
        #[test]
        fn replacing_is_a_strict_order(
            states in prop::collection::vec((0_i64..4, 0_i64..4, any::<bool>(), any::<bool>()), 3)
        ) {
            let states: Vec<EntityState> = states
                .iter()
                .enumerate()
                .map(|(seq, (sent, received, known, finished))| {
                    let mut state = job(seq as u64, "", if *finished { "Finished" } else { "Running" });
                    state.sent_us = known.then_some(*sent);
                    state.event.received_us = *received;
                    state
                })
                .collect();
            for a in &states {
                prop_assert!(!a.replaces(a));
                for b in &states {
                    prop_assert!(a.event.seq == b.event.seq || a.replaces(b) != b.replaces(a));
                    for c in &states {
                        prop_assert!(!(a.replaces(b) && b.replaces(c)) || a.replaces(c));
                    }
                }
            }
        }
    }
}
