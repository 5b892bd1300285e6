//! How many stages the services told of, counted by one more reader of the stream.
//!
//! Whoever reaches the second port may read the figures, so a service is named to those who may not see all events only
//! by stages that everybody may see. The others are counted without its name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use lavabus_protocol::Kind;
use lavabus_protocol::event::{Body, Event};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::authority::{Reader, Sight, Subject};
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

/// Numbers by service and status, for those who may see all events and for the others.
#[derive(Debug, Default)]
pub(crate) struct StageCounts(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    all: Table,
    public: Table,
}

#[derive(Debug, Default)]
struct Table(BTreeMap<String, [u64; STATUSES.len()]>);

impl Table {
    /// One more; None: of a service that is not named.
    fn add(&mut self, service: Option<&str>, status: &str) {
        let status = STATUSES.iter().position(|known| known.eq_ignore_ascii_case(status));
        let status = status.unwrap_or(STATUSES.len() - 1);
        let named = service.filter(|name| {
            let is_name = !name.is_empty() && name.len() <= MAX_NAME;
            is_name && (self.0.contains_key(*name) || self.0.len() < MAX_SERVICES)
        });
        self.0.entry(named.unwrap_or(OTHER).to_owned()).or_default()[status] += 1;
    }
}

impl StageCounts {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().expect("no holder of this lock panics")
    }

    fn add(&self, service: Option<&str>, status: &str, is_public: bool) {
        let tables = &mut *self.lock();
        tables.all.add(service, status);
        tables.public.add(service.filter(|_| is_public), status);
    }

    /// Each service and status that came, with its number.
    pub(crate) fn each(&self, sees_all: bool, mut tell: impl FnMut(&str, &str, u64)) {
        let tables = self.lock();
        let table = if sees_all { &tables.all } else { &tables.public };
        for (service, numbers) in &table.0 {
            let numbers = STATUSES.iter().zip(numbers).filter(|(_, number)| **number > 0);
            numbers.for_each(|(status, number)| tell(service, status, *number));
        }
    }
}

/// Counts the stages of a stream.
#[derive(Debug)]
pub(crate) struct Counting {
    pub(crate) following: Following,
    /// Somebody without a login.
    pub(crate) reader: Reader,
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
        let subject = Subject::of_event(&event);
        let is_public = self.reader.ask(&subject).await == Sight::Shown;
        let status = stage.status.as_deref().unwrap_or_default();
        self.counters.stages.add(stage.service.as_deref(), status, is_public);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told, and how many of them there are.
    fn told(counts: &StageCounts, sees_all: bool) -> BTreeMap<(String, String), u64> {
        let mut told = BTreeMap::new();
        counts.each(sees_all, |service, status, number| {
            told.insert((service.to_owned(), status.to_owned()), number);
        });
        told
    }

    #[test]
    fn services_are_capped_and_statuses_are_few() {
        let counts = StageCounts::default();
        for number in 0..1000 {
            counts.add(Some(&format!("service-{number}")), "received", true);
        }
        counts.add(Some("service-1"), "SUCCESS", true);
        counts.add(Some("service-1"), "anything", true);
        counts.add(Some(&"x".repeat(1000)), "error", true);
        counts.add(None, "error", true);
        let told = told(&counts, false);
        let of = |service: &str, status: &str| told.get(&(service.to_owned(), status.to_owned())).copied();
        assert_eq!(told.values().sum::<u64>(), 1004);
        assert_eq!(of("other", "received"), Some(950));
        assert_eq!(of("other", "error"), Some(2));
        assert_eq!(of("service-1", "received"), Some(1));
        assert_eq!(of("service-1", "success"), Some(1));
        assert_eq!(of("service-1", "other"), Some(1));
        let services: std::collections::BTreeSet<_> = told.keys().map(|(service, _)| service).collect();
        assert_eq!(services.len(), MAX_SERVICES + 1);
    }

    #[test]
    fn what_not_everybody_may_see_is_counted_without_its_service() {
        let counts = StageCounts::default();
        counts.add(Some("hidden"), "received", false);
        counts.add(Some("shown"), "received", true);
        let services = |sees_all| told(&counts, sees_all).into_keys().map(|(service, _)| service);
        assert!(services(true).eq(["hidden", "shown"]));
        assert!(services(false).eq(["other", "shown"]));
    }
}
