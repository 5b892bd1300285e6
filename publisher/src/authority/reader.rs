//! Somebody who was let in.

use std::sync::Arc;

use lavabus_protocol::Kind as EventKind;
use lavabus_protocol::event::{Body, Event};
use tokio_util::sync::CancellationToken;

use super::lava::{Login, Patience};
use super::subject::Subject;
use super::tokens::{Entry, Role};
use super::turns::{Crowded, Lane};
use super::workers::WorkerLogin;
use super::{Inner, Kind};

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
    authority: Arc<Inner>,
    who: Who,
    patience: Arc<Patience>,
    lane: Lane,
}

#[derive(Clone, Debug)]
pub(super) enum Who {
    Anonymous,
    /// A worker, where nobody is asked.
    OpenWorker(String),
    /// A worker of LAVA's database.
    Worker(Arc<WorkerLogin>),
    /// Of the file of tokens.
    Listed(Arc<Entry>),
    /// Of LAVA.
    User(Arc<Login>),
}

impl Reader {
    pub(super) fn new(authority: Arc<Inner>, who: Who) -> Reader {
        Reader {
            authority,
            who,
            patience: Arc::default(),
            lane: Lane::Live,
        }
    }

    /// The same, who asks for this. Whoever was let in reads what is live.
    pub(crate) fn asking(&self, lane: Lane) -> Reader {
        Reader { lane, ..self.clone() }
    }

    /// Whether this reader may see what is about `subject`, by what is known already. Never waits. A worker sees nothing
    /// this way: see [`sight_of_event`](Reader::sight_of_event).
    pub fn sight(&self, subject: &Subject) -> Sight {
        if self.worker().is_some() || self.is_withdrawn() {
            return Sight::Hidden;
        }
        match (&self.authority.kind, &self.who) {
            (Kind::Open, _) | (Kind::Tokens, Who::Listed(_)) => Sight::Shown,
            (_, Who::Listed(entry)) if entry.role == Role::Administrator => Sight::Shown,
            (Kind::Lava(lava), Who::User(login)) => lava.sight(subject, Some(login), self.lane),
            // Whoever else is in the file is nobody to LAVA.
            (Kind::Lava(lava), _) => lava.sight(subject, None, self.lane),
            (Kind::Tokens, _) => Sight::Hidden,
        }
    }

    /// The same for an event. A worker receives the events of jobs that run on it, and no others.
    pub fn sight_of_event(&self, subject: &Subject, topic: &str, data: &str) -> Sight {
        match self.worker() {
            None => self.sight(subject),
            Some(worker) if self.is_good_worker() && is_of_job_on(worker, topic, data) => Sight::Shown,
            Some(_) => Sight::Hidden,
        }
    }

    /// Whether an event may be shown by what is known, also if that is to be asked again: it was seen within a minute.
    pub(crate) fn shows_still(&self, subject: &Subject, topic: &str, data: &str) -> bool {
        match (self.sight_of_event(subject, topic, data), &self.authority.kind) {
            (Sight::Ask, Kind::Lava(lava)) => {
                let login = self.login().map(Arc::as_ref);
                lava.without_asking(subject, login, self.lane) == Sight::Shown
            }
            (known, _) => known == Sight::Shown,
        }
    }

    /// Whether it is in the file of tokens, to see what the authority says.
    pub(super) fn is_listed_reader(&self) -> bool {
        matches!(&self.who, Who::Listed(entry) if entry.role == Role::Reader)
    }

    fn is_good_worker(&self) -> bool {
        match &self.who {
            Who::Worker(login) => login.is_good(),
            _ => !self.is_withdrawn(),
        }
    }

    /// What [`sight`](Reader::sight) tells, or else a look-up, which is kept. Waits for its turns as long as it takes,
    /// and 5 s for each answer; never answers [`Sight::Ask`]. May be dropped at any time; what was asked is kept all
    /// the same.
    pub async fn ask(&self, subject: &Subject) -> Sight {
        // What is live is not refused.
        self.try_ask(subject).await.unwrap_or(Sight::Hidden)
    }

