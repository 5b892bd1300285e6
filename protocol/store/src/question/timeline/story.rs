//! What a timeline is about, and which events belong to it.

use std::collections::BTreeSet;

use lavabus_protocol::event::{Body, JobId};
use lavabus_protocol::{Event as TypedEvent, Kind};

use crate::error::StoreError;
use crate::projection::RefKind;
use crate::question::Mentions;
use crate::reader::Event;

/// At most so many events, the newest, make a timeline.
pub const MOST_EVENTS: usize = 5_000;
/// And at most so many bytes of them.
const MOST_BYTES: usize = 32 << 20;
/// Events of a page: one more than a story has, so that it is known whether there are more.
const PAGE: usize = MOST_EVENTS + 1;
/// Events that are read in one go.
const READ_AT_ONCE: usize = 16;
/// At most so many requests, the newest, are followed to their events that do not mention the id themselves.
const MOST_REQUESTS: usize = 100;

/// What a timeline is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// What kind of thing.
    pub kind: RefKind,
    /// Its id.
    pub id: String,
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.id)
    }
}

/// What an id without its kind may be.
const BARE: [RefKind; 10] = [
    RefKind::Job,
    RefKind::Device,
    RefKind::Worker,
    RefKind::Request,
    RefKind::Run,
    RefKind::Account,
    RefKind::Inventory,
    RefKind::System,
    RefKind::Subject,
    RefKind::Testcase,
];

impl Subject {
    /// What somebody may mean by this text: one thing for `job/12`, `request/abc` or a job's URL, several for a bare id.
    ///
    /// ```
    /// use lavabus_store::question::timeline::Subject;
    ///
    /// let job = Subject::meant_by("https://lava.example.org/scheduler/job/12");
    /// assert_eq!(job, Subject::meant_by("job/12"));
    /// assert_eq!(job[0].to_string(), "job/12");
    /// assert_eq!(Subject::meant_by("device/qemu-01").len(), 1);
    /// assert!(Subject::meant_by("12").len() > 1);
    /// ```
    pub fn meant_by(text: &str) -> Vec<Subject> {
        let subject = |kind, id: &str| Subject {
            kind,
            id: id.to_owned(),
        };
        let job = |text| JobId::parse(text).map(|id| subject(RefKind::Job, id.as_str()));
        if text.contains("://") {
            return job(text).into_iter().collect();
        }
        if let Some((kind, id)) = text.split_once('/').filter(|(_, id)| !id.is_empty())
            && let Some(kind) = kind_named(kind)
        {
            return match kind {
                RefKind::Job => job(id).into_iter().collect(),
                _ => vec![subject(kind, id)],
            };
        }
        BARE.into_iter().map(|kind| subject(kind, text)).collect()
    }
}

/// `testjob` is a job, and `_` is as good as `-`.
fn kind_named(name: &str) -> Option<RefKind> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let name = if name == "testjob" { "job" } else { name.as_str() };
    let mut kinds = RefKind::ALL.into_iter().filter(|kind| *kind != RefKind::Kind);
    kinds.find(|kind| kind.as_str() == name)
}

/// The events that belong to a subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Story {
    /// In the order of their numbers.
    pub events: Vec<Event>,
    /// There are more than [`MOST_EVENTS`], or than 32 MiB of them; these are the newest.
    pub is_cut: bool,
}

/// Some of the events that mention a subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Newest first.
    pub events: Vec<Event>,
    /// Older ones, if there are any, are below this number. None: there are none.
    pub before: Option<u64>,
}

impl Story {
    /// Takes in some more of its events, and keeps the newest.
    pub fn take_in(&mut self, events: Vec<Event>) {
        self.events.extend(events);
        self.events.sort_by_key(|event| event.seq);
        self.events.dedup_by_key(|event| event.seq);
        let mut bytes = 0;
        let newest = self.events.iter().rev().take(MOST_EVENTS).take_while(|event| {
            bytes += size(event);
            bytes <= MOST_BYTES
        });
        let surplus = self.events.len() - newest.count();
        self.events.drain(..surplus);
        self.is_cut |= surplus > 0;
    }

    /// What its events lead to, by what they say themselves: a job's other id, and the requests, the newest, that
    /// mention the subject at last.
    pub fn leads(&self, subject: &Subject) -> Vec<Subject> {
        let mut leads: BTreeSet<Subject> = BTreeSet::new();
        if subject.kind == RefKind::Job {
            let ids = self.events.iter().flat_map(|event| own_job_ids(event, &subject.id));
            leads.extend(ids.map(|id| Subject { kind: RefKind::Job, id }));
        }
        let follows = [RefKind::Job, RefKind::Account, RefKind::Inventory, RefKind::System];
        if follows.contains(&subject.kind) {
            let mut requests: BTreeSet<Subject> = BTreeSet::new();
            for id in self.events.iter().rev().filter_map(request_of) {
                requests.insert(Subject {
                    kind: RefKind::Request,
                    id,
                });
                if requests.len() == MOST_REQUESTS {
                    break;
                }
            }
            leads.append(&mut requests);
        }
        leads.into_iter().collect()
    }
}

