//! The handle of a running server, and what its connections share.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::event::Event;
use crate::job::{Device, Job, Worker};
use crate::lab::Lab;
use crate::trouble::{Failure, Trouble};
use crate::{log_line, play, rest, web_socket, xml_rpc};

/// Connections at one time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 1_000;
/// Events that a WebSocket may be behind; one that falls further behind is closed.
const MAX_BEHIND: usize = 10_000;
/// Jobs that are played at one time.
const MAX_PLAYED: usize = 10_000;

/// What a server offers.
#[derive(Debug, Clone)]
pub struct Options {
    /// The port on 127.0.0.1; 0, the default, takes a free one.
    pub port: u16,
    /// Whether `/api/v0.2/` is there.
    pub rest: bool,
    /// Whether `/ws/` is there.
    pub web_socket: bool,
    /// Whether `/RPC2` is there.
    pub xml_rpc: bool,
    /// What `scheduler.get_publisher_event_socket` answers: LAVA's `EVENT_SOCKET`.
    pub events_socket: String,
    /// LAVA's `EVENT_TOPIC`.
    pub topic: String,
    /// The id of the first job.
    pub first_job: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            rest: true,
            web_socket: true,
            xml_rpc: true,
            events_socket: "tcp://*:5500".into(),
            topic: "org.lavasoftware".into(),
            first_job: 1,
        }
    }
}

/// What goes to all WebSockets.
#[derive(Debug, Clone)]
pub(crate) enum Note {
    Event(Arc<Event>),
    Close,
}

type Listener = Box<dyn Fn(&[String; 5]) + Send + Sync>;
pub(crate) type Steps = Vec<(Duration, String, String)>;

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) address: SocketAddr,
    lab: Mutex<Lab>,
    trouble: Mutex<Trouble>,
    /// Held while an event is made and handed out, so that all see one order.
    listeners: Mutex<Vec<Listener>>,
    pub(crate) notes: broadcast::Sender<Note>,
    /// Set at the end, for a WebSocket that was still logging in when all were closed.
    pub(crate) stopped: AtomicBool,
    /// Counts cancellations, to wake the jobs that are played.
    pub(crate) cancellations: watch::Sender<u64>,
    auto_run: Mutex<Option<Steps>>,
    played: Mutex<JoinSet<()>>,
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panicked elsewhere shall not hide its message behind ours.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn lab(&self) -> MutexGuard<'_, Lab> {
        hold(&self.lab)
    }

    /// Changes the lab and hands out the events that this made.
    pub(crate) fn change<T>(&self, work: impl FnOnce(&mut Lab) -> (T, Vec<Event>)) -> T {
        let listeners = hold(&self.listeners);
        let (value, events) = work(&mut self.lab());
        for event in events {
            for listener in listeners.iter() {
                listener(&event.frames);
            }
            // Without a WebSocket there is nobody to tell.
            let _ = self.notes.send(Note::Event(Arc::new(event)));
        }
        value
    }

    /// Starts what `auto_run` asked for.
    pub(crate) fn submitted(self: &Arc<Self>, numbers: &[u64]) {
        let Some(steps) = hold(&self.auto_run).clone() else {
            return;
        };
        for number in numbers {
            self.play(*number, steps.clone());
        }
    }

    pub(crate) fn cancelled(&self) {
        self.cancellations.send_modify(|count| *count += 1);
    }

    fn play(self: &Arc<Self>, number: u64, steps: Steps) {
        let mut played = hold(&self.played);
        while played.try_join_next().is_some() {}
        assert!(
            played.len() < MAX_PLAYED,
            "no more than {MAX_PLAYED} jobs are played at one time"
        );
        // Taken here, so that a cancellation before the task first runs counts.
        let woken = self.cancellations.subscribe();
        played.spawn(play::play(Arc::clone(self), number, steps, woken));
    }
}

/// A running server; it stops when this is dropped.
///
/// The user `admin`, a superuser, with the token `admin-token-0123456789`, the device `qemu-01` and the worker
/// `worker-01` (token `worker-token-0123456789`) are there from the start.
///
/// Methods that name a job take its database id or its sub id, and panic if there is no such job.
pub struct LavaServer {
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Drop for LavaServer {
    fn drop(&mut self) {
        self.accepting.abort();
        hold(&self.shared.played).abort_all();
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = self.shared.notes.send(Note::Close);
    }
}

impl LavaServer {
    /// The token of `admin`.
    pub const ADMIN_TOKEN: &str = "admin-token-0123456789";

