//! What has been in one state for too long: jobs that do not finish, devices that are busy with nothing, requests that a
//! service received and never ended.

use lavabus_protocol::Kind;
use lavabus_protocol::event::Body;

use super::entities::{OPEN_JOBS, is_busy};
use super::{Answer, Moment, collect, collect_first};
use crate::error::StoreError;
use crate::projection::entity::Entity;
use crate::projection::stage::OpenStage;
use crate::reader::Reader;

const STAGES: &str = "SELECT * FROM stage WHERE since_us <= ?1 ORDER BY since_us";

#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[STAGES];

/// What is stuck, the longest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stuck {
    /// Not finished, and in one state for too long.
    pub jobs: Vec<Entity>,
    /// Reserved or Running for a job that finished long ago, with that job. Only where both are known for sure: the
    /// device's last event still names the job, and the job's Finished was heard.
    pub devices: Vec<(Entity, Entity)>,
    /// Received and never ended.
    pub requests: Vec<OpenStage>,
    /// Whether there are more of any of them.
    pub more: bool,
}

impl Reader {
    /// What is in the same state since `before_us` (µs since 1970) or longer: at most `limit` jobs, devices and requests
    /// each.
    pub fn stuck(&self, before_us: i64, limit: usize) -> Result<Answer<Stuck>, StoreError> {
        let moment = self.moment()?;
        let changed = &moment.recent.changed;
        let is_stuck =
            |entity: &Entity| entity.kind == Kind::Testjob && !entity.finished && entity.since_us <= before_us;
        let mut jobs = collect(&moment.conn, OPEN_JOBS, [], changed, is_stuck)?;
        jobs.sort_by_key(|job| (job.since_us, job.first_seq));
        let mut devices = Vec::new();
        for device in moment.entities_of(Kind::Device)? {
            if let Some(job) = moment.finished_job_of(&device, before_us)? {
                devices.push((device, job));
            }
        }
        devices.sort_by_key(|(device, _)| (device.since_us, device.first_seq));
        let is_old = |stage: &OpenStage| stage.since_us <= before_us;
        let stages = &moment.history.stages;
        let mut requests = collect_first(
            limit.saturating_add(1),
            &moment.conn,
            STAGES,
            [before_us],
            stages,
            is_old,
        )?;
        requests.sort_by_key(|stage| (stage.since_us, stage.first_seq));
        let more = [jobs.len(), devices.len(), requests.len()]
            .iter()
            .any(|found| *found > limit);
        jobs.truncate(limit);
        devices.truncate(limit);
        requests.truncate(limit);
        Ok(moment.answer(Stuck {
            jobs,
            devices,
            requests,
            more,
        }))
    }
}

impl Moment<'_> {
    /// The job for which a device is busy although it finished long ago.
    fn finished_job_of(&self, device: &Entity, before_us: i64) -> Result<Option<Entity>, StoreError> {
        let event = device.told();
        let Body::Device(told) = event.body() else {
            return Ok(None);
        };
        let (true, Some(id)) = (is_busy(&event), &told.job) else {
            return Ok(None);
        };
        let job = self.job(id.as_str(), &device.lab)?;
        let is_over = |job: &Entity| {
            let ended_us = job.ended_us.unwrap_or(i64::MAX).max(job.since_us);
            job.finished && ended_us <= before_us && device.since_us <= before_us
        };
        Ok(job.filter(is_over))
    }
}
