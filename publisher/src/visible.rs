//! Which of some events a reader may see.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use lavabus_store::Event;
use tokio::time::timeout;

use crate::authority::{Crowded, Lane, Reader, Sight, Subject};
use crate::fan_out::batch::Batch;

/// What one reader does not know is asked for so many subjects at a time.
const ASKED_AT_ONCE: usize = 8;
/// What was known is asked for again when it has become old while others were asked for, but no more often than this.
const ROUNDS: usize = 3;
/// It takes no longer to know whether some things may be seen. What is shown at the end was seen within 45 s, so that
/// an answer that needs two more look-ups behind it tells nothing that was seen more than a minute before.
const LOOK_UPS: Duration = Duration::from_secs(7);

/// For each event, by its subject, topic and data. What is not known is asked for, which takes a while and delays only
/// this reader. Cancel-safe: what was learnt until then is kept.
///
/// All that is shown was good at the end, whatever the look-ups of the others took.
async fn visible<'e>(
    reader: &Reader,
    events: impl Iterator<Item = (&'e Subject, &'e str, &'e str)> + Clone,
) -> Result<Vec<bool>, Crowded> {
    let mut shown = vec![true; events.clone().count()];
    for _ in 0..ROUNDS {
        let mut unknown = HashSet::new();
        for ((subject, topic, data), shown) in events.clone().zip(&mut shown).filter(|(_, shown)| **shown) {
            match reader.sight_of_event(subject, topic, data) {
                Sight::Shown => {}
                Sight::Hidden => *shown = false,
                Sight::Ask => drop(unknown.insert(subject.clone())),
            }
        }
        if unknown.is_empty() {
            return Ok(shown);
        }
        let hidden = hidden_of(reader, unknown).await?;
        for ((subject, ..), shown) in events.clone().zip(&mut shown) {
            *shown &= !hidden.contains(subject);
        }
    }
    for ((subject, topic, data), shown) in events.zip(&mut shown) {
        *shown &= reader.shows_still(subject, topic, data);
    }
    Ok(shown)
}

/// Asks for each of these, and tells which are not shown.
async fn hidden_of(reader: &Reader, subjects: HashSet<Subject>) -> Result<HashSet<Subject>, Crowded> {
    let asked = futures_util::stream::iter(subjects).map(|subject| {
        let reader = reader.clone();
        async move {
            let sight = reader.try_ask(&subject).await?;
            Ok((subject, sight))
        }
    });
    let mut asked = asked.buffer_unordered(ASKED_AT_ONCE);
    let mut hidden = HashSet::new();
    while let Some(answer) = asked.next().await {
        let (subject, sight) = answer?;
        if sight != Sight::Shown {
            hidden.insert(subject);
        }
    }
    Ok(hidden)
}

/// The same for a stream, which is told nothing else than to wait.
async fn visible_to_stream<'e>(
    reader: &Reader,
    lane: Lane,
    events: impl Iterator<Item = (&'e Subject, &'e str, &'e str)> + Clone,
) -> Vec<bool> {
    let shown = visible(&reader.asking(lane), events).await;
    shown.expect("these lanes have room for all who wait")
}

/// Which of these events of a batch a stream may show, in order.
pub(crate) async fn visible_in(
    reader: &Reader,
    lane: Lane,
    batch: &Batch,
    messages: impl Iterator<Item = usize> + Clone,
) -> Vec<bool> {
    if sees_all(reader) {
        return messages.map(|_| true).collect();
    }
    let asked = messages.map(|message| {
        let [topic, .., data] = batch.event(message);
        (&batch.subjects()[message], topic, data)
    });
    visible_to_stream(reader, lane, asked).await
}

/// The same for events of the journal.
pub(crate) async fn visible_of(reader: &Reader, events: &[&Event]) -> Vec<bool> {
    if sees_all(reader) {
        return vec![true; events.len()];
    }
    let subjects = subjects_of(events);
    visible_to_stream(reader, Lane::Past, with_subjects(events, &subjects)).await
}

