//! Looking after a database: is it sound, and a copy of it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::error::StoreError;
use crate::migration::with_suffix;
use crate::reader::Reader;

/// So many findings are told; a database with more is beyond help.
const FINDINGS: usize = 20;

/// Why a copy could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is a file of this name already. It is left as it is.
    #[error("there is a file of this name already")]
    Exists,
    /// The copy, or its folder, cannot be written.
    #[error(transparent)]
    File(#[from] io::Error),
    /// The database cannot be read, or the copy's disk is full.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Reader {
    /// Everything that is wrong with the database, in words; nothing if it is sound. Reads all of it: some seconds a
    /// GiB, in one transaction, so that the writer's log grows meanwhile.
    pub fn verify(&self) -> Result<Vec<String>, StoreError> {
        let conn = self.connection().unchecked_transaction()?;
        let mut findings = Vec::new();
        let mut check = conn.prepare(&format!("PRAGMA integrity_check({FINDINGS})"))?;
        let lines = check.query_map([], |row| row.get::<_, String>(0))?;
        for line in lines {
            findings.extend(Some(line?).filter(|line| line != "ok"));
        }
        if !findings.is_empty() {
            return Ok(findings);
        }
        let mut expect = |what: &str, sql: &str| -> Result<(), StoreError> {
            let count: i64 = conn.query_row(sql, [], |row| row.get(0))?;
            if count > 0 {
                findings.push(format!("{what}: {count}"));
            }
            Ok(())
        };
        expect(
            "events are missing between the oldest and the newest number",
            "SELECT coalesce(max(seq) - min(seq) + 1 - count(*), 0) FROM event",
        )?;
        expect(
            "events were received earlier than the one before them",
            "SELECT count(*) FROM (SELECT received - lag(received) OVER (ORDER BY seq) AS step FROM event) WHERE step < 0",
        )?;
        expect(
            "events have data that is no JSON object",
            "SELECT count(*) FROM event WHERE NOT json_valid(data) OR json_type(data) IS NOT 'object'",
        )?;
        expect(
            "references point to no event",
            "SELECT count(*) FROM ref WHERE seq < (SELECT min(seq) FROM event) OR seq > (SELECT max(seq) FROM event)",
        )?;
        expect(
            "projections have read events that are not there",
            "SELECT count(*) FROM projection WHERE cursor > (SELECT coalesce(max(seq), 0) FROM event)",
        )?;
        Ok(findings)
    }

    /// Writes a copy of the database, as it is at this moment, to `path`; the writer goes on meanwhile. The copy has its
    /// name only when it is complete and on the disk.
    ///
    /// # Errors
    ///
    /// [`BackupError::Exists`] where there is a file already.
    pub fn backup(&self, path: &Path) -> Result<(), BackupError> {
        if path.exists() {
            return Err(BackupError::Exists);
        }
        let part = with_suffix(path, ".part");
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let copied = self.copy_to(&part);
        // Unlike a rename, a link takes the place of no file that was made meanwhile.
        let finished = copied.and_then(|()| Ok(fs::hard_link(&part, path)?));
        let _ = fs::remove_file(&part);
        finished
    }

    fn copy_to(&self, part: &Path) -> Result<(), BackupError> {
        // SQLite would make it for everybody to read.
        let file = File::options().write(true).create_new(true).mode(0o640).open(part)?;
        self.connection()
            .execute("VACUUM INTO ?1", [part.to_string_lossy()])
            .map_err(StoreError::from)?;
        file.sync_all()?;
        Ok(())
    }
}
