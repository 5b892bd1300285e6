//! A publisher in the test's own process.

use std::path::PathBuf;
use std::sync::Arc;

use lava_publisher::{Counters, Endpoints, FatalError, Health, Publisher};
use lavabus_zmtp::Endpoint;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{LONG, Lab, eventually};

/// A publisher that runs until [`stop`](Self::stop), or until it is dropped.
#[derive(Debug)]
pub struct RunningPublisher {
    lab: Lab,
    endpoints: Endpoints,
    counters: Arc<Counters>,
    health: Arc<Health>,
    shutdown: DropGuard,
    running: JoinHandle<Result<(), FatalError>>,
}

impl RunningPublisher {
    pub(super) async fn start(mut lab: Lab) -> RunningPublisher {
        let publisher = Publisher::bind(lab.config.clone()).await.unwrap();
        let (endpoints, counters, health) = (publisher.endpoints(), publisher.counters(), publisher.health());
        // After a stop it starts where its peers look for it.
        lab.config.publish.clone_from(&endpoints.publish);
        lab.config.http.listen.clone_from(&endpoints.http);
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(publisher.run(shutdown.clone()));
        RunningPublisher {
            lab,
            endpoints,
            counters,
            health,
            shutdown: shutdown.drop_guard(),
            running,
        }
    }

    /// Where producers connect.
    pub fn intake(&self) -> &Endpoint {
        &self.endpoints.intake[0]
    }

    /// Where subscribers connect.
    pub fn publish(&self) -> &Endpoint {
        &self.endpoints.publish[0]
    }

    /// Where subscribers connect who get what everybody may see.
    pub fn publish_public(&self) -> &Endpoint {
        &self.endpoints.publish_public[0]
    }

    /// The second port.
    pub fn http(&self) -> std::net::SocketAddr {
        self.endpoints.http[0]
    }

    /// The second port as `--bus` names it.
    pub fn http_bus(&self) -> String {
        format!("http://{}", self.http())
    }

    /// A client of the second port, without a login.
    pub fn client(&self) -> super::HttpClient {
        super::HttpClient::new(self.http())
    }

    /// Waits until that many WebSocket clients were accepted since the start.
    pub async fn websockets(&self, count: u64) {
        eventually("WebSockets accepted", || self.counters.websockets.get() >= count).await;
    }

    /// What happened so far, counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether events can pass.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The lab that it runs in.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The journal's file.
    pub fn database(&self) -> PathBuf {
        self.lab.database()
    }

    /// Waits until that many subscribers were accepted since the start: what is published from then on reaches them.
    pub async fn subscribers(&self, count: u64) {
        eventually("subscribers accepted", || self.counters.subscribers.get() >= count).await;
    }

    /// Waits until that many events were handed to the fan-out since the start.
    pub async fn published(&self, count: u64) {
        eventually("events published", || self.counters.published.get() >= count).await;
    }

    /// Ends it in order. The lab that is returned can be started again, at the same endpoints.
    pub async fn stop(self) -> Lab {
        drop(self.shutdown);
        let ended = tokio::time::timeout(LONG, self.running).await;
        ended.expect("the publisher ends").unwrap().unwrap();
        self.lab
    }
}
