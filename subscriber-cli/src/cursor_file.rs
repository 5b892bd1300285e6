//! Where a listener stands, kept in a file.
//!
//! ```text
//! 5f0e11d2/1042/8e503fbe-e568-11f1-8b37-02fc00000001                         one bus
//! staging 5f0e11d2/1042/8e503fbe-e568-11f1-8b37-02fc00000001                 several: lab, blank, cursor; a line each
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lavabus_protocol::{Cursor, CursorError};
use tokio::time::Instant;

/// The file is not written more often.
const INTERVAL: Duration = Duration::from_millis(200);

/// The file, and what is to be written into it.
#[derive(Debug)]
pub(crate) struct CursorFile {
    path: PathBuf,
    /// By lab; of a single bus under the empty name.
    cursors: BTreeMap<String, Cursor>,
    is_changed: bool,
    written_at: Option<Instant>,
}

/// Why a cursor file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CursorFileError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("line {line}: {cause}")]
    Cursor { line: usize, cause: CursorError },
}

impl CursorFile {
    /// Reads the file; one that is not there, or has no line, is the beginning.
    pub(crate) fn open(path: &Path) -> Result<CursorFile, CursorFileError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error.into()),
        };
        let mut cursors = BTreeMap::new();
        for (line, text) in (1..).zip(text.lines()) {
            let (lab, cursor) = text.trim().rsplit_once(' ').unwrap_or(("", text.trim()));
            if !cursor.is_empty() {
                let cursor = cursor
                    .parse()
                    .map_err(|cause| CursorFileError::Cursor { line, cause })?;
                cursors.insert(lab.to_owned(), cursor);
            }
        }
        let mut file = CursorFile {
            path: path.to_owned(),
            cursors,
            is_changed: true,
            written_at: None,
        };
        // Better to fail now than at the first event.
        file.write()?;
        Ok(file)
    }

    /// The cursor of this lab; the empty name is that of a single bus.
    pub(crate) fn get(&self, lab: &str) -> Option<Cursor> {
        self.cursors.get(lab).copied()
    }

    /// All up to this event was printed, or need not be.
    pub(crate) fn set(&mut self, lab: &str, cursor: Cursor) {
        match self.cursors.get_mut(lab) {
            Some(known) => *known = cursor,
            None => drop(self.cursors.insert(lab.to_owned(), cursor)),
        }
        self.is_changed = true;
    }

    /// When [`write`](Self::write) is due; `None` if there is nothing to write.
    pub(crate) fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        self.is_changed.then(|| self.written_at.map_or(now, |at| at + INTERVAL))
    }

    /// Writes the file, whole or not at all: a new one takes its place. It is not synced: after a power cut it may be
    /// older, which brings repeats.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        if !self.is_changed {
            return Ok(());
        }
        let text: String = self
            .cursors
            .iter()
            .map(|(lab, cursor)| match lab.as_str() {
                "" => format!("{cursor}\n"),
                lab => format!("{lab} {cursor}\n"),
            })
            .collect();
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let new = self.path.with_file_name(name);
        let written = create(&new)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&new, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        self.written_at = Some(Instant::now());
        self.is_changed = written.is_err();
        written
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const CURSOR: &str = "5f0e11d2/1042/8e503fbe-e568-11f1-8b37-02fc00000001";

    #[test]
    fn it_is_written_whole_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        let mut file = CursorFile::open(&path).unwrap();
        assert_eq!((file.get(""), file.due()), (None, None));
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "",
            "a file that cannot be written would have been said"
        );
        file.set("", CURSOR.parse().unwrap());
        assert!(file.due().is_some());
        file.write().unwrap();
        assert_eq!(file.due(), None);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{CURSOR}\n"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(CursorFile::open(&path).unwrap().get(""), Some(CURSOR.parse().unwrap()));
        file.set("", CURSOR.parse().unwrap());
        assert!(file.due().unwrap() > Instant::now());
    }

    #[test]
    fn several_labs_have_a_line_each() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        let mut file = CursorFile::open(&path).unwrap();
        file.set("staging", CURSOR.parse().unwrap());
        file.set("tcp://a:1", CURSOR.parse().unwrap());
        file.write().unwrap();
        let file = CursorFile::open(&path).unwrap();
        assert_eq!(file.get("staging"), Some(CURSOR.parse().unwrap()));
        assert_eq!(file.get("tcp://a:1"), Some(CURSOR.parse().unwrap()));
        assert_eq!(file.get(""), None);
    }

    #[test]
    fn what_is_no_cursor_is_named_by_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        fs::write(&path, format!("{CURSOR}\nx\n")).unwrap();
        let error = CursorFile::open(&path).unwrap_err();
        assert!(error.to_string().starts_with("line 2: "), "{error}");
        assert!(CursorFile::open(folder.path()).is_err());
    }
}
