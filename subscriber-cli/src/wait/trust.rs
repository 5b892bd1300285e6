//! Whether the bus that was guessed from a server's address is that server's: two labs may share a host.

use std::collections::HashMap;

use jiff::Timestamp;
use lavabus_protocol::event::{Body, read_datetime};
use lavabus_protocol::{Kind, Record};

/// Events of one object that wait for a proof; of more the newest count.
const HELD: usize = 32;

/// What is known of a bus.
#[derive(Debug)]
pub(crate) struct Trust {
    is_proven: bool,
    /// Events that wait for a proof, by their object.
    held: HashMap<usize, Vec<Record>>,
}

/// What an answer of the server proves.
#[derive(Debug)]
pub(crate) enum Proof {
    /// Nothing.
    None,
    /// It is the server's bus: these events count.
    Same(Vec<Record>),
    /// It is another's; in which it differs.
    Other(String),
}

impl Trust {
    /// `is_guessed`: nobody has named the bus.
    pub(crate) fn new(is_guessed: bool) -> Trust {
        Trust {
            is_proven: !is_guessed,
            held: HashMap::new(),
        }
    }

    pub(crate) fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// Keeps an event of this object until there is a proof.
    pub(crate) fn hold(&mut self, object: usize, record: Record) {
        let held = self.held.entry(object).or_default();
        if held.len() == HELD {
            held.remove(0);
        }
        held.push(record);
    }

    /// The server has told of this object.
    pub(crate) fn compare(&mut self, object: usize, told: &Record) -> Proof {
        let Some(record) = self.held.get(&object).and_then(|held| held.last()) else {
            return Proof::None;
        };
        match difference(record, told) {
            Some(difference) => {
                self.held.clear();
                Proof::Other(difference)
            }
            None => {
                self.is_proven = true;
                Proof::Same(self.held.drain().flat_map(|(_, held)| held).collect())
            }
        }
    }
}

/// A job's number is used again by another lab, the time of its submission is not. Of devices and workers the names
/// must do, and a device's type.
fn difference(heard: &Record, told: &Record) -> Option<String> {
    let (heard, told) = (heard.event(), told.event());
    if heard.kind() == Kind::Testjob {
        let (there, here) = (submitted(heard.body()), submitted(told.body()));
        if let (Some(there), Some(here)) = (there, here) {
            return (there != here).then(|| format!("job submitted at {there} there, at {here} here"));
        }
        let (there, here) = (heard.submitter(), told.submitter());
        return (there.is_some() && there != here).then(|| "job of another submitter".to_owned());
    }
    let (there, here) = (heard.device_type(), told.device_type());
    (there.is_some() && here.is_some() && there != here).then(|| "device of another type".to_owned())
}

fn submitted(body: &Body) -> Option<Timestamp> {
    match body {
        Body::Job(job) => job.submit_time.as_deref().and_then(read_datetime),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use lavabus_client::new_event;

    fn job(submitted: &str) -> Record {
        let data = format!(r#"{{"job": 12, "state": "Finished", "submit_time": "{submitted}", "submitter": "ann"}}"#);
        new_event("org.example.testjob", "ann", &data).unwrap()
    }

    #[test]
    fn a_job_submitted_at_the_same_time_is_the_same() {
        let mut trust = Trust::new(true);
        assert!(!trust.is_proven());
        assert!(matches!(trust.compare(0, &job("2026-11-21T05:01:05Z")), Proof::None));
        trust.hold(0, job("2026-11-21T05:01:05.000000+00:00"));
        assert!(matches!(trust.compare(1, &job("2026-11-21T05:01:05Z")), Proof::None));
        let Proof::Same(held) = trust.compare(0, &job("2026-11-21T05:01:05Z")) else {
            panic!()
        };
        assert_eq!(held.len(), 1);
        assert!(trust.is_proven());
    }

    #[test]
    fn a_job_submitted_at_another_time_is_another_labs() {
        let mut trust = Trust::new(true);
        trust.hold(0, job("2026-11-21T05:01:05Z"));
        assert!(matches!(
            trust.compare(0, &job("2026-11-21T05:01:06Z")),
            Proof::Other(_)
        ));
        assert!(!trust.is_proven());
        assert!(Trust::new(false).is_proven());
    }
}
