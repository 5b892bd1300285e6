//! Rows that are made of events: loaded, changed in memory, written back with what they were before.
//!
//! # How a rebuild gives the same rows
//!
//! The events that are kept are not all there were. So the rows as they were just before the oldest kept event, the
//! *base*, have to be known: a rebuild begins with them. A row that no kept event has touched is its own base. When
//! such a row is changed for the first time, what it was is copied into the `…_base` table; when events are pruned,
//! they are folded into the base first.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::types::Value;
use rusqlite::{Connection, Row as SqlRow, params_from_iter};

use super::Told;
use crate::reader::to_sql;

/// What a row belongs to, such as a lab and a device in it: the values of [`Table::owner`].
pub(crate) type Owner = Vec<String>;

/// The names of a table. Its columns begin with the owner's, then come `first_seq` and `touched`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) owner: &'static [&'static str],
    /// The columns behind `touched`.
    pub(crate) rest: &'static [&'static str],
    /// Whether its rows outlive the events that they were made of. Others go with the event that began them.
    pub(crate) outlives: bool,
}

/// A projection: rows of one table, each list of them a pure function of the events in their order.
pub(crate) trait Projection: Clone + PartialEq + Sized {
    const TABLE: Table;
    /// Whose rows this event concerns.
    fn owners(told: &Told<'_>) -> Vec<Owner>;
    /// What becomes of the rows of one owner, oldest first.
    fn apply(rows: &mut Vec<Self>, owner: &Owner, told: &Told<'_>);
    /// The number of the event that began the row: its place among the rows of its owner.
    fn first_seq(&self) -> u64;
    /// The number of the last event that concerned it.
    fn touched(&self) -> u64;
    /// From the columns, in the table's order.
    fn read(row: &SqlRow<'_>) -> Result<Self, rusqlite::Error>;
    /// The values of [`Table::rest`].
    fn rest(&self) -> Vec<Value>;
}

impl Table {
    fn columns(self) -> String {
        [self.owner, &["first_seq", "touched"], self.rest].concat().join(", ")
    }

    /// `lab = ?1 AND device = ?2`
    fn is_owner(self) -> String {
        let conditions = (1..).zip(self.owner).map(|(at, name)| format!("{name} = ?{at}"));
        conditions.collect::<Vec<_>>().join(" AND ")
    }

    fn base(self) -> String {
        format!("{}_base", self.name)
    }

    /// `?1, ?2, …` for all columns.
    fn placeholders(self) -> String {
        let count = self.owner.len() + 2 + self.rest.len();
        (1..=count).map(|at| format!("?{at}")).collect::<Vec<_>>().join(", ")
    }
}

/// Which state of the rows events are applied to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum State {
    /// As they are now.
    Live,
    /// As they were just before the event with this number, the oldest that is kept.
    Base(u64),
}

/// The rows of some owners: as they were, and as events make them.
#[derive(Debug)]
pub(crate) struct Rows<P> {
    state: State,
    lists: HashMap<Owner, List<P>>,
}

#[derive(Debug)]
struct List<P> {
    before: Vec<P>,
    after: Vec<P>,
}

impl<P: Projection> Rows<P> {
    pub(crate) fn new(state: State) -> Rows<P> {
        Rows {
            state,
            lists: HashMap::new(),
        }
    }

    pub(crate) fn apply(&mut self, conn: &Connection, told: &Told<'_>) -> Result<(), rusqlite::Error> {
        for owner in P::owners(told) {
            let list = match self.lists.entry(owner.clone()) {
                Entry::Occupied(list) => list.into_mut(),
                Entry::Vacant(vacant) => {
                    let before = load::<P>(conn, self.state, &owner)?;
                    vacant.insert(List {
                        after: before.clone(),
                        before,
                    })
                }
            };
            P::apply(&mut list.after, &owner, told);
        }
        Ok(())
    }

    /// The rows of this owner, if an event has concerned them.
    pub(crate) fn get(&self, owner: &Owner) -> Option<&[P]> {
        self.lists.get(owner).map(|list| list.after.as_slice())
    }

    /// Every owner that an event has concerned.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Owner, &[P])> {
        self.lists.iter().map(|(owner, list)| (owner, list.after.as_slice()))
    }

    /// Writes what has changed. `oldest` is the oldest kept event.
    pub(crate) fn write(&self, conn: &Connection, oldest: u64) -> Result<(), rusqlite::Error> {
        let mut writer = Writer::<P>::new(conn, P::TABLE.name.to_owned());
        for (owner, list) in &self.lists {
            for row in &list.before {
                let now = find(&list.after, row);
                if now == Some(row) {
                    continue;
                }
                if P::TABLE.outlives && row.touched() < oldest {
                    Writer::<P>::new(conn, P::TABLE.base()).insert_if_missing(owner, row)?;
                }
                if now.is_none() {
                    writer.delete(owner, row.first_seq())?;
                }
            }
            for row in &list.after {
                if find(&list.before, row) != Some(row) {
                    writer.upsert(owner, row)?;
                }
            }
        }
        Ok(())
    }

    /// Writes the base as it is just before `upto`, which becomes the oldest kept event: only what differs from the
    /// rows as they are now.
    ///
    /// Where the rows as they are now have not taken in all these events, they become the base.
    pub(crate) fn write_base(&self, conn: &Connection, upto: u64, is_projected: bool) -> Result<(), rusqlite::Error> {
        if !P::TABLE.outlives {
            return Ok(());
        }
        let mut base = Writer::<P>::new(conn, P::TABLE.base());
        let mut current = Writer::<P>::new(conn, P::TABLE.name.to_owned());
        for (owner, list) in &self.lists {
            let live = load::<P>(conn, State::Live, owner)?;
            let is_in_base = |live: &&P| list.after.iter().any(|row| row.first_seq() == live.first_seq());
            for gone in live.iter().filter(|live| !is_projected && !is_in_base(live)) {
                current.delete(owner, gone.first_seq())?;
            }
            for row in &list.before {
                base.delete(owner, row.first_seq())?;
            }
            for row in &list.after {
                let is_live = live.iter().any(|live| live == row && live.touched() < upto);
                if !is_live {
                    base.upsert(owner, row)?;
                }
            }
        }
        Ok(())
    }
}

/// The same row in another state of its owner. Rows are only ever added at the end, so they stay in order.
fn find<'r, P: Projection>(rows: &'r [P], wanted: &P) -> Option<&'r P> {
    // Those saved from a damaged database have numbers below 1.
    let place = rows.binary_search_by_key(&wanted.first_seq().cast_signed(), |row| row.first_seq().cast_signed());
    place.ok().map(|place| &rows[place])
}

