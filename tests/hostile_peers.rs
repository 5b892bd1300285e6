//! Peers that break every rule, on both ports: the publisher never ends, never spins, stays within its memory, and a
//! new subscriber and a new producer are served within a second meanwhile.

#![allow(clippy::unwrap_used)]

mod lab;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command as Program;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use lab::{LONG, Lab, Message, PublisherProcess, StockPush, StockSub};
use lavabus_protocol::{ControlMessage, GapReason};
use lavabus_zmtp::{Command, GREETING_LEN, Greeting, Metadata, SocketType, SubscriptionChange};
use libzmq_peer::{Kind, Socket};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The publisher's resident memory never exceeds this, whatever its peers do. Its ring alone may have 16 MiB.
const MEMORY: u64 = 96 << 20;
/// A newcomer is served within this time.
const SERVED: Duration = Duration::from_secs(1);
/// In a second in which nobody does anything the publisher may take so much of a processor.
const IDLE_CPU: Duration = Duration::from_millis(250);

/// Memory, processor and that second are measured while no other test of this file runs.
static ALONE: Mutex<()> = Mutex::new(());

/// The real program under attack.
struct Attacked {
    publisher: PublisherProcess,
    /// Where hostile producers and hostile subscribers connect.
    ports: [Port; 2],
    served: u64,
    _alone: MutexGuard<'static, ()>,
}

#[derive(Debug, Clone, Copy)]
struct Port {
    address: SocketAddr,
    /// What its peers are.
    peers: SocketType,
}

impl Attacked {
    fn start() -> Attacked {
        Attacked::start_in(Lab::new())
    }

    fn start_in(lab: Lab) -> Attacked {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
        let tcp = "tcp://127.0.0.1:0".parse().unwrap();
        let publisher = lab
            .journal()
            .configure(|config| config.intake.push(tcp))
            .start_process();
        let intake = publisher.wait_for_log(" intake endpoint=tcp://");
        let port = |endpoint: &str, peers| Port {
            address: endpoint.trim().split_once("tcp://").unwrap().1.parse().unwrap(),
            peers,
        };
        let ports = [
            port(&intake, SocketType::Push),
            port(&publisher.publish().to_string(), SocketType::Sub),
        ];
        Attacked {
            publisher,
            ports,
            served: 0,
            _alone: alone,
        }
    }

    fn intake(&self) -> Port {
        self.ports[0]
    }

    fn publish(&self) -> Port {
        self.ports[1]
    }

    /// A stock subscriber that comes now is answered, and then gets what a producer that comes now sends.
    fn serves_newcomers(&mut self) {
        self.served += 1;
        let event = Message::test_event(self.served);
        let connected = Instant::now();
        let sub = StockSub::connect(self.publisher.publish(), &["", "@seq"]);
        let left = || SERVED.saturating_sub(connected.elapsed());
        loop {
            let Ok(frames) = sub.socket().recv_timeout(left()) else {
                panic!("no answer to a new subscriber within {SERVED:?}:\n{}", self.log());
            };
            // Events of others may come first.
            if frames[0] == b"@seq" {
                break;
            }
        }
        let pushed = Instant::now();
        StockPush::connect(self.publisher.intake()).send(&event);
        loop {
            let received = sub.socket().recv_timeout(SERVED.saturating_sub(pushed.elapsed()));
            let message = Message(received.unwrap_or_else(|_| panic!("a new producer is not served:\n{}", self.log())));
            if message.without_position() == event {
                break;
            }
        }
    }

    /// What it says last, should something be wrong.
    fn log(&self) -> String {
        let log = self.publisher.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Runs the attack on each of the ports, again and again, while newcomers come. Each attack succeeds once at least.
    fn under(&mut self, ports: &[Port], attack: impl Fn(Port) + Sync) {
        let (over, done) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            let attackers: Vec<_> = ports
                .iter()
                .map(|port| {
                    scope.spawn(|| {
                        loop {
                            attack(*port);
                            done.fetch_add(1, Ordering::Relaxed);
                            if over.load(Ordering::Relaxed) {
                                break;
                            }
                        }
                    })
                })
                .collect();
            // An attack that fails shall not leave the others running for ever.
            let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for _ in 0..3 {
                    self.serves_newcomers();
                }
            }));
            over.store(true, Ordering::Relaxed);
            for attacker in attackers {
                attacker.join().unwrap();
            }
            if let Err(panic) = served {
                std::panic::resume_unwind(panic);
            }
        });
        assert!(done.load(Ordering::Relaxed) >= ports.len() as u64);
    }

    /// It lives, serves, has not taken too much memory, and does nothing when there is nothing to do.
    fn is_unharmed(&mut self) {
        self.serves_newcomers();
        let before = self.processor_time();
        thread::sleep(Duration::from_secs(1));
        let spent = self.processor_time() - before;
        assert!(spent < IDLE_CPU, "{spent:?} of processor time in a quiet second");
        let peak = self.peak_memory();
        assert!(peak < MEMORY, "{} MiB of memory", peak >> 20);
        eprintln!("peak memory {} MiB, {spent:?} in a quiet second", peak >> 20);
    }

    /// `VmHWM` of proc_pid_status(5), in bytes.
    fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.publisher.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// `utime` and `stime` of proc_pid_stat(5), in ticks of 10 ms.
    fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.publisher.pid())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks = fields
            .split(' ')
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().unwrap());
        Duration::from_millis(10 * ticks.sum::<u64>())
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.publisher.pid()))
            .unwrap()
            .count()
    }
}

