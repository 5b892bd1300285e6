//! Where events come from: an address, with a name if it has one.

use std::fmt;
use std::str::FromStr;

use lavabus_lava::Url;
use lavabus_zmtp::{Endpoint, EndpointError};

/// Where events come from, as `--bus` names it: `ADDRESS` or `NAME=ADDRESS`.
///
/// ```
/// use lavabus_cli::Bus;
///
/// let bus: Bus = "staging=tcp://lava.example.org:5500".parse()?;
/// assert_eq!(bus.lab(), "staging");
/// assert_eq!("http://127.0.0.1:8001".parse::<Bus>()?.lab(), "http://127.0.0.1:8001");
/// # Ok::<(), lavabus_cli::bus::BusError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bus {
    /// What it is called, if it has a name.
    pub name: Option<String>,
    /// Where it is.
    pub address: Address,
}

/// Where a publisher is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `tcp://` or `ipc://`: a publish endpoint.
    ZeroMq(Endpoint),
    /// `http://` or `https://`: a publisher's second port.
    Http(Url),
    /// `ws://` or `wss://`: a WebSocket as LAVA has it.
    WebSocket(Url),
}

/// Why a text is no bus.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// It is no endpoint of ZeroMQ.
    #[error("{0}, and http://, https://, ws:// or wss://HOST:PORT")]
    Endpoint(#[from] EndpointError),
    /// It is no address with a host.
    #[error("{0:?} is no address, expected {1}://HOST:PORT")]
    Url(String, String),
    /// What everybody may see in the list of processes is no place for a secret.
    #[error("no user or token in the address: LAVABUS_TOKEN_FILE or an identity has it")]
    Credentials,
    /// Nothing behind the path is known.
    #[error("nothing may follow the path: filters are options of their own")]
    Query,
}

impl Bus {
    /// The label of its events: its name, or else its address.
    pub fn lab(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.address.to_string())
    }

    /// Where its second port is by default, if it is a publish endpoint that can be reached from elsewhere.
    pub(crate) fn http_beside(&self) -> Option<String> {
        match self.endpoint()? {
            Endpoint::Tcp { host, .. } => Some(format!("http://{host}:8001")),
            Endpoint::Ipc { .. } => None,
        }
    }

    /// Its publish endpoint, if it is one of ZeroMQ.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match &self.address {
            Address::ZeroMq(endpoint) => Some(endpoint),
            Address::Http(_) | Address::WebSocket(_) => None,
        }
    }
}

impl FromStr for Address {
    type Err = BusError;

    fn from_str(text: &str) -> Result<Address, BusError> {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        let Some(scheme) = scheme.filter(|scheme| matches!(&**scheme, "http" | "https" | "ws" | "wss")) else {
            return Ok(Address::ZeroMq(text.parse()?));
        };
        let url = Url::parse(text).ok().filter(Url::has_host);
        let Some(url) = url else {
            return Err(BusError::Url(text.to_owned(), scheme));
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BusError::Credentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(BusError::Query);
        }
        match scheme.starts_with("ws") {
            true => Ok(Address::WebSocket(url)),
            false => Ok(Address::Http(url)),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::ZeroMq(endpoint) => endpoint.fmt(f),
            Address::Http(url) | Address::WebSocket(url) => f.write_str(url.as_str().trim_end_matches('/')),
        }
    }
}

impl FromStr for Bus {
    type Err = BusError;

    fn from_str(text: &str) -> Result<Bus, BusError> {
        // A path may hold a '=', a name no ':'.
        match text.split_once('=') {
            Some((name, address)) if !name.is_empty() && !name.contains(':') => Ok(Bus {
                name: Some(name.to_owned()),
                address: address.parse()?,
            }),
            _ => Ok(Bus {
                name: None,
                address: text.parse()?,
            }),
        }
    }
}

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_stands_before_the_first_equals_sign() {
        let bus: Bus = "lab=ipc:///tmp/a=b".parse().unwrap();
        assert_eq!(
            (bus.name.as_deref(), bus.address.to_string().as_str()),
            (Some("lab"), "ipc:///tmp/a=b")
        );
        let bus: Bus = "ipc:///tmp/a=b".parse().unwrap();
        assert_eq!(bus.name, None);
        assert!("=tcp://a:1".parse::<Bus>().is_err());
        assert!("lab=".parse::<Bus>().is_err());
    }

    #[test]
    fn the_scheme_says_how_it_is_heard() {
        let address = |text: &str| text.parse::<Bus>().unwrap().address;
        assert!(matches!(address("tcp://a:5500"), Address::ZeroMq(_)));
        assert!(matches!(address("lab=HTTPS://a/lavabus/"), Address::Http(_)));
        assert!(matches!(address("wss://a/ws/"), Address::WebSocket(_)));
        assert_eq!(address("http://a:8001/").to_string(), "http://a:8001");
        for wrong in [
            "http://",
            "http://ann:s3cret@a",
            "http://a/?kind=job",
            "http://a/#x",
            "ftp://a",
            "a:8001",
        ] {
            let error = wrong.parse::<Bus>().unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
