//! A socket: open, bind or connect, send and receive whole messages.

use std::ffi::{CString, c_int};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use crate::ffi::{RawSocket, ZMQ_DONTWAIT, ZMQ_SNDMORE};
use crate::monitor::{self, MonitorEvent};
use crate::{Error, Result};

const ZMQ_ROUTING_ID: c_int = 5;
const ZMQ_SUBSCRIBE: c_int = 6;
const ZMQ_UNSUBSCRIBE: c_int = 7;
const ZMQ_LAST_ENDPOINT: c_int = 32;

/// The type of a socket, by the number that `zmq.h` gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Pair = 0,
    Pub = 1,
    Sub = 2,
    Req = 3,
    Rep = 4,
    Dealer = 5,
    Router = 6,
    Pull = 7,
    Push = 8,
    XPub = 9,
    XSub = 10,
    Stream = 11,
}

/// The socket options with an integer value (`zmq_setsockopt(3)`). Set them before `bind` or `connect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketOption {
    /// The kernel's send buffer, in bytes; -1: the system's default.
    SndBuf = 11,
    /// The kernel's receive buffer, in bytes; -1: the system's default.
    RcvBuf = 12,
    /// How long unsent messages live after the socket is dropped, in ms; -1: for ever (the default), 0: not at all.
    Linger = 17,
    /// Wait before the first reconnect, in ms (default 100); -1: never reconnect.
    ReconnectIvl = 18,
    /// The longest wait between reconnects, in ms; 0: always `ReconnectIvl`.
    ReconnectIvlMax = 21,
    /// Messages queued for one peer before sending blocks or drops (default 1,000); 0: no limit.
    SndHwm = 23,
    /// Messages queued from one peer before reading from it stops (default 1,000); 0: no limit.
    RcvHwm = 24,
    /// How long `recv` waits, in ms; -1: for ever (the default).
    RcvTimeo = 27,
    /// How long `send` waits, in ms; -1: for ever (the default).
    SndTimeo = 28,
    /// 1: queue messages only for peers whose connection is complete.
    Immediate = 39,
    /// 1: an XPUB receives repeated subscriptions too.
    XPubVerbose = 40,
    /// 1: IPv6 as well as IPv4.
    Ipv6 = 42,
    /// The longest handshake, in ms (default 30,000).
    HandshakeIvl = 66,
    /// 1: an XPUB that reached its high-water mark refuses to send, in place of dropping.
    XPubNoDrop = 69,
    /// Time between two PINGs, in ms; 0: none (the default).
    HeartbeatIvl = 75,
    /// Time after which the *peer* shall give up when it hears no PING, in ms (sent in PING; a multiple of 100).
    HeartbeatTtl = 76,
    /// Time without traffic after a PING that ends the connection, in ms; -1: as `HeartbeatIvl`.
    HeartbeatTimeout = 77,
}

/// A blocking libzmq socket. It may be sent to another thread, but not shared.
///
/// Dropping it closes it. What is not sent yet goes on in the background for as long as [`SocketOption::Linger`] says,
/// and is lost at the end of the process.
pub struct Socket {
    raw: RawSocket,
}

impl Socket {
    /// Opens a socket in the context of this process.
    ///
    /// # Errors
    /// [`Error::Other`] when the process has no descriptors left.
    pub fn new(kind: Kind) -> Result<Self> {
        Ok(Self {
            raw: RawSocket::open(kind as c_int)?,
        })
    }

    /// Listens at `tcp://…`, `ipc://…` or `inproc://…`. A port `*` or 0 is chosen by the system: see
    /// [`last_endpoint`](Self::last_endpoint).
    ///
    /// # Errors
    /// [`Error::AddressInUse`]; [`Error::Other`] for an endpoint that libzmq cannot read.
    pub fn bind(&self, endpoint: &str) -> Result<()> {
        self.raw.bind(&c_string(endpoint)?)
    }

