//! Which server, as whom, and how to get there.
//!
//! An identity that `-i` names counts as the file has it. Otherwise the environment counts before the file, and the file
//! is lavacli's:
//!
//! ```yaml
//! default:
//!   uri: https://lava.example.com/RPC2
//!   username: ada
//!   token: …
//!   proxy: http://proxy.example.com:3128   # optional, as are all below
//!   timeout: 20                            # seconds
//!   verify_ssl_cert: true
//!   events:
//!     uri: wss://lava.example.com/ws/
//!     socks_proxy: localhost:9050
//! ```

mod entry;
mod load;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;

use self::entry::server_address;
use self::load::token_of;
pub use self::load::{Environment, IdentitySources, load, load_for};
use crate::error::ServerError;
use crate::token::Token;

/// A server and who we are there. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name in the file; `LAVABUS_URI` if it came from the environment alone.
    pub name: String,
    /// `http(s)://host[/prefix]/`, without `RPC2` and without credentials.
    pub uri: Url,
    /// The user of the token.
    pub username: Option<String>,
    /// None: anonymous.
    pub token: Option<Token>,
    /// An HTTP or SOCKS proxy as a URL, perhaps with credentials.
    pub proxy: Option<String>,
    /// Of one request. [`Identity::TIMEOUT`] by default.
    pub timeout: Duration,
    /// Whether the server's certificate must be good. True by default.
    pub verify_certificate: bool,
    /// Where events come from.
    pub events: EventsSettings,
    /// What a person should know, such as a secret that others can read. Never holds a secret.
    pub warnings: Vec<String>,
}

/// The `events` map of an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventsSettings {
    /// `tcp://…`, `ws(s)://…` or `http(s)://…`.
    pub uri: Option<String>,
    /// `host:port` of a SOCKS proxy for ZeroMQ.
    pub socks_proxy: Option<String>,
}

impl Identity {
    /// How long one request may take, where nothing else is said.
    pub const TIMEOUT: Duration = Duration::from_secs(20);

    /// An anonymous visitor of a server.
    ///
    /// # Errors
    ///
    /// [`IdentityError::BadUri`] if it is no http or https address.
    pub fn anonymous(uri: &str) -> Result<Identity, IdentityError> {
        let (uri, username, token) = server_address(uri, "the address")?;
        let mut identity = Identity {
            name: "default".to_owned(),
            uri,
            username,
            token,
            proxy: None,
            timeout: Identity::TIMEOUT,
            verify_certificate: true,
            events: EventsSettings::default(),
            warnings: Vec::new(),
        };
        identity.warn_of_open_wire();
        Ok(identity)
    }

    /// A visitor whose token is the first line of a file; a warning says if others can read it.
    ///
    /// # Errors
    ///
    /// As [`anonymous`](Identity::anonymous); [`IdentityError::Unreadable`] and [`IdentityError::NoToken`] for the file.
    pub fn with_token_file(uri: &str, file: &Path) -> Result<Identity, IdentityError> {
        let mut identity = Identity::anonymous(uri)?;
        identity.warnings.clear();
        identity.token = Some(token_of(file, &mut identity.warnings)?);
        identity.warn_of_open_wire();
        Ok(identity)
    }

    /// A client of HTTP with this identity's proxy and certificates, for other servers than LAVA. It follows no redirects.
    ///
    /// # Errors
    ///
    /// [`ServerError::Unexpected`] if the proxy is no address, [`ServerError::Certificate`] if the system's certificates
    /// cannot be read.
    pub fn http_client(&self) -> Result<reqwest::Client, ServerError> {
        crate::http::client(self)
    }

    fn warn_of_open_wire(&mut self) {
        self.warn_of_server();
        self.warn_of_events();
    }

    fn warn_of_server(&mut self) {
        if self.token.is_none() {
            return;
        }
        if self.uri.scheme() == "http" && !is_loopback(&self.uri) {
            self.warnings.push(format!(
                "the token goes to {} over plain http: everyone on the way can read it",
                self.uri
            ));
        }
        if !self.verify_certificate {
            self.warnings.push(format!(
                "the certificate of {} is not verified: the token may go to somebody else",
                self.uri
            ));
        }
    }

    fn warn_of_events(&mut self) {
        let events = self.events.uri.as_deref().and_then(|uri| Url::parse(uri).ok());
        if let Some(events) = events
            && self.token.is_some()
            && matches!(events.scheme(), "ws" | "http")
            && !is_loopback(&events)
        {
            let host = events.host_str().unwrap_or_default();
            self.warnings.push(format!(
                "the token goes to {host} over plain {}: everyone on the way can read it",
                events.scheme()
            ));
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("name", &self.name)
            .field("uri", &self.uri.as_str())
            .field("username", &self.username)
            .field("token", &self.token)
            // It may hold a password.
            .field("proxy", &self.proxy.as_ref().map(|_| "…"))
            .field("timeout", &self.timeout)
            .field("verify_certificate", &self.verify_certificate)
            .field("events", &self.events)
            .field("warnings", &self.warnings)
            .finish()
    }
}

/// Whether an address names this machine.
pub(crate) fn is_loopback(uri: &Url) -> bool {
    let host = uri.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.ends_with(".localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Why there is no identity. No text in it holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("{}: {cause}", path.display())]
    Unreadable {
        /// The file of identities or of the token.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is no YAML.
    #[error("{}: line {line}, column {column}: not YAML", path.display())]
    NotYaml {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// The file has no identity of this name.
    #[error("{}: no identity {name:?}; there {}", path.display(), list(known))]
    NoSuchIdentity {
        /// The file.
        path: PathBuf,
        /// The name asked for.
        name: String,
        /// Those that are there.
        known: Vec<String>,
    },
    /// There is no file to find the named identity in.
    #[error("no identity {name:?}: {} is not there", path.display())]
    NoFile {
        /// The file that was looked for.
        path: PathBuf,
        /// The name asked for.
        name: String,
    },
    /// An identity lacks its address, or has a value of another kind than expected.
    #[error("{}: line {line}: identity {identity:?}: {key}: expected {expected}", path.display())]
    BadValue {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// The identity.
        identity: String,
        /// The key, such as `events.uri`.
        key: String,
        /// What it should be.
        expected: &'static str,
    },
    /// An address is none.
    #[error("{origin} is no address of a server, expected https://HOST/")]
    BadUri {
        /// Where it stands: `LAVABUS_URI`, or a file, line, identity and key.
        origin: String,
    },
    /// A WebSocket takes a token with the name of its user only, and who that is nobody can be asked.
    #[error("LAVABUS_USERNAME is not set: a WebSocket takes a token with the name of its user only")]
    NoUser,
    /// The file that should hold the token is empty.
    #[error("{}: no token in its first line", path.display())]
    NoToken {
        /// The file.
        path: PathBuf,
    },
}

fn list(known: &[String]) -> String {
    match known {
        [] => "is none".to_owned(),
        [one] => format!("is {one}"),
        several => format!("are {}", several.join(", ")),
    }
}
