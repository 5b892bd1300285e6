//! The latest event of each device, worker and job, and what follows from those before.

use lavabus_protocol::event::Body;
use lavabus_protocol::{EventId, Kind};
use rusqlite::Row as SqlRow;
use rusqlite::types::Value;

use super::rows::{Owner, Projection, Table};
use super::told::{AHEAD_US, NAME, name};
use super::{Told, integer, text};
use crate::reader::Event;

/// A device, a job or a worker, as the events tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// [`Kind::Device`], [`Kind::Testjob`] or [`Kind::Worker`].
    pub kind: Kind,
    /// The device's name, the job's number in LAVA's database or the worker's host name.
    pub id: String,
    /// In which lab; empty where there is only one.
    pub lab: String,
    /// The number of the event that named it first.
    pub first_seq: u64,
    /// The number of the last event that named it.
    pub touched: u64,
    /// The latest event that told its state; of a device that only attempts and faults have named, the last of these.
    pub latest: Event,
    /// A multinode job's other id, such as `4000.1`.
    pub sub_id: Option<String>,
    /// When the latest event was sent, in µs since 1970.
    pub sent_us: Option<i64>,
    /// Whether it is a job's last state.
    pub finished: bool,
    /// When its state or its health last changed, in µs since 1970.
    pub since_us: i64,
    /// When a job was submitted, in µs since 1970.
    pub submitted_us: Option<i64>,
    /// When a job began to run, in µs since 1970.
    pub started_us: Option<i64>,
    /// When a job ended, in µs since 1970.
    pub ended_us: Option<i64>,
    /// When anything was last heard of it, by the clock of whoever received it, in µs since 1970.
    pub heard_us: i64,
}

impl Entity {
    /// What one event tells of an object, alone.
    fn of(told: &Told<'_>) -> Option<Entity> {
        let (kind, id) = subject(told)?;
        let (sub_id, times) = match told.event.body() {
            Body::Job(job) => (
                job.sub_id.as_ref().map(ToString::to_string),
                [&job.submit_time, &job.start_time, &job.end_time].map(|time| told.time_us(time.as_deref())),
            ),
            _ => (None, [None; 3]),
        };
        let [submitted_us, started_us, ended_us] = times;
        let finished = told.event.is_finished();
        Some(Entity {
            kind,
            id,
            lab: told.row.lab.to_owned(),
            first_seq: told.row.seq,
            touched: told.row.seq,
            latest: told.row.to_event(),
            sub_id,
            sent_us: told.sent_us,
            finished,
            since_us: told.at_us(),
            submitted_us,
            started_us,
            ended_us: ended_us.or(finished.then_some(told.at_us())),
            heard_us: told.row.received_us,
        })
    }

    /// Whether an event has told its state; otherwise it was only named.
    pub fn is_told(&self) -> bool {
        Kind::of(&self.latest.topic) == self.kind
    }

    /// What the latest event told of its state; nothing if it was only named.
    pub fn told(&self) -> lavabus_protocol::Event {
        let data = if self.is_told() {
            self.latest.data.as_str()
        } else {
            "{}"
        };
        lavabus_protocol::Event::read(self.kind, data)
    }

    /// State and health as the latest event told them.
    pub fn state_and_health(&self) -> (Option<String>, Option<String>) {
        let event = lavabus_protocol::Event::read(Kind::of(&self.latest.topic), &self.latest.data);
        (event.state().map(str::to_owned), event.health().map(str::to_owned))
    }

    /// Whether this event, read after `latest`, is the later one.
    ///
    /// By the sender's time, since around a restart of LAVA two events can arrive in the wrong order; by the time
    /// of receipt where the sender's cannot be read; of two at the same time the one that arrived later. Finished
    /// is final: no other state replaces it, whatever its time. What only names it replaces no state.
    pub fn replaces(&self, latest: &Entity) -> bool {
        self.order() > latest.order()
    }

    fn order(&self) -> (bool, bool, i64, u64) {
        let received_us = self.latest.received_us;
        let time = self
            .sent_us
            .map_or(received_us, |sent_us| sent_us.min(received_us.saturating_add(AHEAD_US)));
        (self.is_told(), self.finished, time, self.latest.seq)
    }

    /// What is known after `new`, the next event that names it.
    fn after(mut self, new: Entity) -> Entity {
        let (touched, heard_us) = (new.touched, self.heard_us.max(new.heard_us));
        if new.replaces(&self) {
            let same = |a: &Option<String>, b: &Option<String>| match (a, b) {
                (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
                (a, b) => a == b,
            };
            let (before, now) = (self.state_and_health(), new.state_and_health());
            let is_unchanged = self.is_told() && same(&before.0, &now.0) && same(&before.1, &now.1);
            self = Entity {
                first_seq: self.first_seq,
                since_us: if is_unchanged { self.since_us } else { new.since_us },
                sub_id: new.sub_id.clone().or(self.sub_id),
                submitted_us: new.submitted_us.or(self.submitted_us),
                started_us: new.started_us.or(self.started_us),
                ended_us: new.ended_us.or(self.ended_us),
                ..new
            };
        }
        (self.touched, self.heard_us) = (touched, heard_us);
        self
    }
}

/// Whom an event names as its subject. Attempts and faults make a device known that no device event has told of.
fn subject(told: &Told<'_>) -> Option<(Kind, String)> {
    let device = |device: Option<&str>| Some((Kind::Device, name(device)?));
    match told.event.body() {
        Body::Attempt(attempt) => device(attempt.device.as_deref()),
        Body::Fault(fault) => device(fault.on_device()),
        _ => told.event.entity().filter(|(_, id)| id.len() <= NAME),
    }
}

/// Whose row that is.
pub(crate) fn owner(kind: Kind, id: &str, lab: &str) -> Owner {
    vec![kind.as_str().to_owned(), id.to_owned(), lab.to_owned()]
}

impl Projection for Entity {
    const TABLE: Table = Table {
        name: "entity",
        owner: &["kind", "id", "lab"],
        rest: &[
            "seq",
            "uuid",
            "received",
            "topic",
            "sent",
            "user",
            "data",
            "sub_id",
            "sent_us",
            "finished",
            "since_us",
            "submitted_us",
            "started_us",
            "ended_us",
            "heard_us",
        ],
        outlives: true,
    };

