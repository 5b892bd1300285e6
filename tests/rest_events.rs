//! `GET /api/v1/events`: the past by pages, nothing lost and nothing twice.

#![allow(clippy::unwrap_used)]

mod lab;

use std::time::Duration;

use lab::{HttpClient, Lab, Message, RunningPublisher, StockPush, captured, eventually};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn with_events(events: &[Message]) -> RunningPublisher {
    let publisher = Lab::new().journal().http().start().await;
    StockPush::connect(publisher.intake()).send_all(events);
    publisher.published(events.len() as u64).await;
    publisher
}

/// All pages of a question, each with its events.
async fn pages(client: &HttpClient, query: &str) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    let mut after = String::new();
    loop {
        let answer = client.get(&format!("/api/v1/events?{query}{after}")).await;
        assert_eq!(
            (answer.status, &*answer.content_type),
            (200, "application/json"),
            "{answer:?}"
        );
        let answer = answer.json();
        assert_eq!(answer.get("gap"), None, "{answer}");
        pages.push(answer["events"].as_array().unwrap().clone());
        assert!(pages.len() < 1_000, "it never ends");
        match answer["next"].as_str() {
            None => return pages,
            Some(next) => after = format!("&after={next}"),
        }
    }
}

fn uuids<'a>(events: impl IntoIterator<Item = &'a Value>) -> Vec<&'a str> {
    events
        .into_iter()
        .map(|event| event["uuid"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_captured_event_is_there_once() {
    let sent = captured();
    let publisher = with_events(&sent).await;
    let client = publisher.client();
    let expected: Vec<&str> = sent.iter().map(Message::uuid).collect();
    for (limit, count) in [(1, sent.len()), (7, sent.len().div_ceil(7)), (100, 3), (1000, 1)] {
        let pages = pages(&client, &format!("limit={limit}")).await;
        assert_eq!(uuids(pages.iter().flatten()), expected, "limit {limit}");
        assert_eq!(pages.len(), count, "limit {limit}");
    }
    let mut backwards = expected.clone();
    backwards.reverse();
    assert_eq!(
        uuids(pages(&client, "reverse&limit=9").await.iter().flatten()),
        backwards
    );
    // Each comes whole.
    for (event, sent) in pages(&client, "limit=1000").await[0].iter().zip(&sent) {
        let data: Value = serde_json::from_str(sent.text(4)).unwrap();
        let texts = ["topic", "uuid", "datetime", "username"].map(|key| event[key].as_str().unwrap());
        assert_eq!(texts, [0, 1, 2, 3].map(|frame| sent.text(frame)));
        assert_eq!(event["data"], data);
        assert!(event["cursor"].as_str().unwrap().ends_with(sent.uuid()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_are_those_of_the_command_line() {
    let sent = captured();
    let publisher = with_events(&sent).await;
    let client = publisher.client();
    for (query, wanted) in [
        ("kind=testjob", "testjob"),
        ("kind=job", "testjob"),
        ("topic=~%5C.device$", "device"),
        ("not_kind=testjob&not_kind=device&not_kind=event", "worker"),
    ] {
        let expected = sent
            .iter()
            .filter(|event| event.topic().ends_with(&format!(".{wanted}")));
        let expected: Vec<&str> = expected.map(Message::uuid).collect();
        assert!(!expected.is_empty(), "{wanted}");
        let pages = pages(&client, &format!("{query}&limit=5")).await;
        assert_eq!(uuids(pages.iter().flatten()), expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_matches_little_ends_its_page_early() {
    let events: Vec<Message> = (0..25_000).map(Message::test_event).collect();
    let publisher = with_events(&events).await;
    let pages = pages(&publisher.client(), "message=step%2024999").await;
    assert_eq!(uuids(pages.iter().flatten()), [events[24_999].uuid()]);
    assert!(pages.len() > 1 && pages[0].is_empty(), "{}", pages.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_ends_at_a_size_too() {
    let data = serde_json::json!({"message": "x".repeat(200_000)});
    let event = || Message::sent_at(jiff::Timestamp::now(), "event", &data);
    let events: Vec<Message> = (0..20).map(|_| event()).collect();
    let publisher = with_events(&events).await;
    let pages = pages(&publisher.client(), "").await;
    assert_eq!(uuids(pages.iter().flatten()).len(), 20);
    assert_eq!(pages.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_take_its_answer_is_disconnected() {
    let data = serde_json::json!({"message": "x".repeat(900_000)});
    let events: Vec<Message> = (0..40)
        .map(|_| Message::sent_at(jiff::Timestamp::now(), "event", &data))
        .collect();
    let publisher = Lab::new()
        .journal()
        .http()
        .configure(|config| config.heartbeat.stalled_timeout = Duration::from_millis(300))
        .start()
        .await;
    StockPush::connect(publisher.intake()).send_all(&events);
    publisher.published(events.len() as u64).await;
    // More than the kernel takes: answers one behind the other.
    let mut lazy = TcpStream::connect(publisher.http()).await.unwrap();
    let pages = format!("GET /api/v1/events HTTP/1.1\r\nHost: {}\r\n\r\n", publisher.http()).repeat(40);
    lazy.write_all(pages.as_bytes()).await.unwrap();
    eventually("it is closed", || publisher.counters().stalled_peers.get() == 1).await;
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(lab::LONG, lazy.read_to_end(&mut rest))
        .await
        .expect("an end");
    // Who takes it has it.
    assert_eq!(
        publisher.client().get("/api/v1/events?limit=1").await.json()["events"][0]["data"],
        data
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_those_of_receipt() {
    let publisher = with_events(&(0..3).map(Message::test_event).collect::<Vec<_>>()).await;
    let between = jiff::Timestamp::now();
    let later: Vec<Message> = (3..5).map(Message::test_event).collect();
    StockPush::connect(publisher.intake()).send_all(&later);
    publisher.published(5).await;
    let client = publisher.client();
    let count = async |query: String| pages(&client, &query).await.concat().len();
    assert_eq!(count(format!("since={between}")).await, 2);
    assert_eq!(count(format!("until={between}")).await, 3);
    assert_eq!(count(format!("since={between}&until={between}")).await, 0);
    assert_eq!(count("since=2199-01-01T00:00:00Z".to_owned()).await, 0);
    assert_eq!(
        count("until=1999-01-01T00:00:00%2B02:00&reverse=true".to_owned()).await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_not_known_is_said() {
    let publisher = with_events(&(0..3).map(Message::test_event).collect::<Vec<_>>()).await;
    let client = publisher.client();
    let unknown = "8e503fbe-e568-11f1-8b37-02fc00000001";
    let answer = client.get(&format!("/api/v1/events?after={unknown}")).await.json();
    assert_eq!(answer["gap"]["reason"], "unknown_cursor");
    assert_eq!(answer["events"].as_array().unwrap().len(), 3);
    let answer = client.get(&format!("/api/v1/events?reverse&after={unknown}")).await;
    answer.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_recorded_is_said_between_two_pages() {
    let lab = Lab::new().journal().http();
    let sent: Vec<Message> = (0..10).map(Message::test_event).collect();
    lab.with_a_gap(&sent, 6);
    let publisher = lab.start().await;
    let client = publisher.client();
    let before = client.get("/api/v1/events").await.json();
    assert_eq!(
        (before["events"].as_array().unwrap().len(), before.get("gap")),
        (6, None)
    );
    let next = before["next"].as_str().unwrap();
    let behind = client.get(&format!("/api/v1/events?after={next}")).await.json();
    assert_eq!(behind["gap"]["reason"], "not_recorded");
    assert_eq!(
        (behind["events"].as_array().unwrap().len(), &behind["next"]),
        (4, &Value::Null)
    );
    assert_eq!(uuids(pages(&client, "reverse").await.concat().iter()).len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_understood_is_refused() {
    let publisher = with_events(&[]).await;
    let client = publisher.client();
    for query in [
        "limit=0",
        "limit=1001",
        "limit=1&limit=2",
        "kinds=job",
        "after=x",
        "since=yesterday",
        "device=~[",
        "reverse=maybe",
        "%ff=%ff",
    ] {
        client.get(&format!("/api/v1/events?{query}")).await.problem(400);
    }
    let many = "device=~a&".repeat(9);
    client.get(&format!("/api/v1/events?{many}")).await.problem(400);
    client.get("/api/v1/nothing").await.problem(404);
    let wrong = client.request("DELETE", "/api/v1/events");
    HttpClient::send(wrong).await.problem(405);
    let request = client
        .request("GET", "/api/v1/events")
        .header("authorization", "Digest x");
    HttpClient::send(request).await.problem(401);
    assert_eq!(publisher.counters().authentication_failures.get(), 1);
    // And where there is nothing, nothing comes.
    assert_eq!(client.get("/api/v1/events").await.body, r#"{"events":[],"next":null}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_there_is_no_past() {
    let publisher = Lab::new().http().start().await;
    publisher.client().get("/api/v1/events").await.problem(404);
}
