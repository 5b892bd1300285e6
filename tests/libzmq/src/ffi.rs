//! The declarations of libzmq's C functions, and the only unsafe code of this crate.
//!
//! What is declared follows `zmq.h` of libzmq 4.3.5 (the manual pages are `zmq_socket(3)` and so on).

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_long, c_short, c_void};
use std::ptr::NonNull;
use std::sync::OnceLock;

use crate::{Error, Result};

/// `zmq_msg_t`: 64 bytes that only libzmq reads, aligned as a pointer.
#[repr(C, align(8))]
struct RawMessage {
    opaque: [u8; 64],
}

/// `zmq_pollitem_t`, as it is outside Windows.
#[repr(C)]
struct PollItem {
    socket: *mut c_void,
    fd: c_int,
    events: c_short,
    revents: c_short,
}

unsafe extern "C" {
    fn zmq_errno() -> c_int;
    fn zmq_strerror(errnum: c_int) -> *const c_char;
    fn zmq_version(major: *mut c_int, minor: *mut c_int, patch: *mut c_int);
    fn zmq_ctx_new() -> *mut c_void;
    fn zmq_ctx_set(context: *mut c_void, option: c_int, value: c_int) -> c_int;
    fn zmq_socket(context: *mut c_void, kind: c_int) -> *mut c_void;
    fn zmq_close(socket: *mut c_void) -> c_int;
    fn zmq_setsockopt(socket: *mut c_void, option: c_int, value: *const c_void, len: usize) -> c_int;
    fn zmq_getsockopt(socket: *mut c_void, option: c_int, value: *mut c_void, len: *mut usize) -> c_int;
    fn zmq_bind(socket: *mut c_void, endpoint: *const c_char) -> c_int;
    fn zmq_unbind(socket: *mut c_void, endpoint: *const c_char) -> c_int;
    fn zmq_connect(socket: *mut c_void, endpoint: *const c_char) -> c_int;
    fn zmq_disconnect(socket: *mut c_void, endpoint: *const c_char) -> c_int;
    fn zmq_send(socket: *mut c_void, data: *const c_void, len: usize, flags: c_int) -> c_int;
    fn zmq_msg_init(message: *mut RawMessage) -> c_int;
    fn zmq_msg_recv(message: *mut RawMessage, socket: *mut c_void, flags: c_int) -> c_int;
    fn zmq_msg_data(message: *mut RawMessage) -> *mut c_void;
    fn zmq_msg_size(message: *const RawMessage) -> usize;
    fn zmq_msg_more(message: *const RawMessage) -> c_int;
    fn zmq_msg_close(message: *mut RawMessage) -> c_int;
    fn zmq_poll(items: *mut PollItem, count: c_int, timeout_ms: c_long) -> c_int;
    fn zmq_socket_monitor(socket: *mut c_void, endpoint: *const c_char, events: c_int) -> c_int;
}

const ZMQ_MAX_SOCKETS: c_int = 2;
const ZMQ_POLLIN: c_short = 1;
pub(crate) const ZMQ_DONTWAIT: c_int = 1;
pub(crate) const ZMQ_SNDMORE: c_int = 2;

/// More than libzmq's own 1,023, since a bench opens a thousand subscribers in one process.
const MAX_SOCKETS: c_int = 16_384;

/// libzmq's version: major, minor, patch.
pub(crate) fn version() -> (i32, i32, i32) {
    let (mut major, mut minor, mut patch) = (0, 0, 0);
    // SAFETY: three valid pointers to integers, written before the call returns.
    unsafe { zmq_version(&mut major, &mut minor, &mut patch) };
    (major, minor, patch)
}

/// The text that libzmq has for an error number.
fn error_text(code: c_int) -> String {
    // SAFETY: zmq_strerror returns a C string for any number; it is copied at once, before another call may change it.
    unsafe { CStr::from_ptr(zmq_strerror(code)) }
        .to_string_lossy()
        .into_owned()
}

fn last_error() -> Error {
    // SAFETY: reads this thread's errno.
    let code = unsafe { zmq_errno() };
    Error::from_code(code, error_text(code))
}

fn check(rc: c_int) -> Result<()> {
    if rc < 0 { Err(last_error()) } else { Ok(()) }
}

/// The one context of this process. It is never terminated, so dropping a socket never blocks.
struct Context(NonNull<c_void>);

// SAFETY: "A ZMQ context is thread safe" (zmq_ctx_new(3)).
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

fn context() -> &'static Context {
    static CONTEXT: OnceLock<Context> = OnceLock::new();
    CONTEXT.get_or_init(|| {
        // SAFETY: no arguments; null (out of memory or descriptors) is checked.
        let context = NonNull::new(unsafe { zmq_ctx_new() }).expect("libzmq can make a context");
        // SAFETY: the context is valid; a refused number leaves libzmq's default.
        unsafe { zmq_ctx_set(context.as_ptr(), ZMQ_MAX_SOCKETS, MAX_SOCKETS) };
        Context(context)
    })
}

/// An open libzmq socket, closed when dropped.
pub(crate) struct RawSocket(NonNull<c_void>);

