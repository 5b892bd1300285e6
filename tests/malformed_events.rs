//! What is no event is refused, counted by reason and kept for the administrator; the stream goes on, on the same
//! connection.

#![allow(clippy::unwrap_used)]

mod lab;

use std::process::Command;

use lab::{Lab, Message, RunningPublisher, StockPush, StockSub, eventually};
use lavabus_protocol::Refusal;
use lavabus_store::{Reader, RejectedMessage};
use libzmq_peer::MonitorEventKind;

/// What is wrong, the reason that is given, and the message.
type Bad = (&'static str, &'static str, Message);

/// A good event with one frame replaced, counted from 1.
fn with(frame: usize, bytes: impl AsRef<[u8]>) -> Message {
    let mut message = Message::test_event(0);
    message.0[frame - 1] = bytes.as_ref().to_vec();
    message
}

fn frames(count: usize) -> Message {
    let mut message = Message::test_event(0);
    message.0.resize(count, b"more".to_vec());
    message
}

fn bad_messages() -> Vec<Bad> {
    let upper_case = Message::test_event(0).uuid().to_uppercase();
    let mut short = Message::test_event(0).uuid().to_owned();
    short.pop();
    vec![
        ("one frame", "frame_count", frames(1)),
        ("four frames", "frame_count", frames(4)),
        ("six frames", "frame_count", frames(6)),
        ("sixty-four frames", "frame_count", frames(64)),
        ("frames over the limit", "oversize", frames(65)),
        ("an empty frame", "frame_count", Message::new(&[""])),
        ("the topic is not text", "not_utf8", with(1, b"org.\xff\xfe")),
        ("the uuid is not text", "not_utf8", with(2, b"\xc0\x80")),
        ("the time is not text", "not_utf8", with(3, b"\xed\xa0\x80")),
        ("the user is not text", "not_utf8", with(4, b"\xff")),
        ("the data are not text", "not_utf8", with(5, b"{\"message\": \"\xe9\"}")),
        ("a sixth frame that is not text", "frame_count", {
            let mut message = Message::test_event(0);
            message.0.push(b"\xff\xff".to_vec());
            message
        }),
        ("an empty topic", "empty_topic", with(1, "")),
        ("a topic that begins with @", "reserved_topic", with(1, "@seq")),
        (
            "a topic that is an option",
            "reserved_topic",
            with(1, "@snapshot:worker/w"),
        ),
        ("a long topic", "long_topic", with(1, "x".repeat(1025))),
        ("an upper-case uuid", "bad_uuid", with(2, upper_case)),
        ("a short uuid", "bad_uuid", with(2, short)),
        ("an empty uuid", "bad_uuid", with(2, "")),
        ("data that are not JSON", "not_json", with(5, "job 1995 is done")),
        ("empty data", "not_json", with(5, "")),
        ("data that end too early", "not_json", with(5, "{\"job\": 1")),
        ("a JSON list", "not_an_object", with(5, "[{\"job\": 1}]")),
        ("a JSON number", "not_an_object", with(5, "1995")),
        (
            "two mebibytes",
            "oversize",
            with(5, format!("{{\"message\": \"{}\"}}", "x".repeat(2 << 20))),
        ),
    ]
}

