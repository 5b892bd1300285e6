//! A connected TCP or Unix domain socket, and who is at its other end.

use crate::endpoint::{Endpoint, Host, is_loopback};
use crate::tcp_info;
use bytes::BufMut;
use socket2::{SockRef, TcpKeepalive};
use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};

/// The kernel probes a silent TCP peer after this time.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);

/// A connected socket. TCP ones have Nagle's delay switched off, and the kernel's keepalive on (first probe after
/// 15 s, the connection fails 15 s later).
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    peer: PeerAddress,
    accepted: bool,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Ipc(UnixStream),
}

/// Who is at the other end, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerAddress {
    /// The address and port of a TCP peer. An IPv4 peer of a dual-stack socket is given as IPv4.
    Tcp(SocketAddr),
    /// The user and, where known, the process that connected to a Unix domain socket.
    Ipc {
        /// User id.
        uid: u32,
        /// Process id.
        pid: Option<i32>,
    },
}

impl PeerAddress {
    /// The peer is on this machine: a loopback address or a Unix domain socket.
    pub fn is_local(&self) -> bool {
        match self {
            PeerAddress::Tcp(address) => is_loopback(address.ip()),
            PeerAddress::Ipc { .. } => true,
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAddress::Tcp(address) => write!(f, "tcp://{address}"),
            PeerAddress::Ipc { uid, pid: Some(pid) } => write!(f, "ipc (user {uid}, process {pid})"),
            PeerAddress::Ipc { uid, pid: None } => write!(f, "ipc (user {uid})"),
        }
    }
}

/// Applies an expression to whichever socket it is.
macro_rules! on_socket {
    ($self:expr, $socket:ident => $result:expr) => {
        match &$self.socket {
            Socket::Tcp($socket) => $result,
            Socket::Ipc($socket) => $result,
        }
    };
}

impl Stream {
    /// Connects, without a handshake and without a time limit. Of a name's addresses, each is tried.
    pub async fn connect(endpoint: &Endpoint) -> io::Result<Stream> {
        match endpoint {
            Endpoint::Tcp { host, port } => Stream::from_tcp(match host {
                Host::Any => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidInput,
                        "* is no host to connect to",
                    ));
                }
                Host::Address(address) => TcpStream::connect((*address, *port)).await?,
                Host::Name(name) => TcpStream::connect((name.as_str(), *port)).await?,
            }),
            Endpoint::Ipc { path } => Stream::from_unix(UnixStream::connect(path).await?),
        }
    }

    /// Takes a connected TCP socket.
    pub fn from_tcp(socket: TcpStream) -> io::Result<Stream> {
        socket.set_nodelay(true)?;
        let address = socket.peer_addr()?;
        let peer = PeerAddress::Tcp(SocketAddr::new(address.ip().to_canonical(), address.port()));
        let stream = Stream {
            socket: Socket::Tcp(socket),
            peer,
            accepted: false,
        };
        stream.set_keepalive(KEEPALIVE_IDLE)?;
        Ok(stream)
    }

    /// Takes a connected Unix domain socket.
    pub fn from_unix(socket: UnixStream) -> io::Result<Stream> {
        let credentials = socket.peer_cred()?;
        let peer = PeerAddress::Ipc {
            uid: credentials.uid(),
            pid: credentials.pid(),
        };
        Ok(Stream {
            socket: Socket::Ipc(socket),
            peer,
            accepted: false,
        })
    }

    /// Marks the stream as one that was accepted, so that we are the server in its handshake. A
    /// [`Listener`](crate::Listener) does so.
    #[must_use]
    pub fn into_accepted(self) -> Stream {
        Stream { accepted: true, ..self }
    }

    /// The peer connected to us, not we to it.
    pub fn was_accepted(&self) -> bool {
        self.accepted
    }

    /// Who is at the other end.
    pub fn peer(&self) -> PeerAddress {
        self.peer
    }

    /// Waits until the socket can probably be read or written, as asked.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        on_socket!(self, socket => socket.ready(interest).await)
    }

    /// Waits until there is probably something to read.
    pub async fn readable(&self) -> io::Result<()> {
        on_socket!(self, socket => socket.readable().await)
    }

    /// Waits until there is probably room to write.
    pub async fn writable(&self) -> io::Result<()> {
        on_socket!(self, socket => socket.writable().await)
    }

    /// Reads what is there into `buffer`, at most what it has room for; 0 at the end of the stream, `WouldBlock` if
    /// nothing is there.
    pub fn try_read_buf<B: BufMut>(&self, buffer: &mut B) -> io::Result<usize> {
        on_socket!(self, socket => socket.try_read_buf(buffer))
    }

    /// Writes as much as there is room for; `WouldBlock` if there is none.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        on_socket!(self, socket => socket.try_write(bytes))
    }

    /// As [`try_write`](Self::try_write), from several places.
    pub fn try_write_vectored(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        on_socket!(self, socket => socket.try_write_vectored(bytes))
    }

    /// Sets the size of the kernel's send buffer, in bytes (which Linux doubles, and bounds by `net.core.wmem_max`).
    pub fn set_send_buffer(&self, bytes: usize) -> io::Result<()> {
        on_socket!(self, socket => SockRef::from(socket).set_send_buffer_size(bytes))
    }

    /// Has the kernel probe a silent peer after `idle` and close the connection after three unanswered probes, each a
    /// third of `idle` apart. No effect on a Unix domain socket, whose end is always seen.
    pub fn set_keepalive(&self, idle: Duration) -> io::Result<()> {
        match &self.socket {
            Socket::Ipc(_) => Ok(()),
            Socket::Tcp(socket) => {
                let interval = (idle / 3).max(Duration::from_secs(1));
                let keepalive = TcpKeepalive::new()
                    .with_time(idle)
                    .with_interval(interval)
                    .with_retries(3);
                SockRef::from(socket).set_tcp_keepalive(&keepalive)
            }
        }
    }

    /// Whether the peer's kernel acknowledges what we send, or our probes of its full window, or at least did so
    /// within this time. Always true of a Unix domain socket.
    pub fn host_answers(&self, within: Duration) -> bool {
        match &self.socket {
            Socket::Ipc(_) => true,
            Socket::Tcp(socket) => tcp_info::host_answers(socket, within),
        }
    }

    /// Whether the peer's kernel has acknowledged all that was written. On a Unix domain socket what is written is
    /// with the peer at once, so this is always true.
    pub fn is_acknowledged(&self) -> bool {
        match &self.socket {
            Socket::Ipc(_) => true,
            Socket::Tcp(socket) => tcp_info::is_acknowledged(socket),
        }
    }

    /// Says to the peer that nothing more is written.
    pub fn shutdown_write(&self) -> io::Result<()> {
        on_socket!(self, socket => SockRef::from(socket).shutdown(std::net::Shutdown::Write))
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Socket::Ipc(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_write(cx, buf),
            Socket::Ipc(socket) => Pin::new(socket).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Ipc(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}
