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
//! let subject = Subject::of("org.example.lab.testjob", r#"{"job": 1995, "state": "Running"}"#);
//! assert_eq!(reader.ask(&subject).await, Sight::Shown);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answers;
mod credentials;
mod flights;
mod lava;
mod reader;
mod recent;
mod subject;
mod tokens;
mod turns;
mod workers;

use std::sync::Arc;

use lavabus_lava::ServerError;

pub use credentials::{Credentials, CredentialsError, Secret};
pub use reader::{Reader, Sight};
pub use subject::Subject;
pub use tokens::{Role, TokenName, TokensError};
pub(crate) use tokens::{check, new_token, warning};
pub(crate) use turns::{Crowded, Lane};
pub use workers::WorkersError;
pub(crate) use workers::dsn;

use crate::config::AuthorityConfig;
use lava::Lava;
use reader::Who;
use tokens::Tokens;
use workers::Workers;

/// Decides who is let in, and what they may see. Cheap to clone: clones share what they know.
#[derive(Clone, Debug)]
pub struct Authority {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: Kind,
    tokens: Option<Arc<Tokens>>,
    workers: Option<Arc<Workers>>,
}

#[derive(Debug)]
enum Kind {
    Open,
    Tokens,
    Lava(Arc<Lava>),
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
pub enum AuthorityError {
    /// The file of tokens cannot be used.
    #[error("--tokens: {0}")]
    Tokens(#[from] TokensError),
    /// LAVA can never be asked, whatever it answers.
    #[error("--lava: {0}")]
    Lava(#[from] ServerError),
    /// LAVA's database can never be asked.
    #[error("--workers-db: {0}")]
    Workers(#[from] WorkersError),
}

impl Authority {
    /// Makes ready; LAVA need not be there yet. To be called within a tokio runtime, where it keeps what it knows up to
    /// date until the last clone and the last reader are gone.
    pub fn new(config: &AuthorityConfig) -> Result<Authority, AuthorityError> {
        let (kind, tokens) = match config {
            AuthorityConfig::Open { tokens } => (Kind::Open, tokens.as_deref()),
            AuthorityConfig::Tokens { tokens } => (Kind::Tokens, Some(tokens.as_path())),
            AuthorityConfig::Lava(lava) => {
                let asked = Lava::new(&lava.identity, &lava.administrators)?;
                (Kind::Lava(asked), lava.tokens.as_deref())
            }
        };
        let workers = match config {
            AuthorityConfig::Lava(lava) => lava.workers.as_deref(),
            _ => None,
        };
        Ok(Authority {
            inner: Arc::new(Inner {
                kind,
                tokens: tokens.map(Tokens::open).transpose()?,
                workers: workers.map(Workers::open).transpose()?,
            }),
        })
    }

    /// Lets somebody in. Takes at most 10 s. May be dropped at any time.
    ///
    /// Where all is open nobody is asked: credentials that are not in the file of tokens count as none.
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Reader, Refused> {
        let reader = self.authenticate_producer(credentials).await?;
        if let Kind::Lava(lava) = &self.inner.kind
            && reader.is_listed_reader()
        {
            lava.arrive().await?;
        }
        Ok(reader)
    }

    /// The same for one who hands in events and reads none: whom the file of tokens lists is let in whether or not LAVA
    /// answers.
    pub async fn authenticate_producer(&self, credentials: &Credentials) -> Result<Reader, Refused> {
        let who = match credentials {
            Credentials::Anonymous => self.anonymous().await?,
            Credentials::User { user, token } => self.user(Some(user), token).await?,
            Credentials::Token(token) => self.user(None, token).await?,
            Credentials::Worker { host, token } => self.worker(host, token).await?,
        };
        Ok(Reader::new(self.inner.clone(), who))
    }

    /// An anonymous reader, let in whether or not anything can be told at the moment: for what is open to all without a
    /// request, such as a public endpoint.
    pub fn public(&self) -> Reader {
        Reader::new(self.inner.clone(), Who::Anonymous)
    }

    async fn anonymous(&self) -> Result<Who, Refused> {
        if let Kind::Lava(lava) = &self.inner.kind {
            lava.arrive().await?;
        }
        Ok(Who::Anonymous)
    }

    async fn user(&self, user: Option<&str>, token: &Secret) -> Result<Who, Refused> {
        let tokens = self.inner.tokens.as_ref();
        if let Some(entry) = tokens.and_then(|tokens| tokens.find(user, token)) {
            return Ok(Who::Listed(entry));
        }
        match &self.inner.kind {
            Kind::Open => Ok(Who::Anonymous),
            Kind::Tokens => Err(Refused::UnknownUser),
            Kind::Lava(lava) => Ok(Who::User(lava.log_in(user, token).await?)),
        }
    }

    async fn worker(&self, host: &str, token: &Secret) -> Result<Who, Refused> {
        let listed = match &self.inner.tokens {
            Some(tokens) => tokens.find_worker(host, token).map(Who::Listed),
            None => Err(Refused::UnknownWorker),
        };
        match (listed, &self.inner.workers) {
            (Err(_), _) if matches!(self.inner.kind, Kind::Open) => Ok(Who::OpenWorker(host.to_owned())),
            (Err(Refused::UnknownWorker), Some(workers)) => Ok(Who::Worker(workers.log_in(host, token).await?)),
            (listed, _) => listed,
        }
    }

    /// Questions and logins that were refused because too many waited for their turn, since the start.
    pub(crate) fn refused_look_ups(&self) -> u64 {
        let lava = match &self.inner.kind {
            Kind::Open | Kind::Tokens => 0,
            Kind::Lava(lava) => lava.refused.get(),
        };
        lava + self.inner.workers.as_ref().map_or(0, |workers| workers.refused.get())
    }

    /// Whether it can tell who may see what. False until LAVA, and its database if that is asked, have answered once.
    pub fn is_available(&self) -> bool {
        let lava = match &self.inner.kind {
            Kind::Open | Kind::Tokens => true,
            Kind::Lava(lava) => lava.is_available(),
        };
        let workers = self.inner.workers.as_ref();
        lava && workers.is_none_or(|workers| workers.is_available())
    }
}
