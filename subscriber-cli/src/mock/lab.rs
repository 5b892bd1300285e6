//! The simulated lab: workers, devices and jobs, and what they do.
//!
//! ```text
//! job     Submitted ─┬─▶ [Scheduling ─▶] Scheduled ─▶ Running ─▶ Finished      Complete or Incomplete
//!                    │                        │          │           ▲
//!                    │                        └─▶ Canceling ─────────┤         Canceled
//!                    └───────────────────────────────────────────────┘         Canceled while it waits
//! device  Idle ─▶ Reserved ─▶ Running ─▶ Idle        Reserved ─▶ Idle if its job is canceled
//! ```
//!
//! Order and time are apart. An agenda on the lab's own scale decides what comes after what; [`Clock`] then gives each
//! event its time, so that the rate is what was asked for whatever the lab does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use jiff::Timestamp;
use lavabus_client::datetime_text;
use lavabus_protocol::{Kind, Record};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

use super::clock::{Clock, Profile};
use super::data::{self, DeviceData, DeviceJob, JobData, MessageData, WorkerData};

const DEVICE_TYPES: [&str; 5] = ["qemu", "raspberrypi-4b", "beaglebone-black", "imx8mp-evk", "juno-r2"];
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

/// Milliseconds on the lab's own scale.
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

/// How a [`Lab`] is made up.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// The same seed, with the same other options, gives the same events.
    pub seed: u64,
    /// How many devices there are, at least one.
    pub devices: u16,
    /// How many workers there are, at least one.
    pub workers: u16,
    /// What topics begin with.
    pub topic: String,
    /// The time before the first event.
    pub start: Timestamp,
    /// Events a second, in the mean, above 0.
    pub rate: f64,
    /// How the rate goes with time.
    pub profile: Profile,
}

impl Default for LabOptions {
    /// 20 devices, 4 workers, 10 events a second from 1970 on.
    fn default() -> LabOptions {
        LabOptions {
            seed: 0,
            devices: 20,
            workers: 4,
            topic: "org.lavasoftware".to_owned(),
            start: Timestamp::UNIX_EPOCH,
            rate: 10.0,
            profile: Profile::Steady,
        }
    }
}

/// One event of the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabEvent {
    /// When it is to be sent, which is what its UUID and third frame say too.
    pub at: Timestamp,
    /// What is to be sent.
    pub record: Record,
}

/// A simulated lab: an iterator over its events, in order of time, without end.
///
/// It begins with every worker and every device, as a server does that comes up. What it does with jobs and devices is
/// what LAVA does, in the order in which LAVA does it: it shows in tests that clients keep up with that.
///
/// ```
/// use lavabus_cli::mock::{Lab, LabOptions};
///
/// let options = LabOptions { seed: 7, devices: 3, workers: 1, ..LabOptions::default() };
/// let mut lab = Lab::new(options);
/// let first = lab.next().expect("a lab has no end");
/// assert_eq!(first.record.topic, "org.lavasoftware.worker");
/// assert_eq!(first.record.data, r#"{"hostname": "worker-01", "health": "Active", "state": "Online"}"#);
/// assert!(lab.take(1000).any(|event| event.record.event().is_finished()));
/// ```
#[derive(Clone, Debug)]
pub struct Lab {
    topic: String,
    random: Xoshiro256PlusPlus,
    clock: Clock,
    /// The present on the agenda's scale.
    now: u64,
    agenda: BinaryHeap<Reverse<(u64, u64, Step)>>,
    steps: u64,
    ready: VecDeque<LabEvent>,
    workers: Vec<Worker>,
    devices: Vec<Device>,
    /// All that are not finished.
    jobs: BTreeMap<u64, Job>,
    last_job: u64,
    /// Submitted jobs, in the order in which they are looked at.
    waiting: BTreeSet<(Reverse<u8>, u64)>,
    /// Idle devices that may take any job, by device type.
    available: BTreeMap<&'static str, BTreeSet<usize>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Submit,
    Start(u64),
    Message(u64),
    Cancel(u64),
    End(u64),
    WorkerGoes,
    WorkerComes(usize),
    DeviceTrouble,
    DeviceRepaired(usize),
}

