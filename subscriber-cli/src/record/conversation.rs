//! What a bus told, as entries to write down. Pure but for the notices: the clock is an argument.

use std::time::Duration;

use lavabus_client::Update;
use lavabus_protocol::{Cursor, GapReason, Position, Record};

use super::database::KnownLab;
use super::entry::{Entry, MissingEvents};
use super::report::Report;
use crate::listen::{gap_text, sent};
use crate::outlet::Outlet;

/// The cursor of an event proves by its UUID that publisher and recording mean the same event, so it is the better one to
/// keep; but one that is never renewed ends up older than what the publisher gives. From this age on the position that the
/// publisher tells takes its place. Publishers give the last hour to everybody.
const CURSOR_AGE: Duration = Duration::from_secs(10 * 60);

/// What is known of one bus.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) outlet: Outlet,
    /// Its place among the buses.
    index: usize,
    /// Its name in events, where it has one.
    label: Option<String>,
    /// It sends everything, so that the numbers of a gap tell how many events are missing.
    is_unfiltered: bool,
    pub(super) is_connected: bool,
    is_plain: bool,
    /// It was connected in this run.
    is_known: bool,
    /// All that there is was asked for, by a cursor that nobody knows; and nothing has come yet.
    asks_for_all: bool,
    /// Where it goes on.
    pub(super) cursor: Option<Cursor>,
    /// When the cursor's event was received, in µs since 1970; `None` if it says nothing any more.
    cursor_us: Option<i64>,
    /// When it was last heard, or recorded by an earlier run, in µs since 1970.
    heard_us: Option<i64>,
    /// When the last event was sent, in µs since 1970.
    sent_us: Option<i64>,
    /// What is missing before the next event.
    missing: Option<MissingEvents>,
    /// How many events of it were not read yet.
    pub(super) behind: u64,
}

impl Conversation {
    pub(super) fn new(outlet: Outlet, index: usize, lab: &KnownLab, is_unfiltered: bool) -> Conversation {
        Conversation {
            outlet,
            index,
            label: Some(lab.name.clone()).filter(|name| !name.is_empty()),
            is_unfiltered,
            is_connected: false,
            is_plain: false,
            is_known: false,
            asks_for_all: lab.cursor.is_none(),
            cursor: lab.cursor,
            cursor_us: lab.recorded_until_us,
            heard_us: lab.recorded_until_us,
            sent_us: None,
            missing: None,
            behind: 0,
        }
    }

    /// Takes what the bus told at `now_us`, in µs since 1970.
    pub(super) fn take(
        &mut self,
        update: Update,
        now_us: i64,
        wants: impl FnOnce(&Record) -> bool,
        report: &Report,
        entries: &mut Vec<Entry>,
    ) {
        match update {
            Update::Event { mut record, .. } => {
                record.lab.clone_from(&self.label);
                self.on_event(record, now_us, wants, entries);
            }
            Update::Head { head, position, .. } => {
                self.heard_us = Some(now_us);
                self.write_missing(now_us, entries);
                let Some(position) = position else { return };
                self.behind = match position.epoch == head.epoch {
                    true => head.seq.saturating_sub(position.seq),
                    false => 0,
                };
                self.on_position(position, now_us, entries);
            }
            Update::Gap { from, to, reason } => self.on_gap(from, to, reason, now_us, report, entries),
            Update::Connected { extended } => self.on_connected(extended, now_us, report, entries),
            Update::Disconnected { cause } => {
                self.is_connected = false;
                report.notice(format_args!("no connection to {}, trying again: {cause}", self.outlet));
            }
            Update::Unreadable { cause } => report.notice(format_args!(
                "a message of {} is no event and is passed over: {cause}",
                self.outlet
            )),
            // None was asked for.
            Update::SnapshotBegin { .. } | Update::SnapshotEnd { .. } => {}
        }
    }