// SAFETY: a socket may move to another thread when the move is a full memory fence (zmq_socket(3)); a Rust move between
// threads always is. It is not Sync: two threads may not use it at once.
unsafe impl Send for RawSocket {}

impl RawSocket {
    pub(crate) fn open(kind: c_int) -> Result<Self> {
        // SAFETY: the context is valid for the life of the process; null is checked.
        NonNull::new(unsafe { zmq_socket(context().0.as_ptr(), kind) })
            .map(Self)
            .ok_or_else(last_error)
    }

    pub(crate) fn bind(&self, endpoint: &CStr) -> Result<()> {
        // SAFETY: an open socket and a C string (so in the three functions that follow).
        check(unsafe { zmq_bind(self.0.as_ptr(), endpoint.as_ptr()) })
    }

    pub(crate) fn unbind(&self, endpoint: &CStr) -> Result<()> {
        // SAFETY: see `bind`.
        check(unsafe { zmq_unbind(self.0.as_ptr(), endpoint.as_ptr()) })
    }

    pub(crate) fn connect(&self, endpoint: &CStr) -> Result<()> {
        // SAFETY: see `bind`.
        check(unsafe { zmq_connect(self.0.as_ptr(), endpoint.as_ptr()) })
    }

    pub(crate) fn disconnect(&self, endpoint: &CStr) -> Result<()> {
        // SAFETY: see `bind`.
        check(unsafe { zmq_disconnect(self.0.as_ptr(), endpoint.as_ptr()) })
    }

    pub(crate) fn set(&self, option: c_int, value: &[u8]) -> Result<()> {
        // SAFETY: libzmq copies `len` bytes from the pointer, and refuses a length that does not fit the option.
        check(unsafe { zmq_setsockopt(self.0.as_ptr(), option, value.as_ptr().cast(), value.len()) })
    }

    /// Writes the option's value to the start of `value` and returns its length.
    pub(crate) fn get(&self, option: c_int, value: &mut [u8]) -> Result<usize> {
        let mut len = value.len();
        // SAFETY: libzmq writes at most `len` bytes and sets `len` to what it wrote.
        check(unsafe { zmq_getsockopt(self.0.as_ptr(), option, value.as_mut_ptr().cast(), &mut len) })?;
        Ok(len)
    }

    pub(crate) fn send(&self, frame: &[u8], flags: c_int) -> Result<()> {
        loop {
            // SAFETY: libzmq copies `len` bytes from the pointer before it returns.
            let sent = check(unsafe { zmq_send(self.0.as_ptr(), frame.as_ptr().cast(), frame.len(), flags) });
            if !matches!(sent, Err(Error::Interrupted)) {
                return sent;
            }
        }
    }

    /// Receives one frame, and tells whether another of the same message follows.
    pub(crate) fn recv(&self, flags: c_int) -> Result<(Vec<u8>, bool)> {
        let mut message = RawMessage { opaque: [0; 64] };
        // SAFETY: zmq_msg_init makes the 64 bytes an empty message; this never fails.
        unsafe { zmq_msg_init(&mut message) };
        let received = loop {
            // SAFETY: an open socket and an initialised message.
            let received = check(unsafe { zmq_msg_recv(&mut message, self.0.as_ptr(), flags) });
            if !matches!(received, Err(Error::Interrupted)) {
                break received;
            }
        };
        let frame = received.map(|()| {
            // SAFETY: the message is initialised.
            let (len, more) = unsafe { (zmq_msg_size(&message), zmq_msg_more(&message) != 0) };
            let bytes = if len == 0 {
                Vec::new()
            } else {
                // SAFETY: data and size belong to the initialised message; the bytes are copied before it is closed.
                unsafe { std::slice::from_raw_parts(zmq_msg_data(&mut message).cast::<u8>(), len) }.to_vec()
            };
            (bytes, more)
        });
        // SAFETY: initialised above, closed once.
        unsafe { zmq_msg_close(&mut message) };
        frame
    }

    /// Waits until a whole message can be received, at most `timeout_ms` milliseconds.
    pub(crate) fn poll_in(&self, timeout_ms: i64) -> Result<bool> {
        let mut item = PollItem {
            socket: self.0.as_ptr(),
            fd: 0,
            events: ZMQ_POLLIN,
            revents: 0,
        };
        // SAFETY: one valid item that outlives the call.
        check(unsafe { zmq_poll(&mut item, 1, c_long::try_from(timeout_ms).unwrap_or(c_long::MAX)) })?;
        Ok(item.revents & ZMQ_POLLIN != 0)
    }

    /// Starts to report the socket's events to an inproc endpoint; `None` ends it.
    pub(crate) fn monitor(&self, endpoint: Option<&CStr>, events: c_int) -> Result<()> {
        let endpoint = endpoint.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: an open socket; null is the documented way to end the monitor.
        check(unsafe { zmq_socket_monitor(self.0.as_ptr(), endpoint, events) })
    }
}

impl Drop for RawSocket {
    fn drop(&mut self) {
        // SAFETY: open until now, and not used after. The only error is "not a socket".
        unsafe { zmq_close(self.0.as_ptr()) };
    }
}
