//! LAVA's own four kinds, as its servers of 2018 and of 2026 write them.
//!
//! | kind | keys today | 2018 |
//! |---|---|---|
//! | device | `state` `health` `device` `device_type` `worker` `job` | `status` `health_status` `pipeline`, `job` a URL |
//! | testjob | `state` `health` `job` `description` `priority` `submitter` `health_check` `submit_time`, then `sub_id` `device` `worker` `device_type` `start_time` `end_time` | `visibility`, `job` a URL |
//! | worker | `hostname` `state` `health` | |
//! | event | `message` `job` | `job` is text |
//!
//! A key that is missing, null or of an unexpected type is `None`. States and healths are text, to be compared in any
//! case: see [`state`] and [`health`].

use super::JobId;
use super::fields::Fields;

/// A device changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub device: Option<String>,
    /// The name of its type.
    pub device_type: Option<String>,
    /// Host name of its worker. LAVA sends null for a device without one.
    pub worker: Option<String>,
    /// The job that it runs; an idle device may still name the last one.
    pub job: Option<JobId>,
    /// One of [`state::DEVICE`].
    pub state: Option<String>,
    /// One of [`health::DEVICE`].
    pub health: Option<String>,
    /// Whether it was a device of LAVA's second dispatcher; servers of 2018 only.
    pub pipeline: Option<bool>,
}

/// A test job changed. LAVA repeats the event whenever a submitted job is saved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// Its number in the database, for multinode jobs too.
    pub job: Option<JobId>,
    /// Its id within a multinode group, such as `7.0`.
    pub sub_id: Option<JobId>,
    /// One of [`state::JOB`].
    pub state: Option<String>,
    /// One of [`health::JOB`].
    pub health: Option<String>,
    /// What its author called it.
    pub description: Option<String>,
    /// User name of who submitted it.
    pub submitter: Option<String>,
    /// 0 to 100.
    pub priority: Option<i64>,
    /// Whether the server submitted it to check a device.
    pub health_check: Option<bool>,
    /// Who may see it; servers of 2018 only.
    pub visibility: Option<String>,
    /// The device that it was given.
    pub device: Option<String>,
    /// The type of device that it asked for.
    pub device_type: Option<String>,
    /// Host name of its device's worker.
    pub worker: Option<String>,
    /// ISO 8601.
    pub submit_time: Option<String>,
    /// ISO 8601.
    pub start_time: Option<String>,
    /// ISO 8601.
    pub end_time: Option<String>,
}

/// A worker changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Worker {
    /// Its host name.
    pub hostname: Option<String>,
    /// One of [`state::WORKER`].
    pub state: Option<String>,
    /// One of [`health::WORKER`].
    pub health: Option<String>,
}

/// A message out of a running test shell (`lava-test-event`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestEvent {
    /// What the test said.
    pub message: Option<String>,
    /// In which job.
    pub job: Option<JobId>,
}

impl Device {
    pub(super) fn read(fields: &Fields<'_>) -> Device {
        Device {
            device: fields.text("device"),
            device_type: fields.text("device_type"),
            worker: fields.text("worker"),
            job: fields.job("job"),
            state: fields.text("state").or_else(|| fields.text("status")),
            health: fields.text("health").or_else(|| fields.text("health_status")),
            pipeline: fields.bool("pipeline"),
        }
    }
}

impl Job {
    pub(super) fn read(fields: &Fields<'_>) -> Job {
        Job {
            job: fields.job("job"),
            sub_id: fields.job("sub_id"),
            state: fields.text("state").or_else(|| fields.text("status")),
            health: fields.text("health"),
            description: fields.text("description"),
            submitter: fields.text("submitter"),
            priority: fields.integer("priority"),
            health_check: fields.bool("health_check"),
            visibility: fields.text("visibility"),
            device: fields.text("device"),
            device_type: fields.text("device_type"),
            worker: fields.text("worker"),
            submit_time: fields.text("submit_time"),
            start_time: fields.text("start_time"),
            end_time: fields.text("end_time"),
        }
    }
}

impl Worker {
    pub(super) fn read(fields: &Fields<'_>) -> Worker {
        Worker {
            hostname: fields.text("hostname"),
            state: fields.text("state"),
            health: fields.text("health"),
        }
    }
}

impl TestEvent {
    pub(super) fn read(fields: &Fields<'_>) -> TestEvent {
        TestEvent {
            message: fields.text("message"),
            job: fields.job("job"),
        }
    }
}

/// States as LAVA writes them. A server may send others.
pub mod state {
    /// The last state of a job.
    pub const FINISHED: &str = "Finished";
    /// Of a device.
    pub const DEVICE: [&str; 3] = ["Idle", "Reserved", "Running"];
    /// Of a job, in the order in which it passes through them. Scheduling is for multinode jobs only.
    pub const JOB: [&str; 6] = ["Submitted", "Scheduling", "Scheduled", "Running", "Canceling", FINISHED];
    /// Of a worker.
    pub const WORKER: [&str; 2] = ["Online", "Offline"];
}

/// Healths as LAVA writes them. A server may send others.
pub mod health {
    /// A job that ran to its end.
    pub const COMPLETE: &str = "Complete";
    /// A job that failed to run.
    pub const INCOMPLETE: &str = "Incomplete";
    /// A job that somebody stopped.
    pub const CANCELED: &str = "Canceled";
    /// Of a device.
    pub const DEVICE: [&str; 6] = ["Good", "Unknown", "Looping", "Bad", "Maintenance", "Retired"];
    /// Of a job.
    pub const JOB: [&str; 4] = ["Unknown", COMPLETE, INCOMPLETE, CANCELED];
    /// Of a worker.
    pub const WORKER: [&str; 3] = ["Active", "Maintenance", "Retired"];
}
