//! The tables, and what marks a file as ours.

/// `PRAGMA application_id`: the letters `LAVB`.
pub(crate) const APPLICATION_ID: u32 = u32::from_be_bytes(*b"LAVB");

/// Version 1.
///
/// | table | holds |
/// |---|---|
/// | `event` | every event as it was received; `received` is µs since 1970 and never decreases with `seq` |
/// | `meta` | `epoch`, `created`, and `unsynced_since` while a run with `synchronous=normal` has not ended cleanly |
/// | `rejected` | the newest 1,000 refused messages; `frames` holds, per frame, its length (u32, big-endian) and its bytes |
/// | `gap` | what is known to be missing after `after_seq` |
/// | `entity` | the latest event of each device, worker and job; never pruned |
/// | `projection` | how far each projection has read |
pub(crate) const V1: &str = "
CREATE TABLE event(
    seq      INTEGER PRIMARY KEY,
    uuid     BLOB NOT NULL,
    received INTEGER NOT NULL,
    topic    TEXT NOT NULL,
    sent     TEXT NOT NULL,
    user     TEXT NOT NULL,
    data     TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX event_uuid ON event(uuid);

CREATE TABLE meta(
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES('created', strftime('%Y-%m-%dT%H:%M:%SZ', 'now'));
INSERT INTO meta VALUES('epoch', lower(hex(randomblob(4))));

CREATE TABLE rejected(
    id       INTEGER PRIMARY KEY,
    received INTEGER NOT NULL,
    reason   TEXT NOT NULL,
    peer     TEXT NOT NULL,
    frames   BLOB NOT NULL,
    size     INTEGER NOT NULL
) STRICT;

CREATE TABLE gap(
    id        INTEGER PRIMARY KEY,
    after_seq INTEGER NOT NULL,
    from_time INTEGER NOT NULL,
    to_time   INTEGER NOT NULL,
    count     INTEGER,
    reason    TEXT NOT NULL
) STRICT;

CREATE TABLE entity(
    kind     TEXT NOT NULL,
    id       TEXT NOT NULL,
    seq      INTEGER NOT NULL,
    uuid     BLOB NOT NULL,
    received INTEGER NOT NULL,
    topic    TEXT NOT NULL,
    sent     TEXT NOT NULL,
    user     TEXT NOT NULL,
    data     TEXT NOT NULL,
    sub_id   TEXT,
    sent_us  INTEGER,
    finished INTEGER NOT NULL,
    PRIMARY KEY(kind, id)
) STRICT;
CREATE INDEX entity_sub_id ON entity(sub_id) WHERE sub_id IS NOT NULL;
CREATE INDEX entity_open_job ON entity(received) WHERE kind = 'testjob' AND finished = 0;

CREATE TABLE projection(
    name   TEXT PRIMARY KEY,
    cursor INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";
