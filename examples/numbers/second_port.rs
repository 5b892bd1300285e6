//! Readers of the second port: what they cost, how late they are, and whether one of them delays the others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use lavabus_zmtp::{ConnectOptions, PushConnection, Received, SubConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::program::Publisher;
use crate::{TIMEOUT, median};

/// Stands in every event, before the time of its sending: 16 digits of microseconds.
const MARK: &[u8] = b"@@";
const DIGITS: usize = 16;

/// What a reader of the second port has counted.
struct Read {
    events: u64,
    latency_us: Histogram<u64>,
}

/// How a reader asks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    WebSocket,
    Sse,
}

async fn open(address: SocketAddr, way: Way) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = match way {
        Way::WebSocket => {
            "GET /ws/ HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        }
        Way::Sse => "GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n",
    };
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let status = if way == Way::WebSocket {
        &b"HTTP/1.1 101"[..]
    } else {
        b"HTTP/1.1 200"
    };
    assert!(head.starts_with(status), "{}", String::from_utf8_lossy(&head));
    stream
}

/// Reads so many events.
async fn read(mut stream: TcpStream, events: u64, start: Instant) -> Read {
    let mut read = Read {
        events: 0,
        latency_us: Histogram::new(3).unwrap(),
    };
    let mut buffer = Vec::with_capacity(256 * 1024);
    while read.events < events {
        let got = tokio::time::timeout(TIMEOUT * 6, stream.read_buf(&mut buffer))
            .await
            .expect("all in time")
            .unwrap();
        assert!(got > 0, "the stream ended after {} of {events}", read.events);
        let now = start.elapsed().as_micros() as u64;
        let mut rest = 0;
        while let Some(at) = find(&buffer[rest..]) {
            let digits = rest + at + MARK.len();
            let Some(text) = buffer.get(digits..digits + DIGITS) else {
                break;
            };
            let sent: u64 = std::str::from_utf8(text).unwrap().parse().unwrap();
            read.latency_us.record(now.saturating_sub(sent)).unwrap();
            read.events += 1;
            rest = digits + DIGITS;
        }
        // A mark may be cut.
        let keep = buffer.len().saturating_sub(MARK.len() + DIGITS).max(rest);
        buffer.drain(..keep);
    }
    read
}

fn find(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == MARK[0]) {
        let at = from + at;
        if bytes[at..].starts_with(MARK) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

struct Producer {
    push: PushConnection,
    sent: u64,
    start: Instant,
}

impl Producer {
    async fn connect(publisher: &Publisher, start: Instant) -> Producer {
        let push = PushConnection::connect(publisher.intake(), &ConnectOptions::default(), TIMEOUT)
            .await
            .unwrap();
        Producer { push, sent: 0, start }
    }

    async fn send(&mut self) {
        let uuid = format!("{:08x}-0000-1000-8000-000000000001", self.sent);
        let data = format!(
            r#"{{"health": "Good", "state": "Running", "device": "qemu-01", "device_type": "qemu", "worker": "worker-01", "note": "@@{:016}"}}"#,
            self.start.elapsed().as_micros()
        );
        let frames = [
            "org.example.lab.device",
            &uuid,
            "2026-11-21T05:01:05.217961+00:00",
            "lavaserver",
            &data,
        ];
        self.push.send(&frames.map(str::as_bytes)).await.unwrap();
        self.sent += 1;
    }

    /// So many a second.
    async fn send_paced(&mut self, events: u64, rate: u64) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).unwrap());
        for _ in 0..events {
            ticks.tick().await;
            self.send().await;
        }
    }
}

fn start_publisher() -> (tempfile::TempDir, Publisher) {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("events.db");
    let publisher = Publisher::start_with_http(folder.path(), &["--db", database.to_str().unwrap()]);
    (folder, publisher)
}

/// CPU an event at 100 WebSocket readers ÷ at 100 ZeroMQ subscribers; 200 events/s, one at a time.
pub(crate) async fn cost() {
    const READERS: usize = 100;
    const EVENTS: u64 = 3_000;
    let (mut websocket, mut sse, mut zeromq) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..crate::ROUNDS {
        for (way, costs) in [
            (Some(Way::WebSocket), &mut websocket),
            (Some(Way::Sse), &mut sse),
            (None, &mut zeromq),
        ] {
            let (_folder, publisher) = start_publisher();
            let start = Instant::now();
            let mut readers = JoinSet::new();
            for _ in 0..READERS {
                match way {
                    Some(way) => {
                        let stream = open(publisher.http(), way).await;
                        readers.spawn(async move { read(stream, EVENTS, start).await.events });
                    }
                    None => {
                        let mut sub = SubConnection::connect(publisher.publish(), &ConnectOptions::default(), TIMEOUT)
                            .await
                            .unwrap();
                        sub.subscribe(b"").await.unwrap();
                        readers.spawn(async move {
                            let mut got = 0;
                            while got < EVENTS {
                                if let Received::Messages(run) = sub.next().await.unwrap() {
                                    got += run.len() as u64;
                                }
                            }
                            got
                        });
                    }
                }
            }
            let mut producer = Producer::connect(&publisher, start).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            let before = publisher.cpu_seconds();
            producer.send_paced(EVENTS, 200).await;
            while let Some(got) = readers.join_next().await {
                assert_eq!(got.unwrap(), EVENTS);
            }
            costs.push((publisher.cpu_seconds() - before) * 1e6 / EVENTS as f64);
        }
    }
    let (websocket, sse, zeromq) = (median(websocket), median(sse), median(zeromq));
    println!(
        "CPU an event with 100 readers: WebSocket {websocket:.0} µs, SSE {sse:.0} µs, ZeroMQ {zeromq:.0} µs; \
         WebSocket ÷ ZeroMQ {:.2}, SSE ÷ ZeroMQ {:.2}",
        websocket / zeromq,
        sse / zeromq
    );
}

