//! All wiring of the daemon: which stage feeds which, and how it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lavabus_lava::explain::Explainer;
use lavabus_lava::{Server, ServerError};
use lavabus_protocol::Epoch;
use lavabus_store::{Checkpointer, Journal, OpenError, Reader, Retention, StoreError};
use lavabus_zmtp::{BindError, Endpoint, Limits, Listener, SocketType};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::authority::{Authority, AuthorityError};
use crate::config::{AuthorityConfig, Config, JournalConfig};
use crate::connections::{Doors, Handshakes};
use crate::counters::Counters;
use crate::explain::Explain;
use crate::fan_out::FanOut;
use crate::fan_out::ring::Limit;
use crate::health::Health;
use crate::history::History;
use crate::http::following::Following;
use crate::http::{self, Addresses, Http, HttpDoors, Measured, Posts};
use crate::intake::{Intake, Next, ToJournal};
use crate::journal::JournalWriter;
use crate::metrics::outlet::Outlet;
use crate::metrics::stages::Counting;
use crate::public::Public;
use crate::replay::Replays;
use crate::subscriber::{End, Shared, Subscriber};

/// Runs that wait for the journal,
const SUBMISSIONS: usize = 1024;
/// and their bytes. A single event is 1 MiB at most by default; a larger limit makes this larger.
const SUBMITTED_BYTES: usize = 4 << 20;
/// Without a journal the ring may grow to so many times its usual size while an active subscriber is behind.
const UNKEPT_RING: usize = 4;
/// Subscribers that are not slow have everything within this time at the end; the others are cut off.
const FLUSH: Duration = Duration::from_secs(4);
/// A subscriber sends subscriptions only.
const MAX_SUBSCRIPTION_MESSAGE: usize = 16 * 1024;

/// Why a publisher cannot go on. It has ended.
#[derive(Debug, thiserror::Error)]
pub enum FatalError {
    /// An endpoint could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The journal could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The journal could not be closed, or its thread gave up.
    #[error("the journal: {0}")]
    Journal(#[from] StoreError),
    /// LAVA cannot be asked why jobs failed, whatever it answers.
    #[error("asking LAVA why jobs failed: {0}")]
    Explain(#[from] ServerError),
    /// The second port could not be bound.
    #[error(
        "cannot listen on {address}: {source}; name another one with --http ADDRESS:PORT, or do without: --http off"
    )]
    Http {
        /// Where it was to be.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// It cannot be told who may see what.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A part of the publisher panicked: a defect.
    #[error("the {0} has panicked; what it was given last is in the log")]
    Panicked(&'static str),
}

/// The endpoints that a publisher listens on, with their real ports.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// For producers.
    pub intake: Vec<Endpoint>,
    /// For subscribers.
    pub publish: Vec<Endpoint>,
    /// For subscribers who get what everybody may see.
    pub publish_public: Vec<Endpoint>,
    /// The second port.
    pub http: Vec<SocketAddr>,
}

/// A publisher whose sockets are bound and whose journal is open.
#[derive(Debug)]
pub struct Publisher {
    config: Config,
    intake: Vec<Listener>,
    publish: Vec<Listener>,
    publish_public: Vec<Listener>,
    http: Vec<TcpListener>,
    authority: Authority,
    journal: Option<OpenJournal>,
    explainer: Option<Explainer>,
    counters: Arc<Counters>,
    health: Arc<Health>,
}

/// Every connection to the database.
#[derive(Debug)]
struct OpenJournal {
    journal: Journal,
    /// The writer's own, for questions while it cannot write.
    reader: Reader,
    checkpointer: Checkpointer,
    replays: Arc<Replays>,
    retention: Retention,
}

impl OpenJournal {
    fn open(config: &JournalConfig) -> Result<OpenJournal, OpenError> {
        let journal = Journal::open(&config.path, &config.options)?;
        if let Some(salvage) = journal.salvage() {
            warn!(
                ?salvage,
                "the database was damaged: it was moved aside and a new one begun"
            );
        }
        Ok(OpenJournal {
            reader: Reader::open(journal.path())?,
            checkpointer: Checkpointer::open(&journal)?,
            replays: Replays::start(journal.path(), *journal.epoch())?,
            retention: config.retention,
            journal,
        })
    }
}

impl Publisher {
    /// Opens the journal and binds all endpoints. Nothing is read or sent yet.
    pub async fn bind(config: Config) -> Result<Publisher, FatalError> {
        let journal = match config.journal.clone() {
            None => None,
            Some(config) => {
                let opened = tokio::task::spawn_blocking(move || OpenJournal::open(&config)).await;
                Some(opened.map_err(|_| FatalError::Panicked("journal"))??)
            }
        };
        let explainer = match &config.explain {
            None => None,
            Some(explain) => {
                for warning in &explain.identity.warnings {
                    warn!("{warning}");
                }
                let server = Server::new(&explain.identity)?;
                info!(server = %server.uri(), "asked why jobs failed");
                Some(Explainer::new(server, explain.pace.clone()))
            }
        };
        let (mut intake, mut publish) = (Vec::new(), Vec::new());
        for endpoint in &config.intake {
            intake.push(Listener::bind(endpoint, &config.bind).await?);
        }
        for endpoint in &config.publish {
            publish.push(Listener::bind(endpoint, &config.bind).await?);
        }
        let mut publish_public = Vec::new();
        for endpoint in &config.publish_public {
            publish_public.push(Listener::bind(endpoint, &config.bind).await?);
        }
        let mut http = Vec::new();
        for address in config.http.listen.iter().copied() {
            let listener = TcpListener::bind(address).await;
            http.push(listener.map_err(|source| FatalError::Http { address, source })?);
        }
        let authority = Authority::new(&config.authority)?;
        let health = Arc::new(Health::new(journal.is_some()));
        Ok(Publisher {
            config,
            intake,
            publish,
            publish_public,
            http,
            authority,
            journal,
            explainer,
            counters: Arc::default(),
            health,
        })
    }