    fn owners(told: &Told<'_>) -> Vec<Owner> {
        let subject = subject(told);
        subject
            .map(|(kind, id)| owner(kind, &id, told.row.lab))
            .into_iter()
            .collect()
    }

    fn apply(rows: &mut Vec<Entity>, _owner: &Owner, told: &Told<'_>) {
        let Some(new) = Entity::of(told) else { return };
        let known = rows.pop();
        rows.push(match known {
            Some(known) => known.after(new),
            None => new,
        });
    }

    fn first_seq(&self) -> u64 {
        self.first_seq
    }

    fn touched(&self) -> u64 {
        self.touched
    }

    fn read(row: &SqlRow<'_>) -> Result<Entity, rusqlite::Error> {
        let kind: String = row.get(0)?;
        let lab: String = row.get(2)?;
        Ok(Entity {
            kind: kind.parse().unwrap_or(Kind::Other),
            id: row.get(1)?,
            first_seq: row.get::<_, i64>(3)?.cast_unsigned(),
            touched: row.get::<_, i64>(4)?.cast_unsigned(),
            latest: Event {
                seq: row.get::<_, i64>(5)?.cast_unsigned(),
                id: EventId::from_key(row.get(6)?),
                received_us: row.get(7)?,
                topic: row.get(8)?,
                sent: row.get(9)?,
                user: row.get(10)?,
                data: row.get(11)?,
                lab: lab.clone(),
            },
            lab,
            sub_id: row.get(12)?,
            sent_us: row.get(13)?,
            finished: row.get(14)?,
            since_us: row.get(15)?,
            submitted_us: row.get(16)?,
            started_us: row.get(17)?,
            ended_us: row.get(18)?,
            heard_us: row.get(19)?,
        })
    }

    fn rest(&self) -> Vec<Value> {
        let latest = &self.latest;
        vec![
            integer(Some(latest.seq.cast_signed())),
            Value::Blob(latest.id.key().to_vec()),
            integer(Some(latest.received_us)),
            text(Some(&latest.topic)),
            text(Some(&latest.sent)),
            text(Some(&latest.user)),
            text(Some(&latest.data)),
            text(self.sub_id.as_deref()),
            integer(self.sent_us),
            integer(Some(i64::from(self.finished))),
            integer(Some(self.since_us)),
            integer(self.submitted_us),
            integer(self.started_us),
            integer(self.ended_us),
            integer(Some(self.heard_us)),
        ]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use lavabus_protocol::EventId;
    use proptest::prelude::*;

    use super::*;
    use crate::reader::EventRow;

    const RECEIVED: i64 = 1_795_237_265_222_338;

    fn job(seq: u64, sent: &str, state: &str) -> Entity {
        let data = format!(r#"{{"job": 7, "sub_id": "6.1", "state": "{state}"}}"#);
        let row = EventRow {
            seq,
            id: EventId([0; 16]),
            received_us: RECEIVED + seq.cast_signed(),
            topic: "org.example.lab.testjob",
            sent,
            user: "ann",
            data: &data,
            lab: "",
        };
        let entity = Entity::of(&Told::read(row)).unwrap();
        assert_eq!(
            (entity.kind, entity.id.as_str(), entity.sub_id.as_deref()),
            (Kind::Testjob, "7", Some("6.1"))
        );
        entity
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
        next.latest.received_us += 2 * AHEAD_US;
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
                lab: "",
            };
            assert_eq!(Entity::of(&Told::read(row)), None, "{topic} {data}");
        }
    }

    proptest! {
        /// So the latest is the same in whichever chunks the events are folded.
        #[test]
        fn replacing_is_a_strict_order(
            states in prop::collection::vec((0_i64..4, 0_i64..4, any::<bool>(), any::<bool>()), 3)
        ) {
            let states: Vec<Entity> = states
                .iter()
                .enumerate()
                .map(|(seq, (sent, received, known, finished))| {
                    let mut state = job(seq as u64, "", if *finished { "Finished" } else { "Running" });
                    state.sent_us = known.then_some(*sent);
                    state.latest.received_us = *received;
                    state
                })
                .collect();
            for a in &states {
                prop_assert!(!a.replaces(a));
                for b in &states {
                    prop_assert!(a.latest.seq == b.latest.seq || a.replaces(b) != b.replaces(a));
                    for c in &states {
                        prop_assert!(!(a.replaces(b) && b.replaces(c)) || a.replaces(c));
                    }
                }
            }
        }
    }
}
