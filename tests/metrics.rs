//! `/metrics` tells what happened.

#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Exposition, HttpClient, Lab, Message, RunningPublisher, StockPush, StockSub, WebSocket};
use lava_publisher::AuthorityConfig;
use lavabus_protocol::Refusal;
use libzmq_peer::SocketOption;

async fn scrape(publisher: &RunningPublisher) -> Exposition {
    Exposition::of(publisher.http()).await
}

/// Asks until it is so.
async fn until(publisher: &RunningPublisher, what: &str, is_so: impl Fn(&Exposition) -> bool) -> Exposition {
    let asked = async {
        loop {
            let exposition = scrape(publisher).await;
            if is_so(&exposition) {
                return exposition;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let told = tokio::time::timeout(lab::LONG, asked).await;
    told.unwrap_or_else(|_| panic!("not told in time: {what}"))
}

fn stage(data: serde_json::Value) -> Message {
    Message::sent_at(jiff::Timestamp::now(), "stage", &data)
}

/// A file with the token `one`, of a reader.
fn token(lab: &Lab, more: &str) -> std::path::PathBuf {
    let path = lab.folder().join("tokens.yaml");
    let sha256 = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
    let entry = format!("- name: prometheus\n  sha256: {sha256}\n  role: reader\n  {more}\n");
    std::fs::write(&path, entry).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_an_event_is_counted() {
    let publisher = Lab::new().journal().http().start().await;
    let mut sockets = Vec::new();
    for _ in 0..2 {
        sockets.push(WebSocket::connect(publisher.http(), &[]).await);
    }
    let sub = StockSub::connect(publisher.publish(), &[""]);
    publisher.websockets(2).await;
    publisher.subscribers(1).await;
    let push = StockPush::connect(publisher.intake());
    let sent: Vec<Message> = (0..500).map(Message::test_event).collect();
    push.send_all(&sent);
    push.send(&sent[0]);
    let mut conflict = sent[1].clone();
    conflict.0[4] = b"{}".to_vec();
    push.send(&conflict);
    push.send(&Message::new(&["alone"]));
    push.send(&Message::new(&["two", "frames"]));
    let mut broken = Message::test_event(0);
    broken.0[4] = b"no JSON".to_vec();
    push.send(&broken);
    let last = Message::test_event(500);
    push.send(&last);
    for socket in &mut sockets {
        assert_eq!(socket.take(501).await.last(), Some(&last));
    }
    assert_eq!(sub.take(501).last(), Some(&last));

    let all_delivered = |told: &Exposition| {
        let delivered = |outlet| told.value("lavabus_events_delivered_total", &[("outlet", outlet)]);
        delivered("websocket") == 1002.0 && delivered("zeromq") == 501.0
    };
    let told = until(&publisher, "all delivered", all_delivered).await;
    for (name, labels, expected) in [
        ("lavabus_events_received_total", &[][..], 506.0),
        ("lavabus_events_published_total", &[], 501.0),
        ("lavabus_events_committed_total", &[], 501.0),
        ("lavabus_events_unnumbered_total", &[], 0.0),
        ("lavabus_events_refused_total", &[("reason", "frame_count")], 2.0),
        ("lavabus_events_refused_total", &[("reason", "not_json")], 1.0),
        ("lavabus_events_refused_total", &[("reason", "uuid_conflict")], 1.0),
        ("lavabus_events_refused_total", &[("reason", "oversize")], 0.0),
        ("lavabus_events_dropped_total", &[("reason", "repeated")], 1.0),
        ("lavabus_events_dropped_total", &[("reason", "not_recorded")], 0.0),
        ("lavabus_events_dropped_total", &[("reason", "skipped")], 0.0),
        ("lavabus_events_delivered_total", &[("outlet", "zeromq")], 501.0),
        ("lavabus_events_delivered_total", &[("outlet", "public")], 0.0),
        ("lavabus_event_latency_seconds_count", &[], 501.0),
        ("lavabus_head_sequence", &[], 501.0),
        ("lavabus_oldest_sequence", &[], 1.0),
        ("lavabus_subscribers", &[("outlet", "zeromq")], 1.0),
        ("lavabus_subscribers", &[("outlet", "websocket")], 2.0),
        ("lavabus_subscribers", &[("outlet", "public")], 0.0),
        ("lavabus_producers", &[], 1.0),
        ("lavabus_connections_accepted_total", &[("kind", "websocket")], 2.0),
        ("lavabus_authentication_failures_total", &[], 0.0),
        ("lavabus_ready", &[], 1.0),
        ("lavabus_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0),
    ] {
        assert_eq!(told.value(name, labels), expected, "{name} {labels:?}");
    }
    let reasons = told.families["lavabus_events_refused_total"].samples.iter();
    let reasons: Vec<&str> = reasons.map(|sample| &*sample.labels["reason"]).collect();
    assert_eq!(reasons, Refusal::REASONS);
    let commits = told.value("lavabus_commit_duration_seconds_count", &[]);
    assert!((1.0..=506.0).contains(&commits), "{commits}");
    assert!(told.value("lavabus_database_bytes", &[("file", "database")]) >= 4096.0);
    assert!(told.value("lavabus_database_bytes", &[("file", "log")]) > 0.0);
    assert!(told.value("process_resident_memory_bytes", &[]) > 1e6);
    assert!(told.value("process_cpu_seconds_total", &[]) > 0.0);
    let started = told.value("process_start_time_seconds", &[]);
    let now = jiff::Timestamp::now().as_millisecond() as f64 / 1e3;
    assert!(
        started <= now && started > now - lab::LONG.as_secs_f64(),
        "{started} {now}"
    );
    drop(sockets);
    let gone = |told: &Exposition| told.value("lavabus_subscribers", &[("outlet", "websocket")]) == 0.0;
    until(&publisher, "the WebSockets are gone", gone).await;
    drop(push);
    let gone = |told: &Exposition| told.value("lavabus_producers", &[]) == 0.0;
    until(&publisher, "the producer is gone", gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_there_are_no_figures_of_one() {
    let publisher = Lab::new().http().start().await;
    let push = StockPush::connect(publisher.intake());
    push.send_all(&(0..100).map(Message::test_event).collect::<Vec<_>>());
    push.send(&Message::new(&["alone"]));
    publisher.published(100).await;
    let refused = |told: &Exposition| told.value("lavabus_events_refused_total", &[("reason", "frame_count")]) == 1.0;
    let told = until(&publisher, "the refusal", refused).await;
    assert_eq!(told.value("lavabus_head_sequence", &[]), 100.0);
    assert_eq!(told.value("lavabus_event_latency_seconds_count", &[]), 100.0);
    assert_eq!(told.value("lavabus_commit_duration_seconds_count", &[]), 0.0);
    for absent in [
        "lavabus_oldest_sequence",
        "lavabus_database_bytes",
        "lavabus_projector_lag_events",
        "lavabus_public_stream_lag_events",
    ] {
        assert!(!told.families.contains_key(absent), "{absent}");
    }
}

/// Whoever does not read is behind by so many events; who has had all is not, and each event that went out, in whatever
/// pieces and from wherever, counts once for each subscriber.
#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_show_their_lag_and_have_everything_in_the_end() {
    let publisher = Lab::new()
        .journal()
        .http()
        .configure(|config| {
            // They block in the ring, and go on in the journal.
            config.ring_bytes = 8 * 1024 * 1024;
            config.publish_public = vec!["tcp://127.0.0.1:0".parse().unwrap()];
        })
        .start()
        .await;
    let small = [(SocketOption::RcvHwm, 10)];
    let plain = StockSub::connect_with(publisher.publish(), &["org."], &small);
    let numbered = StockSub::connect_with(publisher.publish(), &["@seq", "@start", "org."], &small);
    // Wants nothing of it, and is never behind.
    let _narrow = StockSub::connect(publisher.publish_public(), &["another.topic"]);
    let mut socket = WebSocket::connect(publisher.http(), &[]).await;
    let mut stream = HttpClient::new(publisher.http()).stream("/api/v1/stream", None).await;
    publisher.subscribers(3).await;
    publisher.websockets(1).await;
    let push = StockPush::connect(publisher.intake());
    // More than the windows of both ends hold, and the ring.
    let padding = "x".repeat(4_000);
    let sent: Vec<Message> = (0..5_000)
        .map(|number| {
            let data = serde_json::json!({"message": padding, "job": 1995, "number": number});
            Message::sent_at(jiff::Timestamp::now(), "event", &data)
        })
        .collect();
    let (pushing, all) = (sent.clone(), sent.len());
    tokio::task::spawn_blocking(move || push.send_all(&pushing))
        .await
        .unwrap();
    publisher.published(all as u64).await;
    let lag = |told: &Exposition, outlet| told.value("lavabus_subscriber_lag_events", &[("outlet", outlet)]);
    let behind = until(&publisher, "a lag", |told| {
        told.value("lavabus_public_stream_lag_events", &[]) == 0.0
    })
    .await;
    for outlet in ["zeromq", "websocket", "sse"] {
        let lag = lag(&behind, outlet);
        assert!(lag > 0.0 && lag < all as f64, "{outlet}: {lag}");
        assert!(behind.value("lavabus_events_delivered_total", &[("outlet", outlet)]) < 2.0 * all as f64);
    }
    assert_eq!(lag(&behind, "public"), 0.0);

    let reading = tokio::task::spawn_blocking(move || {
        let numbered = std::iter::from_fn(|| Some(numbered.next())).filter(|message| !message.is_control());
        let numbered: Vec<Message> = numbered.take(all).map(Message::without_position).collect();
        (plain.take(all), numbered, plain)
    });
    assert_eq!(socket.take(all).await, sent);
    assert_eq!(stream.take(all).await.last().unwrap().uuid(), sent[all - 1].uuid());
    let (plain, numbered, _sub) = reading.await.unwrap();
    assert!(plain == sent && numbered == sent);
    let told = until(&publisher, "no lag", |told| {
        ["websocket", "sse"].into_iter().all(|outlet| lag(told, outlet) == 0.0)
    })
    .await;
    for (outlet, times) in [("zeromq", 2), ("websocket", 1), ("sse", 1), ("public", 0)] {
        let delivered = told.value("lavabus_events_delivered_total", &[("outlet", outlet)]);
        assert_eq!(delivered, (times * all) as f64, "{outlet}");
    }
}

/// What is posted is counted as what producers push.
#[tokio::test(flavor = "multi_thread")]
async fn posted_events_are_counted_too() {
    let lab = Lab::new().journal().http();
    let tokens = Some(token(&lab, "emit: [event]"));
    let publisher = lab
        .configure(|config| config.authority = AuthorityConfig::Open { tokens })
        .start()
        .await;
    let client = HttpClient::new(publisher.http()).with_token("one");
    let event = |uuid: &str, message: &str| {
        serde_json::json!({"topic": "org.example.lab.event", "uuid": uuid, "datetime": "2026-11-21T05:01:05+00:00",
            "data": {"message": message}})
    };
    let uuid = lab::version_1(jiff::Timestamp::now()).to_string();
    for (posted, status) in [
        (event(&uuid, "one"), 201),
        (event(&uuid, "one"), 201),
        (event(&uuid, "another"), 409),
        (serde_json::json!([event(&uuid, "one"), event(&uuid, "another")]), 409),
        (event("no UUID", "one"), 400),
    ] {
        let answer = client.post("/api/v1/events", &posted).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    let told = scrape(&publisher).await;
    for (name, labels, expected) in [
        ("lavabus_events_published_total", &[][..], 1.0),
        ("lavabus_events_dropped_total", &[("reason", "repeated")], 1.0),
        ("lavabus_events_refused_total", &[("reason", "uuid_conflict")], 2.0),
        ("lavabus_events_refused_total", &[("reason", "bad_uuid")], 1.0),
        ("lavabus_event_latency_seconds_count", &[], 1.0),
    ] {
        assert_eq!(told.value(name, labels), expected, "{name} {labels:?}");
    }
}

/// What a service tells of is counted; who may not see the stages does not learn of the service.
#[tokio::test(flavor = "multi_thread")]
async fn stages_are_counted_by_service_for_those_who_may_see_them() {
    let lab = Lab::new().journal().http();
    let tokens = token(&lab, "emit: []");
    let publisher = lab
        .configure(|config| config.authority = AuthorityConfig::Tokens { tokens })
        .start()
        .await;
    let push = StockPush::connect(publisher.intake());
    for status in ["received", "Success", "received", "error", "half way"] {
        push.send(&stage(
            serde_json::json!({"service": "a \"b\"", "request_id": "r-1", "status": status, "job": 1}),
        ));
    }
    push.send(&Message::test_event(1));
    let counted = |told: &Exposition, service: &str, status: &str| {
        let samples = &told.families["lavabus_stages_total"].samples;
        let found = samples
            .iter()
            .find(|sample| sample.labels["service"] == service && sample.labels["status"] == status);
        found.map_or(0.0, |sample| sample.value)
    };
    let all = |told: &Exposition| {
        let samples = told.families["lavabus_stages_total"].samples.iter();
        samples.map(|sample| sample.value).sum::<f64>() == 5.0
    };
    let anonymous = until(&publisher, "all stages", all).await;
    assert!(!anonymous.text.contains("a \\\"b"), "{}", anonymous.text);
    let reader = HttpClient::new(publisher.http()).with_token("one");
    let reader = Exposition::parse(&reader.get("/metrics").await.body);
    for (told, service) in [(&anonymous, "other"), (&reader, "a \"b\"")] {
        assert_eq!(counted(told, service, "received"), 2.0, "{service}");
        assert_eq!(counted(told, service, "success"), 1.0, "{service}");
        assert_eq!(counted(told, service, "error"), 1.0, "{service}");
        assert_eq!(counted(told, service, "other"), 1.0, "{service}");
    }
    let wrong = HttpClient::new(publisher.http()).with_token("two");
    wrong.get("/metrics").await.problem(401);
    let told = scrape(&publisher).await;
    assert_eq!(told.value("lavabus_authentication_failures_total", &[]), 1.0);
}
