//! Reading the journal for subscribers: pages of encoded events, resume points, snapshots.
//!
//! Two connections to the database, each on a thread of its own, serve everybody; whoever wants one waits in line for
//! one page at a time. A page is dropped when its subscriber stalls, so no more than two pages are in memory.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use jiff::Timestamp;
use lavabus_protocol::{ControlMessage, Cursor, Epoch, GapReason, SnapshotScope};
use lavabus_store::{Event, EventRow, OpenError, Reader, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::fan_out::matching::PrefixSet;
use crate::numbered;

/// Connections to the database for all readers together.
const READERS: usize = 2;
/// A page holds about that many bytes of encoded events.
const PAGE_BYTES: usize = 256 * 1024;
/// A page looks at so many events at most, so that nobody waits long for one that matches little.
const PAGE_ROWS: u64 = 20_000;
/// A version 1 UUID that is not known resumes at its own time less this.
const UNKNOWN_CURSOR_SLACK: Duration = Duration::from_secs(60);
/// Whole snapshots that may be in memory at a time.
const MAX_SNAPSHOTS: usize = 16;
/// An unfinished job belongs to a snapshot if it was heard of in the last 7 days.
const SNAPSHOT_JOB_AGE_US: i64 = 7 * 24 * 3600 * 1_000_000;

/// Events from the journal, encoded for one subscriber.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) bytes: BytesMut,
    pub(crate) marks: Vec<PageMark>,
    /// Everything up to this number was looked at.
    pub(crate) after: u64,
    /// Bytes that went out.
    pub(crate) sent: usize,
    /// The last number that was pruned before it could be read, if any was.
    pub(crate) expired: Option<u64>,
}

/// Where one event of a page ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageMark {
    pub(crate) end: usize,
    pub(crate) sequence: u64,
}

/// What a page shall hold.
#[derive(Clone, Debug)]
pub(crate) struct PageRequest {
    pub(crate) after: u64,
    pub(crate) upto: u64,
    pub(crate) prefixes: Arc<PrefixSet>,
    /// With a sixth frame that tells the number.
    pub(crate) numbered: bool,
}

/// Events from the journal as they lie there.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) events: Vec<Event>,
    /// Everything up to this number was looked at.
    pub(crate) after: u64,
    /// The last number that was pruned before it could be read, if any was.
    pub(crate) expired: Option<u64>,
    /// Behind the last of them something is missing that had no number.
    pub(crate) gap: Option<GapReason>,
}

/// Where a cursor leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resume {
    pub(crate) after: u64,
    /// The cursor's event is in the journal.
    pub(crate) known: bool,
    /// Something that was asked for cannot be had.
    pub(crate) gap: Option<GapReason>,
}

/// The newest events of some objects, encoded, as of an event number.
#[derive(Debug)]
pub(crate) struct EncodedSnapshot {
    pub(crate) position: u64,
    pub(crate) events: u64,
    pub(crate) page: Page,
    _memory: Option<OwnedSemaphorePermit>,
}

type Task = Box<dyn FnOnce(&Reader) + Send>;

/// The line in front of the two database connections.
#[derive(Debug)]
pub(crate) struct Replays {
    /// One permit a reader, held by a task until it has run.
    free: Arc<Semaphore>,
    tasks: SyncSender<Task>,
    /// One permit a whole snapshot that is in memory.
    snapshots: Arc<Semaphore>,
    epoch: Epoch,
    ended: CancellationToken,
}