impl Port {
    fn connect(self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        stream
    }

    /// Connects and does what a good peer does first.
    fn shake_hands(self) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(&self.hello()).unwrap();
        let mut theirs = [0; GREETING_LEN + 2];
        stream.read_exact(&mut theirs).unwrap();
        let mut ready = vec![0; usize::from(theirs[GREETING_LEN + 1])];
        stream.read_exact(&mut ready).unwrap();
        assert_eq!(&ready[..6], b"\x05READY");
        stream
    }

    /// A good greeting and a good READY.
    fn hello(self) -> BytesMut {
        let mut bytes = BytesMut::from(&Greeting::encode()[..]);
        Command::Ready(Metadata::of(self.peers)).encode(&mut bytes);
        bytes
    }
}

/// The publisher closes the connection, after some bytes perhaps.
fn is_disconnected(stream: &mut TcpStream) {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
                return;
            }
        }
    }
}

/// Sends the same bytes until the publisher has had enough, which it has before `limit` bytes.
fn is_disconnected_while_sending(stream: &mut TcpStream, bytes: &[u8], limit: usize) {
    for _ in 0..limit / bytes.len() {
        if stream.write_all(bytes).is_err() {
            return;
        }
    }
    // The last writes may still be on their way.
    is_disconnected(stream);
}

/// The connection is still there: a PING is answered.
fn is_alive(stream: &mut TcpStream) {
    let context = Bytes::from_static(b"still here?");
    let (mut ping, mut pong) = (BytesMut::new(), BytesMut::new());
    Command::Ping {
        ttl: 0,
        context: context.clone(),
    }
    .encode(&mut ping);
    Command::Pong { context }.encode(&mut pong);
    stream.write_all(&ping).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.ends_with(&pong) {
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "the publisher has closed the connection");
        answer.extend_from_slice(&buffer[..length]);
    }
}

fn subscribe(prefix: impl AsRef<[u8]>, into: &mut BytesMut) {
    SubscriptionChange::Subscribe(Bytes::copy_from_slice(prefix.as_ref())).encode_command(into);
}

/// Bytes without meaning, the same in each run (xorshift64).
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).collect()
}

#[test]
fn random_bytes() {
    let mut attacked = Attacked::start();
    attacked.under(&attacked.ports.clone(), |port| {
        for seed in 0..100 {
            let noise = noise(seed, 16 * 1024);
            let good = port.hello();
            // From the start; after the first ten bytes of a greeting; after the greeting; after the handshake.
            let begin = [0, 10, GREETING_LEN, good.len()][seed as usize % 4];
            let mut stream = port.connect();
            let _ = stream.write_all(&[&good[..begin], &noise].concat());
        }
    });
    attacked.is_unharmed();
}

