//! Stock sockets of libzmq and of the `zeromq` crate on both sides of the publisher, over each transport.

#![allow(clippy::unwrap_used)]

mod lab;

use lab::{LONG, Lab, Message, RunningPublisher, StockPush, StockSub, eventually};
use libzmq_peer::{Kind, Socket, SocketOption};
use zeromq::{Socket as _, SocketRecv as _, SocketSend as _};

/// The most that a message's frames may have together, in bytes.
const LARGEST_MESSAGE: usize = 1 << 20;

/// A SUB of the `zeromq` crate.
struct CrateSub(zeromq::SubSocket);

impl CrateSub {
    async fn connect(publisher: &RunningPublisher, subscriptions: &[&str]) -> CrateSub {
        let mut sub = zeromq::SubSocket::new();
        for subscription in subscriptions {
            sub.subscribe(subscription).await.unwrap();
        }
        sub.connect(&publisher.publish().to_string()).await.unwrap();
        CrateSub(sub)
    }

    async fn next(&mut self) -> Message {
        let message = tokio::time::timeout(LONG, self.0.recv())
            .await
            .expect("a message in time")
            .unwrap();
        Message(message.into_vec().iter().map(|frame| frame.to_vec()).collect())
    }

    /// Receives all the time.
    fn in_background(mut self) -> tokio::sync::mpsc::Receiver<Message> {
        let (sender, receiver) = tokio::sync::mpsc::channel(100);
        tokio::spawn(async move { while sender.send(self.next().await).await.is_ok() {} });
        receiver
    }
}

/// A PUSH of the `zeromq` crate.
struct CratePush(zeromq::PushSocket);

impl CratePush {
    async fn connect(publisher: &RunningPublisher) -> CratePush {
        let mut push = zeromq::PushSocket::new();
        push.connect(&publisher.intake().to_string()).await.unwrap();
        CratePush(push)
    }

    async fn send(&mut self, message: &Message) {
        let frames: Vec<bytes::Bytes> = message.0.iter().cloned().map(Into::into).collect();
        let message = zeromq::ZmqMessage::try_from(frames).unwrap();
        self.0.send(message).await.unwrap();
    }
}

/// A libzmq SUB that may use IPv6.
fn stock_sub(publisher: &RunningPublisher, subscriptions: &[&str]) -> StockSub {
    StockSub::connect_with(
        publisher.publish(),
        subscriptions,
        &[(SocketOption::Ipv6, 1), (SocketOption::RcvHwm, 0)],
    )
}

fn stock_push(publisher: &RunningPublisher) -> StockPush {
    let push = Socket::new(Kind::Push).unwrap();
    push.set(SocketOption::Ipv6, 1).unwrap();
    push.connect(&publisher.intake().to_string()).unwrap();
    push.into()
}

/// Both endpoints on each transport, each with and without a journal.
fn labs() -> Vec<Lab> {
    let tcp = |host: &str| {
        let endpoint: lavabus_zmtp::Endpoint = format!("tcp://{host}:0").parse().unwrap();
        Lab::new().configure(|config| {
            config.intake = vec![endpoint.clone()];
            config.publish = vec![endpoint];
        })
    };
    let mut labs = vec![tcp("127.0.0.1"), tcp("localhost"), Lab::new().publish_at_ipc()];
    labs.extend([tcp("127.0.0.1").journal(), Lab::new().publish_at_ipc().journal()]);
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        labs.push(tcp("[::1]").journal());
    } else {
        eprintln!("SKIPPED over IPv6: this machine has none");
    }
    labs
}

/// Events whose data have every length where something changes on the way.
fn events_of_every_size() -> Vec<Message> {
    let lengths = [
        2, 8, 127, 128, 254, 255, 256, 257, 8191, 8192, 8193, 65_535, 65_536, 65_537, 262_144,
    ];
    let largest = |message: &Message| LARGEST_MESSAGE - message.0[..4].iter().map(Vec::len).sum::<usize>();
    lengths
        .into_iter()
        .map(Some)
        .chain([None])
        .zip(0..)
        .map(|(length, number)| {
            let mut message = Message::test_event(number);
            let length = length.unwrap_or_else(|| largest(&message));
            message.0[4] = match length {
                2 => b"{}".to_vec(),
                // The frame of `{"m":""}` has 8 bytes.
                _ => format!("{{\"m\":\"{}\"}}", "x".repeat(length - 8)).into_bytes(),
            };
            assert_eq!(message.0[4].len(), length);
            message
        })
        .collect()
}