impl Replays {
    /// Starts the reader threads. They end when this is dropped.
    pub(crate) fn start(path: &Path, epoch: Epoch) -> Result<Arc<Replays>, OpenError> {
        let (tasks, waiting) = std::sync::mpsc::sync_channel::<Task>(READERS);
        let waiting = Arc::new(Mutex::new(waiting));
        let ended = CancellationToken::new();
        for n in 0..READERS {
            let reader = Reader::open(path)?;
            let waiting = waiting.clone();
            let ended = ended.clone().drop_guard();
            let next = move || waiting.lock().expect("no holder of this lock panics").recv().ok();
            let thread = std::thread::Builder::new().name(format!("replay-{n}"));
            thread
                .spawn(move || {
                    // Also where a task panics.
                    let _ended = ended;
                    std::iter::from_fn(next).for_each(|task| task(&reader));
                })
                .expect("the process may have threads");
        }
        let snapshots = Arc::new(Semaphore::new(MAX_SNAPSHOTS));
        Ok(Arc::new(Replays {
            free: Arc::new(Semaphore::new(READERS)),
            tasks,
            snapshots,
            epoch,
            ended,
        }))
    }

    /// One of the threads has ended, which before the end of all is a panic.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Waits for a reader and runs one short task on it. Cancel-safe: a task under way ends without an audience.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        task: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ReplayError> {
        let permit = self
            .free
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| ReplayError::Ended)?;
        let (answer, answered) = oneshot::channel();
        let task: Task = Box::new(move |reader| {
            let result = task(reader);
            drop(permit);
            let _ = answer.send(result);
        });
        self.tasks.try_send(task).map_err(|_| ReplayError::Ended)?;
        Ok(answered.await.map_err(|_| ReplayError::Ended)??)
    }
}

impl Replays {
    /// The next wanted events after a number.
    pub(crate) async fn page(&self, request: PageRequest) -> Result<Page, ReplayError> {
        let epoch = self.epoch;
        self.ask(move |reader| page(reader, &request, epoch)).await
    }

    /// The next events after a number, up to another one, and up to about so many bytes.
    pub(crate) async fn events(&self, after: u64, upto: u64, bytes: usize) -> Result<Rows, ReplayError> {
        self.ask(move |reader| {
            // What is pruned is told, and not only left out.
            let _transaction = reader.transaction()?;
            let gap = reader.gaps(after + 1)?.into_iter().find(|gap| gap.after_seq <= upto);
            let upto = gap.as_ref().map_or(upto, |gap| gap.after_seq);
            let mut rows = Rows {
                events: Vec::new(),
                after,
                expired: expired(reader, after)?,
                gap: None,
            };
            let mut read = 0;
            rows.after = reader.scan(after, upto, |row| {
                read += row.topic.len() + row.sent.len() + row.user.len() + row.data.len();
                rows.events.push(row.to_event());
                match read < bytes {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })?;
            if read < bytes {
                rows.after = rows.after.max(upto);
            }
            rows.gap = gap
                .filter(|gap| gap.after_seq == rows.after)
                .map(|gap| GapReason::from_text(&gap.reason));
            Ok(rows)
        })
        .await
    }

    /// The point to go on from, of all the cursors that a client sent the furthest, and not before `earliest`, a time
    /// of receipt in µs since 1970.
    pub(crate) async fn resume(&self, cursors: Vec<Cursor>, earliest: Option<i64>) -> Result<Resume, ReplayError> {
        let epoch = self.epoch;
        self.ask(move |reader| {
            let mut furthest: Option<Resume> = None;
            for cursor in &cursors {
                let resume = resume(reader, cursor, epoch)?;
                if furthest.as_ref().is_none_or(|furthest| is_further(&resume, furthest)) {
                    furthest = Some(resume);
                }
            }
            let mut resume = furthest.unwrap_or(Resume {
                after: reader.head()?,
                known: false,
                gap: None,
            });
            if let Some(earliest) = earliest {
                let permitted = reader.seq_received_since(earliest)? - 1;
                if resume.after < permitted {
                    resume = Resume {
                        after: permitted,
                        known: false,
                        gap: Some(GapReason::NotPermitted),
                    };
                }
            }
            Ok(resume)
        })
        .await
    }

    /// The newest event of each object in the scope; None if too many whole snapshots are being read.
    pub(crate) async fn snapshot(
        &self,
        scope: SnapshotScope,
        numbered: bool,
    ) -> Result<Option<EncodedSnapshot>, ReplayError> {
        let memory = match scope {
            SnapshotScope::One { .. } => None,
            SnapshotScope::All => match self.snapshots.clone().try_acquire_owned() {
                Ok(memory) => Some(memory),
                Err(_) => return Ok(None),
            },
        };
        let epoch = self.epoch;
        let jobs_since = Timestamp::now().as_microsecond() - SNAPSHOT_JOB_AGE_US;
        self.ask(move |reader| {
            let snapshot = reader.snapshot(&scope, jobs_since)?;
            let mut page = Page::new(snapshot.position);
            for event in &snapshot.events {
                page.push(&event.row(), numbered.then_some(epoch));
            }
            Ok(Some(EncodedSnapshot {
                position: snapshot.position,
                events: snapshot.events.len() as u64,
                page,
                _memory: memory,
            }))
        })
        .await
    }
}

impl Page {
    fn new(after: u64) -> Page {
        Page {
            bytes: BytesMut::new(),
            marks: Vec::new(),
            after,
            sent: 0,
            expired: None,
        }
    }

