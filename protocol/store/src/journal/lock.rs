//! One writer a database, decided under a lock that is held for life.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::OpenError;
use crate::migration::with_suffix;

/// An advisory lock on `<database>.lock`. It ends with the process, however that ends; the file stays.
///
/// It is not taken on the database itself: POSIX drops all of a process's locks on a file when any descriptor of
/// it is closed, which would take SQLite's own locks away.
#[derive(Debug)]
pub(crate) struct WriterLock {
    _file: File,
}

impl WriterLock {
    pub(crate) fn take(database: &Path) -> Result<WriterLock, OpenError> {
        let path = with_suffix(database, ".lock");
        let failed = |source| OpenError::File {
            path: path.clone(),
            source,
        };
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(WriterLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
                path: database.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}
