//! Prints jobs as they change, and goes on where it stopped: through lost connections, and after a restart.
//!
//! ```text
//! cargo run --example follow_jobs -- FILE [ENDPOINT [PREFIX]]
//! cargo run --example follow_jobs -- jobs.cursor tcp://127.0.0.1:5500 org.lavasoftware.testjob
//! ```
//!
//! The cursor of the last printed event is kept in FILE. Without the file it begins with what happens now. Ctrl-C ends it.

use std::error::Error;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use lavabus_client::{Options, Subscription, Update};
use lavabus_protocol::{Cursor, Kind, Record};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = PathBuf::from(arguments.next().ok_or("usage: follow_jobs FILE [ENDPOINT [PREFIX]]")?);
    let endpoint = arguments.next().unwrap_or_else(|| "tcp://127.0.0.1:5500".to_owned());
    let prefix = arguments.next().unwrap_or_default();

    let options = Options {
        prefixes: vec![prefix],
        after: load(&file)?,
        ..Options::default()
    };
    // From here on it connects, reconnects and resumes by itself, and tells each event once.
    let mut subscription = Subscription::new(endpoint.parse()?, options);
    // One for all turns: a signal between two of them counts too.
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let update = tokio::select! {
            update = subscription.next() => update?,
            _ = &mut interrupted => return Ok(()),
        };
        match update {
            Update::Event { record, .. } => {
                print(&record)?;
                // After the print: a crash in between repeats an event and loses none.
                if let Some(cursor) = record.cursor {
                    save(&file, cursor)?;
                }
            }
            Update::Gap { from, to, reason } => {
                let (from, to) = (text(from), text(to));
                eprintln!("events {from} to {to} cannot be had: {}", reason.as_str());
            }
            Update::Connected { .. } => eprintln!("connected to {}", subscription.endpoint()),
            Update::Disconnected { cause } => eprintln!("no connection, trying again: {cause}"),
            Update::Unreadable { cause } => eprintln!("passed over: {cause}"),
            // Where the stream is; and snapshots, which nobody asked for here.
            Update::Head { .. } | Update::SnapshotBegin { .. } | Update::SnapshotEnd { .. } => {}
        }
    }
}

/// `2026-11-21T05:02:07+00:00 job 1995 on qemu-01: Finished Complete`
fn print(record: &Record) -> std::io::Result<()> {
    let event = record.event();
    if event.kind() != Kind::Testjob {
        return Ok(());
    }
    let job = event.job().map_or("?", |job| job.as_str());
    let device = event.device().unwrap_or("-");
    let state = event.state().unwrap_or_default();
    let health = event.health().unwrap_or_default();
    writeln!(
        std::io::stdout(),
        "{} job {job} on {device}: {state} {health}",
        record.datetime
    )
}

fn text(position: Option<lavabus_protocol::Position>) -> String {
    position.map_or_else(|| "?".to_owned(), |position| position.to_string())
}

fn load(file: &Path) -> Result<Option<Cursor>, Box<dyn Error>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.trim().parse()?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// At once: a crash leaves the old cursor or the new one.
fn save(file: &Path, cursor: Cursor) -> std::io::Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{cursor}\n"))?;
    std::fs::rename(new, file)
}