/// Sends each bad message between two good events; all the good ones come out, and nothing else.
async fn the_stream_goes_on(publisher: &RunningPublisher, bad: &[Bad]) -> StockPush {
    let sub = StockSub::connect(publisher.publish(), &["", "@x"]);
    publisher.subscribers(1).await;
    let push = StockPush::connect(publisher.intake());
    let good: Vec<Message> = (0..=bad.len() as u64).map(Message::test_event).collect();
    push.send(&good[0]);
    for ((_, _, bad), good) in bad.iter().zip(&good[1..]) {
        push.send(bad);
        push.send(good);
    }
    for good in &good {
        assert_eq!(sub.next(), *good);
    }
    push
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_refused_counted_and_kept_and_the_stream_goes_on() {
    let publisher = Lab::new().journal().start().await;
    let mut bad = bad_messages();
    let known = Message::test_event(1);
    let mut conflict = known.clone();
    conflict.0[4] = b"{\"message\": \"other content\"}".to_vec();
    let push = StockPush::connect(publisher.intake());
    push.send(&known);
    publisher.published(1).await;
    bad.push(("the same uuid with other content", "uuid_conflict", conflict));

    the_stream_goes_on(&publisher, &bad).await;
    assert_eq!(publisher.counters().refused.get(), bad.len() as u64);
    assert_eq!(publisher.counters().malformed_peers.get(), 0);

    let kept = || -> Vec<RejectedMessage> {
        let reader = Reader::open(publisher.database()).unwrap();
        let mut kept = reader.rejected(1000).unwrap();
        kept.sort_by_key(|rejected| rejected.number);
        kept
    };
    eventually("refused messages in the database", || kept().len() == bad.len()).await;
    let mut kept = kept();
    for (what, reason, message) in &bad {
        assert!(Refusal::REASONS.contains(reason));
        let begins_so = |kept: &[u8]| message.0[0].starts_with(kept);
        let found = kept
            .iter()
            .position(|kept| kept.reason == *reason && begins_so(&kept.frames[0]))
            .unwrap_or_else(|| panic!("{what} is not kept as {reason}"));
        let kept = kept.remove(found);
        let bytes: usize = message.0.iter().map(Vec::len).sum();
        assert!(kept.size >= bytes as u64, "{what}: {}", kept.size);
        if bytes < 2048 {
            assert_eq!(kept.frames, message.0, "{what}");
        } else {
            assert!(kept.frames.iter().map(Vec::len).sum::<usize>() <= 4096, "{what}");
        }
    }
    is_listed(&publisher, &bad);
    assert_eq!(publisher.counters().committed.get(), bad.len() as u64 + 2);
    let lab = publisher.stop().await;
    assert_eq!(lab.journal_contents().len(), bad.len() + 2);
}

/// `lavabus rejected` tells all of them, the newest first.
fn is_listed(publisher: &RunningPublisher, bad: &[Bad]) {
    let output = Command::new(env!("CARGO_BIN_EXE_lavabus"))
        .args(["-o", "json", "rejected", "--limit", "1000", "--db"])
        .arg(publisher.database())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let mut listed: Vec<String> = lines
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["reason"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let mut expected: Vec<&str> = bad.iter().map(|(_, reason, _)| *reason).collect();
    listed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(listed, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_the_stream_goes_on_as_well() {
    let publisher = Lab::new().start().await;
    let bad = bad_messages();
    the_stream_goes_on(&publisher, &bad).await;
    assert_eq!(publisher.counters().refused.get(), bad.len() as u64);
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_producer_stays_connected() {
    let publisher = Lab::new().journal().start().await;
    let push = libzmq_peer::Socket::new(libzmq_peer::Kind::Push).unwrap();
    let monitor = push.monitor().unwrap();
    push.connect(&publisher.intake().to_string()).unwrap();
    let bad = bad_messages();
    for (_, _, message) in &bad {
        push.send(&message.0).unwrap();
    }
    push.send(&Message::test_event(1).0).unwrap();
    publisher.published(1).await;
    assert_eq!(publisher.counters().refused.get(), bad.len() as u64);
    let events: Vec<_> = monitor.try_iter().map(|event| event.kind).collect();
    assert!(events.contains(&MonitorEventKind::HandshakeSucceeded), "{events:?}");
    assert!(!events.contains(&MonitorEventKind::Disconnected), "{events:?}");
    assert_eq!(publisher.counters().producers.get(), 1);
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_event_again_is_dropped_and_counted() {
    let publisher = Lab::new().journal().start().await;
    let sub = StockSub::connect(publisher.publish(), &[""]);
    publisher.subscribers(1).await;
    let (first, second) = (Message::test_event(1), Message::test_event(2));
    let push = StockPush::connect(publisher.intake());
    for message in [&first, &first, &second, &first, &second] {
        push.send(message);
    }
    let last = Message::test_event(3);
    push.send(&last);
    assert_eq!(sub.until(&last), [first.clone(), second.clone()]);
    assert_eq!(publisher.counters().repeated.get(), 3);
    assert_eq!(publisher.counters().refused.get(), 0);
    // Also after it was long committed, from another producer, and after a restart.
    StockPush::connect(publisher.intake()).send(&second);
    eventually("a repeat is counted", || publisher.counters().repeated.get() == 4).await;
    let publisher = publisher.stop().await.start().await;
    let push = StockPush::connect(publisher.intake());
    push.send(&first);
    let mut other = second.clone();
    other.0[3] = b"mallory".to_vec();
    push.send(&other);
    eventually("a repeat is counted", || publisher.counters().repeated.get() == 1).await;
    eventually("a conflict is counted", || publisher.counters().refused.get() == 1).await;
    let lab = publisher.stop().await;
    assert_eq!(lab.journal_contents(), [first, second, last]);
    assert_eq!(
        Reader::open(lab.database()).unwrap().rejected(10).unwrap()[0].reason,
        "uuid_conflict"
    );
}
