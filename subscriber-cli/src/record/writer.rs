//! The thread that writes: groups of what waits, and, between them, projections and retention.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lavabus_protocol::{Cursor, Record, Refusal};
use lavabus_store::{Appended, Gap, Journal, NewEvent, NewGap, PruneBudget, Reader, Rejected, Retention, StoreError};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use super::database::{KnownLab, cannot_write};
use super::entry::{Batch, Entry, MissingEvents};
use super::report::{Counts, Report};
use crate::exit::Exit;
use crate::failure::Failure;

/// A group holds about that many entries: enough that a sync of the disk costs each of them little.
const GROUP: usize = 2_000;
/// It is made of so many batches at most, which bounds its bytes too.
const BATCHES: usize = 16;
/// The thread looks around this often at least.
const TICK: Duration = Duration::from_secs(1);
/// How far a bus was read is written down this often, if that is all that there is to write.
const PLACES: Duration = Duration::from_secs(60);
/// Events that the projections take in at a time.
const PROJECTED_AT_ONCE: u64 = 1_000;
/// Upkeep takes this part of the time while there is something to write,
const UPKEEP_SHARE: u32 = 5;
/// and this one while there is more than enough.
const UPKEEP_SHARE_IN_HASTE: u32 = 20;
/// Retention, and whether the file is still there, are looked at this often.
const LOOK: Duration = Duration::from_secs(5);
/// A disk in trouble is tried again this often.
const RETRY: Duration = Duration::from_secs(1);

/// How the thread works.
#[derive(Debug)]
pub(super) struct WriterOptions {
    pub(super) retention: Retention,
    /// What is asked for, as it is written down.
    pub(super) filter: String,
    /// It ends after so many new events.
    pub(super) count: Option<u64>,
    /// A disk that takes nothing ends it after this time.
    pub(super) patience: Duration,
    /// At the end the projections get this time; `None`: as long as it takes.
    pub(super) last_projections: Option<Duration>,
}

/// How the thread ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) path: PathBuf,
    pub(super) result: Result<(), Failure>,
    /// Events that were read and could not be written.
    pub(super) unwritten: u64,
    /// Events that the projections have not taken in.
    pub(super) behind: u64,
}

/// The thread's state.
pub(super) struct Writer {
    journal: Journal,
    path: PathBuf,
    /// The file that was opened: device and inode.
    file: Option<(u64, u64)>,
    labs: Vec<String>,
    options: WriterOptions,
    counts: Arc<Counts>,
    report: Report,
    hurry: CancellationToken,
    /// How far each lab was read, where that is not written down yet.
    places: Vec<Option<Cursor>>,
    places_written: Instant,
    /// The last gap of each lab, while no event has come after it.
    last_gaps: Vec<Option<String>>,
    recorded: u64,
    entities_behind: u64,
    history_behind: u64,
    prunes: bool,
    looked: Option<Instant>,
    upkeep_due: Instant,
    is_told: bool,
    is_conflict_told: bool,
}

/// What a commit has done.
#[derive(Debug, Default)]
struct Committed {
    recorded: u64,
    repeats: u64,
    conflicts: u64,
    gaps: u64,
    last_gaps: Vec<Option<String>>,
}

impl Writer {
    pub(super) fn new(
        journal: Journal,
        labs: &[KnownLab],
        options: WriterOptions,
        counts: Arc<Counts>,
        report: Report,
        hurry: CancellationToken,
    ) -> Writer {
        let path = journal.path().to_owned();
        let labs: Vec<String> = labs.iter().map(|lab| lab.name.clone()).collect();
        let last_gaps = last_gaps(&path, journal.head(), &labs);
        Writer {
            file: identity(&path),
            path,
            places: vec![None; labs.len()],
            places_written: Instant::now(),
            last_gaps,
            labs,
            options,
            counts,
            report,
            hurry,
            recorded: 0,
            entities_behind: 1,
            history_behind: 1,
            prunes: true,
            looked: None,
            upkeep_due: Instant::now(),
            is_told: false,
            is_conflict_told: false,
            journal,
        }
    }

    /// Works until all senders are gone and everything they sent is committed, or until it has enough.
    pub(super) fn run(mut self, mut batches: Receiver<Batch>, runtime: &Handle) -> Ended {
        let mut unwritten = 0;
        let result = self.work(&mut batches, runtime, &mut unwritten);
        // Whoever still reads is told to end.
        drop(batches);
        self.finish(result, unwritten)
    }

