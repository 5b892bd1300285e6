//! How things are and what happened to them, over HTTP: jobs, devices, workers, timelines, what was refused, the status.

#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Lab, Message, RunningPublisher, StockPush, captured};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

async fn publisher() -> RunningPublisher {
    Lab::new().journal().http().tokens().start().await
}

async fn with_events(events: &[Message]) -> RunningPublisher {
    let publisher = publisher().await;
    StockPush::connect(publisher.intake()).send_all(events);
    publisher.published(events.len() as u64).await;
    publisher
}

fn now(kind: &str, data: Value) -> Message {
    Message::sent_at(jiff::Timestamp::now(), kind, &data)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_a_device_and_a_worker() {
    let fault =
        json!({"subject": "device/qemu-01", "message": "no prompt", "details": "password=1234", "origin": "ci"});
    let job = json!({
        "job": 7, "state": "Running", "health": "Unknown", "submitter": "ada", "description": "boot", "priority": 50,
        "device": "qemu-01", "device_type": "qemu", "worker": "worker-01", "health_check": false,
        "submit_time": "2026-11-21T05:01:05.217961+00:00", "sub_id": "6.1",
    });
    let publisher = with_events(&[
        Message::worker("worker-01", "Online"),
        Message::device("qemu-01", "Idle"),
        now("testjob", job),
        now("fault", fault),
        now("fault", json!({"subject": "job/7", "message": "it was the kernel"})),
    ])
    .await;
    let reader = publisher.client().with_token("reader-token");
    let admin = publisher.client().with_token("admin-token");

    let job = reader.get("/api/v1/jobs/7").await;
    assert_eq!((job.status, &*job.content_type), (200, "application/json"));
    let job = job.json();
    for (key, expected) in [
        ("job", json!("7")),
        ("sub_id", json!("6.1")),
        ("state", json!("Running")),
        ("health", json!("Unknown")),
        ("submitter", json!("ada")),
        ("device", json!("qemu-01")),
        ("worker", json!("worker-01")),
        ("submitted", json!("2026-11-21T05:01:05.217961Z")),
        ("finished", json!(false)),
        ("cause", json!("it was the kernel")),
    ] {
        assert_eq!(job[key], expected, "{key}: {job}");
    }
    assert_eq!(job["fault"]["message"], "it was the kernel");
    assert_eq!(reader.get("/api/v1/jobs/6.1").await.json(), job);

    let device = reader.get("/api/v1/devices/qemu-01").await.json();
    for (key, expected) in [
        ("device", "qemu-01"),
        ("state", "Idle"),
        ("health", "Good"),
        ("worker", "worker-01"),
    ] {
        assert_eq!(device[key], expected, "{key}: {device}");
    }
    assert!(device["since"].as_str().unwrap().ends_with('Z'));
    assert_eq!(device["fault"]["message"], "no prompt");
    // The details are for administrators; the event itself goes out whole.
    assert_eq!(device["fault"].get("details"), None);
    let event = &reader.get("/api/v1/events?kind=fault&limit=1").await.json()["events"][0];
    assert_eq!(event["data"]["details"], "password=1234");
    let device = admin.get("/api/v1/devices/qemu-01").await.json();
    assert!(
        device["fault"]["details"].as_str().unwrap().starts_with("password="),
        "{device}"
    );

    let worker = reader.get("/api/v1/workers/worker-01").await.json();
    assert_eq!(
        (&worker["state"], &worker["devices"]),
        (&json!("Online"), &json!(["qemu-01"]))
    );
    assert_eq!(worker["fault"], Value::Null);

    // What does not exist is answered with the same text, whatever it is.
    let texts = ["jobs/8", "jobs/x", "devices/qemu-02", "workers/x%2Fy", "devices/%20"];
    let mut details = std::collections::BTreeSet::new();
    for path in texts {
        details.insert(reader.get(&format!("/api/v1/{path}")).await.problem(404));
    }
    assert_eq!(details.len(), 1, "{details:?}");
    reader.get("/api/v1/devices/%ff").await.problem(400);
    reader.get("/api/v1/jobs/7?x=1").await.problem(400);
    publisher.client().get("/api/v1/jobs/7").await.problem(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_is_over_is_still_the_last() {
    let fault = |cleared: bool| json!({"subject": "device/d", "message": "no link", "cleared": cleared});
    let publisher = with_events(&[Message::device("d", "Idle"), now("fault", fault(false))]).await;
    let client = publisher.client().with_token("reader-token");
    let device = client.get("/api/v1/devices/d").await.json();
    assert_eq!(device["fault"]["cleared"], Value::Null, "{device}");
    StockPush::connect(publisher.intake()).send(&now("fault", fault(true)));
    publisher.published(3).await;
    let device = client.get("/api/v1/devices/d").await.json();
    assert_eq!(device["fault"]["message"], "no link");
    assert!(device["fault"]["cleared"].is_string(), "{device}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_is_the_command_lines() {
    let sent = captured();
    let publisher = with_events(&sent).await;
    let client = publisher.client().with_token("reader-token");
    let data = |event: &Message| serde_json::from_str::<Value>(event.text(4)).unwrap();
    let of_job = sent.iter().find(|event| event.topic().ends_with(".testjob")).unwrap();
    let job = data(of_job)["job"].as_u64().unwrap();
    let mut bodies = std::collections::BTreeSet::new();
    for path in [format!("{job}"), format!("job/{job}"), format!("job%2F{job}")] {
        let timeline = client.get(&format!("/api/v1/timeline/{path}")).await;
        assert_eq!(timeline.status, 200, "{timeline:?}");
        bodies.insert(timeline.body);
    }
    assert_eq!(bodies.len(), 1);
    let timeline: Value = serde_json::from_str(bodies.first().unwrap()).unwrap();
    assert_eq!(timeline["subject"], format!("job/{job}"));
    assert_eq!(timeline["cut"], false);
    let expected = sent.iter().filter(|event| {
        let data = data(event);
        let named = data.get("job").or(data.get("job_id"));
        named.is_some_and(|named| named == job || named.as_str().is_some_and(|url| url.ends_with(&format!("/{job}"))))
    });
    let expected: std::collections::BTreeSet<&str> = expected.map(Message::uuid).collect();
    let found = timeline["events"].as_array().unwrap().iter();
    let found: std::collections::BTreeSet<&str> = found.map(|event| event["uuid"].as_str().unwrap()).collect();
    assert_eq!(found, expected);
    let database = publisher.database().display().to_string();
    let of = format!("job/{job}");
    let said = lab::Cli::new()
        .run(["timeline", &of, "-o", "json", "--db", &database])
        .with(0);
    let mut said: Value = serde_json::from_str(&said.stdout).unwrap();
    said.as_object_mut().unwrap().remove("verdict");
    said["cut"] = json!(false);
    assert_eq!(timeline, said);
    for unknown in ["job/999999", "nothing", "a/b/c"] {
        client.get(&format!("/api/v1/timeline/{unknown}")).await.problem(404);
    }
    client.get("/api/v1/timeline/1?since=x").await.problem(400);
    client.get("/api/v1/timeline/").await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_several_things_needs_its_kind() {
    let publisher = with_events(&[
        Message::job(12, "Running", "Unknown"),
        now(
            "stage",
            json!({"service": "s", "request_id": "12", "status": "received"}),
        ),
    ])
    .await;
    let client = publisher.client().with_token("reader-token");
    let detail = client.get("/api/v1/timeline/12").await.problem(400);
    assert!(detail.contains("job/12 or request/12"), "{detail}");
    let timeline = client.get("/api/v1/timeline/request/12").await.json();
    assert_eq!(timeline["events"].as_array().unwrap().len(), 1);
    // Of what does not end the last day is shown.
    let long_ago = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    client
        .get(&format!("/api/v1/timeline/job/12?since={long_ago}"))
        .await
        .problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_for_administrators() {
    let publisher = publisher().await;
    let push = StockPush::connect(publisher.intake());
    push.send(&Message::new(&["only one"]));
    push.send(&Message::new(&[&b"t"[..], b"\xff", b"", b"", b"{}"]));
    push.send(&Message::test_event(1));
    publisher.published(1).await;
    let admin = publisher.client().with_token("admin-token");
    // They are written within a second.
    let deadline = std::time::Instant::now() + lab::LONG;
    let rejected = loop {
        let rejected = admin.get("/api/v1/rejected").await.json();
        if rejected["rejected"].as_array().unwrap().len() == 2 {
            break rejected;
        }
        assert!(std::time::Instant::now() < deadline, "{rejected}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(rejected["rejected"][0]["reason"], "not_utf8");
    assert_eq!(rejected["rejected"][0]["frames"][1], json!({"hex": "ff"}));
    assert_eq!(rejected["rejected"][1]["frames"], json!([{"text": "only one"}]));
    let one = admin.get("/api/v1/rejected?limit=1").await.json();
    assert_eq!(one["rejected"].as_array().unwrap().len(), 1);
    publisher
        .client()
        .with_token("reader-token")
        .get("/api/v1/rejected")
        .await
        .problem(403);
    publisher.client().get("/api/v1/rejected").await.problem(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_tells_where_the_stream_is() {
    let publisher = with_events(&(0..3).map(Message::test_event).collect::<Vec<_>>()).await;
    let status = publisher
        .client()
        .with_token("reader-token")
        .get("/api/v1/status")
        .await
        .json();
    for (key, expected) in [
        ("head", json!(3)),
        ("oldest", json!(1)),
        ("journal", json!(true)),
        ("ready", json!(true)),
        (
            "retention",
            json!({"max_age_seconds": 30 * 24 * 3600, "max_bytes": 4_u64 << 30}),
        ),
    ] {
        assert_eq!(status[key], expected, "{status}");
    }
    assert_eq!(status["epoch"].as_str().unwrap().len(), 8);
    assert!(status["size"]["used_bytes"].as_u64().unwrap() > 0);
    assert_eq!(status.get("rejected"), None);
    let status = publisher
        .client()
        .with_token("admin-token")
        .get("/api/v1/status")
        .await
        .json();
    assert_eq!(status["rejected"], 0, "{status}");

    let publisher = Lab::new().http().start().await;
    let status = publisher.client().get("/api/v1/status").await.json();
    assert_eq!((&status["head"], &status["journal"]), (&json!(0), &json!(false)));
    publisher.client().get("/api/v1/jobs/1").await.problem(404);
    publisher.client().get("/api/v1/timeline/1").await.problem(404);
}

/// What is made and not taken is memory too: it has the room of the next.
#[tokio::test(flavor = "multi_thread")]
async fn large_timelines_that_nobody_takes_are_few() {
    let data = serde_json::json!({"message": "x".repeat(900_000), "job": 1995});
    let events: Vec<Message> = (0..12)
        .map(|_| Message::sent_at(jiff::Timestamp::now(), "event", &data))
        .collect();
    let publisher = with_events(&events).await;
    let (http, client) = (publisher.http(), publisher.client().with_token("reader-token"));
    let mut lazy = Vec::new();
    let refused = async {
        loop {
            let answer = client.get("/api/v1/timeline/job/1995").await;
            if answer.status != 200 {
                assert!(answer.problem(503).contains("too many timelines"));
                break;
            }
            let mut stream = tokio::net::TcpStream::connect(http).await.unwrap();
            let request = format!(
                "GET /api/v1/timeline/job/1995 HTTP/1.1\r\nHost: {http}\r\nAuthorization: Token reader-token\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            lazy.push(stream);
        }
    };
    tokio::time::timeout(lab::LONG, refused)
        .await
        .expect("an end of the room");
    assert!(lazy.len() >= 7, "{}", lazy.len());
    drop(lazy);
    let again = async { while client.get("/api/v1/timeline/job/1995").await.status != 200 {} };
    tokio::time::timeout(lab::LONG, again).await.expect("room again");
}
