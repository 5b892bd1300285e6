//! What PULL, PUSH and SUB connections have in common: reading, writing, and answering for our being alive.

use crate::command::{Command, MAX_CONTEXT};
use crate::decoder::{DecodeError, Decoder, Item};
use crate::endpoint::Endpoint;
use crate::handshake::{HandshakeError, Peer, handshake};
use crate::heartbeat::{Action, Heartbeat, HeartbeatConfig};
use crate::limits::Limits;
use crate::message::MessageRun;
use crate::socket_type::SocketType;
use crate::stream::{PeerAddress, Stream};
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use std::time::{Duration, Instant};
use tokio::io::Interest;

/// One read takes between these many bytes, adapting to how much comes.
const SMALLEST_READ: usize = 4 * 1024;
const LARGEST_READ: usize = 256 * 1024;
/// While more of our PONGs than this wait to be written, the peer is not read from.
const MAX_WAITING_ANSWERS: usize = 64 * 1024;

/// What a PULL or SUB connection received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// Whole messages, in order.
    Messages(MessageRun),
    /// A message beyond the [`Limits`] was read over.
    Oversize {
        /// Its length with all headers, in bytes.
        bytes: u64,
        /// Its first bytes as they came, headers included, at most 4 KiB.
        head: Bytes,
    },
    /// The peer closed or reset the connection, between two messages.
    Closed,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The peer broke the protocol or a limit.
    #[error("the peer broke the protocol: {0}")]
    Decode(#[from] DecodeError),
    /// The peer closed the connection.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer closed the connection in the middle of a message, which is dropped.
    #[error("the peer closed the connection in the middle of a message")]
    ClosedInMessage,
    /// The peer sent an ERROR command.
    #[error("the peer refused us: {0}")]
    Refused(String),
    /// Nothing was heard of the peer within the heartbeat's timeout, and its machine does not answer either.
    #[error("the peer is dead: it answers no heartbeat")]
    Dead,
    /// The peer is there, but has taken or answered nothing for [`HeartbeatConfig::stalled_timeout`].
    #[error("the peer is stalled: it has taken nothing for too long")]
    Stalled,
    /// The peer did not confirm in time that it has received all.
    #[error("the peer has not confirmed within {0:?} that it received all")]
    Unconfirmed(Duration),
    /// The socket failed.
    #[error("connection lost: {0}")]
    Io(#[from] io::Error),
}

/// How to connect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectOptions {
    /// What the peer may cost us.
    pub limits: Limits,
    /// How the connection is watched.
    pub heartbeat: HeartbeatConfig,
    /// Size of the kernel's send buffer in bytes; `None`: the system's choice.
    pub send_buffer: Option<usize>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there.
    #[error("nobody listens on {endpoint}: {source}")]
    Refused {
        /// The endpoint asked for.
        endpoint: Endpoint,
        /// The system's error: refused, or no such socket file.
        source: io::Error,
    },
    /// Neither yes nor no within the time allowed.
    #[error("no connection to {endpoint} within {timeout:?}")]
    Timeout {
        /// The endpoint asked for.
        endpoint: Endpoint,
        /// The time allowed.
        timeout: Duration,
    },
    /// Somebody listens there who is not the peer that we need.
    #[error("{endpoint}: {source}")]
    Handshake {
        /// The endpoint asked for.
        endpoint: Endpoint,
        /// What went wrong.
        source: HandshakeError,
    },
    /// Any other failure, such as an unknown host name or a missing permission.
    #[error("cannot connect to {endpoint}: {source}")]
    Io {
        /// The endpoint asked for.
        endpoint: Endpoint,
        /// The system's error.
        source: io::Error,
    },
}

/// What happened on a connection.
#[derive(Debug)]
pub(crate) enum Event {
    Received(Received),
    /// A PONG with this context.
    Pong(Bytes),
    /// Something that waited to be written was written.
    Written,
}

/// A connection after its handshake. All its state is in here, so that [`Connection::next`] may be cancelled.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    peer: Peer,
    decoder: Decoder,
    incoming: BytesMut,
    read_size: usize,
    /// The socket may have something to read.
    readable: bool,
    outgoing: BytesMut,
    /// How many bytes of PONGs went into `outgoing` since it was last empty.
    waiting_answers: usize,
    /// Writing failed; what the peer sent before is read all the same.
    write_error: Option<io::Error>,
    heartbeat: Heartbeat,
}

