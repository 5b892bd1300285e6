//! LAVA's own client, as it is on PyPI, against our `/ws/`. `.ci/run` installs it and runs this:
//! `cargo test --test lavacli -- --ignored`, with `lavacli` 3.1.0 in the PATH.

#![allow(clippy::unwrap_used)]

mod lab;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use lab::{Lab, Message, StockPush, captured};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Where lavacli finds both: LAVA's XML-RPC, of which it asks `system.version` only, and the WebSocket, which is ours.
async fn front(publisher: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 5];
                client.peek(&mut head).await.unwrap();
                if head.starts_with(b"POST") {
                    let mut request = [0; 4096];
                    let _ = client.read(&mut request).await.unwrap();
                    let version = "<?xml version='1.0'?><methodResponse><params><param><value><string>2026.07</string>\
                        </value></param></params></methodResponse>";
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{version}",
                        version.len()
                    );
                    client.write_all(answer.as_bytes()).await.unwrap();
                } else {
                    let mut server = TcpStream::connect(publisher).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    address
}

struct Lavacli(Child);

impl Lavacli {
    fn start(folder: &std::path::Path, front: SocketAddr, arguments: &[&str]) -> Lavacli {
        let mut config = std::fs::File::create(folder.join("lavacli.yaml")).unwrap();
        writeln!(config, "default:\n  uri: http://{front}/RPC2").unwrap();
        let child = Command::new("lavacli")
            .args(arguments)
            .env("XDG_CONFIG_HOME", folder)
            .env("PYTHONUNBUFFERED", "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("lavacli 3.1.0 in the PATH: pip install lavacli==3.1.0");
        Lavacli(child)
    }
}

impl Drop for Lavacli {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs lavacli 3.1.0 from PyPI, which .ci/run installs"]
async fn lavacli_prints_every_kind() {
    let publisher = Lab::new().journal().http().start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut lavacli = Lavacli::start(folder.path(), front(publisher.http()).await, &["events", "listen"]);
    let printed = BufReader::new(lavacli.0.stdout.take().unwrap());
    publisher.websockets(1).await;
    let push = StockPush::connect(publisher.intake());
    let mut sent = captured();
    sent.push(Message::test_event(1));
    push.send_all(&sent);
    let count = sent.len();
    let lines = tokio::task::spawn_blocking(move || {
        let lines = printed.lines().map(Result::unwrap);
        let events = lines.filter(|line| line.contains(" org.example.lab."));
        events.take(count).collect::<Vec<_>>()
    });
    let lines = tokio::time::timeout(lab::LONG, lines)
        .await
        .expect("a line for each event")
        .unwrap();
    for (line, message) in lines.iter().zip(&sent) {
        let begin = format!("{} {} {} - ", message.text(2), message.topic(), message.text(3));
        let data: serde_json::Value = serde_json::from_str(message.text(4)).unwrap();
        let told = match message.topic().rsplit('.').next().unwrap() {
            "device" => format!("[{}]", data["device"].as_str().unwrap()),
            "worker" => format!("[{}]", data["hostname"].as_str().unwrap()),
            "testjob" | "event" => format!("[{}]", data["job"]),
            kind => panic!("{kind}"),
        };
        assert!(
            line.starts_with(&begin) && line[begin.len()..].starts_with(&told),
            "{line}"
        );
    }
    for kind in ["device", "testjob", "worker", "event"] {
        let wanted = format!(" org.example.lab.{kind} ");
        assert!(lines.iter().any(|line| line.contains(&wanted)), "{kind}");
    }
    assert_eq!(lines.len(), count);
}