#[derive(Clone, Debug)]
struct Worker {
    hostname: String,
    online: bool,
    devices: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Device {
    name: String,
    device_type: &'static str,
    worker: Option<usize>,
    health: &'static str,
    state: &'static str,
    /// Its job, once LAVA shows it: from Running on.
    job: Option<DeviceJob>,
}

#[derive(Clone, Debug)]
struct Job {
    state: &'static str,
    /// How it will end, if nothing comes between.
    verdict: &'static str,
    description: String,
    priority: u8,
    submit_time: String,
    submitter: &'static str,
    health_check: bool,
    sub_id: Option<String>,
    /// The other half of a multinode job.
    partner: Option<u64>,
    device_type: &'static str,
    device: Option<usize>,
    start_time: Option<String>,
}

impl Lab {
    /// A lab that has not begun yet. Zero devices or workers are taken as one.
    pub fn new(options: LabOptions) -> Lab {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(options.seed);
        let clock = Clock::new(
            options.start,
            options.rate,
            options.profile,
            Xoshiro256PlusPlus::seed_from_u64(random.random()),
        );
        let mut lab = Lab {
            topic: options.topic,
            random,
            clock,
            now: 0,
            agenda: BinaryHeap::new(),
            steps: 0,
            ready: VecDeque::new(),
            workers: Vec::new(),
            devices: Vec::new(),
            jobs: BTreeMap::new(),
            last_job: 0,
            waiting: BTreeSet::new(),
            available: BTreeMap::new(),
        };
        lab.furnish(usize::from(options.devices.max(1)), usize::from(options.workers.max(1)));
        lab
    }

    fn furnish(&mut self, devices: usize, workers: usize) {
        for number in 1..=workers {
            self.workers.push(Worker {
                hostname: format!("worker-{number:02}"),
                online: true,
                devices: Vec::new(),
            });
            self.emit_worker(number - 1);
        }
        let types = (devices / 4).clamp(1, DEVICE_TYPES.len());
        for index in 0..devices {
            let device_type = DEVICE_TYPES[index % types];
            // In a lab of some size there is one device that belongs to nobody.
            let worker = (devices < 10 || index + 1 < devices).then_some(index % workers);
            if let Some(worker) = worker {
                self.workers[worker].devices.push(index);
            }
            self.devices.push(Device {
                name: format!("{device_type}-{:02}", index / types + 1),
                device_type,
                worker,
                health: match worker {
                    None => "Maintenance",
                    Some(_) if self.random.random_bool(0.2) => "Unknown",
                    Some(_) => "Good",
                },
                state: "Idle",
                job: None,
            });
            self.emit_device(index);
        }
        for device in 0..devices {
            self.offer(device);
        }
        self.plan(0, Step::Submit);
        let soon = self.random.random_range(5 * MINUTE..60 * MINUTE);
        self.plan(soon, Step::WorkerGoes);
        let soon = self.random.random_range(MINUTE..10 * MINUTE);
        self.plan(soon, Step::DeviceTrouble);
    }

    fn plan(&mut self, after: u64, step: Step) {
        self.steps += 1;
        self.agenda.push(Reverse((self.now + after, self.steps, step)));
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.random_range(0..from.len())]
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::Submit => self.submit(),
            Step::Start(job) => self.start(job),
            Step::Message(job) => self.message(job),
            Step::Cancel(job) => self.cancel(job),
            Step::End(job) => self.end(job),
            Step::WorkerGoes => self.worker_goes(),
            Step::WorkerComes(worker) => self.worker_comes(worker),
            Step::DeviceTrouble => self.device_trouble(),
            Step::DeviceRepaired(device) => self.set_health(device, "Unknown"),
        }
    }
}

