//! Which of some events a reader may see.

use std::collections::{HashMap, HashSet};

use futures_util::StreamExt as _;
use lavabus_store::Event;

use crate::authority::{Reader, Sight, Subject};
use crate::fan_out::batch::Batch;

/// What one reader does not know is asked for so many subjects at a time.
const ASKED_AT_ONCE: usize = 8;

/// For each event, by its subject, topic and data. What is not known is asked for, which takes a while and delays only
/// this reader. Cancel-safe: what was learnt until then is kept.
pub(crate) async fn visible<'e>(
    reader: &Reader,
    events: impl Iterator<Item = (&'e Subject, &'e str, &'e str)> + Clone,
) -> Vec<bool> {
    let sights = events
        .clone()
        .map(|(subject, topic, data)| reader.sight_of_event(subject, topic, data));
    let sights: Vec<Sight> = sights.collect();
    let unknown = events.clone().zip(&sights).filter(|(_, sight)| **sight == Sight::Ask);
    let unknown: HashSet<Subject> = unknown.map(|((subject, ..), _)| subject.clone()).collect();
    let asked = futures_util::stream::iter(unknown).map(|subject| {
        let reader = reader.clone();
        async move {
            let sight = reader.ask(&subject).await;
            (subject, sight)
        }
    });
    let answers: HashMap<Subject, Sight> = asked.buffer_unordered(ASKED_AT_ONCE).collect().await;
    let shown = |((subject, ..), sight): ((&Subject, &str, &str), Sight)| match sight {
        Sight::Ask => answers.get(subject) == Some(&Sight::Shown),
        known => known == Sight::Shown,
    };
    events.zip(sights).map(shown).collect()
}

/// The same for these events of a batch, in order.
pub(crate) async fn visible_in(
    reader: &Reader,
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
    visible(reader, asked).await
}

/// The same for events of the journal.
pub(crate) async fn visible_of(reader: &Reader, events: &[&Event]) -> Vec<bool> {
    if sees_all(reader) {
        return vec![true; events.len()];
    }
    let subjects = events.iter().map(|event| Subject::of(&event.topic, &event.data));
    let subjects: Vec<Subject> = subjects.collect();
    let asked = subjects.iter().zip(events);
    visible(
        reader,
        asked.map(|(subject, event)| (subject, &*event.topic, &*event.data)),
    )
    .await
}

/// Whether this reader may see what is about this.
pub(crate) async fn may_see(reader: &Reader, subject: &Subject) -> bool {
    reader.ask(subject).await == Sight::Shown
}

/// Whether this reader sees whatever there is, so that nobody needs to look at what events are about.
pub(crate) fn sees_all(reader: &Reader) -> bool {
    reader.worker().is_none() && reader.sight(&Subject::Unbound) == Sight::Shown
}
