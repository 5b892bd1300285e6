//! A stock SUB whose application reads nothing for 30 s, under 5,000 events/s, and then reads on gets every event; and
//! so do ten others meanwhile.

#![allow(clippy::unwrap_used)]

mod lab;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use lab::{Lab, Message, StockPush, StockSub};
use libzmq_peer::{Kind, MonitorEventKind, Socket};

/// Twice the time after which a peer that says nothing may be taken for dead.
const STALLED: Duration = Duration::from_secs(30);
const RATE: u64 = 5_000;
const OTHERS: usize = 10;
/// Asks for an object that nobody has heard of.
const IN_FORCE: &str = "@snapshot:worker/none";
/// Events are pushed this often, as many as are due.
const PUSH_INTERVAL: Duration = Duration::from_millis(10);

/// Only the UUIDs are compared: there are many.
fn uuid(message: &Message) -> &[u8] {
    &message.0[1]
}

fn gets_all(sub: &StockSub, events: &[Message]) {
    for (index, event) in events.iter().enumerate() {
        assert!(uuid(&sub.next()) == uuid(event), "another event at {index}");
    }
}

#[test]
fn gets_every_event_when_it_reads_on() {
    let publisher = Lab::new().journal().start_process();
    let count = RATE * STALLED.as_secs();
    let events: Arc<Vec<Message>> = Arc::new((0..count).map(Message::test_event).collect());

    let slow = Socket::new(Kind::Sub).unwrap();
    let monitor = slow.monitor().unwrap();
    slow.subscribe(b"").unwrap();
    slow.connect(&publisher.publish().to_string()).unwrap();
    let mut others = Vec::new();
    for _ in 0..OTHERS {
        // The answer of two messages shows that its subscriptions are in force.
        let sub = StockSub::connect(publisher.publish(), &["org", IN_FORCE]);
        assert!(sub.take(2).iter().all(|message| message.topic() == IN_FORCE));
        others.push(sub);
    }
    let connected = monitor
        .iter()
        .find(|event| event.kind == MonitorEventKind::HandshakeSucceeded);
    assert!(connected.is_some());
    let slow = StockSub::from(slow);

    let readers: Vec<_> = others
        .into_iter()
        .map(|sub| {
            let events = events.clone();
            thread::spawn(move || gets_all(&sub, &events))
        })
        .collect();

    let push = StockPush::connect(publisher.intake());
    let begin = Instant::now();
    let mut pushed = 0;
    while pushed < count {
        let due = count.min(begin.elapsed().as_micros() as u64 * RATE / 1_000_000 + 1);
        push.send_all(&events[pushed as usize..due as usize]);
        pushed = due;
        thread::sleep(PUSH_INTERVAL);
    }
    for reader in readers {
        reader.join().unwrap();
    }
    assert!(begin.elapsed() >= STALLED);

    gets_all(&slow, &events);
    let disconnected = monitor
        .try_iter()
        .any(|event| event.kind == MonitorEventKind::Disconnected);
    assert!(!disconnected, "{}", publisher.log());
    let lab = publisher.terminate();
    assert!(lab.journal_contents().len() as u64 == count);
}
