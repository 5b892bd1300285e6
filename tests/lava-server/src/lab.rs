//! The database of the stand-in: what is there, who may see it, what an action does to it. No I/O.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::definition::Definition;
use crate::event::{self, Event, Subject};
use crate::job::{Device, Job, TestCase, Worker};
use crate::time;

/// Jobs kept; a submission beyond is answered with 503, another job panics.
pub(crate) const MAX_JOBS: usize = 10_000;
/// Log lines kept of one job.
pub(crate) const MAX_LOG_LINES: usize = 100_000;
/// Requests remembered.
pub(crate) const MAX_REQUESTS: usize = 10_000;
/// Test cases kept of one job.
pub(crate) const MAX_TESTS: usize = 10_000;

/// A user of the server; anonymous is `None` of this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) superuser: bool,
}

#[derive(Debug)]
struct Account {
    token: String,
    superuser: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Lab {
    topic: String,
    next_job: u64,
    accounts: BTreeMap<String, Account>,
    pub(crate) refuse_tokens: bool,
    jobs: BTreeMap<u64, Job>,
    devices: BTreeMap<String, Device>,
    workers: BTreeMap<String, Worker>,
    logs: HashMap<u64, Vec<String>>,
    tests: HashMap<u64, Vec<TestCase>>,
    next_test: u64,
    /// Suites by their number, which is the position here plus one.
    suites: Vec<(u64, String)>,
    pub(crate) submissions: usize,
    pub(crate) cancelled: Vec<String>,
    pub(crate) requests: VecDeque<String>,
}

/// Why a job was not cancelled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CancelRefused {
    NoSuchJob,
    NotAllowed,
}

