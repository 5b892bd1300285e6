//! How many stages the services told of, counted by one more reader of the stream.
//!
//! Whoever reaches the second port may read the figures, so a service's name is told only where it says nothing of a
//! private job: by stages that name no job, or one that everybody may see. The others are counted together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use lavabus_protocol::Kind;
use lavabus_protocol::event::{Body, Event};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::authority::{Authority, Credentials, Sight, Subject};
use crate::counters::Counters;
use crate::http::following::{Following, Next};
use crate::replay::ReplayError;

/// So many services are told apart; what others say is counted together.
const MAX_SERVICES: usize = 50;
/// A longer name is no service's, in bytes.
const MAX_NAME: usize = 64;
/// Everything that is not told apart.
const OTHER: &str = "other";
/// The statuses that mean something; any other only informs.
const STATUSES: [&str; 4] = ["received", "success", "error", OTHER];

/// Numbers by service and status.
#[derive(Debug, Default)]
pub(crate) struct StageCounts(Mutex<BTreeMap<String, [u64; STATUSES.len()]>>);

impl StageCounts {
    /// One more; None: a service that is not named.
    fn add(&self, service: Option<&str>, status: &str) {
        let status = STATUSES.iter().position(|known| known.eq_ignore_ascii_case(status));
        let status = status.unwrap_or(STATUSES.len() - 1);
        let mut counts = self.0.lock().expect("no holder of this lock panics");
        let named = service.filter(|name| {
            let is_name = !name.is_empty() && name.len() <= MAX_NAME;
            is_name && (counts.contains_key(*name) || counts.len() < MAX_SERVICES)
        });
        counts.entry(named.unwrap_or(OTHER).to_owned()).or_default()[status] += 1;
    }

    /// Each service and status that came, with its number.
    pub(crate) fn each(&self, mut tell: impl FnMut(&str, &str, u64)) {
        let counts = self.0.lock().expect("no holder of this lock panics");
        for (service, numbers) in &*counts {
            let numbers = STATUSES.iter().zip(numbers).filter(|(_, number)| **number > 0);
            numbers.for_each(|(status, number)| tell(service, status, *number));
        }
    }
}

/// Counts the stages of a stream.
#[derive(Debug)]
pub(crate) struct Counting {
    pub(crate) following: Following,
    pub(crate) authority: Authority,
    pub(crate) counters: Arc<Counters>,
}

impl Counting {
    /// Works until `drain` is cancelled.
    pub(crate) async fn run(mut self, drain: CancellationToken) {
        let counting = async {
            loop {
                if let Err(failed) = self.count_next().await {
                    warn!(error = %failed, "stages are missing in the metrics");
                    self.following.covers(self.following.head());
                }
            }
        };
        tokio::select! {
            () = counting => {}
            () = drain.cancelled() => {}
        }
    }

    async fn count_next(&mut self) -> Result<(), ReplayError> {
        match self.following.next().await? {
            Next::Batch(batch, from) => {
                for message in from..batch.messages.len() {
                    if batch.topic(message).ends_with(b"stage") {
                        let [topic, .., data] = batch.event(message);
                        self.count(topic, data).await;
                    }
                }
                self.following.passed(&batch, batch.messages.len());
            }
            Next::Events(events, upto) => {
                for event in events {
                    self.count(&event.topic, &event.data).await;
                }
                self.following.covers(upto);
            }
            Next::Gap(..) => {}
        }
        Ok(())
    }

    async fn count(&self, topic: &str, data: &str) {
        let kind = Kind::of(topic);
        if kind != Kind::Stage {
            return;
        }
        let event = Event::read(kind, data);
        let Body::Stage(stage) = event.body() else { return };
        let is_public = match Subject::of_event(&event) {
            Subject::Unbound => true,
            subject => self.is_public(&subject).await,
        };
        let service = stage.service.as_deref().filter(|_| is_public);
        self.counters
            .stages
            .add(service, stage.status.as_deref().unwrap_or_default());
    }

    async fn is_public(&self, subject: &Subject) -> bool {
        let Ok(reader) = self.authority.authenticate(&Credentials::Anonymous).await else {
            return false;
        };
        let sight = match reader.sight(subject) {
            Sight::Ask => reader.ask(subject).await,
            known => known,
        };
        sight == Sight::Shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_capped_and_statuses_are_few() {
        let counts = StageCounts::default();
        for number in 0..1000 {
            counts.add(Some(&format!("service-{number}")), "received");
        }
        counts.add(Some("service-1"), "SUCCESS");
        counts.add(Some("service-1"), "anything");
        counts.add(Some(&"x".repeat(1000)), "error");
        counts.add(None, "error");
        let mut told = Vec::new();
        counts.each(|service, status, number| told.push((service.to_owned(), status.to_owned(), number)));
        let of = |service: &str, status: &str| {
            let found = told.iter().find(|(s, t, _)| s == service && t == status);
            found.map_or(0, |(.., number)| *number)
        };
        assert_eq!(told.iter().map(|(.., number)| number).sum::<u64>(), 1004);
        assert_eq!(of("other", "received"), 950);
        assert_eq!(of("other", "error"), 2);
        assert_eq!(of("service-1", "received"), 1);
        assert_eq!(of("service-1", "success"), 1);
        assert_eq!(of("service-1", "other"), 1);
        let services: std::collections::BTreeSet<_> = told.iter().map(|(service, ..)| service).collect();
        assert_eq!(services.len(), MAX_SERVICES + 1);
    }
}
