//! The streams of all buses, as they come.

use jiff::Timestamp;
use lavabus_client::{SubscriptionError, Update};
use lavabus_protocol::{GapReason, Position};
use tokio::sync::mpsc::{Receiver, channel, error::TryRecvError};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Arguments;
use super::delivery::Delivery;
use super::selection::Selection;
use crate::bus::{Address, Bus};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::outlet::Stream;

/// So many updates wait for a slow output; then the publisher is read no further.
const AHEAD: usize = 1024;

/// What a bus told, by its place among the buses.
type Told = (usize, Result<Update, SubscriptionError>);

/// What is known of one bus.
struct Lab<'a> {
    bus: &'a Bus,
    /// Its name in events, if there are several.
    label: Option<String>,
    /// Its name in the cursor file.
    key: String,
    is_extended: bool,
    is_connected: bool,
    /// It was connected before.
    is_known: bool,
    /// Its past was asked for by a cursor that nobody knows.
    expects_unknown: bool,
    /// All before `--until` was told.
    is_done: bool,
}

/// Prints events until one of the ends that the arguments name.
pub(super) async fn follow(
    streams: Vec<Stream>,
    arguments: &Arguments,
    selection: &Selection<'_>,
    delivery: &mut Delivery,
    context: &Context,
) -> Result<Exit, Failure> {
    let is_labelled = context.buses.len() > 1;
    let mut labs: Vec<Lab<'_>> = context
        .buses
        .iter()
        .map(|bus| Lab {
            bus,
            label: is_labelled.then(|| bus.lab()),
            key: if is_labelled { bus.lab() } else { String::new() },
            is_extended: false,
            is_connected: false,
            is_known: false,
            expects_unknown: arguments.since.is_some() || arguments.last.is_some(),
            is_done: false,
        })
        .collect();
    let until = arguments.until.map(|until| {
        let left = std::time::Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
        Instant::now() + left
    });
    let (_tasks, mut told) = spawn(streams);
    loop {
        if until.is_some_and(|until| until <= Instant::now()) {
            for lab in labs.iter_mut().filter(|lab| lab.is_connected && !lab.is_extended) {
                // A plain publisher does not say how far it is: what has come has come.
                lab.is_done = true;
            }
        }
        if labs.iter().all(|lab| lab.is_done) {
            return Ok(Exit::Success);
        }
        if delivery.due().is_some_and(|due| due <= Instant::now()) {
            delivery.save()?;
        }
        let (index, update) = match told.try_recv() {
            Ok(told) => told,
            Err(TryRecvError::Disconnected) => return Ok(Exit::Success),
            Err(TryRecvError::Empty) => {
                delivery.flush()?;
                let pending_until = until.filter(|until| *until > Instant::now());
                tokio::select! {
                    Some(told) = told.recv() => told,
                    () = sleep_until(delivery.due()) => continue,
                    () = sleep_until(pending_until) => continue,
                    else => return Ok(Exit::Success),
                }
            }
        };
        let Some(lab) = labs.get_mut(index) else { continue };
        let update = update.map_err(|error| connection_failure(lab.bus, &error))?;
        if lab.take(update, arguments, selection, delivery, context)? {
            return Ok(Exit::Success);
        }
    }
}

/// A task for each subscription, so that heartbeats are answered while the output is slow. They end with the set.
fn spawn(streams: Vec<Stream>) -> (JoinSet<()>, Receiver<Told>) {
    let (sender, told) = channel(AHEAD);
    let mut tasks = JoinSet::new();
    for (index, mut stream) in streams.into_iter().enumerate() {
        let sender = sender.clone();
        tasks.spawn(async move {
            loop {
                let update = stream.next().await;
                let is_end = update.is_err();
                if sender.send((index, update)).await.is_err() || is_end {
                    return;
                }
            }
        });
    }
    (tasks, told)
}

