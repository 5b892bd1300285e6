//! A LAVA server and the questions to it.

mod requests;
mod results;
mod socket;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use dxr::Value;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::HeaderValue;
use reqwest::{Client, Url};
use serde_json::Value as Json;
use tokio::sync::OnceCell;

use self::requests::{PAGES, REST_UNKNOWN, unwritable};
use crate::answer::{Answer, Device, Explanation, Failure, Job, SubmittedJob, Worker};
use crate::error::ServerError;
use crate::http::{self, ANSWER_LIMIT, Reply};
use crate::identity::Identity;
use crate::token::Token;
use crate::xml_rpc::{self, Outcome, member};
use crate::yaml::{Document, Item};

/// A server, seen as one identity. Cheap to clone: clones share connections.
///
/// One call is one try, within the identity's timeout for each request of it; whether to try again is the caller's to
/// say. All futures may be dropped at any time; see [`submit`](Server::submit) and [`cancel`](Server::cancel) for what
/// then may have happened. Answers are read up to 16 MiB, logs and JUnit up to 64 MiB.
///
/// The proxy is the identity's, else the environment's (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`), but never the
/// environment's for a server on this machine. Redirects are followed for GET on the same host only, so that the token
/// goes nowhere else.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Identity,
    client: Client,
    token: Option<HeaderValue>,
    /// The user that XML-RPC and the WebSocket want beside the token.
    user: OnceCell<Option<String>>,
    rest: AtomicU8,
}