    /// Where it listens.
    pub fn endpoints(&self) -> Endpoints {
        let endpoints = |listeners: &[Listener]| listeners.iter().map(|l| l.local_endpoint().clone()).collect();
        Endpoints {
            intake: endpoints(&self.intake),
            publish: endpoints(&self.publish),
            publish_public: endpoints(&self.publish_public),
            http: self
                .http
                .iter()
                .filter_map(|listener| listener.local_addr().ok())
                .collect(),
        }
    }

    /// What happened so far, counted.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Whether events can pass.
    pub fn health(&self) -> Arc<Health> {
        self.health.clone()
    }

    /// Works until `shutdown` is cancelled, then ends in order: no new connections, read what producers already sent,
    /// commit it, flush it to the subscribers.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), FatalError> {
        let started = Timestamp::now();
        let Publisher {
            config,
            intake,
            publish,
            publish_public,
            http,
            authority,
            journal,
            explainer,
            counters,
            health,
        } = self;
        let epoch = journal.as_ref().map_or_else(new_epoch, |open| *open.journal.epoch());
        let head = journal.as_ref().map_or(0, |open| open.journal.head());
        let usual = config.ring_bytes;
        let most = if journal.is_some() {
            usual
        } else {
            usual.saturating_mul(UNKEPT_RING)
        };
        let fan_out = Arc::new(FanOut::new(head, Limit { usual, most }));
        let oldest = Arc::new(AtomicU64::new(0));

