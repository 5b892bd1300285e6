//! A lab in a temporary folder: a publisher, in this process or as the real program, and peers for it.
//!
//! ```ignore
//! let publisher = Lab::new().journal().start().await;
//! let sub = StockSub::connect(publisher.publish(), &[""]);
//! publisher.subscribers(1).await;
//! StockPush::connect(publisher.intake()).send(&Message::test_event(1));
//! assert_eq!(sub.next().number(), 1);
//! ```
//!
//! Whoever waits here waits for [`LONG`] at most and then fails the test. Stock peers block their thread, so that tests
//! need `#[tokio::test(flavor = "multi_thread")]`.

// Each test file is a program of its own and uses its part.
#![allow(dead_code, unused_imports, unreachable_pub, clippy::unwrap_used)]

mod cli;
mod disk;
mod events_of;
mod exposition;
mod http;
mod in_process;
mod message;
mod process;
mod raw;
mod recording;
mod relay;
mod stock;
mod web_socket;

use std::path::PathBuf;
use std::time::Duration;

use lava_publisher::{AuthorityConfig, Config};
use lavabus_store::{Journal, NewEvent, NewGap, Options, PruneBudget, Reader, Retention};
use tempfile::TempDir;

pub use self::cli::{CLOSED_PORT, Cli, Ended, RunningCli};
pub use self::disk::{fill, own_disk};
pub use self::events_of::{PlainPublisher, push_events_of};
pub use self::exposition::{Exposition, Family, Sample};
pub use self::http::{Answer, EventStream, HttpClient, SseEvent};
pub use self::in_process::RunningPublisher;
pub use self::message::{Message, captured, version_1};
pub use self::process::PublisherProcess;
pub use self::raw::RawSub;
pub use self::recording::{Recording, assert_same_events};
pub use self::relay::Relay;
pub use self::stock::{StockPush, StockSub};
pub use self::web_socket::WebSocket;

/// Nothing that a test waits for takes so long, even on a busy machine.
pub const LONG: Duration = Duration::from_secs(30);

/// A publisher that does not run: its folder and its configuration.
#[derive(Debug)]
pub struct Lab {
    folder: TempDir,
    config: Config,
    /// More options of the real program.
    arguments: Vec<String>,
    /// How many file descriptors the real program may have.
    descriptors: Option<u64>,
}

impl Lab {
    /// An intake at an ipc path, one publish endpoint at a free port, no journal.
    pub fn new() -> Lab {
        let folder = tempfile::tempdir().unwrap();
        let intake = format!("ipc://{}", folder.path().join("lava.events").display());
        let config = Config::new(
            vec![intake.parse().unwrap()],
            vec!["tcp://127.0.0.1:0".parse().unwrap()],
        );
        Lab {
            folder,
            config,
            arguments: Vec::new(),
            descriptors: None,
        }
    }

    /// With a journal in the folder.
    pub fn journal(mut self) -> Lab {
        self.config = self.config.with_journal(self.folder.path().join("events.db"));
        self
    }

    /// With a second port.
    pub fn http(self) -> Lab {
        self.configure(|config| config.http.listen = vec![([127, 0, 0, 1], 0).into()])
    }

    /// With a file of tokens: `reader-token`, `admin-token`, `ci-token`, which may hand in events of the kinds event,
    /// stage, fault and result, and `forge-token`, which may hand in any.
    pub fn tokens(self) -> Lab {
        let path = self.folder.path().join("tokens.yaml");
        std::fs::write(&path, include_str!("../data/tokens.yaml")).unwrap();
        self.configure(|config| config.authority = AuthorityConfig::Tokens { tokens: path })
    }

    /// The publish endpoint is an ipc path too.
    pub fn publish_at_ipc(self) -> Lab {
        let endpoint = format!("ipc://{}", self.folder.path().join("publish").display());
        self.configure(|config| config.publish = vec![endpoint.parse().unwrap()])
    }

    /// Changes the configuration. The real program is not told of it: see [`argument`](Self::argument).
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Lab {
        change(&mut self.config);
        self
    }

    /// One more word on the command line of the real program.
    pub fn argument(mut self, argument: impl Into<String>) -> Lab {
        self.arguments.push(argument.into());
        self
    }

    /// The real program may have no more file descriptors than these.
    pub fn descriptors(mut self, limit: u64) -> Lab {
        self.descriptors = Some(limit);
        self
    }

    /// What the publisher is told to do.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The real program on this configuration, for a test that starts it itself.
    pub fn command(&self) -> std::process::Command {
        process::command(self)
    }

    /// The folder of this lab; gone when the lab is.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The journal's file.
    pub fn database(&self) -> PathBuf {
        self.config.journal.as_ref().expect("a lab with a journal").path.clone()
    }

    /// Writes these events into the journal, with something missing that was not recorded behind the first `before`.
    pub fn with_a_gap(&self, events: &[Message], before: usize) {
        let mut journal = Journal::open(self.database(), &Options::default()).unwrap();
        let received_us = jiff::Timestamp::now().as_microsecond();
        for (number, message) in events.iter().enumerate() {
            let mut group = journal.group().unwrap();
            if number == before {
                let (from_us, to_us, count) = (received_us, received_us, Some(3));
                let (reason, lab) = ("not_recorded", "");
                let gap = NewGap {
                    from_us,
                    to_us,
                    count,
                    reason,
                    lab,
                };
                group.record_gap(&gap).unwrap();
            }
            let event = NewEvent {
                id: &message.uuid().parse().unwrap(),
                received_us,
                topic: message.topic(),
                sent: message.text(2),
                user: message.text(3),
                data: message.text(4),
                lab: "",
            };
            group.append(&event).unwrap();
            group.commit().unwrap();
        }
        journal.close().unwrap();
    }

    /// Deletes all events of the journal but the newest, as retention does when they are old.
    pub fn prune_all_but_the_newest(&self) {
        let mut journal = Journal::open(self.database(), &Options::default()).unwrap();
        let retention = Retention {
            max_age: Some(Duration::ZERO),
            max_bytes: None,
        };
        let later_us = jiff::Timestamp::now().as_microsecond() + 1;
        while journal
            .prune(&retention, later_us, &PruneBudget::default())
            .unwrap()
            .more
        {}
        journal.close().unwrap();
    }

    /// All that the journal has, in the order of the numbers, which begin with 1 and have no holes.
    pub fn journal_contents(&self) -> Vec<Message> {
        let reader = Reader::open(self.database()).unwrap();
        let mut contents = Vec::new();
        reader
            .scan(0, reader.head().unwrap(), |row| {
                contents.push(Message::from(&row));
                assert_eq!(row.seq, contents.len() as u64, "numbers have no holes");
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        contents
    }

    /// Starts the publisher in this process.
    pub async fn start(self) -> RunningPublisher {
        RunningPublisher::start(self).await
    }

    /// Starts the real program, and returns when it is ready.
    pub fn start_process(self) -> PublisherProcess {
        PublisherProcess::start(self)
    }
}

/// Waits until something is true that nobody tells.
pub async fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + LONG;
    while !is_true() {
        assert!(tokio::time::Instant::now() < deadline, "not within {LONG:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
