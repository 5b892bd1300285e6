//! The database of ReactOBus: `messages(id, topic, uuid, datetime, username, data)`.

use std::ops::ControlFlow;
use std::path::Path;

use lavabus_protocol::{Envelope, Record, Refusal};
use rusqlite::{Connection, OpenFlags};

use crate::error::StoreError;

/// Whether the SQLite database at `path` has ReactOBus's table.
pub fn is_reactobus(path: &Path) -> Result<bool, StoreError> {
    let conn = open(path)?;
    let tables: u32 = conn.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'messages'",
        [],
        |row| row.get(0),
    )?;
    Ok(tables == 1)
}

/// Visits its messages in the order in which they came, until `visit` breaks: the message's number, and the event, or why it
/// is none.
pub fn messages(
    path: &Path,
    mut visit: impl FnMut(i64, Result<Record, Refusal>) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let conn = open(path)?;
    let mut select = conn.prepare("SELECT id, topic, uuid, datetime, username, data FROM messages ORDER BY id")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let mut frames: [&[u8]; 5] = [b""; 5];
        for (at, frame) in (1..).zip(&mut frames) {
            *frame = row.get_ref(at)?.as_bytes_or_null().ok().flatten().unwrap_or_default();
        }
        let record = Envelope::check(frames).map(Record::from);
        if visit(row.get(0)?, record).is_break() {
            return Ok(());
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    Ok(Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?)
}
