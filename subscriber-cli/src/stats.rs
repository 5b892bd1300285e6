//! `lavabus stats`: how much, how well and how fast.
//!
//! It reads the database file. Ends with 0, and with 30 when there is no database that can be read. What the figures
//! mean is in `docs/questions.md`.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use lavabus_store::Reader;
use lavabus_store::question::stats::{Figures, MOST_JOBS, MOST_STAGES, PERCENTS, Scope, Spread, Stats};

use crate::context::Context;
use crate::database;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::Format;
use crate::listen::time;
use crate::question::cannot_read;
use crate::status::print;
use crate::table::{Cell, Table};

/// Show how much, how well and how fast: events, jobs and services of the last 24 hours
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// From this time on: events by their receipt, jobs by their end; otherwise the last 24 hours
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    pub since: Option<Timestamp>,

    /// To this time; otherwise to now
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    pub until: Option<Timestamp>,

    /// Only of this device
    #[arg(long, value_name = "NAME", conflicts_with = "device_type")]
    pub device: Option<String>,

    /// Only of this type of devices
    #[arg(long, value_name = "NAME")]
    pub device_type: Option<String>,

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
    let until = arguments.until.unwrap_or_else(Timestamp::now);
    let since = arguments.since.unwrap_or(until - SignedDuration::from_hours(24));
    if since >= until {
        return Err(Failure::new(
            Exit::Usage,
            "there is no time to tell of",
            format!("--since {since} is not before --until {until}"),
            "--since -24h",
        ));
    }
    let scope = Scope {
        since_us: since.as_microsecond(),
        until_us: until.as_microsecond(),
        device: arguments.device,
        device_type: arguments.device_type,
    };
    let ask = move |reader: &Reader| reader.stats(&scope).map_err(cannot_read(reader));
    let stats = database::ask(arguments.db, ask).await?;
    for notice in notices(&stats) {
        context.notice(notice);
    }
    match &context.format {
        None | Some(Format::Plain) => {
            let mut text = format!("{since:.0} to {until:.0}\n");
            for table in for_people(&stats) {
                text += &format!("\n{}", table.to_plain(context.color));
            }
            print(&text)?;
        }
        _ => for_programs(&stats).print(context, "stats")?,
    }
    Ok(Exit::Success)
}

fn notices(stats: &Stats) -> Vec<String> {
    let mut notices = Vec::new();
    if stats.left_out > 0 {
        notices.push(format!(
            "the newest {} events are not taken in yet; again in a moment",
            stats.left_out
        ));
    }
    if stats.jobs_cut {
        notices.push(format!("the figures of jobs are of the newest {MOST_JOBS} at most"));
    }
    if stats.stages_cut {
        notices.push(format!(
            "the figures of services are of the newest {MOST_STAGES} stage events"
        ));
    }
    notices
}

/// All columns of `-o json` and `-o csv`. They stay; more may follow at the end.
const COLUMNS: &[&str] = &[
    "what",
    "of",
    "count",
    "per_hour",
    "per_day",
    "pass",
    "fail",
    "neutral",
    "success_rate",
    "p5",
    "p10",
    "p50",
    "p90",
    "p95",
];

fn count(count: usize) -> Cell {
    Cell::Number(i64::try_from(count).unwrap_or(i64::MAX))
}

fn percentiles(spread: &Spread) -> impl Iterator<Item = Cell> + '_ {
    (0..PERCENTS.len()).map(|at| Cell::Duration(spread.percentiles.map(|all| all[at])))
}

/// One row for each figure of each thing.
fn for_programs(stats: &Stats) -> Table {
    let mut table = Table::new(COLUMNS);
    let nothing = || Cell::Text(None);
    for events in &stats.events {
        let mut row = vec![
            "events".into(),
            events.kind.as_str().into(),
            Cell::Number(i64::try_from(events.count).unwrap_or(i64::MAX)),
            Cell::Decimal(events.per_hour),
            Cell::Decimal(events.per_hour.map(|per_hour| per_hour * 24.0)),
        ];
        row.resize_with(COLUMNS.len(), nothing);
        table.push(row);
    }
    let mut figures = |what: &str, of: Option<&str>, figures: &Figures, spread: &Spread| {
        let mut row = vec![what.into(), of.into(), count(spread.count), nothing(), nothing()];
        row.extend([figures.pass, figures.fail, figures.neutral].map(count));
        row.push(Cell::Share(figures.success_rate()));
        row.extend(percentiles(spread));
        table.push(row);
    };
    let all = std::iter::once((None, &stats.jobs));
    let by_type = stats.by_device_type.iter();
    let jobs: Vec<_> = all
        .chain(by_type.map(|(name, one)| (Some(name.as_str()), one)))
        .collect();
    for (of, one) in &jobs {
        figures("job", *of, one, &one.duration);
    }
    for (of, one) in &jobs {
        figures("queue", *of, one, &one.wait);
    }
    for (service, one) in &stats.services {
        figures("service", Some(service), one, &one.duration);
    }
    table
}

/// The same, in a table for each subject.
fn for_people(stats: &Stats) -> Vec<Table> {
    let mut events = Table::new(&["events", "count", "per_hour", "per_day"]);
    for of_kind in &stats.events {
        events.push(vec![
            of_kind.kind.as_str().into(),
            Cell::Number(i64::try_from(of_kind.count).unwrap_or(i64::MAX)),
            Cell::Decimal(of_kind.per_hour),
            Cell::Decimal(of_kind.per_hour.map(|per_hour| per_hour * 24.0)),
        ]);
    }
    let row = |name: &str, figures: &Figures| {
        let mut row: Vec<Cell> = vec![name.into()];
        row.extend([figures.pass, figures.fail, figures.neutral].map(count));
        row.push(Cell::Share(figures.success_rate()));
        row
    };
    let mut jobs = Table::new(&[
        "jobs", "pass", "fail", "neutral", "success", "p5", "p10", "p50", "p90", "p95",
    ]);
    let mut queue = Table::new(&["queue_wait", "jobs", "p5", "p10", "p50", "p90", "p95"]);
    let all = std::iter::once(("all", &stats.jobs));
    let named = |name: &'static str, text: &str| {
        if text.is_empty() {
            name.to_owned()
        } else {
            text.to_owned()
        }
    };
    for (name, figures) in all.chain(stats.by_device_type.iter().map(|(name, one)| (name.as_str(), one))) {
        let name = named("no type", name);
        let mut cells = row(&name, figures);
        cells.extend(percentiles(&figures.duration));
        jobs.push(cells);
        let mut cells = vec![name.into(), count(figures.wait.count)];
        cells.extend(percentiles(&figures.wait));
        queue.push(cells);
    }
    let mut services = Table::new(&[
        "service", "pass", "fail", "unended", "success", "p5", "p10", "p50", "p90", "p95",
    ]);
    for (name, figures) in &stats.services {
        let mut cells = row(name, figures);
        cells.extend(percentiles(&figures.duration));
        services.push(cells);
    }
    let tables = [events, jobs, queue, services];
    tables.into_iter().filter(|table| !table.is_empty()).collect()
}