    fn on_event(&mut self, record: Record, now_us: i64, wants: impl FnOnce(&Record) -> bool, entries: &mut Vec<Entry>) {
        let sent_us = sent(&record).map_or(now_us, |sent| sent.as_microsecond()).min(now_us);
        self.write_missing(sent_us, entries);
        self.heard_us = Some(now_us);
        self.sent_us = Some(sent_us);
        self.asks_for_all = false;
        if let Some(cursor) = record.cursor {
            (self.cursor, self.cursor_us) = (Some(cursor), Some(now_us));
        }
        // Whoever has something to say about each event that is recorded says it here.
        if wants(&record) {
            entries.push(Entry::Event {
                record,
                received_us: now_us,
                of: Some(self.index),
            });
        } else if let Some(cursor) = record.cursor {
            self.reach(cursor, entries);
        }
    }

    fn on_position(&mut self, position: Position, now_us: i64, entries: &mut Vec<Entry>) {
        let is_old = self
            .cursor_us
            .is_none_or(|at| now_us.saturating_sub(at) >= micros(CURSOR_AGE));
        let of_event = self.cursor.filter(|cursor| cursor.position_alone().is_none());
        let is_better = match of_event {
            None => true,
            Some(_) => is_old,
        };
        let cursor = Cursor::of_position(position);
        let is_same = self.cursor.is_some_and(|known| known.position == cursor.position);
        if is_better && !is_same {
            self.cursor = Some(cursor);
            self.reach(cursor, entries);
        }
    }

    /// Later places of the same bus take the place of earlier ones.
    fn reach(&self, cursor: Cursor, entries: &mut Vec<Entry>) {
        let of = self.index;
        match entries.last_mut() {
            Some(Entry::Reached {
                of: last,
                cursor: before,
            }) if *last == of => *before = cursor,
            _ => entries.push(Entry::Reached { of, cursor }),
        }
    }

    fn on_gap(
        &mut self,
        from: Option<Position>,
        to: Option<Position>,
        reason: GapReason,
        now_us: i64,
        report: &Report,
        entries: &mut Vec<Entry>,
    ) {
        // That of a plain publisher was written when it was connected to.
        let is_plain = reason.as_str() == PLAIN;
        if is_plain || (self.asks_for_all && reason == GapReason::UnknownCursor) {
            return;
        }
        let text = gap_text(from, to, &reason);
        report.notice(format_args!("gap: events of {} are missing: {text}", self.outlet));
        // From now on the old place is none: the next position counts.
        self.cursor_us = None;
        if let Some(before) = &self.missing {
            if before.reason == reason {
                return;
            }
            self.write_missing(now_us, entries);
        }
        let count = match (from, to) {
            (Some(from), Some(to)) if self.is_unfiltered && from.epoch == to.epoch && from.seq <= to.seq => {
                Some(to.seq - from.seq + 1)
            }
            _ => None,
        };
        let from_us = self.sent_us.or(self.heard_us).unwrap_or(now_us);
        self.missing = Some(MissingEvents {
            from_us,
            to_us: now_us,
            count,
            reason,
        });
    }

    fn on_connected(&mut self, extended: bool, now_us: i64, report: &Report, entries: &mut Vec<Entry>) {
        self.is_connected = true;
        self.is_plain = !extended;
        let bus = &self.outlet;
        match self.is_known {
            true => report.notice(format_args!("connected to {bus} again")),
            false => report.detail(format_args!("connected to {bus}")),
        }
        if !extended {
            match self.heard_us {
                Some(from_us) => {
                    report.notice(format_args!(
                        "gap: {bus} cannot go back: what it sent meanwhile is missing"
                    ));
                    self.push_gap(from_us, now_us, GapReason::Other(PLAIN.to_owned()), entries);
                }
                None => report.notice(format_args!(
                    "{bus} cannot go back: only what happens from now on is recorded"
                )),
            }
        }
        self.is_known = true;
        self.heard_us = Some(now_us);
    }

