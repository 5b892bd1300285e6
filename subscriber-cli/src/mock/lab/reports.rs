//! What a job is said to do beside its states: services tell how far they are with it, its phases end as attempts, its
//! tests give results, and what went wrong with a device stays there as a fault until a job goes well.
//!
//! ```text
//! start ─▶ download ─▶ provision ─▶ boot ─▶ tests ─▶ end ─▶ archive
//!          service     attempt      attempt results  attempt service
//! ```

use lavabus_client::datetime_text;
use lavabus_protocol::Kind;
use lavabus_protocol::event::outcome;
use rand::RngExt as _;
use serde_json::{Map, Value, json};

use super::{Lab, MINUTE, SECOND, Step};
use crate::own_data::{AttemptData, FaultData, ResultData, StageData};
use crate::python_json;

/// One report of a job that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Report {
    Received(&'static str),
    /// The service is done with it, well or not.
    Done(&'static str),
    Phase(Phase),
    Test(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Provision,
    Boot,
    /// The tests, which are no attempt of their own.
    Test,
}

/// How a job fails.
#[derive(Debug)]
pub(super) struct Cause {
    phase: Phase,
    /// LAVA's class of the error.
    error_type: &'static str,
    exit_code: i64,
    message: &'static str,
    details: &'static str,
}

pub(super) const CAUSES: [Cause; 6] = [
    Cause {
        phase: Phase::Provision,
        error_type: "Infrastructure",
        exit_code: 1,
        message: "power control does not answer",
        details: "$ pduclient --hostname pdu05 --command reboot --port 7\nconnect: Connection timed out\n",
    },
    Cause {
        phase: Phase::Provision,
        error_type: "Infrastructure",
        exit_code: 1,
        message: "fastboot: no device found",
        details: "fastboot devices: nothing within 60 s\nusb 1-4: device descriptor read/64, error -71\n",
    },
    Cause {
        phase: Phase::Boot,
        error_type: "Infrastructure",
        exit_code: 1,
        message: "auto-login-action timed out after 120 seconds",
        details: "[   12.402113] Waiting for root device /dev/mmcblk0p2...\nno login prompt \u{2013} giving up\n",
    },
    Cause {
        phase: Phase::Boot,
        error_type: "Bug",
        exit_code: 2,
        message: "'NoneType' object has no attribute 'sendline'",
        details: "Traceback (most recent call last):\n  File \"action.py\", line 293, in validate_run\n",
    },
    Cause {
        phase: Phase::Provision,
        error_type: "Job",
        exit_code: 1,
        message: "cannot download the kernel: 404",
        details: "GET https://images.example.org/Image: 404 Not Found\n",
    },
    Cause {
        phase: Phase::Test,
        error_type: "Test",
        exit_code: 1,
        message: "lava-test-shell timed out after 600 seconds",
        details: "the last test case was kselftest.timers\n",
    },
];

/// The dispatcher is gone with its host.
pub(super) const WORKER_GONE: Cause = Cause {
    phase: Phase::Test,
    error_type: "Infrastructure",
    exit_code: 1,
    message: "the worker went offline",
    details: "no ping for 60 s\n",
};

const TEST_CASES: [&str; 8] = [
    "boot-time",
    "smoke/network",
    "smoke/storage",
    "kselftest.timers",
    "kselftest.futex",
    "ltp.open01",
    "ltp.mmap12",
    "audio \u{2013} line out",
];

impl Cause {
    /// Whether it is the job's own fault.
    fn is_of_job(&self) -> bool {
        matches!(self.error_type, "Job" | "Test")
    }
}

impl Lab {
    /// A job begins, and ends after `length`.
    pub(super) fn plan_reports(&mut self, id: u64, length: u64) {
        let device = self.jobs[&id].device.expect("a job that runs has a device");
        let is_bad = self.devices[device].bad_until > self.now && self.random.random_bool(0.9);
        if is_bad {
            self.job(id).verdict = "Incomplete";
        }
        if self.jobs[&id].verdict == "Incomplete" {
            let own = self.devices[device].weakness.filter(|_| is_bad);
            let any = self.random.random_range(0..CAUSES.len());
            self.job(id).cause = Some(own.unwrap_or(&CAUSES[any]));
        }
        // In hundredths of its length.
        let at = |lab: &mut Lab, hundredths: std::ops::Range<u64>, report| {
            let part = lab.random.random_range(hundredths);
            lab.plan(length * part / 100, Step::Report(id, report));
        };
        at(self, 0..1, Report::Received("download"));
        at(self, 2..10, Report::Done("download"));
        at(self, 1..2, Report::Received("dispatch"));
        // Services forget now and then to say that they are done.
        if !self.random.random_bool(0.04) {
            at(self, 96..100, Report::Done("dispatch"));
        }
        at(self, 10..20, Report::Phase(Phase::Provision));
        at(self, 25..40, Report::Phase(Phase::Boot));
        let first = self.random.random_range(0..TEST_CASES.len());
        for case in TEST_CASES.iter().cycle().skip(first).take(3) {
            at(self, 45..95, Report::Test(case));
        }
    }

    pub(super) fn report(&mut self, id: u64, report: Report) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.state == "Running") else {
            return;
        };
        let has_failed_in = |phase| job.cause.is_some_and(|cause| cause.phase <= phase);
        match report {
            Report::Received(service) => self.emit_stage(id, service, "received"),
            Report::Done("download") if job.cause.is_some_and(|cause| cause.error_type == "Job") => {
                self.emit_stage(id, "download", "error");
            }
            Report::Done("dispatch") if job.cause.is_some() => self.emit_stage(id, "dispatch", "error"),
            Report::Done(service) => self.emit_stage(id, service, "success"),
            Report::Phase(Phase::Boot) if has_failed_in(Phase::Provision) => {}
            Report::Phase(phase) => {
                let cause = job.cause.filter(|_| has_failed_in(phase));
                let name = if phase == Phase::Boot { "boot" } else { "provision" };
                self.emit_attempt(id, Some(name), cause, None);
            }
            Report::Test(_) if has_failed_in(Phase::Boot) => {}
            Report::Test(case) => self.emit_test(id, case),
        }
    }

    /// A job that ran has ended so.
    pub(super) fn report_end(&mut self, id: u64, health: &str) {
        let job = &self.jobs[&id];
        let (device, cause) = (job.device.expect("a job that ran has a device"), job.cause);
        let has_tests = job.has_tests;
        match health {
            "Complete" => {
                self.emit_attempt(id, None, None, None);
                if self.devices[device].has_fault {
                    self.devices[device].has_fault = false;
                    self.emit_fault(id, None);
                }
            }
            "Canceled" => self.emit_attempt(id, None, None, Some("neutral")),
            _ => {
                self.emit_attempt(id, None, cause, None);
                if let Some(cause) = cause {
                    self.emit_fault(id, Some(cause));
                    self.devices[device].has_fault |= !cause.is_of_job();
                }
            }
        }
        if has_tests {
            let status = match health {
                "Complete" => "complete",
                "Canceled" => "aborted",
                _ => "incomplete",
            };
            self.emit_result(
                id,
                ResultData {
                    status: Some(status),
                    ..ResultData::default()
                },
            );
        }
        if health == "Complete" {
            self.emit_stage(id, "archive", "received");
            let after = self.random.random_range(SECOND..2 * MINUTE);
            self.plan(after, Step::Archived(id));
        }
    }

    /// The job is over and forgotten, but its service goes on.
    pub(super) fn archived(&mut self, id: u64) {
        if !self.random.random_bool(0.03) {
            self.emit_stage(id, "archive", "success");
        }
    }

    /// A device begins to fail, in the same way each time.
    pub(super) fn bad_spell(&mut self) {
        let after = self
            .random
            .random_range(0..2 * 480 * MINUTE / self.devices.len() as u64);
        self.plan(after + MINUTE, Step::BadSpell);
        let device = self.random.random_range(0..self.devices.len());
        let length = self.random.random_range(30 * MINUTE..120 * MINUTE);
        let cause = self.random.random_range(0..CAUSES.len());
        self.devices[device].bad_until = self.now + length;
        self.devices[device].weakness = Some(&CAUSES[cause]).filter(|cause| !cause.is_of_job());
    }

    fn emit_stage(&mut self, id: u64, service: &str, status: &str) {
        let job = self.jobs.get(&id);
        let device = job.and_then(|job| job.device).map(|device| &self.devices[device]);
        let worker = device.and_then(|device| device.worker);
        let failed = job.and_then(|job| job.cause).filter(|_| status == "error");
        let data = python_json::to_text(&StageData {
            service,
            request_id: &format!("request-{id:06}"),
            status,
            date: &datetime_text(self.clock.now()),
            source: worker.map(|worker| self.workers[worker].hostname.as_str()),
            account: job.map(|job| job.submitter),
            inventory_id: device.map(|device| device.name.as_str()),
            system_id: None,
            message: failed.map(|cause| cause.message),
            job: Some(id.into()),
        });
        self.emit(Kind::Stage, "lavaserver", data);
    }

    fn emit_attempt(&mut self, id: u64, phase: Option<&str>, cause: Option<&Cause>, outcome: Option<&str>) {
        let job = &self.jobs[&id];
        let device = job.device.expect("a job that ran has a device");
        let is_canceled = outcome.is_some();
        let data = python_json::to_text(&AttemptData {
            device: &self.devices[device].name,
            job_id: id.into(),
            exit_code: match cause {
                Some(cause) => cause.exit_code,
                None => {
                    if is_canceled {
                        130
                    } else {
                        0
                    }
                }
            },
            detail: cause.map(|cause| cause.message),
            phase,
            outcome,
            error_type: cause
                .map(|cause| cause.error_type)
                .or(is_canceled.then_some("Canceled")),
            started: job.start_time.as_deref(),
            finished: Some(&datetime_text(self.clock.now())),
        });
        self.emit(Kind::Attempt, "lavaserver", data);
    }

    /// Without a cause: all is well again.
    fn emit_fault(&mut self, id: u64, cause: Option<&Cause>) {
        let device = self.jobs[&id].device.expect("a job that ran has a device");
        let device = self.devices[device].name.as_str();
        let subject = match cause {
            Some(cause) if cause.is_of_job() => format!("job/{id}"),
            _ => format!("device/{device}"),
        };
        let data = python_json::to_text(&FaultData {
            subject: &subject,
            message: cause.map(|cause| cause.message),
            details: cause.map(|cause| cause.details),
            origin: Some("dispatcher"),
            job: Some(id.into()),
            device: Some(device),
            cleared: cause.is_none(),
        });
        self.emit(Kind::Fault, "lavaserver", data);
    }

    /// Somebody breaks a test case for a device type now and then, and somebody mends it.
    fn emit_test(&mut self, id: u64, case: &'static str) {
        self.job(id).has_tests = true;
        let key = (self.jobs[&id].device_type, case);
        if self.random.random_bool(0.04) && !self.broken.remove(&key) {
            self.broken.insert(key);
        }
        let is_broken = self.broken.contains(&key);
        let outcome = match self.random.random_range(0..20) {
            0 => outcome::INFO,
            1 if is_broken => outcome::NEEDS_INSPECTION,
            2 if is_broken => outcome::CRASHED,
            _ if is_broken => outcome::FAILED,
            _ => outcome::PASSED,
        };
        let mut data = Map::new();
        if case == "boot-time" {
            let seconds = f64::from(self.random.random_range(80..200_u16)) / 10.0;
            data.extend([
                ("measurement".to_owned(), json!(seconds)),
                ("units".to_owned(), Value::from("s")),
            ]);
        }
        self.emit_result(
            id,
            ResultData {
                testcase: Some(case),
                outcome: Some(outcome),
                note: is_broken.then_some("since the last merge"),
                data,
                ..ResultData::default()
            },
        );
    }

    fn emit_result(&mut self, id: u64, result: ResultData<'_>) {
        let job = &self.jobs[&id];
        let device = job.device.expect("a job that ran has a device");
        let run = format!("run-{id:06}");
        let data = python_json::to_text(&ResultData {
            run: Some(&run),
            item: Some(&format!("image-for-{}", job.device_type)),
            item_type: Some("image"),
            url: Some(&format!("https://lab.example.org/runs/{run}")),
            job: Some(id.into()),
            device: Some(&self.devices[device].name),
            ..result
        });
        self.emit(Kind::Result, "lavaserver", data);
    }
}
