//! `POST /api/v1/events`: answered when it is on the disk, exactly once.
//!
//! `LAVABUS_POSTED=100000 LAVABUS_KILLS=30 cargo test --release --test rest_post`

#![allow(clippy::unwrap_used)]

mod lab;

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lab::{Answer, HttpClient, Lab, Message, RunningPublisher, StockSub, eventually, version_1};
use lavabus_protocol::Cursor;
use lavabus_store::{Reader, StoreError};
use serde_json::{Value, json};

const PATH: &str = "/api/v1/events";

async fn publisher() -> RunningPublisher {
    Lab::new().journal().http().tokens().start().await
}

/// An event with everything that it needs.
fn event(number: u64) -> Value {
    let uuid = version_1(jiff::Timestamp::now()).to_string();
    json!({
        "topic": "org.example.lab.event", "uuid": uuid, "datetime": "2026-11-21T05:01:05+00:00", "username": "ci",
        "data": {"message": format!("step {number}"), "number": number},
    })
}

/// What an answer says of each event: cursor, and whether it was there before.
fn kept(answer: &Answer) -> Vec<(Cursor, bool)> {
    assert_eq!(
        (answer.status, &*answer.content_type),
        (201, "application/json"),
        "{answer:?}"
    );
    let answer = answer.json();
    let events = answer["events"].as_array().unwrap().iter();
    events
        .map(|event| {
            let cursor: Cursor = event["cursor"].as_str().unwrap().parse().unwrap();
            assert_eq!(cursor.uuid.to_string(), event["uuid"].as_str().unwrap());
            (cursor, event["repeated"].as_bool().unwrap())
        })
        .collect()
}

