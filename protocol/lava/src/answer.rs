//! What a server tells of jobs, devices, workers and tests.

use std::time::Duration;

use jiff::Timestamp;

/// An answer, and how old it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// The server's clock when it answered (the `Date` header; whole seconds).
    pub server_time: Option<Timestamp>,
    /// From the question to the whole answer.
    pub round_trip: Duration,
}

/// A job. States and healths are the server's words: an unknown one is not an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// As it was asked for: a database id, or a sub id such as `4000.1`.
    pub id: String,
    /// `Submitted`, `Scheduling`, `Scheduled`, `Running`, `Canceling`, `Finished`.
    pub state: String,
    /// `Unknown`, `Complete`, `Incomplete`, `Canceled`.
    pub health: String,
    /// Who submitted it.
    pub submitter: String,
    /// Its name in the definition.
    pub description: String,
    /// On which device it runs or ran.
    pub device: Option<String>,
    /// Which type of device it asks for.
    pub device_type: Option<String>,
    /// ISO 8601; without a zone it is UTC.
    pub submit_time: Option<String>,
    /// ISO 8601; without a zone it is UTC.
    pub start_time: Option<String>,
    /// ISO 8601; without a zone it is UTC.
    pub end_time: Option<String>,
    /// Why it failed, if a person or the server wrote that down.
    pub failure_comment: Option<String>,
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its hostname.
    pub name: String,
    /// Its type.
    pub device_type: String,
    /// `Idle`, `Reserved`, `Running`.
    pub state: String,
    /// `Good`, `Unknown`, `Looping`, `Bad`, `Maintenance`, `Retired`.
    pub health: String,
    /// The worker that it hangs on.
    pub worker: Option<String>,
}

/// A worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Worker {
    /// Its hostname.
    pub name: String,
    /// `Online`, `Offline`.
    pub state: String,
    /// `Active`, `Maintenance`, `Retired`.
    pub health: String,
}

/// Why a job ended as it did. All empty: the server wrote nothing down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// `Infrastructure`, `Job`, `Test`, `Configuration`, `Bug`, `Canceled` …
    pub error_type: Option<String>,
    /// What the dispatcher said.
    pub error_msg: Option<String>,
    /// What a person or the server wrote down.
    pub failure_comment: Option<String>,
}

/// How a job ended, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// `Finished`, or another state if the server does not know yet that it ended.
    pub state: String,
    /// On which device it ran.
    pub device: Option<String>,
    /// ISO 8601; without a zone it is UTC.
    pub submit_time: Option<String>,
    /// ISO 8601; without a zone it is UTC.
    pub start_time: Option<String>,
    /// ISO 8601; without a zone it is UTC.
    pub end_time: Option<String>,
    /// Why.
    pub failure: Failure,
}

/// A job that a search by submitter found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmittedJob {
    /// The database id, also of a multinode job.
    pub id: String,
    /// When the server took it.
    pub submit_time: Timestamp,
    /// The definition as it was sent.
    pub original_definition: Option<String>,
    /// The same of a multinode job, whose `original_definition` is only its own part.
    pub multinode_definition: Option<String>,
    /// Such as `4000.1`: the parts of one submission share what stands before the dot. None: not a multinode job, or it
    /// was not asked for or not told (see [`Server::submitted_since`](crate::Server::submitted_since)).
    pub sub_id: Option<String>,
}

/// One line of a job's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// ISO 8601; without a zone it is UTC. Empty if the line could not be read.
    pub at: String,
    /// `debug`, `info`, `warning`, `error`, `results`, `target`, `input`, `feedback`, `event`, `exception`. Empty if the
    /// line could not be read.
    pub level: String,
    /// Text as it is; a list line by line; a map as `key: value, …`.
    pub message: String,
}

/// One test case of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestCase {
    /// The name of its suite.
    pub suite: String,
    /// Its name.
    pub name: String,
    /// `pass`, `fail`, `skip`, `unknown`.
    pub result: String,
}
