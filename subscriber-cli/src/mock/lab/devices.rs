//! Devices and workers: who can take jobs, and what goes wrong with them.

use rand::RngExt as _;

use super::reports::WORKER_GONE;
use super::{Job, Lab, MINUTE, SECOND, Step};

impl Lab {
    pub(super) fn is_served(&self, device: usize) -> bool {
        self.devices[device]
            .worker
            .is_some_and(|worker| self.workers[worker].online)
    }

    /// Says whether this device can take jobs now. One whose health is not known, or that loops, gets a health check.
    pub(super) fn offer(&mut self, device: usize) {
        let it = &self.devices[device];
        let device_type = it.device_type;
        let can_work = it.state == "Idle" && self.is_served(device);
        match it.health {
            "Good" if can_work => {
                self.available.entry(device_type).or_default().insert(device);
            }
            health => {
                if let Some(free) = self.available.get_mut(device_type) {
                    free.remove(&device);
                    if free.is_empty() {
                        self.available.remove(device_type);
                    }
                }
                if can_work && matches!(health, "Unknown" | "Looping") {
                    let description = format!("{device_type} health check");
                    let id = self.new_job(device_type, "lava-health", description, 50);
                    self.job(id).health_check = true;
                    self.emit_job(id, None);
                    self.reserve(id, device);
                    self.scheduled(id);
                }
            }
        }
    }

    pub(super) fn set_health(&mut self, device: usize, health: &'static str) {
        if self.devices[device].health != health {
            self.devices[device].health = health;
            self.emit_device(device);
            self.offer(device);
        }
    }

    /// Somebody takes an idle device away for a while, or lets it run health checks again and again.
    pub(super) fn device_trouble(&mut self) {
        let after = self
            .random
            .random_range(0..2 * 240 * MINUTE / self.devices.len() as u64);
        self.plan(after + SECOND, Step::DeviceTrouble);
        let device = self.random.random_range(0..self.devices.len());
        let it = &self.devices[device];
        match (it.worker, it.health, it.state) {
            (None, "Retired", _) => self.set_health(device, "Maintenance"),
            (None, ..) => self.set_health(device, "Retired"),
            (Some(_), "Good", "Idle") => {
                let health = self.pick(&["Maintenance", "Maintenance", "Looping"]);
                self.set_health(device, health);
                let after = self.random.random_range(10 * MINUTE..60 * MINUTE);
                self.plan(after, Step::DeviceRepaired(device));
            }
            _ => {}
        }
    }

    /// A worker goes away, and what runs on its devices ends.
    pub(super) fn worker_goes(&mut self) {
        let after = self
            .random
            .random_range(0..2 * 480 * MINUTE / self.workers.len() as u64);
        self.plan(after + MINUTE, Step::WorkerGoes);
        let worker = self.random.random_range(0..self.workers.len());
        if !std::mem::replace(&mut self.workers[worker].online, false) {
            return;
        }
        self.emit_worker(worker);
        for device in self.workers[worker].devices.clone() {
            self.offer(device);
        }
        let of_worker = |job: &Job| {
            job.device
                .is_some_and(|device| self.devices[device].worker == Some(worker))
        };
        let running = self
            .jobs
            .iter()
            .filter(|(_, job)| job.state == "Running" && of_worker(job));
        for id in running.map(|(id, _)| *id).collect::<Vec<_>>() {
            let job = self.job(id);
            (job.verdict, job.cause) = ("Incomplete", Some(&WORKER_GONE));
            let after = self.random.random_range(SECOND..MINUTE);
            self.plan(after, Step::End(id));
        }
        let back = self.random.random_range(MINUTE..15 * MINUTE);
        self.plan(back, Step::WorkerComes(worker));
    }

    pub(super) fn worker_comes(&mut self, worker: usize) {
        self.workers[worker].online = true;
        self.emit_worker(worker);
        for device in self.workers[worker].devices.clone() {
            self.offer(device);
        }
        self.schedule();
    }
}
