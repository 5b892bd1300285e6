//! Events of another time or place, taken into a database.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use lavabus_protocol::Record;
use lavabus_protocol::event::read_datetime;
use lavabus_store::{Appended, EventRow, Journal, NewEvent, Reader, StoreError, reactobus};

use super::{cannot_write, open_or_make, path_for_writing, project_all};
use crate::context::Context;
use crate::database;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lines::numbered;
use crate::question::cannot_read;
use crate::record::file::received_us;

/// Events that are committed together.
const GROUP: usize = 2_000;
/// What a SQLite database begins with.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// From where.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// JSON lines as `listen -o json` and `db export` write them, a database of ours, or ReactOBus's; '-': standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// The lab that they came from, where they do not say it themselves
    #[arg(long, value_name = "LAB")]
    pub lab: Option<String>,

    /// The file has every event of the lab between its first and its last: known gaps that lie in between are filled
    #[arg(long)]
    pub complete: bool,
}

/// Writes events in groups, and counts what became of them.
struct Import {
    journal: Journal,
    path: PathBuf,
    lab: String,
    waiting: Vec<(Record, Option<i64>)>,
    new: u64,
    repeats: u64,
    refused: u64,
    /// When the first and the last of each lab happened.
    spans: BTreeMap<String, (i64, i64)>,
}

pub(super) fn import(db: Option<PathBuf>, arguments: &Arguments, context: &Context) -> Result<Exit, Failure> {
    let path = path_for_writing(db)?;
    // Before a database is made for nothing.
    let source = Source::open(&arguments.file)?;
    let mut import = Import {
        journal: open_or_make(&path)?,
        path,
        lab: arguments.lab.clone().unwrap_or_default(),
        waiting: Vec::with_capacity(GROUP),
        new: 0,
        repeats: 0,
        refused: 0,
        spans: BTreeMap::new(),
    };
    source.read(&mut import, context)?;
    import.commit(context)?;
    let mut filled = 0;
    for (lab, (from_us, to_us)) in import.spans.iter().filter(|_| arguments.complete) {
        let now = import.journal.fill_gaps(lab, *from_us, *to_us, now_us());
        filled += now.map_err(|error| cannot_write(&import.path, &error))?;
    }
    project_all(&mut import.journal).map_err(|error| import.failed(&error))?;
    let Import {
        journal,
        path,
        new,
        repeats,
        refused,
        ..
    } = import;
    journal.close().map_err(|error| cannot_write(&path, &error))?;
    context.notice(format_args!(
        "{new} events taken in, {repeats} were there already, {refused} passed over{}",
        if filled > 0 {
            format!(", {filled} gaps filled")
        } else {
            String::new()
        }
    ));
    Ok(Exit::Success)
}

/// What kind of file it is.
enum Source {
    Lines(Box<dyn BufRead>, String),
    Own(PathBuf),
    ReactoBus(PathBuf),
}

impl Source {
    fn open(file: &Path) -> Result<Source, Failure> {
        if file == Path::new("-") {
            return Ok(Source::Lines(Box::new(io::stdin().lock()), "standard input".to_owned()));
        }
        let name = file.display().to_string();
        let unreadable = |error: io::Error| {
            let what = format!("cannot read {name}");
            Failure::new(Exit::Usage, what, error, "a file that you may read")
        };
        let mut input = BufReader::new(File::open(file).map_err(unreadable)?);
        if !input.fill_buf().map_err(unreadable)?.starts_with(SQLITE) {
            return Ok(Source::Lines(Box::new(input), name));
        }
        match reactobus::is_reactobus(file) {
            Ok(true) => Ok(Source::ReactoBus(file.to_owned())),
            Ok(false) => Ok(Source::Own(file.to_owned())),
            Err(error) => Err(database::cannot_read(file, &error)),
        }
    }

    fn read(self, import: &mut Import, context: &Context) -> Result<(), Failure> {
        match self {
            Source::Lines(input, name) => lines(input, &name, import, context),
            Source::Own(file) => own(&file, import, context),
            Source::ReactoBus(file) => messages(&file, import, context),
        }
    }
}