/// 1,000 WebSocket and 1,000 SSE readers at 200 events/s: all complete, how late, and in how much memory.
pub(crate) async fn crowd() {
    const READERS: usize = 1_000;
    const EVENTS: u64 = 4_000;
    let (_folder, publisher) = start_publisher();
    let start = Instant::now();
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        for way in [Way::WebSocket, Way::Sse] {
            let stream = open(publisher.http(), way).await;
            readers.spawn(async move { (way, read(stream, EVENTS, start).await) });
        }
    }
    let mut producer = Producer::connect(&publisher, start).await;
    let idle = publisher.memory_mib();
    producer.send_paced(EVENTS, 200).await;
    let (mut websocket, mut sse) = (Histogram::<u64>::new(3).unwrap(), Histogram::<u64>::new(3).unwrap());
    while let Some(read) = readers.join_next().await {
        let (way, read) = read.unwrap();
        assert_eq!(read.events, EVENTS);
        match way {
            Way::WebSocket => websocket.add(read.latency_us).unwrap(),
            Way::Sse => sse.add(read.latency_us).unwrap(),
        }
    }
    let ms = |histogram: &Histogram<u64>, percent: f64| histogram.value_at_percentile(percent) as f64 / 1e3;
    println!(
        "1,000 WebSocket and 1,000 SSE readers, 200 events/s: all complete; WebSocket p50 {:.0} ms, p99 {:.0} ms; \
         SSE p50 {:.0} ms, p99 {:.0} ms; memory {idle:.0} MiB idle, {:.0} MiB after",
        ms(&websocket, 50.0),
        ms(&websocket, 99.0),
        ms(&sse, 50.0),
        ms(&sse, 99.0),
        publisher.memory_mib()
    );
}

/// Five WebSocket clients and one ZeroMQ subscriber, flat out: the rate with all five reading, and with one of them not.
pub(crate) async fn stalled() {
    const ROUNDS: usize = 5;
    const EVENTS: u64 = 200_000;
    let (mut all_read, mut one_stalled) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (reading, rates) in [(5, &mut all_read), (4, &mut one_stalled)] {
            let (_folder, publisher) = start_publisher();
            let start = Instant::now();
            let mut readers = JoinSet::new();
            for _ in 0..reading {
                let stream = open(publisher.http(), Way::WebSocket).await;
                readers.spawn(async move { read(stream, EVENTS, start).await.events });
            }
            let _stalled = match reading {
                5 => None,
                _ => Some(open(publisher.http(), Way::WebSocket).await),
            };
            let mut sub = SubConnection::connect(publisher.publish(), &ConnectOptions::default(), TIMEOUT)
                .await
                .unwrap();
            sub.subscribe(b"").await.unwrap();
            let subscribed = Arc::new(AtomicU64::new(0));
            let counted = subscribed.clone();
            readers.spawn(async move {
                while counted.load(Ordering::Relaxed) < EVENTS {
                    if let Received::Messages(run) = sub.next().await.unwrap() {
                        counted.fetch_add(run.len() as u64, Ordering::Relaxed);
                    }
                }
                EVENTS
            });
            let mut producer = Producer::connect(&publisher, start).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            let began = Instant::now();
            for _ in 0..EVENTS {
                producer.send().await;
            }
            producer.push.flush().await.unwrap();
            while let Some(got) = readers.join_next().await {
                assert_eq!(got.unwrap(), EVENTS);
            }
            rates.push(EVENTS as f64 / began.elapsed().as_secs_f64());
        }
    }
    let (all_read, one_stalled) = (median(all_read), median(one_stalled));
    println!(
        "PUB and 5 WebSocket clients: {all_read:.0} events/s to each; PUB and 4 while the fifth does not read: \
         {one_stalled:.0} events/s to each, nothing lost; ratio {:.2}",
        one_stalled / all_read
    );
}
