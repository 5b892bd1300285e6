//! The newest events before now, for `--last`.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lavabus_client::{PortError, SecondPort, Update, cursor_at, filter_query};
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
use crate::outlet::{Outlet, Stream, port_failure};

/// What a publisher gives to peers of other machines, unless it is configured otherwise (`--resume-window`).
const RESUME_WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// A publisher goes on 60 s before the time of an unknown UUID, which would be beyond that window.
const SLACK: SignedDuration = SignedDuration::from_secs(60);
/// Events of one page over HTTP.
const LARGEST_PAGE: usize = 1000;
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
pub(super) fn beginning(bus: &Bus) -> Cursor {
    match bus.endpoint() {
        Some(endpoint) if endpoint.is_loopback_or_ipc() => cursor_at(Timestamp::UNIX_EPOCH),
        _ => cursor_at(Timestamp::now() - RESUME_WINDOW + SLACK),
    }
}

/// The newest `count` events of all buses, oldest first. The subscriptions go on behind them.
pub(super) async fn last(
    count: u64,
    outlets: &[Outlet],
    streams: &mut [Stream],
    arguments: &Arguments,
    selection: &Selection<'_>,
    context: &Context,
) -> Result<Vec<Record>, Failure> {
    let database = database(arguments, context)?;
    let is_labelled = context.buses.len() > 1;
    let mut found = Vec::new();
    for (outlet, stream) in outlets.iter().zip(streams) {
        let bus = outlet.bus();
        let lab = is_labelled.then(|| bus.lab());
        let of_bus = match (&database, outlet.second_port()) {
            (_, Some(port)) => {
                from_port(
                    port,
                    stream,
                    outlet,
                    lab.as_deref(),
                    count,
                    arguments,
                    selection,
                    context,
                )
                .await?
            }
            (Some(reader), None) => from_database(reader, stream, outlet, count, arguments, selection, context).await?,
            (None, None) => None,
        };
        let of_bus = match of_bus {
            Some(records) => records,
            None => from_publisher(stream, bus, lab.as_deref(), count, selection, context).await?,
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
        None if !bus.endpoint().is_some_and(Endpoint::is_loopback_or_ipc) => return Ok(None),
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

/// Asks the port for the newest events up to where the stream begins. `None` if it has no journal; the stream is then a new
/// one.
#[allow(clippy::too_many_arguments)]
async fn from_port(
    port: &SecondPort,
    stream: &mut Stream,
    outlet: &Outlet,
    lab: Option<&str>,
    count: u64,
    arguments: &Arguments,
    selection: &Selection<'_>,
    context: &Context,
) -> Result<Option<Vec<Record>>, Failure> {
    let bus = outlet.bus();
    let past = std::mem::replace(stream, outlet.open(super::wanted(arguments, None)));
    let mut early = Vec::new();
    let begin = loop {
        match next(stream, bus, context).await? {
            Step::Event(record, _) => early.push(record),
            Step::Head { head, .. } => break Some(head),
            Step::Plain => {
                context.notice(format_args!(
                    "{bus} cannot go back: only what happens from now on is shown"
                ));
                break None;
            }
        }
    };
    let is_after =
        |position: Position| begin.is_none_or(|begin| position.epoch != begin.epoch || position.seq > begin.seq);
    let wanted = usize::try_from(count).unwrap_or(usize::MAX);
    let mut query = filter_query(&arguments.filter.filter);
    query.push(("reverse".to_owned(), "true".to_owned()));
    query.push(("limit".to_owned(), wanted.min(LARGEST_PAGE).to_string()));
    let (mut records, mut before) = (Vec::new(), None::<Cursor>);
    while begin.is_some() && records.len() < wanted {
        let mut query = query.clone();
        query.extend(before.map(|before| ("after".to_owned(), before.to_string())));
        let page = match port.events(&query).await {
            Err(PortError::NotFound { .. }) if before.is_none() => {
                *stream = past;
                return Ok(None);
            }
            page => page.map_err(|error| port_failure(port, &error))?,
        };
        let events = page.events.into_iter().map(|mut record| {
            record.lab = lab.map(str::to_owned);
            record
        });
        let is_wanted = |record: &Record| {
            let position = record.cursor.and_then(|cursor| cursor.position);
            !position.is_some_and(is_after) && selection.wants(record, context) && !selection.is_past_end(record)
        };
        records.extend(events.filter(is_wanted));
        match page.next {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    records.truncate(wanted);
    records.reverse();
    records.extend(early.into_iter().filter(|record| selection.wants(record, context)));
    Ok(Some(records))
}

/// Reads the journal up to where the connection begins, if it is this publisher's: the epoch tells. `None` if not; the
/// subscription is then a new one.
async fn from_database(
    reader: &Reader,
    stream: &mut Stream,
    outlet: &Outlet,
    count: u64,
    arguments: &Arguments,
    selection: &Selection<'_>,
    context: &Context,
) -> Result<Option<Vec<Record>>, Failure> {
    // The events before are in the journal, so nothing of the past is asked for on this connection.
    let past = std::mem::replace(stream, outlet.open(super::wanted(arguments, None)));
    let bus = outlet.bus();
    let mut early = Vec::new();
    let begin = loop {
        match next(stream, bus, context).await? {
            Step::Event(record, position) => early.push((record, position)),
            Step::Head {
                position: Some(position),
                ..
            } => break position,
            Step::Head { position: None, .. } | Step::Plain => {
                *stream = past;
                return Ok(None);
            }
        }
    };
    let same = reader.epoch().is_ok_and(|epoch| epoch == begin.epoch);
    if !same {
        context.detail(format_args!("{} is not the journal of {bus}", reader.path().display()));
        *stream = past;
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
    stream: &mut Stream,
    bus: &Bus,
    lab: Option<&str>,
    count: u64,
    selection: &Selection<'_>,
    context: &Context,
) -> Result<Vec<Record>, Failure> {
    let mut last = Last::new(count);
    let mut target = None;
    loop {
        match next(stream, bus, context).await? {
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

async fn next(stream: &mut Stream, bus: &Bus, context: &Context) -> Result<Step, Failure> {
    let mut is_connected = false;
    loop {
        let update = match is_connected {
            false => stream.next().await,
            // Only a publisher that is no more what it was does not say how far it is.
            true => match tokio::time::timeout(NO_HEAD, stream.next()).await {
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
