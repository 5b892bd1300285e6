//! Devices, workers and jobs: how they are, since when, and what is wrong with them.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::ControlFlow;

use lavabus_protocol::{Event, JobId, Kind};
use rusqlite::params;

use super::faults::current_fault;
use super::history::{Rate, Streak, WINDOW_US, cause, rate, streak, tries_and_newest_cause};
use super::{Answer, Moment, collect, is_lab, walk};
use crate::error::StoreError;
use crate::projection::attempt::{Attempt, Outcome};
use crate::projection::entity::Entity;
use crate::projection::fault::Fault;
use crate::reader::Reader;

const OF_KIND: &str = "SELECT * FROM entity WHERE kind = ?1";
const NAMED: &str = "SELECT * FROM entity WHERE kind = ?1 AND id = ?2";
const OF_SUB_ID: &str = "SELECT * FROM entity WHERE sub_id = ?1";
// Without being told so, SQLite reads every job by the primary key and sorts them.
pub(super) const OPEN_JOBS: &str = "SELECT * FROM entity INDEXED BY entity_open_job
    WHERE kind = 'testjob' AND finished = 0 ORDER BY received DESC";
const FINISHED_JOBS: &str = "SELECT * FROM entity INDEXED BY entity_ended
    WHERE kind = 'testjob' AND finished = 1 ORDER BY ended_us DESC";

#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[OF_KIND, NAMED, OF_SUB_ID, OPEN_JOBS, FINISHED_JOBS];

/// So many unfinished jobs are listed at most, those that were heard of last.
pub const OPEN_JOBS_LISTED: usize = 1_000;
/// So many finished jobs are looked at for those that are asked for.
pub const FINISHED_JOBS_SEEN: usize = 10_000;

/// A device, and what follows from what was tried on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceView {
    /// As its events tell it.
    pub entity: Entity,
    /// Its latest tries with the same outcome.
    pub streak: Option<Streak>,
    /// How its tries went in the last two days.
    pub rate: Rate,
    /// Why its latest try failed, if it did.
    pub cause: Option<String>,
    /// What is wrong with it.
    pub fault: Option<Fault>,
}

/// A worker and its devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerView {
    /// As its events tell it.
    pub entity: Entity,
    /// The devices whose latest event names it, by name.
    pub devices: Vec<String>,
    /// What is wrong with it.
    pub fault: Option<Fault>,
}

/// A job, and what is known of its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// As its events tell it.
    pub entity: Entity,
    /// Why it failed, where an attempt told it.
    pub told_cause: Option<String>,
    /// What is wrong with it.
    pub fault: Option<Fault>,
}

impl JobView {
    /// Why it failed, where an attempt or a fault told it.
    pub fn cause(&self) -> Option<String> {
        let of_fault = self
            .fault
            .as_ref()
            .map(|fault| super::history::one_line(&fault.message));
        self.told_cause.clone().or(of_fault)
    }
}

/// Jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jobs {
    /// Those that are not finished, the newest first.
    pub open: Vec<Entity>,
    /// Whether there are more than [`OPEN_JOBS_LISTED`].
    pub more_open: bool,
    /// Those that are, the last one first.
    pub finished: Vec<Entity>,
    /// Whether only the newest [`FINISHED_JOBS_SEEN`] were looked at, and fewer than asked for were among them.
    pub not_all_seen: bool,
}

/// Whether a device is Reserved or Running: then the job that it names is its current one. An idle device may still name
/// the last one.
pub fn is_busy(device: &Event) -> bool {
    let is = |wanted: &str| device.state().is_some_and(|state| state.eq_ignore_ascii_case(wanted));
    is("Reserved") || is("Running")
}