fn lines(input: impl BufRead, name: &str, import: &mut Import, context: &Context) -> Result<(), Failure> {
    for line in numbered(input) {
        let line = line.map_err(|error| {
            Failure::new(
                Exit::Usage,
                format!("cannot read {name}"),
                error,
                "the file from its beginning again",
            )
        })?;
        match line.record() {
            Ok((record, text)) => {
                let received_us = received_us(text, &record, jiff::Timestamp::now());
                import.take(record, Some(received_us), context)?;
            }
            Err(error) => import.pass_over(format_args!("line {} of {name}", line.number), &error, context),
        }
    }
    Ok(())
}

fn messages(file: &Path, import: &mut Import, context: &Context) -> Result<(), Failure> {
    let mut failed = Ok(());
    let read = reactobus::messages(file, |number, record| {
        match record {
            Ok(record) => failed = import.take(record, None, context),
            Err(refusal) => import.pass_over(
                format_args!("message {number} of {}", file.display()),
                &refusal,
                context,
            ),
        }
        if failed.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    failed?;
    read.map_err(|error| database::cannot_read(file, &error))
}

fn own(file: &Path, import: &mut Import, context: &Context) -> Result<(), Failure> {
    let reader: Reader = database::open(Some(file.to_owned()))?;
    let epoch = reader.epoch().map_err(cannot_read(&reader))?;
    let head = reader.head().map_err(cannot_read(&reader))?;
    let mut failed = Ok(());
    let mut visit = |row: EventRow<'_>| {
        failed = import.take(row.to_record(epoch), Some(row.received_us), context);
        if failed.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    // A few at a time, so that the log of its writer does not grow meanwhile.
    let mut after = 0;
    while after < head {
        let upto = (after + GROUP as u64).min(head);
        reader.scan(after, upto, &mut visit).map_err(cannot_read(&reader))?;
        after = upto;
    }
    failed
}

impl Import {
    fn failed(&self, error: &StoreError) -> Failure {
        cannot_write(&self.path, error)
    }

    fn pass_over(&mut self, place: std::fmt::Arguments<'_>, cause: &dyn std::fmt::Display, context: &Context) {
        self.refused += 1;
        context.notice(format_args!("{place} is passed over: {cause}"));
    }

    fn take(&mut self, record: Record, received_us: Option<i64>, context: &Context) -> Result<(), Failure> {
        let sent = read_datetime(&record.datetime).or_else(|| record.uuid.time());
        let at_us = sent.map(|sent| sent.as_microsecond());
        if let Some(at_us) = at_us {
            let lab = record.lab.as_ref().unwrap_or(&self.lab).clone();
            let span = self.spans.entry(lab).or_insert((at_us, at_us));
            *span = (span.0.min(at_us), span.1.max(at_us));
        }
        // Who does not say when it was received, was there when it was sent.
        self.waiting.push((record, received_us.or(at_us)));
        if self.waiting.len() >= GROUP {
            self.commit(context)?;
        }
        Ok(())
    }

    fn commit(&mut self, context: &Context) -> Result<(), Failure> {
        let now_us = now_us();
        let mut append = || -> Result<Vec<Appended>, StoreError> {
            let mut group = self.journal.group()?;
            let mut appended = Vec::with_capacity(self.waiting.len());
            for (record, received_us) in &self.waiting {
                appended.push(group.append(&NewEvent {
                    id: &record.uuid,
                    received_us: received_us.unwrap_or(now_us).min(now_us),
                    topic: &record.topic,
                    sent: &record.datetime,
                    user: &record.username,
                    data: &record.data,
                    lab: record.lab.as_deref().unwrap_or(&self.lab),
                })?);
            }
            group.commit()?;
            Ok(appended)
        };
        let appended = append().map_err(|error| cannot_write(&self.path, &error))?;
        let waiting = std::mem::take(&mut self.waiting);
        for (appended, (record, _)) in appended.into_iter().zip(waiting) {
            match appended {
                Appended::New(_) => self.new += 1,
                Appended::Repeat(_) => self.repeats += 1,
                Appended::Conflict(seq) => self.pass_over(
                    format_args!("the event {}", record.uuid),
                    &format!("event {seq} has the same UUID and other content"),
                    context,
                ),
            }
        }
        Ok(())
    }
}

fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