    /// The recording was not read on between these times, in µs since 1970. A plain publisher does not wait.
    pub(super) fn on_stall(&mut self, from_us: i64, to_us: i64, report: &Report, entries: &mut Vec<Entry>) {
        if self.is_plain && self.is_connected {
            report.notice(format_args!(
                "gap: perhaps events of {} are missing: it does not wait for this disk",
                self.outlet
            ));
            self.push_gap(from_us, to_us, GapReason::NotRecorded, entries);
        }
    }

    /// Nothing more comes: what is missing is missing up to now.
    pub(super) fn end(&mut self, now_us: i64, entries: &mut Vec<Entry>) {
        self.write_missing(now_us, entries);
    }

    /// What is missing is written down with the place behind it, or not at all: then it is told again.
    fn write_missing(&mut self, to_us: i64, entries: &mut Vec<Entry>) {
        if let Some(gap) = self.missing.take() {
            let to_us = to_us.max(gap.from_us);
            let of = self.index;
            entries.push(Entry::Gap {
                of,
                gap: MissingEvents { to_us, ..gap },
            });
        }
    }

    fn push_gap(&self, from_us: i64, to_us: i64, reason: GapReason, entries: &mut Vec<Entry>) {
        entries.push(Entry::Gap {
            of: self.index,
            gap: MissingEvents {
                from_us: from_us.min(to_us),
                to_us,
                count: None,
                reason,
            },
        });
    }
}

