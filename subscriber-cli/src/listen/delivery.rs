//! What is printed, and the cursor behind it.

use std::fmt;
use std::io::{self, Write};

use lavabus_protocol::{Cursor, Position, Record};
use tokio::time::Instant;

use crate::context::Context;
use crate::cursor_file::CursorFile;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::Printer;

/// So much is gathered before it is written, in bytes.
const FULL: usize = 64 * 1024;

/// Prints events, and moves the cursor after what was printed: never before it.
pub(super) struct Delivery {
    out: Box<dyn Write + Send>,
    printer: Printer,
    gathered: Vec<u8>,
    cursor_file: Option<CursorFile>,
    /// How many events may still be printed.
    left: Option<u64>,
    is_failure_told: bool,
}

impl Delivery {
    pub(super) fn new(
        out: Box<dyn Write + Send>,
        printer: Printer,
        cursor_file: Option<CursorFile>,
        count: Option<u64>,
    ) -> Delivery {
        Delivery {
            out,
            printer,
            gathered: Vec::new(),
            cursor_file,
            left: count,
            is_failure_told: false,
        }
    }

    /// The cursor that the file has for this lab.
    pub(super) fn cursor(&self, lab: &str) -> Option<Cursor> {
        self.cursor_file.as_ref()?.get(lab)
    }

    /// Prints one event; whether it was the last one that is wanted.
    pub(super) fn print(&mut self, record: &Record, context: &Context) -> Result<bool, Failure> {
        if let Err(error) = self.printer.write(record, &mut self.gathered) {
            if !std::mem::replace(&mut self.is_failure_told, true) {
                let uuid = record.uuid;
                context.notice(format_args!(
                    "the template fails on event {uuid}, which is passed over (said once): {error}"
                ));
            }
            return Ok(false);
        }
        if self.gathered.len() >= FULL {
            self.flush()?;
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok(self.left == Some(0))
    }

    /// The event with this cursor is done with: printed or not wanted.
    pub(super) fn pass(&mut self, lab: &str, cursor: Cursor) {
        if let Some(file) = &mut self.cursor_file {
            file.set(lab, cursor);
        }
    }

    /// Everything up to here is done with, as the publisher says: where to begin while no event was seen.
    pub(super) fn reach(&mut self, lab: &str, position: Position) {
        if let Some(file) = &mut self.cursor_file {
            let cursor = Cursor::of_position(position);
            let is_first = file.get(lab).is_none_or(|known| known.position_alone().is_some());
            if is_first && file.get(lab) != Some(cursor) {
                file.set(lab, cursor);
            }
        }
    }

    /// When [`save`](Delivery::save) is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.cursor_file.as_ref()?.due()
    }

    /// Writes what was gathered.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.write().map_err(|error| Failure::output(&error))
    }

    fn write(&mut self) -> io::Result<()> {
        if !self.gathered.is_empty() {
            // A write that failed is not tried again, least of all by `drop`.
            let gathered = std::mem::take(&mut self.gathered);
            let written = self.out.write_all(&gathered).and_then(|()| self.out.flush());
            if let Err(error) = written {
                self.cursor_file = None;
                return Err(error);
            }
            self.gathered = gathered;
            self.gathered.clear();
        }
        Ok(())
    }

    /// Writes what was gathered, and then the cursor file.
    pub(super) fn save(&mut self) -> Result<(), Failure> {
        self.flush()?;
        match self.cursor_file.as_mut().map_or(Ok(()), CursorFile::write) {
            Ok(()) => Ok(()),
            Err(error) => Err(Failure::new(
                Exit::Internal,
                "the cursor file cannot be written",
                error,
                "--cursor-file FILE in a folder that you may write to",
            )),
        }
    }

    /// The end.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        self.save()
    }
}

/// On a signal, or when the time is over, the command is dropped where it stands.
impl Drop for Delivery {
    fn drop(&mut self) {
        let _ = self.save();
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").finish_non_exhaustive()
    }
}
