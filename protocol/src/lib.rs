//! What the bytes of a lavabus mean: envelope, cursor, typed events, filter.
//!
//! ```
//! use lavabus_protocol::filter::{Candidate, Field, Filter};
//! use lavabus_protocol::{Envelope, Kind, Record};
//!
//! // Five frames as they come from a ZeroMQ socket.
//! let frames: [&[u8]; 5] = [
//!     b"org.example.lab.testjob",
//!     b"b3741d6a-e568-11f1-9528-02fc00000001",
//!     b"2026-11-21T05:02:07.528714+00:00",
//!     b"admin",
//!     br#"{"job": 1995, "state": "Finished", "health": "Complete", "submitter": "admin"}"#,
//! ];
//! let envelope = Envelope::check(frames)?;
//! assert_eq!(Kind::of(envelope.topic), Kind::Testjob);
//!
//! // Who wants it?
//! let mut filter = Filter::default();
//! filter.add(Field::Job, false, "https://lava.example.org/scheduler/job/1995")?;
//! let candidate = Candidate::from(&envelope);
//! assert!(filter.matches(&candidate));
//! assert!(candidate.event().is_finished());
//!
//! // The same event as a line of JSON, its data byte for byte.
//! let line = Record::from(envelope).to_json_line();
//! assert_eq!(Record::from_json_line(&line)?.envelope(), envelope);
//!
//! // And out again, as it came.
//! assert_eq!(envelope.frames(&mut [0; 36]), frames);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Map
//!
//! | module | subject |
//! |---|---|
//! | [`envelope`] | the five frames: [`Envelope::check`] and why a message is refused |
//! | [`event_id`] | the UUID, its time and its order in an index |
//! | [`topic`] | the kind of an event |
//! | [`event`] | a typed, tolerant view of the data; ids of jobs; the sender's time |
//! | [`record`] | an event as a line of JSON |
//! | [`filter`] | which events somebody wants |
//! | [`cursor`] | where in a stream: epoch, position, cursor |
//! | [`option`] | what a subscription that begins with `@` asks for |
//! | [`control`] | what a publisher says about the stream |
//! | [`redact`] | secrets hidden in texts that go on to others |
//! | [`time`] | times and durations as people write them |
//!
//! Deliberately absent: sockets, files, clocks, random numbers, threads. Everything here is a function of its
//! arguments, and nothing panics on input.

pub mod control;
pub mod cursor;
pub mod envelope;
pub mod event;
pub mod event_id;
pub mod filter;
pub mod option;
pub mod record;
pub mod redact;
pub mod size;
pub mod time;
pub mod topic;

pub use control::{ControlError, ControlMessage, GapReason};
pub use cursor::{Cursor, CursorError, Epoch, Position};
pub use envelope::{Envelope, FRAMES, Refusal};
pub use event::{Event, JobId};
pub use event_id::{EventId, EventIdError};
pub use filter::Filter;
pub use option::{OptionError, SnapshotScope, SubscriptionOption};
pub use record::{Record, RecordError};
pub use size::parse_size;
pub use topic::Kind;
