//! The second port: WebSocket, probes and what else speaks HTTP.

mod addresses;
mod answer;
mod cors;
mod emit;
mod end;
mod events;
pub(crate) mod following;
pub(crate) mod forms;
mod gap;
mod metrics;
mod objects;
mod openapi;
mod parameters;
mod probes;
mod problem;
mod status;
pub(crate) mod stream;
mod timeline;
mod visitor;
pub(crate) mod websocket;

use std::convert::Infallible;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::header::{CONNECTION, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use lavabus_protocol::Epoch;
use lavabus_store::Retention;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;
use tracing::{debug, warn};

pub(crate) use self::addresses::Addresses;
use self::addresses::Place;
use self::cors::Cors;
pub(crate) use self::emit::Posts;
pub(crate) use self::gap::Gap;
pub(crate) use self::metrics::Measured;
pub(crate) use self::problem::Problem;
pub(crate) use self::stream::EXPRESSIONS;
pub(crate) use self::timeline::AT_A_TIME as TIMELINES;
use crate::authority::Authority;
use crate::counters::Counters;
use crate::fan_out::FanOut;
use crate::health::Health;
use crate::replay::Replays;

/// A request's head must be there in this time, and so must the next one of a connection that is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A request's head fits in so many bytes, and so many wait at most for a client that does not read.
const BUFFER: usize = 16 * 1024;
/// A peer that is silent for so long is looked for.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// It is said no more often than this that none can be accepted.
const WARN_INTERVAL: Duration = Duration::from_secs(10);
/// So many connections beyond what their address may have are told so at a time; more are closed without a word.
pub(crate) const REFUSALS: usize = 64;
/// After a failure to accept the listener rests this long.
const REST: Duration = Duration::from_millis(100);

/// What every request is answered from. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Http(Arc<Parts>);

/// The parts of the publisher that the second port uses.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) authority: Authority,
    pub(crate) fan_out: Arc<FanOut>,
    pub(crate) replays: Option<Arc<Replays>>,
    pub(crate) epoch: Epoch,
    pub(crate) counters: Arc<Counters>,
    pub(crate) health: Arc<Health>,
    pub(crate) measured: Measured,
    pub(crate) posts: Posts,
    /// One permit a timeline that is being made, or is large and not taken yet.
    pub(crate) timelines: Arc<Semaphore>,
    /// One permit a regular expression of a stream.
    pub(crate) expressions: Arc<Semaphore>,
    /// None without a journal.
    pub(crate) retention: Option<Retention>,
    /// Pages of these origins may use the port, beside its own.
    pub(crate) origins: Vec<String>,
    pub(crate) stalled_timeout: Duration,
    /// A stream says something at least this often.
    pub(crate) keep_alive: Duration,
    /// Tasks of connections that are not HTTP any more.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when everything is published that will be.
    pub(crate) drain: CancellationToken,
}

impl Deref for Http {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Http {
    pub(crate) fn new(parts: Parts) -> Http {
        Http(Arc::new(parts))
    }

    /// Where no login is asked for, this machine's own port is for those who know it as that: a page whose name was made to
    /// point here (DNS rebinding) has another one. Others are named with `--http-origin`.
    fn is_host_allowed(&self, headers: &HeaderMap) -> bool {
        let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else {
            return true;
        };
        let name = host
            .rsplit_once(':')
            .map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
        let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let is_named = |origin: &String| origin.split_once("://").is_some_and(|(_, authority)| authority == host);
        is_address || name.eq_ignore_ascii_case("localhost") || self.origins.iter().any(is_named)
    }

    /// A page of another site must not read with what the browser adds by itself. Programs send no origin.
    pub(crate) fn is_origin_allowed(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(ORIGIN) else {
            return true;
        };
        let (Ok(origin), host) = (origin.to_str(), headers.get(HOST).and_then(|host| host.to_str().ok())) else {
            return false;
        };
        let is_own = origin
            .split_once("://")
            .is_some_and(|(_, authority)| Some(authority) == host);
        is_own || self.origins.iter().any(|allowed| allowed == origin)
    }

    /// Events are kept before they are seen, and it can be told who may see them.
    fn is_ready(&self) -> bool {
        self.health.is_ready() && self.authority.is_available()
    }

    /// Where the past is read.
    pub(crate) fn replays(&self) -> Result<&Arc<Replays>, Problem> {
        let missing = || {
            Problem::new(
                StatusCode::NOT_FOUND,
                "this publisher keeps no journal: there is the stream only",
            )
        };
        self.replays.as_ref().ok_or_else(missing)
    }

    fn routes(&self) -> Router {
        let api = api().into_iter();
        api.fold(Router::new(), |router, (path, methods)| router.route(path, methods))
            .route("/ws/", get(websocket::upgrade))
            .route("/ws/v1/healthz", get(probes::healthz))
            .route("/livez", get(probes::livez))
            .route("/readyz", get(probes::readyz))
            .route("/metrics", get(metrics::metrics))
            .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing here"))
            .method_not_allowed_fallback(async || {
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this cannot be done here")
            })
            .with_state(self.clone())
    }
}

/// What `openapi.json` describes.
fn api() -> [(&'static str, MethodRouter<Http>); 9] {
    [
        ("/api/v1/events", get(events::list).post(emit::post)),
        ("/api/v1/stream", get(stream::open)),
        ("/api/v1/jobs/{id}", get(objects::job)),
        ("/api/v1/devices/{name}", get(objects::device)),
        ("/api/v1/workers/{name}", get(objects::worker)),
        ("/api/v1/timeline/{*id}", get(timeline::show)),
        ("/api/v1/rejected", get(status::rejected)),
        ("/api/v1/status", get(status::status)),
        ("/api/v1/openapi.json", get(openapi::document)),
    ]
}

/// Where a request came from, and its places, which whoever goes on with the connection keeps.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    client: IpAddr,
    aborted: CancellationToken,
    _places: (Arc<Places>, Option<Arc<Place>>),
}

/// What a connection takes from others while it is there, whether it asks for something or not.
#[derive(Debug)]
struct Places {
    _permits: Vec<OwnedSemaphorePermit>,
    /// One that is refused has none; nor has a proxy, whose clients have one each while they ask.
    place: Option<Place>,
}

impl Connection {
    pub(crate) fn address(&self) -> IpAddr {
        self.client
    }

