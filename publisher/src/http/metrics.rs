//! `GET /metrics`: the publisher's figures, for Prometheus.
//!
//! Whoever reaches the port may read them: they are counts, with labels from closed sets. Services are named to those who
//! may see the stages. `docs/metrics.md` tells what each figure means, and a test compares both.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::authority::{Credentials, Refused};
use crate::http::{Http, Problem};
use crate::metrics::exposition::{self, Exposition};
use crate::metrics::outlet::{Outlet, Place};
use crate::visible::sees_all;

/// What is looked at when somebody asks.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) started: Timestamp,
    /// The oldest number in the journal.
    pub(crate) oldest: Arc<AtomicU64>,
    /// The journal's file.
    pub(crate) database: Option<PathBuf>,
    /// How far the stream of the public endpoints is.
    pub(crate) public_stream: Option<Arc<Place>>,
}

/// `GET /metrics`.
pub(crate) async fn metrics(State(http): State<Http>, headers: HeaderMap) -> Result<Response, Problem> {
    let sees_all = sees_all_stages(&http, &headers).await.inspect_err(|_| {
        http.counters.authentication_failures.add(1);
    })?;
    let mut exposition = Exposition::default();
    events(&http, &mut exposition);
    stages(&http, sees_all, &mut exposition);
    subscribers(&http, &mut exposition);
    journal(&http, &mut exposition);
    connections(&http, &mut exposition);
    explained(&http, &mut exposition);
    process(&http, &mut exposition);
    Ok(([(CONTENT_TYPE, exposition::CONTENT_TYPE)], exposition.into_text()).into_response())
}

/// No login is needed, and while nobody can tell whose login it is the rest is answered all the same.
async fn sees_all_stages(http: &Http, headers: &HeaderMap) -> Result<bool, Problem> {
    let reader = match Credentials::of_request(headers)? {
        Credentials::Anonymous => Ok(http.authority.public()),
        login => http.authority.authenticate(&login).await,
    };
    match reader {
        Ok(reader) => Ok(sees_all(&reader)),
        Err(Refused::Unavailable) => Ok(false),
        Err(refused) => Err(refused.into()),
    }
}

fn events(http: &Http, exposition: &mut Exposition) {
    let counters = &http.counters;
    exposition
        .counter(
            "lavabus_events_received_total",
            "Messages read from producers, refused ones included.",
        )
        .value(counters.received.get());
    let mut refused = exposition.counter(
        "lavabus_events_refused_total",
        "Messages that are no events, or reuse a UUID, by reason.",
    );
    for (reason, count) in counters.refused.by_reason() {
        refused.sample(&[("reason", reason)], count);
    }
    let mut dropped = exposition.counter(
        "lavabus_events_dropped_total",
        "Events that somebody does not have, by reason: the same again (repeated), not kept for want of room while the disk \
         was in trouble (not_recorded), not had by a slow subscriber (skipped, counted for each subscriber).",
    );
    for (reason, counter) in [
        ("repeated", &counters.repeated),
        ("not_recorded", &counters.not_recorded),
        ("skipped", &counters.skipped),
    ] {
        dropped.sample(&[("reason", reason)], counter.get());
    }
    exposition
        .counter(
            "lavabus_events_published_total",
            "Events handed to the fan-out, each counted once.",
        )
        .value(counters.published.get());
    let mut delivered = exposition.counter(
        "lavabus_events_delivered_total",
        "Events written to subscribers, by outlet: one that goes to two subscribers counts twice.",
    );
    for outlet in Outlet::ALL {
        delivered.sample(
            &[("outlet", outlet.label())],
            counters.outlets.of(outlet).delivered.get(),
        );
    }
    exposition
        .counter(
            "lavabus_events_committed_total",
            "Events committed to the journal by this process.",
        )
        .value(counters.committed.get());
    exposition
        .counter(
            "lavabus_events_unnumbered_total",
            "Events that went out before they were kept, because the journal could not write.",
        )
        .value(counters.unnumbered.get());
    exposition.histogram(
        "lavabus_event_latency_seconds",
        "From receiving an event to handing it to the fan-out, its commit included.",
        &counters.latency,
    );
    exposition.histogram(
        "lavabus_commit_duration_seconds",
        "How long a group of events took to be written and committed.",
        &counters.commits,
    );
}

fn stages(http: &Http, sees_all: bool, exposition: &mut Exposition) {
    let mut stages = exposition.counter(
        "lavabus_stages_total",
        "Stages that services told of, by service and status. The service other: those beyond the first 50, and all whose \
         stages not everybody may see, unless the reader may see all events.",
    );
    let counts = &http.counters.stages;
    counts.each(sees_all, |service, status, count| {
        stages.sample(&[("service", service), ("status", status)], count);
    });
}

