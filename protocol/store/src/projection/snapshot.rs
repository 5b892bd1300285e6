//! The latest event of each object, with what the projector has not read yet folded in memory.

use lavabus_protocol::{Kind, SnapshotScope};
use rusqlite::{Connection, OptionalExtension};

use super::entity::{Entity, owner};
use super::rows::{self, Projection, Rows, State};
use super::{each, entity_cursor};
use crate::error::StoreError;
use crate::reader::{self, Event};

/// How many events that are not projected yet a snapshot reads itself, which bounds its time.
const SNAPSHOT_EVENTS: u64 = 100_000;

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

/// Entities as of [`position`](Recent::position): those in the table, and those that later events have changed.
pub(crate) struct Recent {
    pub(crate) position: u64,
    pub(crate) changed: Rows<Entity>,
}

impl Recent {
    /// To be used in the same transaction as everything else that is read of it.
    pub(crate) fn read(conn: &Connection) -> Result<Recent, StoreError> {
        let after = entity_cursor(conn)?;
        let upto = after.saturating_add(SNAPSHOT_EVENTS).min(reader::head(conn)?);
        let mut changed = Rows::new(State::Live);
        let position = each(conn, after, upto, |told| changed.apply(conn, told))?;
        Ok(Recent { position, changed })
    }

    /// The entity with this kind and id in this lab.
    pub(crate) fn find(
        &self,
        conn: &Connection,
        kind: Kind,
        id: &str,
        lab: &str,
    ) -> Result<Option<Entity>, StoreError> {
        let owner = owner(kind, id, lab);
        if let Some(changed) = self.changed.get(&owner) {
            return Ok(changed.first().cloned());
        }
        Ok(rows::load::<Entity>(conn, State::Live, &owner)?.pop())
    }
}

/// A multinode job may be asked for by the id that people see, such as `4000.1`.
fn number_of_sub_id(
    conn: &Connection,
    recent: &Recent,
    kind: Kind,
    asked: &str,
) -> Result<Option<String>, rusqlite::Error> {
    if kind != Kind::Testjob || !asked.contains('.') {
        return Ok(None);
    }
    let mut changed = recent.changed.iter().flat_map(|(_, entities)| entities);
    if let Some(entity) = changed.find(|entity| entity.sub_id.as_deref() == Some(asked)) {
        return Ok(Some(entity.id.clone()));
    }
    conn.prepare_cached("SELECT id FROM entity WHERE sub_id = ? ORDER BY seq DESC LIMIT 1")?
        .query_row([asked], |row| row.get(0))
        .optional()
}

pub(crate) fn snapshot(conn: &Connection, scope: &SnapshotScope, jobs_since_us: i64) -> Result<Snapshot, StoreError> {
    let conn = conn.unchecked_transaction()?;
    let recent = Recent::read(&conn)?;
    let mut events: Vec<Event> = Vec::new();
    match scope {
        SnapshotScope::One { kind, id } => {
            let number = number_of_sub_id(&conn, &recent, *kind, id)?;
            let found = recent.find(&conn, *kind, number.as_deref().unwrap_or(id), "")?;
            events.extend(found.filter(Entity::is_told).map(|entity| entity.latest));
        }
        SnapshotScope::All => {
            let columns = [Entity::TABLE.owner, &["first_seq", "touched"], Entity::TABLE.rest]
                .concat()
                .join(", ");
            let mut select = conn.prepare_cached(&format!(
                "SELECT {columns} FROM entity WHERE kind IN ('device', 'worker')
                 UNION ALL
                 SELECT {columns} FROM entity WHERE kind = 'testjob' AND finished = 0 AND received >= ?1"
            ))?;
            let mut rows = select.query([jobs_since_us])?;
            while let Some(row) = rows.next()? {
                let entity = Entity::read(row)?;
                let owner = owner(entity.kind, &entity.id, &entity.lab);
                if entity.is_told() && recent.changed.get(&owner).is_none() {
                    events.push(entity.latest);
                }
            }
            let wanted = |entity: &&Entity| {
                let is_open_job = || !entity.finished && entity.latest.received_us >= jobs_since_us;
                entity.is_told() && (entity.kind != Kind::Testjob || is_open_job())
            };
            let changed = recent.changed.iter().flat_map(|(_, entities)| entities).filter(wanted);
            events.extend(changed.map(|entity| entity.latest.clone()));
        }
    }
    events.sort_unstable_by_key(|event| (event.seq, event.received_us));
    Ok(Snapshot {
        position: recent.position,
        events,
    })
}
