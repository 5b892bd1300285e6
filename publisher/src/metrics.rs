//! The figures behind `/metrics` that are more than one number: what is counted here is read there and nowhere else.
//!
//! Counting is done by relaxed atomics, once a group, a run or a write, so that it costs an event next to nothing.

pub(crate) mod exposition;
pub(crate) mod histogram;
pub(crate) mod outlet;
pub(crate) mod refusals;
pub(crate) mod stages;
