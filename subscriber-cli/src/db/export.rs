//! All events as JSON lines, oldest first.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use lavabus_store::{EventRow, Reader};

use crate::context::Context;
use crate::database;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::question::cannot_read;

/// So many events are read in one transaction, so that the writer's log does not grow meanwhile.
const CHUNK: u64 = 10_000;

/// Where to.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The file, which must not be there yet; otherwise standard output
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Only events of this lab
    #[arg(long, value_name = "LAB")]
    pub lab: Option<String>,
}

pub(super) fn export(db: Option<PathBuf>, arguments: &Arguments, context: &Context) -> Result<Exit, Failure> {
    let reader = database::open(db)?;
    let mut out: Box<dyn Write> = match &arguments.file {
        None => Box::new(BufWriter::new(io::stdout())),
        Some(path) => Box::new(BufWriter::new(create(path)?)),
    };
    let events = write_all(&reader, arguments.lab.as_deref(), &mut *out)?;
    context.notice(format_args!("{events} events exported"));
    Ok(Exit::Success)
}

fn create(path: &Path) -> Result<File, Failure> {
    let mut options = File::options();
    let created = options.write(true).create_new(true).mode(0o640).open(path);
    created.map_err(|error| {
        Failure::new(
            Exit::Usage,
            format!("cannot write {}", path.display()),
            error,
            "a name that is not taken, in a folder that you may write to",
        )
    })
}

fn write_all(reader: &Reader, lab: Option<&str>, out: &mut dyn Write) -> Result<u64, Failure> {
    let epoch = reader.epoch().map_err(cannot_read(reader))?;
    let head = reader.head().map_err(cannot_read(reader))?;
    let (mut after, mut events) = (0, 0);
    while after < head {
        let mut written = Ok(());
        let visit = |row: EventRow<'_>| {
            if lab.is_some_and(|lab| lab != row.lab) {
                return ControlFlow::Continue(());
            }
            written = writeln!(out, "{}", row.to_record(epoch).to_json_line());
            events += u64::from(written.is_ok());
            match written {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        };
        // Events that were pruned meanwhile leave a stretch without any.
        let oldest = reader.oldest().map_err(cannot_read(reader))?.unwrap_or(1);
        let from = after.max(oldest - 1);
        let upto = (from + CHUNK).min(head);
        reader.scan(from, upto, visit).map_err(cannot_read(reader))?;
        written.map_err(|error| Failure::output(&error))?;
        after = upto;
    }
    out.flush().map_err(|error| Failure::output(&error))?;
    Ok(events)
}