impl Moment<'_> {
    /// Every entity of a kind of which there are not many.
    pub(super) fn entities_of(&self, kind: Kind) -> Result<Vec<Entity>, StoreError> {
        let changed = &self.recent.changed;
        let mut entities = collect(&self.conn, OF_KIND, [kind.as_str()], changed, |entity| {
            entity.kind == kind
        })?;
        entities.sort_by(|a, b| (&a.id, &a.lab).cmp(&(&b.id, &b.lab)));
        Ok(entities)
    }

    /// Those with this name, in each lab.
    fn named(&self, kind: Kind, id: &str, lab: Option<&str>) -> Result<Vec<Entity>, StoreError> {
        let is_meant = |entity: &Entity| entity.kind == kind && entity.id == id && is_lab(lab, &entity.lab);
        let changed = &self.recent.changed;
        let mut entities = collect(&self.conn, NAMED, params![kind.as_str(), id], changed, is_meant)?;
        entities.sort_by(|a, b| a.lab.cmp(&b.lab));
        Ok(entities)
    }

    /// The jobs with this number, or else with this sub id.
    fn jobs_named(&self, id: &str, lab: Option<&str>) -> Result<Vec<Entity>, StoreError> {
        let found = self.named(Kind::Testjob, id, lab)?;
        if !found.is_empty() || !id.contains('.') {
            return Ok(found);
        }
        let is_meant = |entity: &Entity| entity.sub_id.as_deref() == Some(id) && is_lab(lab, &entity.lab);
        let mut jobs = collect(&self.conn, OF_SUB_ID, [id], &self.recent.changed, is_meant)?;
        jobs.sort_by(|a, b| a.lab.cmp(&b.lab).then(b.latest.seq.cmp(&a.latest.seq)));
        // A number is used again after a database was set up anew.
        jobs.dedup_by(|a, b| a.lab == b.lab);
        Ok(jobs)
    }

    pub(super) fn job(&self, id: &str, lab: &str) -> Result<Option<Entity>, StoreError> {
        Ok(self.jobs_named(id, Some(lab))?.into_iter().next())
    }

    fn device_view(&self, entity: Entity, fault: Option<Fault>, now_us: i64) -> Result<DeviceView, StoreError> {
        let attempts = self.attempts_on(&entity.lab, &entity.id)?;
        let (tries, cause) = tries_and_newest_cause(&attempts);
        Ok(DeviceView {
            streak: streak(&tries),
            rate: rate(&tries, now_us.saturating_sub(WINDOW_US)),
            cause,
            fault,
            entity,
        })
    }

    /// The devices of each worker, by lab and worker.
    fn devices_by_worker(&self) -> Result<HashMap<(String, String), Vec<String>>, StoreError> {
        let mut devices: HashMap<(String, String), Vec<String>> = HashMap::new();
        for device in self.entities_of(Kind::Device)? {
            let event = device.told();
            if let Some(worker) = event.worker() {
                devices
                    .entry((device.lab, worker.to_owned()))
                    .or_default()
                    .push(device.id);
            }
        }
        Ok(devices)
    }

    /// What is wrong now, by lab and subject.
    fn current_faults(&self) -> Result<HashMap<(String, String), Fault>, StoreError> {
        let mut by_subject: HashMap<(String, String), Vec<Fault>> = HashMap::new();
        for fault in self.open_faults()? {
            by_subject
                .entry((fault.lab.clone(), fault.subject.clone()))
                .or_default()
                .push(fault);
        }
        let current = |(subject, faults): (_, Vec<Fault>)| Some((subject, current_fault(&faults)?.clone()));
        Ok(by_subject.into_iter().filter_map(current).collect())
    }

    fn current_fault(&self, lab: &str, subject: &str) -> Result<Option<Fault>, StoreError> {
        Ok(current_fault(&self.faults_of(lab, subject)?).cloned())
    }
}

impl Reader {
    /// The device of this name, one a lab.
    pub fn device(&self, name: &str, lab: Option<&str>, now_us: i64) -> Result<Answer<Vec<DeviceView>>, StoreError> {
        let moment = self.moment()?;
        let mut views = Vec::new();
        for entity in moment.named(Kind::Device, name, lab)? {
            let fault = moment.current_fault(&entity.lab, &format!("device/{name}"))?;
            views.push(moment.device_view(entity, fault, now_us)?);
        }
        Ok(moment.answer(views))
    }

    /// The devices that are wanted, by name.
    pub fn devices(
        &self,
        now_us: i64,
        wanted: impl Fn(&Entity) -> bool,
    ) -> Result<Answer<Vec<DeviceView>>, StoreError> {
        let moment = self.moment()?;
        let mut faults = moment.current_faults()?;
        let mut views = Vec::new();
        for entity in moment.entities_of(Kind::Device)?.into_iter().filter(wanted) {
            let fault = faults.remove(&(entity.lab.clone(), format!("device/{}", entity.id)));
            views.push(moment.device_view(entity, fault, now_us)?);
        }
        Ok(moment.answer(views))
    }