    /// Starts a server with all that it has.
    ///
    /// # Panics
    /// If no port of 127.0.0.1 can be had.
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    /// Starts a server as `options` say.
    ///
    /// # Panics
    /// If the port of 127.0.0.1 cannot be had.
    pub async fn start_with(options: Options) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))
            .await
            .expect("a port of 127.0.0.1");
        let address = listener.local_addr().expect("a bound socket has an address");
        let mut lab = Lab::new(options.topic.clone(), options.first_job);
        lab.put_user("admin", Self::ADMIN_TOKEN, true);
        let shared = Arc::new(Shared {
            options,
            address,
            lab: Mutex::new(lab),
            trouble: Mutex::default(),
            listeners: Mutex::default(),
            notes: broadcast::Sender::new(MAX_BEHIND),
            stopped: AtomicBool::new(false),
            cancellations: watch::Sender::new(0),
            auto_run: Mutex::default(),
            played: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { shared, accepting }
    }

    /// `http://127.0.0.1:PORT/RPC2`, as an identity of lavacli has it.
    pub fn uri(&self) -> String {
        format!("http://{}/RPC2", self.shared.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    // Users and things.

    /// Adds a user who is no superuser, or gives a known one another token.
    pub fn add_user(&self, name: &str, token: &str) {
        self.shared.lab().put_user(name, token, false);
    }

    /// Adds a user who sees and may do everything.
    pub fn add_superuser(&self, name: &str, token: &str) {
        self.shared.lab().put_user(name, token, true);
    }

    /// Adds a job as it is, without an event; gives its database id.
    ///
    /// # Panics
    /// If its id is taken or no number, or there are 10,000 jobs.
    pub fn add_job(&self, job: Job) -> String {
        self.shared.lab().put_job(job)
    }

    /// Puts a job into a state, as LAVA does: with a device from Scheduled on, `start_time` with Running, `end_time`
    /// and the result `lava/job` with Finished. The event goes to WebSockets and listeners; its frames are given back.
    pub fn set_job(&self, id: &str, state: &str, health: &str) -> [String; 5] {
        self.shared.change(|lab| {
            let event = set_job(lab, id, state, health);
            (event.frames.clone(), vec![event])
        })
    }

    /// Ends a job Incomplete, with what the dispatcher says of the error in the result `lava/job`. The event goes out as
    /// with [`set_job`](Self::set_job).
    pub fn fail_job(&self, id: &str, error_type: &str, error_msg: &str) -> [String; 5] {
        self.change_job(id, |job| {
            job.error_type = Some(error_type.to_owned());
            job.error_msg = Some(error_msg.to_owned());
        });
        self.set_job(id, "Finished", "Incomplete")
    }

    /// The same as [`set_job`](Self::set_job), but nobody is told: the event was lost.
    pub fn set_job_quietly(&self, id: &str, state: &str, health: &str) -> [String; 5] {
        self.shared
            .change(|lab| (set_job(lab, id, state, health).frames, Vec::new()))
    }

    /// Changes what else a job has (`failure_comment`, `private`, …), without an event. Its ids stay as they are.
    pub fn change_job(&self, id: &str, change: impl FnOnce(&mut Job)) {
        let mut lab = self.shared.lab();
        let number = number_of(&lab, id);
        lab.change_job(number, change);
    }

    /// Removes a job, without an event.
    pub fn delete_job(&self, id: &str) {
        let mut lab = self.shared.lab();
        let number = number_of(&lab, id);
        lab.delete_job(number);
    }

    /// Adds or replaces a device, without an event.
    pub fn add_device(&self, device: Device) {
        self.shared.lab().put_device(device);
    }

    /// Adds or replaces a worker, without an event.
    pub fn add_worker(&self, worker: Worker) {
        self.shared.lab().put_worker(worker);
    }

    /// Puts a device, made if need be, into a state, and sends the event; its frames are given back.
    pub fn set_device(&self, name: &str, state: &str, health: &str) -> [String; 5] {
        self.shared.change(|lab| {
            let event = lab.set_device(name, state, health);
            (event.frames.clone(), vec![event])
        })
    }

    /// Puts a worker, made if need be, into a state, and sends the event; its frames are given back.
    pub fn set_worker(&self, name: &str, state: &str, health: &str) -> [String; 5] {
        self.shared.change(|lab| {
            let event = lab.set_worker(name, state, health);
            (event.frames.clone(), vec![event])
        })
    }

    /// Adds a line to a job's log; levels are `info`, `debug`, `warning`, `error`, `target`, `feedback`, `results` ….
    pub fn add_log(&self, id: &str, level: &str, message: &str) {
        let mut lab = self.shared.lab();
        let number = number_of(&lab, id);
        lab.add_log(number, log_line::written(crate::time::now(), level, message));
    }

    /// Adds a test case; `result` is `pass`, `fail`, `skip` or `unknown`.
    pub fn add_test(&self, id: &str, suite: &str, name: &str, result: &str) {
        let mut lab = self.shared.lab();
        let number = number_of(&lab, id);
        lab.add_test(number, suite, name, result);
    }

    // What clients did.

    /// All jobs, by id.
    pub fn jobs(&self) -> Vec<Job> {
        self.shared.lab().jobs().cloned().collect()
    }

    /// One job.
    pub fn job(&self, id: &str) -> Job {
        let lab = self.shared.lab();
        lab.job(number_of(&lab, id)).expect("the number is of a job").clone()
    }

    /// How many definitions were accepted.
    pub fn submissions(&self) -> usize {
        self.shared.lab().submissions
    }

    /// The database ids of the jobs that clients cancelled, in order.
    pub fn cancelled(&self) -> Vec<String> {
        self.shared.lab().cancelled.clone()
    }

    /// The last 10,000 requests in order, such as `GET /api/v0.2/jobs/12/`, with the query as it was sent. Those that
    /// met a failure are among them.
    pub fn requests(&self) -> Vec<String> {
        self.shared.lab().requests.iter().cloned().collect()
    }

    /// How many WebSockets are connected and logged in.
    pub fn web_sockets(&self) -> usize {
        self.shared.notes.receiver_count()
    }

    // Events.

    /// Calls `listener` with the frames of each event from now on, in order, from the thread that made it. It must not
    /// change the server.
    pub fn on_event(&self, listener: impl Fn(&[String; 5]) + Send + Sync + 'static) {
        hold(&self.shared.listeners).push(Box::new(listener));
    }

    /// Walks a job through `steps`: each is waited for, then set. A cancelled job ends as Canceled at once; one that
    /// the test sets to Finished is left alone.
    ///
    /// # Panics
    /// Outside of a tokio runtime, or with 10,000 jobs played already.
    pub fn play(&self, id: &str, steps: &[(Duration, &str, &str)]) {
        let number = number_of(&self.shared.lab(), id);
        self.shared.play(number, owned(steps));
    }

    /// Plays every job submitted from now on so; `None` leaves them Submitted.
    pub fn auto_run(&self, steps: Option<&[(Duration, &str, &str)]>) {
        *hold(&self.shared.auto_run) = steps.map(owned);
    }

    // Trouble.

    /// Lets the next `times` requests whose path begins with `path_prefix` fail. A prefix with a space is compared with
    /// method and path (`POST /api/v0.2/jobs/`). Of several that fit, the first planned is used first.
    pub fn fail(&self, failure: Failure, path_prefix: &str, times: usize) {
        hold(&self.shared.trouble).plan(failure, path_prefix, times);
    }

    /// Takes back all planned failures.
    pub fn heal(&self) {
        hold(&self.shared.trouble).clear();
    }

    /// Whether every token is refused, as when they were revoked.
    pub fn refuse_tokens(&self, refuse: bool) {
        self.shared.lab().refuse_tokens = refuse;
    }

    /// Closes all WebSockets as the original does at its end: with 1001.
    pub fn close_web_sockets(&self) {
        let _ = self.shared.notes.send(Note::Close);
    }
}

fn owned(steps: &[(Duration, &str, &str)]) -> Steps {
    steps
        .iter()
        .map(|&(wait, state, health)| (wait, state.to_owned(), health.to_owned()))
        .collect()
}

fn number_of(lab: &Lab, id: &str) -> u64 {
    lab.number_of(id).unwrap_or_else(|| panic!("there is no job {id}"))
}

fn set_job(lab: &mut Lab, id: &str, state: &str, health: &str) -> Event {
    let number = number_of(lab, id);
    lab.set_job(number, state, health).expect("the number is of a job")
}

/// The connection is to be closed without an answer.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed without an answer")
    }
}