/// The rows of one owner, oldest first.
pub(crate) fn load<P: Projection>(conn: &Connection, state: State, owner: &Owner) -> Result<Vec<P>, rusqlite::Error> {
    let (columns, is_owner, name) = (P::TABLE.columns(), P::TABLE.is_owner(), P::TABLE.name);
    let select = |table: &str, condition: &str| -> Result<Vec<P>, rusqlite::Error> {
        let sql = format!("SELECT {columns} FROM {table} WHERE {is_owner}{condition} ORDER BY first_seq");
        let mut select = conn.prepare_cached(&sql)?;
        let rows = select.query_map(params_from_iter(owner), |row| P::read(row))?;
        rows.collect()
    };
    match state {
        State::Live => select(name, ""),
        State::Base(_) if !P::TABLE.outlives => Ok(Vec::new()),
        State::Base(oldest) => {
            let mut rows = select(&P::TABLE.base(), "")?;
            for own in select(name, &format!(" AND touched < {oldest}"))? {
                if rows.iter().all(|row| row.first_seq() != own.first_seq()) {
                    rows.push(own);
                }
            }
            // Those saved from a damaged database have numbers below 1.
            rows.sort_by_key(|row| row.first_seq().cast_signed());
            Ok(rows)
        }
    }
}

/// Every row of the base, for a copy of it.
pub(crate) fn base<P: Projection>(conn: &Connection, oldest: u64) -> Result<Vec<(Owner, P)>, rusqlite::Error> {
    let (columns, name, base) = (P::TABLE.columns(), P::TABLE.name, P::TABLE.base());
    let owner = P::TABLE.owner.join(", ");
    let sql = format!(
        "SELECT {columns} FROM {base} UNION ALL SELECT {columns} FROM {name} WHERE touched < ?1
         AND ({owner}, first_seq) NOT IN (SELECT {owner}, first_seq FROM {base})"
    );
    let mut select = conn.prepare(&sql)?;
    let rows = select.query_map([to_sql(oldest)], owner_and_row)?;
    rows.collect()
}