impl Connection {
    /// Connects to `endpoint`, handshake included, all within `timeout`.
    pub(crate) async fn connect(
        endpoint: &Endpoint,
        ours: SocketType,
        options: &ConnectOptions,
        timeout: Duration,
    ) -> Result<Connection, ConnectError> {
        let connecting = async {
            let stream = Stream::connect(endpoint)
                .await
                .map_err(|source| connect_error(endpoint, source))?;
            if let Some(bytes) = options.send_buffer {
                stream
                    .set_send_buffer(bytes)
                    .map_err(|source| connect_error(endpoint, source))?;
            }
            Connection::open(stream, ours, &options.limits, &options.heartbeat)
                .await
                .map_err(|source| ConnectError::Handshake {
                    endpoint: endpoint.clone(),
                    source,
                })
        };
        match tokio::time::timeout(timeout, connecting).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::Timeout {
                endpoint: endpoint.clone(),
                timeout,
            }),
        }
    }

    /// Does the handshake on a connected stream.
    pub(crate) async fn open(
        mut stream: Stream,
        ours: SocketType,
        limits: &Limits,
        heartbeat: &HeartbeatConfig,
    ) -> Result<Connection, HandshakeError> {
        let peer = handshake(&mut stream, ours, limits).await?;
        Connection::after_handshake(stream, peer, limits, heartbeat).map_err(HandshakeError::Io)
    }

    /// A connection whose handshake is done.
    pub(crate) fn after_handshake(
        stream: Stream,
        mut peer: Peer,
        limits: &Limits,
        heartbeat: &HeartbeatConfig,
    ) -> io::Result<Connection> {
        let heartbeat = Heartbeat::new(heartbeat.clone(), peer.minor, now());
        Ok(Connection {
            decoder: Decoder::new(limits.clone()),
            incoming: std::mem::take(&mut peer.leftover),
            read_size: SMALLEST_READ * 2,
            readable: false,
            outgoing: BytesMut::new(),
            waiting_answers: 0,
            write_error: None,
            heartbeat,
            stream,
            peer,
        })
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(crate) fn address(&self) -> PeerAddress {
        self.stream.peer()
    }

    /// Bytes are here that have not been given out.
    pub(crate) fn has_buffered(&self) -> bool {
        !self.incoming.is_empty()
    }

    /// How many bytes wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.outgoing.len()
    }

    /// What is appended here is written by [`write`](Self::write) and [`next`](Self::next).
    pub(crate) fn outgoing(&mut self) -> &mut BytesMut {
        &mut self.outgoing
    }

    /// Appends a PING with this context.
    pub(crate) fn queue_ping(&mut self, context: Bytes) {
        let ttl = self.heartbeat.ttl();
        Command::Ping { ttl, context }.encode(&mut self.outgoing);
    }

    /// Whether the peer's kernel has all that was written.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.outgoing.is_empty() && self.stream.is_acknowledged()
    }

    /// Waits for the next thing that the application is to know. Cancel-safe.
    pub(crate) async fn receive(&mut self) -> Result<Received, ConnectionError> {
        loop {
            match self.next().await {
                Ok(Event::Received(received)) => return Ok(received),
                Ok(Event::Pong(_) | Event::Written) => {}
                // A peer that leaves without reading our last PING resets the connection: no fault of a receiver's.
                Err(ConnectionError::Io(error)) if is_end(&error) => {
                    if self.decoder.is_between_messages(&self.incoming) {
                        return Ok(Received::Closed);
                    }
                    return Err(ConnectionError::ClosedInMessage);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for the next thing to happen. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Event, ConnectionError> {
        loop {
            match self.decoder.decode(&mut self.incoming)? {
                Some(Item::Messages(run)) => return Ok(Event::Received(Received::Messages(run))),
                Some(Item::Oversize { bytes, head }) => return Ok(Event::Received(Received::Oversize { bytes, head })),
                Some(Item::Command(command)) => match self.on_command(command)? {
                    Some(event) => return Ok(event),
                    None => continue,
                },
                None => {}
            }
            tokio::task::coop::consume_budget().await;
            if self.write() {
                return Ok(Event::Written);
            }
            let may_read = self.waiting_answers <= MAX_WAITING_ANSWERS;
            if may_read && self.readable {
                match self.read()? {
                    Some(0) if self.decoder.is_between_messages(&self.incoming) => {
                        return Ok(Event::Received(Received::Closed));
                    }
                    Some(0) => return Err(ConnectionError::ClosedInMessage),
                    Some(_) => continue,
                    None => {}
                }
            }
            let host_answers = |within| self.stream.host_answers(within);
            match self.heartbeat.poll(now(), host_answers) {
                Action::SendPing => {
                    self.queue_ping(Bytes::new());
                    self.write();
                }
                Action::Dead => return Err(ConnectionError::Dead),
                Action::Stalled => return Err(ConnectionError::Stalled),
                Action::None => {}
            }
            if let Some(error) = self.write_error.take_if(|_| !self.readable) {
                return Err(error.into());
            }
            if self.write_error.is_some() {
                // What the peer sent before it went is read first.
                continue;
            }
            self.release_buffers();
            let mut interest = Interest::WRITABLE;
            if self.outgoing.is_empty() {
                interest = Interest::READABLE;
            } else if may_read {
                interest |= Interest::READABLE;
            }
            tokio::select! {
                ready = self.stream.ready(interest) => self.readable |= !ready?.is_writable() || may_read,
                () = sleep_until(self.heartbeat.next_deadline()) => {}
            }
        }
    }

    fn on_command(&mut self, command: Command) -> Result<Option<Event>, ConnectionError> {
        match command {
            Command::Ping { ttl, context } => {
                self.heartbeat.on_ping(now(), ttl);
                if self.write_error.is_none() {
                    Command::Pong { context }.encode(&mut self.outgoing);
                    self.waiting_answers += MAX_CONTEXT;
                }
                Ok(None)
            }
            Command::Pong { context } => Ok(Some(Event::Pong(context))),
            Command::Error { reason } => Err(ConnectionError::Refused(String::from_utf8_lossy(&reason).into_owned())),
            Command::Ready(_) | Command::Subscribe(_) | Command::Cancel(_) | Command::Unknown { .. } => Ok(None),
        }
    }

    /// Reads once. 0 is the end of the stream, `None` that nothing is there.
    fn read(&mut self) -> io::Result<Option<usize>> {
        if self.incoming.capacity() - self.incoming.len() < self.read_size / 2 {
            self.incoming.reserve(self.read_size);
        }
        match self.stream.try_read_buf(&mut self.incoming) {
            Ok(count) => {
                self.heartbeat.on_received(now());
                if count >= self.read_size / 2 {
                    self.read_size = (self.read_size * 2).min(LARGEST_READ);
                } else if count < self.read_size / 8 {
                    self.read_size = (self.read_size / 2).max(SMALLEST_READ);
                }
                Ok(Some(count))
            }
            Err(error) if is_wait(&error) => {
                self.readable = false;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes what waits, as far as there is room. An error means that some of it is lost.
    pub(crate) fn try_write(&mut self) -> Result<(), ConnectionError> {
        self.write();
        match self.write_error.take() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Writes what waits, as far as there is room; whether anything was written. An error is kept for
    /// [`next`](Self::next), which reads first what the peer sent before it went.
    pub(crate) fn write(&mut self) -> bool {
        let mut written = false;
        while !self.outgoing.is_empty() {
            match self.stream.try_write(&self.outgoing) {
                Ok(count) => {
                    self.outgoing.advance(count);
                    self.heartbeat.on_write_progress(now());
                    written = true;
                }
                Err(error) if is_wait(&error) => {
                    self.heartbeat.on_write_blocked(now());
                    return written;
                }
                Err(error) => {
                    self.write_error = Some(error);
                    self.readable = true;
                    self.outgoing.clear();
                    self.heartbeat.on_write_progress(now());
                }
            }
        }
        self.waiting_answers = 0;
        written
    }

    /// Waits until fewer than `bytes` wait to be written, without reading. Cancel-safe.
    pub(crate) async fn write_down_to(&mut self, bytes: usize) -> Result<(), ConnectionError> {
        loop {
            self.try_write()?;
            if self.outgoing.len() <= bytes {
                return Ok(());
            }
            let host_answers = |within| self.stream.host_answers(within);
            match self.heartbeat.poll(now(), host_answers) {
                Action::Dead => return Err(ConnectionError::Dead),
                Action::Stalled => return Err(ConnectionError::Stalled),
                Action::SendPing => self.queue_ping(Bytes::new()),
                Action::None => {}
            }
            tokio::select! {
                ready = self.stream.writable() => ready?,
                () = sleep_until(self.heartbeat.next_deadline()) => {}
            }
        }
    }

    /// An idle connection holds no buffers, and one with a started message not much more than that.
    fn release_buffers(&mut self) {
        if self.incoming.is_empty() {
            self.incoming = BytesMut::new();
        } else if self.incoming.capacity() > 4 * self.incoming.len() + SMALLEST_READ {
            self.incoming = BytesMut::from(&self.incoming[..]);
        }
        if self.outgoing.is_empty() {
            self.outgoing = BytesMut::new();
        }
    }
}

fn connect_error(endpoint: &Endpoint, source: io::Error) -> ConnectError {
    let endpoint = endpoint.clone();
    match source.kind() {
        io::ErrorKind::ConnectionRefused => ConnectError::Refused { endpoint, source },
        io::ErrorKind::NotFound if matches!(endpoint, Endpoint::Ipc { .. }) => {
            ConnectError::Refused { endpoint, source }
        }
        _ => ConnectError::Io { endpoint, source },
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

fn is_wait(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The runtime's clock, which tests may stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
