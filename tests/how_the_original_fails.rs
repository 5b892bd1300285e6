//! How LAVA's own publisher fails, verified on a running one; each is a test of ours, named after the failure.
//!
//! The numbers are the rows of LAVA-CONTRACT §6.

#![allow(clippy::unwrap_used)]

mod lab;

use std::time::Duration;

use lab::{LONG, Lab, Message, RawSub, StockPush, StockSub, WebSocket};
use lava_publisher::{FatalError, Publisher};
use libzmq_peer::SocketOption;
use nix::sys::signal::Signal;

/// A graceful stop takes 1 s at most when nobody is slow; on a busy machine it may take more.
const GRACE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn row_1_an_event_about_an_unknown_object_stops_all_later_events() {
    let publisher = Lab::new().journal().http().start().await;
    let sub = StockSub::connect(publisher.publish(), &[""]);
    let mut web_socket = WebSocket::connect(publisher.http(), &[]).await;
    publisher.subscribers(1).await;
    publisher.websockets(1).await;
    let push = StockPush::connect(publisher.intake());
    let unknown = [
        Message::device("deleted-device", "Running"),
        Message::job(u64::MAX, "Finished", "Incomplete"),
        Message::worker("deleted-worker", "Offline"),
    ];
    for (round, message) in unknown.iter().enumerate() {
        let later = Message::test_event(round as u64);
        push.send_all([message, &later]);
        let expected = [message.clone(), later];
        assert_eq!([sub.next(), sub.next()], expected);
        assert_eq!(web_socket.take(2).await, expected);
    }
    publisher.stop().await;
}

/// Frames that are no event, or one that the original cannot take; each by what is wrong with it.
fn malformed() -> Vec<(&'static str, Message)> {
    let event = || Message::test_event(0).0;
    let with = |frame: usize, bytes: &[u8]| {
        let mut frames = event();
        frames[frame] = bytes.to_vec();
        Message(frames)
    };
    let frames = |count: usize, more: &[u8]| {
        let mut frames = event();
        frames.truncate(count);
        if !more.is_empty() {
            frames.push(more.to_vec());
        }
        Message(frames)
    };
    vec![
        ("one frame", frames(1, b"")),
        ("four frames", frames(4, b"")),
        ("six frames, the last not UTF-8", frames(5, b"\xff\xfe")),
        ("topic not UTF-8", with(0, b"org.example.\xc3\x28")),
        ("user not UTF-8", with(3, b"\xff")),
        ("data not JSON", with(4, b"{'job': 1}")),
        ("data cut short", with(4, b"{\"job\": 1, \"message\":")),
        ("a JSON list", with(4, b"[1, 2]")),
        ("no data", with(4, b"")),
        ("no UUID", with(1, b"not-a-uuid")),
        ("no frame at all but an empty one", Message::new(&[""])),
    ]
}

