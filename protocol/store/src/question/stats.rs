//! How much, how well and how fast: counts of events, success and times of jobs, times in services.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use lavabus_protocol::event::health;
use lavabus_protocol::{Event as TypedEvent, Kind};
use rusqlite::{Connection, params};

use super::mentions::Mentions;
use super::moment::UNREAD_EVENTS;
use super::stages::{StageEvent, passages};
use crate::error::StoreError;
use crate::projection::entity::Entity;
use crate::projection::reference::references;
use crate::projection::{self, Recent, RefKind, Told};
use crate::reader::{self, Reader, to_sql};

/// The figures of jobs are those of the newest so many that ended in the time asked for.
pub const MOST_JOBS: usize = 5_000;
/// Of one device or one type of device, so many of all jobs are looked through.
const JOBS_LOOKED_THROUGH: usize = 4 * MOST_JOBS;
/// The figures of services are those of the newest so many `.stage` events.
pub const MOST_STAGES: usize = 2_000;

const COUNT: &str = "SELECT count(*) FROM ref WHERE kind = ?1 AND id = ?2 AND seq > ?3 AND seq <= ?4";
const TOPICS: &str = "SELECT event.topic FROM ref CROSS JOIN event ON event.seq = ref.seq
    WHERE ref.kind = ?1 AND ref.id = ?2 AND ref.seq > ?3 AND ref.seq <= ?4";
const ENDED: &str = "SELECT id, lab, ended_us, started_us, submitted_us, data FROM entity INDEXED BY entity_ended
    WHERE kind = 'testjob' AND finished = 1 AND ended_us >= ?1 AND ended_us < ?2 ORDER BY ended_us DESC LIMIT ?3";

/// The statements of this file.
#[cfg(test)]
pub(super) const SQL: &[&str] = &[COUNT, TOPICS, ENDED];

/// Of what time and of which devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// From here on, in µs since 1970. Events by the time of their receipt, jobs by the time of their end.
    pub since_us: i64,
    /// To before this time.
    pub until_us: i64,
    /// Only of this device,
    pub device: Option<String>,
    /// and only of this type of devices.
    pub device_type: Option<String>,
}

/// How many events.
#[derive(Debug, Clone, PartialEq)]
pub struct KindCount {
    /// Of which kind; `other` for all that have no name here.
    pub kind: Kind,
    /// How many.
    pub count: u64,
    /// In the mean, over the time of which there are events; `None` without such a time.
    pub per_hour: Option<f64>,
}

/// How durations are spread: the least one that so many percent do not exceed, in µs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spread {
    /// Of how many durations.
    pub count: usize,
    /// For each of [`PERCENTS`]; `None` without a duration.
    pub percentiles: Option<[i64; 5]>,
}

/// Which percentiles.
pub const PERCENTS: [usize; 5] = [5, 10, 50, 90, 95];

impl Spread {
    /// Of these, in any order.
    pub fn of(mut durations_us: Vec<i64>) -> Spread {
        durations_us.sort_unstable();
        let count = durations_us.len();
        // The nearest rank, counted from 1.
        let at = |percent: usize| durations_us[(percent * count).div_ceil(100) - 1];
        Spread {
            count,
            percentiles: (count > 0).then(|| PERCENTS.map(at)),
        }
    }
}

/// A job that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedJob {
    /// How it ended, as LAVA wrote it.
    pub health: Option<String>,
    /// On which device.
    pub device: Option<String>,
    /// Of which type.
    pub device_type: Option<String>,
    /// In µs since 1970.
    pub submitted_us: Option<i64>,
    /// In µs since 1970.
    pub started_us: Option<i64>,
    /// In µs since 1970.
    pub ended_us: i64,
}

/// How well and how fast.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// So many went well.
    pub pass: usize,
    /// So many failed.
    pub fail: usize,
    /// So many say nothing: canceled, or without a known end.
    pub neutral: usize,
    /// How long they took, but for those that say nothing.
    pub duration: Spread,
    /// How long they waited before, but for those that say nothing.
    pub wait: Spread,
}

