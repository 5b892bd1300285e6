//! Schema versions: an ordered list that only grows. Each step from one version to the next keeps a copy of the
//! file as it was before.

use std::ffi::OsString;
use std::fs;
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
pub(crate) const MIGRATIONS: &[Migration] = &[Migration { to: 1, sql: schema::V1 }];

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
    for migration in migrations {
        if migration.to <= version {
            continue;
        }
        if version > 0 {
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
    let target = part.to_string_lossy();
    conn.execute("VACUUM INTO ?1", [&target])
        .map_err(|source| OpenError::Store {
            path: path.to_owned(),
            source: StoreError::from(source),
        })?;
    fs::rename(&part, &copy).map_err(file(&copy))
}
