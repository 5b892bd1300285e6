//! An authority that asks LAVA, and the time that passes for it.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use lava_publisher::authority::{Authority, Credentials, Secret};
use lava_publisher::{AuthorityConfig, LavaConfig};
use lava_stand_in::LavaServer;
use lavabus_lava::Identity;

/// This LAVA, and nothing beside it.
pub(crate) fn config(lava: &LavaServer) -> LavaConfig {
    LavaConfig {
        identity: Identity::anonymous(&lava.uri()).unwrap(),
        administrators: Vec::new(),
        tokens: None,
        workers: None,
    }
}

pub(crate) fn authority(config: LavaConfig) -> Authority {
    Authority::new(&AuthorityConfig::Lava(Box::new(config))).unwrap()
}

pub(crate) fn worker(host: &str, token: &str) -> Credentials {
    Credentials::Worker {
        host: host.to_owned(),
        token: Secret::new(token),
    }
}

/// The time passes for the authority; answers come in real time.
pub(crate) async fn advance(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// The authority sees that whoever it asks is, or is not, there.
pub(crate) async fn available(authority: &Authority, expected: bool) {
    while authority.is_available() != expected {
        // It looks from time to time.
        advance(Duration::from_millis(100)).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
