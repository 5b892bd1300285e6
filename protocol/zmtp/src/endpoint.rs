//! Where a socket binds or connects: `tcp://host:port` and `ipc:///path`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

/// An address in ZeroMQ's notation.
///
/// ```
/// use lavabus_zmtp::Endpoint;
/// let endpoint: Endpoint = "tcp://[::1]:5500".parse()?;
/// assert!(endpoint.is_loopback_or_ipc());
/// assert_eq!(endpoint.to_string(), "tcp://[::1]:5500");
/// assert!("ipc:///tmp/lava.events".parse::<Endpoint>().is_ok());
/// # Ok::<(), lavabus_zmtp::EndpointError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// TCP over IPv4 or IPv6.
    Tcp {
        /// What stands before the port.
        host: Host,
        /// 0 to 65535; to bind to 0 is to take any free port.
        port: u16,
    },
    /// A Unix domain socket.
    Ipc {
        /// The socket file's path.
        path: PathBuf,
    },
}

/// The host of a TCP endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// `*`: all IPv4 addresses of this machine; only to bind to. (`[::]` means all addresses of both kinds.)
    Any,
    /// A numeric address; IPv6 ones are written in brackets.
    Address(IpAddr),
    /// A DNS name.
    Name(String),
}

/// Why a text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{problem} in the endpoint {text:?}; accepted are tcp://HOST:PORT (HOST a name, an IPv4 address, an [IPv6 address] or *, PORT 0 to 65535) and ipc:///ABSOLUTE/PATH"
)]
pub struct EndpointError {
    text: String,
    problem: &'static str,
}

impl Endpoint {
    /// Whether only this machine's own processes can use it. A name counts as loopback only if it is `localhost`.
    pub fn is_loopback_or_ipc(&self) -> bool {
        match self {
            Endpoint::Ipc { .. } => true,
            Endpoint::Tcp {
                host: Host::Address(address),
                ..
            } => is_loopback(*address),
            Endpoint::Tcp {
                host: Host::Name(name), ..
            } => name.eq_ignore_ascii_case("localhost"),
            Endpoint::Tcp { host: Host::Any, .. } => false,
        }
    }
}

pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        let parsed = match text.split_once("://") {
            Some(("tcp", rest)) => parse_tcp(rest),
            Some(("ipc", path)) => parse_ipc(path),
            Some(_) => Err("unknown transport"),
            None => Err("no transport"),
        };
        parsed.map_err(|problem| EndpointError {
            text: text.to_owned(),
            problem,
        })
    }
}

fn parse_tcp(rest: &str) -> Result<Endpoint, &'static str> {
    let (host, port) = rest.rsplit_once(':').ok_or("no port")?;
    let port = match port {
        // As libzmq has it: any free port.
        "*" => 0,
        digits if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().map_err(|_| "port beyond 65535")?
        }
        _ => return Err("bad port"),
    };
    let host = if host == "*" {
        Host::Any
    } else if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or("missing ]")?;
        Host::Address(inner.parse::<Ipv6Addr>().map_err(|_| "bad IPv6 address")?.into())
    } else if let Ok(address) = host.parse::<Ipv4Addr>() {
        Host::Address(address.into())
    } else if host.contains(':') {
        return Err("IPv6 address without brackets");
    } else if host.is_empty() || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
        return Err("bad host name");
    } else {
        Host::Name(host.to_owned())
    };
    Ok(Endpoint::Tcp { host, port })
}

fn parse_ipc(path: &str) -> Result<Endpoint, &'static str> {
    if path.starts_with('@') {
        // Neither a mode nor an owner can be given to one, and any local user could take its name.
        return Err("abstract socket, which is not supported,");
    }
    if path.contains('\0') {
        return Err("NUL byte");
    }
    // libzmq takes relative paths as well; a daemon's working directory makes them a trap.
    if !path.starts_with('/') || path.ends_with('/') {
        return Err("no absolute path of a socket file");
    }
    Ok(Endpoint::Ipc { path: path.into() })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Endpoint::Ipc { path } => write!(f, "ipc://{}", path.display()),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Any => f.write_str("*"),
            Host::Address(IpAddr::V4(address)) => address.fmt(f),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Host::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepted_forms_are_read_and_written_back() {
        for text in [
            "tcp://*:5500",
            "tcp://127.0.0.1:0",
            "tcp://[::1]:5500",
            "tcp://[::]:5500",
            "tcp://lava.example.org:65535",
            "tcp://my_host-2:1",
            "ipc:///tmp/lava.events",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!("tcp://*:*".parse::<Endpoint>().unwrap().to_string(), "tcp://*:0");
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (text, problem) in [
            ("5500", "no transport"),
            ("udp://a:1", "unknown transport"),
            ("tcp://a", "no port"),
            ("tcp://a:", "bad port"),
            ("tcp://a:+1", "bad port"),
            ("tcp://a:65536", "port beyond"),
            ("tcp://:1", "bad host name"),
            ("tcp://a b:1", "bad host name"),
            ("tcp://::1:5500", "IPv6 address without brackets"),
            ("tcp://[::1:5500", "missing ]"),
            ("tcp://[x]:5500", "bad IPv6"),
            ("ipc://@abstract", "abstract"),
            ("ipc://relative", "no absolute path"),
            ("ipc:///a/", "no absolute path"),
            ("ipc:///a\0b", "NUL"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.starts_with(problem), "{text}: {error}");
            assert!(error.contains("accepted are tcp://HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn loopback() {
        for (text, expected) in [
            ("tcp://127.3.0.1:1", true),
            ("tcp://[::1]:1", true),
            ("tcp://[::ffff:127.0.0.1]:1", true),
            ("tcp://localhost:1", true),
            ("ipc:///a", true),
            ("tcp://*:1", false),
            ("tcp://0.0.0.0:1", false),
            ("tcp://[::]:1", false),
            ("tcp://192.0.2.1:1", false),
        ] {
            assert_eq!(
                text.parse::<Endpoint>().unwrap().is_loopback_or_ipc(),
                expected,
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(tcp|ipc)?(://)?.{0,30}") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
            }
        }
    }
}