/// Why nothing was submitted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Lab {
    pub(crate) fn new(topic: String, first_job: u64) -> Self {
        let mut lab = Self {
            topic,
            next_job: first_job,
            ..Self::default()
        };
        lab.put_device(Device::default());
        lab.put_worker(Worker::default());
        lab
    }

    // Who asks.

    pub(crate) fn put_user(&mut self, name: &str, token: &str, superuser: bool) {
        self.accounts.insert(
            name.to_owned(),
            Account {
                token: token.to_owned(),
                superuser,
            },
        );
    }

    /// The REST API's way: the token alone names the user.
    pub(crate) fn user_by_token(&self, token: &str) -> Option<User> {
        let (name, account) = self.accounts.iter().find(|(_, account)| account.token == token)?;
        (!self.refuse_tokens).then(|| User {
            name: name.clone(),
            superuser: account.superuser,
        })
    }

    /// The way of XML-RPC and the WebSocket: the user's name and one of his tokens.
    pub(crate) fn user_by_name(&self, name: &str, token: &str) -> Option<User> {
        self.user_by_token(token)?;
        let account = self.accounts.get(name).filter(|account| account.token == token)?;
        Some(User {
            name: name.to_owned(),
            superuser: account.superuser,
        })
    }

    // Who may see what.

    fn may_see_device(device: Option<&Device>, user: Option<&User>) -> bool {
        !device.is_some_and(|device| device.private) || user.is_some_and(|user| user.superuser)
    }

    pub(crate) fn may_see_job(&self, job: &Job, user: Option<&User>) -> bool {
        if user.is_some_and(|user| user.superuser || user.name == job.submitter) {
            return true;
        }
        !job.private && Self::may_see_device(job.device.as_ref().and_then(|name| self.devices.get(name)), user)
    }

    pub(crate) fn may_see(&self, subject: &Subject, user: Option<&User>) -> bool {
        match subject {
            Subject::Device(device) => Self::may_see_device(Some(device), user),
            Subject::Job { job, .. } => self.may_see_job(job, user),
            Subject::Worker => true,
        }
    }

    // Reading.

    pub(crate) fn jobs(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.jobs.values()
    }

    /// By database id only, as the REST API finds a job.
    pub(crate) fn job(&self, id: u64) -> Option<&Job> {
        self.jobs.get(&id)
    }

    /// By database id or sub id, as `TestJob.get_by_job_number` finds a job.
    pub(crate) fn number_of(&self, id: &str) -> Option<u64> {
        if id.contains('.') {
            return self
                .jobs
                .iter()
                .find(|(_, job)| job.sub_id.as_deref() == Some(id))
                .map(|(&number, _)| number);
        }
        id.parse().ok().filter(|number| self.jobs.contains_key(number))
    }

    pub(crate) fn device(&self, name: &str, user: Option<&User>) -> Option<&Device> {
        self.devices
            .get(name)
            .filter(|device| Self::may_see_device(Some(device), user))
    }

    pub(crate) fn worker(&self, name: &str) -> Option<&Worker> {
        self.workers.get(name)
    }

    pub(crate) fn log(&self, id: u64) -> Option<&[String]> {
        self.logs.get(&id).map(Vec::as_slice)
    }

    pub(crate) fn tests(&self, id: u64) -> &[TestCase] {
        self.tests.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The suites of a job with their numbers, oldest first.
    pub(crate) fn suites(&self, id: u64) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.suites.iter().enumerate();
        numbered
            .filter(move |(_, (job, _))| *job == id)
            .map(|(index, (_, name))| (index + 1, name.as_str()))
    }

    fn worker_of(&self, job: &Job) -> Option<String> {
        self.devices.get(job.device.as_ref()?)?.worker.clone()
    }

    // Changing.

    /// Keeps a job as it is; gives the id.
    ///
    /// # Panics
    /// If its id is not a number, is taken, or the lab is full.
    pub(crate) fn put_job(&mut self, mut job: Job) -> String {
        assert!(self.jobs.len() < MAX_JOBS, "no more than {MAX_JOBS} jobs");
        if job.id.is_empty() {
            job.id = self.next_job.to_string();
        }
        let number: u64 = job
            .id
            .parse()
            .expect("a job's id is a number; `sub_id` is for the form with a dot");
        job.id = number.to_string();
        assert!(!self.jobs.contains_key(&number), "there is a job {number} already");
        self.next_job = self.next_job.max(number.saturating_add(1));
        if let Some(name) = &job.device {
            let device_type = job.device_type.clone().unwrap_or_else(|| "qemu".to_owned());
            self.devices.entry(name.clone()).or_insert_with(|| Device {
                hostname: name.clone(),
                device_type,
                ..Device::default()
            });
        }
        let id = job.id.clone();
        let (state, health) = (job.state.clone(), job.health.clone());
        self.jobs.insert(number, job);
        if state == "Finished" {
            self.set_job(number, &state, &health);
        }
        id
    }

    pub(crate) fn put_device(&mut self, device: Device) {
        self.devices.insert(device.hostname.clone(), device);
    }

    pub(crate) fn put_worker(&mut self, worker: Worker) {
        self.workers.insert(worker.hostname.clone(), worker);
    }

    /// Makes the jobs of a definition; their database ids and the events that LAVA sends for them.
    pub(crate) fn submit(
        &mut self,
        text: &str,
        read: &Definition,
        user: &User,
    ) -> Result<(Vec<u64>, Vec<Event>), Full> {
        if self.jobs.len() + read.parts.len() > MAX_JOBS {
            return Err(Full);
        }
        let first = self.next_job;
        let mut numbers = Vec::new();
        for (index, part) in read.parts.iter().enumerate() {
            let id = self.put_job(Job {
                sub_id: read.multinode.then(|| format!("{first}.{index}")),
                submitter: user.name.clone(),
                description: read.job_name.clone(),
                device_type: part.device_type.clone(),
                private: read.private,
                priority: read.priority,
                definition: text.to_owned(),
                ..Job::default()
            });
            numbers.extend(self.number_of(&id));
        }
        self.submissions += 1;
        let events = numbers.iter().map(|number| self.job_event(*number)).collect();
        Ok((numbers, events))
    }

    fn job_event(&self, number: u64) -> Event {
        let job = &self.jobs[&number];
        event::of_job(&self.topic, job, self.worker_of(job))
    }

    /// Puts a job into a state, with the times and the device that come with it.
    pub(crate) fn set_job(&mut self, number: u64, state: &str, health: &str) -> Option<Event> {
        let job = self.jobs.get_mut(&number)?;
        let placed = matches!(state, "Scheduled" | "Running");
        if placed && job.device.is_none() {
            let device_type = job.device_type.clone().unwrap_or_else(|| "qemu".to_owned());
            let name = format!("{device_type}-01");
            self.devices.entry(name.clone()).or_insert_with(|| Device {
                hostname: name.clone(),
                device_type,
                ..Device::default()
            });
            job.device = Some(name);
        }
        if state == "Running" && job.start_time.is_none() {
            job.start_time = Some(time::now());
        }
        if state == "Finished" && job.end_time.is_none() {
            job.end_time = Some(time::now());
        }
        job.state = state.to_owned();
        job.health = health.to_owned();
        // The dispatcher's last line makes the result `lava/job`, whose metadata say why a job failed.
        let result = match (state, health) {
            ("Finished", "Complete") => Some("pass"),
            ("Finished", "Incomplete") => Some("fail"),
            _ => None,
        };
        if let Some(result) = result
            && !self
                .tests(number)
                .iter()
                .any(|case| case.suite == "lava" && case.name == "job")
        {
            self.add_test(number, "lava", "job", result);
        }
        Some(self.job_event(number))
    }

    pub(crate) fn change_job(&mut self, number: u64, change: impl FnOnce(&mut Job)) {
        if let Some(job) = self.jobs.get_mut(&number) {
            let (id, sub_id) = (job.id.clone(), job.sub_id.clone());
            change(job);
            (job.id, job.sub_id) = (id, sub_id);
        }
    }

    pub(crate) fn delete_job(&mut self, number: u64) {
        self.jobs.remove(&number);
        self.logs.remove(&number);
        self.tests.remove(&number);
    }

    /// As `TestJob.cancel`: a queued job ends at once, one with a device becomes Canceling, all parts of a multinode
    /// job together. Nothing happens to a job that has ended.
    pub(crate) fn cancel(&mut self, number: u64, user: Option<&User>) -> Result<Vec<Event>, CancelRefused> {
        let job = self.jobs.get(&number).ok_or(CancelRefused::NoSuchJob)?;
        if matches!(job.state.as_str(), "Canceling" | "Finished") {
            return Ok(Vec::new());
        }
        if !user.is_some_and(|user| user.superuser || user.name == job.submitter) {
            return Err(CancelRefused::NotAllowed);
        }
        let group = job
            .sub_id
            .as_deref()
            .and_then(|sub_id| sub_id.split_once('.'))
            .map(|(group, _)| group.to_owned());
        let numbers: Vec<u64> = match group {
            None => vec![number],
            Some(group) => {
                let of_group = |job: &Job| {
                    job.sub_id
                        .as_deref()
                        .and_then(|sub_id| sub_id.split_once('.'))
                        .is_some_and(|(own, _)| own == group)
                };
                self.jobs
                    .iter()
                    .filter(|(_, job)| of_group(job))
                    .map(|(&number, _)| number)
                    .collect()
            }
        };
        let mut events = Vec::new();
        for number in numbers {
            let (state, health) = match self.jobs[&number].state.as_str() {
                "Canceling" | "Finished" => continue,
                "Submitted" => ("Finished", "Canceled"),
                _ => ("Canceling", "Unknown"),
            };
            events.extend(self.set_job(number, state, health));
            self.cancelled.push(self.jobs[&number].id.clone());
        }
        Ok(events)
    }

    pub(crate) fn set_device(&mut self, name: &str, state: &str, health: &str) -> Event {
        let device = self.devices.entry(name.to_owned()).or_insert_with(|| Device {
            hostname: name.to_owned(),
            ..Device::default()
        });
        device.state = state.to_owned();
        device.health = health.to_owned();
        let current = self
            .jobs
            .values()
            .rev()
            .find(|job| job.device.as_deref() == Some(name) && !job.is_ended());
        event::of_device(&self.topic, device, current)
    }

    pub(crate) fn set_worker(&mut self, name: &str, state: &str, health: &str) -> Event {
        let worker = self.workers.entry(name.to_owned()).or_insert_with(|| Worker {
            hostname: name.to_owned(),
            ..Worker::default()
        });
        worker.state = state.to_owned();
        worker.health = health.to_owned();
        event::of_worker(&self.topic, worker)
    }

    /// # Panics
    /// If the job's log is full.
    pub(crate) fn add_log(&mut self, number: u64, line: String) {
        let lines = self.logs.entry(number).or_default();
        assert!(lines.len() < MAX_LOG_LINES, "no more than {MAX_LOG_LINES} lines a log");
        lines.push(line);
    }

    /// # Panics
    /// If the job has too many.
    pub(crate) fn add_test(&mut self, number: u64, suite: &str, name: &str, result: &str) {
        if !self.suites(number).any(|(_, known)| known == suite) {
            self.suites.push((number, suite.to_owned()));
        }
        self.next_test += 1;
        let tests = self.tests.entry(number).or_default();
        assert!(tests.len() < MAX_TESTS, "no more than {MAX_TESTS} test cases a job");
        tests.push(TestCase {
            id: self.next_test,
            suite: suite.to_owned(),
            name: name.to_owned(),
            result: result.to_owned(),
            logged: time::now(),
        });
    }

    pub(crate) fn remember(&mut self, request: String) {
        if self.requests.len() == MAX_REQUESTS {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_last_requests_are_remembered() {
        let mut lab = Lab::new("x".into(), 1);
        for number in 0..=MAX_REQUESTS {
            lab.remember(number.to_string());
        }
        assert_eq!(lab.requests.len(), MAX_REQUESTS);
        assert_eq!(lab.requests.front().unwrap(), "1");
    }

    #[test]
    fn a_full_lab_takes_no_definition() {
        let mut lab = Lab::new("x".into(), 1);
        for _ in 0..MAX_JOBS {
            lab.put_job(Job::default());
        }
        let read = crate::definition::read("job_name: x").unwrap();
        let user = User {
            name: "admin".into(),
            superuser: true,
        };
        assert_eq!(lab.submit("job_name: x", &read, &user).err(), Some(Full));
        assert_eq!(lab.submissions, 0);
    }

    #[test]
    fn a_device_event_names_the_job_that_has_not_ended() {
        let mut lab = Lab::new("x".into(), 7);
        lab.put_job(Job::default());
        lab.set_job(7, "Running", "Unknown");
        assert!(lab.set_device("qemu-01", "Running", "Good").frames[4].ends_with("\"job\": 7}"));
        lab.set_job(7, "Finished", "Complete");
        assert!(!lab.set_device("qemu-01", "Idle", "Good").frames[4].contains("\"job\""));
    }
}