    /// The same, for who may be told to come again: a request that gets no turn within 5 s, or finds many that wait for
    /// one.
    pub(crate) async fn try_ask(&self, subject: &Subject) -> Result<Sight, Crowded> {
        match (self.sight(subject), &self.authority.kind) {
            (Sight::Ask, Kind::Lava(lava)) => lava.ask(subject, self.login(), &self.patience, self.lane).await,
            (known, _) => Ok(known),
        }
    }

    fn login(&self) -> Option<&Arc<Login>> {
        match &self.who {
            Who::User(login) => Some(login),
            _ => None,
        }
    }

    /// Whether there is nothing that somebody without a login may see.
    pub fn must_log_in(&self) -> bool {
        matches!((&self.authority.kind, &self.who), (Kind::Tokens, Who::Anonymous))
    }

    /// Whether this reader sees what only administrators see: messages that were refused, the details of faults, and
    /// what is about nothing that can be asked for.
    pub fn is_administrator(&self) -> bool {
        if self.worker().is_some() || self.is_withdrawn() {
            return false;
        }
        match (&self.authority.kind, &self.who) {
            (Kind::Open, _) => true,
            (_, Who::Listed(entry)) => entry.role == Role::Administrator,
            (_, Who::User(login)) => login.is_administrator_now(),
            _ => false,
        }
    }

    /// The name of the user or of the token. None: anonymous, or a worker.
    pub fn name(&self) -> Option<&str> {
        match &self.who {
            Who::Listed(entry) if entry.role != Role::Worker => Some(&entry.name),
            Who::User(login) => Some(&login.user),
            _ => None,
        }
    }

    /// The host name, if it is a worker.
    pub fn worker(&self) -> Option<&str> {
        match &self.who {
            Who::OpenWorker(host) => Some(host),
            Who::Worker(login) => Some(&login.host),
            Who::Listed(entry) if entry.role == Role::Worker => Some(&entry.name),
            _ => None,
        }
    }

    /// Whether this reader may hand in events of this kind: what the file of tokens says; of LAVA's users, administrators
    /// may, but no device, testjob and worker events.
    pub fn may_emit(&self, kind: EventKind) -> bool {
        if self.is_withdrawn() {
            return false;
        }
        let is_lavas_own = matches!(kind, EventKind::Device | EventKind::Testjob | EventKind::Worker);
        match &self.who {
            Who::Listed(entry) => entry.may_emit(kind),
            Who::User(login) => login.is_administrator_now() && !is_lavas_own,
            Who::Anonymous | Who::OpenWorker(_) | Who::Worker(_) => false,
        }
    }

    /// Whether what this reader was let in with is no longer good: the connection must end. Nothing is shown from then
    /// on. Known within 40 s, while LAVA answers.
    pub fn is_withdrawn(&self) -> bool {
        self.withdrawal().is_some_and(CancellationToken::is_cancelled)
    }

    /// Waits until [`is_withdrawn`](Reader::is_withdrawn), for ever if need be. May be dropped at any time.
    pub async fn withdrawn(&self) {
        match self.withdrawal() {
            Some(withdrawal) => withdrawal.cancelled().await,
            None => std::future::pending().await,
        }
    }

    fn withdrawal(&self) -> Option<&CancellationToken> {
        match &self.who {
            Who::Listed(entry) => Some(&entry.withdrawn),
            Who::User(login) => Some(&login.withdrawn),
            Who::Worker(login) => Some(&login.withdrawn),
            Who::Anonymous | Who::OpenWorker(_) => None,
        }
    }
}

fn is_of_job_on(worker: &str, topic: &str, data: &str) -> bool {
    let kind = EventKind::of(topic);
    if kind != EventKind::Testjob {
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
        let inner = Inner {
            kind: Kind::Open,
            tokens: None,
            workers: None,
        };
        let worker = Reader::new(Arc::new(inner), Who::OpenWorker("w".to_owned()));
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
        assert!(!worker.is_administrator());
    }
}
