//! A small real server that answers as LAVA's web application does, for tests of its clients.
//!
//! ```
//! use lava_stand_in::{Job, LavaServer};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let lava = LavaServer::start().await;
//! lava.add_user("alice", "alice-token");
//! let id = lava.add_job(Job { submitter: "alice".into(), private: true, ..Job::default() });
//!
//! // Point a client at `lava.uri()`; meanwhile the job goes on, and whoever listens hears of it.
//! let [topic, ..] = lava.set_job(&id, "Running", "Unknown");
//! assert_eq!(topic, "org.lavasoftware.testjob");
//! assert!(lava.job(&id).start_time.is_some());
//! assert!(lava.uri().ends_with("/RPC2"));
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! | module | what it answers |
//! |---|---|
//! | `server` | the handle, the connections, the failures on demand |
//! | `lab` | what is there, who may see it, what an action does to it |
//! | `definition` | what a submitted definition asks for, or why it is refused |
//! | `event` | the five frames of an event |
//! | `play` | a job that walks through its states by itself |
//! | `rest` | `/api/v0.2/` |
//! | `xml_rpc` | `/RPC2` |
//! | `web_socket` | `/ws/` |
//!
//! It keeps all in memory and within bounds: 10,000 jobs, 100,000 log lines and 10,000 test cases a job, 1,000
//! connections, 10,000 events for a WebSocket that does not read. It speaks plain HTTP on 127.0.0.1 and has no page for
//! people.

mod definition;
mod event;
mod job;
mod lab;
mod log_line;
mod play;
mod rest;
mod server;
mod time;
mod trouble;
mod web_socket;
mod xml_rpc;

pub use job::{Device, Job, Worker};
pub use server::{LavaServer, Options};
pub use trouble::Failure;