/// Every row as it is now.
pub(crate) fn all<P: Projection>(conn: &Connection) -> Result<Vec<(Owner, P)>, rusqlite::Error> {
    let (columns, name) = (P::TABLE.columns(), P::TABLE.name);
    read_all(conn, &format!("SELECT {columns} FROM {name}"))
}

/// What this statement gives, which has the table's columns.
pub(crate) fn read_all<P: Projection>(conn: &Connection, sql: &str) -> Result<Vec<(Owner, P)>, rusqlite::Error> {
    let mut select = conn.prepare(sql)?;
    let rows = select.query_map([], owner_and_row)?;
    rows.collect()
}

fn owner_and_row<P: Projection>(row: &SqlRow<'_>) -> Result<(Owner, P), rusqlite::Error> {
    let owner = (0..P::TABLE.owner.len())
        .map(|at| row.get(at))
        .collect::<Result<_, _>>()?;
    Ok((owner, P::read(row)?))
}

/// Makes the rows what they were just before the event with the number `oldest`.
pub(crate) fn reset<P: Projection>(conn: &Connection, oldest: u64) -> Result<(), rusqlite::Error> {
    let name = P::TABLE.name;
    if !P::TABLE.outlives {
        conn.execute(&format!("DELETE FROM {name}"), [])?;
    } else {
        conn.execute(&format!("DELETE FROM {name} WHERE touched >= ?"), [to_sql(oldest)])?;
        let (columns, base) = (P::TABLE.columns(), P::TABLE.base());
        let sql = format!("INSERT OR REPLACE INTO {name}({columns}) SELECT {columns} FROM {base}");
        conn.execute(&sql, [])?;
        conn.execute(&format!("DELETE FROM {base}"), [])?;
    }
    Ok(())
}

/// The rows that go with the events before `upto`.
pub(crate) fn prune<P: Projection>(conn: &Connection, upto: u64) -> Result<(), rusqlite::Error> {
    if !P::TABLE.outlives {
        conn.prepare_cached(&format!("DELETE FROM {} WHERE first_seq < ?", P::TABLE.name))?
            .execute([to_sql(upto)])?;
    }
    Ok(())
}

/// The rows that no event has concerned for longest, all of whose events are gone: their `touched`, as a statement with
/// the oldest kept event and their number as parameters.
pub(crate) fn oldest<P: Projection>() -> String {
    let name = P::TABLE.name;
    format!("SELECT touched FROM (SELECT touched FROM {name} WHERE touched < ?1 ORDER BY touched LIMIT ?2)")
}

/// Deletes the rows that no event behind `upto` has concerned. How many.
pub(crate) fn forget<P: Projection>(conn: &Connection, upto: i64) -> Result<usize, rusqlite::Error> {
    conn.prepare_cached(&format!("DELETE FROM {} WHERE touched <= ?", P::TABLE.name))?
        .execute([upto])
}

