//! A dead peer is gone after the timeout. A slow one is not dead: it stays, and gets every event when it reads on.

#![allow(clippy::unwrap_used)]

mod lab;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use bytes::BytesMut;
use lab::{LONG, Lab, Message, StockPush, StockSub, eventually};
use lavabus_zmtp::{Endpoint, Greeting, HeartbeatConfig, Metadata, SocketType, SubscriptionChange};
use libzmq_peer::{Kind, MonitorEvent, MonitorEventKind, Socket, SocketOption};
use zeromq::{Socket as _, SocketRecv as _};

/// Heartbeats so fast that a test sees many of them.
fn fast() -> HeartbeatConfig {
    HeartbeatConfig {
        interval: Duration::from_millis(200),
        timeout: Duration::from_millis(600),
        ttl: Duration::from_millis(600),
        ..HeartbeatConfig::default()
    }
}

fn lab(heartbeat: HeartbeatConfig) -> Lab {
    Lab::new().configure(|config| config.heartbeat = heartbeat)
}

/// An event of about a kibibyte.
fn large_event(number: u64) -> Message {
    let mut event = Message::test_event(number);
    event.0[4] = serde_json::json!({"number": number, "message": "x".repeat(900)})
        .to_string()
        .into_bytes();
    event
}

fn was_disconnected(monitor: &Receiver<MonitorEvent>) -> bool {
    monitor
        .try_iter()
        .any(|event| event.kind == MonitorEventKind::Disconnected)
}

// A dead peer is one whose machine is gone: its packets stop, and no one says so. It lives in a network of its own, at
// the other end of a wire that can be cut.

/// Names the part that a process has to play.
const PART: &str = "LAVABUS_TEST_PART";
const PUBLISHER: &str = "publisher";
const PEER: &str = "peer";

fn part() -> Option<String> {
    std::env::var(PART).ok()
}

