//! An event as a filter looks at it.

use std::cell::OnceCell;

use super::Field;
use crate::envelope::Envelope;
use crate::event::{Event, JobId};
use crate::record::Record;
use crate::topic::{self, Kind};

/// One event, to be shown to one or more filters. Its data is read at most once, and only if a filter asks.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    topic: &'a str,
    username: &'a str,
    data: &'a str,
    lab: Option<&'a str>,
    known: Option<&'a Event>,
    event: OnceCell<Event>,
}

/// The values of one field; a job has up to two ids.
pub(super) type Values<'c> = [Option<&'c str>; 2];

impl<'a> Candidate<'a> {
    /// From three of the five frames, the others being no business of a filter.
    pub fn new(topic: &'a str, username: &'a str, data: &'a str) -> Candidate<'a> {
        Candidate {
            topic,
            username,
            data,
            lab: None,
            known: None,
            event: OnceCell::new(),
        }
    }

    /// The same, from this lab.
    pub fn with_lab(self, lab: &'a str) -> Candidate<'a> {
        Candidate { lab: Some(lab), ..self }
    }

    /// The same, whose data somebody has read already.
    pub fn with_event(self, event: &'a Event) -> Candidate<'a> {
        Candidate {
            known: Some(event),
            ..self
        }
    }

    /// The typed view of its data.
    pub fn event(&self) -> &Event {
        let read = || Event::read(Kind::of(self.topic), self.data);
        self.known.unwrap_or_else(|| self.event.get_or_init(read))
    }

    #[cfg(test)]
    pub(super) fn is_read(&self) -> bool {
        self.event.get().is_some()
    }

    pub(super) fn values(&self, field: Field) -> Values<'_> {
        let value = match field {
            Field::Kind => Some(topic::last_part(self.topic)),
            Field::Topic => Some(self.topic),
            Field::User => Some(self.username),
            Field::Lab => self.lab,
            Field::Job => {
                let mut ids = self.event().job_ids().map(JobId::as_str);
                return [ids.next(), ids.next()];
            }
            Field::Device => self.event().device(),
            Field::DeviceType => self.event().device_type(),
            Field::Worker => self.event().worker(),
            Field::Submitter => self.event().submitter(),
            Field::State => self.event().state(),
            Field::Health => self.event().health(),
            Field::Message => self.event().message(),
            Field::Service => self.event().service(),
            Field::Status => self.event().status(),
            Field::Account => self.event().account(),
        };
        [value, None]
    }
}

impl<'a> From<&Envelope<'a>> for Candidate<'a> {
    fn from(envelope: &Envelope<'a>) -> Candidate<'a> {
        Candidate::new(envelope.topic, envelope.username, envelope.data)
    }
}

impl<'a> From<&'a Record> for Candidate<'a> {
    fn from(record: &'a Record) -> Candidate<'a> {
        let candidate = Candidate::new(&record.topic, &record.username, &record.data);
        Candidate {
            lab: record.lab.as_deref(),
            ..candidate
        }
    }
}
