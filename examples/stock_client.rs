//! A subscriber as a user would write it, with the `zeromq` crate alone and nothing of lavabus: it prints the five frames
//! of every event whose topic begins with a prefix.
//!
//! ```text
//! cargo run --example stock_client -- [PREFIX [ENDPOINT]]
//! cargo run --example stock_client -- org.example.lab.testjob tcp://127.0.0.1:5500
//! ```
//!
//! Ctrl-C ends it. The crate speaks ZMTP 3.0, which has no heartbeats, and gives up a connection on which it is pinged.
//! lavabus pings only peers of ZMTP 3.1 and later. LAVA's own publisher pings every peer each 5 s; there this client
//! loses its connection each time, and what is sent until it is back.

use zeromq::{Socket, SocketRecv, SubSocket, ZmqResult};

const FRAMES: [&str; 5] = ["topic", "uuid", "datetime", "username", "data"];

#[tokio::main]
async fn main() -> ZmqResult<()> {
    let mut arguments = std::env::args().skip(1);
    let prefix = arguments.next().unwrap_or_default();
    let endpoint = arguments.next().unwrap_or_else(|| "tcp://127.0.0.1:5500".to_owned());

    let mut socket = SubSocket::new();
    // A subscription made before the connection is sent with it, and again after every reconnect.
    socket.subscribe(&prefix).await?;
    socket.connect(&endpoint).await?;
    eprintln!("connected to {endpoint}");

    // One for all turns: a signal between two of them counts too.
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let received = tokio::select! {
            received = socket.recv() => received,
            _ = &mut interrupted => return Ok(()),
        };
        match received {
            Ok(message) if message.len() == FRAMES.len() => {
                for (name, frame) in FRAMES.iter().zip(message.iter()) {
                    println!("{name:>8}  {}", String::from_utf8_lossy(frame));
                }
                println!();
            }
            Ok(message) => eprintln!("not a LAVA event: {} frames", message.len()),
            // The crate connects again by itself.
            Err(error) => eprintln!("connection lost: {error}"),
        }
    }
}
