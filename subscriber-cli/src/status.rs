//! `lavabus status`: how a publisher and its journal are.
//!
//! It reads the database file, so it works without a publisher too; whether one runs shows by the writer's lock, and
//! whether it can be reached by a connection to the bus. Ends with 0 whatever it finds, and with 30 when there is no
//! database that can be read.

mod port;
mod report;

pub(crate) use report::Micros;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use lavabus_store::{REJECTED_KEPT, Reader, Retention, StoreError};
use lavabus_zmtp::{ConnectOptions, SubConnection};

use self::port::PortReport;
use self::report::{BusReport, Report};
use crate::bus::Bus;
use crate::context::Context;
use crate::database;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::Format;
use crate::question::cannot_read;
use crate::remote;

/// How long a bus may take to answer.
const CONNECT: Duration = Duration::from_secs(1);

/// Show how a publisher and its journal are
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The journal; otherwise the one at the usual place
    #[arg(long, value_name = "PATH")]
    pub db: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what failed, the cause, and the next thing to try.
pub async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    let as_json = as_json(context, "status")?;
    if let Some(port) = remote::port(arguments.db.as_ref(), context)? {
        let status = remote::ask(&port, &["status"], &[]).await?;
        print(&match as_json {
            true => format!("{status}\n"),
            false => PortReport::read(&port, status)?.to_string(),
        })?;
        return Ok(Exit::Success);
    }
    let reading = database::ask(arguments.db, |reader| read(reader).map_err(cannot_read(reader)));
    let answering = async {
        let mut buses = Vec::new();
        for bus in &context.buses {
            buses.push(ask(bus).await);
        }
        buses
    };
    let (report, buses) = tokio::join!(reading, answering);
    let mut report = report?;
    report.bus = buses;
    let text = if as_json {
        report.to_json_line()
    } else {
        report.to_string()
    };
    print(&text)?;
    Ok(Exit::Success)
}

fn read(reader: &Reader) -> Result<Report, StoreError> {
    let status = reader.status()?;
    let mut reasons = BTreeMap::new();
    for message in reader.rejected(u32::try_from(REJECTED_KEPT).unwrap_or(u32::MAX))? {
        *reasons.entry(message.reason).or_default() += 1;
    }
    let gaps = reader.gaps(0)?;
    let writer = database::writer(reader.path());
    let path = reader.path().to_owned();
    Ok(Report::new(path, writer, &status, Retention::default(), reasons, gaps))
}

/// Whether a publisher answers there: a whole handshake, not only a connection.
async fn ask(bus: &Bus) -> BusReport {
    let error = match bus.endpoint() {
        Some(endpoint) => {
            let connected = SubConnection::connect(endpoint, &ConnectOptions::default(), CONNECT).await;
            connected.err().map(|error| error.to_string())
        }
        None => Some("only publish endpoints are looked at beside a database".to_owned()),
    };
    BusReport {
        endpoint: bus.address.to_string(),
        answers: error.is_none(),
        error,
    }
}

/// Whether JSON was asked for. Commands that do not write events know only text and JSON.
pub(crate) fn as_json(context: &Context, command: &str) -> Result<bool, Failure> {
    match &context.format {
        None | Some(Format::Plain) => Ok(false),
        Some(Format::Json) => Ok(true),
        Some(_) => Err(Failure::new(
            Exit::Usage,
            format!("`lavabus {command}` cannot write this format"),
            "it is one for events",
            "-o plain or -o json",
        )),
    }
}

/// Writes to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::output(&error))
}

#[cfg(test)]
pub(crate) mod tests;
