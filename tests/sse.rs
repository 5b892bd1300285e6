//! `GET /api/v1/stream`: the news as server-sent events.

#![allow(clippy::unwrap_used)]

mod lab;

use std::time::Duration;

use lab::{HttpClient, Lab, Message, SseEvent, StockPush, StockSub, captured, eventually};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

fn uuids(events: &[SseEvent]) -> Vec<&str> {
    events.iter().map(SseEvent::uuid).collect()
}

fn sent_uuids(events: &[Message]) -> Vec<&str> {
    events.iter().map(Message::uuid).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_captured_event_comes_with_its_cursor() {
    let publisher = Lab::new().journal().http().start().await;
    let mut stream = publisher.client().stream("/api/v1/stream", None).await;
    let sent = captured();
    StockPush::connect(publisher.intake()).send_all(&sent);
    let events = stream.take(sent.len()).await;
    assert_eq!(uuids(&events), sent_uuids(&sent));
    for (event, sent) in events.iter().zip(&sent) {
        assert_eq!(event.id.as_deref(), event.data["cursor"].as_str());
        assert!(event.id.as_ref().unwrap().ends_with(sent.uuid()));
        assert!(sent.topic().ends_with(&format!(".{}", event.event)));
        assert_eq!(
            event.data["data"],
            serde_json::from_str::<serde_json::Value>(sent.text(4)).unwrap()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_too() {
    let publisher = Lab::new().http().start().await;
    let mut stream = publisher.client().stream("/api/v1/stream", None).await;
    let sent: Vec<Message> = (0..5_000).map(Message::test_event).collect();
    StockPush::connect(publisher.intake()).send_all(&sent);
    assert_eq!(uuids(&stream.take(sent.len()).await), sent_uuids(&sent));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_filter_wants() {
    let publisher = Lab::new().journal().http().start().await;
    let client = publisher.client();
    let mut devices = client.stream("/api/v1/stream?kind=device", None).await;
    let sent = captured();
    StockPush::connect(publisher.intake()).send_all(&sent);
    let wanted: Vec<Message> = sent
        .iter()
        .filter(|event| event.topic().ends_with(".device"))
        .cloned()
        .collect();
    assert_eq!(uuids(&devices.take(wanted.len()).await), sent_uuids(&wanted));
    // And the same out of the journal.
    let mut again = client
        .stream(&format!("/api/v1/stream?kind=device&after={}", sent[0].uuid()), None)
        .await;
    let wanted: Vec<Message> = wanted.into_iter().filter(|event| *event != sent[0]).collect();
    assert_eq!(uuids(&again.take(wanted.len()).await), sent_uuids(&wanted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_where_it_ended() {
    // So small that most of it must come from the journal.
    let publisher = Lab::new()
        .journal()
        .http()
        .configure(|config| config.ring_bytes = 100_000)
        .start()
        .await;
    let client = publisher.client();
    let push = StockPush::connect(publisher.intake());
    let sent: Vec<Message> = (0..20_000).map(Message::test_event).collect();
    push.send_all(&sent[..10_000]);
    publisher.published(10_000).await;
    let path = format!("/api/v1/stream?after={}", sent[0].uuid());
    let mut stream = client.stream(&path, None).await;
    let mut events = stream.take(3_000).await;
    drop(stream);
    // A browser asks at the same address again, and tells where it is.
    let mut stream = client.stream(&path, events.last().unwrap().id.as_deref()).await;
    push.send_all(&sent[10_000..]);
    events.extend(stream.take(sent.len() - 1 - events.len()).await);
    assert_eq!(uuids(&events), sent_uuids(&sent[1..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_said() {
    let publisher = Lab::new().journal().http().start().await;
    let client = publisher.client();
    let push = StockPush::connect(publisher.intake());
    let sent: Vec<Message> = (0..3).map(Message::test_event).collect();
    push.send_all(&sent);
    publisher.published(3).await;
    let path = "/api/v1/stream?after=8e503fbe-e568-41f1-8b37-02fc00000001";
    let mut stream = client.stream(path, None).await;
    let gap = stream.next().await.unwrap();
    assert_eq!((&*gap.event, &gap.id), ("gap", &None));
    assert_eq!(
        gap.data,
        serde_json::json!({"from": null, "to": null, "reason": "unknown_cursor"})
    );
    assert_eq!(uuids(&stream.take(3).await), sent_uuids(&sent));
    client.get("/api/v1/stream?after=x").await.problem(400);
    client.get("/api/v1/stream?limit=1").await.problem(400);
    let request = client.request("GET", "/api/v1/stream").header("last-event-id", "x");
    HttpClient::send(request).await.problem(400);
    let request = client
        .request("GET", "/api/v1/stream")
        .header("origin", "https://evil.example.org");
    HttpClient::send(request).await.problem(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_recorded_is_said_at_its_place() {
    let lab = Lab::new().journal().http();
    let sent: Vec<Message> = (0..10).map(Message::test_event).collect();
    lab.with_a_gap(&sent, 6);
    let publisher = lab.start().await;
    let path = format!("/api/v1/stream?after={}", sent[0].uuid());
    let mut stream = publisher.client().stream(&path, None).await;
    assert_eq!(uuids(&stream.take(5).await), sent_uuids(&sent[1..6]));
    let gap = stream.next().await.unwrap();
    assert_eq!((&*gap.event, &gap.data["reason"]), ("gap", &"not_recorded".into()));
    assert_eq!(uuids(&stream.take(4).await), sent_uuids(&sent[6..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_is_told_how_far_the_stream_is() {
    // The ring is so small that the past comes from the journal, or else is not small at all.
    for (has_journal, ring_bytes) in [(true, 100_000), (true, 4 << 20), (false, 4 << 20)] {
        let lab = Lab::new().http().configure(|config| config.ring_bytes = ring_bytes);
        let lab = if has_journal { lab.journal() } else { lab };
        let publisher = lab.start().await;
        let client = publisher.client();
        let push = StockPush::connect(publisher.intake());
        let sent: Vec<Message> = (0..2_000).map(Message::test_event).collect();
        push.send_all(&sent);
        publisher.published(2_000).await;
        // Nothing of it is wanted but the last.
        let last = "/api/v1/stream?heads=true&message=step%201999";
        let head = |event: &SseEvent| {
            assert_eq!((&*event.event, &event.id), ("head", &None));
            ["head", "position"].map(|name| event.data[name].as_str().unwrap().to_owned())
        };
        let mut stream = client.stream(last, None).await;
        let [newest, position] = head(&stream.next().await.unwrap());
        assert_eq!(newest, position);
        assert!(newest.ends_with("/2000"), "{newest}");
        assert_eq!(head(&stream.next().await.unwrap()), [&*newest, &*newest]);
        let more = Message::test_event(5);
        push.send(&more);
        loop {
            let [newest, position] = head(&stream.next().await.unwrap());
            if position.ends_with("/2001") {
                break assert_eq!(newest, position);
            }
        }
        // A number is a place, also where there is no journal.
        let (epoch, _) = newest.split_once('/').unwrap();
        let after = format!("{last}&after={epoch}/1000/00000000-0000-0000-0000-000000000000");
        let mut stream = client.stream(&after, None).await;
        assert_eq!(head(&stream.next().await.unwrap())[1], format!("{epoch}/1000"));
        let mut is_found = false;
        loop {
            let next = stream.next().await.unwrap();
            if next.event == "event" {
                assert_eq!(next.uuid(), sent[1999].uuid());
                is_found = true;
            } else if head(&next)[1] == format!("{epoch}/2001") {
                break;
            }
        }
        assert!(is_found, "it comes before it is said that all has come");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_larger_than_a_chunk_comes_whole() {
    let publisher = Lab::new().journal().http().start().await;
    let mut stream = publisher.client().stream("/api/v1/stream", None).await;
    let data = serde_json::json!({"message": "ä".repeat(300_000)});
    let sent = Message::sent_at(jiff::Timestamp::now(), "event", &data);
    StockPush::connect(publisher.intake()).send(&sent);
    assert_eq!(stream.next().await.unwrap().data["data"], data);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_delays_nobody_and_is_closed() {
    let publisher = Lab::new()
        .journal()
        .http()
        .configure(|config| config.heartbeat.stalled_timeout = Duration::from_secs(5))
        .start()
        .await;
    let mut lazy = TcpStream::connect(publisher.http()).await.unwrap();
    let request = format!("GET /api/v1/stream HTTP/1.1\r\nHost: {}\r\n\r\n", publisher.http());
    lazy.write_all(request.as_bytes()).await.unwrap();
    eventually("a stream", || publisher.counters().event_streams.get() == 1).await;
    let mut stream = publisher.client().stream("/api/v1/stream", None).await;
    let sub = StockSub::connect(publisher.publish(), &[""]);
    publisher.subscribers(1).await;
    let sent: Vec<Message> = (0..60_000).map(Message::test_event).collect();
    StockPush::connect(publisher.intake()).send_all(&sent);
    let others = tokio::task::spawn_blocking(move || sub.take(60_000));
    assert_eq!(uuids(&stream.take(sent.len()).await), sent_uuids(&sent));
    assert_eq!(others.await.unwrap(), sent);
    eventually("it is closed", || publisher.counters().stalled_peers.get() == 1).await;
    // The socket too.
    let mut rest = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut lazy, &mut rest);
    let _ = tokio::time::timeout(lab::LONG, read).await.expect("an end");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_before_the_end_still_comes() {
    let publisher = Lab::new().journal().http().start().await;
    let mut stream = publisher.client().stream("/api/v1/stream", None).await;
    let sent: Vec<Message> = (0..3_000).map(Message::test_event).collect();
    StockPush::connect(publisher.intake()).send_all(&sent);
    publisher.published(3_000).await;
    let reading = tokio::spawn(async move {
        let mut events = Vec::new();
        while let Some(event) = stream.next().await {
            events.push(event);
        }
        events
    });
    publisher.stop().await;
    assert_eq!(uuids(&reading.await.unwrap()), sent_uuids(&sent));
}

/// A proxy, and our own client, end a stream that says nothing for a while: one whose filter matches nothing says
/// something also while there are events all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_something_where_all_events_are_for_others() {
    let publisher = Lab::new()
        .http()
        .configure(|config| config.http.keep_alive = Duration::from_millis(200))
        .start()
        .await;
    let mut stream = TcpStream::connect(publisher.http()).await.unwrap();
    let request = format!(
        "GET /api/v1/stream?kind=worker HTTP/1.1\r\nHost: {}\r\n\r\n",
        publisher.http()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let push = StockPush::connect(publisher.intake());
    let mut text = Vec::new();
    let comments = async {
        // One is there at once.
        while String::from_utf8_lossy(&text).matches(":\n\n").count() < 4 {
            tokio::select! {
                read = tokio::io::AsyncReadExt::read_buf(&mut stream, &mut text) => assert_ne!(read.unwrap(), 0),
                () = tokio::time::sleep(Duration::from_millis(20)) => push.send(&Message::test_event(1)),
            }
        }
    };
    tokio::time::timeout(lab::LONG, comments).await.expect("comments");
}