/// Of a publisher that cannot resume, as our client calls it.
const PLAIN: &str = "plain_publisher";

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use crate::context::Context;
    use lavabus_protocol::Epoch;

    use super::*;

    const MINUTE: i64 = 60_000_000;
    const NOW: i64 = 1_795_237_265_000_000;

    fn conversation(lab: &KnownLab) -> Conversation {
        let bus = "tcp://127.0.0.1:1".parse().unwrap();
        let outlet = Outlet::of(&bus, &Context::default(), &[]).unwrap();
        Conversation::new(outlet, 0, lab, true)
    }

    fn known(cursor: Cursor, recorded_until_us: i64) -> KnownLab {
        KnownLab {
            name: String::new(),
            cursor: Some(cursor),
            recorded_until_us: Some(recorded_until_us),
        }
    }

    fn at(seq: u64) -> Position {
        let epoch = Epoch::from_u32(1);
        Position { epoch, seq }
    }

    fn cursor(seq: u64) -> Cursor {
        Cursor {
            position: Some(at(seq)),
            uuid: format!("{seq:08x}-0000-1000-8000-000000000001").parse().unwrap(),
        }
    }

    fn event(seq: u64) -> Update {
        let cursor = cursor(seq);
        Update::Event {
            record: Record {
                topic: "lab.event".to_owned(),
                uuid: cursor.uuid,
                datetime: "2026-11-21T05:01:00+00:00".to_owned(),
                username: "ann".to_owned(),
                data: "{}".to_owned(),
                cursor: Some(cursor),
                lab: None,
            },
            position: cursor.position,
            in_snapshot: false,
        }
    }

    fn head(seq: u64) -> Update {
        Update::Head {
            head: at(seq),
            oldest: Some(1),
            skipped: 0,
            position: Some(at(seq)),
        }
    }

    fn gap(reason: GapReason) -> Update {
        let (from, to) = (Some(at(3)), Some(at(9)));
        Update::Gap { from, to, reason }
    }

    /// What is written, in short.
    fn take(conversation: &mut Conversation, update: Update, now_us: i64, is_wanted: bool) -> Vec<String> {
        let context = Context {
            quiet: true,
            ..Context::default()
        };
        let report = Report::new(&context, Arc::default());
        let mut entries = Vec::new();
        conversation.take(update, now_us, |_| is_wanted, &report, &mut entries);
        let short = |entry: &Entry| match entry {
            Entry::Event { record, .. } => format!("event {}", record.cursor.unwrap().position.unwrap().seq),
            Entry::Reached { cursor, .. } => match cursor.position_alone() {
                Some(position) => format!("place {}", position.seq),
                None => format!("event {} passed", cursor.position.unwrap().seq),
            },
            Entry::Gap { gap, .. } => format!(
                "{} {:?} {}..{}",
                gap.reason,
                gap.count,
                (gap.from_us - NOW) / MINUTE,
                (gap.to_us - NOW) / MINUTE
            ),
        };
        entries.iter().map(short).collect()
    }

    #[test]
    fn an_event_is_the_better_place_until_it_is_old() {
        let mut bus = conversation(&KnownLab::default());
        assert_eq!(
            take(&mut bus, head(7), NOW, true),
            ["place 7"],
            "there was no event yet"
        );
        assert_eq!(take(&mut bus, head(7), NOW, true), [""; 0]);
        assert_eq!(take(&mut bus, event(8), NOW, true), ["event 8"]);
        assert_eq!(take(&mut bus, event(9), NOW, false), ["event 9 passed"]);
        assert_eq!(take(&mut bus, head(50), NOW + MINUTE, true), [""; 0]);
        assert_eq!(take(&mut bus, head(60), NOW + 10 * MINUTE, true), ["place 60"]);
        assert_eq!(take(&mut bus, head(61), NOW + 10 * MINUTE, true), ["place 61"]);
    }

    #[test]
    fn a_gap_is_written_with_the_place_behind_it() {
        let mut bus = conversation(&known(cursor(2), NOW - 30 * MINUTE));
        assert_eq!(take(&mut bus, gap(GapReason::Expired), NOW, true), [""; 0]);
        // Told again, after a new connection.
        assert_eq!(take(&mut bus, gap(GapReason::Expired), NOW, true), [""; 0]);
        assert_eq!(
            take(&mut bus, head(9), NOW + MINUTE, true),
            ["expired Some(7) -30..1", "place 9"]
        );
        take(&mut bus, event(10), NOW + MINUTE, true);
        assert_eq!(take(&mut bus, gap(GapReason::RingOverrun), NOW + MINUTE, true), [""; 0]);
        assert_eq!(
            take(&mut bus, event(20), NOW + 2 * MINUTE, true),
            ["ring_overrun Some(7) 0..0", "event 20"],
            "between the times at which the events around it were sent"
        );
    }

    #[test]
    fn all_that_there_is_was_asked_for_without_a_place() {
        let mut bus = conversation(&KnownLab::default());
        take(&mut bus, gap(GapReason::UnknownCursor), NOW, true);
        assert_eq!(take(&mut bus, event(1), NOW, true), ["event 1"]);
        take(&mut bus, gap(GapReason::UnknownCursor), NOW, true);
        assert_eq!(
            take(&mut bus, event(2), NOW, true),
            ["unknown_cursor Some(7) 0..0", "event 2"]
        );
        // What may not be had is a gap from the beginning.
        let mut bus = conversation(&KnownLab::default());
        take(&mut bus, gap(GapReason::NotPermitted), NOW, true);
        assert_eq!(
            take(&mut bus, head(9), NOW, true),
            ["not_permitted Some(7) 0..0", "place 9"]
        );
    }

    #[test]
    fn each_connection_to_a_plain_publisher_is_a_gap_since_it_was_heard() {
        let plain = || Update::Connected { extended: false };
        let mut bus = conversation(&KnownLab::default());
        assert_eq!(take(&mut bus, plain(), NOW, true), [""; 0], "a beginning");
        let mut bus = conversation(&known(cursor(2), NOW - 5 * MINUTE));
        assert_eq!(take(&mut bus, plain(), NOW, true), ["plain_publisher None -5..0"]);
        take(&mut bus, event(3), NOW + MINUTE, true);
        assert_eq!(
            take(&mut bus, plain(), NOW + 3 * MINUTE, true),
            ["plain_publisher None 1..3"]
        );
        let told_by_client = gap(GapReason::Other(PLAIN.to_owned()));
        assert_eq!(take(&mut bus, told_by_client, NOW + 3 * MINUTE, true), [""; 0]);
    }
}