    /// The worker of this name, one a lab.
    pub fn worker(&self, name: &str, lab: Option<&str>) -> Result<Answer<Vec<WorkerView>>, StoreError> {
        let moment = self.moment()?;
        let mut devices = moment.devices_by_worker()?;
        let mut views = Vec::new();
        for entity in moment.named(Kind::Worker, name, lab)? {
            views.push(WorkerView {
                devices: devices
                    .remove(&(entity.lab.clone(), name.to_owned()))
                    .unwrap_or_default(),
                fault: moment.current_fault(&entity.lab, &format!("worker/{name}"))?,
                entity,
            });
        }
        Ok(moment.answer(views))
    }

    /// The workers that are wanted, by name.
    pub fn workers(&self, wanted: impl Fn(&Entity) -> bool) -> Result<Answer<Vec<WorkerView>>, StoreError> {
        let moment = self.moment()?;
        let mut devices = moment.devices_by_worker()?;
        let mut faults = moment.current_faults()?;
        let workers = moment.entities_of(Kind::Worker)?.into_iter().filter(wanted);
        let views = workers.map(|entity| WorkerView {
            devices: devices
                .remove(&(entity.lab.clone(), entity.id.clone()))
                .unwrap_or_default(),
            fault: faults.remove(&(entity.lab.clone(), format!("worker/{}", entity.id))),
            entity,
        });
        let views = views.collect();
        Ok(moment.answer(views))
    }

    /// The job with this number or sub id, one a lab.
    pub fn job(&self, id: &JobId, lab: Option<&str>) -> Result<Answer<Vec<JobView>>, StoreError> {
        let moment = self.moment()?;
        let mut views = Vec::new();
        for entity in moment.jobs_named(id.as_str(), lab)? {
            let attempts = moment.attempts_of_job(&entity.lab, &entity.id)?;
            // A job that failed by its own fault says nothing of the device, but why it failed all the same.
            let is_failed = |attempt: &&Attempt| attempt.outcome != Outcome::Pass;
            views.push(JobView {
                told_cause: attempts.iter().filter(is_failed).find_map(cause),
                fault: moment.current_fault(&entity.lab, &format!("job/{}", entity.id))?,
                entity,
            });
        }
        Ok(moment.answer(views))
    }

    /// The unfinished jobs that are wanted, and of those that finished the last `limit`.
    pub fn jobs(&self, limit: usize, wanted: impl Fn(&Entity) -> bool) -> Result<Answer<Jobs>, StoreError> {
        let moment = self.moment()?;
        let changed = &moment.recent.changed;
        let is_open = |entity: &Entity| entity.kind == Kind::Testjob && !entity.finished && wanted(entity);
        let mut open = collect(&moment.conn, OPEN_JOBS, [], changed, is_open)?;
        open.sort_by_key(|job| Reverse((job.submitted_us.unwrap_or(job.since_us), job.first_seq)));
        let more_open = open.len() > OPEN_JOBS_LISTED;
        open.truncate(OPEN_JOBS_LISTED);

        let is_finished = |entity: &Entity| entity.finished && wanted(entity);
        let mut finished: Vec<Entity> = Vec::new();
        let mut seen = 0;
        walk(&moment.conn, FINISHED_JOBS, [], changed, |job| {
            if finished.len() == limit || seen == FINISHED_JOBS_SEEN {
                return ControlFlow::Break(());
            }
            seen += 1;
            if is_finished(&job) {
                finished.push(job);
            }
            ControlFlow::Continue(())
        })?;
        let not_all_seen = seen == FINISHED_JOBS_SEEN && finished.len() < limit;
        finished.extend(
            changed
                .iter()
                .flat_map(|(_, jobs)| jobs)
                .filter(|job| is_finished(job))
                .cloned(),
        );
        finished.sort_by_key(|job| Reverse((job.ended_us, job.first_seq)));
        finished.truncate(limit);
        Ok(moment.answer(Jobs {
            open,
            more_open,
            finished,
            not_all_seen,
        }))
    }
}
