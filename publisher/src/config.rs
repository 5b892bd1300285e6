//! What a publisher is told to do.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use lavabus_lava::Identity;
use lavabus_lava::explain::Pace;
use lavabus_store::{Options, Retention};
use lavabus_zmtp::{BindOptions, Endpoint, HeartbeatConfig, Limits};

/// A publisher's whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where producers connect (PUSH).
    pub intake: Vec<Endpoint>,
    /// Where subscribers connect (SUB).
    pub publish: Vec<Endpoint>,
    /// Where subscribers connect (SUB) who get only what everybody may see.
    pub publish_public: Vec<Endpoint>,
    /// The journal; None: the ring in memory is all there is.
    pub journal: Option<JournalConfig>,
    /// The newest events are kept in memory up to this many bytes.
    pub ring_bytes: usize,
    /// Networks whose peers may ask for all of the past. Local peers always may.
    pub history_from: Vec<IpNet>,
    /// Everybody may ask for what was received within this time.
    pub resume_window: Duration,
    /// What a peer may send.
    pub limits: Limits,
    /// Subscriptions that one connection may hold.
    pub max_subscriptions: usize,
    /// Connections of all kinds together.
    pub max_connections: usize,
    /// Heartbeats to producers and subscribers.
    pub heartbeat: HeartbeatConfig,
    /// Mode and group of ipc sockets.
    pub bind: BindOptions,
    /// Who is asked why jobs failed; None: nobody.
    pub explain: Option<ExplainConfig>,
    /// The second port.
    pub http: HttpConfig,
    /// Who may see what on the second port.
    pub authority: AuthorityConfig,
    /// Why this authority, for the log. Empty: nothing is said.
    pub authority_reason: String,
}

/// The second port.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Where it listens; nowhere: there is none.
    pub listen: Vec<SocketAddr>,
    /// Connections that one address may have, but for this machine's own.
    pub max_per_address: usize,
    /// Proxies that are believed when they say for whom they ask (`X-Forwarded-For`).
    pub proxies: Vec<IpNet>,
    /// Pages of these origins may use the port from a browser, such as `https://lab.example.org`, beside its own.
    pub origins: Vec<String>,
    /// The body of a request may have so many bytes.
    pub max_body: usize,
    /// A stream of server-sent events says something at least this often.
    pub keep_alive: Duration,
}

impl Default for HttpConfig {
    fn default() -> HttpConfig {
        HttpConfig {
            listen: Vec::new(),
            max_per_address: 256,
            proxies: Vec::new(),
            origins: Vec::new(),
            max_body: 1 << 20,
            keep_alive: Duration::from_secs(15),
        }
    }
}

/// Who decides what a reader of the second port may see.
///
/// A file of tokens, where there is one, also names workers and who may emit.
#[derive(Clone, Debug)]
pub enum AuthorityConfig {
    /// Everyone sees all.
    Open {
        /// The file of tokens.
        tokens: Option<PathBuf>,
    },
    /// Who has a token of the file sees all, others nothing.
    Tokens {
        /// The file of tokens.
        tokens: PathBuf,
    },
    /// LAVA is asked with the reader's own token.
    Lava(Box<LavaConfig>),
}

/// The LAVA that is asked.
#[derive(Clone, Debug)]
pub struct LavaConfig {
    /// Which LAVA, and how to get there. Its token and timeout are not used.
    pub identity: Identity,
    /// Users of LAVA who see all, and what only administrators see.
    pub administrators: Vec<String>,
    /// The file of tokens: who may emit, workers, and administrators. Its readers see what everybody may see.
    pub tokens: Option<PathBuf>,
    /// A file whose first line is how to reach LAVA's PostgreSQL database, where workers' tokens are.
    pub workers: Option<PathBuf>,
}

impl Default for AuthorityConfig {
    fn default() -> AuthorityConfig {
        AuthorityConfig::Open { tokens: None }
    }
}

impl fmt::Display for AuthorityConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuthorityConfig::Open { .. } => f.write_str("open"),
            AuthorityConfig::Tokens { .. } => f.write_str("tokens"),
            AuthorityConfig::Lava(lava) => write!(f, "lava, asked at {}", lava.identity.uri),
        }
    }
}

/// Who is asked why jobs failed.
#[derive(Clone, Debug)]
pub struct ExplainConfig {
    /// LAVA, and as whom.
    pub identity: Identity,
    /// How often.
    pub pace: Pace,
}

/// Where and how events are kept.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// The database.
    pub path: PathBuf,
    /// How it is written.
    pub options: Options,
    /// How long events are kept.
    pub retention: Retention,
}

impl Config {
    /// Defaults, with these endpoints and no journal.
    pub fn new(intake: Vec<Endpoint>, publish: Vec<Endpoint>) -> Config {
        Config {
            intake,
            publish,
            publish_public: Vec::new(),
            journal: None,
            ring_bytes: 16 * 1024 * 1024,
            history_from: Vec::new(),
            resume_window: Duration::from_secs(3600),
            limits: Limits::default(),
            max_subscriptions: 10_000,
            max_connections: 8192,
            heartbeat: HeartbeatConfig::default(),
            bind: BindOptions::default(),
            explain: None,
            http: HttpConfig::default(),
            authority: AuthorityConfig::default(),
            authority_reason: String::new(),
        }
    }

    /// The same with a journal at this path.
    pub fn with_journal(mut self, path: impl Into<PathBuf>) -> Config {
        let (options, retention) = (Options::default(), Retention::default());
        self.journal = Some(JournalConfig {
            path: path.into(),
            options,
            retention,
        });
        self
    }
}
