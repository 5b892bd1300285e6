//! What happens to a socket's connections (`zmq_socket_monitor(3)`).

use std::ffi::{CString, c_int};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};

use crate::Result;
use crate::ffi::RawSocket;

const ZMQ_PAIR: c_int = 0;
const ZMQ_RCVHWM: c_int = 24;
const ZMQ_EVENT_ALL: c_int = 0xFFFF;

/// One event of a socket's monitor. `endpoint` is the local or remote address, as libzmq writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorEvent {
    /// What happened.
    pub kind: MonitorEventKind,
    /// The number that comes with it: a file descriptor, an errno or an interval in ms.
    pub value: u32,
    /// The endpoint that it concerns.
    pub endpoint: String,
}

/// What a socket's monitor reports, by the names of `zmq_socket_monitor(3)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MonitorEventKind {
    Connected,
    ConnectDelayed,
    ConnectRetried,
    Listening,
    BindFailed,
    Accepted,
    AcceptFailed,
    Closed,
    CloseFailed,
    Disconnected,
    /// The socket is gone; nothing follows.
    MonitorStopped,
    HandshakeFailedNoDetail,
    HandshakeSucceeded,
    HandshakeFailedProtocol,
    HandshakeFailedAuth,
    /// A bit that libzmq 4.3.5 does not define.
    Unknown(u16),
}

impl From<u16> for MonitorEventKind {
    fn from(bit: u16) -> Self {
        match bit {
            0x0001 => Self::Connected,
            0x0002 => Self::ConnectDelayed,
            0x0004 => Self::ConnectRetried,
            0x0008 => Self::Listening,
            0x0010 => Self::BindFailed,
            0x0020 => Self::Accepted,
            0x0040 => Self::AcceptFailed,
            0x0080 => Self::Closed,
            0x0100 => Self::CloseFailed,
            0x0200 => Self::Disconnected,
            0x0400 => Self::MonitorStopped,
            0x0800 => Self::HandshakeFailedNoDetail,
            0x1000 => Self::HandshakeSucceeded,
            0x2000 => Self::HandshakeFailedProtocol,
            0x4000 => Self::HandshakeFailedAuth,
            other => Self::Unknown(other),
        }
    }
}

/// Reports the socket's events until it is closed.
///
/// libzmq's I/O thread writes the events itself, and would wait for ever for a reader that is gone. So a thread of ours
/// reads them all, whatever becomes of the `Receiver`. Events are few: one or two a connection.
pub(crate) fn start(socket: &RawSocket) -> Result<Receiver<MonitorEvent>> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let endpoint = format!("inproc://libzmq-peer.monitor.{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let endpoint = CString::new(endpoint).expect("no zero byte above");
    let reader = RawSocket::open(ZMQ_PAIR)?;
    reader.set(ZMQ_RCVHWM, &0_i32.to_ne_bytes())?;
    socket.monitor(Some(&endpoint), ZMQ_EVENT_ALL)?;
    reader.connect(&endpoint)?;
    let (events, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        while let Some(event) = read_event(&reader) {
            let last = event.kind == MonitorEventKind::MonitorStopped;
            let _ = events.send(event);
            if last {
                break;
            }
        }
    });
    Ok(receiver)
}

/// An event is two frames; numbers are in the machine's byte order.
///
/// ```text
/// +--------------+----------------+   +------------------+
/// | event, 16 bit| value, 32 bit  |   | endpoint, text   |
/// +--------------+----------------+   +------------------+
/// ```
fn read_event(reader: &RawSocket) -> Option<MonitorEvent> {
    let (head, _) = reader.recv(0).ok()?;
    let (endpoint, _) = reader.recv(0).ok()?;
    let (bit, value) = head.split_first_chunk::<2>()?;
    Some(MonitorEvent {
        kind: u16::from_ne_bytes(*bit).into(),
        value: u32::from_ne_bytes(*value.first_chunk::<4>()?),
        endpoint: String::from_utf8_lossy(&endpoint).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::MonitorEventKind::{Connected, Disconnected, HandshakeSucceeded, MonitorStopped};
    use super::*;
    use crate::{Kind, Socket, SocketOption};

    fn wait_for(events: &Receiver<MonitorEvent>, kind: MonitorEventKind) -> MonitorEvent {
        loop {
            let event = events.recv_timeout(Duration::from_secs(10)).unwrap();
            if event.kind == kind {
                return event;
            }
        }
    }

    #[test]
    fn a_connection_comes_and_goes() {
        let pull = Socket::new(Kind::Pull).unwrap();
        pull.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = pull.last_endpoint().unwrap();
        let push = Socket::new(Kind::Push).unwrap();
        let events = push.monitor().unwrap();
        push.connect(&endpoint).unwrap();
        assert_eq!(wait_for(&events, Connected).endpoint, endpoint);
        wait_for(&events, HandshakeSucceeded);
        drop(pull);
        wait_for(&events, Disconnected);
        push.set(SocketOption::Linger, 0).unwrap();
        drop(push);
        wait_for(&events, MonitorStopped);
        assert!(events.recv_timeout(Duration::from_secs(10)).is_err());
    }

    #[test]
    fn a_monitor_that_nobody_reads_stops_nothing() {
        let pull = Socket::new(Kind::Pull).unwrap();
        drop(pull.monitor().unwrap());
        pull.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = pull.last_endpoint().unwrap();
        for _ in 0..20 {
            let push = Socket::new(Kind::Push).unwrap();
            push.connect(&endpoint).unwrap();
            push.send(&["still here"]).unwrap();
            assert!(pull.recv_timeout(Duration::from_secs(10)).is_ok());
        }
    }
}
