//! Where the database is when nobody says.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const FILE: &str = "events.db";
const RECORDED: &str = "recorded.db";

/// Where a writer keeps its database by default: `$STATE_DIRECTORY/events.db` under systemd,
/// `/var/lib/lava-publisher/events.db` for root, else `$XDG_STATE_HOME/lavabus/events.db` with
/// `~/.local/state` as the state home. `None` when there is no home folder either.
pub fn default_path() -> Option<PathBuf> {
    Places::of_this_process().for_writing()
}

/// Where `lavabus record` keeps its database by default: `$XDG_STATE_HOME/lavabus/recorded.db` with `~/.local/state` as the
/// state home. `None` when there is no home folder either.
pub fn default_recording() -> Option<PathBuf> {
    Places::of_this_process().recording()
}

/// The first of the default places that holds a database, for readers: a publisher's, else a recording.
pub fn find_default() -> Option<PathBuf> {
    Places::of_this_process().all().into_iter().find(|path| path.is_file())
}

struct Places {
    state_directory: Option<OsString>,
    state_home: Option<OsString>,
    home: Option<OsString>,
    is_root: bool,
}

impl Places {
    fn of_this_process() -> Places {
        Places {
            state_directory: env::var_os("STATE_DIRECTORY"),
            state_home: env::var_os("XDG_STATE_HOME"),
            home: env::var_os("HOME"),
            is_root: nix::unistd::geteuid().is_root(),
        }
    }

    /// systemd joins several state directories with `:`; the first is ours (systemd.exec(5)).
    fn systemd(&self) -> Option<PathBuf> {
        let value = self.state_directory.as_ref()?.to_str()?;
        let first = value.split(':').next().filter(|first| !first.is_empty())?;
        Some(Path::new(first).join(FILE))
    }

    fn system(&self) -> PathBuf {
        Path::new("/var/lib/lava-publisher").join(FILE)
    }

    fn user(&self) -> Option<PathBuf> {
        Some(self.state_home()?.join(FILE))
    }

    fn recording(&self) -> Option<PathBuf> {
        Some(self.state_home()?.join(RECORDED))
    }

    /// The XDG base directory specification says: a relative path in the variable is to be ignored.
    fn state_home(&self) -> Option<PathBuf> {
        let state_home = self
            .state_home
            .as_ref()
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let home = self.home.as_ref().filter(|home| !home.is_empty());
        let state_home = state_home.or_else(|| Some(Path::new(home?).join(".local/state")))?;
        Some(state_home.join("lavabus"))
    }

    fn for_writing(&self) -> Option<PathBuf> {
        let own = || if self.is_root { Some(self.system()) } else { self.user() };
        self.systemd().or_else(own)
    }

    fn all(&self) -> Vec<PathBuf> {
        [self.systemd(), Some(self.system()), self.user(), self.recording()]
            .into_iter()
            .flatten()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            state_directory: None,
            state_home: None,
            home: Some("/home/ann".into()),
            is_root: false,
        }
    }

    #[test]
    fn systemd_wins_then_root_then_the_user() {
        let user = places();
        assert_eq!(
            user.for_writing(),
            Some("/home/ann/.local/state/lavabus/events.db".into())
        );
        let state_home = Places {
            state_home: Some("/s".into()),
            ..places()
        };
        assert_eq!(state_home.for_writing(), Some("/s/lavabus/events.db".into()));
        let relative = Places {
            state_home: Some("s".into()),
            ..places()
        };
        assert_eq!(relative.for_writing(), user.for_writing());
        let root = Places {
            is_root: true,
            ..places()
        };
        assert_eq!(root.for_writing(), Some("/var/lib/lava-publisher/events.db".into()));
        let unit = Places {
            state_directory: Some("/var/lib/a:/var/lib/b".into()),
            is_root: true,
            ..places()
        };
        assert_eq!(unit.for_writing(), Some("/var/lib/a/events.db".into()));
        let nowhere = Places { home: None, ..places() };
        assert_eq!(nowhere.for_writing(), None);
    }

    #[test]
    fn readers_look_everywhere() {
        let all = Places {
            state_directory: Some("/unit".into()),
            ..places()
        }
        .all();
        let all: Vec<_> = all.iter().map(|path| path.to_str()).collect();
        assert_eq!(
            all,
            [
                Some("/unit/events.db"),
                Some("/var/lib/lava-publisher/events.db"),
                Some("/home/ann/.local/state/lavabus/events.db"),
                Some("/home/ann/.local/state/lavabus/recorded.db")
            ]
        );
    }
}
