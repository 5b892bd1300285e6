//! What is derived from events. Each projection is a pure function of them, applied behind the journal with a cursor
//! of its own, and can be made again from the events that are kept.

pub mod entity;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::ControlFlow;

use lavabus_protocol::{Kind, SnapshotScope};
use rusqlite::{Connection, OptionalExtension, Row, params};

use self::entity::{EntityKey, EntityState};
use crate::error::StoreError;
use crate::journal::Journal;
use crate::reader::{self, Event, to_sql};

const ENTITY: &str = "entity";
const COLUMNS: &str = "seq, uuid, received, topic, sent, user, data, sub_id, sent_us, finished";

/// How many events that are not projected yet a snapshot reads itself, which bounds its time.
const SNAPSHOT_EVENTS: u64 = 100_000;

/// What events that were not projected yet change, folded in memory: at most one row an entity.
#[derive(Debug)]
pub struct EntityFold {
    after: u64,
    cursor: u64,
    head: u64,
    changed: HashMap<EntityKey, EntityState>,
}

/// How far a projection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Projected {
    /// Every event up to this number is in it.
    pub cursor: u64,
    /// How many events it has not seen yet.
    pub behind: u64,
}

/// The latest events of the objects that were asked for, in the order of their numbers; those saved from a damaged
/// database have number 0 and come first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Every event up to this number is taken into account. It is the newest as long as the projector is not far
    /// behind; the events after it tell the rest.
    pub position: u64,
    /// One event an object. Its number may be older than the oldest event that is kept.
    pub events: Vec<Event>,
}

impl Journal {
    /// Brings the `entity` projection up to `max_events` events further, in one transaction with its cursor.
    pub fn project(&mut self, max_events: u64) -> Result<Projected, StoreError> {
        let fold = self.read(|conn| fold(conn, max_events))?;
        self.apply(&fold)
    }

    /// Writes what a reader has folded. A fold that does not begin where the projection stands is left out; the
    /// answer then says where that is.
    pub fn apply(&mut self, fold: &EntityFold) -> Result<Projected, StoreError> {
        let projected = |cursor| Projected {
            cursor,
            behind: fold.head.saturating_sub(cursor),
        };
        let cursor = self.read(|conn| Ok(cursor(conn)?))?;
        if cursor != fold.after || fold.cursor == fold.after {
            return Ok(projected(cursor));
        }
        self.write(|conn| {
            let mut upsert = conn.prepare_cached(
                "INSERT INTO entity(kind, id, seq, uuid, received, topic, sent, user, data, sub_id, sent_us,
                 finished)
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
                 ON CONFLICT(kind, id) DO UPDATE SET seq = ?3, uuid = ?4, received = ?5, topic = ?6, sent = ?7,
                 user = ?8, data = ?9, sub_id = ?10, sent_us = ?11, finished = ?12",
            )?;
            for (key, state) in &fold.changed {
                let event = &state.event;
                upsert.execute(params![
                    key.kind.as_str(),
                    key.id,
                    to_sql(event.seq),
                    event.id.key(),
                    event.received_us,
                    event.topic,
                    event.sent,
                    event.user,
                    event.data,
                    state.sub_id,
                    state.sent_us,
                    state.finished
                ])?;
            }
            conn.prepare_cached("INSERT INTO projection VALUES(?1, ?2) ON CONFLICT(name) DO UPDATE SET cursor = ?2")?
                .execute(params![ENTITY, to_sql(fold.cursor)])
        })?;
        Ok(projected(fold.cursor))
    }

    /// Forgets all entities whose latest event is still kept and makes them again from the kept events, with the
    /// next calls of [`project`](Journal::project). Those of older events stay: nothing else knows them.
    pub fn rebuild(&mut self) -> Result<(), StoreError> {
        let oldest = self.oldest()?.unwrap_or(1);
        self.write(|conn| {
            conn.execute("DELETE FROM entity WHERE seq >= ?", [to_sql(oldest)])?;
            conn.execute("UPDATE projection SET cursor = ?", [to_sql(oldest - 1)])
        })?;
        Ok(())
    }
}

/// Up to which number the `entity` projection has read.
pub(crate) fn cursor(conn: &Connection) -> Result<u64, rusqlite::Error> {
    let cursor = conn
        .prepare_cached("SELECT cursor FROM projection WHERE name = ?")?
        .query_row([ENTITY], reader::seq_of)
        .optional()?;
    Ok(cursor.unwrap_or(0))
}

/// The transaction keeps cursor, entities and events of one moment together.
pub(crate) fn fold(conn: &Connection, max_events: u64) -> Result<EntityFold, StoreError> {
    let transaction = conn.unchecked_transaction()?;
    fold_within(&transaction, max_events)
}

