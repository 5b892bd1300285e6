//! How long it is tried to connect, and what is told of it.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::subscription::SubscriptionError;
use crate::update::{Cause, Update};

/// One attempt to connect takes no longer.
const ATTEMPT: Duration = Duration::from_secs(5);
/// The last attempt begins when the time is over, and gets this much more.
const LAST_ATTEMPT: Duration = Duration::from_secs(1);

/// What all kinds of streams have in common: how patient they are, and what they say of it.
///
/// The first connection must be made within one time, later ones within another; between attempts it waits from 0.1 s to
/// 5 s.
#[derive(Debug)]
pub struct Patience {
    connect_timeout: Duration,
    max_outage: Duration,
    backoff: Backoff,
    /// When the present outage ends it.
    give_up: Instant,
    was_connected: bool,
    is_outage_told: bool,
}

impl Patience {
    /// It begins to connect now.
    pub fn new(connect_timeout: Duration, max_outage: Duration) -> Patience {
        Patience {
            connect_timeout,
            max_outage,
            backoff: Backoff::default(),
            give_up: after(Instant::now(), connect_timeout),
            was_connected: false,
            is_outage_told: false,
        }
    }

    /// Whether there was a connection.
    pub fn was_connected(&self) -> bool {
        self.was_connected
    }

    /// There is a connection.
    pub fn connected(&mut self) {
        self.backoff.reset();
        self.was_connected = true;
        self.is_outage_told = false;
    }

    /// The time to wait before an attempt, and how long that may take, for one that should begin after `wait`.
    pub fn attempt(&self, wait: Duration) -> Attempt {
        Attempt {
            wait,
            give_up: self.give_up,
        }
    }

    /// There is no connection any more, or again none. `worked`: there was one until now. Gives the time to wait before
    /// the next attempt, and what there is to tell.
    ///
    /// # Errors
    ///
    /// [`SubscriptionError::NoConnection`] or [`SubscriptionError::OutageTooLong`] when the time is over.
    pub fn lost(
        &mut self,
        worked: bool,
        endpoint: &dyn Display,
        cause: Cause,
    ) -> Result<(Duration, Option<Update>), SubscriptionError> {
        if worked {
            self.give_up = after(Instant::now(), self.max_outage);
        } else if Instant::now() >= self.give_up {
            let (endpoint, cause) = (endpoint.to_string(), Box::new(cause));
            return Err(match self.was_connected {
                false => SubscriptionError::NoConnection {
                    endpoint,
                    within: self.connect_timeout,
                    cause,
                },
                true => SubscriptionError::OutageTooLong {
                    endpoint,
                    outage: self.max_outage,
                    cause,
                },
            });
        }
        tracing::debug!(%endpoint, %cause, "no connection");
        let is_news = !std::mem::replace(&mut self.is_outage_told, true);
        let wait = self.backoff.next(rand::random());
        Ok((wait, is_news.then_some(Update::Disconnected { cause })))
    }
}

/// One attempt to connect: when it begins, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    wait: Duration,
    give_up: Instant,
}

impl Attempt {
    /// Waits until it is to begin. Returns how long it may take.
    pub async fn begin(self) -> Duration {
        tokio::time::sleep(self.wait.min(self.give_up.saturating_duration_since(Instant::now()))).await;
        let left = self.give_up.saturating_duration_since(Instant::now());
        left.clamp(LAST_ATTEMPT, ATTEMPT)
    }
}

/// An instant that cannot be told is as far away as an instant can be for a person.
fn after(now: Instant, wait: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    now + wait.min(FAR)
}