        let (mut writer, next, replays) = match journal {
            None => (None, Next::FanOut(fan_out.clone()), None),
            Some(open) => {
                if let Some(first) = open.journal.oldest()? {
                    oldest.store(first, Ordering::Relaxed);
                }
                let (sender, submissions) = mpsc::channel(SUBMISSIONS);
                let bytes = SUBMITTED_BYTES
                    .max(2 * config.limits.message)
                    .max(4 * config.http.max_body);
                let writer = JournalWriter::new(
                    open.journal,
                    open.reader,
                    fan_out.clone(),
                    counters.clone(),
                    health.clone(),
                    oldest.clone(),
                    open.retention,
                );
                let runtime = tokio::runtime::Handle::current();
                let thread = JournalThread::spawn(move || writer.run(submissions, &runtime), open.checkpointer);
                (
                    Some(thread),
                    Next::Journal(ToJournal::new(sender, bytes)),
                    Some(open.replays),
                )
            }
        };

        let closing = CancellationToken::new();
        let (producers, subscribers) = (TaskTracker::new(), TaskTracker::new());
        let listeners = TaskTracker::new();
        let connections = Arc::new(Semaphore::new(config.max_connections));
        let handshakes = Handshakes::default();
        let doors = |tasks: &TaskTracker, limits: &Limits| Doors {
            limits: limits.clone(),
            connections: connections.clone(),
            handshakes: handshakes.clone(),
            counters: counters.clone(),
            closing: closing.clone(),
            tasks: tasks.clone(),
        };

        let share = |outlet, fan_out, replays, epoch, oldest| {
            Arc::new(Shared {
                fan_out,
                replays,
                epoch,
                outlet,
                oldest,
                counters: counters.clone(),
                history: History {
                    networks: config.history_from.clone(),
                    resume_window: config.resume_window,
                },
                limits: Limits {
                    frame: MAX_SUBSCRIPTION_MESSAGE,
                    message: MAX_SUBSCRIPTION_MESSAGE,
                    command: MAX_SUBSCRIPTION_MESSAGE,
                    skip: MAX_SUBSCRIPTION_MESSAGE as u64 * 2,
                    ..config.limits.clone()
                },
                heartbeat: config.heartbeat.clone(),
                max_subscriptions: config.max_subscriptions,
            })
        };
        let shared = share(Outlet::ZeroMq, fan_out, replays, epoch, oldest);
        let (drain, drain_public) = (CancellationToken::new(), CancellationToken::new());
        let publishing = publish.into_iter().map(|listener| (listener, shared.clone()));
        let mut public = None;
        let mut public_stream = None;
        let mut publishing_public = Vec::new();
        if !publish_public.is_empty() {
            let ring = Arc::new(FanOut::new(
                0,
                Limit {
                    usual,
                    most: usual.saturating_mul(UNKEPT_RING),
                },
            ));
            let (fan_out, replays) = (&shared.fan_out, shared.replays.as_ref());
            let following = Following::live(fan_out, replays, &counters).expect("the first subscriptions have room");
            public_stream = Some(following.place());
            let behind_look_ups = Public {
                following,
                reader: authority.public(),
                fan_out: ring.clone(),
            };
            public = Some(tokio::spawn(behind_look_ups.run(drain_public.clone())));
            let shared = share(Outlet::Public, ring, None, new_epoch(), Arc::default());
            publishing_public.extend(publish_public.into_iter().map(|listener| (listener, shared.clone())));
        }
        for (listener, shared) in publishing.chain(publishing_public) {
            let doors = doors(&subscribers, &shared.limits);
            let drain = drain.clone();
            let serve = move |stream, peer| serve_subscriber(shared.clone(), drain.clone(), stream, peer);
            listeners.spawn(async move { doors.accept(listener, SocketType::Pub, serve).await });
        }
        let to_journal = Intake {
            next,
            counters: counters.clone(),
            heartbeat: config.heartbeat,
            limits: config.limits.clone(),
            closing: closing.clone(),
        };
        let posts = Posts::new(&to_journal, &producers, config.http.max_body);
        let mut stages = None;
        if !http.is_empty() {
            let (fan_out, replays) = (&shared.fan_out, shared.replays.as_ref());
            // What it misses no subscriber misses.
            let uncounted = Arc::default();
            let counting = Counting {
                following: Following::live(fan_out, replays, &uncounted).expect("the first subscriptions have room"),
                reader: authority.public(),
                counters: counters.clone(),
            };
            stages = Some(tokio::spawn(counting.run(drain.clone())));
        }
        let database = config.journal.as_ref().map(|journal| journal.path.clone());
        let second_port = Http::new(http::Parts {
            authority,
            epoch,
            fan_out: shared.fan_out.clone(),
            replays: shared.replays.clone(),
            counters: counters.clone(),
            health,
            measured: Measured {
                started,
                oldest: shared.oldest.clone(),
                database: database.clone(),
                public_stream,
            },
            posts,
            timelines: Arc::new(Semaphore::new(http::TIMELINES)),
            expressions: Arc::new(Semaphore::new(http::EXPRESSIONS)),
            retention: config.journal.as_ref().map(|journal| journal.retention),
            origins: config.http.origins,
            stalled_timeout: shared.heartbeat.stalled_timeout,
            keep_alive: config.http.keep_alive,
            tasks: subscribers.clone(),
            drain: drain.clone(),
        });
        let is_open = matches!(config.authority, AuthorityConfig::Open { .. });
        // The last quarter is for ZeroMQ alone.
        let own_connections = Arc::new(Semaphore::new(config.max_connections.div_ceil(4) * 3));
        let refusals = Arc::new(Semaphore::new(http::REFUSALS));
        for listener in http {
            let is_local = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
            let doors = HttpDoors {
                http: second_port.clone(),
                connections: connections.clone(),
                own_connections: own_connections.clone(),
                refusals: refusals.clone(),
                addresses: Addresses::new(config.http.max_per_address, &config.http.proxies),
                checks_host: is_open && is_local,
                closing: closing.clone(),
            };
            listeners.spawn(doors.accept(listener));
        }
        for listener in intake {
            let doors = doors(&producers, &config.limits);
            let to_journal = to_journal.clone();
            let serve = move |stream, peer| to_journal.clone().serve(stream, peer);
            listeners.spawn(async move { doors.accept(listener, SocketType::Pull, serve).await });
        }
        let mut explaining = explainer.map(|explainer| {
            let explain = Explain::new(explainer, shared.fan_out.clone(), database, to_journal.clone());
            producers.spawn(explain.run())
        });
        // The journal's channel ends with its last producer.
        drop(to_journal);