/// Jobs.
impl Lab {
    /// People submit a little less than the devices can do, and stop when many jobs wait.
    fn submit(&mut self) {
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

    fn new_job(
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

    fn job(&mut self, id: u64) -> &mut Job {
        self.jobs
            .get_mut(&id)
            .expect("only jobs that are not finished are asked for")
    }

    /// Gives waiting jobs to devices, the higher priority first.
    fn schedule(&mut self) {
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

    fn reserve(&mut self, id: u64, device: usize) {
        self.devices[device].state = "Reserved";
        self.job(id).device = Some(device);
        self.emit_device(device);
    }

    fn scheduled(&mut self, id: u64) {
        self.job(id).state = "Scheduled";
        self.emit_job(id, None);
        let after = self.random.random_range(SECOND..20 * SECOND);
        self.plan(after, Step::Start(id));
    }

    fn start(&mut self, id: u64) {
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
        let messages = self.pick(&[0, 0, 0, 1, 1, 2, 3]);
        for _ in 0..messages {
            let after = self.random.random_range(0..length);
            self.plan(after, Step::Message(id));
        }
    }

    fn message(&mut self, id: u64) {
        if self.jobs.get(&id).is_none_or(|job| job.state != "Running") {
            return;
        }
        let message = self.pick(&MESSAGES).into();
        let data = data::write(&MessageData { message, job: id });
        self.emit(Kind::Event, "lavaserver", data);
    }

    fn cancel(&mut self, id: u64) {
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

    fn end(&mut self, id: u64) {
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
        let health_check = job.health_check;
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

/// Devices and workers.
impl Lab {
    fn is_served(&self, device: usize) -> bool {
        self.devices[device]
            .worker
            .is_some_and(|worker| self.workers[worker].online)
    }

    /// Says whether this device can take jobs now. One whose health is not known, or that loops, gets a health check.
    fn offer(&mut self, device: usize) {
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

    fn set_health(&mut self, device: usize, health: &'static str) {
        if self.devices[device].health != health {
            self.devices[device].health = health;
            self.emit_device(device);
            self.offer(device);
        }
    }

    /// Somebody takes an idle device away for a while, or lets it run health checks again and again.
    fn device_trouble(&mut self) {
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
    fn worker_goes(&mut self) {
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
            self.job(id).verdict = "Incomplete";
            let after = self.random.random_range(SECOND..MINUTE);
            self.plan(after, Step::End(id));
        }
        let back = self.random.random_range(MINUTE..15 * MINUTE);
        self.plan(back, Step::WorkerComes(worker));
    }

    fn worker_comes(&mut self, worker: usize) {
        self.workers[worker].online = true;
        self.emit_worker(worker);
        for device in self.workers[worker].devices.clone() {
            self.offer(device);
        }
        self.schedule();
    }
}

/// Events.
impl Lab {
    fn emit_device(&mut self, device: usize) {
        let it = &self.devices[device];
        let data = data::write(&DeviceData {
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
    fn emit_job(&mut self, id: u64, ended: Option<&str>) {
        let job = &self.jobs[&id];
        let device = job.device.map(|device| &self.devices[device]);
        let worker = device.and_then(|device| device.worker);
        let end_time = ended.map(|_| datetime_text(self.clock.now()));
        let data = data::write(&JobData {
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

    fn emit_worker(&mut self, worker: usize) {
        let it = &self.workers[worker];
        let data = data::write(&WorkerData {
            hostname: &it.hostname,
            health: "Active",
            state: if it.online { "Online" } else { "Offline" },
        });
        self.emit(Kind::Worker, "lavaserver", data);
    }

    fn emit(&mut self, kind: Kind, username: &str, data: String) {
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

impl Iterator for Lab {
    type Item = LabEvent;

    fn next(&mut self) -> Option<LabEvent> {
        while self.ready.is_empty() {
            // Submitting, workers and devices plan themselves again, so the agenda never becomes empty.
            let Reverse((now, _, step)) = self.agenda.pop()?;
            self.now = now;
            self.act(step);
        }
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests;
