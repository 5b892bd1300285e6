//! The streams of all buses, read in tasks of their own, in batches.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lavabus_client::{SubscriptionError, Update, cursor_at};
use lavabus_protocol::{Cursor, EventId};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;

use super::Arguments;
use super::conversation::Conversation;
use super::database::KnownLab;
use super::entry::{self, Batch};
use super::report::Report;
use crate::bus::Bus;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::listen::{Selection, connection_failure};
use crate::outlet::{Outlet, Stream, Wanted};

/// A batch holds no more updates than these, and about so many bytes.
const UPDATES: usize = 500;
const BYTES: usize = 256 * 1024;
/// So many batches wait; then the publisher is read no further.
const AHEAD: usize = 4;
/// Waiting longer than this for the disk is a stall.
const STALL: Duration = Duration::from_secs(2);

/// Everything that is kept: a UUID that no event has, and that has no time.
const BEGINNING: Cursor = Cursor {
    position: None,
    uuid: EventId::NIL,
};

/// What a bus told, by its place among the buses.
type Told = (usize, Result<Vec<Update>, SubscriptionError>);

/// The names of the labs in the database: empty for a single bus without a name.
pub(super) fn labels(buses: &[Bus]) -> Result<Vec<String>, Failure> {
    if let [Bus { name: None, .. }] = buses {
        return Ok(vec![String::new()]);
    }
    let names: Vec<String> = buses.iter().map(Bus::lab).collect();
    let twice = (1..names.len()).find(|&at| names[..at].contains(&names[at]));
    match twice {
        Some(at) => Err(Failure::new(
            Exit::Usage,
            "--bus names a lab twice",
            format!("two are called {}", names[at]),
            "--bus NAME=ENDPOINT with another name for each",
        )),
        None => Ok(names),
    }
}

/// Hands on what the buses tell until the writer has enough.
pub(super) async fn follow(
    arguments: &Arguments,
    labs: &[KnownLab],
    batches: &Sender<Batch>,
    report: &Report,
    context: &Context,
) -> Result<(), Failure> {
    // On a recording that goes on, the time of its beginning says nothing any more.
    let begins: Vec<bool> = labs.iter().map(|lab| lab.cursor.is_none()).collect();
    let from_beginning = Selection::new(&arguments.filter, arguments.since, None)?;
    let going_on = Selection::new(&arguments.filter, None, None)?;
    let is_unfiltered = arguments.filter.filter.is_empty() && arguments.filter.jq.is_empty();
    let mut conversations: Vec<Conversation> = Vec::new();
    for (index, (bus, lab)) in context.buses.iter().zip(labs).enumerate() {
        let outlet = Outlet::of(bus, context, &[])?;
        conversations.push(Conversation::new(outlet, index, lab, is_unfiltered));
    }
    let mut streams = Streams::new();
    for (index, conversation) in conversations.iter().enumerate() {
        streams.add(index, conversation, arguments, arguments.connect_timeout);
    }
    let mut entries = Batch::new();
    let result = tokio::select! {
        () = report.keep_up() => Ok(()),
        // It has enough, or cannot go on.
        () = batches.closed() => Ok(()),
        result = async {
            while let Some((index, told)) = streams.told.recv().await {
                let now_us = Timestamp::now().as_microsecond();
                match told {
                    Ok(updates) => {
                        let selection = if begins[index] { &from_beginning } else { &going_on };
                        for update in updates {
                            let wants = |record: &_| selection.wants(record, context);
                            conversations[index].take(update, now_us, wants, report, &mut entries);
                        }
                    }
                    Err(error) => {
                        let is_alone = !conversations.iter().any(|conversation| conversation.is_connected);
                        let conversation = &mut conversations[index];
                        conversation.is_connected = false;
                        let failure = connection_failure(conversation.outlet.bus(), &error);
                        if is_alone || !is_outage(&error) {
                            return Err(failure);
                        }
                        report.notice(format_args!("{} is tried again; the others are recorded: {error}", conversation.outlet));
                        streams.add(index, conversation, arguments, arguments.max_outage);
                    }
                }
                let behind = conversations.iter().map(|conversation| conversation.behind).sum();
                report.counts().behind.store(behind, Ordering::Relaxed);
                send(&mut entries, &mut conversations, batches, report).await;
            }
            Ok(())
        } => result,
    };
    let now_us = Timestamp::now().as_microsecond();
    for conversation in &mut conversations {
        conversation.end(now_us, &mut entries);
    }
    if !entries.is_empty() {
        // There is nobody to tell when the writer is gone.
        let _ = batches.send(entries).await;
    }
    result
}

