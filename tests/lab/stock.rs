//! Peers on libzmq, as a user would write them.

use lavabus_zmtp::Endpoint;
use libzmq_peer::{Kind, Socket, SocketOption};

use super::{LONG, Message};

/// A libzmq SUB. It reconnects by itself, and sends all its subscriptions again.
pub struct StockSub(Socket);

/// A libzmq PUSH, as LAVA's web processes have it.
pub struct StockPush(Socket);

impl StockSub {
    /// Connects with these subscriptions.
    pub fn connect(endpoint: &Endpoint, subscriptions: &[&str]) -> StockSub {
        StockSub::connect_with(endpoint, subscriptions, &[])
    }

    /// Connects with socket options set before.
    pub fn connect_with(endpoint: &Endpoint, subscriptions: &[&str], options: &[(SocketOption, i32)]) -> StockSub {
        let socket = Socket::new(Kind::Sub).unwrap();
        for (option, value) in options {
            socket.set(*option, *value).unwrap();
        }
        for subscription in subscriptions {
            socket.subscribe(subscription.as_bytes()).unwrap();
        }
        socket.connect(&endpoint.to_string()).unwrap();
        StockSub(socket)
    }

    /// One more subscription.
    pub fn subscribe(&self, subscription: &str) {
        self.0.subscribe(subscription.as_bytes()).unwrap();
    }

    /// One less.
    pub fn unsubscribe(&self, subscription: &str) {
        self.0.unsubscribe(subscription.as_bytes()).unwrap();
    }

    /// The next message.
    pub fn next(&self) -> Message {
        Message(self.0.recv_timeout(LONG).expect("a message in time"))
    }

    /// The next messages.
    pub fn take(&self, count: usize) -> Vec<Message> {
        (0..count).map(|_| self.next()).collect()
    }

    /// All messages up to the one with this UUID, without it.
    pub fn until(&self, end: &Message) -> Vec<Message> {
        std::iter::from_fn(|| Some(self.next()).filter(|message| message != end)).collect()
    }

    /// The socket itself.
    pub fn socket(&self) -> &Socket {
        &self.0
    }
}

/// A SUB with settings of its own.
impl From<Socket> for StockSub {
    fn from(socket: Socket) -> StockSub {
        StockSub(socket)
    }
}

impl StockPush {
    /// Connects in the background. What is not sent when this is dropped goes on in the background.
    pub fn connect(endpoint: &Endpoint) -> StockPush {
        let socket = Socket::new(Kind::Push).unwrap();
        socket.connect(&endpoint.to_string()).unwrap();
        StockPush(socket)
    }

    /// Sends one message; waits for room.
    pub fn send(&self, message: &Message) {
        self.0.send(&message.0).unwrap();
    }

    /// Sends one message if there is room, as LAVA does; false if it was not sent.
    pub fn try_send(&self, message: &Message) -> bool {
        self.0.try_send(&message.0).is_ok()
    }

    /// Sends all, in order.
    pub fn send_all<'a>(&self, messages: impl IntoIterator<Item = &'a Message>) {
        messages.into_iter().for_each(|message| self.send(message));
    }
}

/// A PUSH with settings of its own.
impl From<Socket> for StockPush {
    fn from(socket: Socket) -> StockPush {
        StockPush(socket)
    }
}