/// Of so many jobs one search asks the sub ids.
const SUB_IDS: usize = 20;

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("identity", &self.inner.identity)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Makes ready to talk; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`ServerError::Unexpected`] if the proxy is no address or the token cannot stand in a header,
    /// [`ServerError::Certificate`] if the system's certificates cannot be read.
    pub fn new(identity: &Identity) -> Result<Server, ServerError> {
        let token = match &identity.token {
            None => None,
            Some(token) => Some(http::token_header(token).ok_or_else(unusable_token)?),
        };
        Ok(Server {
            inner: Arc::new(Inner {
                client: http::client(identity)?,
                token,
                user: OnceCell::new(),
                rest: AtomicU8::new(REST_UNKNOWN),
                identity: identity.clone(),
            }),
        })
    }

    /// The same server as somebody else sees it. Connections are shared.
    ///
    /// # Errors
    ///
    /// [`ServerError::Unexpected`] if the token cannot stand in a header.
    pub fn seen_by(&self, username: Option<String>, token: Token) -> Result<Server, ServerError> {
        let inner = &self.inner;
        let token_header = http::token_header(&token).ok_or_else(unusable_token)?;
        Ok(Server {
            inner: Arc::new(Inner {
                client: inner.client.clone(),
                token: Some(token_header),
                user: OnceCell::new(),
                rest: AtomicU8::new(inner.rest.load(Ordering::Relaxed)),
                identity: Identity {
                    username,
                    token: Some(token),
                    ..inner.identity.clone()
                },
            }),
        })
    }

    /// Its root.
    pub fn uri(&self) -> &Url {
        &self.inner.identity.uri
    }

    /// The host of its root: a name, an IPv4 address, or an IPv6 address in brackets.
    pub fn host(&self) -> Option<&str> {
        self.uri().host_str()
    }

    /// Whether we are somebody there, if the token is good.
    pub fn has_token(&self) -> bool {
        self.inner.token.is_some()
    }

    /// The page of a job.
    pub fn job_url(&self, id: &str) -> String {
        self.path(&["scheduler", "job", id]).to_string()
    }

    /// The token's owner. None: anonymous.
    ///
    /// # Errors
    ///
    /// [`ServerError::Refused`] if the token is not good.
    pub async fn whoami(&self) -> Result<Option<String>, ServerError> {
        let name = match self.rest(&["system", "whoami"], &[], "system/whoami").await? {
            Some(reply) => reply.json()?.get("user").and_then(Json::as_str).map(str::to_owned),
            None => {
                let params = Vec::new();
                // Without a user name XML-RPC takes no token, so nobody can be asked for it there.
                let user = self.inner.identity.username.as_deref();
                let request = xml_rpc::request(&self.inner.client, self.path(&["RPC2"]), "system.whoami", params);
                let request = self.signed(request.map_err(|_| unwritable())?, user);
                xml_rpc::text(&self.ask(request, "system.whoami", ANSWER_LIMIT).await?.0)
            }
        };
        Ok(name.filter(|name| !name.is_empty()))
    }

    /// LAVA's version.
    pub async fn version(&self) -> Result<String, ServerError> {
        let version = match self.rest(&["system", "version"], &[], "system/version").await? {
            Some(reply) => {
                let version = reply.json()?.get("version").and_then(Json::as_str).map(str::to_owned);
                version.ok_or_else(|| reply.unexpected())?
            }
            None => {
                let (value, reply) = self.xml_rpc("system.version", Vec::new(), "system.version").await?;
                xml_rpc::text(&value).ok_or_else(|| reply.unexpected())?
            }
        };
        Ok(version)
    }

    /// The server's clock, in whole seconds: not later than it was when it answered. `None` if it does not say.
    pub async fn clock(&self) -> Result<Option<Timestamp>, ServerError> {
        let reply = match self.rest(&["system", "version"], &[], "system/version").await? {
            Some(reply) => reply,
            None => self.xml_rpc("system.version", Vec::new(), "system.version").await?.1,
        };
        Ok(reply.server_time)
    }

    /// A job by its database id, or by a sub id such as `4000.1`.
    pub async fn job(&self, id: &str) -> Result<Answer<Job>, ServerError> {
        let what = job_name(id)?;
        if !is_sub_id(id)
            && let Some(reply) = self.rest(&["jobs", id], &[], &what).await?
        {
            let job = reply.json()?;
            let state = json_text(&job, "state").ok_or_else(|| reply.unexpected())?;
            return Ok(answer(
                &reply,
                Job {
                    id: id.to_owned(),
                    state,
                    health: json_text(&job, "health").unwrap_or_default(),
                    submitter: json_text(&job, "submitter").unwrap_or_default(),
                    description: json_text(&job, "description").unwrap_or_default(),
                    device: json_text(&job, "actual_device"),
                    device_type: json_text(&job, "requested_device_type"),
                    submit_time: json_text(&job, "submit_time"),
                    start_time: json_text(&job, "start_time"),
                    end_time: json_text(&job, "end_time"),
                    failure_comment: json_text(&job, "failure_comment"),
                },
            ));
        }
        let (job, reply) = self.show(id, &what).await?;
        let some = |name: &str| member(&job, name).filter(|text| !text.is_empty());
        let state = some("state").ok_or_else(|| reply.unexpected())?;
        Ok(answer(
            &reply,
            Job {
                id: id.to_owned(),
                state,
                health: some("health").unwrap_or_default(),
                submitter: some("submitter").unwrap_or_default(),
                description: some("description").unwrap_or_default(),
                device: some("device"),
                device_type: some("device_type"),
                submit_time: some("submit_time"),
                start_time: some("start_time"),
                end_time: some("end_time"),
                failure_comment: some("failure_comment"),
            },
        ))
    }

    /// The sub id, such as `4000.1`, of a job by its database id. None: it is not part of a multinode job. REST does not
    /// tell it, so XML-RPC is asked.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotFound`] if there is no such job, or it is private.
    pub async fn sub_id(&self, id: &str) -> Result<Option<String>, ServerError> {
        let what = job_name(id)?;
        let (job, reply) = self.show(id, &what).await?;
        // lava_scheduler_app/models.py: TestJob.display_id
        let display_id = member(&job, "id").ok_or_else(|| reply.unexpected())?;
        Ok(Some(display_id).filter(|id| is_sub_id(id)))
    }

    /// A job as XML-RPC tells it. Its fault 403 is "not available to user": a private job looks like none, as by REST.
    async fn show(&self, id: &str, what: &str) -> Result<(Value, Reply), ServerError> {
        let request = self
            .call(&self.inner.client, "scheduler.jobs.show", vec![text(id)])
            .await?;
        match self.outcome(request, ANSWER_LIMIT).await? {
            (Outcome::Fault { code: 403, .. }, _) => Err(ServerError::NotFound { what: what.to_owned() }),
            (outcome, reply) => Ok((outcome.value(what)?, reply)),
        }
    }

    /// A device by its hostname.
    pub async fn device(&self, name: &str) -> Result<Answer<Device>, ServerError> {
        let what = format!("device {name}");
        if let Some(reply) = self.rest(&["devices", path_name(name, &what)?], &[], &what).await? {
            let device = reply.json()?;
            let state = json_text(&device, "state").ok_or_else(|| reply.unexpected())?;
            return Ok(answer(
                &reply,
                Device {
                    name: json_text(&device, "hostname").unwrap_or_else(|| name.to_owned()),
                    device_type: json_text(&device, "device_type").unwrap_or_default(),
                    state,
                    health: json_text(&device, "health").unwrap_or_default(),
                    worker: json_text(&device, "worker_host"),
                },
            ));
        }
        let (device, reply) = self.xml_rpc("scheduler.devices.show", vec![text(name)], &what).await?;
        let state = member(&device, "state").ok_or_else(|| reply.unexpected())?;
        Ok(answer(
            &reply,
            Device {
                name: member(&device, "hostname").unwrap_or_else(|| name.to_owned()),
                device_type: member(&device, "device_type").unwrap_or_default(),
                state,
                health: member(&device, "health").unwrap_or_default(),
                worker: member(&device, "worker"),
            },
        ))
    }

    /// A worker by its hostname.
    pub async fn worker(&self, name: &str) -> Result<Answer<Worker>, ServerError> {
        let what = format!("worker {name}");
        if let Some(reply) = self.rest(&["workers", path_name(name, &what)?], &[], &what).await? {
            let worker = reply.json()?;
            let state = json_text(&worker, "state").ok_or_else(|| reply.unexpected())?;
            return Ok(answer(
                &reply,
                Worker {
                    name: json_text(&worker, "hostname").unwrap_or_else(|| name.to_owned()),
                    state,
                    health: json_text(&worker, "health").unwrap_or_default(),
                },
            ));
        }
        let (worker, reply) = self.xml_rpc("scheduler.workers.show", vec![text(name)], &what).await?;
        let state = member(&worker, "state").ok_or_else(|| reply.unexpected())?;
        Ok(answer(
            &reply,
            Worker {
                name: member(&worker, "hostname").unwrap_or_else(|| name.to_owned()),
                state,
                health: member(&worker, "health").unwrap_or_default(),
            },
        ))
    }

    /// Why a job ended as it did: its comment, and what the test case `job` of the suite `lava` says.
    pub async fn failure(&self, id: &str) -> Result<Failure, ServerError> {
        Ok(self.explanation(id).await?.failure)
    }

    /// How and why a job ended: the job itself, and what the test case `job` of the suite `lava` says. Three requests to
    /// REST, one to XML-RPC. What the server does not tell is absent, and no error.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotFound`] if there is no such job, or it is private.
    pub async fn explanation(&self, id: &str) -> Result<Explanation, ServerError> {
        let what = job_name(id)?;
        if !is_sub_id(id)
            && let Some(reply) = self.rest(&["jobs", id], &[], &what).await?
        {
            let job = reply.json()?;
            let mut explanation = Explanation {
                state: json_text(&job, "state").ok_or_else(|| reply.unexpected())?,
                device: json_text(&job, "actual_device"),
                submit_time: json_text(&job, "submit_time"),
                start_time: json_text(&job, "start_time"),
                end_time: json_text(&job, "end_time"),
                failure: Failure {
                    failure_comment: json_text(&job, "failure_comment"),
                    ..Failure::default()
                },
            };
            let of_lava = [("name", "lava".to_owned())];
            let suites = self.page(&["jobs", id, "suites"], &of_lava, &what).await?;
            let is_lava = |suite: &&Json| json_text(suite, "name").as_deref() == Some("lava");
            // Old servers pass over a filter that they do not know.
            let suite = suites.iter().find(is_lava).and_then(|suite| json_text(suite, "id"));
            let Some(suite) = suite else {
                return Ok(explanation);
            };
            let of_job = [("name", "job".to_owned())];
            let cases = self
                .page(&["jobs", id, "suites", &suite, "tests"], &of_job, &what)
                .await?;
            let case = cases
                .iter()
                .find(|case| json_text(case, "name").as_deref() == Some("job"));
            let metadata = case.and_then(|case| json_text(case, "metadata")).unwrap_or_default();
            if let Ok(Some(metadata)) = Document::read(&metadata) {
                let text = |name: &str| metadata.root().get(name).map(Item::readable);
                explanation.failure.error_type = text("error_type").filter(|text| !text.is_empty());
                explanation.failure.error_msg = text("error_msg").filter(|text| !text.is_empty());
            }
            return Ok(explanation);
        }
        let (job, reply) = self.show(id, &what).await?;
        let some = |name: &str| member(&job, name).filter(|text| !text.is_empty());
        Ok(Explanation {
            state: some("state").ok_or_else(|| reply.unexpected())?,
            device: some("device"),
            submit_time: some("submit_time"),
            start_time: some("start_time"),
            end_time: some("end_time"),
            failure: Failure {
                error_type: some("error_type"),
                error_msg: some("error_msg"),
                failure_comment: some("failure_comment"),
            },
        })
    }

    /// The jobs that a user submitted at or after a time by the server's clock, newest first, with their definitions.
    /// Needs REST: [`ServerError::NotFound`] without it. The newest 20 with a multinode definition come with their sub
    /// ids, if XML-RPC tells them.
    pub async fn submitted_since(&self, user: &str, since: Timestamp) -> Result<Vec<SubmittedJob>, ServerError> {
        // The server knows only "later than", and old ones pass over filters that they do not know: both are done again
        // here.
        let before = since.saturating_sub(SignedDuration::from_secs(1)).unwrap_or(since);
        let query = [
            ("submitter__username", user.to_owned()),
            ("submit_time__gt", before.to_string()),
            ("ordering", "-id".to_owned()),
        ];
        let mut found = Vec::new();
        let mut offset = 0;
        // Definitions are long: short pages.
        const JOBS: usize = 50;
        for _ in 0..PAGES {
            let page = self.page_at(&["jobs"], &query, (JOBS, offset), "the job API").await?;
            let mut older = false;
            for job in &page {
                let time = json_text(job, "submit_time").and_then(|time| timestamp(&time));
                let (Some(id), Some(submit_time)) = (json_text(job, "id"), time) else {
                    continue;
                };
                older |= submit_time < since;
                if submit_time >= since && json_text(job, "submitter").as_deref() == Some(user) {
                    found.push(SubmittedJob {
                        id,
                        submit_time,
                        original_definition: json_text(job, "original_definition"),
                        multinode_definition: json_text(job, "multinode_definition"),
                        sub_id: None,
                    });
                }
            }
            // Newest first: behind an older one there is no newer.
            if page.len() < JOBS || older {
                break;
            }
            offset += page.len();
        }
        let parts = found.iter_mut().filter(|job| job.multinode_definition.is_some());
        for job in parts.take(SUB_IDS) {
            job.sub_id = match self.sub_id(&job.id).await {
                Ok(sub_id) => sub_id,
                Err(error) if error.is_temporary() => return Err(error),
                // REST told of the job: that is worth more than nothing.
                Err(_) => None,
            };
        }
        Ok(found)
    }

    /// The number of the newest job that may be seen. Later ones have higher numbers. Needs REST.
    pub async fn newest_job(&self) -> Result<Option<u64>, ServerError> {
        let query = [("ordering", "-id".to_owned())];
        let page = self.page_at(&["jobs"], &query, (1, 0), "the job API").await?;
        let newest = page.first().and_then(|job| json_text(job, "id"));
        Ok(newest.and_then(|id| id.parse().ok()))
    }

    /// Asks the server to cancel a job. To ask twice does no harm. Dropped before it is done, the question may have gone
    /// out.
    pub async fn cancel(&self, id: &str) -> Result<(), ServerError> {
        let what = job_name(id)?;
        // LAVA takes GET here (lava_rest_app/v02/views.py: an action with no methods named).
        if !is_sub_id(id) && self.rest(&["jobs", id, "cancel"], &[], &what).await?.is_some() {
            return Ok(());
        }
        self.xml_rpc("scheduler.jobs.cancel", vec![text(id)], &what).await?;
        Ok(())
    }
}