impl Figures {
    /// Between 0 and 1, of those that passed or failed; `None` without any.
    pub fn success_rate(&self) -> Option<f64> {
        let decided = self.pass + self.fail;
        (decided > 0).then(|| self.pass as f64 / decided as f64)
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// Events by kind; kinds without any are left out.
    pub events: Vec<KindCount>,
    /// Jobs, all together.
    pub jobs: Figures,
    /// Jobs by type of device.
    pub by_device_type: BTreeMap<String, Figures>,
    /// Requests by service; nothing where devices were asked for, which stages do not name.
    pub services: BTreeMap<String, Figures>,
    /// There are more than [`MOST_JOBS`]; these are the newest.
    pub jobs_cut: bool,
    /// There are more than [`MOST_STAGES`]; these are the newest.
    pub stages_cut: bool,
    /// So many of the newest events are not taken into account.
    pub left_out: u64,
}

impl Reader {
    /// How much, how well and how fast.
    pub fn stats(&self, scope: &Scope) -> Result<Stats, StoreError> {
        let after = self.seq_received_since(scope.since_us)? - 1;
        let upto = self.seq_received_since(scope.until_us)? - 1;
        let events = self.counts(scope, after, upto)?;
        let (jobs, jobs_cut) = self.ended_jobs(scope)?;
        let mentions = self.mentions()?;
        let (stages, stages_cut) = match scope.device.is_some() || scope.device_type.is_some() {
            true => (Vec::new(), false),
            false => stages(&mentions, after, upto)?,
        };
        let mut by_device_type: BTreeMap<String, Vec<&EndedJob>> = BTreeMap::new();
        for job in &jobs {
            let device_type = job.device_type.clone().unwrap_or_default();
            by_device_type.entry(device_type).or_default().push(job);
        }
        let by_device_type = by_device_type.into_iter();
        Ok(Stats {
            events,
            jobs: job_figures(&jobs.iter().collect::<Vec<_>>()),
            by_device_type: by_device_type
                .map(|(device_type, jobs)| (device_type, job_figures(&jobs)))
                .collect(),
            services: service_figures(&stages),
            jobs_cut,
            stages_cut,
            left_out: mentions.left_out(),
        })
    }

    fn counts(&self, scope: &Scope, after: u64, upto: u64) -> Result<Vec<KindCount>, StoreError> {
        let conn = self.connection();
        let indexed = projection::history_cursor(conn)?.clamp(after, upto.max(after));
        let wanted: Vec<(RefKind, &str)> = [
            (RefKind::Device, scope.device.as_deref()),
            (RefKind::DeviceType, scope.device_type.as_deref()),
        ]
        .into_iter()
        .filter_map(|(kind, id)| Some((kind, id?)))
        .collect();
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        match wanted.first() {
            None => count_all(conn, after, indexed, self.oldest()?.unwrap_or(1), &mut counts)?,
            Some((kind, id)) => {
                let mut select = conn.prepare_cached(TOPICS)?;
                let mut rows = select.query(params![*kind as u8, id, to_sql(after), to_sql(indexed)])?;
                while let Some(row) = rows.next()? {
                    let kind = Kind::of(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?);
                    *counts.entry(kind.as_str()).or_default() += 1;
                }
            }
        }
        self.scan(indexed, upto.min(indexed.saturating_add(UNREAD_EVENTS)), |row| {
            let told = Told::read(row);
            let mentioned = wanted.is_empty() || wanted.first().is_some_and(|id| references(&told).contains(id));
            if mentioned {
                *counts.entry(Kind::of(row.topic).as_str()).or_default() += 1;
            }
            ControlFlow::Continue(())
        })?;
        // A database that was begun within this time has no events of the time before.
        let first_us = match self.event(after + 1)? {
            Some(event) => event.received_us.max(scope.since_us),
            None => scope.since_us,
        };
        let hours = (scope.until_us - first_us) as f64 / 3.6e9;
        let kinds = Kind::ALL.into_iter();
        let counted = kinds.filter_map(|kind| Some((kind, *counts.get(kind.as_str())?)));
        let counted = counted.filter(|(_, count)| *count > 0);
        let count = |(kind, count)| KindCount {
            kind,
            count,
            per_hour: (hours > 0.0).then(|| count as f64 / hours),
        };
        Ok(counted.map(count).collect())
    }

