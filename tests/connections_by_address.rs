//! No host takes the second port from the others, nor all connections from ZeroMQ, by connecting and saying nothing.
//!
//! This machine's own connections are not counted, so the test plays in a network of its own, with addresses of its own.

#![allow(clippy::unwrap_used)]

mod lab;

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use lab::{LONG, Lab, Message, RunningPublisher, StockPush, StockSub, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// Set in the process that plays it.
const INSIDE: &str = "LAVABUS_TEST_INSIDE";

/// Whether this process is in the network of its own. If not, the test runs in one, and has ended when this returns.
fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let addresses = "ip link set lo up && ip address add 192.0.2.1/24 dev lo && ip address add 192.0.2.2/24 dev lo";
    let prepared = Command::new("unshare").args(["--net", "sh", "-c", addresses]).output();
    if !prepared.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: networks cannot be made here: it takes root, unshare and ip");
        return false;
    }
    let program = std::env::current_exe().unwrap();
    let script = format!("{addresses} && exec {} --exact {test} --nocapture", program.display());
    let played = Command::new("unshare")
        .args(["--net", "sh", "-c", &script])
        .env(INSIDE, "")
        .status()
        .unwrap();
    assert!(played.success());
    false
}

async fn publisher(max_per_address: usize, max_connections: usize) -> RunningPublisher {
    Lab::new()
        .http()
        .configure(move |config| {
            config.http.listen = vec!["192.0.2.1:0".parse().unwrap()];
            config.http.max_per_address = max_per_address;
            config.max_connections = max_connections;
        })
        .start()
        .await
}

async fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let from: IpAddr = from.parse().unwrap();
    socket.bind(SocketAddr::new(from, 0)).unwrap();
    socket.connect(to).await.unwrap()
}

/// The first line of the answer; empty if it is closed without one.
async fn ask(from: &str, to: SocketAddr) -> String {
    let mut stream = connect(from, to).await;
    let request = format!("GET /livez HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let asked = async {
        let _ = stream.write_all(request.as_bytes()).await;
        let _ = stream.read_to_end(&mut answer).await;
    };
    tokio::time::timeout(LONG, asked).await.expect("an end");
    String::from_utf8_lossy(&answer)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_takes_a_place_of_its_address() {
    if !is_inside("a_silent_connection_takes_a_place_of_its_address") {
        return;
    }
    let publisher = publisher(3, 100).await;
    let http = publisher.http();
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(connect("192.0.2.2", http).await);
    }
    assert_eq!(ask("192.0.2.2", http).await, "HTTP/1.1 429 Too Many Requests");
    assert_eq!(publisher.counters().too_many_of_address.get(), 1);
    assert_eq!(ask("192.0.2.1", http).await, "HTTP/1.1 200 OK");
    drop(silent);
    tokio::time::timeout(LONG, async {
        while ask("192.0.2.2", http).await != "HTTP/1.1 200 OK" {}
    })
    .await
    .expect("places that are free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_room_for_zeromq_whatever_the_second_port_does() {
    if !is_inside("there_is_room_for_zeromq_whatever_the_second_port_does") {
        return;
    }
    let publisher = publisher(100, 8).await;
    let http = publisher.http();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(connect("192.0.2.2", http).await);
    }
    eventually("the rest is refused", || {
        publisher.counters().too_many_connections.get() == 14
    })
    .await;
    let sub = StockSub::connect(publisher.publish(), &[""]);
    publisher.subscribers(1).await;
    let event = Message::test_event(1);
    StockPush::connect(publisher.intake()).send(&event);
    assert_eq!(tokio::task::spawn_blocking(move || sub.next()).await.unwrap(), event);
}