fn number(cursor: &Cursor) -> u64 {
    cursor.position.unwrap().seq
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_filled_in() {
    let publisher = publisher().await;
    let sub = StockSub::connect(publisher.publish(), &[""]);
    publisher.subscribers(1).await;
    let client = publisher.client().with_token("ci-token");
    let data = json!({"message": "hello", "job": 7});
    let answer = client
        .post(PATH, &json!({"topic": "org.example.lab.event", "data": data}))
        .await;
    let [(cursor, false)] = kept(&answer)[..] else {
        panic!("{answer:?}")
    };
    // It is on the disk when the answer comes.
    let row = Reader::open(publisher.database())
        .unwrap()
        .event(number(&cursor))
        .unwrap()
        .unwrap();
    assert_eq!(
        (row.id, &*row.topic, &*row.user),
        (cursor.uuid, "org.example.lab.event", "ci")
    );
    assert_eq!(serde_json::from_str::<Value>(&row.data).unwrap(), data);
    let sent = row.sent.parse::<jiff::Timestamp>().unwrap();
    assert_eq!(sent.as_second() / 100, row.id.time().unwrap().as_second() / 100);
    let published = tokio::task::spawn_blocking(move || sub.next()).await.unwrap();
    assert_eq!(published, Message::from(&row.row()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_again_is_answered_with_the_first_cursors() {
    let publisher = publisher().await;
    let client = publisher.client().with_token("ci-token");
    let events: Vec<Value> = (0..3).map(event).collect();
    let first = kept(&client.post(PATH, &json!(events)).await);
    assert_eq!(
        first.iter().map(|(cursor, _)| number(cursor)).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    assert!(first.iter().all(|(_, repeated)| !repeated));
    // With a new one before, one twice, and alone.
    let mixed = json!([event(3), events[2], events[0], events[0]]);
    let again: Vec<_> = kept(&client.post(PATH, &mixed).await);
    let numbers: Vec<_> = again
        .iter()
        .map(|(cursor, repeated)| (number(cursor), *repeated))
        .collect();
    assert_eq!(numbers, [(4, false), (3, true), (1, true), (1, true)]);
    assert_eq!(kept(&client.post(PATH, &events[1]).await), [(first[1].0, true)]);
    // One that stands twice in a list is one.
    let twice = event(5);
    let answer = kept(&client.post(PATH, &json!([twice, twice])).await);
    assert_eq!(
        answer
            .iter()
            .map(|(cursor, again)| (number(cursor), *again))
            .collect::<Vec<_>>(),
        [(5, false), (5, true)]
    );
    assert_eq!(
        (
            publisher.counters().committed.get(),
            publisher.counters().repeated.get()
        ),
        (5, 5)
    );
    let lab = publisher.stop().await;
    assert_eq!(lab.journal_contents().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_conflict_keeps_the_whole_list_out() {
    let publisher = publisher().await;
    let client = publisher.client().with_token("ci-token");
    let known = event(0);
    kept(&client.post(PATH, &known).await);
    let mut other = known.clone();
    other["username"] = json!("somebody else");
    let detail = client
        .post(PATH, &json!([event(1), other, event(2)]))
        .await
        .problem(409);
    assert!(
        detail.contains("uuid_conflict") && detail.contains("event 1 "),
        "{detail}"
    );
    // Two of one list.
    let mut twin = event(3);
    let pair = [twin.clone(), {
        twin["data"] = json!({});
        twin
    }];
    client.post(PATH, &json!(pair)).await.problem(409);
    assert_eq!(publisher.counters().committed.get(), 1);
    assert_eq!(publisher.stop().await.journal_contents().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may() {
    let publisher = publisher().await;
    let anybody = publisher.client();
    let post = async |token: &str, body: Value| {
        let client = anybody.clone().with_token(token);
        client.post(PATH, &body).await
    };
    let of_kind = |kind: &str| json!({"topic": format!("org.example.lab.{kind}"), "data": {}});
    anybody.post(PATH, &event(0)).await.problem(401);
    post("no-token", event(0)).await.problem(401);
    assert_eq!(publisher.counters().authentication_failures.get(), 1);
    post("reader-token", event(0)).await.problem(403);
    post("ci-token", json!([event(0), of_kind("testjob")]))
        .await
        .problem(403);
    for kind in ["device", "testjob", "worker", "attempt", "power"] {
        post("ci-token", of_kind(kind)).await.problem(403);
        assert_eq!(post("forge-token", of_kind(kind)).await.status, 201, "{kind}");
    }
    let request = anybody.clone().with_token("ci-token").request("POST", PATH);
    let request = request.header("origin", "https://evil.example.org").json(&event(0));
    HttpClient::send(request).await.problem(403);
    assert_eq!(publisher.counters().committed.get(), 5);
    // Where everyone sees all, not everyone sends.
    let publisher = Lab::new().journal().http().start().await;
    publisher.client().post(PATH, &event(0)).await.problem(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_is_refused() {
    let publisher = Lab::new()
        .journal()
        .http()
        .tokens()
        .configure(|config| config.limits.message = 100_000)
        .start()
        .await;
    let client = publisher.client().with_token("ci-token");
    for body in [
        "",
        "{",
        "[]",
        "7",
        "null",
        "[1]",
        r#"{"topic": "a.event"}"#,
        r#"{"topic": "a.event", "data": []}"#,
        r#"{"topic": "a.event", "data": "{}"}"#,
        r#"{"topic": "", "data": {}}"#,
        r#"{"topic": "@seq", "data": {}}"#,
        r#"{"topic": "a.event", "uuid": "x", "data": {}}"#,
        r#"{"topic": 7, "data": {}}"#,
    ] {
        let request = client
            .request("POST", PATH)
            .header("content-type", "application/json")
            .body(body);
        HttpClient::send(request).await.problem(400);
    }
    let not_text = client
        .request("POST", PATH)
        .header("content-type", "application/json")
        .body(&b"\xff{}"[..]);
    HttpClient::send(not_text).await.problem(400);
    let many: Vec<Value> = (0..1001).map(|_| json!({"topic": "a.event", "data": {}})).collect();
    client.post(PATH, &json!(many)).await.problem(400);
    let large = json!({"topic": "a.event", "data": {"message": "x".repeat(200_000)}});
    client.post(PATH, &large).await.problem(400);
    let larger = json!({"topic": "a.event", "data": {"message": "x".repeat(2 << 20)}});
    client.post(PATH, &larger).await.problem(413);
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let request = client.request("POST", PATH).header("content-type", kind).body("{}");
        HttpClient::send(request).await.problem(415);
    }
    HttpClient::send(client.request("POST", PATH)).await.problem(415);
    client.post("/api/v1/events?x=1", &event(0)).await.problem(400);
    // One that is bad keeps the others out.
    client
        .post(PATH, &json!([event(0), {"topic": "", "data": {}}]))
        .await
        .problem(400);
    assert_eq!(publisher.stop().await.journal_contents(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_it_is_published() {
    let publisher = Lab::new().http().tokens().start().await;
    let client = publisher.client().with_token("ci-token");
    let mut stream = client.stream("/api/v1/stream", None).await;
    let answer = client.post(PATH, &json!([event(0), event(1)])).await;
    assert_eq!(answer.status, 202);
    for kept in answer.json()["events"].as_array().unwrap() {
        assert_eq!(stream.next().await.unwrap().id.as_deref(), kept["cursor"].as_str());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_disk_acknowledges_nothing() {
    let broken = Arc::new(AtomicBool::new(false));
    let seen = broken.clone();
    let before_commit = Arc::new(move || match seen.load(Ordering::SeqCst) {
        true => Err(StoreError::DiskFull),
        false => Ok(()),
    });
    let configure = |config: &mut lava_publisher::Config| {
        config.journal.as_mut().unwrap().options.before_commit = Some(before_commit);
    };
    let publisher = Lab::new().journal().http().tokens().configure(configure).start().await;
    let client = publisher.client().with_token("ci-token");
    let events: Vec<Value> = (0..3).map(event).collect();
    kept(&client.post(PATH, &events[0]).await);
    broken.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        client.post(PATH, &json!(events)).await.problem(503);
    }
    assert_eq!(publisher.counters().published.get(), 1);
    broken.store(false, Ordering::SeqCst);
    // The same again, as the answer says.
    let deadline = Instant::now() + lab::LONG;
    let answer = loop {
        let answer = client.post(PATH, &json!(events)).await;
        if answer.status != 503 {
            break answer;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
    };
    let numbers: Vec<_> = kept(&answer)
        .iter()
        .map(|(cursor, again)| (number(cursor), *again))
        .collect();
    assert_eq!(numbers, [(1, true), (2, false), (3, false)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_at_the_end_is_answered_or_not_taken() {
    let publisher = publisher().await;
    let client = publisher.client().with_token("ci-token");
    let begun = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (client, begun) = (client.clone(), begun.clone());
            tokio::spawn(async move {
                let mut answered = Vec::new();
                loop {
                    let event = event(0);
                    let request = client.request("POST", PATH).json(&event);
                    begun.fetch_add(1, Ordering::SeqCst);
                    match HttpClient::try_send(request).await {
                        Ok(answer) if answer.status == 201 => answered.extend(kept(&answer)),
                        Ok(answer) => {
                            answer.problem(503);
                            return answered;
                        }
                        Err(_) => return answered,
                    }
                }
            })
        })
        .collect();
    eventually("some are under way", || begun.load(Ordering::SeqCst) > 40).await;
    let journal = publisher.stop().await.journal_contents();
    for client in clients {
        for (cursor, _) in client.await.unwrap() {
            assert_eq!(journal[number(&cursor) as usize - 1].uuid(), cursor.uuid.to_string());
        }
    }
}

fn variable<T: FromStr>(name: &str, default: T) -> T {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Hands in so many events and repeats what is not answered. The cursors of the answers.
async fn hand_in(client: HttpClient, first: u64, count: u64, done: Arc<AtomicU64>) -> Vec<(Cursor, u64)> {
    let mut cursors = Vec::new();
    let mut next = first;
    while next < first + count {
        let size = 1 + u64::from(version_1(jiff::Timestamp::now()).0[9]) % 60;
        let numbers: Vec<u64> = (next..(next + size).min(first + count)).collect();
        let body: Vec<Value> = numbers.iter().map(|number| event(*number)).collect();
        let deadline = Instant::now() + lab::LONG;
        let answer = loop {
            assert!(Instant::now() < deadline, "nobody answers");
            match HttpClient::try_send(client.request("POST", PATH).json(&body)).await {
                Ok(answer) if answer.status != 503 => break answer,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        next += numbers.len() as u64;
        done.fetch_add(numbers.len() as u64, Ordering::SeqCst);
        cursors.extend(kept(&answer).into_iter().map(|(cursor, _)| cursor).zip(numbers));
    }
    cursors
}

/// 8 clients, a publisher that is killed, and clients that repeat what was not answered: each event exactly once, under
/// the cursor that was answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_event_is_kept_once_through_kills() {
    const CLIENTS: u64 = 8;
    let posted: u64 = variable("LAVABUS_POSTED", 8_000);
    let kills: u64 = variable("LAVABUS_KILLS", 4);
    let each = posted.div_ceil(CLIENTS);
    let lab = Lab::new().journal().http().tokens();
    let tokens = lab.folder().join("tokens.yaml").display().to_string();
    let lab = lab
        .argument("--authority")
        .argument("tokens")
        .argument("--tokens")
        .argument(tokens);
    let mut publisher = lab.start_process();
    let client = HttpClient::new(publisher.http()).with_token("ci-token");
    let done = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(hand_in(client.clone(), number * each, each, done.clone())))
        .collect();
    for kill in 1..=kills {
        let sofar = kill * CLIENTS * each / (kills + 1);
        eventually("some are kept", || done.load(Ordering::SeqCst) >= sofar).await;
        publisher = publisher.kill().start_process();
    }
    let mut cursors = HashMap::new();
    for client in clients {
        cursors.extend(client.await.unwrap());
    }
    let journal = publisher.terminate().journal_contents();
    assert_eq!(
        (cursors.len() as u64, journal.len() as u64),
        (CLIENTS * each, CLIENTS * each)
    );
    for (cursor, event) in &cursors {
        let kept = &journal[number(cursor) as usize - 1];
        assert_eq!((kept.uuid(), kept.number()), (&*cursor.uuid.to_string(), *event));
    }
    println!("{kills} kills: {} events posted, each kept once", journal.len());
}