impl std::error::Error for Cut {}

type App = TowerToHyperService<axum::Router>;

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut app = axum::Router::new();
    if shared.options.rest {
        app = app.merge(rest::routes());
    }
    if shared.options.xml_rpc {
        app = app.merge(xml_rpc::routes());
    }
    if shared.options.web_socket {
        app = app.merge(web_socket::routes());
    }
    let app = TowerToHyperService::new(app.fallback(rest::not_found).with_state(Arc::clone(&shared)));
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let slot = Arc::clone(&slots)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        // A connection that was gone before it was accepted is no reason to stop.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (app, shared) = (app.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            serve(stream, app, shared).await;
            drop(slot);
        });
    }
}

async fn serve(stream: TcpStream, app: App, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(request, app.clone(), Arc::clone(&shared)));
    // What ends a connection here is the client, or a cut that was asked for.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

async fn answer(request: Request<Incoming>, app: App, shared: Arc<Shared>) -> Result<Response<Body>, Cut> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let line = format!("{} {target}", request.method());
    let failure = hold(&shared.trouble).take(&line);
    shared.lab().remember(line);
    match failure {
        Some(Failure::Status(status)) => return Ok(proxy_answer(status)),
        Some(Failure::CloseBefore) => return Err(Cut),
        Some(Failure::Delay(delay)) => tokio::time::sleep(delay).await,
        Some(Failure::CutAnswer) | None => {}
    }
    let response: Result<Response<Body>, Infallible> = app.call(request).await;
    let Ok(response) = response;
    if failure == Some(Failure::CutAnswer) {
        Err(Cut)
    } else {
        Ok(response)
    }
}

/// As a web server in front of LAVA answers: a page of HTML.
fn proxy_answer(status: u16) -> Response<Body> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let page = format!("<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>\n");
    let mut response = Response::new(Body::from(page));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/html"));
    response
}
