//! `/ws/`: the stream as LAVA's own publisher speaks it.
//!
//! The upgrade is HTTP's; then the connection is the task's own. Messages are made once a batch for everybody and written
//! from where they lie. A client that does not read is a place further behind: of what it has not taken only the rest of
//! one message is kept.

pub(crate) mod frames;
mod handshake;
mod session;

pub(crate) use handshake::upgrade;
