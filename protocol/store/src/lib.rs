//! What the bytes on disk mean: the schema of a journal, and appending, scanning, pruning and asking it.
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! use lavabus_protocol::EventId;
//! use lavabus_store::{Appended, Journal, NewEvent, Options, Reader};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("events.db");
//! let mut journal = Journal::open(&path, &Options::default())?;
//! let id: EventId = "8e503fbe-e568-11f1-8b37-02fc00000001".parse()?;
//! let event = NewEvent {
//!     id: &id,
//!     received_us: 1_795_237_265_222_338,
//!     topic: "org.example.lab.worker",
//!     sent: "2026-11-21T05:01:05.217961+00:00",
//!     user: "lavaserver",
//!     data: r#"{"hostname": "worker-02", "health": "Active", "state": "Offline"}"#,
//!     lab: "",
//! };
//!
//! // Events become durable together; nobody sees one before.
//! let mut group = journal.group()?;
//! assert_eq!(group.append(&event)?, Appended::New(1));
//! assert_eq!(group.append(&event)?, Appended::Repeat(1));
//! group.commit()?;
//!
//! let reader = Reader::open(&path)?;
//! reader.scan(0, reader.head()?, |row| {
//!     assert_eq!((row.seq, row.data), (1, event.data));
//!     ControlFlow::Continue(())
//! })?;
//! journal.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The same schema serves the publisher's journal and a subscriber's own database. It is SQLite in WAL mode: one
//! [`Journal`] writes, any number of [`Reader`]s in any process read. All calls block; give them threads.
//!
//! | module | subject |
//! |---|---|
//! | `schema`, `migration` | the tables, and how older ones become newer ones |
//! | `journal` | the writer: open and repair, groups, checkpoints, retention |
//! | `reader` | what can be asked |
//! | [`projection`] | what is derived from events: the latest of each object |
//! | `care` | is a database sound; a copy of it |
//! | [`reactobus`] | what another recorder kept |
//! | [`question`] | what can be asked beside the events |
//! | `rejected` | refused messages as they lie in the table |
//! | [`location`] | where the database is when nobody says |
//! | `error` | fatal at start, or of one operation |
//!
//! Deliberately absent: any thread, any clock (times are arguments), any decision about who may see what.

mod care;
mod error;
mod journal;
pub mod location;
mod migration;
pub mod projection;
pub mod question;
pub mod reactobus;
mod reader;
mod rejected;
mod schema;

pub use care::BackupError;
pub use error::{OpenError, StoreError};
pub use journal::{
    Appended, Checkpoint, Checkpointer, Group, Journal, NewEvent, NewGap, Options, PruneBudget, Pruned, REJECTED_BYTES,
    REJECTED_KEPT, Rejected, Retention, Salvage, Synchronous,
};
pub use projection::reference::RefKind;
pub use projection::{Projected, Snapshot, Told};
pub use reader::{Event, EventRow, Gap, Reader, Source, Status};
pub use rejected::RejectedMessage;
