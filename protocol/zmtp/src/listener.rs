//! Listening on an endpoint.

use crate::endpoint::{Endpoint, Host};
use crate::ipc_path::{IpcPath, IpcPathError};
use crate::stream::Stream;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use tokio::net::{TcpListener, UnixListener};

/// How to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindOptions {
    /// Permission bits of an ipc socket file. 0o660 by default.
    pub ipc_mode: u32,
    /// Group of an ipc socket file: a name or a number. `None`, the default: the process's own.
    pub ipc_group: Option<String>,
    /// Connections that the kernel keeps until they are accepted. 1024 by default; bounded by `net.core.somaxconn`.
    pub backlog: u32,
}

impl Default for BindOptions {
    fn default() -> Self {
        BindOptions {
            ipc_mode: 0o660,
            ipc_group: None,
            backlog: 1024,
        }
    }
}

/// Why an endpoint could not be listened on. Each text says what to try.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there already.
    #[error("{endpoint} is in use: another instance or program listens there; stop it or choose another endpoint")]
    InUse {
        /// The endpoint asked for.
        endpoint: Endpoint,
    },
    /// We may not.
    #[error("no permission to listen on {endpoint} ({hint})")]
    Permission {
        /// The endpoint asked for.
        endpoint: Endpoint,
        /// The likely reason.
        hint: &'static str,
    },
    /// The address is not one of this machine, or the name cannot be resolved.
    #[error("{endpoint} is no address of this machine: {source}; use * for all, or one that `ip address` shows")]
    Address {
        /// The endpoint asked for.
        endpoint: Endpoint,
        /// The system's error.
        source: io::Error,
    },
    /// The socket file's path cannot be used.
    #[error("cannot listen on {endpoint}: {source}")]
    IpcPath {
        /// The endpoint asked for.
        endpoint: Endpoint,
        /// What is wrong with the path.
        source: IpcPathError,
    },
    /// Any other failure.
    #[error("cannot listen on {endpoint}: {source}")]
    Io {
        /// The endpoint asked for.
        endpoint: Endpoint,
        /// The system's error.
        source: io::Error,
    },
}

/// A listening socket.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use lavabus_zmtp::{BindOptions, Listener};
/// let listener = Listener::bind(&"tcp://127.0.0.1:0".parse()?, &BindOptions::default()).await?;
/// assert!(!listener.local_endpoint().to_string().ends_with(":0"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Listener {
    socket: Listening,
    endpoint: Endpoint,
}

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    /// The path is given up when the listener is dropped.
    Ipc(UnixListener, #[allow(dead_code)] IpcPath),
}

impl Listener {
    /// Listens on `endpoint`.
    ///
    /// `tcp://*` is all IPv4 addresses, `tcp://[::]` all of both kinds; of a name's addresses the first that works is
    /// taken. An ipc path is taken over from a process that is gone, never from one that listens, nor from another
    /// user, nor if it is something else than a socket; it is held by a lock on `<path>.lock`, a file that stays.
    /// Nobody can connect before mode and group are set.
    pub async fn bind(endpoint: &Endpoint, options: &BindOptions) -> Result<Listener, BindError> {
        let backlog = i32::try_from(options.backlog).unwrap_or(i32::MAX);
        match endpoint {
            Endpoint::Tcp { host, port } => bind_tcp(endpoint, host, *port, backlog).await,
            Endpoint::Ipc { path } => bind_ipc(endpoint, path, options, backlog),
        }
    }

