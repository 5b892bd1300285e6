//! What can be asked of a database beside its events, answered as of one moment.
//!
//! | file | question |
//! |---|---|
//! | [`entities`] | devices, workers and jobs: how they are, since when, what is wrong with them |
//! | [`history`] | what was tried on a device, and what follows from it |
//! | [`faults`] | what is wrong with what |
//! | [`results`] | what test cases found, and what changed |
//! | [`stuck`] | what has been in one state for too long |
//! | `moment` | one read transaction, with what the projections have not read by then |

pub mod entities;
pub mod faults;
pub mod history;
mod moment;
pub mod results;
pub mod stuck;

pub use moment::{Answer, UNREAD_EVENTS};
use moment::{Moment, collect, is_lab, walk};