#[test]
fn half_greetings() {
    let mut attacked = Attacked::start();
    attacked.under(&attacked.ports.clone(), |port| {
        let hello = port.hello();
        // Every second one says no more and stays, the others leave.
        let mut staying = Vec::new();
        for length in 0..hello.len() {
            let mut stream = port.connect();
            let _ = stream.write_all(&hello[..length]);
            if length % 2 == 0 {
                staying.push(stream);
            } else {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        staying.iter_mut().for_each(is_disconnected);
    });
    attacked.is_unharmed();
}

#[test]
fn frames_that_claim_to_be_huge() {
    const LONG_FRAME: u8 = 0x02;
    const LONG_FRAME_AND_MORE: u8 = 0x03;
    const LONG_COMMAND: u8 = 0x06;
    let mut attacked = Attacked::start();
    attacked.under(&attacked.ports.clone(), |port| {
        for claim in [1 << 36, 1 << 40, 1 << 48, 1 << 62, 1 << 63, u64::MAX] {
            for flags in [LONG_FRAME, LONG_FRAME_AND_MORE, LONG_COMMAND] {
                let mut frame = BytesMut::new();
                frame.put_u8(flags);
                frame.put_u64(claim);
                frame.put_slice(b"\x05READY and so on");
                let mut in_place_of_ready = port.connect();
                in_place_of_ready
                    .write_all(&[&Greeting::encode()[..], &frame].concat())
                    .unwrap();
                is_disconnected(&mut in_place_of_ready);
                let mut after_handshake = port.shake_hands();
                after_handshake.write_all(&frame).unwrap();
                is_disconnected(&mut after_handshake);
            }
        }
    });
    attacked.is_unharmed();
}

#[test]
fn messages_without_end() {
    // Frames of these lengths, each with the flag that says that more follow.
    let frame = |length: u8| [&[0x01, length][..], &vec![b'x'; length.into()]].concat();
    let chunks = [0, 1, 255].map(|length| frame(length).repeat(128 * 1024 / (usize::from(length) + 2)));
    let mut attacked = Attacked::start();
    attacked.under(&attacked.ports.clone(), |port| {
        for chunk in &chunks {
            is_disconnected_while_sending(&mut port.shake_hands(), chunk, 128 << 20);
        }
    });
    attacked.is_unharmed();
}

#[test]
fn messages_that_never_end_and_keep_what_they_have() {
    let mut attacked = Attacked::start();
    let mut frame = BytesMut::new();
    frame.put_u8(0x03);
    frame.put_u64(900_000);
    frame.put_bytes(b'x', 900_000);
    let holding: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = attacked.intake().shake_hands();
            stream.write_all(&frame).unwrap();
            stream
        })
        .collect();
    attacked.is_unharmed();
    drop(holding);
    attacked.is_unharmed();
}

#[test]
fn two_hundred_thousand_subscriptions_on_one_connection() {
    let mut attacked = Attacked::start();
    let mut subscriptions = BytesMut::new();
    for number in 0..200_000 {
        subscribe(format!("org.example.lab.{number}"), &mut subscriptions);
    }
    attacked.under(&[attacked.publish()], |port| {
        let mut stream = port.shake_hands();
        let _ = stream.write_all(&subscriptions);
        is_disconnected(&mut stream);
    });
    attacked.publisher.wait_for_log("more than 10000 subscriptions");
    attacked.is_unharmed();
}

#[test]
fn two_hundred_thousand_subscriptions_that_are_allowed() {
    let mut attacked = Attacked::start();
    let mut streams = Vec::new();
    for connection in 0..20 {
        let mut subscriptions = BytesMut::new();
        for number in 0..10_000 {
            subscribe(format!("{connection}.{number}"), &mut subscriptions);
        }
        let mut stream = attacked.publish().shake_hands();
        stream.write_all(&subscriptions).unwrap();
        is_alive(&mut stream);
        streams.push(stream);
    }
    attacked.is_unharmed();
    drop(streams);
    attacked.is_unharmed();
}

#[test]
fn the_same_subscription_again_and_again() {
    let mut attacked = Attacked::start();
    let (mut again, mut there_and_back) = (BytesMut::new(), BytesMut::new());
    for number in 0..200_000 {
        subscribe("org.example.lab", &mut again);
        let prefix = Bytes::from(format!("org.{}", number % 1000));
        SubscriptionChange::Subscribe(prefix.clone()).encode_command(&mut there_and_back);
        SubscriptionChange::Cancel(prefix).encode_command(&mut there_and_back);
    }
    attacked.under(&[attacked.publish()], |port| {
        for subscriptions in [&again, &there_and_back] {
            let mut stream = port.shake_hands();
            stream.write_all(subscriptions).unwrap();
            is_alive(&mut stream);
        }
    });
    attacked.is_unharmed();
}

#[test]
fn a_thousand_idle_connections() {
    let mut attacked = Attacked::start();
    let mut idle = Vec::new();
    for port in attacked.ports {
        for _ in 0..250 {
            idle.push(port.connect());
            idle.push(port.shake_hands());
        }
        attacked.serves_newcomers();
    }
    assert_eq!(idle.len(), 1_000);
    attacked.is_unharmed();
    drop(idle);
    attacked.is_unharmed();
}

