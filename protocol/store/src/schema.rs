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
/// | `entity` | the latest event of each device, worker and job |
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

/// Version 2: labs, where each of them was left, and what is derived from the events.
///
/// | table | holds |
/// |---|---|
/// | `event.lab`, `gap.lab` | from which lab it came; empty in a publisher's journal and where there is only one |
/// | `gap.filled` | when it was filled, µs since 1970 |
/// | `source` | how far each lab was recorded, and what of it was asked for |
/// | `entity` | now by lab too; `since_us` is when its state or health last changed, `touched` the last event that named it |
/// | `ref` | which events mention an id; `kind` is a [`RefKind`](crate::RefKind) |
/// | `attempt`, `fault`, `result` | the newest of each device, subject and test case |
/// | `stage` | what a service has received and not ended |
/// | `…_base` | those rows as they were when the newest event was pruned, where they have changed since |
pub(crate) const V2: &str = "
ALTER TABLE event ADD COLUMN lab TEXT NOT NULL DEFAULT '';
ALTER TABLE gap ADD COLUMN lab TEXT NOT NULL DEFAULT '';
ALTER TABLE gap ADD COLUMN filled INTEGER;

CREATE TABLE source(
    lab    TEXT PRIMARY KEY,
    cursor TEXT NOT NULL,
    filter TEXT NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE entity RENAME TO entity_1;
DROP INDEX entity_sub_id;
DROP INDEX entity_open_job;
CREATE TABLE entity(
    kind         TEXT NOT NULL,
    id           TEXT NOT NULL,
    lab          TEXT NOT NULL,
    first_seq    INTEGER NOT NULL,
    touched      INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    uuid         BLOB NOT NULL,
    received     INTEGER NOT NULL,
    topic        TEXT NOT NULL,
    sent         TEXT NOT NULL,
    user         TEXT NOT NULL,
    data         TEXT NOT NULL,
    sub_id       TEXT,
    sent_us      INTEGER,
    finished     INTEGER NOT NULL,
    since_us     INTEGER NOT NULL,
    submitted_us INTEGER,
    started_us   INTEGER,
    ended_us     INTEGER,
    heard_us     INTEGER NOT NULL,
    PRIMARY KEY(kind, id, lab)
) STRICT;
INSERT INTO entity
    SELECT kind, id, '', seq, seq, seq, uuid, received, topic, sent, user, data, sub_id, sent_us, finished,
           coalesce(sent_us, received),
           CAST(unixepoch(data ->> 'submit_time', 'subsec') * 1000000 AS INTEGER),
           CAST(unixepoch(data ->> 'start_time', 'subsec') * 1000000 AS INTEGER),
           CAST(unixepoch(data ->> 'end_time', 'subsec') * 1000000 AS INTEGER),
           received
    FROM entity_1 WHERE json_valid(data)
    UNION ALL
    SELECT kind, id, '', seq, seq, seq, uuid, received, topic, sent, user, data, sub_id, sent_us, finished,
           coalesce(sent_us, received), NULL, NULL, NULL, received
    FROM entity_1 WHERE NOT json_valid(data);
DROP TABLE entity_1;
CREATE INDEX entity_sub_id ON entity(sub_id) WHERE sub_id IS NOT NULL;
CREATE INDEX entity_open_job ON entity(received) WHERE kind = 'testjob' AND finished = 0;
CREATE INDEX entity_ended ON entity(ended_us, started_us, submitted_us) WHERE kind = 'testjob' AND finished = 1;
CREATE INDEX entity_touched ON entity(touched);

CREATE TABLE ref(
    kind INTEGER NOT NULL,
    id   TEXT NOT NULL,
    seq  INTEGER NOT NULL,
    PRIMARY KEY(kind, id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempt(
    lab         TEXT NOT NULL,
    device      TEXT NOT NULL,
    first_seq   INTEGER NOT NULL,
    touched     INTEGER NOT NULL,
    job         TEXT,
    phase       TEXT NOT NULL,
    outcome     TEXT NOT NULL,
    exit_code   INTEGER,
    error_type  TEXT,
    detail      TEXT,
    started_us  INTEGER,
    finished_us INTEGER NOT NULL,
    told_by     TEXT NOT NULL,
    PRIMARY KEY(lab, device, first_seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempt_finished ON attempt(finished_us, outcome);
CREATE INDEX attempt_job ON attempt(job) WHERE job IS NOT NULL;
CREATE INDEX attempt_touched ON attempt(touched);

CREATE TABLE fault(
    lab        TEXT NOT NULL,
    subject    TEXT NOT NULL,
    first_seq  INTEGER NOT NULL,
    touched    INTEGER NOT NULL,
    message    TEXT NOT NULL,
    details    TEXT,
    origin     TEXT,
    job        TEXT,
    first_us   INTEGER NOT NULL,
    last_us    INTEGER NOT NULL,
    count      INTEGER NOT NULL,
    cleared_us INTEGER,
    PRIMARY KEY(lab, subject, first_seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX fault_last ON fault(last_us);
CREATE INDEX fault_open ON fault(last_us) WHERE cleared_us IS NULL;
CREATE INDEX fault_touched ON fault(touched);

CREATE TABLE result(
    lab       TEXT NOT NULL,
    testcase  TEXT NOT NULL,
    item      TEXT NOT NULL,
    first_seq INTEGER NOT NULL,
    touched   INTEGER NOT NULL,
    type      TEXT,
    outcome   TEXT NOT NULL,
    previous  TEXT,
    run       TEXT,
    job       TEXT,
    device    TEXT,
    note      TEXT,
    url       TEXT,
    sent_us   INTEGER NOT NULL,
    newest    INTEGER NOT NULL,
    PRIMARY KEY(lab, testcase, item, first_seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX result_newest ON result(sent_us) WHERE newest = 1;
CREATE INDEX result_run ON result(run) WHERE run IS NOT NULL;
CREATE INDEX result_job ON result(job) WHERE job IS NOT NULL;
CREATE INDEX result_touched ON result(touched);

CREATE TABLE stage(
    lab       TEXT NOT NULL,
    request   TEXT NOT NULL,
    service   TEXT NOT NULL,
    first_seq INTEGER NOT NULL,
    touched   INTEGER NOT NULL,
    source    TEXT NOT NULL,
    status    TEXT NOT NULL,
    account   TEXT,
    job       TEXT,
    since_us  INTEGER NOT NULL,
    PRIMARY KEY(lab, request, service, source)
) STRICT, WITHOUT ROWID;
CREATE INDEX stage_since ON stage(since_us);
CREATE INDEX stage_first_seq ON stage(first_seq);

CREATE TABLE entity_base AS SELECT * FROM entity WHERE 0;
CREATE UNIQUE INDEX entity_base_key ON entity_base(kind, id, lab);
CREATE TABLE attempt_base AS SELECT * FROM attempt WHERE 0;
CREATE UNIQUE INDEX attempt_base_key ON attempt_base(lab, device, first_seq);
CREATE TABLE fault_base AS SELECT * FROM fault WHERE 0;
CREATE UNIQUE INDEX fault_base_key ON fault_base(lab, subject, first_seq);
CREATE TABLE result_base AS SELECT * FROM result WHERE 0;
CREATE UNIQUE INDEX result_base_key ON result_base(lab, testcase, item, first_seq);
";
