//! Jobs: from being submitted to being finished.

use std::cmp::Reverse;

use lavabus_client::datetime_text;
use lavabus_protocol::Kind;
use rand::RngExt as _;

use super::super::data::{DeviceJob, MessageData};
use super::{Job, Lab, MINUTE, SECOND, Step};
use crate::python_json;

const SUBMITTERS: [&str; 4] = ["admin", "joe", "lkft", "kernelci"];
const TESTS: [&str; 6] = [
    "smoke \u{2013} \u{e9} \"quoted\" <b>",
    "linux-next boot",
    "ltp-syscalls",
    "kselftest",
    "u-boot network test",
    "private job",
];
const MESSAGES: [&str; 6] = [
    "boot finished",
    "smoke-tests start",
    "3 of 12 passed",
    "12 of 12 passed",
    "unicode \u{2713} \"quotes\" \\ and tabs\tx",
    "rebooting for the next stage",
];

impl Lab {
    /// People submit a little less than the devices can do, and stop when many jobs wait.
    pub(super) fn submit(&mut self) {
        let mean = 11 * MINUTE / self.devices.len() as u64;
        let wait = self.random.random_range(0..=2 * mean);
        self.plan(wait + 1, Step::Submit);
        if self.waiting.len() > 2 * self.devices.len() {
            return;
        }
        let device_type = self.devices[self.random.random_range(0..self.devices.len())].device_type;
        let of_type = self.devices.iter().filter(|device| device.device_type == device_type);
        let pair = of_type.take(3).count() == 3;
        let submitter = self.pick(&SUBMITTERS);
        if pair && self.random.random_bool(0.05) {
            let (first, second) = (self.last_job + 1, self.last_job + 2);
            for (index, partner) in [(0, second), (1, first)] {
                let id = self.new_job(device_type, submitter, "multinode pair".to_owned(), 100);
                // LAVA saves it once before it knows its sub id.
                for sub_id in [String::new(), format!("{first}.{index}")] {
                    let job = self.job(id);
                    job.sub_id = Some(sub_id);
                    job.partner = Some(partner);
                    self.emit_job(id, None);
                }
                self.waiting.insert((Reverse(100), id));
            }
            // Both or neither: who cancels one cancels the other.
            self.plan_cancel(first);
        } else {
            let description = format!("{} on {device_type}", self.pick(&TESTS));
            let priority = self.pick(&[0, 50, 50, 50, 100]);
            let id = self.new_job(device_type, submitter, description, priority);
            let repeats = if self.random.random_bool(0.1) { 2 } else { 1 };
            for _ in 0..repeats {
                self.emit_job(id, None);
            }
            self.waiting.insert((Reverse(priority), id));
            self.plan_cancel(id);
        }
        self.schedule();
    }

    /// Some are canceled by their submitter; who has waited for hours gives up.
    fn plan_cancel(&mut self, id: u64) {
        let after = match self.random.random_bool(0.08) {
            true => self.random.random_range(SECOND..15 * MINUTE),
            false => 240 * MINUTE,
        };
        self.plan(after, Step::Cancel(id));
    }

    pub(super) fn new_job(
        &mut self,
        device_type: &'static str,
        submitter: &'static str,
        description: String,
        priority: u8,
    ) -> u64 {
        self.last_job += 1;
        let verdict = if self.random.random_bool(0.82) {
            "Complete"
        } else {
            "Incomplete"
        };
        let job = Job {
            state: "Submitted",
            verdict,
            cause: None,
            has_tests: false,
            description,
            priority,
            submit_time: datetime_text(self.clock.now()),
            submitter,
            health_check: false,
            sub_id: None,
            partner: None,
            device_type,
            device: None,
            start_time: None,
        };
        self.jobs.insert(self.last_job, job);
        self.last_job
    }

    pub(super) fn job(&mut self, id: u64) -> &mut Job {
        self.jobs
            .get_mut(&id)
            .expect("only jobs that are not finished are asked for")
    }