#[test]
fn a_stolen_identity() {
    let mut attacked = Attacked::start();
    let named = |kind, endpoint: &lavabus_zmtp::Endpoint| {
        let socket = Socket::new(kind).unwrap();
        socket.set_routing_id(b"rack-7").unwrap();
        if kind == Kind::Sub {
            socket.subscribe(b"").unwrap();
            socket.subscribe(b"@seq").unwrap();
        }
        socket.connect(&endpoint.to_string()).unwrap();
        socket
    };
    let next_event = |sub: &Socket| loop {
        let message = Message(sub.recv_timeout(LONG).unwrap());
        if !message.is_control() {
            return message.without_position();
        }
    };
    let subs = [0; 2].map(|_| named(Kind::Sub, attacked.publisher.publish()));
    for sub in &subs {
        assert_eq!(sub.recv_timeout(LONG).unwrap()[0], b"@seq");
    }
    let pushes = [0; 2].map(|_| named(Kind::Push, attacked.publisher.intake()));
    for round in 0..10 {
        for push in &pushes {
            let event = Message::test_event(round);
            push.send(&event.0).unwrap();
            for sub in &subs {
                assert_eq!(next_event(sub), event);
            }
        }
    }
    // One that leaves does not take the other with it.
    let ([thief, owner], [other_thief, producer]) = (subs, pushes);
    drop((thief, other_thief));
    for round in 0..10 {
        let event = Message::test_event(round);
        producer.send(&event.0).unwrap();
        assert_eq!(next_event(&owner), event);
    }
    attacked.is_unharmed();
}

#[test]
fn the_same_options_again_and_again() {
    let mut attacked = Attacked::start();
    let events: Vec<Message> = (0..3_000).map(Message::test_event).collect();
    StockPush::connect(attacked.publisher.intake()).send_all(&events);
    let mut options = BytesMut::new();
    for (number, event) in events.iter().enumerate().take(400) {
        subscribe(format!("@after:{}", event.uuid()), &mut options);
        subscribe("@snapshot", &mut options);
        subscribe(format!("@snapshot:testjob/{number}"), &mut options);
        subscribe(format!("@snapshot:device/{number}"), &mut options);
        subscribe("@seq", &mut options);
    }
    subscribe("", &mut options);
    attacked.under(&[attacked.publish()], |port| {
        let asking: Vec<_> = (0..10)
            .map(|_| {
                let mut stream = port.shake_hands();
                stream.write_all(&options).unwrap();
                stream
            })
            .collect();
        // None of them reads. The next ones come when these are served.
        let mut last = port.shake_hands();
        last.write_all(&options).unwrap();
        is_alive(&mut last);
        drop(asking);
    });
    attacked.is_unharmed();

    // Who asks 400 times is answered 256 times, once each, and told once that there were more.
    let sub = StockSub::connect(attacked.publisher.publish(), &[]);
    sub.subscribe("@seq");
    for number in 0..400 {
        sub.subscribe(&format!("@snapshot:testjob/{number}"));
    }
    let mut begun = 0;
    let mut busy = 0;
    let mut heads = 0;
    // A head comes every second: three more of them, and what was to come has come.
    while heads < 3 {
        match ControlMessage::decode(sub.next().0.iter().map(Vec::as_slice))
            .unwrap()
            .unwrap()
        {
            ControlMessage::Head { .. } => heads += 1,
            ControlMessage::SnapshotBegin { .. } => (begun, heads) = (begun + 1, 0),
            ControlMessage::Gap {
                reason: GapReason::Busy,
                ..
            } => busy += 1,
            _ => {}
        }
    }
    assert_eq!((begun, busy), (256, 1));
}

#[test]
fn few_file_descriptors() {
    // 64 are kept for the publisher itself, so that 16 peers have room.
    let mut attacked = Attacked::start_in(Lab::new().descriptors(80));
    attacked.under(&attacked.ports.clone(), |port| {
        let flood: Vec<_> = (0..100).map(|_| port.connect()).collect();
        drop(flood);
    });
    attacked.is_unharmed();
    let flood: Vec<_> = (0..400).map(|n| attacked.ports[n % 2].connect()).collect();
    attacked.is_unharmed();
    drop(flood);
    attacked.is_unharmed();
}

/// Silent connections to one port take no room from the other.
#[test]
fn few_file_descriptors_and_one_port_flooded() {
    let mut attacked = Attacked::start_in(Lab::new().descriptors(80));
    for port in attacked.ports {
        let flood: Vec<_> = (0..200).map(|_| port.connect()).collect();
        attacked.serves_newcomers();
        drop(flood);
    }
    attacked.is_unharmed();
}

/// The limit is lowered below what the publisher has reckoned with, so that accepting itself fails.
#[test]
fn no_file_descriptors() {
    let mut attacked = Attacked::start();
    // It has opened all that it needs for itself.
    attacked.serves_newcomers();
    let limit = attacked.descriptors() + 4;
    let limited = Program::new("prlimit")
        .arg(format!("--pid={}", attacked.publisher.pid()))
        .arg(format!("--nofile={limit}:{limit}"))
        .status()
        .expect("prlimit of util-linux");
    assert!(limited.success());
    let flood: Vec<_> = (0..200).map(|n| attacked.ports[n % 2].connect()).collect();
    attacked.publisher.wait_for_log("cannot accept connections");
    attacked.is_unharmed();
    drop(flood);
    attacked.is_unharmed();
}