    /// Where it listens: with the real port if port 0 was asked for.
    pub fn local_endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The next connection, without a handshake.
    ///
    /// Connections that ended before they were accepted are passed over. An error means that the process (or the
    /// machine) has no more file descriptors or memory: wait a moment before the next call. Cancel-safe.
    pub async fn accept(&self) -> io::Result<Stream> {
        loop {
            let accepted = match &self.socket {
                Listening::Tcp(listener) => match listener.accept().await {
                    Ok((socket, _)) => Stream::from_tcp(socket),
                    Err(error) => Err(check_accept(error)?),
                },
                Listening::Ipc(listener, _) => match listener.accept().await {
                    Ok((socket, _)) => Stream::from_unix(socket),
                    Err(error) => Err(check_accept(error)?),
                },
            };
            match accepted {
                Ok(stream) => return Ok(stream.into_accepted()),
                Err(error) => {
                    tracing::debug!(%error, endpoint = %self.endpoint, "connection ended before it was accepted")
                }
            }
        }
    }
}

/// Errors that are ours are passed on; those of the one connection are given back to be logged.
///
/// accept(2): "Linux accept() passes already-pending network errors on the new socket as an error code".
fn check_accept(error: io::Error) -> io::Result<io::Error> {
    use nix::libc;
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EBADF | libc::EINVAL) => Err(error),
        _ => Ok(error),
    }
}

async fn bind_tcp(endpoint: &Endpoint, host: &Host, port: u16, backlog: i32) -> Result<Listener, BindError> {
    let addresses = match host {
        Host::Any => vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)],
        Host::Address(address) => vec![SocketAddr::new(*address, port)],
        Host::Name(name) => tokio::net::lookup_host((name.as_str(), port))
            .await
            .map_err(|source| BindError::Address {
                endpoint: endpoint.clone(),
                source,
            })?
            .collect(),
    };
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match listen_tcp(address, backlog) {
            Ok(listener) => {
                let port = listener
                    .local_addr()
                    .map_err(|source| tcp_error(endpoint, source))?
                    .port();
                let endpoint = Endpoint::Tcp {
                    host: host.clone(),
                    port,
                };
                return Ok(Listener {
                    socket: Listening::Tcp(listener),
                    endpoint,
                });
            }
            Err(error) => last_error = error,
        }
    }
    Err(tcp_error(endpoint, last_error))
}

fn listen_tcp(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // [::] is for both kinds, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    TcpListener::from_std(socket.into())
}

fn tcp_error(endpoint: &Endpoint, source: io::Error) -> BindError {
    let endpoint = endpoint.clone();
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { endpoint },
        io::ErrorKind::PermissionDenied => BindError::Permission {
            endpoint,
            hint: "ports below 1024 are for root, or for CAP_NET_BIND_SERVICE; choose a higher port",
        },
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::NotFound => BindError::Address { endpoint, source },
        _ => BindError::Io { endpoint, source },
    }
}

fn bind_ipc(endpoint: &Endpoint, path: &Path, options: &BindOptions, backlog: i32) -> Result<Listener, BindError> {
    let ipc_error = |source| match source {
        IpcPathError::InUse => BindError::InUse {
            endpoint: endpoint.clone(),
        },
        source => BindError::IpcPath {
            endpoint: endpoint.clone(),
            source,
        },
    };
    let io_error = |source: io::Error| match source.kind() {
        io::ErrorKind::PermissionDenied => BindError::Permission {
            endpoint: endpoint.clone(),
            hint: "the folder must be writable, and the group one of this user's",
        },
        _ => BindError::Io {
            endpoint: endpoint.clone(),
            source,
        },
    };
    let mut claim = IpcPath::claim(path).map_err(ipc_error)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).map_err(io_error)?;
    socket
        .bind(&SockAddr::unix(path).map_err(io_error)?)
        .map_err(io_error)?;
    claim.bound().map_err(io_error)?;
    // Until listen(), connections are refused; so nobody passes under wider permissions.
    claim
        .set_access(options.ipc_mode, options.ipc_group.as_deref())
        .map_err(ipc_error)?;
    socket.listen(backlog).map_err(io_error)?;
    let listener = UnixListener::from_std(socket.into()).map_err(io_error)?;
    Ok(Listener {
        socket: Listening::Ipc(listener, claim),
        endpoint: endpoint.clone(),
    })
}