/// Events that are odd but are events.
fn odd() -> Vec<Message> {
    [
        ("testjob", "{}"),
        (
            "testjob",
            r#"{"job": 123456789012345678901234567890123456789012345678901234567890}"#,
        ),
        ("testjob", r#"{"job": "not a number"}"#),
        ("testjob", r#"{"job": null, "state": 7, "health": []}"#),
        ("device", r#"{"device": {"a": [1, 2, {"b": "c"}]}}"#),
        ("worker", r#"{"hostname": ""}"#),
        ("nonsense", r#"{"a": -0.0e-400, "b": "\u0000"}"#),
    ]
    .into_iter()
    .map(|(kind, data)| {
        let mut message = Message::test_event(0).with_topic(&format!("org.example.lab.{kind}"));
        message.0[4] = data.into();
        message
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_2_one_malformed_message_ends_forwarding_silently() {
    for lab in [Lab::new(), Lab::new().journal()] {
        let publisher = lab.http().start().await;
        let sub = StockSub::connect(publisher.publish(), &[""]);
        let mut web_socket = WebSocket::connect(publisher.http(), &[]).await;
        publisher.subscribers(1).await;
        publisher.websockets(1).await;
        let push = StockPush::connect(publisher.intake());
        let malformed = malformed();
        for (round, (what, message)) in malformed.iter().enumerate() {
            let next = Message::test_event(round as u64);
            push.send_all([message, &next]);
            assert_eq!(sub.next(), next, "after {what}");
            assert_eq!(web_socket.next().await, next, "after {what}");
            assert_eq!(publisher.counters().refused.get(), round as u64 + 1, "{what}");
        }
        for message in odd() {
            push.send(&message);
            assert_eq!(sub.next(), message);
            assert_eq!(web_socket.next().await, message);
        }
        assert!(publisher.health().is_ready());
        assert_eq!(publisher.counters().refused.get(), malformed.len() as u64);
        publisher.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_6_a_second_instance_steals_the_ipc_path_and_neither_delivers() {
    let publisher = Lab::new().journal().publish_at_ipc().start().await;
    let sub = StockSub::connect(publisher.publish(), &[""]);
    publisher.subscribers(1).await;
    let push = StockPush::connect(publisher.intake());

    // In all that it has, in one of its sockets, and in its journal only.
    let same = |config: &mut lava_publisher::Config| {
        config.intake = vec![publisher.intake().clone()];
    };
    let second = Lab::new().configure(same);
    let error = Publisher::bind(second.config().clone()).await.unwrap_err();
    assert!(matches!(error, FatalError::Bind(_)), "{error}");
    let text = error.to_string();
    assert!(
        text.contains(&publisher.intake().to_string()) && text.contains("another instance"),
        "{text}"
    );

    let second = Lab::new().configure(|config| *config = config.clone().with_journal(publisher.database()));
    let error = Publisher::bind(second.config().clone()).await.unwrap_err();
    assert!(matches!(error, FatalError::Open(_)), "{error}");
    let (text, database) = (error.to_string(), publisher.database());
    assert!(text.contains(&database.display().to_string()), "{text}");

    let messages: Vec<_> = (1..=10).map(Message::test_event).collect();
    push.send_all(&messages);
    assert_eq!(sub.take(10), messages);
    // New peers find the first one too.
    let late = StockSub::connect(publisher.publish(), &[""]);
    publisher.subscribers(2).await;
    let last = Message::test_event(11);
    StockPush::connect(publisher.intake()).send(&last);
    assert_eq!([sub.next(), late.next()], [last.clone(), last]);
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_6_the_second_program_says_who_has_it_and_fails() {
    let first = Lab::new().journal().start_process();
    let second = Lab::new().configure(|config| config.intake = vec![first.intake().clone()]);
    let output = second.command().stderr(std::process::Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&first.intake().to_string()) && said.contains("another instance"),
        "{said}"
    );

    let mut sub = RawSub::connect(first.publish(), &["", "@start"]).await;
    assert_eq!(sub.in_force().await, []);
    let message = Message::test_event(1);
    StockPush::connect(first.intake()).send(&message);
    assert_eq!(sub.next().await, message);
    first.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn row_7_a_subscriber_that_reads_slowly_loses_silently() {
    const EVENTS: u64 = 60_000;
    let publisher = Lab::new().journal().start().await;
    // Room for as little as libzmq and the kernel allow.
    let little = [(SocketOption::RcvHwm, 1), (SocketOption::RcvBuf, 4096)];
    let slow = StockSub::connect_with(publisher.publish(), &[""], &little);
    publisher.subscribers(1).await;
    let push = StockPush::connect(publisher.intake());
    let messages: Vec<_> = (1..=EVENTS).map(Message::test_event).collect();
    push.send_all(&messages);
    // Not one is read before all have passed, and the first ones have long left the memory.
    publisher.published(EVENTS).await;
    for message in &messages {
        assert_eq!(slow.next(), *message);
    }
    assert_eq!(publisher.counters().skipped.get(), 0);
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_8_a_restart_loses_what_a_subscriber_misses_meanwhile() {
    let publisher = Lab::new().journal().start().await;
    // It reconnects late, so that it misses something also after the restart.
    let sub = StockSub::connect_with(publisher.publish(), &[""], &[(SocketOption::ReconnectIvl, 500)]);
    publisher.subscribers(1).await;
    let messages: Vec<_> = (1..=100).map(Message::test_event).collect();
    {
        let push = StockPush::connect(publisher.intake());
        push.send_all(&messages[..50]);
        assert_eq!(sub.take(50), messages[..50]);
        publisher.published(50).await;
    }
    // The position is moved along as an acknowledgement; libzmq sends it again with each reconnect.
    sub.subscribe(&format!("@after:{}", messages[9].uuid()));
    sub.subscribe(&format!("@after:{}", messages[49].uuid()));
    sub.unsubscribe(&format!("@after:{}", messages[9].uuid()));

    let publisher = publisher.stop().await.start().await;
    let push = StockPush::connect(publisher.intake());
    push.send_all(&messages[50..75]);
    publisher.published(25).await;
    publisher.subscribers(1).await;
    push.send_all(&messages[75..]);
    assert_eq!(sub.take(50), messages[50..]);

    // Another one asks for all of it again.
    let again = StockSub::connect(publisher.publish(), &["", &format!("@after:{}", messages[0].uuid())]);
    assert_eq!(again.take(99), messages[1..]);
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_11_a_graceful_stop_takes_long_and_loses() {
    for lab in [Lab::new(), Lab::new().journal()] {
        let mut publisher = lab.start_process();
        let mut sub = RawSub::connect(publisher.publish(), &["", "@seq", "@start"]).await;
        sub.next_control().await;
        let messages: Vec<_> = (1..=5_000).map(Message::test_event).collect();
        let push = StockPush::connect(publisher.intake());
        push.send_all(&messages);
        // From here on all that the producer has sent is on its way.
        assert_eq!(sub.next_event().await.without_position(), messages[0]);
        for message in &messages[1..4_000] {
            assert_eq!(sub.next_event().await.without_position(), *message);
        }
        publisher.signal(Signal::SIGTERM);
        // What it took is delivered before the end, and the end is an end.
        let mut received = 4_000;
        while let Some(message) = sub.try_next().await {
            if !message.is_control() {
                assert_eq!(message.without_position(), messages[received]);
                received += 1;
            }
        }
        assert_eq!(publisher.wait(GRACE).code(), Some(0), "{}", publisher.log());
        assert_eq!(received, messages.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_11_a_second_signal_crashes_it() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut publisher = Lab::new().journal().start_process();
        // Somebody who does not read keeps it from ending at once.
        let little = [(SocketOption::RcvHwm, 1), (SocketOption::RcvBuf, 4096)];
        let stalled = StockSub::connect_with(publisher.publish(), &[""], &little);
        let mut sub = RawSub::connect(publisher.publish(), &["", "@start"]).await;
        assert_eq!(sub.in_force().await, []);
        let messages: Vec<_> = (1..=30_000).map(Message::test_event).collect();
        let push = StockPush::connect(publisher.intake());
        push.send_all(&messages);
        assert_eq!(sub.take_events(messages.len()).await, messages);
        publisher.signal(signal);
        publisher.wait_for_log("ending");
        publisher.signal(signal);
        assert_eq!(publisher.wait(LONG).code(), Some(0), "{}", publisher.log());
        assert!(publisher.log().contains("second signal"), "{}", publisher.log());
        assert_eq!(publisher.lab().journal_contents(), messages);
        drop(stalled);
    }
}