fn unusable_token() -> ServerError {
    ServerError::Unexpected {
        status: None,
        excerpt: "the token holds characters that no header can".to_owned(),
    }
}

fn answer<T>(reply: &Reply, value: T) -> Answer<T> {
    Answer {
        value,
        server_time: reply.server_time,
        round_trip: reply.round_trip,
    }
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

/// The member of an object as text; null, nothing and what is no scalar is none.
fn json_text(object: &Json, name: &str) -> Option<String> {
    match object.get(name)? {
        Json::String(text) if !text.is_empty() => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn is_sub_id(id: &str) -> bool {
    id.contains('.')
}

/// `job 1995`. What cannot be an id is never asked for.
fn job_name(id: &str) -> Result<String, ServerError> {
    let what = format!("job {id}");
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (number, sub) = id.split_once('.').unwrap_or((id, "0"));
    if digits(number) && digits(sub) {
        Ok(what)
    } else {
        Err(ServerError::NotFound { what })
    }
}

/// A name that can be one part of a path.
fn path_name<'a>(name: &'a str, what: &str) -> Result<&'a str, ServerError> {
    if matches!(name, "" | "." | "..") || name.contains('/') {
        return Err(ServerError::NotFound { what: what.to_owned() });
    }
    Ok(name)
}

/// A time as Django writes it; without a zone it is UTC.
fn timestamp(text: &str) -> Option<Timestamp> {
    let naive = || {
        text.parse::<jiff::civil::DateTime>()
            .ok()?
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
    };
    text.parse().ok().or_else(|| naive().map(|zoned| zoned.timestamp()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn server(uri: &str) -> Server {
        Server::new(&Identity::anonymous(uri).unwrap()).unwrap()
    }

    #[test]
    fn addresses_keep_the_prefix() {
        let server = server("https://lab.example.com/lava/RPC2");
        assert_eq!(
            server.job_url("4000.1"),
            "https://lab.example.com/lava/scheduler/job/4000.1"
        );
        assert_eq!(
            server.api(&["devices", "a b?c"]).as_str(),
            "https://lab.example.com/lava/api/v0.2/devices/a%20b%3Fc/"
        );
    }

    #[test]
    fn ids_are_numbers_or_pairs_of_them() {
        assert!(job_name("7").is_ok() && job_name("7.0").is_ok());
        for id in ["", ".", "7.", ".7", "7.0.0", "x", "../users", "7/cancel", "-1"] {
            assert!(job_name(id).is_err(), "{id}");
        }
        assert!(path_name("..", "x").is_err() && path_name("a/b", "x").is_err());
    }

    #[test]
    fn times_with_and_without_zone() {
        let expected = "2026-11-21T05:01:05.5Z".parse().unwrap();
        for text in [
            "2026-11-21T05:01:05.5Z",
            "2026-11-21T05:01:05.500000",
            "2026-11-21T06:01:05.5+01:00",
        ] {
            assert_eq!(timestamp(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn nothing_shows_the_token() {
        let mut identity = Identity::anonymous("https://ada:s3cret@a/RPC2").unwrap();
        identity.proxy = Some("http://u:s3cret@p:1".to_owned());
        let shown = format!("{:?}", Server::new(&identity).unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
        identity.proxy = Some("http://u:s3cret@:x".to_owned());
        let error = Server::new(&identity).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
}