/// Writes rows into one table.
pub(crate) struct Writer<'c, P> {
    conn: &'c Connection,
    insert: String,
    delete: String,
    of: std::marker::PhantomData<P>,
}

impl<'c, P: Projection> Writer<'c, P> {
    pub(crate) fn new(conn: &'c Connection, table: String) -> Writer<'c, P> {
        let (columns, placeholders) = (P::TABLE.columns(), P::TABLE.placeholders());
        let is_owner = P::TABLE.is_owner();
        Writer {
            conn,
            insert: format!("INTO {table}({columns}) VALUES({placeholders})"),
            delete: format!(
                "DELETE FROM {table} WHERE {is_owner} AND first_seq = ?{}",
                P::TABLE.owner.len() + 1
            ),
            of: std::marker::PhantomData,
        }
    }

    pub(crate) fn upsert(&mut self, owner: &Owner, row: &P) -> Result<(), rusqlite::Error> {
        self.execute("INSERT OR REPLACE", owner, row)
    }

    pub(crate) fn insert_if_missing(&mut self, owner: &Owner, row: &P) -> Result<(), rusqlite::Error> {
        self.execute("INSERT OR IGNORE", owner, row)
    }

    fn execute(&self, verb: &str, owner: &Owner, row: &P) -> Result<(), rusqlite::Error> {
        let owner = owner.iter().map(|part| Value::Text(part.clone()));
        let numbers = [row.first_seq(), row.touched()].map(|number| Value::Integer(number.cast_signed()));
        let values = owner.chain(numbers).chain(row.rest());
        self.conn
            .prepare_cached(&format!("{verb} {}", self.insert))?
            .execute(params_from_iter(values))?;
        Ok(())
    }

    pub(crate) fn delete(&mut self, owner: &Owner, first_seq: u64) -> Result<(), rusqlite::Error> {
        let owner = owner.iter().map(|part| Value::Text(part.clone()));
        let values = owner.chain([Value::Integer(first_seq.cast_signed())]);
        self.conn
            .prepare_cached(&self.delete)?
            .execute(params_from_iter(values))?;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod from_json_lines {
    use super::*;
    use crate::reader::EventRow;
    use lavabus_protocol::Record;

    /// What a projection makes of short JSON lines: `KIND {"data": …}`, or `KIND@SECOND {…}`, each sent at its number's
    /// second if it does not say when. By owner, in order.
    pub(crate) fn fold<P: Projection>(lines: &str) -> Vec<(String, Vec<P>)> {
        let mut lists: std::collections::BTreeMap<Owner, Vec<P>> = Default::default();
        for (seq, line) in (1_u64..).zip(lines.lines().map(str::trim).filter(|line| !line.is_empty())) {
            let (kind, data) = line.split_once(' ').expect("a kind, then data");
            let (kind, second) = kind.split_once('@').unwrap_or((kind, ""));
            let second: u64 = second.parse().unwrap_or(seq);
            let (day, clock) = (second / 86_400, second % 86_400);
            let line = format!(
                r#"{{"topic":"lab.{kind}","uuid":"00000000-0000-4000-8000-{seq:012}","datetime":"1970-01-{:02}T{:02}:{:02}:{:02}+00:00","username":"u","data":{data}}}"#,
                day + 1,
                clock / 3_600,
                clock / 60 % 60,
                clock % 60
            );
            let record = Record::from_json_line(&line).expect("an event");
            let row = EventRow {
                seq,
                id: record.uuid,
                received_us: second.max(seq).cast_signed() * 1_000_000,
                topic: &record.topic,
                sent: &record.datetime,
                user: &record.username,
                data: &record.data,
                lab: "",
            };
            let told = Told::read(row);
            for owner in P::owners(&told) {
                P::apply(lists.entry(owner.clone()).or_default(), &owner, &told);
            }
        }
        let named = |(owner, rows): (Owner, Vec<P>)| (owner.join("/").trim_matches('/').to_owned(), rows);
        lists.into_iter().map(named).collect()
    }
}
