//! `GET /api/v1/jobs/ID`, `devices/NAME`, `workers/NAME`: how one thing is, and what was last wrong with it.

use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use lavabus_protocol::JobId;
use lavabus_store::projection::fault::Fault;
use lavabus_store::question::faults::{FaultQuestion, current_fault};
use lavabus_store::{Reader as Journal, StoreError};
use serde_json::Value;

use crate::authority::{Reader, Subject};
use crate::http::parameters::{Name, Parameters};
use crate::http::visitor::Visitor;
use crate::http::{Http, Problem};
use crate::visible::{may_see, sees_all, visible};

/// More than are kept of one subject.
const FAULTS: usize = 1000;

/// The same whether it does not exist or may not be seen.
fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "nothing of this name is known, or not to you")
}

/// `GET /api/v1/jobs/ID`.
pub(crate) async fn job(
    State(http): State<Http>,
    Visitor(reader): Visitor,
    Name(name): Name,
    parameters: Parameters,
) -> Result<axum::Json<Value>, Problem> {
    parameters.nothing_else()?;
    let replays = http.replays()?;
    let id = JobId::parse(&name).ok_or_else(not_found)?;
    // Before it is looked for, so that what does not exist takes no other time than what may not be seen.
    if !may_see(&reader, &Subject::Job(id.clone())).await {
        return Err(not_found());
    }
    let found = replays.ask(move |journal| {
        let job = journal.job(&id, None)?.value.into_iter().next();
        let faults = job
            .as_ref()
            .map(|job| faults(journal, "job", &job.entity.id, &job.entity.lab));
        Ok((job, faults.transpose()?.unwrap_or_default()))
    });
    let (job, faults) = found.await?;
    let job = job.ok_or_else(not_found)?;
    // A sub id leads to a number, which is what others are asked about.
    let number = JobId::parse(&job.entity.id).ok_or_else(not_found)?;
    if !may_see(&reader, &Subject::Job(number)).await {
        return Err(not_found());
    }
    Ok(axum::Json(with_fault(job.to_json(), faults, &reader).await))
}

/// `GET /api/v1/devices/NAME`.
pub(crate) async fn device(
    State(http): State<Http>,
    Visitor(reader): Visitor,
    Name(name): Name,
    parameters: Parameters,
) -> Result<axum::Json<Value>, Problem> {
    parameters.nothing_else()?;
    let replays = http.replays()?;
    if !may_see(&reader, &Subject::Device(name.clone())).await {
        return Err(not_found());
    }
    let found = replays.ask(move |journal| {
        let devices = journal.device(&name, None, Timestamp::now().as_microsecond())?;
        let device = devices.value.into_iter().next();
        let faults = device
            .as_ref()
            .map(|device| faults(journal, "device", &name, &device.entity.lab));
        Ok((device, faults.transpose()?.unwrap_or_default()))
    });
    let (device, faults) = found.await?;
    let mut device = device.ok_or_else(not_found)?;
    if !sees_all(&reader) {
        // They come out of jobs, some of which may be private.
        (device.streak, device.rate, device.cause) = Default::default();
    }
    Ok(axum::Json(with_fault(device.to_json(), faults, &reader).await))
}

/// `GET /api/v1/workers/NAME`.
pub(crate) async fn worker(
    State(http): State<Http>,
    Visitor(reader): Visitor,
    Name(name): Name,
    parameters: Parameters,
) -> Result<axum::Json<Value>, Problem> {
    parameters.nothing_else()?;
    let replays = http.replays()?;
    if !may_see(&reader, &Subject::Worker(name.clone())).await {
        return Err(not_found());
    }
    let found = replays.ask(move |journal| {
        let worker = journal.worker(&name, None)?.value.into_iter().next();
        let faults = worker
            .as_ref()
            .map(|worker| faults(journal, "worker", &name, &worker.entity.lab));
        Ok((worker, faults.transpose()?.unwrap_or_default()))
    });
    let (worker, faults) = found.await?;
    let mut worker = worker.ok_or_else(not_found)?;
    let devices: Vec<Subject> = worker.devices.iter().cloned().map(Subject::Device).collect();
    let mut shown = shown(&reader, &devices).await.into_iter();
    worker.devices.retain(|_| shown.next().unwrap_or(false));
    Ok(axum::Json(with_fault(worker.to_json(), faults, &reader).await))
}

fn faults(journal: &Journal, kind: &str, id: &str, lab: &str) -> Result<Vec<Fault>, StoreError> {
    let subject = format!("{kind}/{id}");
    let question = FaultQuestion {
        subject: Some(&subject),
        lab: Some(lab),
        open: false,
        since_us: i64::MIN,
        limit: FAULTS,
    };
    Ok(journal.faults(&question)?.value.faults)
}

async fn shown(reader: &Reader, subjects: &[Subject]) -> Vec<bool> {
    visible(reader, subjects.iter().map(|subject| (subject, "", ""))).await
}

/// What is wrong now, or else what was last. A fault that was seen in a job is the job's.
async fn with_fault(mut object: Value, mut faults: Vec<Fault>, reader: &Reader) -> Value {
    if !sees_all(reader) {
        let of_job = |job: &str| JobId::parse(job).map_or(Subject::Unbound, Subject::Job);
        let subjects = faults.iter().map(|fault| fault.job.as_deref().map(of_job));
        let subjects: Vec<Option<Subject>> = subjects.collect();
        let of_jobs: Vec<Subject> = subjects.iter().flatten().cloned().collect();
        let mut shown = shown(reader, &of_jobs).await.into_iter();
        let mut subjects = subjects.into_iter();
        faults.retain(|_| match subjects.next().flatten() {
            None => true,
            Some(_) => shown.next().unwrap_or(false),
        });
    }
    let last = || faults.iter().max_by_key(|fault| fault.last_us);
    let fault = current_fault(&faults).or_else(last);
    object["fault"] = fault.map_or(Value::Null, |fault| fault.to_json(reader.is_administrator()));
    object
}
