//! Somebody who was let in.

use lavabus_protocol::Kind;
use lavabus_protocol::event::{Body, Event};

use super::subject::Subject;

/// Whether a reader may see something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It may.
    Shown,
    /// It may not, or nobody can tell: that is the same.
    Hidden,
    /// Not known: [`Reader::ask`] tells.
    Ask,
}

/// Somebody who was let in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    who: Who,
}

#[derive(Clone, Debug)]
pub(super) enum Who {
    /// Anybody, where all is open.
    Everyone,
    /// A worker, where all is open.
    OpenWorker(String),
}

impl Reader {
    pub(super) fn new(who: Who) -> Reader {
        Reader { who }
    }

    /// Whether this reader may see what is about `subject`, by what is known already. Never waits. A worker sees nothing
    /// this way: see [`sight_of_event`](Reader::sight_of_event).
    pub fn sight(&self, _subject: &Subject) -> Sight {
        match &self.who {
            Who::Everyone => Sight::Shown,
            Who::OpenWorker(_) => Sight::Hidden,
        }
    }

    /// The same for an event. A worker receives the events of jobs that run on it, and no others.
    pub fn sight_of_event(&self, subject: &Subject, topic: &str, data: &str) -> Sight {
        match self.worker() {
            None => self.sight(subject),
            Some(worker) if !self.is_withdrawn() && is_of_job_on(worker, topic, data) => Sight::Shown,
            Some(_) => Sight::Hidden,
        }
    }

    /// Looks up what [`sight`](Reader::sight) does not know, and keeps it. Takes at most 5 s; never answers
    /// [`Sight::Ask`].
    pub async fn ask(&self, subject: &Subject) -> Sight {
        match self.sight(subject) {
            Sight::Ask => Sight::Hidden,
            known => known,
        }
    }

    /// Whether this reader sees what only administrators see: messages that were refused, the details of faults, and
    /// what is about nothing that can be asked for.
    pub fn is_administrator(&self) -> bool {
        match &self.who {
            Who::Everyone => true,
            Who::OpenWorker(_) => false,
        }
    }

    /// The name of the user or of the token. None: anonymous, or a worker.
    pub fn name(&self) -> Option<&str> {
        match &self.who {
            Who::Everyone | Who::OpenWorker(_) => None,
        }
    }

    /// The host name, if it is a worker.
    pub fn worker(&self) -> Option<&str> {
        match &self.who {
            Who::OpenWorker(host) => Some(host),
            Who::Everyone => None,
        }
    }

    /// Whether this reader may hand in events of this kind.
    pub fn may_emit(&self, _kind: Kind) -> bool {
        match &self.who {
            Who::Everyone | Who::OpenWorker(_) => false,
        }
    }

    /// Whether what this reader was let in with is no longer good: the connection must end.
    pub fn is_withdrawn(&self) -> bool {
        false
    }

    /// Waits until [`is_withdrawn`](Reader::is_withdrawn), for ever if need be. May be dropped at any time.
    pub async fn withdrawn(&self) {
        std::future::pending().await
    }
}

fn is_of_job_on(worker: &str, topic: &str, data: &str) -> bool {
    let kind = Kind::of(topic);
    if kind != Kind::Testjob {
        return false;
    }
    match Event::read(kind, data).body() {
        Body::Job(job) => job.worker.as_deref() == Some(worker),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_receives_events_of_its_own_jobs_only() {
        let worker = Reader::new(Who::OpenWorker("w".to_owned()));
        let sight = |topic: &str, data: &str| worker.sight_of_event(&Subject::of(topic, data), topic, data);
        assert_eq!(sight("x.testjob", r#"{"job": 1, "worker": "w"}"#), Sight::Shown);
        for (topic, data) in [
            ("x.testjob", r#"{"job": 1, "worker": "w2"}"#),
            ("x.testjob", r#"{"job": 1}"#),
            ("x.device", r#"{"device": "d", "worker": "w"}"#),
            ("x.worker", r#"{"hostname": "w"}"#),
            ("x.other", r#"{"worker": "w"}"#),
        ] {
            assert_eq!(sight(topic, data), Sight::Hidden, "{topic} {data}");
        }
        assert_eq!(worker.sight(&Subject::Worker("w".to_owned())), Sight::Hidden);
        assert_eq!((worker.worker(), worker.name()), (Some("w"), None));
    }
}
