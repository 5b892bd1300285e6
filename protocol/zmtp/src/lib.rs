//! ZMTP 3.1 (RFC 37) with the NULL mechanism: what ZeroMQ sockets say to each other.
//!
//! A PULL that listens, and a PUSH that sends it a message:
//!
//! ```
//! use lavabus_zmtp::{BindOptions, ConnectOptions, HeartbeatConfig, Limits, Listener, PullConnection, PushConnection,
//!     Received, frames};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = Listener::bind(&"tcp://127.0.0.1:0".parse()?, &BindOptions::default()).await?;
//! let endpoint = listener.local_endpoint().clone();
//!
//! tokio::spawn(async move {
//!     let mut push = PushConnection::connect(&endpoint, &ConnectOptions::default(), Duration::from_secs(5)).await?;
//!     push.send(&[b"org.example.lab.device", b"..."]).await?;
//!     push.flush_confirmed(Duration::from_secs(5)).await?;
//!     Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! });
//!
//! let stream = listener.accept().await?;
//! let mut pull = PullConnection::accept(stream, &Limits::default(), &HeartbeatConfig::default()).await?;
//! let Received::Messages(run) = pull.next().await? else { panic!() };
//! let message = run.messages().next().expect("a run is never empty");
//! assert_eq!(frames(message).collect::<Vec<_>>(), [b"org.example.lab.device".as_slice(), b"..."]);
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! What the bytes mean, without I/O:
//!
//! - the first 64 bytes: [`Greeting`]; a frame's header: [`FrameHeader`]; READY, PING and the like: [`Command`]
//! - from bytes to whole messages: [`Decoder`], within [`Limits`]; a message's bytes: [`MessageRun`], [`frames`],
//!   [`encode_message`], [`canonical`]
//! - subscriptions in both forms: [`SubscriptionChange`]; which sockets may talk: [`SocketType`]
//! - who is alive: [`Heartbeat`]
//! - addresses: [`Endpoint`]
//!
//! On tokio:
//!
//! - [`Listener`] and [`Stream`]: TCP and Unix domain sockets alike
//! - [`handshake()`]: greetings and READY, with a time limit
//! - [`PullConnection`], [`PushConnection`], [`SubConnection`]: one connection each; none reconnects
//!
//! A publisher's fan-out is made of the same parts and lives in `lava-publisher`. Absent on purpose: other security
//! mechanisms, ZMTP 1 and 2, request-reply sockets, reconnecting, queues.

mod limits;

mod command;
mod decoder;
mod frame;
mod greeting;
mod message;
mod socket_type;
mod subscriptions;

mod endpoint;
mod heartbeat;

mod ipc_path;
mod listener;
mod stream;
mod tcp_info;

mod connection;
mod handshake;
mod pull;
mod push;
mod subscribe;

pub use command::{Command, CommandError, MAX_CONTEXT, Metadata, ttl_from_duration, ttl_to_duration};
pub use connection::{ConnectError, ConnectOptions, ConnectionError, Received};
pub use decoder::{DecodeError, Decoder, Item, OVERSIZE_HEAD, RUN_BYTES};
pub use endpoint::{Endpoint, EndpointError, Host};
pub use frame::{FrameError, FrameHeader};
pub use greeting::{GREETING_LEN, Greeting, GreetingError};
pub use handshake::{HandshakeError, Peer, handshake};
pub use heartbeat::{Action, Heartbeat, HeartbeatConfig};
pub use ipc_path::{IpcPathError, MAX_IPC_PATH};
pub use limits::Limits;
pub use listener::{BindError, BindOptions, Listener};
pub use message::{Frames, MessageRun, canonical, encode_message, frames, is_canonical};
pub use pull::PullConnection;
pub use push::PushConnection;
pub use socket_type::SocketType;
pub use stream::{PeerAddress, Stream};
pub use subscribe::{SubConnection, SubscriptionForm};
pub use subscriptions::SubscriptionChange;
