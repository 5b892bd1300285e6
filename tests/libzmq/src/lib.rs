//! libzmq 4.3.5 as an independent peer for lavabus's tests, examples and benches. Nothing that is shipped uses it.
//!
//! ```
//! use libzmq_peer::{Kind, Socket, SocketOption};
//! use std::time::Duration;
//!
//! # fn main() -> libzmq_peer::Result<()> {
//! let pull = Socket::new(Kind::Pull)?;
//! pull.bind("tcp://127.0.0.1:*")?;
//!
//! let push = Socket::new(Kind::Push)?;
//! push.set(SocketOption::HeartbeatIvl, 1_000)?;
//! push.connect(&pull.last_endpoint()?)?;
//! push.send(&["org.example.lab.device", "{}"])?;
//!
//! let frames = pull.recv_timeout(Duration::from_secs(10))?;
//! assert_eq!(frames, [b"org.example.lab.device".to_vec(), b"{}".to_vec()]);
//! # Ok(())
//! # }
//! ```
//!
//! | module | subject |
//! |---|---|
//! | `ffi` | the C functions, and all the unsafe code |
//! | `socket` | [`Socket`], its [`Kind`] and its [`SocketOption`]s |
//! | `monitor` | [`MonitorEvent`]s: connected, disconnected, … |
//! | `error` | [`Error`] |
//!
//! There is one context a process, with one I/O thread, and room for 16,384 sockets. It is never terminated.

mod error;
mod ffi;
mod monitor;
mod socket;

pub use error::{Error, Result};
pub use monitor::{MonitorEvent, MonitorEventKind};
pub use socket::{Kind, Socket, SocketOption};

/// The version of libzmq that is linked: major, minor, patch.
#[must_use]
pub fn version() -> (i32, i32, i32) {
    ffi::version()
}

#[cfg(test)]
mod tests {
    #[test]
    fn version() {
        assert_eq!(super::version(), (4, 3, 5));
    }
}