/// This test program again, in a network of its own, with one test.
fn in_a_network_of_its_own(part: &str, test: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .arg("--net")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(PART, part);
    command
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn can_make_networks() -> bool {
    let wire = "ip link add wire0 type veth peer name wire1";
    let tried = Command::new("unshare").args(["--net", "sh", "-c", wire]).output();
    tried.is_ok_and(|output| output.status.success())
}

/// The peer's process, as the publisher's sees it.
struct Peer {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start() -> Peer {
        let mut process = in_a_network_of_its_own(PEER, "peer_at_the_other_end")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (orders, answers) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Peer {
            process,
            orders,
            answers: BufReader::new(answers),
        }
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
    }

    fn says(&mut self, answer: &str) {
        let mut line = String::new();
        while !line.ends_with(answer) {
            line.clear();
            assert!(
                self.answers.read_line(&mut line).unwrap() > 0,
                "the peer never said {answer:?}"
            );
            line.truncate(line.trim_end().len());
        }
    }
}

/// Not a test of its own: what the other process does.
#[test]
fn peer_at_the_other_end() {
    if part().as_deref() != Some(PEER) {
        return;
    }
    let mut orders = std::io::stdin().lines().map(|line| line.unwrap());
    println!("here");
    let publish: Endpoint = orders.next().unwrap().parse().unwrap();
    let intake: Endpoint = orders.next().unwrap().parse().unwrap();
    ip("addr add 10.55.0.2/24 dev wire1");
    ip("link set wire1 up");
    let sub = StockSub::connect(&publish, &["org", "@seq"]);
    assert!(sub.next().is_control());
    let push = StockPush::connect(&intake);
    push.send(&Message::test_event(1));
    while sub.next().is_control() {}
    println!("received");
    assert_eq!(orders.next().unwrap(), "cut");
    ip("link set wire1 down");
    println!("cut");
    // It still has its sockets when the publisher has closed the connections.
    assert_eq!(orders.next(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_peer_is_gone_after_the_timeout() {
    const NAME: &str = "a_dead_peer_is_gone_after_the_timeout";
    if part().is_none() {
        if !can_make_networks() {
            eprintln!("SKIPPED {NAME}: a network of its own needs root, iproute2 and veth");
            return;
        }
        let output = in_a_network_of_its_own(PUBLISHER, NAME).output().unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{}{}",
            said(&output.stdout),
            said(&output.stderr)
        );
        return;
    }
    ip("link set lo up");
    ip("link add wire0 type veth peer name wire1");
    ip("addr add 10.55.0.1/24 dev wire0");
    ip("link set wire0 up");
    let here = || vec!["tcp://10.55.0.1:0".parse().unwrap()];
    let lab = lab(fast()).configure(|config| {
        config.intake = here();
        config.publish = here();
    });
    let publisher = lab.start().await;
    // One that lives sees what becomes of the other.
    let living = StockSub::connect(publisher.publish(), &[""]);
    let mut peer = Peer::start();
    peer.says("here");
    ip(&format!("link set wire1 netns {}", peer.process.id()));
    publisher.subscribers(1).await;
    peer.order(&publisher.publish().to_string());
    peer.order(&publisher.intake().to_string());
    peer.says("received");
    assert_eq!(living.next().number(), 1);
    // Many heartbeats later it is still there.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(publisher.counters().dead_peers.get(), 0);
    peer.order("cut");
    peer.says("cut");
    // Its subscriber and its producer.
    eventually("the dead are gone", || publisher.counters().dead_peers.get() == 2).await;
    assert_eq!(publisher.counters().stalled_peers.get(), 0);
    StockPush::connect(publisher.intake()).send(&Message::test_event(2));
    assert_eq!(living.next().number(), 2);
    assert_eq!(publisher.counters().dead_peers.get(), 2);
    drop(peer.orders);
    assert!(peer.process.wait().unwrap().success());
}

/// A stock SUB that holds little and reads nothing by itself.
fn reads_nothing(endpoint: &Endpoint) -> (StockSub, Receiver<MonitorEvent>) {
    let sub = Socket::new(Kind::Sub).unwrap();
    for (option, value) in [
        (SocketOption::RcvHwm, 10),
        (SocketOption::RcvBuf, 16 * 1024),
        (SocketOption::ReconnectIvl, -1),
    ] {
        sub.set(option, value).unwrap();
    }
    let monitor = sub.monitor().unwrap();
    sub.subscribe(b"").unwrap();
    sub.connect(&endpoint.to_string()).unwrap();
    (sub.into(), monitor)
}

/// Sends the events while a subscriber gets them.
fn pass_on(events: &[Message], push: &StockPush, sub: &StockSub) {
    for events in events.chunks(500) {
        push.send_all(events);
        assert!(sub.take(events.len()) == *events);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_peer_stays_and_gets_every_event_when_it_reads_on() {
    let lab = lab(fast()).journal().configure(|config| config.ring_bytes = 256 * 1024);
    let publisher = lab.start().await;
    let (slow, monitor) = reads_nothing(publisher.publish());
    let fast = StockSub::connect(publisher.publish(), &[""]);
    publisher.subscribers(2).await;
    let push = StockPush::connect(publisher.intake());
    let events: Vec<Message> = (0..12_000).map(large_event).collect();
    pass_on(&events, &push, &fast);
    // Five timeouts with a full window and no answer to any PING.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!was_disconnected(&monitor));
    for event in &events {
        assert_eq!(slow.next(), *event);
    }
    let last = Message::test_event(0);
    push.send(&last);
    assert_eq!(slow.next(), last);
    assert!(!was_disconnected(&monitor));
    let counters = publisher.counters();
    assert_eq!((counters.dead_peers.get(), counters.stalled_peers.get()), (0, 0));
    assert_eq!(counters.skipped.get(), 0);
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_reads_nothing_for_the_stalled_timeout_is_closed() {
    let heartbeat = HeartbeatConfig {
        stalled_timeout: Duration::from_secs(1),
        ..fast()
    };
    let publisher = lab(heartbeat).journal().start().await;
    let (slow, monitor) = reads_nothing(publisher.publish());
    let fast = StockSub::connect(publisher.publish(), &[""]);
    publisher.subscribers(2).await;
    let push = StockPush::connect(publisher.intake());
    let events: Vec<Message> = (0..12_000).map(large_event).collect();
    pass_on(&events, &push, &fast);
    eventually("the stalled peer is closed", || {
        publisher.counters().stalled_peers.get() == 1
    })
    .await;
    assert_eq!(publisher.counters().dead_peers.get(), 0);
    // What it still has it may read; then it sees the end.
    let mut had = 0;
    while slow.socket().recv_timeout(Duration::from_secs(1)).is_ok() {
        had += 1;
    }
    assert!((1..12_000).contains(&had), "{had}");
    assert!(was_disconnected(&monitor));
    // The other one is untouched.
    let last = Message::test_event(0);
    push.send(&last);
    assert_eq!(fast.next(), last);
    publisher.stop().await;
}

/// A ZMTP 3.0 peer may not know PING, so it never gets one.
#[test]
fn nothing_is_said_to_an_idle_3_0_peer() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let publisher = runtime.block_on(lab(fast()).start());
    let Endpoint::Tcp { port, .. } = publisher.publish() else {
        panic!("tcp")
    };
    let mut peer = TcpStream::connect(("127.0.0.1", *port)).unwrap();
    let mut greeting = Greeting::encode();
    assert_eq!(greeting[11], 1, "the minor version");
    greeting[11] = 0;
    let mut said = BytesMut::from(&greeting[..]);
    lavabus_zmtp::Command::Ready(Metadata::of(SocketType::Sub)).encode(&mut said);
    SubscriptionChange::Subscribe("org".into()).encode_message(&mut said);
    peer.write_all(&said).unwrap();
    let mut hello = [0; 64 + 2];
    peer.read_exact(&mut hello).unwrap();
    peer.read_exact(&mut vec![0; hello[65].into()]).unwrap();
    // Ten heartbeats long.
    peer.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let error = peer.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    let event = Message::test_event(1);
    StockPush::connect(publisher.intake()).send(&event);
    let frames: Vec<&[u8]> = event.0.iter().map(Vec::as_slice).collect();
    let mut expected = BytesMut::new();
    lavabus_zmtp::encode_message(&frames, &mut expected);
    let mut received = vec![0; expected.len()];
    peer.set_read_timeout(Some(LONG)).unwrap();
    peer.read_exact(&mut received).unwrap();
    assert_eq!(received, expected);
    runtime.block_on(publisher.stop());
}

/// SQUAD's client with its own heartbeats, one without, and the `zeromq` crate's, which drops whoever sends it a PING.
#[tokio::test(flavor = "multi_thread")]
async fn idle_peers_stay_for_20_seconds_and_through_traffic() {
    let heartbeat = HeartbeatConfig {
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(3),
        ttl: Duration::from_secs(3),
        ..HeartbeatConfig::default()
    };
    let publisher = lab(heartbeat).journal().start().await;
    let stock = |options: &[(SocketOption, i32)]| {
        let sub = Socket::new(Kind::Sub).unwrap();
        for (option, value) in options {
            sub.set(*option, *value).unwrap();
        }
        let monitor = sub.monitor().unwrap();
        sub.subscribe(b"").unwrap();
        sub.connect(&publisher.publish().to_string()).unwrap();
        (StockSub::from(sub), monitor)
    };
    let squads = [
        (SocketOption::HeartbeatIvl, 1_000),
        (SocketOption::HeartbeatTimeout, 10_000),
    ];
    let with_ttl = [(SocketOption::HeartbeatIvl, 1_000), (SocketOption::HeartbeatTtl, 3_000)];
    let subs = [stock(&squads), stock(&with_ttl), stock(&[])];
    let mut zeromq = zeromq::SubSocket::new();
    zeromq.subscribe("").await.unwrap();
    zeromq.connect(&publisher.publish().to_string()).await.unwrap();
    publisher.subscribers(4).await;
    let push = Socket::new(Kind::Push).unwrap();
    push.set(SocketOption::HeartbeatIvl, 1_000).unwrap();
    let push_monitor = push.monitor().unwrap();
    push.connect(&publisher.intake().to_string()).unwrap();
    eventually("the producer is there", || publisher.counters().producers.get() == 1).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    for number in 0..2_000 {
        let event = Message::test_event(number);
        push.send(&event.0).unwrap();
        for (sub, _) in &subs {
            assert_eq!(sub.next(), event);
        }
        let received = tokio::time::timeout(LONG, zeromq.recv()).await.unwrap().unwrap();
        let frames: Vec<Vec<u8>> = received.into_vec().iter().map(|frame| frame.to_vec()).collect();
        assert_eq!(Message(frames), event);
    }
    for (_, monitor) in &subs {
        assert!(!was_disconnected(monitor));
    }
    assert!(!was_disconnected(&push_monitor));
    // Nobody had to come back.
    assert_eq!(publisher.counters().subscribers.get(), 4);
    assert_eq!(publisher.counters().producers.get(), 1);
    publisher.stop().await;
}