fn subscribers(http: &Http, exposition: &mut Exposition) {
    let figures: Vec<_> = Outlet::ALL
        .iter()
        .map(|outlet| (outlet.label(), http.counters.outlets.of(*outlet).subscribers()))
        .collect();
    let mut subscribers = exposition.gauge("lavabus_subscribers", "Subscribers connected now, by outlet.");
    for (outlet, (count, _)) in &figures {
        subscribers.sample(&[("outlet", outlet)], count);
    }
    let mut lag = exposition.gauge(
        "lavabus_subscriber_lag_events",
        "How many events the subscriber furthest behind has not had yet, by outlet.",
    );
    for (outlet, (_, furthest)) in &figures {
        lag.sample(&[("outlet", outlet)], furthest);
    }
    if let Some(public) = &http.measured.public_stream {
        exposition
            .gauge(
                "lavabus_public_stream_lag_events",
                "How many events the public endpoints have not looked at yet.",
            )
            .value(public.lag());
    }
    exposition
        .counter(
            "lavabus_gaps_told_total",
            "Gaps told to subscribers who asked for what cannot be had.",
        )
        .value(http.counters.gaps.get());
}

fn journal(http: &Http, exposition: &mut Exposition) {
    exposition
        .gauge("lavabus_head_sequence", "The newest event's number.")
        .value(http.fan_out.head());
    exposition
        .gauge("lavabus_ready", "1 while GET /readyz says that it is ready, else 0.")
        .value(u8::from(http.is_ready()));
    let Some(database) = &http.measured.database else {
        return;
    };
    exposition
        .gauge(
            "lavabus_oldest_sequence",
            "The oldest kept event's number, 0 if there is none.",
        )
        .value(http.measured.oldest.load(Ordering::Relaxed));
    let mut bytes = exposition.gauge(
        "lavabus_database_bytes",
        "Size of the journal's file and of its write-ahead log.",
    );
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    for (file, path) in [("database", database.as_path()), ("log", Path::new(&log))] {
        bytes.sample(
            &[("file", file)],
            fs::metadata(path).map_or(0, |metadata| metadata.len()),
        );
    }
    let mut lag = exposition.gauge(
        "lavabus_projector_lag_events",
        "Events not yet taken in by a projection: entity (snapshots), history (questions).",
    );
    for (projection, behind) in ["entity", "history"].iter().zip(http.counters.projections_behind.get()) {
        lag.sample(&[("projection", projection)], behind);
    }
}

fn connections(http: &Http, exposition: &mut Exposition) {
    let counters = &http.counters;
    let producers = counters.producers.get().saturating_sub(counters.producers_gone.get());
    exposition
        .gauge("lavabus_producers", "Producers connected to the intake now.")
        .value(producers);
    let mut accepted = exposition.counter("lavabus_connections_accepted_total", "Connections accepted, by kind.");
    for (kind, counter) in [
        ("producer", &counters.producers),
        ("subscriber", &counters.subscribers),
        ("websocket", &counters.websockets),
        ("sse", &counters.event_streams),
    ] {
        accepted.sample(&[("kind", kind)], counter.get());
    }
    let mut refused = exposition.counter(
        "lavabus_connections_refused_total",
        "Connections that were not taken, or ended in the handshake, by reason.",
    );
    for (reason, counter) in [
        ("too_many", &counters.too_many_connections),
        ("too_many_of_address", &counters.too_many_of_address),
        ("handshake_failed", &counters.handshakes_failed),
        ("handshake_evicted", &counters.handshakes_evicted),
    ] {
        refused.sample(&[("reason", reason)], counter.get());
    }
    let mut disconnected = exposition.counter("lavabus_peers_disconnected_total", "Peers disconnected, by reason.");
    for (reason, counter) in [
        ("malformed", &counters.malformed_peers),
        ("dead", &counters.dead_peers),
        ("stalled", &counters.stalled_peers),
        ("too_many_subscriptions", &counters.too_many_subscriptions),
    ] {
        disconnected.sample(&[("reason", reason)], counter.get());
    }
    exposition
        .counter(
            "lavabus_authentication_failures_total",
            "Requests on the second port with a login that is not good.",
        )
        .value(counters.authentication_failures.get());
    exposition
        .counter(
            "lavabus_lookups_refused_total",
            "Questions of requests, and logins, that LAVA was not asked because too many waited: answered with 503.",
        )
        .value(http.authority.refused_look_ups());
}

fn explained(http: &Http, exposition: &mut Exposition) {
    let counters = &http.counters;
    let mut explained = exposition.counter(
        "lavabus_failed_jobs_total",
        "Failed jobs of which LAVA was to be asked why, by what came of it.",
    );
    for (outcome, counter) in [
        ("explained", &counters.explained),
        ("foreign", &counters.explain_foreign),
        ("left_out", &counters.explain_left_out),
        ("given_up", &counters.explain_given_up),
    ] {
        explained.sample(&[("outcome", outcome)], counter.get());
    }
}

/// The last ones have the names that all of Prometheus' libraries give them.
fn process(http: &Http, exposition: &mut Exposition) {
    let mut build = exposition.gauge("lavabus_build_info", "1, with the version of the publisher.");
    build.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    exposition
        .gauge("process_start_time_seconds", "When the publisher started, since 1970.")
        .value(http.measured.started.as_microsecond() as f64 / 1e6);
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        exposition
            .counter("process_cpu_seconds_total", "User and system time.")
            .value(us as f64 / 1e6);
    }
    if let Some(bytes) = resident_bytes() {
        exposition
            .gauge("process_resident_memory_bytes", "Resident memory.")
            .value(bytes);
    }
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
