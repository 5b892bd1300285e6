//! The public endpoints' stream: what everybody may see, as one more reader finds it.
//!
//! A ZeroMQ subscriber shows no login, so a public endpoint has a ring of its own behind the look-ups of one anonymous
//! reader. It is live: numbers and the past belong to the stream of all events.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use lavabus_store::Event;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::admission::AdmittedMessage;
use crate::authority::Reader;
use crate::fan_out::FanOut;
use crate::fan_out::batch::Batch;
use crate::http::following::{Following, Next};
use crate::replay::ReplayError;
use crate::visible::{visible_in, visible_of};

/// A journal that cannot be read is tried again this often.
const RETRY: Duration = Duration::from_secs(1);

/// Hands on what everybody may see.
#[derive(Debug)]
pub(crate) struct Public {
    pub(crate) following: Following,
    /// Somebody without a login.
    pub(crate) reader: Reader,
    /// Of the public endpoints.
    pub(crate) fan_out: Arc<FanOut>,
}

impl Public {
    /// Works until everything is published that will be, and that is handed on.
    pub(crate) async fn run(mut self, drain: CancellationToken) {
        while !drain.is_cancelled() || self.following.sequence() < self.following.head() {
            // Cancel-safe: what is not handed on yet comes again.
            let handed_on = tokio::select! {
                handed_on = self.hand_on() => handed_on,
                () = drain.cancelled(), if !drain.is_cancelled() => continue,
            };
            if let Err(failed) = handed_on {
                // What could not be read is read again: they are late, and miss nothing.
                error!(error = %failed, "the public endpoints wait for the journal");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// What comes next.
    async fn hand_on(&mut self) -> Result<(), ReplayError> {
        match self.following.next().await? {
            Next::Batch(batch, from) => {
                self.publish(&batch, from).await;
                self.following.passed(&batch, batch.messages.len());
            }
            Next::Events(events, upto) => {
                let all: Vec<&Event> = events.iter().collect();
                let shown = visible_of(&self.reader, &all).await;
                for (event, _) in all.iter().zip(shown).filter(|(_, shown)| *shown) {
                    let mut bytes = BytesMut::new();
                    lavabus_zmtp::encode_message(&event.row().envelope().frames(&mut [0; 36]), &mut bytes);
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
            // Counted where it was found.
            Next::Gap(..) => {}
        }
        Ok(())
    }

    async fn publish(&self, batch: &Arc<Batch>, from: usize) {
        let shown = visible_in(&self.reader, self.following.lane(), batch, from..batch.messages.len()).await;
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
