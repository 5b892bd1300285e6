//! One writer a database, decided under a lock that is held for life.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use crate::error::OpenError;
use crate::migration::with_suffix;

/// A lock that is taken is looked at so many times,
const LOOKS: u32 = 5;
/// with a pause between them.
const PAUSE: Duration = Duration::from_millis(10);

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
        // Whoever only looks whether a writer is there has the lock for a moment.
        for look in (0..LOOKS).rev() {
            match file.try_lock() {
                Ok(()) => return Ok(WriterLock { _file: file }),
                Err(TryLockError::WouldBlock) if look > 0 => std::thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        Err(OpenError::InUse {
            path: database.to_owned(),
        })
    }
}
