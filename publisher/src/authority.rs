//! Who may see what on the second port.
//!
//! A request shows [`Credentials`]; the [`Authority`] lets it in as a [`Reader`], who is asked for each event or object
//! by its [`Subject`]. What is not known is not shown.
//!
//! ```
//! use lava_publisher::AuthorityConfig;
//! use lava_publisher::authority::{Authority, Credentials, Sight, Subject};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let authority = Authority::new(&AuthorityConfig::Open { tokens: None })?;
//! let reader = authority.authenticate(&Credentials::Anonymous).await?;
//!
//! let (topic, data) = ("org.example.lab.testjob", r#"{"job": 1995, "state": "Running"}"#);
//! let subject = Subject::of(topic, data);
//! let shown = match reader.sight_of_event(&subject, topic, data) {
//!     Sight::Ask => reader.ask(&subject).await == Sight::Shown,
//!     known => known == Sight::Shown,
//! };
//! assert!(shown);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod credentials;
mod reader;
mod subject;

use std::sync::Arc;

pub use credentials::{Credentials, CredentialsError, Secret};
pub use reader::{Reader, Sight};
pub use subject::Subject;

use crate::config::AuthorityConfig;
use reader::Who;

/// Decides who is let in, and what they may see. Cheap to clone: clones share what they know.
#[derive(Clone, Debug)]
pub struct Authority {
    kind: Arc<Kind>,
}

#[derive(Debug)]
enum Kind {
    Open,
    /// Not made yet: lets nobody in.
    Closed,
}

/// Why somebody is not let in. The first three are LAVA's texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No such user, not his token, or no such token.
    #[error("Unknown user")]
    UnknownUser,
    /// No such worker.
    #[error("Unknown worker")]
    UnknownWorker,
    /// Not this worker's token.
    #[error("Invalid worker token")]
    InvalidWorkerToken,
    /// Nobody can tell at the moment: the same may be let in later.
    #[error("the authority is unavailable: try again")]
    Unavailable,
}

/// An authority that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {}

impl Authority {
    /// Makes ready. To be called within a tokio runtime, where it keeps what it knows up to date until the last clone
    /// and the last reader are gone.
    pub fn new(config: &AuthorityConfig) -> Result<Authority, AuthorityError> {
        let kind = match config {
            AuthorityConfig::Open { .. } => Kind::Open,
            AuthorityConfig::Tokens { .. } | AuthorityConfig::Lava(_) => Kind::Closed,
        };
        Ok(Authority { kind: Arc::new(kind) })
    }

    /// Lets somebody in. Takes at most 5 s.
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Reader, Refused> {
        let who = match (&*self.kind, credentials) {
            (Kind::Open, Credentials::Worker { host, .. }) => Who::OpenWorker(host.clone()),
            (Kind::Open, _) => Who::Everyone,
            (Kind::Closed, _) => return Err(Refused::Unavailable),
        };
        Ok(Reader::new(who))
    }

    /// Whether it can tell who may see what.
    pub fn is_available(&self) -> bool {
        match &*self.kind {
            Kind::Open => true,
            Kind::Closed => false,
        }
    }
}
