//! LAVA itself is asked: what an object's state is, and what there is to say when it does not answer.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use lavabus_client::new_event;
use lavabus_lava::{Server, ServerError};
use lavabus_protocol::{Kind, Record};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::tracker::Object;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::listen::certificate_failure;

/// So many questions are on their way at a time.
const AT_ONCE: usize = 8;
/// Where events come by themselves but a missed one cannot be had again, LAVA is asked this often.
const BESIDE_EVENTS: Duration = Duration::from_secs(30);
/// And where they can be had again: LAVA may send none (`EVENT_NOTIFICATION`), or lose one before it reaches a publisher.
const BESIDE_KNOWN: Duration = Duration::from_secs(60);
/// After a connection was made.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// Where nothing comes by itself: after this time, then after longer.
const FIRST_POLL: Duration = Duration::from_secs(1);
const LAST_POLL: Duration = Duration::from_secs(15);

/// What LAVA says of an object, put as an event is.
#[derive(Debug)]
pub(crate) struct Said(pub(crate) Record);

/// Asks LAVA of several objects, and knows when to ask again.
#[derive(Debug)]
pub(crate) struct Inquiry {
    server: Server,
    asking: JoinSet<(usize, Result<Said, ServerError>)>,
    on_their_way: HashSet<usize>,
    /// Not asked yet.
    queue: VecDeque<(usize, Object)>,
    /// The object that was asked of last.
    last: usize,
    /// When the last round began.
    began: Option<Instant>,
    due: Option<Instant>,
    poll: Duration,
    is_second_due: bool,
}

