//! `lavabus query`: events that a database keeps, the newest N of those that match.
//!
//! It reads the database file. `--since` and `--until` go by the time at which events were received, which is the order
//! in which they are kept. Ends with 0, also when nothing matches, with 13 for a cursor that is not known, and with 30
//! when there is no database that can be read.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;

use jiff::Timestamp;
use lavabus_client::SecondPort;
use lavabus_protocol::{Cursor, Filter, Record};
use lavabus_store::Reader;
use lavabus_store::question::Selection as Wanted;

use crate::context::Context;
use crate::database;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::filter::FilterArguments;
use crate::format::{Format, Printer};
use crate::listen::{Selection, time};
use crate::question::cannot_read;
use crate::remote;

/// So much is gathered before it is written, in bytes.
const FULL: usize = 64 * 1024;

/// Print events that a database keeps: the newest that match, the oldest of them first
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Which events.
    #[command(flatten)]
    pub filter: FilterArguments,

    /// Received at this time or later: RFC 3339, "2h ago", -2h, yesterday, @EPOCH-SECONDS
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    pub since: Option<Timestamp>,

    /// Received before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    pub until: Option<Timestamp>,

    /// After the event with this cursor (UUID or EPOCH/NUMBER/UUID): the next page
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<Cursor>,

    /// Before the event with this cursor: the page before
    #[arg(long, value_name = "CURSOR")]
    pub before: Option<Cursor>,

    /// The newest N events; with --after the N that follow it. 0 is all
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,

    /// The newest first
    #[arg(long)]
    pub reverse: bool,

    /// Print only how many match; --limit does not count
    #[arg(long, conflicts_with_all = ["limit", "reverse"])]
    pub count_only: bool,

    /// The database; otherwise the one at the usual place
    #[arg(long, value_name = "PATH")]
    pub db: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what failed, the cause, and the next thing to try.
pub async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    if let Some(port) = remote::port(arguments.db.as_ref(), context)? {
        return ask_port(&arguments, context, &port).await;
    }
    let context = context.clone();
    database::ask(arguments.db.clone(), move |reader| answer(&arguments, &context, reader)).await
}

fn printer(context: &Context) -> Result<Printer, Failure> {
    Printer::new(context.format.as_ref().unwrap_or(&Format::Plain), context.color).map_err(|error| {
        Failure::new(
            Exit::Usage,
            "the template cannot be used",
            error,
            "`lavabus query -o json` shows what there is",
        )
    })
}

/// The same over HTTP.
async fn ask_port(arguments: &Arguments, context: &Context, port: &SecondPort) -> Result<Exit, Failure> {
    let order = Order::of(arguments);
    let selection = Selection::new(&arguments.filter, None, None)?;
    let mut output = Output::new(printer(context)?, context);
    let (mut kept, mut found) = (Vec::new(), 0);
    remote::select(port, arguments, order.newest_first, |record| {
        if selection.wants(&record, context) {
            found += 1;
            if order.is_turned {
                kept.push(record);
            } else if !arguments.count_only {
                output.print(&record)?;
            }
        }
        Ok(found < order.limit)
    })
    .await?;
    for record in kept.iter().rev() {
        output.print(record)?;
    }
    if arguments.count_only {
        output.gathered.extend(format!("{found}\n").into_bytes());
    }
    output.flush()?;
    Ok(Exit::Success)
}

/// In which order events are looked for.
struct Order {
    limit: usize,
    newest_first: bool,
    /// They are printed the other way round.
    is_turned: bool,
}

impl Order {
    fn of(arguments: &Arguments) -> Order {
        let is_page_after = arguments.after.is_some() && arguments.before.is_none();
        let all = arguments.limit == 0 || arguments.count_only;
        // The newest are found from the end, so where they are printed oldest first they have to be kept meanwhile.
        let newest_first = if all { arguments.reverse } else { !is_page_after };
        Order {
            limit: if all { usize::MAX } else { arguments.limit },
            newest_first,
            is_turned: !all && newest_first != arguments.reverse,
        }
    }
}

fn answer(arguments: &Arguments, context: &Context, reader: &Reader) -> Result<Exit, Failure> {
    let printer = printer(context)?;
    // The filter itself is the database's matter.
    let programs = FilterArguments {
        filter: Filter::default(),
        jq: arguments.filter.jq.clone(),
    };
    let programs = Selection::new(&programs, None, None)?;
    let (after, upto) = bounds(arguments, reader)?;
    let epoch = reader.epoch().map_err(cannot_read(reader))?;
    let Order {
        limit,
        newest_first,
        is_turned,
    } = Order::of(arguments);
    let mut output = Output::new(printer, context);
    let mut kept = Vec::new();
    let mut found = 0;
    let mut failed = None;
    let wanted = Wanted {
        filter: &arguments.filter.filter,
        after,
        upto,
        newest_first,
    };
    let selected = reader.select(wanted, |row| {
        let record = row.to_record(epoch);
        if !programs.wants(&record, context) {
            return ControlFlow::Continue(());
        }
        found += 1;
        if is_turned {
            kept.push(record);
        } else if !arguments.count_only
            && let Err(failure) = output.print(&record)
        {
            failed = Some(failure);
            return ControlFlow::Break(());
        }
        match found < limit {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    });
    selected.map_err(cannot_read(reader))?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    for record in kept.iter().rev() {
        output.print(record)?;
    }
    if arguments.count_only {
        output.gathered.extend(format!("{found}\n").into_bytes());
    }
    output.flush()?;
    Ok(Exit::Success)
}

/// Above which number and up to which number.
fn bounds(arguments: &Arguments, reader: &Reader) -> Result<(u64, u64), Failure> {
    let at = |time: Timestamp| {
        reader
            .seq_received_since(time.as_microsecond())
            .map_err(cannot_read(reader))
    };
    let of = |cursor: &Cursor| {
        let found = reader.by_id(&cursor.uuid).map_err(cannot_read(reader))?;
        found.ok_or_else(|| {
            Failure::new(
                Exit::NoSuchObject,
                format!("there is no event with the cursor {cursor}"),
                format!("{} does not keep it, or never had it", reader.path().display()),
                "--since TIME, or the cursor of an event of this database (-o json)",
            )
        })
    };
    let mut after = 0;
    let mut upto = u64::MAX;
    if let Some(since) = arguments.since {
        after = at(since)? - 1;
    }
    if let Some(until) = arguments.until {
        upto = at(until)? - 1;
    }
    if let Some(cursor) = &arguments.after {
        after = after.max(of(cursor)?);
    }
    if let Some(cursor) = &arguments.before {
        upto = upto.min(of(cursor)? - 1);
    }
    Ok((after, upto))
}

struct Output<'c> {
    printer: Printer,
    gathered: Vec<u8>,
    context: &'c Context,
    is_failure_told: bool,
}

impl Output<'_> {
    fn new(printer: Printer, context: &Context) -> Output<'_> {
        Output {
            printer,
            gathered: Vec::new(),
            context,
            is_failure_told: false,
        }
    }

    fn print(&mut self, record: &Record) -> Result<(), Failure> {
        if let Err(error) = self.printer.write(record, &mut self.gathered)
            && !std::mem::replace(&mut self.is_failure_told, true)
        {
            self.context.notice(format_args!(
                "the template fails on event {}, which is passed over (said once): {error}",
                record.uuid
            ));
        }
        match self.gathered.len() >= FULL {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(&self.gathered).and_then(|()| out.flush());
        self.gathered.clear();
        written.map_err(|error| Failure::output(&error))
    }
}