fn size(event: &Event) -> usize {
    event.topic.len() + event.sent.len() + event.user.len() + event.data.len()
}

impl Mentions<'_> {
    /// Those of these subjects that any event mentions.
    pub fn known(&self, meant: Vec<Subject>) -> Result<Vec<Subject>, StoreError> {
        let mut known = Vec::new();
        for subject in meant {
            if self.has(subject.kind, &subject.id)? {
                known.push(subject);
            }
        }
        Ok(known)
    }

    /// Every event above `after` that belongs to this subject: that mentions it, a job by its other id too; and of a
    /// request that mentions it later, those before.
    pub fn story(&self, subject: &Subject, after: u64) -> Result<Story, StoreError> {
        let mut story = Story::default();
        self.add(&mut story, std::slice::from_ref(subject), after)?;
        let leads = story.leads(subject);
        self.add(&mut story, &leads, after)?;
        Ok(story)
    }

    fn add(&self, story: &mut Story, subjects: &[Subject], after: u64) -> Result<(), StoreError> {
        let mut before = Some(u64::MAX);
        while let Some(number) = before {
            let page = self.mentioning(subjects, after, number)?;
            story.take_in(page.events);
            before = page.before.filter(|_| !story.is_cut);
        }
        Ok(())
    }

    /// The newest events, with `after < number < before`, that mention any of these subjects: at most so many that a
    /// story of them is cut, and of bytes too.
    pub fn mentioning(&self, subjects: &[Subject], after: u64, before: u64) -> Result<Page, StoreError> {
        let mut numbers: BTreeSet<u64> = BTreeSet::new();
        for subject in subjects {
            numbers.extend(self.newest(subject.kind, &subject.id, after, before, PAGE)?);
        }
        let numbers: Vec<u64> = numbers.into_iter().rev().take(PAGE).collect();
        let mut page = Page::default();
        let (mut bytes, mut read) = (0, 0);
        for numbers in numbers.chunks(READ_AT_ONCE) {
            let events = self.events(numbers.iter().copied())?;
            bytes += events.iter().map(size).sum::<usize>();
            page.events.extend(events);
            read += numbers.len();
            if bytes > MOST_BYTES {
                break;
            }
        }
        let is_whole = read == numbers.len() && numbers.len() < PAGE;
        page.before = numbers[..read].last().copied().filter(|_| !is_whole);
        Ok(page)
    }

    /// The newest jobs of a device, worker or submitter, or requests of anything else, newest first.
    pub fn latest(&self, subject: &Subject, skip: usize, count: usize) -> Result<Vec<Subject>, StoreError> {
        let wanted = skip.saturating_add(count);
        let mut found: Vec<Subject> = Vec::new();
        for seq in self.newest(subject.kind, &subject.id, 0, u64::MAX, MOST_EVENTS)? {
            let Some(event) = self.events([seq])?.pop() else {
                continue;
            };
            let job = || {
                let typed = TypedEvent::read(Kind::of(&event.topic), &event.data);
                let id = typed.job()?.as_str().to_owned();
                Some(Subject { kind: RefKind::Job, id })
            };
            let request = request_of(&event).map(|id| Subject {
                kind: RefKind::Request,
                id,
            });
            if let Some(latest) = request.or_else(job).filter(|latest| !found.contains(latest)) {
                found.push(latest);
            }
            if found.len() == wanted {
                break;
            }
        }
        Ok(found.into_iter().skip(skip).collect())
    }
}

/// Both ids of the job whose own event this is, if one of them is `id`.
pub(super) fn own_job_ids(event: &Event, id: &str) -> Vec<String> {
    let typed = TypedEvent::read(Kind::of(&event.topic), &event.data);
    let is_own = typed.kind() == Kind::Testjob && typed.job_ids().any(|own| own.as_str() == id);
    let ids = typed.job_ids().filter(|_| is_own).map(ToString::to_string);
    ids.collect()
}

fn request_of(event: &Event) -> Option<String> {
    if Kind::of(&event.topic) != Kind::Stage {
        return None;
    }
    match TypedEvent::read(Kind::Stage, &event.data).body() {
        Body::Stage(stage) => stage.request.clone(),
        _ => None,
    }
}