    /// Closes it, whatever is still to be written.
    pub(crate) fn abort(&self) {
        self.aborted.cancel();
    }
}

/// Accepts connections.
#[derive(Clone, Debug)]
pub(crate) struct HttpDoors {
    pub(crate) http: Http,
    /// One permit a connection, whatever its kind.
    pub(crate) connections: Arc<Semaphore>,
    /// One permit a connection of this port, fewer than those: there is always room for ZeroMQ.
    pub(crate) own_connections: Arc<Semaphore>,
    /// One permit a connection that is refused.
    pub(crate) refusals: Arc<Semaphore>,
    pub(crate) addresses: Addresses,
    /// Whether the port is asked by the names of this machine only.
    pub(crate) checks_host: bool,
    pub(crate) closing: CancellationToken,
}

impl HttpDoors {
    /// Takes connections until closing; those that are open then finish their request.
    pub(crate) async fn accept(self, listener: TcpListener) {
        let routes = self.http.routes();
        let mut warned = None;
        loop {
            // Both are cancel-safe.
            let accepted = tokio::select! {
                () = self.closing.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if warned.is_none_or(|last: Instant| last.elapsed() >= WARN_INTERVAL) {
                        warned = Some(Instant::now());
                        warn!(%error, "cannot accept HTTP connections; trying again");
                    }
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            // Where a socket takes both, an IPv4 peer is one.
            let peer = peer.ip().to_canonical();
            let Some(places) = self.places(peer) else {
                debug!(%peer, "refused: too many connections");
                continue;
            };
            let doors = self.clone();
            self.http
                .tasks
                .spawn(doors.serve(stream, peer, routes.clone(), Arc::new(places)));
        }
    }

    /// Room for a connection of this peer, or for telling it that there is none.
    fn places(&self, peer: IpAddr) -> Option<Places> {
        let place = match self.addresses.is_proxy(peer) {
            true => None,
            false => match self.addresses.place(peer) {
                Some(place) => Some(place),
                None => {
                    self.http.counters.too_many_of_address.add(1);
                    return Some(Places {
                        _permits: vec![self.refusals.clone().try_acquire_owned().ok()?],
                        place: None,
                    });
                }
            },
        };
        let permits = [&self.connections, &self.own_connections].map(|semaphore| semaphore.clone().try_acquire_owned());
        let Ok(permits) = permits.into_iter().collect() else {
            self.http.counters.too_many_connections.add(1);
            return None;
        };
        Some(Places {
            _permits: permits,
            place,
        })
    }

    async fn serve(self, stream: TcpStream, peer: IpAddr, routes: Router, places: Arc<Places>) {
        // Small messages go out at once.
        let _ = stream.set_nodelay(true);
        // A client whose machine is gone says nothing, and many have nothing to say for hours.
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
        if let Err(error) = SockRef::from(&stream).set_tcp_keepalive(&keepalive) {
            debug!(%peer, %error, "no TCP keepalive");
        }
        let aborted = CancellationToken::new();
        let answer = service_fn(|request: Request<Incoming>| {
            let (doors, mut routes, places) = (self.clone(), routes.clone(), places.clone());
            let aborted = aborted.clone();
            async move {
                let mut request = request.map(Body::new);
                let cors = Cors::of(&request, &doors.http.origins);
                let answer = match doors.connection(peer, request.headers(), places, aborted) {
                    Ok(connection) => {
                        request.extensions_mut().insert(connection);
                        routes.call(request).await?
                    }
                    Err(problem) => {
                        let mut response = problem.into_response();
                        response
                            .headers_mut()
                            .insert(CONNECTION, HeaderValue::from_static("close"));
                        response
                    }
                };
                Ok::<Response, Infallible>(cors.told(answer))
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), answer)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let served = async {
            tokio::select! {
                ended = &mut connection => ended,
                () = self.closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        };
        let ended = tokio::select! {
            ended = served => ended,
            () = aborted.cancelled() => return,
        };
        if let Err(error) = ended {
            debug!(%peer, %error, "HTTP connection ended");
        }
    }

    fn connection(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        places: Arc<Places>,
        aborted: CancellationToken,
    ) -> Result<Connection, Problem> {
        if self.checks_host && !self.http.is_host_allowed(headers) {
            let detail = "this port is for this machine; whoever reaches it under another name needs --http-origin";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        let refused = || {
            let detail = "too many connections from one address";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
        };
        let client = self.addresses.client(peer, headers);
        let mut of_client = None;
        if self.addresses.is_proxy(peer) {
            of_client = self.addresses.place(client).map(Arc::new);
            if of_client.is_none() {
                self.http.counters.too_many_of_address.add(1);
                return Err(refused());
            }
        } else if places.place.is_none() {
            return Err(refused());
        }
        Ok(Connection {
            client,
            aborted,
            _places: (places, of_client),
        })
    }
}