    /// Jobs that ended in this time, the newest first, and whether there are more.
    fn ended_jobs(&self, scope: &Scope) -> Result<(Vec<EndedJob>, bool), StoreError> {
        let conn = self.connection().unchecked_transaction()?;
        let recent = Recent::read(&conn)?;
        let is_any = scope.device.is_none() && scope.device_type.is_none();
        let limit = if is_any { MOST_JOBS } else { JOBS_LOOKED_THROUGH };
        let changed = recent.changed.iter().flat_map(|(_, entities)| entities);
        let mut jobs: Vec<EndedJob> = changed
            .filter(|entity| entity.kind == Kind::Testjob && entity.finished)
            .filter_map(ended_job)
            .filter(|job| (scope.since_us..scope.until_us).contains(&job.ended_us))
            .collect();
        let mut select = conn.prepare_cached(ENDED)?;
        let mut rows = select.query(params![
            scope.since_us,
            scope.until_us,
            i64::try_from(limit).unwrap_or(i64::MAX)
        ])?;
        let mut read = 0;
        while let Some(row) = rows.next()? {
            read += 1;
            let (id, lab): (String, String) = (row.get(0)?, row.get(1)?);
            let owner = projection::entity::owner(Kind::Testjob, &id, &lab);
            if recent.changed.get(&owner).is_some() {
                continue;
            }
            let data = row.get_ref(5)?.as_str().map_err(rusqlite::Error::from)?;
            if !may_name(data, scope.device.as_deref()) || !may_name(data, scope.device_type.as_deref()) {
                continue;
            }
            jobs.push(job_of(data, row.get(4)?, row.get(3)?, row.get(2)?));
        }
        let same = |wanted: &Option<String>, has: &Option<String>| wanted.is_none() || wanted == has;
        jobs.retain(|job| same(&scope.device, &job.device) && same(&scope.device_type, &job.device_type));
        jobs.sort_by_key(|job| std::cmp::Reverse(job.ended_us));
        let is_cut = read == limit || jobs.len() > MOST_JOBS;
        jobs.truncate(MOST_JOBS);
        Ok((jobs, is_cut))
    }
}

/// Looking for a text costs less than reading JSON, in which whatever is not plain ASCII may be escaped.
fn may_name(data: &str, name: Option<&str>) -> bool {
    let is_plain = |name: &&str| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    name.filter(is_plain).is_none_or(|name| data.contains(name))
}

fn ended_job(entity: &Entity) -> Option<EndedJob> {
    Some(job_of(
        &entity.latest.data,
        entity.submitted_us,
        entity.started_us,
        entity.ended_us?,
    ))
}

fn job_of(data: &str, submitted_us: Option<i64>, started_us: Option<i64>, ended_us: i64) -> EndedJob {
    let event = TypedEvent::read(Kind::Testjob, data);
    let owned = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    EndedJob {
        health: owned(event.health()),
        device: owned(event.device()),
        device_type: owned(event.device_type()),
        submitted_us,
        started_us,
        ended_us,
    }
}

/// Every event has one kind, and numbers have no holes.
fn count_all(
    conn: &Connection,
    after: u64,
    upto: u64,
    oldest: u64,
    counts: &mut BTreeMap<&str, u64>,
) -> Result<(), StoreError> {
    let mut select = conn.prepare_cached(COUNT)?;
    let mut other = upto.saturating_sub(after.max(oldest - 1));
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Other) {
        let bounds = params![RefKind::Kind as u8, kind.as_str(), to_sql(after), to_sql(upto)];
        let count = select.query_row(bounds, reader::seq_of)?;
        counts.insert(kind.as_str(), count);
        other = other.saturating_sub(count);
    }
    counts.insert(Kind::Other.as_str(), other);
    Ok(())
}

fn stages(mentions: &Mentions<'_>, after: u64, upto: u64) -> Result<(Vec<StageEvent>, bool), StoreError> {
    let mut numbers = mentions.newest(RefKind::Kind, Kind::Stage.as_str(), after, u64::MAX, MOST_STAGES + 1)?;
    let is_cut = numbers.len() > MOST_STAGES;
    numbers.truncate(MOST_STAGES);
    numbers.retain(|seq| *seq <= upto);
    let mut events = Vec::new();
    mentions.visit(numbers, |row| events.extend(StageEvent::of(&Told::read(row))))?;
    Ok((events, is_cut))
}

