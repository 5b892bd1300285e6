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
//! Beside LAVA's own events, a job that runs is reported of as attempts, stages, faults and results: `reports.rs`.
//!
//! Order and time are apart. An agenda on the lab's own scale decides what comes after what; [`Clock`] then gives each
//! event its time, so that the rate is what was asked for whatever the lab does.

mod devices;
mod events;
mod jobs;
mod reports;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use jiff::Timestamp;
use lavabus_protocol::Record;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

use self::reports::{Cause, Report};
use super::clock::{Clock, Profile};
use super::data::DeviceJob;

const DEVICE_TYPES: [&str; 5] = ["qemu", "raspberrypi-4b", "beaglebone-black", "imx8mp-evk", "juno-r2"];
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
/// what LAVA does, in the order in which LAVA does it: it shows in tests that clients keep up with that. Beside them come
/// attempts, stages, faults and results.
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
    /// Test cases that fail at present, by device type.
    broken: BTreeSet<(&'static str, &'static str)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Submit,
    Start(u64),
    Message(u64),
    Report(u64, Report),
    Archived(u64),
    Cancel(u64),
    End(u64),
    WorkerGoes,
    WorkerComes(usize),
    DeviceTrouble,
    DeviceRepaired(usize),
    BadSpell,
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
    /// Until then nearly all jobs fail on it,
    bad_until: u64,
    /// for this cause.
    weakness: Option<&'static Cause>,
    /// It is known to have failed, and no job went well since.
    has_fault: bool,
}

#[derive(Clone, Debug)]
struct Job {
    state: &'static str,
    /// How it will end, if nothing comes between.
    verdict: &'static str,
    /// Why, if that is Incomplete.
    cause: Option<&'static Cause>,
    /// A test of it gave a result.
    has_tests: bool,
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
            broken: BTreeSet::new(),
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
                bad_until: 0,
                weakness: None,
                has_fault: false,
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
        self.plan(0, Step::BadSpell);
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
            Step::Report(job, report) => self.report(job, report),
            Step::Archived(job) => self.archived(job),
            Step::Cancel(job) => self.cancel(job),
            Step::End(job) => self.end(job),
            Step::WorkerGoes => self.worker_goes(),
            Step::WorkerComes(worker) => self.worker_comes(worker),
            Step::DeviceTrouble => self.device_trouble(),
            Step::DeviceRepaired(device) => self.set_health(device, "Unknown"),
            Step::BadSpell => self.bad_spell(),
        }
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