    fn push(&mut self, row: &EventRow<'_>, numbered: Option<Epoch>) {
        let mut uuid = [0; 36];
        let frames = row.envelope().frames(&mut uuid);
        match numbered {
            None => lavabus_zmtp::encode_message(&frames, &mut self.bytes),
            Some(epoch) => numbered::encode(&frames, epoch, row.seq, &mut self.bytes),
        }
        self.marks.push(PageMark {
            end: self.bytes.len(),
            sequence: row.seq,
        });
    }

    fn push_gap(&mut self, reason: GapReason, sequence: u64) {
        let gap = ControlMessage::Gap {
            from: None,
            to: None,
            reason,
        };
        let frames = gap.encode();
        let frames: Vec<&[u8]> = frames.iter().map(|frame| frame.as_bytes()).collect();
        lavabus_zmtp::encode_message(&frames, &mut self.bytes);
        let end = self.bytes.len();
        match self.marks.last_mut() {
            // It goes out with its event, or not at all.
            Some(mark) if mark.sequence == sequence => mark.end = end,
            _ => self.marks.push(PageMark { end, sequence }),
        }
    }
}

/// The last number after this one that was pruned.
fn expired(reader: &Reader, after: u64) -> Result<Option<u64>, StoreError> {
    let pruned = reader.oldest()?.map(|oldest| oldest - 1);
    Ok(pruned.filter(|pruned| *pruned > after))
}

fn page(reader: &Reader, request: &PageRequest, epoch: Epoch) -> Result<Page, StoreError> {
    // What is pruned is told, and not only left out.
    let _transaction = reader.transaction()?;
    let mut page = Page::new(request.after);
    page.expired = expired(reader, request.after)?;
    let numbered = request.numbered.then_some(epoch);
    let last = request.upto.min(request.after.saturating_add(PAGE_ROWS));
    // A gap is said right behind the event that it follows; one at the very start was said when resuming.
    let gaps = if request.numbered {
        reader.gaps(request.after + 1)?
    } else {
        Vec::new()
    };
    let mut gaps = gaps.into_iter().peekable();
    page.after = reader.scan(request.after, last, |row| {
        if request.prefixes.matches(row.topic.as_bytes()) {
            page.push(&row, numbered);
        }
        while let Some(gap) = gaps.next_if(|gap| gap.after_seq <= row.seq) {
            page.push_gap(GapReason::from_text(&gap.reason), row.seq);
        }
        if page.bytes.len() < PAGE_BYTES {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    if page.bytes.len() < PAGE_BYTES {
        // Numbers that were pruned meanwhile are looked at too.
        page.after = page.after.max(last);
    }
    Ok(page)
}

/// Where this cursor leads in the numbers of `epoch`.
pub(crate) fn resume(reader: &Reader, cursor: &Cursor, epoch: Epoch) -> Result<Resume, StoreError> {
    let kept_from = reader.oldest()?.map_or(reader.head()?, |oldest| oldest - 1);
    let by_number = cursor
        .position_alone()
        .filter(|position| position.epoch == epoch)
        .map(|position| position.seq);
    let found = match by_number {
        Some(seq) if seq >= kept_from && seq <= reader.head()? => Some(seq),
        Some(_) => None,
        None => reader.by_id(&cursor.uuid)?,
    };
    if let Some(after) = found {
        let gap = reader.gaps(after)?.into_iter().find(|gap| gap.after_seq == after);
        let gap = gap.map(|gap| GapReason::from_text(&gap.reason));
        return Ok(Resume {
            after,
            known: true,
            gap,
        });
    }
    // A number of this epoch that was pruned: what is kept goes on behind it, or is said to be expired.
    let expired = cursor
        .position
        .is_some_and(|position| position.epoch == epoch && position.seq <= kept_from);
    if expired {
        return Ok(Resume {
            after: kept_from,
            known: false,
            gap: Some(GapReason::Expired),
        });
    }
    // In this order: what is committed after the head was read comes after it.
    let head = reader.head()?;
    let first = reader.first_id_at_or_after(&cursor.uuid, UNKNOWN_CURSOR_SLACK)?;
    let after = match first {
        Some(first) => first - 1,
        // Of a time when nothing has come yet.
        None if cursor.uuid.time().is_some() => head,
        None => kept_from,
    };
    Ok(Resume {
        after,
        known: false,
        gap: Some(GapReason::UnknownCursor),
    })
}

/// A cursor that is known is further than any that is not.
fn is_further(one: &Resume, other: &Resume) -> bool {
    (one.known, one.after) > (other.known, other.after)
}

/// The journal could not be read for a subscriber.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error("the reader threads have ended")]
    Ended,
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use lavabus_protocol::EventId;
    use lavabus_store::{Journal, NewEvent, Options};

    use super::*;

    const HOUR_US: i64 = 3_600_000_000;

    fn id(number: u64) -> EventId {
        EventId::parse(format!("{number:08x}-0000-1000-8000-000000000001").as_bytes()).unwrap()
    }

    /// Ten events, an hour between each.
    fn journal(folder: &Path) -> Journal {
        let mut journal = Journal::open(folder.join("events.db"), &Options::default()).unwrap();
        let mut group = journal.group().unwrap();
        for number in 1..=10 {
            let event = NewEvent {
                id: &id(number),
                received_us: number as i64 * HOUR_US,
                topic: "org.lab.event",
                sent: "",
                user: "",
                data: "{}",
                lab: "",
            };
            group.append(&event).unwrap();
        }
        group.commit().unwrap();
        journal
    }

    fn cursor(number: u64) -> Cursor {
        Cursor {
            position: None,
            uuid: id(number),
        }
    }

    #[tokio::test]
    async fn whoever_may_not_have_the_past_gets_the_window_and_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path());
        let replays = Replays::start(journal.path(), *journal.epoch()).unwrap();
        for (asked, earliest, expected) in [
            (3, None, (3, None)),
            (3, Some(8 * HOUR_US), (7, Some(GapReason::NotPermitted))),
            (8, Some(8 * HOUR_US), (8, None)),
        ] {
            let resume = replays.resume(vec![cursor(asked)], earliest).await.unwrap();
            assert_eq!((resume.after, resume.gap), expected);
        }
    }

    #[tokio::test]
    async fn of_several_cursors_the_furthest_known_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path());
        let replays = Replays::start(journal.path(), *journal.epoch()).unwrap();
        let resume = replays
            .resume(vec![cursor(2), cursor(5), cursor(99), cursor(4)], None)
            .await
            .unwrap();
        assert_eq!((resume.after, resume.known, resume.gap), (5, true, None));
    }

    #[tokio::test]
    async fn a_panic_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        drop(journal(folder.path()));
        let replays = Replays::start(&folder.path().join("events.db"), Epoch::from_u32(1)).unwrap();
        let answer = replays.ask(|_| -> Result<(), StoreError> { panic!("a defect") }).await;
        assert!(matches!(answer, Err(ReplayError::Ended)));
        replays.ended().await;
    }
}
