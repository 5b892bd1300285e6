//! A WebSocket as LAVA has it, reconnecting: a plain publisher, which cannot resume.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use lavabus_client::{Cause, Patience, SubscriptionError, Update};
use lavabus_lava::{EventSocket, Received, Server, ServerError};
use lavabus_protocol::{Cursor, GapReason};

type Opening = Pin<Box<dyn Future<Output = Result<EventSocket, ServerError>> + Send>>;

enum State {
    Connecting(Opening),
    Live(Box<EventSocket>),
    Ended,
}

/// The events of a WebSocket. It lives while [`next`](WebSocketStream::next) is awaited.
pub(crate) struct WebSocketStream {
    server: Server,
    address: String,
    state: State,
    told: VecDeque<Update>,
    patience: Patience,
}

impl WebSocketStream {
    /// Nothing happens before `next` is awaited.
    pub(super) fn new(
        server: Server,
        address: String,
        connect_timeout: Duration,
        max_outage: Duration,
    ) -> WebSocketStream {
        let mut stream = WebSocketStream {
            server,
            address,
            state: State::Ended,
            told: VecDeque::new(),
            patience: Patience::new(connect_timeout, max_outage),
        };
        stream.state = State::Connecting(stream.connecting(Duration::ZERO));
        stream
    }

    /// The next thing to tell. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Update, SubscriptionError> {
        loop {
            if let Some(update) = self.told.pop_front() {
                return Ok(update);
            }
            match &mut self.state {
                State::Ended => return Err(SubscriptionError::Ended),
                State::Connecting(opening) => match opening.as_mut().await {
                    Ok(socket) => {
                        self.state = State::Live(Box::new(socket));
                        self.told.push_back(Update::Connected { extended: false });
                        if self.patience.was_connected() {
                            self.told.push_back(Update::Gap {
                                from: None,
                                to: None,
                                reason: GapReason::Other("plain_publisher".to_owned()),
                            });
                        }
                        self.patience.connected();
                    }
                    Err(error) => self.on_lost(error)?,
                },
                State::Live(socket) => match socket.next().await {
                    Ok(Received::Event(mut record)) => {
                        // The place to go on from with a publisher that can.
                        record.cursor = Some(Cursor {
                            position: None,
                            uuid: record.uuid,
                        });
                        return Ok(Update::Event {
                            record,
                            position: None,
                            in_snapshot: false,
                        });
                    }
                    Ok(Received::NoEvent { reason }) => return Ok(Update::Unreadable { cause: reason }),
                    Err(error) => self.on_lost(error)?,
                },
            }
        }
    }

    fn connecting(&self, wait: Duration) -> Opening {
        let (server, attempt) = (self.server.clone(), self.patience.attempt(wait));
        Box::pin(async move {
            let within = attempt.begin().await;
            let opening = tokio::time::timeout(within, server.web_socket()).await;
            opening.unwrap_or_else(|_| {
                Err(ServerError::Unavailable {
                    cause: format!("no answer within {within:?}"),
                })
            })
        })
    }

    fn on_lost(&mut self, error: ServerError) -> Result<(), SubscriptionError> {
        let worked = matches!(self.state, State::Live(_));
        self.state = State::Ended;
        let endpoint = self.address.clone();
        let cause = match error {
            ServerError::Unavailable { cause } => Cause::Http(cause),
            ServerError::Refused { message, .. } => {
                return Err(SubscriptionError::Refused {
                    endpoint,
                    reason: message,
                });
            }
            ServerError::Certificate { cause } => return Err(SubscriptionError::Certificate { endpoint, cause }),
            error => {
                return Err(SubscriptionError::Protocol {
                    endpoint,
                    cause: error.to_string(),
                });
            }
        };
        let (wait, news) = self.patience.lost(worked, &self.address, cause)?;
        self.told.extend(news);
        self.state = State::Connecting(self.connecting(wait));
        Ok(())
    }
}

impl fmt::Debug for WebSocketStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketStream")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
