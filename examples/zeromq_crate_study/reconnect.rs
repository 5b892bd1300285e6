//! A PUSH whose peer restarts.

use std::time::{Duration, Instant};

use libzmq_peer::Kind;
use tokio::time::sleep;
use zeromq::{PushSocket, Socket, SocketSend, ZmqMessage};

use crate::Outcome;
use crate::peers::event;

const RECONNECT_RUN: Duration = Duration::from_secs(6);

pub(crate) async fn run() -> Outcome {
    for library in ["zeromq", "libzmq"] {
        let pull = libzmq_peer::Socket::new(Kind::Pull)?;
        pull.bind("tcp://127.0.0.1:*")?;
        let endpoint = pull.last_endpoint()?;
        let mut push = match library {
            "zeromq" => {
                let mut push = PushSocket::new();
                push.connect(&endpoint).await?;
                Pusher::Zeromq(push)
            }
            _ => {
                let push = libzmq_peer::Socket::new(Kind::Push)?;
                push.connect(&endpoint)?;
                Pusher::Libzmq(push)
            }
        };
        for _ in 0..50 {
            push.send(event("device", 0)).await?;
            pull.recv_timeout(Duration::from_secs(5))?;
        }
        drop(pull);
        sleep(Duration::from_millis(300)).await;
        let pull = bind_again(&endpoint)?;

        let start = Instant::now();
        let (mut accepted, mut refused, mut received, mut error) = (0, 0, 0, String::new());
        while start.elapsed() < RECONNECT_RUN {
            match push.send(event("device", 0)).await {
                Ok(()) => accepted += 1,
                Err(cause) => {
                    refused += 1;
                    error = format!(" (the last one: {cause})");
                }
            }
            sleep(Duration::from_millis(10)).await;
            while pull.recv_timeout(Duration::ZERO).is_ok() {
                received += 1;
            }
        }
        println!(
            "reconnect: PUSH of {library}, its PULL restarts on the same port, {RECONNECT_RUN:?} more: {received} received; \
             send() said Ok {accepted} times and failed {refused} times{error}"
        );
    }
    Ok(())
}

enum Pusher {
    Zeromq(PushSocket),
    Libzmq(libzmq_peer::Socket),
}

impl Pusher {
    async fn send(&mut self, message: ZmqMessage) -> Outcome {
        match self {
            Self::Zeromq(socket) => Ok(socket.send(message).await?),
            Self::Libzmq(socket) => Ok(socket.try_send(&message.into_vec())?),
        }
    }
}

/// libzmq closes a listener in the background, so its port may still be taken for a moment.
fn bind_again(endpoint: &str) -> Outcome<libzmq_peer::Socket> {
    let pull = libzmq_peer::Socket::new(Kind::Pull)?;
    for _ in 0..100 {
        match pull.bind(endpoint) {
            Err(libzmq_peer::Error::AddressInUse) => std::thread::sleep(Duration::from_millis(20)),
            bound => return Ok(bound.map(|()| pull)?),
        }
    }
    Err("the port stays taken".into())
}
