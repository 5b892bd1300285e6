//! A LAVA server and the questions to it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use dxr::Value;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::HeaderValue;
use reqwest::{Client, RequestBuilder, Url};
use reqwest_websocket::Upgrade;
use serde_json::Value as Json;
use tokio::sync::OnceCell;

use crate::answer::{Answer, Device, Explanation, Failure, Job, LogLine, SubmittedJob, TestCase, Worker};
use crate::error::ServerError;
use crate::events::{self, EventSocket};
use crate::http::{self, ANSWER_LIMIT, LOG_LIMIT, Reply};
use crate::identity::Identity;
use crate::logs;
use crate::secrets::Secrets;
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

const REST_UNKNOWN: u8 = 0;
const REST_THERE: u8 = 1;
/// Not there when it was asked for, by an answer that may be of somebody in the way. Missing once XML-RPC answers.
const REST_UNSEEN: u8 = 2;
const REST_MISSING: u8 = 3;

/// Objects of one page, and how many pages are read.
const PAGE: usize = 500;
const PAGES: usize = 400;

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

    /// The log from a line on, counted from 0. Empty: no more lines yet, or the job does not run yet, or there is no such
    /// job: the server tells no difference. A line still being written is left out; the next one to ask for is
    /// `start_line` + the lines returned.
    pub async fn logs(&self, id: &str, start_line: u64) -> Result<Vec<LogLine>, ServerError> {
        let what = job_name(id)?;
        if !is_sub_id(id) {
            let query = [("start", start_line.to_string())];
            match self.rest_within(&["jobs", id, "logs"], &query, &what, LOG_LIMIT).await {
                Ok(Some(reply)) => return Ok(logs::read(&reply.body)),
                Err(ServerError::NotFound { .. }) => return Ok(Vec::new()),
                Ok(None) => {}
                Err(error) => return Err(error),
            }
        }
        let start = i32::try_from(start_line).unwrap_or(i32::MAX);
        let params = vec![text(id), Value::Integer(start)];
        let request = self.call(&self.inner.client, "scheduler.jobs.logs", params).await?;
        let (value, reply) = self.ask(request, &what, LOG_LIMIT).await?;
        // A pair: whether the job is finished, and the text. No log yet: "[]".
        match &value {
            Value::Array(pair) => match pair.get(1).and_then(xml_rpc::text) {
                Some(log) if log.trim() == "[]" => Ok(Vec::new()),
                Some(log) => Ok(logs::read(&log)),
                None => Err(reply.unexpected()),
            },
            _ => Err(reply.unexpected()),
        }
    }

    /// All test cases of a job, in the server's order.
    pub async fn tests(&self, id: &str) -> Result<Vec<TestCase>, ServerError> {
        let what = job_name(id)?;
        let ordering = [("ordering", "id".to_owned())];
        if !is_sub_id(id)
            && let Some(suites) = self.pages(&["jobs", id, "suites"], &ordering, &what).await?
        {
            let cases = self
                .pages(&["jobs", id, "tests"], &ordering, &what)
                .await?
                .unwrap_or_default();
            let name_of = |suite: &str| {
                let found = suites
                    .iter()
                    .find(|item| json_text(item, "id").as_deref() == Some(suite));
                found.and_then(|item| json_text(item, "name"))
            };
            let case = |case: &Json| {
                let suite = json_text(case, "suite").unwrap_or_default();
                Some(TestCase {
                    suite: name_of(&suite).unwrap_or(suite),
                    name: json_text(case, "name")?,
                    result: json_text(case, "result")?,
                })
            };
            return Ok(cases.iter().filter_map(case).collect());
        }
        let (value, reply) = self
            .xml_rpc("results.get_testjob_results_yaml", vec![text(id)], &what)
            .await?;
        let yaml = xml_rpc::text(&value).ok_or_else(|| reply.unexpected())?;
        let document = Document::read(&yaml).map_err(|_| reply.unexpected())?;
        let case = |item: Item<'_>| {
            let text = |name: &str| item.get(name).and_then(Item::text).map(str::to_owned);
            Some(TestCase {
                suite: text("suite").unwrap_or_default(),
                name: text("name")?,
                result: text("result")?,
            })
        };
        Ok(document
            .iter()
            .flat_map(|document| document.root().items())
            .filter_map(case)
            .collect())
    }

    /// The results as JUnit XML, made by the server. Needs REST. Of a sub id too, once the job has results: they tell
    /// its database id.
    pub async fn junit(&self, id: &str) -> Result<String, ServerError> {
        let what = job_name(id)?;
        let database_id = if is_sub_id(id) {
            self.database_id(id, &what).await?
        } else {
            id.to_owned()
        };
        let reply = self
            .rest_within(&["jobs", &database_id, "junit"], &[], &what, LOG_LIMIT)
            .await?;
        let reply = match reply {
            Some(reply) => reply,
            None => return Err(self.no_rest("JUnit results").await),
        };
        if !reply.body.trim_start().starts_with('<') {
            return Err(reply.unexpected());
        }
        Ok(reply.body)
    }

    /// REST knows database ids only; a job's test suites carry it.
    async fn database_id(&self, sub_id: &str, what: &str) -> Result<String, ServerError> {
        let method = "results.get_testjob_suites_list_yaml";
        let (value, reply) = self.xml_rpc(method, vec![text(sub_id)], what).await?;
        let yaml = xml_rpc::text(&value).ok_or_else(|| reply.unexpected())?;
        let document = Document::read(&yaml).map_err(|_| reply.unexpected())?;
        let job = document.as_ref().and_then(|document| {
            let job = document.root().items().find_map(|suite| suite.get("job"))?;
            job.text().map(str::to_owned)
        });
        job.filter(|job| !is_sub_id(job) && job_name(job).is_ok())
            .ok_or_else(|| ServerError::NotFound {
                what: format!("a result of {what}"),
            })
    }

    /// Where events come from over ZeroMQ: the identity's `events.uri` if it is `tcp://`, else what the server says,
    /// with the server's host for `*`.
    pub async fn events_socket(&self) -> Result<String, ServerError> {
        if let Some(uri) = &self.inner.identity.events.uri
            && uri.starts_with("tcp://")
        {
            return Ok(uri.clone());
        }
        let method = "scheduler.get_publisher_event_socket";
        let (value, reply) = self.xml_rpc(method, Vec::new(), method).await?;
        let socket = xml_rpc::text(&value).ok_or_else(|| reply.unexpected())?;
        let host = self.uri().host_str().unwrap_or("localhost");
        let any = ["*", "0.0.0.0", "[::]"];
        let of_host = any.iter().find_map(|any| {
            let port = socket.strip_prefix("tcp://")?.strip_prefix(any)?;
            port.starts_with(':').then(|| format!("tcp://{host}{port}"))
        });
        Ok(of_host.unwrap_or(socket))
    }

    /// Opens the WebSocket: the identity's `events.uri` if it is `ws(s)://` or `http(s)://`, else `ws/` of the server.
    /// The token goes with it. A token that is not good is told by the first frame, not here.
    ///
    /// # Errors
    ///
    /// [`ServerError::Unexpected`] with its status if something else than a WebSocket is there, also if it is 401, 403 or
    /// 404: LAVA refuses after the handshake only. As with any request otherwise.
    pub async fn web_socket(&self) -> Result<EventSocket, ServerError> {
        let user = self.user().await?;
        let url = self.web_socket_url();
        let secrets = self.secrets();
        let request = self.signed(self.inner.client.get(url), user.as_deref());
        let timeout = self.inner.identity.timeout;
        let open = async {
            let began = std::time::Instant::now();
            let response = request.upgrade().send().await;
            let response = response.map_err(|error| events::ended(&error, &secrets))?;
            if response.status() != reqwest::StatusCode::SWITCHING_PROTOCOLS {
                let reply = Reply::read(response.into_inner(), ANSWER_LIMIT, began, secrets.clone()).await?;
                return Err(reply.handshake_refusal());
            }
            let socket = response.into_websocket().await;
            socket.map_err(|error| events::ended(&error, &secrets))
        };
        let socket = tokio::time::timeout(timeout, open)
            .await
            .map_err(|_| ServerError::Unavailable {
                cause: "no answer in time".to_owned(),
            })??;
        Ok(EventSocket::new(socket, secrets))
    }

    fn web_socket_url(&self) -> Url {
        let uri = self.inner.identity.events.uri.as_deref();
        let named = uri.and_then(|uri| Url::parse(uri).ok());
        match named.filter(|url| matches!(url.scheme(), "ws" | "wss" | "http" | "https")) {
            Some(mut url) => {
                // LAVA answers at /ws/ only: /ws is 404.
                let path = url.path().trim_end_matches('/');
                let path = if path.is_empty() {
                    "/ws/".to_owned()
                } else {
                    format!("{path}/")
                };
                url.set_path(&path);
                url
            }
            None => self.path(&["ws", ""]),
        }
    }
}