impl Lab<'_> {
    /// Takes what the bus told; whether enough was printed.
    fn take(
        &mut self,
        update: Update,
        arguments: &Arguments,
        selection: &Selection<'_>,
        delivery: &mut Delivery,
        context: &Context,
    ) -> Result<bool, Failure> {
        let bus = self.bus;
        match update {
            Update::Event { mut record, .. } => {
                self.expects_unknown = false;
                if self.is_done || selection.is_past_end(&record) {
                    self.is_done = true;
                    return Ok(false);
                }
                record.lab.clone_from(&self.label);
                let is_enough = selection.wants(&record, context) && delivery.print(&record, context)?;
                if let Some(cursor) = record.cursor {
                    delivery.pass(&self.key, cursor);
                }
                return Ok(is_enough);
            }
            Update::Head { head, position, .. } => {
                if let Some(position) = position {
                    delivery.reach(&self.key, position);
                }
                let is_complete = position.is_none_or(|position| position.seq >= head.seq);
                if is_complete && arguments.until.is_some_and(|until| until <= Timestamp::now()) {
                    self.is_done = true;
                }
            }
            Update::Gap { from, to, reason } => {
                if self.expects_unknown && reason == GapReason::UnknownCursor {
                    return Ok(false);
                }
                let text = gap_text(from, to, &reason);
                if arguments.strict {
                    delivery.flush()?;
                    let what = format!("events of {bus} are missing");
                    return Err(Failure::new(Exit::Gap, what, text, "without --strict it goes on"));
                }
                context.notice(format_args!("gap: events of {bus} are missing: {text}"));
            }
            Update::Connected { extended } => {
                (self.is_connected, self.is_extended) = (true, extended);
                if self.is_known {
                    context.notice(format_args!("connected to {bus} again"));
                } else {
                    context.detail(format_args!("connected to {bus}"));
                    let from_past =
                        arguments.since.is_some() || arguments.after.is_some() || arguments.cursor_file.is_some();
                    if !extended && from_past {
                        context.notice(format_args!(
                            "{bus} cannot go back: only what happens from now on is shown"
                        ));
                    }
                }
                self.is_known = true;
            }
            Update::Disconnected { cause } => {
                self.is_connected = false;
                context.notice(format_args!("no connection to {bus}, trying again: {cause}"));
            }
            Update::Unreadable { cause } => {
                context.notice(format_args!(
                    "a message of {bus} is no event and is passed over: {cause}"
                ));
            }
            Update::SnapshotBegin { .. } | Update::SnapshotEnd { .. } => {}
        }
        Ok(false)
    }
}

pub(crate) fn gap_text(from: Option<Position>, to: Option<Position>, reason: &GapReason) -> String {
    let why = match reason {
        GapReason::UnknownCursor => "the cursor's event is not known there",
        GapReason::Expired => "they are no longer kept",
        GapReason::NotPermitted => "they are older than this machine may ask for",
        GapReason::RingOverrun => "this program was too slow, and there is no journal",
        GapReason::NotRecorded => "the publisher could not record them",
        GapReason::Damaged => "they were lost with a damaged database",
        GapReason::NoJournal => "the publisher keeps no journal",
        GapReason::Busy => "the publisher has too much to read; try again",
        GapReason::Other(reason) if reason == "plain_publisher" => "perhaps: it cannot resume after an outage",
        GapReason::Other(_) => "the publisher says why",
    };
    match (from, to) {
        (None, None) => format!("{why} ({reason})"),
        (None, Some(to)) => format!("up to {to}: {why} ({reason})"),
        (Some(from), None) => format!("from {from}: {why} ({reason})"),
        (Some(from), Some(to)) => format!("{from} to {to}: {why} ({reason})"),
    }
}

/// Why a subscription ended, in three lines.
pub(crate) fn connection_failure(bus: &Bus, error: &SubscriptionError) -> Failure {
    match error {
        SubscriptionError::NoConnection { within, cause, .. } => Failure::new(
            Exit::NoConnection,
            format!("no connection to {bus} within {within:?}"),
            cause,
            match bus.http_beside() {
                Some(url) => format!("--bus {url} if only its HTTP port is open, or `lavabus status` on that machine"),
                None => "`lavabus status` on that machine, or another --bus ADDRESS".to_owned(),
            },
        ),
        SubscriptionError::OutageTooLong { outage, cause, .. } => Failure::new(
            Exit::NoConnection,
            format!("no connection to {bus} for {outage:?}"),
            cause,
            "a longer --max-outage, or see why the publisher is gone",
        ),
        SubscriptionError::Refused { reason, .. } => Failure::new(
            Exit::CredentialsRefused,
            format!("{bus} refused the connection"),
            reason,
            match &bus.address {
                Address::ZeroMq(_) => "ask whoever runs it",
                _ => "LAVABUS_TOKEN_FILE with a token that is good there, or -i with the identity whose token is",
            },
        ),
        SubscriptionError::Certificate { cause, .. } => certificate_failure(bus, cause),
        SubscriptionError::Protocol { cause, .. } => Failure::new(
            Exit::NoConnection,
            format!("{bus} is no publisher"),
            cause,
            match &bus.address {
                Address::ZeroMq(_) => {
                    "its publish endpoint (5500 by default), not the one of its intake or its web pages"
                }
                Address::Http(_) => {
                    "the address of lava-publisher's --http port (8001 by default), and the path before its api/"
                }
                Address::WebSocket(_) => "the address of LAVA's /ws/, or of lava-publisher's --http port",
            },
        ),
        SubscriptionError::Ended => Failure::new(
            Exit::Internal,
            format!("the subscription to {bus} has ended"),
            error,
            "again",
        ),
    }
}

/// What to say of a certificate that TLS refused.
pub(crate) fn certificate_failure(of: impl std::fmt::Display, cause: impl std::fmt::Display) -> Failure {
    Failure::new(
        Exit::NoConnection,
        format!("the certificate of {of} is not trusted here"),
        cause,
        "its authority among the system's certificates (or SSL_CERT_FILE), or -i with an identity that has verify_ssl_cert: false",
    )
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