/// Also for other frames: the shortest that there are.
fn events_with_short_frames() -> Vec<Message> {
    ["x", "", "\u{e9}"]
        .into_iter()
        .map(|text| {
            let mut message = Message::test_event(0);
            message.0[0] = b"o".to_vec();
            message.0[2] = text.into();
            message.0[3] = text.into();
            message.0[4] = b"{}".to_vec();
            message
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_size_over_every_transport() {
    for lab in labs() {
        let publisher = lab.start().await;
        let stock = stock_sub(&publisher, &[""]);
        let mut of_crate = CrateSub::connect(&publisher, &[""]).await;
        publisher.subscribers(2).await;
        let stock_push = stock_push(&publisher);
        let mut crate_push = CratePush::connect(&publisher).await;
        for round in 0..2 {
            // Of each round all are new events.
            let mut events = events_of_every_size();
            events.extend(events_with_short_frames());
            for event in &events {
                match round {
                    0 => stock_push.send(event),
                    _ => crate_push.send(event).await,
                }
                assert!(stock.next() == *event);
                assert!(of_crate.next().await == *event);
            }
        }
        assert_eq!(publisher.counters().refused.get(), 0);
        publisher.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_byte_more_than_a_mebibyte_is_refused() {
    let publisher = Lab::new().start().await;
    let sub = stock_sub(&publisher, &[""]);
    publisher.subscribers(1).await;
    let push = stock_push(&publisher);
    let mut event = events_of_every_size().pop().unwrap();
    event.0[3].push(b'x');
    push.send(&event);
    let next = Message::test_event(1);
    push.send(&next);
    assert_eq!(sub.next(), next);
    assert_eq!(publisher.counters().refused.get(), 1);
    publisher.stop().await;
}

/// Events of two topics in turn, and one of a third that ends them.
async fn topics(publisher: &RunningPublisher, push: &StockPush) -> Vec<Message> {
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.push(Message::device("qemu-01", "Idle"));
        sent.push(Message::worker("worker-01", "Online"));
    }
    sent.push(Message::test_event(0));
    push.send_all(&sent);
    let counters = publisher.counters();
    eventually("all are published", || {
        counters.published.get() == counters.received.get()
    })
    .await;
    sent
}

fn of<'a>(sent: &'a [Message], kinds: &[&str]) -> Vec<&'a Message> {
    sent.iter()
        .filter(|message| kinds.iter().any(|kind| message.topic().ends_with(kind)))
        .collect()
}

const DEVICE: &str = "org.example.lab.device";
const EVENT: &str = "org.example.lab.event";
const WORKER: &str = "org.example.lab.worker";

/// A stock SUB counts equal subscriptions: one that is cancelled once of two is still there.
#[tokio::test(flavor = "multi_thread")]
async fn libzmq_subscribes_twice_and_cancels_once() {
    let publisher = Lab::new().journal().start().await;
    let sub = StockSub::connect(publisher.publish(), &[DEVICE, DEVICE, WORKER, EVENT, "@seq"]);
    assert!(sub.next().is_control());
    let push = StockPush::connect(publisher.intake());
    let receive = |sent: &[Message], kinds: &[&str]| {
        for expected in of(sent, kinds) {
            let received = std::iter::repeat_with(|| sub.next()).find(|message| !message.is_control());
            assert_eq!(received.unwrap().without_position(), *expected);
        }
    };
    receive(&topics(&publisher, &push).await, &["device", "worker", "event"]);
    // What is no longer wanted is filtered by libzmq too, so that it need not be waited for.
    sub.unsubscribe(DEVICE);
    receive(&topics(&publisher, &push).await, &["device", "worker", "event"]);
    sub.unsubscribe(DEVICE);
    receive(&topics(&publisher, &push).await, &["worker", "event"]);
    // Equal ones sent to a connection that lives.
    sub.subscribe(DEVICE);
    sub.subscribe(DEVICE);
    sub.unsubscribe(WORKER);
    sub.subscribe("@snapshot:worker/none");
    while sub.next().topic() != "@snapshot:worker/none" {}
    receive(&topics(&publisher, &push).await, &["device", "event"]);
    publisher.stop().await;
}

/// The `zeromq` crate sends what it is told. A connection's subscriptions are a set, so that one cancel is enough.
#[tokio::test(flavor = "multi_thread")]
async fn the_crate_subscribes_twice_and_cancels_once() {
    let publisher = Lab::new().journal().start().await;
    let mut sub = CrateSub::connect(&publisher, &[DEVICE, WORKER, EVENT, "@seq"]).await;
    assert!(sub.next().await.is_control());
    sub.0.subscribe(DEVICE).await.unwrap();
    sub.0.unsubscribe(DEVICE).await.unwrap();
    sub.0.subscribe("@snapshot:worker/none").await.unwrap();
    while sub.next().await.topic() != "@snapshot:worker/none" {}
    let push = StockPush::connect(publisher.intake());
    let sent = topics(&publisher, &push).await;
    for expected in of(&sent, &["worker", "event"]) {
        let received = loop {
            let message = sub.next().await;
            if !message.is_control() {
                break message.without_position();
            }
        };
        assert_eq!(received, *expected);
    }
    publisher.stop().await;
}

/// Both come back by themselves when the publisher does, with their subscriptions.
#[tokio::test(flavor = "multi_thread")]
async fn subscribers_come_back_after_a_restart() {
    let tcp = "tcp://127.0.0.1:0".parse().unwrap();
    let labs = [
        Lab::new().configure(|config| config.publish = vec![tcp]),
        Lab::new().publish_at_ipc(),
    ];
    for lab in labs {
        let mut publisher = lab.journal().start().await;
        let stock = stock_sub(&publisher, &[EVENT]);
        // It sees the end of a connection only while it receives.
        let mut of_crate = CrateSub::connect(&publisher, &[EVENT]).await.in_background();
        let push = StockPush::connect(publisher.intake());
        for round in 0..3 {
            publisher.subscribers(2).await;
            push.send(&Message::device("qemu-01", "Idle"));
            let event = Message::test_event(round);
            push.send(&event);
            assert_eq!(stock.next(), event);
            assert_eq!(of_crate.recv().await.unwrap(), event);
            publisher = publisher.stop().await.start().await;
        }
        publisher.stop().await;
    }
}

/// The crate's PUSH does not come back, but the next one is taken, and what it sent before the end is not lost.
#[tokio::test(flavor = "multi_thread")]
async fn the_crates_push_before_and_after_a_restart() {
    let publisher = Lab::new().journal().start().await;
    let events: Vec<Message> = (0..100).map(Message::test_event).collect();
    let mut push = CratePush::connect(&publisher).await;
    for event in &events[..50] {
        push.send(event).await;
    }
    let publisher = publisher.stop().await.start().await;
    let mut push = CratePush::connect(&publisher).await;
    for event in &events[50..] {
        push.send(event).await;
    }
    publisher.published(50).await;
    let lab = publisher.stop().await;
    assert_eq!(lab.journal_contents(), events);
}
