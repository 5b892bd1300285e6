//! `GET /api/v1/jobs/ID`, `devices/NAME`, `workers/NAME`: how one thing is, and what was last wrong with it.

use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use lavabus_protocol::{JobId, Kind};
use lavabus_store::projection::entity::Entity;
use lavabus_store::projection::fault::Fault;
use lavabus_store::question::faults::{FaultQuestion, current_fault};
use lavabus_store::{Reader as Journal, StoreError};
use serde_json::Value;

use crate::authority::{Reader, Subject};
use crate::http::parameters::{Name, Parameters};
use crate::http::visitor::Visitor;
use crate::http::{Http, Problem};
use crate::visible::{may_see, may_see_each, sees_all};

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
    let id = JobId::parse(&name).ok_or_else(not_found)?;
    let subject = Subject::Job(id.clone());
    let ask = move |journal: &Journal| Ok(journal.job(&id, None)?.value);
    let (mut job, faults) = find(&http, &reader, &subject, ask, |job| &job.entity).await?;
    // A sub id leads to a number, which is what others are asked about.
    let number = JobId::parse(&job.entity.id).ok_or_else(not_found)?;
    let number = Subject::Job(number);
    if !may_see(&reader, &number).await? {
        return Err(not_found());
    }
    if !sees_all(&reader) {
        // One that names another job too is not this one's alone.
        job.fault = job.fault.filter(|fault| about(fault) == number);
    }
    with_fault(job.to_json(), faults, &reader).await
}

/// `GET /api/v1/devices/NAME`.
pub(crate) async fn device(
    State(http): State<Http>,
    Visitor(reader): Visitor,
    Name(name): Name,
    parameters: Parameters,
) -> Result<axum::Json<Value>, Problem> {
    parameters.nothing_else()?;
    let subject = Subject::Device(name.clone());
    let ask = move |journal: &Journal| Ok(journal.device(&name, None, Timestamp::now().as_microsecond())?.value);
    let (mut device, faults) = find(&http, &reader, &subject, ask, |device| &device.entity).await?;
    if !sees_all(&reader) {
        // They come out of jobs, some of which may be private.
        (device.streak, device.rate, device.cause) = Default::default();
    }
    with_fault(device.to_json(), faults, &reader).await
}

/// `GET /api/v1/workers/NAME`.
pub(crate) async fn worker(
    State(http): State<Http>,
    Visitor(reader): Visitor,
    Name(name): Name,
    parameters: Parameters,
) -> Result<axum::Json<Value>, Problem> {
    parameters.nothing_else()?;
    let subject = Subject::Worker(name.clone());
    let ask = move |journal: &Journal| Ok(journal.worker(&name, None)?.value);
    let (mut worker, faults) = find(&http, &reader, &subject, ask, |worker| &worker.entity).await?;
    let devices: Vec<Subject> = worker.devices.iter().cloned().map(Subject::Device).collect();
    let mut shown = may_see_each(&reader, &devices).await?.into_iter();
    worker.devices.retain(|_| shown.next().unwrap_or(false));
    with_fault(worker.to_json(), faults, &reader).await
}

/// What the journal has of one thing that may be seen, and its faults.
async fn find<T: Send + 'static>(
    http: &Http,
    reader: &Reader,
    subject: &Subject,
    ask: impl FnOnce(&Journal) -> Result<Vec<T>, StoreError> + Send + 'static,
    entity: fn(&T) -> &Entity,
) -> Result<(T, Vec<Fault>), Problem> {
    let replays = http.replays()?;
    // Before it is looked for, so that what does not exist takes no other time than what may not be seen.
    if !may_see(reader, subject).await? {
        return Err(not_found());
    }
    let found = replays.ask(move |journal| {
        let Some(thing) = ask(journal)?.into_iter().next() else {
            return Ok(None);
        };
        let faults = faults(journal, entity(&thing))?;
        Ok(Some((thing, faults)))
    });
    found.await?.ok_or_else(not_found)
}

fn faults(journal: &Journal, of: &Entity) -> Result<Vec<Fault>, StoreError> {
    let subject = match of.kind {
        Kind::Testjob => format!("job/{}", of.id),
        kind => format!("{kind}/{}", of.id),
    };
    let question = FaultQuestion {
        subject: Some(&subject),
        lab: Some(&of.lab),
        open: false,
        since_us: i64::MIN,
        limit: FAULTS,
    };
    Ok(journal.faults(&question)?.value.faults)
}

/// Whom a fault is about. One that was seen in a job is the job's.
fn about(fault: &Fault) -> Subject {
    let of_job = |job: &str| JobId::parse(job).map_or(Subject::Unbound, Subject::Job);
    Subject::of_fault(Some(&fault.subject), fault.job.as_deref().map(of_job))
}

/// What is wrong now, or else what was last.
async fn with_fault(mut object: Value, mut faults: Vec<Fault>, reader: &Reader) -> Result<axum::Json<Value>, Problem> {
    let sees_all = sees_all(reader);
    if !sees_all {
        let subjects: Vec<Subject> = faults.iter().map(about).collect();
        let mut shown = may_see_each(reader, &subjects).await?.into_iter();
        faults.retain(|_| shown.next().unwrap_or(false));
    }
    let last = || faults.iter().max_by_key(|fault| fault.last_us);
    let fault = current_fault(&faults).or_else(last);
    let mut told = fault.map_or(Value::Null, |fault| fault.to_json(reader.is_administrator()));
    if !sees_all
        && fault.is_some_and(|fault| fault.job.is_some())
        && let Some(members) = told.as_object_mut()
    {
        // The same may have been told of other jobs before.
        for member in ["first", "count", "origin"] {
            members.remove(member);
        }
    }
    object["fault"] = told;
    Ok(axum::Json(object))
}