impl Inquiry {
    pub(crate) fn new(server: Server) -> Inquiry {
        Inquiry {
            server,
            asking: JoinSet::new(),
            on_their_way: HashSet::new(),
            queue: VecDeque::new(),
            last: usize::MAX,
            began: None,
            due: Some(Instant::now()),
            poll: FIRST_POLL,
            is_second_due: false,
        }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// When [`ask`](Self::ask) is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Ask at this time, or earlier if that was meant anyway.
    pub(crate) fn ask_at(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Something may have been missed: it is asked now, and once more a moment later, since a subscription to a plain
    /// publisher may not have been in force at once.
    pub(crate) fn look_twice(&mut self, now: Instant) {
        self.poll = FIRST_POLL;
        self.is_second_due = true;
        // A connection that comes and goes is no reason to ask more often.
        self.ask_at(self.began.map_or(now, |began| now.max(began + SECOND_LOOK)));
    }

    /// Something changed: who polls asks more often again.
    pub(crate) fn is_lively(&mut self) {
        self.poll = FIRST_POLL;
    }

    /// Begins to ask of these objects, but for those of which it is asked anyway; going on behind the last one, so that
    /// each has its turn.
    pub(crate) fn ask(&mut self, objects: impl Iterator<Item = (usize, Object)>) {
        (self.due, self.began) = (None, Some(Instant::now()));
        let is_asked =
            |index: &usize| self.on_their_way.contains(index) || self.queue.iter().any(|(queued, _)| queued == index);
        let mut objects: Vec<(usize, Object)> = objects.filter(|(index, _)| !is_asked(index)).collect();
        let behind = objects
            .iter()
            .position(|(index, _)| self.last != usize::MAX && *index > self.last);
        objects.rotate_left(behind.unwrap_or(0));
        self.queue.extend(objects);
        self.fill();
    }

    fn fill(&mut self) {
        while self.on_their_way.len() < AT_ONCE
            && let Some((index, object)) = self.queue.pop_front()
        {
            let server = self.server.clone();
            self.last = index;
            self.on_their_way.insert(index);
            self.asking.spawn(async move { (index, ask(&server, &object).await) });
        }
    }

    /// The next answer; never if nothing was asked. Cancel-safe.
    pub(crate) async fn next(&mut self) -> (usize, Result<Said, ServerError>) {
        loop {
            match self.asking.join_next().await {
                Some(Ok((index, answer))) => {
                    self.on_their_way.remove(&index);
                    self.fill();
                    return (index, answer);
                }
                Some(Err(panicked)) if panicked.is_panic() => std::panic::resume_unwind(panicked.into_panic()),
                // Nobody cancels them.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// The round is over: when is the next? `is_pushed`: events come by themselves. `is_known`: and what was missed is
    /// told.
    pub(crate) fn schedule(&mut self, is_pushed: bool, is_known: bool) {
        if !self.asking.is_empty() || !self.queue.is_empty() {
            return;
        }
        let wait = match is_pushed {
            _ if std::mem::take(&mut self.is_second_due) => SECOND_LOOK,
            true if is_known => BESIDE_KNOWN,
            true => BESIDE_EVENTS,
            false => {
                let longer = (self.poll * 3 / 2).min(LAST_POLL);
                std::mem::replace(&mut self.poll, longer)
            }
        };
        self.ask_at(Instant::now() + wait);
    }
}

async fn ask(server: &Server, object: &Object) -> Result<Said, ServerError> {
    match object.kind {
        Kind::Device => {
            let answer = server.device(&object.id).await?;
            let device = &answer.value;
            let data = json!({
                "device": device.name, "device_type": device.device_type, "worker": device.worker,
                "state": device.state, "health": device.health,
            });
            Ok(said(object, data, "lavaserver"))
        }
        Kind::Worker => {
            let answer = server.worker(&object.id).await?;
            let worker = &answer.value;
            let data = json!({"hostname": worker.name, "state": worker.state, "health": worker.health});
            Ok(said(object, data, "lavaserver"))
        }
        _ => {
            let answer = server.job(&object.id).await?;
            let job = &answer.value;
            let mut data = json!({
                "job": job.id, "state": job.state, "health": job.health, "submitter": job.submitter,
                "description": job.description,
            });
            let optional = [
                ("device", &job.device),
                ("device_type", &job.device_type),
                ("submit_time", &job.submit_time),
                ("start_time", &job.start_time),
                ("end_time", &job.end_time),
            ];
            for (key, value) in optional {
                if let Some(value) = value {
                    data[key] = Value::from(value.as_str());
                }
            }
            let submitter = job.submitter.clone();
            Ok(said(object, data, &submitter))
        }
    }
}

fn said(object: &Object, data: Value, user: &str) -> Said {
    let topic = format!("lava.{}", object.kind.as_str());
    Said(new_event(&topic, user, &data.to_string()).expect("a topic and an object, as a publisher wants them"))
}

/// What to say when LAVA's answer ends a command.
pub(crate) fn failure(server: &Server, error: &ServerError) -> Failure {
    let host = server.uri();
    match error {
        ServerError::Refused { message, .. } => {
            let hint = match message.to_ascii_lowercase().contains("permission") {
                true => "a user who may do that: `lavabus doctor` says who we are",
                false => "a valid token: `lavabus doctor` says which identity is used",
            };
            Failure::new(
                Exit::CredentialsRefused,
                format!("{host} refused the credentials"),
                message,
                hint,
            )
        }
        ServerError::NotFound { what } => Failure::new(
            Exit::NoSuchObject,
            format!("{host} has no {what}"),
            "it does not exist, or it is private",
            "its id again, or an identity that may see it: -i NAME",
        ),
        ServerError::Unavailable { cause } => Failure::new(
            Exit::NoConnection,
            format!("{host} does not answer"),
            cause,
            "again later, or `lavabus doctor`",
        ),
        ServerError::Certificate { cause } => certificate_failure(host, cause),
        error @ ServerError::Unexpected { .. } => Failure::new(
            Exit::NoConnection,
            format!("{host} does not answer as LAVA does"),
            error,
            "the address of a LAVA server; `lavabus doctor` looks at it",
        ),
    }
}
