//! Schema versions: an ordered list that only grows. Each step from one version to the next keeps a copy of the
//! file as it was before.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::error::{OpenError, StoreError};
use crate::schema;

/// One step: what makes version `to` out of the one before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Migration {
    pub(crate) to: u32,
    pub(crate) sql: &'static str,
}

/// Every step there ever was, oldest first. Never remove or change one: databases of any age are opened.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration { to: 1, sql: schema::V1 },
    Migration { to: 2, sql: schema::V2 },
];

/// The newest version that `migrations` lead to.
pub(crate) fn newest(migrations: &[Migration]) -> u32 {
    migrations.last().map_or(0, |migration| migration.to)
}

/// Takes an open database from its version to the newest, one transaction a step.
pub(crate) fn migrate(conn: &mut Connection, path: &Path, migrations: &[Migration]) -> Result<(), OpenError> {
    let store = |source: rusqlite::Error| OpenError::Store {
        path: path.to_owned(),
        source: source.into(),
    };
    let mut version: u32 = conn
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(store)?;
    let is_new = version == 0;
    for migration in migrations {
        if migration.to <= version {
            continue;
        }
        if !is_new {
            keep_copy(conn, path, version)?;
        }
        let mut step = || -> Result<(), rusqlite::Error> {
            let transaction = conn.transaction()?;
            transaction.execute_batch(migration.sql)?;
            transaction.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", migration.to)?;
            transaction.commit()
        };
        step().map_err(store)?;
        version = migration.to;
    }
    Ok(())
}

/// Where the copy of version `version` of the database at `path` is kept.
pub(crate) fn copy_path(path: &Path, version: u32) -> PathBuf {
    with_suffix(path, &format!(".v{version}.bak"))
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// The copy gets its final name only when it is complete, so that a start that was cut short leaves no half copy.
fn keep_copy(conn: &Connection, path: &Path, version: u32) -> Result<(), OpenError> {
    let copy = copy_path(path, version);
    let part = with_suffix(&copy, ".part");
    let file = |path: &Path| {
        let path = path.to_owned();
        |source| OpenError::File { path, source }
    };
    if part.exists() {
        fs::remove_file(&part).map_err(file(&part))?;
    }
    // SQLite would make it for everybody to read.
    let made = fs::File::options().write(true).create_new(true).mode(0o640).open(&part);
    let made = made.map_err(file(&part))?;
    let target = part.to_string_lossy();
    conn.execute("VACUUM INTO ?1", [&target])
        .map_err(|source| OpenError::Store {
            path: path.to_owned(),
            source: StoreError::from(source),
        })?;
    made.sync_all().map_err(file(&part))?;
    fs::rename(&part, &copy).map_err(file(&copy))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Journal, Options};

    const LATER: &[Migration] = &[
        MIGRATIONS[0],
        MIGRATIONS[1],
        Migration {
            to: 3,
            sql: "ALTER TABLE event ADD COLUMN room TEXT; UPDATE event SET room = 'here';",
        },
        Migration {
            to: 4,
            sql: "CREATE TABLE later(id INTEGER PRIMARY KEY) STRICT;",
        },
    ];

    fn open(path: &Path, migrations: &[Migration]) -> Result<Journal, OpenError> {
        Journal::open_with(path, &Options::default(), migrations)
    }

    fn append_one(journal: &mut Journal) {
        let id = lavabus_protocol::EventId([7; 16]);
        let event = crate::NewEvent {
            id: &id,
            received_us: 1,
            topic: "t",
            sent: "s",
            user: "u",
            data: "{}",
            lab: "",
        };
        let mut group = journal.group().unwrap();
        group.append(&event).unwrap();
        group.commit().unwrap();
    }

    fn version(path: &Path) -> u32 {
        let conn = Connection::open(path).unwrap();
        conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    #[test]
    fn an_old_database_becomes_a_new_one_and_each_step_keeps_a_copy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.db");
        let mut old = open(&path, MIGRATIONS).unwrap();
        append_one(&mut old);
        let epoch = *old.epoch();
        drop(old);

        let new = open(&path, LATER).unwrap();
        assert_eq!((new.head(), *new.epoch()), (1, epoch));
        drop(new);
        assert_eq!(version(&path), 4);
        let conn = Connection::open(&path).unwrap();
        let room: String = conn
            .query_row("SELECT room FROM event WHERE seq = 1", [], |row| row.get(0))
            .unwrap();
        assert_eq!(room, "here");
        for from in [2, 3] {
            let copy = copy_path(&path, from);
            assert_eq!(version(&copy), from);
            // A copy is a database that the version it is for can open.
            let reopened = open(&copy, &LATER[..from as usize]).unwrap();
            assert_eq!(reopened.head(), 1);
        }
    }

    #[test]
    fn a_new_database_needs_no_copies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.db");
        drop(open(&path, LATER).unwrap());
        assert_eq!(version(&path), 4);
        assert!(!copy_path(&path, 1).exists() && !copy_path(&path, 2).exists());
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.db");
        append_one(&mut open(&path, MIGRATIONS).unwrap());
        let wrong = [
            MIGRATIONS[0],
            MIGRATIONS[1],
            LATER[2],
            Migration {
                to: 4,
                sql: "CREATE TABLE x(a) STRICT; nonsense",
            },
        ];
        assert!(open(&path, &wrong).is_err());
        assert_eq!(version(&path), 3);
        // What was cut short leaves a part, which is not in the way.
        std::fs::write(with_suffix(&copy_path(&path, 3), ".part"), "half").unwrap();
        assert_eq!(open(&path, LATER).unwrap().head(), 1);
    }

    #[test]
    fn a_newer_one_is_refused_and_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.db");
        open(&path, LATER).unwrap().close().unwrap();
        let before = std::fs::read(&path).unwrap();
        let refused = open(&path, MIGRATIONS);
        assert!(matches!(
            refused,
            Err(OpenError::NewerSchema { found: 4, known: 2, .. })
        ));
        assert!(std::fs::read(&path).unwrap() == before);
    }
}