async fn send(entries: &mut Batch, conversations: &mut [Conversation], batches: &Sender<Batch>, report: &Report) {
    if entries.is_empty() {
        return;
    }
    let (began, from_us) = (Instant::now(), Timestamp::now().as_microsecond());
    let _ = batches.send(std::mem::take(entries)).await;
    if began.elapsed() >= STALL {
        let to_us = Timestamp::now().as_microsecond();
        for conversation in conversations {
            conversation.on_stall(from_us, to_us, report, entries);
        }
    }
}

fn is_outage(error: &SubscriptionError) -> bool {
    matches!(
        error,
        SubscriptionError::NoConnection { .. } | SubscriptionError::OutageTooLong { .. }
    )
}

/// A task for each bus. They end with this.
struct Streams {
    tasks: JoinSet<()>,
    sender: Sender<Told>,
    told: Receiver<Told>,
}

impl Streams {
    fn new() -> Streams {
        let (sender, told) = channel(AHEAD);
        Streams {
            tasks: JoinSet::new(),
            sender,
            told,
        }
    }

    fn add(&mut self, index: usize, conversation: &Conversation, arguments: &Arguments, connect_timeout: Duration) {
        let after = conversation.cursor.unwrap_or(match arguments.since {
            Some(since) => cursor_at(since),
            None => BEGINNING,
        });
        let wanted = Wanted {
            filter: arguments.filter.filter.clone(),
            after: Some(after),
            snapshots: Vec::new(),
            connect_timeout,
            max_outage: arguments.max_outage,
        };
        let stream = conversation.outlet.open(wanted);
        self.tasks.spawn(read(index, stream, self.sender.clone()));
    }
}

/// Gathers what is there.
async fn read(index: usize, mut stream: Stream, told: Sender<Told>) {
    loop {
        let mut updates = Vec::new();
        let mut bytes = 0;
        let mut next = stream.next().await;
        let end = loop {
            match next {
                Ok(update) => {
                    if let Update::Event { record, .. } = &update {
                        bytes += entry::bytes(record);
                    }
                    updates.push(update);
                }
                Err(error) => break Some(error),
            }
            if updates.len() >= UPDATES || bytes >= BYTES {
                break None;
            }
            next = tokio::select! {
                biased;
                next = stream.next() => next,
                () = std::future::ready(()) => break None,
            };
        };
        if told.send((index, Ok(updates))).await.is_err() {
            return;
        }
        if let Some(error) = end {
            let _ = told.send((index, Err(error))).await;
            return;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_has_a_name_where_there_is_more_than_one_or_it_was_given_one() {
        let names = |buses: &[&str]| {
            let buses: Vec<Bus> = buses.iter().map(|bus| bus.parse().unwrap()).collect();
            labels(&buses).map_err(|failure| failure.exit())
        };
        assert_eq!(names(&["tcp://a:1"]), Ok(vec![String::new()]));
        assert_eq!(names(&["x=tcp://a:1"]), Ok(vec!["x".to_owned()]));
        assert_eq!(
            names(&["x=tcp://a:1", "tcp://b:1"]),
            Ok(vec!["x".to_owned(), "tcp://b:1".to_owned()])
        );
        assert_eq!(names(&["x=tcp://a:1", "x=tcp://b:1"]), Err(Exit::Usage));
    }
}
