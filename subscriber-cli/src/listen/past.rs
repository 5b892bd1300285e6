//! The newest events before now, for `--last`.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lavabus_client::{Subscription, Update, cursor_at};
use lavabus_protocol::{Cursor, Position, Record};
use lavabus_store::Reader;
use lavabus_zmtp::Endpoint;

use super::Arguments;
use super::follow::connection_failure;
use super::selection::{Selection, sent};
use crate::bus::Bus;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// What a publisher gives to peers of other machines, unless it is configured otherwise (`--resume-window`).
const RESUME_WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// A publisher goes on 60 s before the time of an unknown UUID, which would be beyond that window.
const SLACK: SignedDuration = SignedDuration::from_secs(60);
/// Rows in one transaction of the database.
const PAGE: u64 = 5_000;
/// A publisher says every second how far it is.
const NO_HEAD: Duration = Duration::from_secs(10);

/// The newest so many events.
#[derive(Debug)]
pub(super) struct Last {
    count: usize,
    records: VecDeque<Record>,
}

impl Last {
    pub(super) fn new(count: u64) -> Last {
        Last {
            count: usize::try_from(count).unwrap_or(usize::MAX),
            records: VecDeque::new(),
        }
    }

    pub(super) fn push(&mut self, record: Record) {
        if self.records.len() == self.count {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    pub(super) fn into_records(self) -> Vec<Record> {
        self.records.into()
    }
}

/// A cursor as far back as this publisher gives events to us.
pub(super) fn beginning(endpoint: &Endpoint) -> Cursor {
    match endpoint.is_loopback_or_ipc() {
        true => cursor_at(Timestamp::UNIX_EPOCH),
        false => cursor_at(Timestamp::now() - RESUME_WINDOW + SLACK),
    }
}

/// The newest `count` events of all buses, oldest first. The subscriptions go on behind them.
pub(super) async fn last(
    count: u64,
    subscriptions: &mut [Subscription],
    arguments: &Arguments,
    selection: &Selection<'_>,
    context: &Context,
) -> Result<Vec<Record>, Failure> {
    let database = database(arguments, context)?;
    let is_labelled = context.buses.len() > 1;
    let mut found = Vec::new();
    for (bus, subscription) in context.buses.iter().zip(subscriptions) {
        let lab = is_labelled.then(|| bus.lab());
        let of_bus = match &database {
            Some(reader) => from_database(reader, subscription, bus, count, arguments, selection, context).await?,
            None => None,
        };
        let of_bus = match of_bus {
            Some(records) => records,
            None => from_publisher(subscription, bus, lab.as_deref(), count, selection, context).await?,
        };
        found.extend(of_bus);
    }
    if is_labelled {
        found.sort_by_key(sent);
    }
    let surplus = found.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
    found.drain(..surplus);
    Ok(found)
}

/// The journal that may be that of the only bus.
fn database(arguments: &Arguments, context: &Context) -> Result<Option<Reader>, Failure> {
    let [bus] = context.buses.as_slice() else {
        return Ok(None);
    };
    let path = match &arguments.db {
        Some(path) => path.clone(),
        None if !bus.endpoint.is_loopback_or_ipc() => return Ok(None),
        None => match lavabus_store::location::find_default() {
            Some(path) => path,
            None => return Ok(None),
        },
    };
    match Reader::open(&path) {
        Ok(reader) => Ok(Some(reader)),
        Err(error) if arguments.db.is_some() => Err(Failure::new(
            Exit::Database,
            format!("--db {} cannot be used", path.display()),
            error,
            "without --db the publisher itself is asked",
        )),
        Err(error) => {
            context.detail(format_args!("{} is not used: {error}", path.display()));
            Ok(None)
        }
    }
}

/// Reads the journal up to where the connection begins, if it is this publisher's: the epoch tells. `None` if not; the
/// subscription is then a new one.
async fn from_database(
    reader: &Reader,
    subscription: &mut Subscription,
    bus: &Bus,
    count: u64,
    arguments: &Arguments,
    selection: &Selection<'_>,
    context: &Context,
) -> Result<Option<Vec<Record>>, Failure> {
    // The events before are in the journal, so nothing of the past is asked for on this connection.
    let past = std::mem::replace(
        subscription,
        Subscription::new(bus.endpoint.clone(), super::options(arguments, None)),
    );
    let mut early = Vec::new();
    let begin = loop {
        match next(subscription, bus, context).await? {
            Step::Event(record, position) => early.push((record, position)),
            Step::Head {
                position: Some(position),
                ..
            } => break position,
            Step::Head { position: None, .. } | Step::Plain => {
                *subscription = past;
                return Ok(None);
            }
        }
    };
    let same = reader.epoch().is_ok_and(|epoch| epoch == begin.epoch);
    if !same {
        context.detail(format_args!("{} is not the journal of {bus}", reader.path().display()));
        *subscription = past;
        return Ok(None);
    }
    let mut records = newest(reader, begin, count, selection, context).map_err(|error| {
        let what = format!("cannot read {}", reader.path().display());
        Failure::new(
            Exit::Database,
            what,
            error,
            "--db PATH, or as the user who runs the publisher",
        )
    })?;
    let after = |position: Option<Position>| position.is_none_or(|position| position.seq > begin.seq);
    let early = early
        .into_iter()
        .filter(|(_, position)| after(*position))
        .map(|(record, _)| record);
    records.extend(early.filter(|record| selection.wants(record, context)));
    Ok(Some(records))
}

fn newest(
    reader: &Reader,
    upto: Position,
    count: u64,
    selection: &Selection<'_>,
    context: &Context,
) -> Result<Vec<Record>, lavabus_store::StoreError> {
    let wanted = usize::try_from(count).unwrap_or(usize::MAX);
    let mut records = Vec::new();
    let mut before = upto.seq + 1;
    while before > 1 && records.len() < wanted {
        let after = before.saturating_sub(PAGE + 1);
        reader.scan_back(before, after, |row| {
            let record = row.to_record(upto.epoch);
            if selection.wants(&record, context) && !selection.is_past_end(&record) {
                records.push(record);
            }
            match records.len() < wanted {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        before = after + 1;
    }
    records.reverse();
    Ok(records)
}

/// Keeps the newest events until the publisher has sent all up to the head that it first told.
async fn from_publisher(
    subscription: &mut Subscription,
    bus: &Bus,
    lab: Option<&str>,
    count: u64,
    selection: &Selection<'_>,
    context: &Context,
) -> Result<Vec<Record>, Failure> {
    let mut last = Last::new(count);
    let mut target = None;
    loop {
        match next(subscription, bus, context).await? {
            Step::Event(mut record, _) => {
                record.lab = lab.map(str::to_owned);
                if selection.wants(&record, context) && !selection.is_past_end(&record) {
                    last.push(record);
                }
            }
            Step::Head { head, position } => {
                let target: Position = *target.get_or_insert(head);
                let reached =
                    position.is_none_or(|position| position.epoch != target.epoch || position.seq >= target.seq);
                if reached {
                    return Ok(last.into_records());
                }
            }
            Step::Plain => {
                context.notice(format_args!(
                    "{bus} cannot go back: only what happens from now on is shown"
                ));
                return Ok(last.into_records());
            }
        }
    }
}

/// What matters here of what a subscription tells.
enum Step {
    Event(Record, Option<Position>),
    Head { head: Position, position: Option<Position> },
    Plain,
}

async fn next(subscription: &mut Subscription, bus: &Bus, context: &Context) -> Result<Step, Failure> {
    let mut is_connected = false;
    loop {
        let update = match is_connected {
            false => subscription.next().await,
            // Only a publisher that is no more what it was does not say how far it is.
            true => match tokio::time::timeout(NO_HEAD, subscription.next()).await {
                Ok(update) => update,
                Err(_) => return Ok(Step::Plain),
            },
        };
        match update.map_err(|error| connection_failure(bus, &error))? {
            Update::Event { record, position, .. } => return Ok(Step::Event(record, position)),
            Update::Head { head, position, .. } => return Ok(Step::Head { head, position }),
            Update::Connected { extended: false } => return Ok(Step::Plain),
            Update::Connected { extended: true } => is_connected = true,
            Update::Disconnected { cause } => {
                context.notice(format_args!("no connection to {bus}, trying again: {cause}"))
            }
            // That the past does not reach back to 1970 is no news.
            Update::Gap { .. }
            | Update::SnapshotBegin { .. }
            | Update::SnapshotEnd { .. }
            | Update::Unreadable { .. } => {}
        }
    }
}