        tokio::select! {
            () = shutdown.cancelled() => {}
            ended = ended_early(&mut writer) => return Err(ended),
            () = panicked(&mut explaining) => return Err(FatalError::Panicked("explainer")),
            () = panicked(&mut stages) => return Err(FatalError::Panicked("count of stages")),
            () = reading_ended(shared.replays.as_deref()) => return Err(FatalError::Panicked("reader of the journal")),
            () = panicked(&mut public) => return Err(FatalError::Panicked("stream of public events")),
        }
        info!("ending: no new connections, reading what producers already sent");
        closing.cancel();
        second_port.posts.close();
        for tracker in [&listeners, &producers] {
            tracker.close();
            tracker.wait().await;
        }
        if let Some(writer) = writer {
            writer.finished().await?;
        }
        drain_public.cancel();
        if let Some(public) = public {
            let _ = tokio::time::timeout(FLUSH, public).await;
        }
        drain.cancel();
        subscribers.close();
        if tokio::time::timeout(FLUSH, subscribers.wait()).await.is_err() {
            warn!(
                subscribers = subscribers.len(),
                "cut off subscribers that are too slow to take the rest"
            );
        }
        Ok(())
    }
}

/// Without a journal never.
async fn reading_ended(replays: Option<&Replays>) {
    match replays {
        Some(replays) => replays.ended().await,
        None => std::future::pending().await,
    }
}