/// The same in the answer to a request, whose time is its caller's to bound.
pub(crate) async fn visible_to_request(reader: &Reader, events: &[&Event]) -> Result<Vec<bool>, Crowded> {
    if sees_all(reader) {
        return Ok(vec![true; events.len()]);
    }
    let subjects = subjects_of(events);
    visible(&reader.asking(Lane::Request), with_subjects(events, &subjects)).await
}

fn subjects_of(events: &[&Event]) -> Vec<Subject> {
    let subjects = events.iter().map(|event| Subject::of(&event.topic, &event.data));
    subjects.collect()
}

fn with_subjects<'e>(
    events: &'e [&Event],
    subjects: &'e [Subject],
) -> impl Iterator<Item = (&'e Subject, &'e str, &'e str)> + Clone {
    let events = subjects.iter().zip(events);
    events.map(|(subject, event)| (subject, &*event.topic, &*event.data))
}

/// Whether the answer to a request may show what is about each of these.
pub(crate) async fn may_see_each(reader: &Reader, subjects: &[Subject]) -> Result<Vec<bool>, Crowded> {
    let reader = reader.asking(Lane::Request);
    let subjects = subjects.iter().map(|subject| (subject, "", ""));
    let shown = timeout(LOOK_UPS, visible(&reader, subjects)).await;
    shown.unwrap_or(Err(Crowded))
}

/// The same for one.
pub(crate) async fn may_see(reader: &Reader, subject: &Subject) -> Result<bool, Crowded> {
    let shown = may_see_each(reader, std::slice::from_ref(subject)).await?;
    Ok(shown == [true])
}

/// Whether this reader sees whatever there is, so that nobody needs to look at what events are about.
pub(crate) fn sees_all(reader: &Reader) -> bool {
    reader.worker().is_none() && reader.sight(&Subject::Unbound) == Sight::Shown
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use lava_stand_in::{Failure, Job, LavaServer};
    use lavabus_lava::Identity;
    use lavabus_protocol::JobId;

    use super::*;
    use crate::authority::{Authority, Credentials};
    use crate::config::{AuthorityConfig, LavaConfig};

    async fn pass(time: Duration) {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    }

    #[tokio::test]
    async fn what_was_seen_before_the_look_ups_is_still_seen_after_them() {
        let lava = LavaServer::start().await;
        let [stays, goes] = [(); 2].map(|()| lava.add_job(Job::default()));
        let config = LavaConfig {
            identity: Identity::anonymous(&lava.uri()).unwrap(),
            administrators: Vec::new(),
            tokens: None,
            workers: None,
        };
        let authority = Authority::new(&AuthorityConfig::Lava(Box::new(config))).unwrap();
        let reader = authority.authenticate(&Credentials::Anonymous).await.unwrap();
        let job = |id: &str| Subject::Job(JobId::parse(id).unwrap());
        let known = [job(&stays), job(&goes)];
        for subject in &known {
            assert_eq!(reader.ask(subject).await, Sight::Shown);
        }
        pass(Duration::from_secs(44)).await;

        // Of these LAVA says nothing, so that it takes 5 s to know as much of eight of them.
        let unknown: Vec<Subject> = (900..932).map(|id| job(&id.to_string())).collect();
        lava.fail(Failure::Delay(Duration::from_secs(600)), "/api/v0.2/jobs/9", usize::MAX);
        lava.change_job(&goes, |job| job.private = true);
        let subjects: Vec<Subject> = known.iter().chain(&unknown).cloned().collect();
        let looking = tokio::spawn(async move {
            let events = subjects.iter().map(|subject| (subject, "x.event", "{}"));
            visible(&reader, events).await
        });
        for asked in [8, 16, 24, 32] {
            while lava
                .requests()
                .iter()
                .filter(|request| request.contains("/jobs/9"))
                .count()
                < asked
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            pass(Duration::from_secs(5)).await;
        }
        let shown = looking.await.unwrap().unwrap();
        assert_eq!(shown[..2], [true, false]);
        assert!(!shown[2..].contains(&true));
    }
}
