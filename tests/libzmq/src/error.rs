//! What libzmq answers when a call fails.

use std::ffi::c_int;
use std::io;

/// The result of a call into libzmq.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call into libzmq failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// `EAGAIN`: nothing to receive, or no room to send, within the time allowed. Try again.
    Again,
    /// `EADDRINUSE`: somebody else is bound to this endpoint. Choose another.
    AddressInUse,
    /// `EINTR`: a signal arrived. Only seen inside this crate, which repeats the call.
    Interrupted,
    /// Anything else, with libzmq's number and its text for it.
    Other {
        /// The error number (`errno`, or one of libzmq's own above 156384712).
        code: i32,
        /// What `zmq_strerror` says.
        text: String,
    },
}

impl Error {
    pub(crate) fn from_code(code: c_int, text: String) -> Self {
        match io::Error::from_raw_os_error(code).kind() {
            io::ErrorKind::WouldBlock => Self::Again,
            io::ErrorKind::AddrInUse => Self::AddressInUse,
            io::ErrorKind::Interrupted => Self::Interrupted,
            _ => Self::Other { code, text },
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Again => f.write_str("nothing to receive, or no room to send, within the time allowed"),
            Self::AddressInUse => f.write_str("address already in use"),
            Self::Interrupted => f.write_str("interrupted by a signal"),
            Self::Other { code, text } => write!(f, "{text} (error {code})"),
        }
    }
}

impl std::error::Error for Error {}