    /// Stops to listen at an endpoint, which must be written as [`last_endpoint`](Self::last_endpoint) gave it.
    ///
    /// # Errors
    /// [`Error::Other`] when the socket was not bound to it.
    pub fn unbind(&self, endpoint: &str) -> Result<()> {
        self.raw.unbind(&c_string(endpoint)?)
    }

    /// Connects in the background, and again whenever the connection is lost. Returns at once.
    ///
    /// # Errors
    /// [`Error::Other`] for an endpoint that libzmq cannot read.
    pub fn connect(&self, endpoint: &str) -> Result<()> {
        self.raw.connect(&c_string(endpoint)?)
    }

    /// Ends the connection to an endpoint.
    ///
    /// # Errors
    /// [`Error::Other`] when the socket was not connected to it.
    pub fn disconnect(&self, endpoint: &str) -> Result<()> {
        self.raw.disconnect(&c_string(endpoint)?)
    }

    /// The endpoint of the last `bind`, with the port that the system chose.
    ///
    /// # Errors
    /// [`Error::Other`] should libzmq refuse the question.
    pub fn last_endpoint(&self) -> Result<String> {
        let mut value = [0; 512];
        let len = self.raw.get(ZMQ_LAST_ENDPOINT, &mut value)?;
        // The length counts the zero byte at the end.
        Ok(String::from_utf8_lossy(&value[..len.saturating_sub(1)]).into_owned())
    }

    /// Sets an option with an integer value.
    ///
    /// # Errors
    /// [`Error::Other`] (`EINVAL`) for a value that the option does not take.
    pub fn set(&self, option: SocketOption, value: i32) -> Result<()> {
        self.raw.set(option as c_int, &value.to_ne_bytes())
    }

    /// Sets the Identity that this socket announces to its peers, 1 to 255 bytes.
    ///
    /// # Errors
    /// [`Error::Other`] (`EINVAL`) for another length.
    pub fn set_routing_id(&self, identity: &[u8]) -> Result<()> {
        self.raw.set(ZMQ_ROUTING_ID, identity)
    }

    /// SUB only: asks for messages whose first frame begins with `prefix`.
    ///
    /// # Errors
    /// [`Error::Other`] on a socket of another kind.
    pub fn subscribe(&self, prefix: &[u8]) -> Result<()> {
        self.raw.set(ZMQ_SUBSCRIBE, prefix)
    }

    /// SUB only: takes back one [`subscribe`](Self::subscribe) of the same prefix.
    ///
    /// # Errors
    /// [`Error::Other`] on a socket of another kind.
    pub fn unsubscribe(&self, prefix: &[u8]) -> Result<()> {
        self.raw.set(ZMQ_UNSUBSCRIBE, prefix)
    }

    /// Sends one message of one or more frames; waits for room, at most [`SocketOption::SndTimeo`].
    ///
    /// # Errors
    /// [`Error::Again`] when there was no room in time (a PUB never says this: it drops).
    pub fn send<F: AsRef<[u8]>>(&self, frames: &[F]) -> Result<()> {
        self.send_frames(frames, 0)
    }

    /// As [`send`](Self::send), but does not wait at all. LAVA's web processes send their events so.
    ///
    /// # Errors
    /// [`Error::Again`] when there is no room.
    pub fn try_send<F: AsRef<[u8]>>(&self, frames: &[F]) -> Result<()> {
        self.send_frames(frames, ZMQ_DONTWAIT)
    }

    fn send_frames<F: AsRef<[u8]>>(&self, frames: &[F], flags: c_int) -> Result<()> {
        for (index, frame) in frames.iter().enumerate() {
            let more = if index + 1 < frames.len() { ZMQ_SNDMORE } else { 0 };
            self.raw.send(frame.as_ref(), flags | more)?;
        }
        Ok(())
    }

    /// Receives one message; waits at most [`SocketOption::RcvTimeo`].
    ///
    /// # Errors
    /// [`Error::Again`] when none came in time.
    pub fn recv(&self) -> Result<Vec<Vec<u8>>> {
        self.recv_frames(0)
    }

