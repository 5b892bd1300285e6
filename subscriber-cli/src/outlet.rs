//! A bus as it is heard: over ZeroMQ, by server-sent events, or by a WebSocket. All tell the same.

mod web_socket;

use std::fmt;
use std::time::Duration;

use lavabus_client::{
    EventStream, Options, PortError, SecondPort, StreamOptions, Subscription, SubscriptionError, Update,
};
use lavabus_lava::{Identity, IdentitySources, Server, Url};
use lavabus_protocol::{Cursor, Filter, SnapshotScope};
use lavabus_zmtp::Endpoint;

use self::web_socket::WebSocketStream;
use crate::bus::{Address, Bus};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::listen::certificate_failure;
use crate::sources;

/// A bus that can be heard any number of times.
#[derive(Clone, Debug)]
pub(crate) struct Outlet {
    bus: Bus,
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    ZeroMq(Endpoint),
    Http(SecondPort),
    WebSocket(Server),
}

/// What is wanted of a bus, and how patiently.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// What is looked for; a bus may send more.
    pub(crate) filter: Filter,
    pub(crate) after: Option<Cursor>,
    pub(crate) snapshots: Vec<SnapshotScope>,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_outage: Duration,
}

impl Default for Wanted {
    fn default() -> Wanted {
        let usual = StreamOptions::default();
        Wanted {
            filter: Filter::default(),
            after: None,
            snapshots: Vec::new(),
            connect_timeout: usual.connect_timeout,
            max_outage: usual.max_outage,
        }
    }
}

impl Outlet {
    /// Makes ready to hear a bus; nothing is sent yet. Over HTTP the token is the identity's, if it is one of the same
    /// host or was named, or else the environment's. What `is_told` has is not warned of again.
    ///
    /// # Errors
    ///
    /// [`Failure`] with [`Exit::Usage`].
    pub(crate) fn of(bus: &Bus, context: &Context, is_told: &[String]) -> Result<Outlet, Failure> {
        let way = match &bus.address {
            Address::ZeroMq(endpoint) => Way::ZeroMq(endpoint.clone()),
            Address::Http(url) => Way::Http(second_port(&identity(url, context, is_told)?, url)?),
            Address::WebSocket(url) => Way::WebSocket(sources::server(&identity(url, context, is_told)?)?),
        };
        Ok(Outlet { bus: bus.clone(), way })
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Whether it is this port that it is heard by.
    pub(crate) fn second_port(&self) -> Option<&SecondPort> {
        match &self.way {
            Way::Http(port) => Some(port),
            Way::ZeroMq(_) | Way::WebSocket(_) => None,
        }
    }

    /// Whether a token goes with what is asked of it.
    pub(crate) fn has_token(&self) -> bool {
        match &self.way {
            Way::ZeroMq(_) => false,
            Way::Http(port) => port.has_token(),
            Way::WebSocket(server) => server.has_token(),
        }
    }

    /// Begins to hear it: nothing happens before the stream's `next` is awaited.
    pub(crate) fn open(&self, wanted: Wanted) -> Stream {
        match &self.way {
            Way::ZeroMq(endpoint) => {
                let options = Options {
                    prefixes: wanted.filter.subscription_prefixes(),
                    after: wanted.after,
                    snapshots: wanted.snapshots,
                    connect_timeout: wanted.connect_timeout,
                    max_outage: wanted.max_outage,
                    ..Options::default()
                };
                Stream::ZeroMq(Box::new(Subscription::new(endpoint.clone(), options)))
            }
            Way::Http(port) => {
                let options = StreamOptions {
                    filter: wanted.filter,
                    after: wanted.after,
                    snapshots: wanted.snapshots,
                    connect_timeout: wanted.connect_timeout,
                    max_outage: wanted.max_outage,
                };
                Stream::Http(Box::new(EventStream::new(port.clone(), options)))
            }
            Way::WebSocket(server) => Stream::WebSocket(Box::new(WebSocketStream::new(
                server.clone(),
                self.bus.address.to_string(),
                wanted.connect_timeout,
                wanted.max_outage,
            ))),
        }
    }
}

impl fmt::Display for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bus.fmt(f)
    }
}

/// What a bus tells.
#[derive(Debug)]
pub(crate) enum Stream {
    ZeroMq(Box<Subscription>),
    Http(Box<EventStream>),
    WebSocket(Box<WebSocketStream>),
}

impl Stream {
    /// The next thing to tell. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Update, SubscriptionError> {
        match self {
            Stream::ZeroMq(subscription) => subscription.next().await,
            Stream::Http(stream) => stream.next().await,
            Stream::WebSocket(stream) => stream.next().await,
        }
    }
}

/// Who we are at a port over HTTP.
fn identity(url: &Url, context: &Context, is_told: &[String]) -> Result<Identity, Failure> {
    let sources = IdentitySources::from_process(context.identity.config.clone(), context.identity.identity.clone());
    let identity = lavabus_lava::load_for(&sources, url).map_err(|error| sources::cannot_use(&error))?;
    for warning in identity.warnings.iter().filter(|warning| !is_told.contains(warning)) {
        context.notice(format_args!("warning: {warning}"));
    }
    Ok(identity)
}

fn second_port(identity: &Identity, url: &Url) -> Result<SecondPort, Failure> {
    let cannot = |cause: &dyn fmt::Display| {
        Failure::new(
            Exit::Usage,
            format!("the identity {} cannot be used", identity.name),
            cause,
            "see to its token, proxy and verify_ssl_cert",
        )
    };
    let client = identity.http_client().map_err(|error| cannot(&error))?;
    let token = identity.token.as_ref().map(lavabus_lava::Token::expose);
    SecondPort::new(client, url.clone(), token).map_err(|_| cannot(&"its token cannot be sent"))
}

/// What to say when a publisher's second port does not answer a question.
pub(crate) fn port_failure(port: &SecondPort, error: &PortError) -> Failure {
    let base = port.base().as_str().trim_end_matches('/');
    match error {
        PortError::Refused { reason } => Failure::new(
            Exit::CredentialsRefused,
            format!("{base} refused the question"),
            reason,
            "LAVABUS_TOKEN_FILE with a token that may, or -i with the identity whose token may",
        ),
        PortError::NotFound { reason } => Failure::new(
            Exit::NoSuchObject,
            format!("{base} does not know it"),
            reason,
            "its id again, or a token that may see it: LAVABUS_TOKEN_FILE, -i NAME",
        ),
        PortError::BadRequest { reason } => Failure::new(
            Exit::Usage,
            format!("{base} cannot answer this"),
            reason,
            "the question again, as the cause says",
        ),
        PortError::Unavailable { cause } => Failure::new(
            Exit::NoConnection,
            format!("{base} does not answer"),
            cause,
            "again later, or `lavabus doctor --bus` with this address",
        ),
        PortError::Certificate { cause } => certificate_failure(base, cause),
        PortError::NoPublisher { .. } => Failure::new(
            Exit::NoConnection,
            format!("{base} is no publisher"),
            error,
            "the address of lava-publisher's --http port (8001 by default), and the path before its api/",
        ),
    }
}
