//! A SUB on our own ZMTP: it subscribes exactly as told, and sees everything that it is sent.

use std::collections::VecDeque;

use lavabus_protocol::ControlMessage;
use lavabus_zmtp::{ConnectOptions, Endpoint, Received, SubConnection, frames};

use super::{LONG, Message};

/// One connection. It does not reconnect.
#[derive(Debug)]
pub struct RawSub {
    connection: SubConnection,
    received: VecDeque<Message>,
    barriers: u64,
}

impl RawSub {
    /// Connects with these subscriptions, sent in this order.
    pub async fn connect(endpoint: &Endpoint, subscriptions: &[&str]) -> RawSub {
        let sub = RawSub::try_connect(endpoint, subscriptions).await;
        sub.expect("a publisher that runs")
    }

    /// The same, for a publisher that may not be there, or end at any moment.
    pub async fn try_connect(endpoint: &Endpoint, subscriptions: &[&str]) -> Option<RawSub> {
        let options = ConnectOptions::default();
        let mut connection = SubConnection::connect(endpoint, &options, LONG).await.ok()?;
        for subscription in subscriptions {
            connection.subscribe(subscription.as_bytes()).await.ok()?;
        }
        Some(RawSub {
            connection,
            received: VecDeque::new(),
            barriers: 0,
        })
    }

    /// One more subscription.
    pub async fn subscribe(&mut self, subscription: &str) {
        self.connection.subscribe(subscription.as_bytes()).await.unwrap();
    }

    /// One less.
    pub async fn cancel(&mut self, subscription: &str) {
        self.connection.cancel(subscription.as_bytes()).await.unwrap();
    }

    /// The next message; `None` when the connection has ended.
    pub async fn try_next(&mut self) -> Option<Message> {
        while self.received.is_empty() {
            let next = tokio::time::timeout(LONG, self.connection.next()).await;
            match next.expect("a message in time") {
                Ok(Received::Messages(run)) => {
                    let message = |bytes| Message(frames(bytes).map(<[u8]>::to_vec).collect());
                    self.received.extend(run.messages().map(message));
                }
                Ok(Received::Oversize { bytes, .. }) => panic!("a message of {bytes} bytes"),
                Ok(Received::Closed) | Err(_) => return None,
            }
        }
        self.received.pop_front()
    }

    /// The next message, control messages included.
    pub async fn next(&mut self) -> Message {
        self.try_next().await.expect("the connection lives")
    }

    /// The next event; control messages are passed over.
    pub async fn next_event(&mut self) -> Message {
        loop {
            let message = self.next().await;
            if !message.is_control() {
                return message;
            }
        }
    }

    /// The next events; control messages are passed over.
    pub async fn take_events(&mut self, count: usize) -> Vec<Message> {
        let mut events = Vec::with_capacity(count);
        while events.len() < count {
            events.push(self.next_event().await);
        }
        events
    }

    /// The next message, which is one about the stream.
    pub async fn next_control(&mut self) -> ControlMessage {
        let message = self.next().await;
        assert!(message.is_control(), "{message:?}");
        let frames = message.0.iter().map(Vec::as_slice);
        ControlMessage::decode(frames).expect("a control message").unwrap()
    }

    /// Waits until the publisher has read all subscriptions sent so far, and serves this connection; returns the
    /// events that came meanwhile. Needs a publisher with a journal: it asks for the snapshot of an unknown object,
    /// which a connection may do 16 times.
    pub async fn in_force(&mut self) -> Vec<Message> {
        self.barriers += 1;
        let barrier = format!("@snapshot:worker/barrier-{}", self.barriers);
        self.subscribe(&barrier).await;
        let mut before = Vec::new();
        loop {
            let message = self.next().await;
            if message.topic() != barrier {
                before.push(message);
            } else if message.text(1) == "end" {
                return before;
            }
        }
    }
}
