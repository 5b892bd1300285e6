//! Ways for the events of LAVA's stand-in to a bus.

use std::sync::{Arc, Mutex};

use lava_stand_in::LavaServer;
use lavabus_zmtp::Endpoint;
use libzmq_peer::{Kind, Socket};

use super::{Message, StockPush};

/// The server's events go to this intake, as LAVA sends them: by PUSH, which waits and reconnects by itself.
pub fn push_events_of(lava: &LavaServer, intake: &Endpoint) {
    let push = Mutex::new(StockPush::connect(intake));
    lava.on_event(move |frames| push.lock().unwrap().send(&Message::new(frames)));
}

/// A publisher without extensions: libzmq's PUB, fed by the server.
#[derive(Clone)]
pub struct PlainPublisher {
    socket: Arc<Mutex<Socket>>,
    endpoint: Endpoint,
}

impl PlainPublisher {
    /// Publishes the server's events at a free port.
    pub fn of(lava: &LavaServer) -> PlainPublisher {
        let publisher = PlainPublisher::new();
        let fed = publisher.clone();
        lava.on_event(move |frames| fed.send(&Message::new(frames)));
        publisher
    }

    /// Publishes what it is told.
    pub fn new() -> PlainPublisher {
        let socket = Socket::new(Kind::Pub).unwrap();
        socket.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = socket.last_endpoint().unwrap().parse().unwrap();
        PlainPublisher {
            socket: Arc::new(Mutex::new(socket)),
            endpoint,
        }
    }

    /// Where subscribers connect.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Publishes one message.
    pub fn send(&self, message: &Message) {
        self.socket.lock().unwrap().send(&message.0).unwrap();
    }

    /// Loses its subscribers, for ever.
    pub fn go_down(&self) {
        *self.socket.lock().unwrap() = Socket::new(Kind::Pub).unwrap();
    }
}
