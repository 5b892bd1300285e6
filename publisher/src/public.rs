//! The public endpoints' stream: what everybody may see, as one more reader finds it.
//!
//! A ZeroMQ subscriber shows no login, so a public endpoint has a ring of its own behind the look-ups of one anonymous
//! reader. It is live: numbers and the past belong to the stream of all events.

use std::sync::Arc;

use bytes::BytesMut;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::admission::AdmittedMessage;
use crate::authority::{Reader, Subject};
use crate::fan_out::FanOut;
use crate::fan_out::batch::Batch;
use crate::http::following::{Following, Next};
use crate::replay::ReplayError;
use crate::visible::{sees_all, visible};

/// Hands on what everybody may see.
#[derive(Debug)]
pub(crate) struct Public {
    pub(crate) following: Following,
    /// Somebody without a login; None: there is nothing that such a one may see.
    pub(crate) reader: Option<Reader>,
    /// Of the public endpoints.
    pub(crate) fan_out: Arc<FanOut>,
}

impl Public {
    /// Works until everything is published that will be, and that is handed on.
    pub(crate) async fn run(mut self, drain: CancellationToken) {
        let Some(reader) = self.reader.take() else {
            return drain.cancelled().await;
        };
        loop {
            // Cancel-safe: what is not handed on yet comes again.
            let handed_on = tokio::select! {
                handed_on = self.hand_on(&reader) => handed_on,
                () = drain.cancelled(), if self.following.sequence() >= self.following.head() => return,
            };
            if let Err(failed) = handed_on {
                // It goes on behind what could not be read.
                error!(error = %failed, "the public endpoints miss events");
                self.following.covers(self.following.head());
            }
        }
    }

    /// What comes next.
    async fn hand_on(&mut self, reader: &Reader) -> Result<(), ReplayError> {
        {
            match self.following.next().await? {
                Next::Batch(batch, from) => {
                    self.publish(reader, &batch, from).await;
                    self.following.passed(&batch, batch.messages.len());
                }
                Next::Events(events, upto) => {
                    let subjects: Vec<Subject> = events
                        .iter()
                        .map(|event| Subject::of(&event.topic, &event.data))
                        .collect();
                    let asked = subjects
                        .iter()
                        .zip(&events)
                        .map(|(subject, event)| (subject, &*event.topic, &*event.data));
                    let shown = visible(reader, asked).await;
                    for (event, _) in events.iter().zip(shown).filter(|(_, shown)| *shown) {
                        let (mut uuid, mut bytes) = ([0; 36], BytesMut::new());
                        let uuid = event.id.write(&mut uuid);
                        let frames = [&*event.topic, uuid, &*event.sent, &*event.user, &*event.data].map(str::as_bytes);
                        lavabus_zmtp::encode_message(&frames, &mut bytes);
                        let message = AdmittedMessage {
                            id: event.id,
                            start: 0,
                            end: 0,
                            topic_start: if event.topic.len() > 255 { 9 } else { 2 },
                            topic_length: u16::try_from(event.topic.len()).unwrap_or(u16::MAX),
                        };
                        self.fan_out.publish_unkept(std::iter::once((&bytes[..], &message)));
                    }
                    self.following.covers(upto);
                }
                Next::Gap(..) => {}
            }
        }
        Ok(())
    }

    async fn publish(&self, reader: &Reader, batch: &Arc<Batch>, from: usize) {
        let shown = if sees_all(reader) {
            vec![true; batch.messages.len() - from]
        } else {
            let asked = (from..batch.messages.len()).map(|message| {
                let [topic, .., data] = batch.event(message);
                (&batch.subjects()[message], topic, data)
            });
            visible(reader, asked).await
        };
        let shown = (from..)
            .zip(shown)
            .filter(|(_, shown)| *shown)
            .map(|(message, _)| message);
        let messages: Vec<(usize, AdmittedMessage)> = shown
            .map(|message| {
                let meta = &batch.messages[message];
                let admitted = AdmittedMessage {
                    id: meta.id,
                    start: 0,
                    end: 0,
                    topic_start: meta.topic_start,
                    topic_length: meta.topic_length,
                };
                (message, admitted)
            })
            .collect();
        self.fan_out.publish_unkept(
            messages
                .iter()
                .map(|(message, admitted)| (batch.message(*message), admitted)),
        );
    }
}
