//! `/metrics` tells what happened.

#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Exposition, Lab, Message, RunningPublisher, StockPush, StockSub, WebSocket};
use lavabus_protocol::Refusal;

async fn scrape(publisher: &RunningPublisher) -> Exposition {
    Exposition::of(publisher.http()).await
}

/// Asks until it is so.
async fn told(publisher: &RunningPublisher, name: &str, labels: &[(&str, &str)], expected: f64) -> Exposition {
    let asked = async {
        loop {
            let exposition = scrape(publisher).await;
            if exposition.value(name, labels) == expected {
                return exposition;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let told = tokio::time::timeout(lab::LONG, asked).await;
    told.unwrap_or_else(|_| panic!("{name}{labels:?} is not {expected}"))
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

    let told = told(
        &publisher,
        "lavabus_events_delivered_total",
        &[("outlet", "websocket")],
        1002.0,
    )
    .await;
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
    drop(push);
}