    fn work(&mut self, batches: &mut Receiver<Batch>, runtime: &Handle, unwritten: &mut u64) -> Result<(), Failure> {
        let mut entries = Batch::new();
        loop {
            let pause = if self.has_upkeep() { Duration::ZERO } else { TICK };
            match runtime.block_on(async { tokio::time::timeout(pause, batches.recv()).await }) {
                Ok(Some(first)) => {
                    entries = first;
                    for _ in 1..BATCHES {
                        if entries.len() >= GROUP {
                            break;
                        }
                        let Ok(mut next) = batches.try_recv() else { break };
                        entries.append(&mut next);
                    }
                    let is_full = entries.len() >= GROUP;
                    *unwritten = events(&entries);
                    self.take(&mut entries, runtime)?;
                    *unwritten = 0;
                    if self.options.count == Some(self.recorded) {
                        return Ok(());
                    }
                    if self.upkeep_due <= Instant::now() {
                        self.upkeep(if is_full { UPKEEP_SHARE_IN_HASTE } else { UPKEEP_SHARE })?;
                    }
                }
                Ok(None) => {
                    *unwritten = 0;
                    if self.places.iter().any(Option::is_some) {
                        entries.clear();
                        self.persist(&entries, runtime)?;
                    }
                    return Ok(());
                }
                Err(_) => self.upkeep(UPKEEP_SHARE)?,
            }
        }
    }

    /// Writes a group. One that only says how far its bus was read waits for the next, for a while.
    fn take(&mut self, entries: &mut Batch, runtime: &Handle) -> Result<(), Failure> {
        let only_places = entries.iter().all(|entry| matches!(entry, Entry::Reached { .. }));
        if only_places && self.places_written.elapsed() < PLACES {
            for entry in entries.drain(..) {
                if let Entry::Reached { of, cursor } = entry {
                    self.places[of] = Some(cursor);
                }
            }
            return Ok(());
        }
        self.persist(entries, runtime)
    }

    /// Commits a group, and waits for a disk that does not take it.
    fn persist(&mut self, entries: &Batch, runtime: &Handle) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            let error = match self.commit(entries) {
                Ok(committed) => {
                    if std::mem::take(&mut self.is_told) {
                        self.report.notice("the disk takes events again: nothing is lost");
                    }
                    self.committed(committed);
                    return Ok(());
                }
                Err(error) => error,
            };
            if matches!(error, StoreError::Corrupt(_)) {
                // Where even that cannot be written, the next start finds the damage by itself.
                let _ = self.journal.mark_damaged();
                return Err(cannot_write(&self.path, &error));
            }
            if began.elapsed() >= self.options.patience || self.hurry.is_cancelled() {
                return Err(cannot_write(&self.path, &error));
            }
            if !std::mem::replace(&mut self.is_told, true) {
                self.report.notice(format_args!(
                    "{}: {error}; it is tried again for {:?}, and the publisher keeps what comes meanwhile",
                    self.path.display(),
                    self.options.patience
                ));
            }
            let hurry = self.hurry.clone();
            let _ = runtime.block_on(async { tokio::time::timeout(RETRY, hurry.cancelled()).await });
        }
    }

    fn commit(&mut self, entries: &[Entry]) -> Result<Committed, StoreError> {
        let mut done = Committed {
            last_gaps: self.last_gaps.clone(),
            ..Committed::default()
        };
        let mut places = self.places.clone();
        let mut conflicts = Vec::new();
        let mut group = self.journal.group()?;
        for entry in entries {
            match entry {
                Entry::Event {
                    record,
                    received_us,
                    of,
                } => {
                    match group.append(&new_event(record, *received_us))? {
                        Appended::New(_) => {
                            done.recorded += 1;
                            if let Some(of) = of {
                                done.last_gaps[*of] = None;
                            }
                        }
                        Appended::Repeat(_) => done.repeats += 1,
                        Appended::Conflict(_) => conflicts.push((record, *received_us)),
                    }
                    if let Some(of) = of
                        && record.cursor.is_some()
                    {
                        places[*of] = record.cursor;
                    }
                    if self.options.count == Some(self.recorded + done.recorded) {
                        break;
                    }
                }
                Entry::Reached { of, cursor } => places[*of] = Some(*cursor),
                Entry::Gap { of, gap } => {
                    // One that is told again before any event has come is the same.
                    if done.last_gaps[*of].as_deref() == Some(gap.reason.as_str())
                        && gap.reason.as_str() != "plain_publisher"
                    {
                        continue;
                    }
                    group.record_gap(&new_gap(gap, &self.labs[*of]))?;
                    done.gaps += 1;
                    done.last_gaps[*of] = Some(gap.reason.to_string());
                }
            }
        }
        for (record, received_us) in &conflicts {
            group.reject(&[Rejected {
                received_us: *received_us,
                reason: Refusal::UuidConflict.reason(),
                peer: record.lab.as_deref().unwrap_or("record"),
                frames: &[
                    record.topic.as_bytes(),
                    record.uuid.to_string().as_bytes(),
                    record.datetime.as_bytes(),
                    record.username.as_bytes(),
                    record.data.as_bytes(),
                ],
                size: super::entry::bytes(record) as u64,
            }])?;
        }
        for (lab, place) in self.labs.iter().zip(&places) {
            if let Some(place) = place {
                group.set_source(lab, &place.to_string(), &self.options.filter)?;
            }
        }
        group.commit()?;
        done.conflicts = conflicts.len() as u64;
        if let Some((record, _)) = conflicts.first()
            && !std::mem::replace(&mut self.is_conflict_told, true)
        {
            self.report.notice(format_args!(
                "event {} is refused: another event has its UUID (said once; `lavabus rejected` shows them)",
                record.uuid
            ));
        }
        Ok(done)
    }

    fn committed(&mut self, done: Committed) {
        self.places.fill(None);
        self.places_written = Instant::now();
        self.last_gaps = done.last_gaps;
        self.recorded += done.recorded;
        self.entities_behind += done.recorded;
        self.history_behind += done.recorded;
        let counts = &self.counts;
        counts.recorded.fetch_add(done.recorded, Ordering::Relaxed);
        counts.repeats.fetch_add(done.repeats, Ordering::Relaxed);
        counts.conflicts.fetch_add(done.conflicts, Ordering::Relaxed);
        counts.gaps.fetch_add(done.gaps, Ordering::Relaxed);
    }

    fn has_upkeep(&self) -> bool {
        self.entities_behind + self.history_behind > 0 || self.prunes
    }

    /// What is done beside writing, a little at a time; then nothing for `share` times as long.
    fn upkeep(&mut self, share: u32) -> Result<(), Failure> {
        let began = Instant::now();
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            self.looked = Some(began);
            self.prunes = true;
            self.refuse_other_file()?;
        }
        self.project();
        self.prune();
        if !self.has_upkeep() {
            // A commit that comes after it has nothing to copy.
            let _ = self.journal.checkpoint();
        }
        self.upkeep_due = Instant::now() + began.elapsed() * (share - 1);
        Ok(())
    }

    /// One step of retention. What fails is tried again at the next look.
    fn prune(&mut self) {
        if self.prunes {
            let now_us = Timestamp::now().as_microsecond();
            match self
                .journal
                .prune(&self.options.retention, now_us, &PruneBudget::default())
            {
                Ok(pruned) => self.prunes = pruned.more,
                Err(error) => {
                    self.prunes = false;
                    self.report.detail(format_args!(
                        "old events could not be removed, it is tried again: {error}"
                    ));
                }
            }
        }
    }

    /// One step of each projection. What fails is tried again when there is something new.
    fn project(&mut self) {
        let report = &self.report;
        let failed = |error: StoreError| {
            report.detail(format_args!(
                "what the questions ask could not be brought up to date: {error}"
            ));
            0
        };
        if self.entities_behind > 0 {
            let projected = self.journal.project(PROJECTED_AT_ONCE);
            self.entities_behind = projected.map_or_else(failed, |projected| projected.behind);
        }
        if self.history_behind > 0 {
            let projected = self.journal.project_history(PROJECTED_AT_ONCE);
            self.history_behind = projected.map_or_else(failed, |projected| projected.behind);
        }
    }

    /// A file that was removed or replaced takes every event with it when this ends.
    fn refuse_other_file(&self) -> Result<(), Failure> {
        if self.file.is_some() && identity(&self.path) != self.file {
            return Err(Failure::new(
                Exit::Database,
                "the database was removed or replaced while it was recorded into",
                format!("{} is not the file that was opened", self.path.display()),
                "start again: what the publisher still has is recorded again",
            ));
        }
        Ok(())
    }

    fn finish(mut self, result: Result<(), Failure>, unwritten: u64) -> Ended {
        let until = self.options.last_projections.map(|most| Instant::now() + most);
        // After a failure the next run does it.
        while result.is_ok() && self.has_upkeep() && !self.is_late(until) {
            self.project();
            self.prune();
        }
        let behind = self.entities_behind.max(self.history_behind);
        let closed = self.journal.close().map_err(|error| cannot_write(&self.path, &error));
        Ended {
            result: result.and(closed),
            path: self.path,
            unwritten,
            behind,
        }
    }

    /// Whether the time for the last projections is over, which a signal ends where there is none.
    fn is_late(&self, until: Option<Instant>) -> bool {
        match until {
            Some(until) => until <= Instant::now(),
            None => self.hurry.is_cancelled(),
        }
    }
}