    /// Receives one message; waits at most `timeout`. With [`Duration::ZERO`] it takes what is there.
    ///
    /// # Errors
    /// [`Error::Again`] when none came in time.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Vec<Vec<u8>>> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, so that the last millisecond is not spent in a busy loop.
            let left_ms = i64::try_from(left.as_micros().div_ceil(1_000)).unwrap_or(i64::MAX);
            match self.raw.poll_in(left_ms) {
                Ok(true) => return self.recv_frames(ZMQ_DONTWAIT),
                Ok(false) if Instant::now() >= deadline => return Err(Error::Again),
                Ok(false) | Err(Error::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn recv_frames(&self, flags: c_int) -> Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        loop {
            let (frame, more) = self.raw.recv(flags)?;
            frames.push(frame);
            if !more {
                return Ok(frames);
            }
        }
    }

    /// Starts to report what happens to this socket's connections. Call it before `bind` or `connect` to miss nothing;
    /// a second call ends the first.
    ///
    /// # Errors
    /// [`Error::Other`] when the process has no descriptors left.
    pub fn monitor(&self) -> Result<Receiver<MonitorEvent>> {
        monitor::start(&self.raw)
    }
}

fn c_string(endpoint: &str) -> Result<CString> {
    CString::new(endpoint).map_err(|_| Error::Other {
        code: 22,
        text: "zero byte in the endpoint".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    fn pair(sender: Kind, receiver: Kind, endpoint: &str) -> (Socket, Socket) {
        let (sender, receiver) = (Socket::new(sender).unwrap(), Socket::new(receiver).unwrap());
        receiver.bind(endpoint).unwrap();
        sender.connect(&receiver.last_endpoint().unwrap()).unwrap();
        (sender, receiver)
    }

    #[test]
    fn multipart_over_tcp_with_a_port_chosen_by_the_system() {
        let (push, pull) = pair(Kind::Push, Kind::Pull, "tcp://127.0.0.1:*");
        assert!(!pull.last_endpoint().unwrap().ends_with(['*', '\0']));
        let long = vec![7; 70_000];
        push.send(&[&b""[..], b"two", &long]).unwrap();
        assert_eq!(pull.recv_timeout(LONG).unwrap(), [b"".to_vec(), b"two".to_vec(), long]);
    }

    #[test]
    fn multipart_over_ipc() {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = format!("ipc://{}", folder.path().join("socket").display());
        let (push, pull) = pair(Kind::Push, Kind::Pull, &endpoint);
        push.send(&["a", "b"]).unwrap();
        assert_eq!(pull.recv().unwrap(), [b"a", b"b"]);
    }

    #[test]
    fn multipart_over_ipv6() {
        let (push, pull) = (Socket::new(Kind::Push).unwrap(), Socket::new(Kind::Pull).unwrap());
        for socket in [&push, &pull] {
            socket.set(SocketOption::Ipv6, 1).unwrap();
        }
        if pull.bind("tcp://[::1]:*").is_err() {
            return; // A machine without IPv6.
        }
        push.connect(&pull.last_endpoint().unwrap()).unwrap();
        push.send(&["six"]).unwrap();
        assert_eq!(pull.recv_timeout(LONG).unwrap(), [b"six"]);
    }

    #[test]
    fn subscriptions_reach_an_xpub_and_choose_messages() {
        let (sub, publisher) = pair(Kind::Sub, Kind::XPub, "tcp://127.0.0.1:*");
        sub.subscribe(b"lab.").unwrap();
        assert_eq!(publisher.recv_timeout(LONG).unwrap(), [b"\x01lab."]);
        publisher.send(&["other", "1"]).unwrap();
        publisher.send(&["lab.device", "2"]).unwrap();
        assert_eq!(sub.recv_timeout(LONG).unwrap(), [b"lab.device".to_vec(), b"2".to_vec()]);
        sub.unsubscribe(b"lab.").unwrap();
        assert_eq!(publisher.recv_timeout(LONG).unwrap(), [b"\x00lab."]);
    }

    #[test]
    fn a_router_sees_the_identity_of_a_dealer() {
        let (dealer, router) = (Socket::new(Kind::Dealer).unwrap(), Socket::new(Kind::Router).unwrap());
        router.bind("tcp://127.0.0.1:*").unwrap();
        dealer.set_routing_id(b"rack-7").unwrap();
        dealer.connect(&router.last_endpoint().unwrap()).unwrap();
        dealer.send(&["hello"]).unwrap();
        assert_eq!(
            router.recv_timeout(LONG).unwrap(),
            [b"rack-7".to_vec(), b"hello".to_vec()]
        );
    }

    #[test]
    fn an_empty_socket_says_again() {
        let pull = Socket::new(Kind::Pull).unwrap();
        assert_eq!(pull.recv_timeout(Duration::ZERO), Err(Error::Again));
        assert_eq!(pull.recv_timeout(Duration::from_millis(3)), Err(Error::Again));
        pull.set(SocketOption::RcvTimeo, 3).unwrap();
        assert_eq!(pull.recv(), Err(Error::Again));
    }

    #[test]
    fn a_push_without_a_peer_says_again_unless_it_may_queue() {
        let push = Socket::new(Kind::Push).unwrap();
        assert_eq!(push.try_send(&["nobody"]), Err(Error::Again));
        push.set(SocketOption::SndHwm, 2).unwrap();
        push.set(SocketOption::SndTimeo, 3).unwrap();
        push.set(SocketOption::Linger, 0).unwrap();
        push.connect("tcp://127.0.0.1:1").unwrap();
        push.send(&["one"]).unwrap();
        push.send(&["two"]).unwrap();
        assert_eq!(push.send(&["three"]), Err(Error::Again));
    }

    #[test]
    fn immediate_queues_nothing_before_the_connection_is_there() {
        let push = Socket::new(Kind::Push).unwrap();
        push.set(SocketOption::Immediate, 1).unwrap();
        push.connect("tcp://127.0.0.1:1").unwrap();
        assert_eq!(push.try_send(&["one"]), Err(Error::Again));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let first = Socket::new(Kind::Pull).unwrap();
        first.bind("tcp://127.0.0.1:*").unwrap();
        let second = Socket::new(Kind::Pull).unwrap();
        assert_eq!(second.bind(&first.last_endpoint().unwrap()), Err(Error::AddressInUse));
        assert!(matches!(second.bind("carrier-pigeon://roof"), Err(Error::Other { .. })));
        assert!(matches!(second.connect("tcp://\0"), Err(Error::Other { code: 22, .. })));
        let error = second.subscribe(b"").unwrap_err();
        assert_eq!(error.to_string(), "Invalid argument (error 22)");
    }

    #[test]
    fn every_option_is_taken() {
        use SocketOption::*;
        let xpub = Socket::new(Kind::XPub).unwrap();
        for option in [
            SndBuf,
            RcvBuf,
            Linger,
            ReconnectIvl,
            ReconnectIvlMax,
            SndHwm,
            RcvHwm,
            RcvTimeo,
            SndTimeo,
            Immediate,
            XPubVerbose,
            Ipv6,
            HandshakeIvl,
            XPubNoDrop,
            HeartbeatIvl,
            HeartbeatTtl,
            HeartbeatTimeout,
        ] {
            xpub.set(option, 1)
                .unwrap_or_else(|error| panic!("{option:?}: {error}"));
        }
    }

    #[test]
    fn a_socket_moves_between_threads() {
        let (push, pull) = pair(Kind::Push, Kind::Pull, "inproc://a-socket-moves");
        std::thread::spawn(move || push.send(&["moved"]).unwrap())
            .join()
            .unwrap();
        assert_eq!(pull.recv_timeout(LONG).unwrap(), [b"moved"]);
    }
}
