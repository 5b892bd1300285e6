//! Events: what an observer is told of a worker, a device or a job.

use lavabus_client::datetime_text;
use lavabus_protocol::{Kind, Record};

use super::super::data::{DeviceData, JobData, WorkerData};
use super::{Lab, LabEvent};
use crate::python_json;

impl Lab {
    pub(super) fn emit_device(&mut self, device: usize) {
        let it = &self.devices[device];
        let data = python_json::to_text(&DeviceData {
            health: it.health,
            state: it.state,
            device: &it.name,
            device_type: it.device_type,
            worker: it.worker.map(|worker| self.workers[worker].hostname.as_str()),
            job: it.job.clone(),
        });
        self.emit(Kind::Device, "lavaserver", data);
    }

    /// `ended` is the health of a job that is over.
    pub(super) fn emit_job(&mut self, id: u64, ended: Option<&str>) {
        let job = &self.jobs[&id];
        let device = job.device.map(|device| &self.devices[device]);
        let worker = device.and_then(|device| device.worker);
        let end_time = ended.map(|_| datetime_text(self.clock.now()));
        let data = python_json::to_text(&JobData {
            health: ended.unwrap_or("Unknown"),
            state: ended.map_or(job.state, |_| "Finished"),
            job: id,
            description: job.description.as_str().into(),
            priority: job.priority,
            submit_time: &job.submit_time,
            submitter: job.submitter,
            health_check: job.health_check,
            sub_id: job.sub_id.as_deref(),
            device: device.map(|device| device.name.as_str()),
            worker: worker.map(|worker| self.workers[worker].hostname.as_str()),
            device_type: Some(job.device_type),
            start_time: job.start_time.as_deref(),
            end_time: end_time.as_deref(),
        });
        let submitter = job.submitter;
        self.emit(Kind::Testjob, submitter, data);
    }

    pub(super) fn emit_worker(&mut self, worker: usize) {
        let it = &self.workers[worker];
        let data = python_json::to_text(&WorkerData {
            hostname: &it.hostname,
            health: "Active",
            state: if it.online { "Online" } else { "Offline" },
        });
        self.emit(Kind::Worker, "lavaserver", data);
    }

    pub(super) fn emit(&mut self, kind: Kind, username: &str, data: String) {
        let (at, uuid) = self.clock.advance();
        let record = Record {
            topic: format!("{}.{kind}", self.topic),
            uuid,
            datetime: datetime_text(at),
            username: username.to_owned(),
            data,
            cursor: None,
            lab: None,
        };
        self.ready.push_back(LabEvent { at, record });
    }
}
