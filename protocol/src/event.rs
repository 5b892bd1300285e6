//! A typed, tolerant view of an event's data.
mod job_id;
pub use job_id::JobId;