fn fold_within(conn: &Connection, max_events: u64) -> Result<EntityFold, StoreError> {
    let after = cursor(conn)?;
    let head = reader::head(conn)?;
    let mut changed: HashMap<EntityKey, EntityState> = HashMap::new();
    let mut known = Ok(());
    let upto = after.saturating_add(max_events).min(head);
    reader::scan(conn, after, upto, |row| {
        let Some((key, state)) = entity::state_after(&row) else {
            return ControlFlow::Continue(());
        };
        match changed.entry(key) {
            Entry::Occupied(mut latest) => {
                if state.replaces(latest.get()) {
                    latest.insert(state);
                }
            }
            Entry::Vacant(vacant) => match load(conn, vacant.key()) {
                Ok(Some(latest)) if !state.replaces(&latest) => {}
                Ok(_) => {
                    vacant.insert(state);
                }
                Err(error) => {
                    known = Err(error);
                    return ControlFlow::Break(());
                }
            },
        }
        ControlFlow::Continue(())
    })?;
    known?;
    Ok(EntityFold {
        after,
        cursor: upto.max(after),
        head,
        changed,
    })
}

fn load(conn: &Connection, key: &EntityKey) -> Result<Option<EntityState>, rusqlite::Error> {
    conn.prepare_cached(&format!("SELECT {COLUMNS} FROM entity WHERE kind = ?1 AND id = ?2"))?
        .query_row([key.kind.as_str(), &key.id], state)
        .optional()
}

fn state(row: &Row<'_>) -> Result<EntityState, rusqlite::Error> {
    let event = reader::event_row(row)?.to_event();
    Ok(EntityState {
        event,
        sub_id: row.get(7)?,
        sent_us: row.get(8)?,
        finished: row.get(9)?,
    })
}

/// A multinode job may be asked for by the id that people see, such as `4000.1`.
fn number_of_sub_id(
    conn: &Connection,
    fold: &EntityFold,
    asked: &EntityKey,
) -> Result<Option<String>, rusqlite::Error> {
    if asked.kind != Kind::Testjob || !asked.id.contains('.') {
        return Ok(None);
    }
    let is_asked = |state: &EntityState| state.sub_id.as_deref() == Some(&asked.id);
    if let Some((key, _)) = fold.changed.iter().find(|(_, state)| is_asked(state)) {
        return Ok(Some(key.id.clone()));
    }
    conn.prepare_cached("SELECT id FROM entity WHERE sub_id = ? ORDER BY seq DESC LIMIT 1")?
        .query_row([&asked.id], |row| row.get(0))
        .optional()
}

pub(crate) fn snapshot(conn: &Connection, scope: &SnapshotScope, jobs_since_us: i64) -> Result<Snapshot, StoreError> {
    let conn = conn.unchecked_transaction()?;
    let mut fold = fold_within(&conn, SNAPSHOT_EVENTS)?;
    let mut events: Vec<Event> = Vec::new();
    match scope {
        SnapshotScope::One { kind, id } => {
            let mut key = EntityKey {
                kind: *kind,
                id: id.clone(),
            };
            if let Some(number) = number_of_sub_id(&conn, &fold, &key)? {
                key.id = number;
            }
            let latest = match fold.changed.remove(&key) {
                Some(state) => Some(state),
                None => load(&conn, &key)?,
            };
            events.extend(latest.map(|state| state.event));
        }
        SnapshotScope::All => {
            let mut select = conn.prepare_cached(&format!(
                "SELECT {COLUMNS}, kind, id FROM entity WHERE kind IN ('device', 'worker')
                 UNION ALL
                 SELECT {COLUMNS}, kind, id FROM entity WHERE kind = 'testjob' AND finished = 0 AND received >= ?1"
            ))?;
            let mut rows = select.query([jobs_since_us])?;
            while let Some(row) = rows.next()? {
                let kind: String = row.get(10)?;
                let kind = kind.parse().unwrap_or(Kind::Other);
                let key = EntityKey { kind, id: row.get(11)? };
                if !fold.changed.contains_key(&key) {
                    events.push(reader::event_row(row)?.to_event());
                }
            }
            let wanted = |key: &EntityKey, state: &EntityState| {
                key.kind != Kind::Testjob || !state.finished && state.event.received_us >= jobs_since_us
            };
            let changed = fold.changed.drain().filter(|(key, state)| wanted(key, state));
            events.extend(changed.map(|(_, state)| state.event));
        }
    }
    events.sort_unstable_by_key(|event| (event.seq, event.received_us));
    Ok(Snapshot {
        position: fold.cursor,
        events,
    })
}
