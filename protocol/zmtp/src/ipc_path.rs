//! Who may bind an ipc path: exactly one process, which holds a lock on `<path>.lock` for its life.

use nix::unistd::{Gid, Group, Uid, chown};
use socket2::{Domain, SockAddr, Socket, Type};
use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The longest path of a Unix domain socket: `sun_path` has 108 bytes, of which one is the closing NUL (unix(7)).
pub const MAX_IPC_PATH: usize = 107;

/// Why an ipc path cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IpcPathError {
    /// A process listens there, or holds the lock.
    #[error("in use")]
    InUse,
    /// The system allows no longer path.
    #[error("the path has {0} bytes, the system allows {MAX_IPC_PATH}; choose a shorter one")]
    TooLong(usize),
    /// The folder is not there.
    #[error("the folder {0:?} does not exist; create it first")]
    NoFolder(PathBuf),
    /// A file, folder or link is at the path.
    #[error("{0:?} is there and is not a socket; move it away or choose another path")]
    NotASocket(PathBuf),
    /// The socket or lock file belongs to another user.
    #[error("{path:?} belongs to user {owner}, not to us; remove it as that user, or choose another path")]
    OtherUser {
        /// The file in question.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
    },
    /// The lock file cannot be opened.
    #[error("cannot open the lock file {path:?}: {source}")]
    LockFile {
        /// The lock file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// There is no such group.
    #[error("no group {0:?} on this machine")]
    NoSuchGroup(String),
    /// Mode or group could not be set.
    #[error("cannot set mode and group of {path:?}: {source}; only groups that this user is in can be given")]
    Access {
        /// The socket file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The path could not be looked at, or a left-over socket not removed.
    #[error("{path:?}: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A path that is ours until this is dropped. Then the socket file is removed, if it is still the one we made; the
/// lock file stays, since removing it would let two processes hold "the" lock.
#[derive(Debug)]
pub(crate) struct IpcPath {
    path: PathBuf,
    /// Device and inode of the socket file that we made.
    made: Option<(u64, u64)>,
    /// Closing it gives the lock up.
    _lock: File,
}

impl IpcPath {
    /// Takes the path for us, and removes a socket file that nobody listens on any more.
    pub(crate) fn claim(path: &Path) -> Result<IpcPath, IpcPathError> {
        let length = path.as_os_str().len();
        if length > MAX_IPC_PATH {
            return Err(IpcPathError::TooLong(length));
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
            return Err(IpcPathError::NoFolder(folder.to_owned()));
        }
        let lock = lock(path)?;
        remove_stale(path)?;
        Ok(IpcPath {
            path: path.to_owned(),
            made: None,
            _lock: lock,
        })
    }

    /// To be called right after bind(2) has made the socket file.
    pub(crate) fn bound(&mut self) -> io::Result<()> {
        let metadata = std::fs::symlink_metadata(&self.path)?;
        self.made = Some((metadata.dev(), metadata.ino()));
        Ok(())
    }

    /// Sets mode and group of the socket file.
    pub(crate) fn set_access(&self, mode: u32, group: Option<&str>) -> Result<(), IpcPathError> {
        let access_error = |source| IpcPathError::Access {
            path: self.path.clone(),
            source,
        };
        // The group first: as long as the mode is narrow, it lets nobody in.
        let gid = group.map(find_group).transpose()?;
        std::fs::set_permissions(&self.path, Permissions::from_mode(0o600)).map_err(access_error)?;
        if gid.is_some() {
            chown(&self.path, None, gid).map_err(|errno| access_error(errno.into()))?;
        }
        std::fs::set_permissions(&self.path, Permissions::from_mode(mode)).map_err(access_error)
    }
}

impl Drop for IpcPath {
    fn drop(&mut self) {
        let is_ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| self.made == Some((metadata.dev(), metadata.ino())));
        if is_ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn lock(path: &Path) -> Result<File, IpcPathError> {
    let mut lock_path = OsString::from(path);
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let lock_error = |source| IpcPathError::LockFile {
        path: lock_path.clone(),
        source,
    };
    // Whose file it is, is said before permission is refused.
    if let Ok(metadata) = std::fs::symlink_metadata(&lock_path) {
        check_owner(&lock_path, metadata.uid())?;
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(&lock_path)
        .map_err(lock_error)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(IpcPathError::InUse),
        Err(TryLockError::Error(source)) => Err(lock_error(source)),
    }
}

/// Removes the socket at `path` if it is ours and nobody listens on it. To be called under the lock.
fn remove_stale(path: &Path) -> Result<(), IpcPathError> {
    let io_error = |source| IpcPathError::Io {
        path: path.to_owned(),
        source,
    };
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(IpcPathError::NotASocket(path.to_owned()));
    }
    // A program that does not know of our lock, such as libzmq, is found by connecting. This comes before the owner,
    // so that the more helpful error is given.
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).map_err(io_error)?;
    match probe.connect(&SockAddr::unix(path).map_err(io_error)?) {
        Ok(()) => return Err(IpcPathError::InUse),
        // Its queue of connections is full: somebody listens.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(IpcPathError::InUse),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) => {
            check_owner(path, metadata.uid())?;
            return Err(io_error(error));
        }
    }
    check_owner(path, metadata.uid())?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(error)),
        _ => Ok(()),
    }
}

fn check_owner(path: &Path, owner: u32) -> Result<(), IpcPathError> {
    if owner == Uid::effective().as_raw() {
        return Ok(());
    }
    Err(IpcPathError::OtherUser {
        path: path.to_owned(),
        owner,
    })
}

fn find_group(group: &str) -> Result<Gid, IpcPathError> {
    if let Ok(number) = group.parse() {
        return Ok(Gid::from_raw(number));
    }
    match Group::from_name(group) {
        Ok(Some(found)) => Ok(found.gid),
        _ => Err(IpcPathError::NoSuchGroup(group.to_owned())),
    }
}
