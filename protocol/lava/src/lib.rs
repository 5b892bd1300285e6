//! Talk to a LAVA server: its REST API where it has one, its XML-RPC where it has not, its WebSocket.
//!
//! ```
//! use lavabus_lava::{Identity, Server, ServerError, SubmitError, locate};
//!
//! /// Submits a job and tells where to look at it.
//! async fn submit(server: &Server, definition: &str) -> Result<String, String> {
//!     match server.submit(definition).await {
//!         Ok(ids) => Ok(ids.iter().map(|id| server.job_url(id)).collect::<Vec<_>>().join(" ")),
//!         Err(SubmitError::Rejected { message }) => match locate(definition, &message) {
//!             Some(place) => Err(format!("line {}: {message}", place.line)),
//!             None => Err(message),
//!         },
//!         // Nothing was made: the same may be tried again.
//!         Err(SubmitError::NotSent(error)) if error.is_temporary() => Err(format!("try again: {error}")),
//!         // It may have been made: `submitted_since` tells.
//!         Err(error) => Err(error.to_string()),
//!     }
//! }
//!
//! # let run = async {
//! // Nobody listens there.
//! let server = Server::new(&Identity::anonymous("http://127.0.0.1:9/RPC2")?)?;
//! assert_eq!(server.job_url("4000.1"), "http://127.0.0.1:9/scheduler/job/4000.1");
//! assert!(matches!(server.whoami().await, Err(ServerError::Unavailable { .. })));
//! assert!(submit(&server, "job_name: x\n").await.is_err_and(|said| said.starts_with("try again")));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # };
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - `identity`: which server and as whom, from `lavacli.yaml` and the environment ([`load`])
//! - `token`: a secret that is not printed; `secrets`: nor where somebody repeats it
//! - `server`: the questions ([`Server`]); `submit`: handing in a job; `answer`: what is told
//! - `events`: the WebSocket ([`EventSocket`])
//! - `error`: what went wrong, by what can be done about it
//! - [`explain`]: why jobs failed, as events
//! - `place`: the line of a definition that was declined ([`locate`])
//! - `http`, `xml_rpc`, `logs`, `yaml`: how answers are asked for and read

mod answer;
mod error;
mod events;
pub mod explain;
mod http;
mod identity;
mod logs;
mod place;
mod secrets;
mod server;
mod submit;
mod token;
mod xml_rpc;
mod yaml;

pub use answer::{Answer, Device, Explanation, Failure, Job, LogLine, SubmittedJob, TestCase, Worker};
pub use error::{ServerError, SubmitError};
pub use events::{EventSocket, Received};
pub use identity::{Environment, EventsSettings, Identity, IdentityError, IdentitySources, load, load_for};
pub use place::{Place, locate};
pub use server::Server;
pub use token::Token;

/// The address type of an [`Identity`].
pub use reqwest::Url;