fn events(entries: &[Entry]) -> u64 {
    entries
        .iter()
        .filter(|entry| matches!(entry, Entry::Event { .. }))
        .count() as u64
}

fn new_event(record: &Record, received_us: i64) -> NewEvent<'_> {
    NewEvent {
        id: &record.uuid,
        received_us,
        topic: &record.topic,
        sent: &record.datetime,
        user: &record.username,
        data: &record.data,
        lab: record.lab.as_deref().unwrap_or_default(),
    }
}

fn new_gap<'a>(gap: &'a MissingEvents, lab: &'a str) -> NewGap<'a> {
    NewGap {
        from_us: gap.from_us,
        to_us: gap.to_us,
        count: gap.count,
        reason: gap.reason.as_str(),
        lab,
    }
}

/// Which gaps stand at the very end of a recording, by lab.
fn last_gaps(path: &Path, head: u64, labs: &[String]) -> Vec<Option<String>> {
    // Not to know it may repeat a gap, no more.
    let gaps: Vec<Gap> = Reader::open(path)
        .ok()
        .and_then(|reader| reader.gaps(head).ok())
        .unwrap_or_default();
    let last = |lab: &String| {
        gaps.iter()
            .rev()
            .find(|gap| gap.lab == *lab)
            .map(|gap| gap.reason.clone())
    };
    labs.iter().map(last).collect()
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
