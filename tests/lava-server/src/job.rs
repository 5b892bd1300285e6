//! What LAVA's database holds: jobs, devices, workers.

use jiff::Timestamp;

/// A test job, as LAVA's `TestJob` model has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The database id in decimal digits. Left empty, [`add_job`](crate::LavaServer::add_job) gives the next one.
    pub id: String,
    /// `4000.1` for a part of a multinode job.
    pub sub_id: Option<String>,
    /// `Submitted`, `Scheduling`, `Scheduled`, `Running`, `Canceling` or `Finished`.
    pub state: String,
    /// `Unknown`, `Complete`, `Incomplete` or `Canceled`.
    pub health: String,
    /// The user who submitted it.
    pub submitter: String,
    /// The definition's `job_name`.
    pub description: String,
    /// The type that the definition asks for.
    pub device_type: Option<String>,
    /// The device that it was given; LAVA gives it when the job becomes Scheduled.
    pub device: Option<String>,
    /// Whether only its submitter and superusers see it.
    pub private: bool,
    /// 0 to 100; 50 is `medium`.
    pub priority: u8,
    /// Whether the scheduler made it to check a device.
    pub health_check: bool,
    /// The definition's text.
    pub definition: String,
    /// What a person wrote about the failure.
    pub failure_comment: Option<String>,
    /// `Infrastructure`, `Job`, `Test`, `Bug` … from the result `lava/job`.
    pub error_type: Option<String>,
    /// The message beside `error_type`.
    pub error_msg: Option<String>,
    /// When it was submitted, in whole microseconds.
    pub submit_time: Timestamp,
    /// When it became Running.
    pub start_time: Option<Timestamp>,
    /// When it became Finished.
    pub end_time: Option<Timestamp>,
}

impl Default for Job {
    fn default() -> Self {
        Self {
            id: String::new(),
            sub_id: None,
            state: "Submitted".into(),
            health: "Unknown".into(),
            submitter: "admin".into(),
            description: "smoke".into(),
            device_type: Some("qemu".into()),
            device: None,
            private: false,
            priority: 50,
            health_check: false,
            definition: "job_name: smoke\ndevice_type: qemu\nvisibility: public\n".into(),
            failure_comment: None,
            error_type: None,
            error_msg: None,
            submit_time: crate::time::now(),
            start_time: None,
            end_time: None,
        }
    }
}

impl Job {
    /// The id that people see: the sub id where there is one (`TestJob.display_id`).
    pub fn display_id(&self) -> &str {
        self.sub_id.as_deref().unwrap_or(&self.id)
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.state == "Finished"
    }
}

/// A device, as LAVA's `Device` model has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub hostname: String,
    /// Its type.
    pub device_type: String,
    /// The worker that it hangs on.
    pub worker: Option<String>,
    /// `Idle`, `Reserved` or `Running`.
    pub state: String,
    /// `Good`, `Unknown`, `Looping`, `Bad`, `Maintenance` or `Retired`.
    pub health: String,
    /// Whether only superusers see it, and with it the jobs that ran on it.
    pub private: bool,
}

impl Default for Device {
    fn default() -> Self {
        Self {
            hostname: "qemu-01".into(),
            device_type: "qemu".into(),
            worker: Some("worker-01".into()),
            state: "Idle".into(),
            health: "Good".into(),
            private: false,
        }
    }
}

/// A worker, as LAVA's `Worker` model has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Its name.
    pub hostname: String,
    /// `Online` or `Offline`.
    pub state: String,
    /// `Active`, `Maintenance` or `Retired`.
    pub health: String,
    /// What it sends as `LAVA-Token`.
    pub token: String,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            hostname: "worker-01".into(),
            state: "Online".into(),
            health: "Active".into(),
            token: "worker-token-0123456789".into(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TestCase {
    pub(crate) id: u64,
    pub(crate) suite: String,
    pub(crate) name: String,
    pub(crate) result: String,
    pub(crate) logged: Timestamp,
}