/// The figures of these jobs.
pub fn job_figures(jobs: &[&EndedJob]) -> Figures {
    let mut figures = Figures::default();
    let (mut durations, mut waits) = (Vec::new(), Vec::new());
    for job in jobs {
        match job.health.as_deref() {
            Some(health) if health.eq_ignore_ascii_case(health::COMPLETE) => figures.pass += 1,
            Some(health) if health.eq_ignore_ascii_case(health::INCOMPLETE) => figures.fail += 1,
            _ => {
                // Canceled in the queue, LAVA gives it a beginning all the same.
                figures.neutral += 1;
                continue;
            }
        }
        durations.extend(job.started_us.map(|started| job.ended_us - started));
        let wait = job.started_us.zip(job.submitted_us);
        waits.extend(wait.map(|(started, submitted)| started - submitted));
    }
    figures.duration = Spread::of(durations);
    figures.wait = Spread::of(waits);
    figures
}

/// The figures of each service that these events are about.
pub fn service_figures(events: &[StageEvent]) -> BTreeMap<String, Figures> {
    let mut by_service: BTreeMap<String, (Figures, Vec<i64>)> = BTreeMap::new();
    for passage in passages(events) {
        let duration_us = passage.duration_us();
        let (figures, durations) = by_service.entry(passage.service.clone()).or_default();
        match (passage.ended_us, passage.is_error()) {
            (None, _) => figures.neutral += 1,
            (Some(_), true) => figures.fail += 1,
            (Some(_), false) => figures.pass += 1,
        }
        durations.extend(duration_us);
    }
    let services = by_service.into_iter();
    services
        .map(|(service, (mut figures, durations))| {
            figures.duration = Spread::of(durations);
            (service, figures)
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn job(health: &str, submitted_s: i64, started_s: i64, ended_s: i64) -> EndedJob {
        EndedJob {
            health: Some(health.to_owned()),
            device: None,
            device_type: None,
            submitted_us: Some(submitted_s * 1_000_000),
            started_us: Some(started_s * 1_000_000),
            ended_us: ended_s * 1_000_000,
        }
    }

    #[test]
    fn a_canceled_job_says_nothing() {
        let jobs = [
            job("Complete", 0, 10, 70),
            job("complete", 0, 20, 100),
            job("Incomplete", 0, 30, 40),
            job("Canceled", 0, 900, 900),
        ];
        let figures = job_figures(&jobs.iter().collect::<Vec<_>>());
        assert_eq!((figures.pass, figures.fail, figures.neutral), (2, 1, 1));
        assert_eq!(figures.success_rate(), Some(2.0 / 3.0));
        assert_eq!(figures.wait.count, 3);
        assert_eq!(
            figures.duration.percentiles,
            Some([10_000_000, 10_000_000, 60_000_000, 80_000_000, 80_000_000])
        );
    }

    #[test]
    fn without_data_there_is_no_rate() {
        let canceled = job("Canceled", 0, 1, 2);
        assert_eq!(job_figures(&[&canceled]).success_rate(), None);
        assert_eq!(job_figures(&[]), Figures::default());
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        assert_eq!(Spread::of((1..=100).collect()).percentiles, Some([5, 10, 50, 90, 95]));
        assert_eq!(Spread::of(vec![7]).percentiles, Some([7; 5]));
        assert_eq!(Spread::of(vec![3, 1]).percentiles, Some([1, 1, 1, 3, 3]));
    }

    proptest! {
        #[test]
        fn so_many_percent_do_not_exceed_it(durations in prop::collection::vec(-50_i64..50, 1..60)) {
            let spread = Spread::of(durations.clone()).percentiles.unwrap();
            for (percent, found) in PERCENTS.into_iter().zip(spread) {
                let not_above = |limit: i64| durations.iter().filter(|duration| **duration <= limit).count();
                prop_assert!(not_above(found) * 100 >= percent * durations.len());
                prop_assert!(not_above(found - 1) * 100 < percent * durations.len());
                prop_assert!(durations.contains(&found));
            }
        }
    }
}