    /// Gives waiting jobs to devices, the higher priority first.
    pub(super) fn schedule(&mut self) {
        let mut placed = Vec::new();
        for &(priority, id) in &self.waiting {
            if self.available.is_empty() {
                break;
            }
            let job = &self.jobs[&id];
            let Some(free) = self.available.get_mut(job.device_type) else {
                continue;
            };
            match job.partner {
                // The second half goes with the first.
                Some(partner) if partner < id => continue,
                Some(_) if free.len() < 2 => continue,
                _ => placed.push((priority, id, free.pop_first())),
            }
            if let Some(partner) = job.partner {
                placed.push((priority, partner, free.pop_first()));
            }
            if free.is_empty() {
                self.available.remove(job.device_type);
            }
        }
        let mut halves = Vec::new();
        for (priority, id, device) in placed {
            let device = device.expect("as many were there as were taken");
            self.waiting.remove(&(priority, id));
            if self.jobs[&id].partner.is_some() {
                self.reserve(id, device);
                self.job(id).state = "Scheduling";
                self.emit_job(id, None);
                halves.push(id);
            } else {
                self.reserve(id, device);
                self.scheduled(id);
            }
        }
        for id in halves {
            self.scheduled(id);
        }
    }

    pub(super) fn reserve(&mut self, id: u64, device: usize) {
        self.devices[device].state = "Reserved";
        self.job(id).device = Some(device);
        self.emit_device(device);
    }

    pub(super) fn scheduled(&mut self, id: u64) {
        self.job(id).state = "Scheduled";
        self.emit_job(id, None);
        let after = self.random.random_range(SECOND..20 * SECOND);
        self.plan(after, Step::Start(id));
    }

    pub(super) fn start(&mut self, id: u64) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.state == "Scheduled") else {
            return;
        };
        let device = job.device.expect("a scheduled job has a device");
        if !self.is_served(device) {
            return self.plan(MINUTE, Step::Start(id));
        }
        self.devices[device].job = Some(match &job.sub_id {
            Some(sub_id) => DeviceJob::SubId(sub_id.clone()),
            None => DeviceJob::Id(id),
        });
        self.devices[device].state = "Running";
        let start_time = datetime_text(self.clock.now());
        self.emit_device(device);
        let job = self.job(id);
        job.state = "Running";
        job.start_time = Some(start_time);
        let health_check = job.health_check;
        self.emit_job(id, None);

        let length = match health_check {
            true => self.random.random_range(MINUTE..3 * MINUTE),
            false => self.random.random_range(MINUTE..20 * MINUTE),
        };
        self.plan(length, Step::End(id));
        self.plan_reports(id, length);
        let messages = self.pick(&[0, 0, 0, 1, 1, 2, 3]);
        for _ in 0..messages {
            let after = self.random.random_range(0..length);
            self.plan(after, Step::Message(id));
        }
    }

    pub(super) fn message(&mut self, id: u64) {
        if self.jobs.get(&id).is_none_or(|job| job.state != "Running") {
            return;
        }
        let message = self.pick(&MESSAGES).into();
        let data = python_json::to_text(&MessageData { message, job: id });
        self.emit(Kind::Event, "lavaserver", data);
    }

    pub(super) fn cancel(&mut self, id: u64) {
        let Some(partner) = self.jobs.get(&id).map(|job| job.partner) else {
            return;
        };
        for id in [Some(id), partner].into_iter().flatten() {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            match job.state {
                "Submitted" => {
                    self.waiting.remove(&(Reverse(job.priority), id));
                    job.start_time = Some(datetime_text(self.clock.now()));
                    self.emit_job(id, Some("Canceled"));
                    self.jobs.remove(&id);
                }
                "Scheduled" | "Running" => {
                    job.state = "Canceling";
                    self.emit_job(id, None);
                    let after = self.random.random_range(SECOND..10 * SECOND);
                    self.plan(after, Step::End(id));
                }
                _ => {}
            }
        }
    }

    pub(super) fn end(&mut self, id: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let health = match job.state {
            "Canceling" => "Canceled",
            _ => job.verdict,
        };
        let ended = datetime_text(self.clock.now());
        job.start_time.get_or_insert(ended);
        let device = job.device.expect("a job that ends has a device");
        let job_of_device = match &job.sub_id {
            Some(sub_id) => DeviceJob::SubId(sub_id.clone()),
            None => DeviceJob::Id(id),
        };
        let (health_check, has_run) = (job.health_check, self.devices[device].state == "Running");
        if has_run {
            self.report_end(id, health);
        }
        let it = &mut self.devices[device];
        it.state = "Idle";
        it.job = Some(job_of_device);
        if health_check && it.health == "Unknown" {
            it.health = if health == "Complete" { "Good" } else { "Bad" };
            if it.health == "Bad" {
                let after = self.random.random_range(10 * MINUTE..60 * MINUTE);
                self.plan(after, Step::DeviceRepaired(device));
            }
        }
        self.emit_device(device);
        self.devices[device].job = None;
        self.emit_job(id, Some(health));
        self.jobs.remove(&id);
        self.offer(device);
        self.schedule();
    }
}
