//! Which of some events a reader may see.

use std::collections::{HashMap, HashSet};

use futures_util::StreamExt as _;
use lavabus_store::Event;

use crate::authority::{Crowded, Lane, Reader, Sight, Subject};
use crate::fan_out::batch::Batch;

/// What one reader does not know is asked for so many subjects at a time.
const ASKED_AT_ONCE: usize = 8;

/// For each event, by its subject, topic and data. What is not known is asked for, which takes a while and delays only
/// this reader. Cancel-safe: what was learnt until then is kept.
async fn visible<'e>(
    reader: &Reader,
    events: impl Iterator<Item = (&'e Subject, &'e str, &'e str)> + Clone,
) -> Result<Vec<bool>, Crowded> {
    let sights = events
        .clone()
        .map(|(subject, topic, data)| reader.sight_of_event(subject, topic, data));
    let sights: Vec<Sight> = sights.collect();
    let unknown = events.clone().zip(&sights).filter(|(_, sight)| **sight == Sight::Ask);
    let unknown: HashSet<Subject> = unknown.map(|((subject, ..), _)| subject.clone()).collect();
    let asked = futures_util::stream::iter(unknown).map(|subject| {
        let reader = reader.clone();
        async move {
            let sight = reader.try_ask(&subject).await?;
            Ok((subject, sight))
        }
    });
    let mut asked = asked.buffer_unordered(ASKED_AT_ONCE);
    let mut answers: HashMap<Subject, Sight> = HashMap::new();
    while let Some(answer) = asked.next().await {
        answers.extend([answer?]);
    }
    let shown = |((subject, ..), sight): ((&Subject, &str, &str), Sight)| match sight {
        Sight::Ask => answers.get(subject) == Some(&Sight::Shown),
        known => known == Sight::Shown,
    };
    Ok(events.zip(sights).map(shown).collect())
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

/// The same in the answer to a request.
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
    let subjects = subjects.iter().map(|subject| (subject, "", ""));
    visible(&reader.asking(Lane::Request), subjects).await
}

/// The same for one.
pub(crate) async fn may_see(reader: &Reader, subject: &Subject) -> Result<bool, Crowded> {
    let sight = reader.asking(Lane::Request).try_ask(subject).await?;
    Ok(sight == Sight::Shown)
}

/// Whether this reader sees whatever there is, so that nobody needs to look at what events are about.
pub(crate) fn sees_all(reader: &Reader) -> bool {
    reader.worker().is_none() && reader.sight(&Subject::Unbound) == Sight::Shown
}