fn new_epoch() -> Epoch {
    Epoch::from_u32(uuid::Uuid::new_v4().as_fields().0)
}

async fn serve_subscriber(
    shared: Arc<Shared>,
    drain: CancellationToken,
    stream: lavabus_zmtp::Stream,
    peer: lavabus_zmtp::Peer,
) {
    let counters = shared.counters.clone();
    let address = stream.peer();
    if peer.minor == 0 {
        // It may not know PING.
        if let Err(error) = stream.set_keepalive(shared.heartbeat.timeout) {
            debug!(peer = %address, %error, "no TCP keepalive");
        }
    }
    let subscriber = Subscriber::new(shared, stream, peer);
    // Who is counted has its starting point: what is published from now on reaches it.
    counters.subscribers.add(1);
    let end = subscriber.run(drain).await;
    match &end {
        End::Closed | End::Drained => return debug!(peer = %address, "subscriber gone: {end}"),
        End::Malformed(_) | End::Oversize => counters.malformed_peers.add(1),
        End::Dead => counters.dead_peers.add(1),
        End::Stalled => counters.stalled_peers.add(1),
        End::TooManySubscriptions(_) | End::SubscriptionsFull => counters.too_many_subscriptions.add(1),
        End::Io(_) | End::Journal(_) => {}
    }
    warn!(peer = %address, "subscriber disconnected: {end}");
}

/// The journal's thread and the one that copies its log.
struct JournalThread {
    done: oneshot::Receiver<Result<(), StoreError>>,
}

impl JournalThread {
    fn spawn(
        work: impl FnOnce() -> Result<(), StoreError> + Send + 'static,
        checkpointer: Checkpointer,
    ) -> JournalThread {
        let (sender, done) = oneshot::channel();
        let (ended, end) = std::sync::mpsc::sync_channel::<()>(0);
        let spawn = |name: &str| std::thread::Builder::new().name(name.into());
        spawn("checkpoint")
            .spawn(move || {
                let mut pause = CHECKPOINT_PAUSE;
                while let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = end.recv_timeout(pause) {
                    let began = Instant::now();
                    if let Err(error) = checkpointer.run() {
                        debug!(%error, "checkpoint");
                    }
                    pause = CHECKPOINT_PAUSE.max(began.elapsed() * CHECKPOINT_REST);
                }
            })
            .expect("the process may have threads");
        spawn("journal")
            .spawn(move || {
                // A panic drops the sender, which is seen as one.
                let result = work();
                drop(ended);
                let _ = sender.send(result);
            })
            .expect("the process may have threads");
        JournalThread { done }
    }

    async fn finished(self) -> Result<(), FatalError> {
        Ok(self.done.await.map_err(|_| FatalError::Panicked("journal"))??)
    }
}

/// The log is copied into the database this often, so that no commit has to do it,
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(100);
/// but copying takes no more than one part in so many of the time: a flood goes into the log.
const CHECKPOINT_REST: u32 = 10;

/// Completes only if the task panicked.
async fn panicked(task: &mut Option<JoinHandle<()>>) {
    if let Some(task) = task
        && task.await.is_err()
    {
        return;
    }
    std::future::pending().await
}

/// Completes only if the journal's thread ended though nobody asked it to.
async fn ended_early(writer: &mut Option<JournalThread>) -> FatalError {
    match writer {
        None => std::future::pending().await,
        Some(thread) => match (&mut thread.done).await {
            Ok(Err(error)) => error.into(),
            Ok(Ok(())) | Err(_) => FatalError::Panicked("journal"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_panic_is_an_end_that_nobody_asked_for() {
        let mut task = Some(tokio::spawn(async { panic!("a defect") }));
        panicked(&mut task).await;
        for mut task in [None, Some(tokio::spawn(async {}))] {
            let ended = tokio::time::timeout(Duration::from_millis(20), panicked(&mut task)).await;
            assert!(ended.is_err());
        }
    }
}
