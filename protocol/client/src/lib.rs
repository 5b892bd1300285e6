//! Talk to a publisher: send it events, and receive its stream without losing or repeating any.
//!
//! ```
//! use std::time::Duration;
//!
//! use lavabus_client::{Emitter, Options, Subscription, Update, new_event};
//! # use lavabus_zmtp::{BindOptions, HeartbeatConfig, Limits, Listener, PullConnection, Received, frames};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let listener = Listener::bind(&"tcp://127.0.0.1:0".parse()?, &BindOptions::default()).await?;
//! # let intake = listener.local_endpoint().clone();
//! # let publisher = tokio::spawn(async move {
//! #     let stream = listener.accept().await.unwrap();
//! #     let mut pull = PullConnection::accept(stream, &Limits::default(), &HeartbeatConfig::default()).await.unwrap();
//! #     let Received::Messages(run) = pull.next().await.unwrap() else { panic!() };
//! #     assert_eq!(frames(run.messages().next().unwrap()).nth(3), Some(b"ann".as_slice()));
//! #     pull.next().await.unwrap();
//! # });
//! // An event of our own: new UUID, time of now.
//! let event = new_event("org.example.lab.event", "ann", r#"{"message": "flashed", "job": 1995}"#)?;
//! let mut emitter = Emitter::connect(&intake, Duration::from_secs(5)).await?;
//! emitter.send(&event.envelope()).await?;
//! emitter.confirm(Duration::from_secs(5)).await?;
//! # drop(emitter);
//! # publisher.await?;
//!
//! // The stream. It connects, reconnects and resumes while `next` is awaited.
//! let options = Options { prefixes: vec!["org.example.lab.".into()], connect_timeout: Duration::ZERO, ..Options::default() };
//! let mut subscription = Subscription::new("tcp://127.0.0.1:1".parse()?, options);
//! loop {
//!     match subscription.next().await {
//!         Ok(Update::Event { record, .. }) => println!("{}", record.to_json_line()),
//!         Ok(update) => eprintln!("{update:?}"),
//!         Err(error) => break eprintln!("{error}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! | module | subject |
//! |---|---|
//! | `subscription` | [`Subscription`]: one bus, reconnecting and resuming |
//! | `event_stream` | [`EventStream`]: the same over HTTP, by server-sent events |
//! | `second_port` | [`SecondPort`]: requests to a publisher's second port |
//! | `sse` | server-sent events, read |
//! | `live` | one connection: messages read as events and control messages |
//! | `update` | [`Update`]: what a subscription tells |
//! | `place` | how far the stream was received, and from where to resume |
//! | `reception` | what was received, and what there is to tell of it |
//! | `recent` | UUIDs of late: at least once becomes once |
//! | `patience` | [`Patience`]: how long it is tried, and what is told of it |
//! | `backoff` | how long to wait before connecting again |
//! | `emitter` | [`Emitter`]: send events to an intake |
//! | `event` | [`new_event`], [`cursor_at`]: new UUIDs and times |
//!
//! Deliberately absent: files (where a cursor is kept is the caller's business), filters beyond what a publisher applies.

mod backoff;
mod emitter;
mod event;
mod event_stream;
mod live;
mod patience;
mod place;
mod recent;
mod reception;
mod second_port;
mod sse;
mod subscription;
mod update;

pub use emitter::{EmitError, Emitter};
pub use event::{cursor_at, datetime_text, new_event, new_id};
pub use event_stream::{EventStream, StreamOptions};
pub use patience::{Attempt, Patience};
pub use second_port::{Page, PortError, SecondPort, filter_query};
pub use subscription::{Options, Subscription, SubscriptionError};
pub use update::{Cause, Update};
