//! The publisher: receives events, keeps them, and sends them to everyone who wants them.
//!
//! ```
//! use lava_publisher::{Config, Publisher};
//! use tokio_util::sync::CancellationToken;
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::new(vec!["tcp://127.0.0.1:0".parse()?], vec!["tcp://127.0.0.1:0".parse()?]);
//! let publisher = Publisher::bind(config).await?;
//! println!("subscribe at {}", publisher.endpoints().publish[0]);
//!
//! let shutdown = CancellationToken::new();
//! let running = tokio::spawn(publisher.run(shutdown.clone()));
//! shutdown.cancel();
//! running.await??;
//! # Ok(()) }
//! ```
//!
//! The modules stand in the order of an event's way: `connections` accept peers, `intake` reads producers,
//! `admission` checks, `journal` numbers and commits, `fan_out` keeps the newest batches and wakes who wants
//! them, `subscriber` writes, and `replay` reads the journal for those who are further behind. `explain` is one more reader, which
//! asks LAVA why jobs failed.
//! [`authority`] decides who may see what on the second port.
//! `publisher` wires them; `daemon` is the process around it.

mod connections;
mod intake;

mod admission;

mod journal;

/// Open for the benches only.
#[doc(hidden)]
pub mod fan_out;
mod numbered;

pub mod authority;

mod explain;
mod history;
mod http;
mod public;
mod replay;
mod subscriber;
mod visible;

mod counters;
mod health;
mod metrics;

mod publisher;

mod arguments;
mod check;
mod config;
mod daemon;
mod lava_settings;

pub use arguments::{ArgumentError, Arguments, AuthorityKind, Http, Level, SynchronousLevel};
pub use config::{AuthorityConfig, Config, ExplainConfig, HttpConfig, JournalConfig, LavaConfig};
pub use counters::{Counter, Counters};
pub use daemon::main;
pub use health::Health;
pub use metrics::refusals::Refusals;
pub use publisher::{Endpoints, FatalError, Publisher};