/// How requests are made; shared with the submission.
impl Server {
    pub(crate) fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// What no text of an error may hold.
    pub(crate) fn secrets(&self) -> Secrets {
        let asked = || self.inner.user.get().and_then(Option::as_deref);
        let identity = &self.inner.identity;
        Secrets::of(identity, identity.username.as_deref().or_else(asked))
    }

    pub(crate) fn token_header(&self) -> Option<&HeaderValue> {
        self.inner.token.as_ref()
    }

    /// None: not known yet.
    pub(crate) fn has_rest(&self) -> Option<bool> {
        match self.inner.rest.load(Ordering::Relaxed) {
            REST_THERE => Some(true),
            REST_MISSING => Some(false),
            _ => None,
        }
    }

    fn path(&self, segments: &[&str]) -> Url {
        let mut url = self.uri().clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// `api/v0.2/…/`
    pub(crate) fn api(&self, segments: &[&str]) -> Url {
        let path: Vec<&str> = ["api", "v0.2"].iter().chain(segments).chain(&[""]).copied().collect();
        self.path(&path)
    }

    async fn rest(&self, path: &[&str], query: &[(&str, String)], what: &str) -> Result<Option<Reply>, ServerError> {
        self.rest_within(path, query, what, ANSWER_LIMIT).await
    }

    /// GET of the REST API: a 2xx answer. None: the server has no such API.
    async fn rest_within(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        what: &str,
        limit: usize,
    ) -> Result<Option<Reply>, ServerError> {
        if self.has_rest() == Some(false) {
            return Ok(None);
        }
        let mut url = self.api(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let reply = self.get(url, limit).await?;
        self.note_rest(&reply);
        if reply.status.is_success() {
            return Ok(Some(reply));
        }
        // Neither LAVA's word nor JSON of a gateway: perhaps there is no such API.
        let is_nobodys = reply.status == reqwest::StatusCode::NOT_FOUND && !reply.is_json();
        if is_nobodys && self.has_rest().is_none() && !self.probe_rest().await? {
            return Ok(None);
        }
        Err(reply.rest_refusal(what))
    }

    /// Only LAVA itself answers 2xx with JSON there: from then on the API is known to be there.
    pub(crate) fn note_rest(&self, reply: &Reply) {
        if self.has_rest() != Some(true) && reply.status.is_success() && reply.is_json() {
            self.inner.rest.store(REST_THERE, Ordering::Relaxed);
        }
    }

    async fn get(&self, url: Url, limit: usize) -> Result<Reply, ServerError> {
        http::get(
            &self.inner.client,
            self.identity(),
            url,
            self.token_header(),
            limit,
            &self.secrets(),
        )
        .await
    }

    /// Whether the root of the API is there.
    async fn probe_rest(&self) -> Result<bool, ServerError> {
        let root = self.get(self.api(&[]), ANSWER_LIMIT).await?;
        self.note_rest(&root);
        if self.has_rest() == Some(true) {
            return Ok(true);
        }
        if root.status.is_success() {
            return Err(root.unexpected());
        }
        if root.status != reqwest::StatusCode::NOT_FOUND || (root.is_json() && !root.is_not_found_by_rest()) {
            return Err(root.rest_refusal("the REST API"));
        }
        // Nothing to do where something else is known by now.
        let rest = &self.inner.rest;
        let _ = rest.compare_exchange(REST_UNKNOWN, REST_UNSEEN, Ordering::Relaxed, Ordering::Relaxed);
        Ok(false)
    }

    /// That the API is missing, if XML-RPC shows that LAVA is there at all.
    async fn no_rest(&self, what: &str) -> ServerError {
        if self.has_rest() != Some(false)
            && let Err(error) = self.xml_rpc("system.version", Vec::new(), "system.version").await
        {
            return error;
        }
        ServerError::NotFound {
            what: format!("{what} (the server has no REST API v0.2)"),
        }
    }

    /// The first page of a list.
    async fn page(&self, path: &[&str], query: &[(&str, String)], what: &str) -> Result<Vec<Json>, ServerError> {
        self.page_at(path, query, (PAGE, 0), what).await
    }

    /// One page of a list: so many objects from an offset on.
    async fn page_at(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        (limit, offset): (usize, usize),
        what: &str,
    ) -> Result<Vec<Json>, ServerError> {
        let mut query = query.to_vec();
        query.push(("limit", limit.to_string()));
        query.push(("offset", offset.to_string()));
        let Some(reply) = self.rest(path, &query, what).await? else {
            return Err(self.no_rest(what).await);
        };
        match reply.json()?.get_mut("results") {
            Some(Json::Array(results)) => Ok(std::mem::take(results)),
            _ => Err(reply.unexpected()),
        }
    }

    /// All pages of a list. None: no REST.
    async fn pages(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        what: &str,
    ) -> Result<Option<Vec<Json>>, ServerError> {
        let mut all = Vec::new();
        for _ in 0..PAGES {
            let mut query = query.to_vec();
            query.push(("limit", PAGE.to_string()));
            query.push(("offset", all.len().to_string()));
            let Some(reply) = self.rest(path, &query, what).await? else {
                return Ok(None);
            };
            let mut page = reply.json()?;
            // A server may give less than was asked for: `next` tells whether there is more.
            let more = page.get("next").is_some_and(|next| !next.is_null());
            let Some(Json::Array(results)) = page.get_mut("results") else {
                return Err(reply.unexpected());
            };
            let empty = results.is_empty();
            all.append(results);
            if !more || empty {
                break;
            }
        }
        Ok(Some(all))
    }

    /// An XML-RPC call, signed, ready to be sent.
    pub(crate) async fn call(
        &self,
        client: &Client,
        method: &str,
        params: Vec<Value>,
    ) -> Result<RequestBuilder, ServerError> {
        let user = self.user().await?;
        let request = xml_rpc::request(client, self.path(&["RPC2"]), method, params).map_err(|_| unwritable())?;
        Ok(self.signed(request, user.as_deref()))
    }

    async fn xml_rpc(&self, method: &str, params: Vec<Value>, what: &str) -> Result<(Value, Reply), ServerError> {
        let request = self.call(&self.inner.client, method, params).await?;
        self.ask(request, what, ANSWER_LIMIT).await
    }

    async fn ask(&self, request: RequestBuilder, what: &str, limit: usize) -> Result<(Value, Reply), ServerError> {
        let (outcome, reply) = self.outcome(request, limit).await?;
        Ok((outcome.value(what)?, reply))
    }

    async fn outcome(&self, request: RequestBuilder, limit: usize) -> Result<(Outcome, Reply), ServerError> {
        let answer = xml_rpc::send(request, self.identity().timeout, limit, self.secrets()).await?;
        // LAVA is there, so its REST API is not. Nothing to do where something else is known by now.
        let rest = &self.inner.rest;
        let _ = rest.compare_exchange(REST_UNSEEN, REST_MISSING, Ordering::Relaxed, Ordering::Relaxed);
        Ok(answer)
    }

    /// `Authorization: Basic user:token`, as XML-RPC and the WebSocket want it.
    fn signed(&self, request: RequestBuilder, user: Option<&str>) -> RequestBuilder {
        match (user, &self.inner.identity.token) {
            (Some(user), Some(token)) => request.basic_auth(user, Some(token.expose())),
            _ => request,
        }
    }

    /// The user of the token: named, or asked for once.
    async fn user(&self) -> Result<Option<String>, ServerError> {
        let identity = &self.inner.identity;
        if identity.token.is_none() || identity.username.is_some() {
            return Ok(identity.username.clone());
        }
        self.inner.user.get_or_try_init(|| self.whoami()).await.cloned()
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

fn unwritable() -> ServerError {
    ServerError::Unexpected {
        status: None,
        excerpt: "the text holds characters that XML cannot".to_owned(),
    }
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
        assert_eq!(server.web_socket_url().as_str(), "https://lab.example.com/lava/ws/");
    }

    #[test]
    fn the_web_socket_of_the_identity() {
        let mut identity = Identity::anonymous("https://a/").unwrap();
        for (named, expected) in [
            ("wss://events.example.com", "wss://events.example.com/ws/"),
            ("ws://b:8001/ws", "ws://b:8001/ws/"),
            ("http://b/x/ws/", "http://b/x/ws/"),
            ("tcp://b:5500", "https://a/ws/"),
        ] {
            identity.events.uri = Some(named.to_owned());
            assert_eq!(Server::new(&identity).unwrap().web_socket_url().as_str(), expected);
        }
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
