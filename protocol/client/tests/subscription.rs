//! A subscription against libzmq's XPUB, which plays both kinds of publisher.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use lavabus_client::{Cause, EmitError, Emitter, Options, Subscription, SubscriptionError, Update, new_event};
use lavabus_protocol::{ControlMessage, Epoch, GapReason, Position, Record, SnapshotScope};
use lavabus_zmtp::HeartbeatConfig;
use libzmq_peer::{Kind, Socket, SocketOption};
use tokio::io::AsyncWriteExt as _;

const LONG: Duration = Duration::from_secs(60);

/// A publisher whose every message is written by the test.
struct Publisher {
    socket: Socket,
    endpoint: String,
}

impl Publisher {
    fn bind(endpoint: &str) -> Publisher {
        let socket = Socket::new(Kind::XPub).unwrap();
        socket.set(SocketOption::Linger, 0).unwrap();
        // libzmq gives a port up some time after its socket was dropped.
        let end = Instant::now() + LONG;
        while let Err(error) = socket.bind(endpoint) {
            assert!(Instant::now() < end, "{error}");
            std::thread::yield_now();
        }
        let endpoint = socket.last_endpoint().unwrap();
        Publisher { socket, endpoint }
    }

    fn start() -> Publisher {
        Publisher::bind("tcp://127.0.0.1:*")
    }

    /// What a subscriber sends up to `@start`.
    fn subscriptions(&self) -> Vec<String> {
        let mut subscriptions = Vec::new();
        loop {
            let message = self.socket.recv_timeout(LONG).unwrap();
            let (verb, prefix) = message[0].split_first().unwrap();
            if *verb == 1 {
                subscriptions.push(String::from_utf8(prefix.to_vec()).unwrap());
            }
            if prefix == b"@start" {
                return subscriptions;
            }
        }
    }

    fn say(&self, message: &ControlMessage) {
        self.socket.send(&message.encode()).unwrap();
    }

    fn head(&self, position: u64) {
        self.say(&ControlMessage::Head {
            head: at(position),
            oldest: Some(1),
            skipped: 0,
            position: Some(at(position)),
        });
    }

    fn send(&self, event: &Record, position: Option<&str>) {
        let uuid = event.uuid.to_string();
        let mut frames = vec![
            event.topic.as_str(),
            &uuid,
            &event.datetime,
            &event.username,
            &event.data,
        ];
        frames.extend(position);
        self.socket.send(&frames).unwrap();
    }

    fn send_at(&self, event: &Record, seq: u64) {
        self.send(event, Some(&at(seq).to_string()));
    }
}

fn at(seq: u64) -> Position {
    Position {
        epoch: Epoch::from_u32(0x5f0e_11d2),
        seq,
    }
}

fn event() -> Record {
    new_event("lab.event", "ann", r#"{"message": "m", "job": 7}"#).unwrap()
}

fn subscribe(publisher: &Publisher, options: Options) -> Subscription {
    Subscription::new(publisher.endpoint.parse().unwrap(), options)
}

async fn next(subscription: &mut Subscription) -> Update {
    tokio::time::timeout(LONG, subscription.next()).await.unwrap().unwrap()
}

/// The next event's UUID and position, heads passed over.
async fn next_event(subscription: &mut Subscription) -> (Record, Option<Position>, bool) {
    loop {
        match next(subscription).await {
            Update::Event {
                record,
                position,
                in_snapshot,
            } => return (record, position, in_snapshot),
            Update::Head { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Runs the publisher's side, which blocks, beside the subscription's.
async fn beside<T: Send + 'static>(
    subscription: &mut Subscription,
    script: impl FnOnce() -> T + Send + 'static,
) -> (T, Vec<Update>) {
    let mut updates = Vec::new();
    let mut script = tokio::task::spawn_blocking(script);
    loop {
        tokio::select! {
            biased;
            done = &mut script => return (done.unwrap(), updates),
            update = subscription.next() => updates.push(update.unwrap()),
        }
    }
}

#[tokio::test]
async fn an_extended_publisher_is_known_by_its_head() {
    let publisher = Publisher::start();
    let mut subscription = subscribe(
        &publisher,
        Options {
            prefixes: vec!["lab.".into()],
            ..Options::default()
        },
    );
    let event = event();
    let sent = event.clone();
    let (subscriptions, mut updates) = beside(&mut subscription, move || {
        let subscriptions = publisher.subscriptions();
        publisher.head(4);
        publisher.send_at(&sent, 5);
        (subscriptions, publisher)
    })
    .await;
    assert_eq!(subscriptions.0, ["lab.", "@seq", "@start"]);
    while updates.len() < 3 {
        updates.push(next(&mut subscription).await);
    }
    let mut updates = updates.into_iter();
    assert!(matches!(updates.next(), Some(Update::Connected { extended: true })));
    assert!(matches!(updates.next(), Some(Update::Head { position: Some(position), .. }) if position == at(4)));
    let Some(Update::Event {
        record,
        position,
        in_snapshot,
    }) = updates.next()
    else {
        panic!("no event")
    };
    assert_eq!((record.uuid, position, in_snapshot), (event.uuid, Some(at(5)), false));
    assert_eq!(record.cursor.unwrap().to_string(), format!("5f0e11d2/5/{}", event.uuid));
}

#[tokio::test]
async fn it_resumes_after_the_last_event_and_drops_repeats() {
    let publisher = Publisher::start();
    let endpoint = publisher.endpoint.clone();
    let mut subscription = subscribe(&publisher, Options::default());
    let (first, second) = (event(), event());
    let sent = first.clone();
    let (publisher, mut updates) = beside(&mut subscription, move || {
        publisher.subscriptions();
        publisher.send_at(&sent, 5);
        publisher
    })
    .await;
    while !updates.iter().any(|update| matches!(update, Update::Event { .. })) {
        updates.push(next(&mut subscription).await);
    }
    drop(publisher);
    assert!(matches!(
        next(&mut subscription).await,
        Update::Disconnected { cause: Cause::Lost(_) }
    ));

    let (repeat, new) = (first.clone(), second.clone());
    let (subscriptions, mut updates) = beside(&mut subscription, move || {
        let publisher = Publisher::bind(&endpoint);
        let subscriptions = publisher.subscriptions();
        publisher.send_at(&repeat, 5);
        publisher.send_at(&new, 6);
        publisher.head(6);
        (subscriptions, publisher)
    })
    .await;
    assert_eq!(
        subscriptions.0,
        ["", "@seq", &format!("@after:5f0e11d2/5/{}", first.uuid), "@start"]
    );
    while !updates.iter().any(|update| matches!(update, Update::Head { .. })) {
        updates.push(next(&mut subscription).await);
    }
    let events: Vec<_> = updates
        .iter()
        .filter_map(|update| match update {
            Update::Event { record, .. } => Some(record.uuid),
            Update::Gap { .. } => panic!("{update:?}"),
            _ => None,
        })
        .collect();
    assert_eq!(events, [second.uuid]);
}

#[tokio::test]
async fn a_plain_publisher_is_known_by_five_frames_and_an_outage_of_it_is_a_gap() {
    let publisher = Publisher::start();
    let endpoint = publisher.endpoint.clone();
    let mut subscription = subscribe(&publisher, Options::default());
    let (publisher, mut updates) = beside(&mut subscription, move || {
        publisher.subscriptions();
        publisher.send(&event(), None);
        publisher
    })
    .await;
    while updates.len() < 2 {
        updates.push(next(&mut subscription).await);
    }
    assert!(matches!(updates[0], Update::Connected { extended: false }));
    assert!(matches!(updates[1], Update::Event { position: None, .. }));
    drop(publisher);
    let (_publisher, mut updates) = beside(&mut subscription, move || {
        let publisher = Publisher::bind(&endpoint);
        publisher.subscriptions();
        publisher.send(&event(), None);
        publisher
    })
    .await;
    while updates.len() < 4 {
        updates.push(next(&mut subscription).await);
    }
    assert!(matches!(updates[0], Update::Disconnected { .. }));
    assert!(matches!(updates[1], Update::Connected { extended: false }));
    let Update::Gap {
        reason: GapReason::Other(reason),
        ..
    } = &updates[2]
    else {
        panic!("{:?}", updates[2])
    };
    assert_eq!(reason, "plain_publisher");
    assert!(matches!(updates[3], Update::Event { .. }));
}

#[tokio::test]
async fn a_snapshot_that_did_not_end_is_asked_for_again_and_moves_nothing() {
    let publisher = Publisher::start();
    let endpoint = publisher.endpoint.clone();
    let options = Options {
        snapshots: vec![SnapshotScope::All],
        ..Options::default()
    };
    let mut subscription = subscribe(&publisher, options);
    let begin = || ControlMessage::SnapshotBegin {
        subscription: "@snapshot".into(),
        position: at(9),
    };
    let end = || ControlMessage::SnapshotEnd {
        subscription: "@snapshot".into(),
        count: 1,
    };
    let old = event();
    let sent = old.clone();
    let (subscriptions, _) = beside(&mut subscription, move || {
        let subscriptions = publisher.subscriptions();
        publisher.say(&begin());
        publisher.send(&sent, Some("-"));
        drop(publisher);
        subscriptions
    })
    .await;
    assert_eq!(subscriptions, ["", "@seq", "@snapshot", "@start"]);
    let sent = old.clone();
    let (again, mut updates) = beside(&mut subscription, move || {
        let publisher = Publisher::bind(&endpoint);
        let subscriptions = publisher.subscriptions();
        publisher.say(&begin());
        publisher.send(&sent, Some("-"));
        publisher.say(&end());
        publisher.send_at(&sent, 10);
        (subscriptions, publisher)
    })
    .await;
    // No event of the stream was seen, so there is nothing to resume after.
    assert_eq!(again.0, ["", "@seq", "@snapshot", "@start"]);
    let ended = |updates: &[Update]| {
        updates
            .iter()
            .any(|update| matches!(update, Update::SnapshotEnd { .. }))
    };
    while !ended(&updates) {
        updates.push(next(&mut subscription).await);
    }
    let (record, position, in_snapshot) = match updates.pop() {
        Some(Update::Event {
            record,
            position,
            in_snapshot,
        }) => (record, position, in_snapshot),
        _ => next_event(&mut subscription).await,
    };
    assert_eq!((record.uuid, position, in_snapshot), (old.uuid, Some(at(10)), false));
}

#[tokio::test]
async fn what_is_no_event_is_passed_over() {
    let publisher = Publisher::start();
    let mut subscription = subscribe(&publisher, Options::default());
    let event = event();
    let sent = event.clone();
    let (_publisher, mut updates) = beside(&mut subscription, move || {
        publisher.subscriptions();
        publisher.socket.send(&["lab.event"]).unwrap();
        publisher.socket.send(&["@seq", "tea", "time"]).unwrap();
        publisher.send(&sent, Some("not a position"));
        publisher.send_at(&sent, 1);
        publisher
    })
    .await;
    while updates.len() < 5 {
        updates.push(next(&mut subscription).await);
    }
    let unreadable = updates
        .iter()
        .filter(|update| matches!(update, Update::Unreadable { .. }))
        .count();
    assert_eq!(unreadable, 3);
    assert!(
        updates
            .iter()
            .any(|update| matches!(update, Update::Event { record, .. } if record.uuid == event.uuid))
    );
}

#[tokio::test]
async fn no_connection_in_time_is_told_once_and_then_an_error() {
    let options = Options {
        connect_timeout: Duration::from_millis(300),
        ..Options::default()
    };
    let mut subscription = Subscription::new("ipc:///nowhere/at/all".parse().unwrap(), options);
    assert!(matches!(
        next(&mut subscription).await,
        Update::Disconnected {
            cause: Cause::Connect(_)
        }
    ));
    let error = tokio::time::timeout(LONG, subscription.next())
        .await
        .unwrap()
        .unwrap_err();
    assert!(matches!(error, SubscriptionError::NoConnection { .. }), "{error}");
    assert!(matches!(subscription.next().await, Err(SubscriptionError::Ended)));
}

#[tokio::test]
async fn an_outage_that_is_too_long_is_an_error() {
    let publisher = Publisher::start();
    let options = Options {
        max_outage: Duration::from_millis(200),
        ..Options::default()
    };
    let mut subscription = subscribe(&publisher, options);
    let (_, mut updates) = beside(&mut subscription, move || {
        publisher.subscriptions();
        publisher.head(1);
        publisher.send_at(&event(), 1);
        publisher
    })
    .await;
    while !updates.iter().any(|update| matches!(update, Update::Connected { .. })) {
        updates.push(next(&mut subscription).await);
    }
    // The publisher was dropped by `_` above.
    let error = tokio::time::timeout(LONG, async {
        loop {
            if let Err(error) = subscription.next().await {
                return error;
            }
        }
    });
    assert!(matches!(error.await.unwrap(), SubscriptionError::OutageTooLong { .. }));
}

#[tokio::test]
async fn who_is_no_publisher_ends_it_at_once() {
    let pull = Socket::new(Kind::Pull).unwrap();
    pull.bind("tcp://127.0.0.1:*").unwrap();
    let mut subscription = Subscription::new(pull.last_endpoint().unwrap().parse().unwrap(), Options::default());
    // libzmq may close the connection before it has said what it is: then it is tried again.
    let error = tokio::time::timeout(LONG, async {
        loop {
            if let Err(error) = subscription.next().await {
                return error;
            }
        }
    });
    assert!(matches!(error.await.unwrap(), SubscriptionError::Protocol { .. }));
}

#[tokio::test]
async fn what_was_confirmed_was_taken() {
    let pull = Socket::new(Kind::Pull).unwrap();
    pull.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = pull.last_endpoint().unwrap().parse().unwrap();
    let event = event();
    let mut emitter = Emitter::connect(&endpoint, LONG).await.unwrap();
    emitter.send(&event.envelope()).await.unwrap();
    emitter.confirm(LONG).await.unwrap();
    drop(emitter);
    let frames = pull.recv_timeout(LONG).unwrap();
    assert_eq!(frames, event.envelope().frames(&mut [0; 36]).map(<[u8]>::to_vec));
}

#[tokio::test]
async fn nobody_listens() {
    let endpoint = "ipc:///nowhere/at/all".parse().unwrap();
    let error = Emitter::connect(&endpoint, Duration::from_millis(150))
        .await
        .unwrap_err();
    assert!(matches!(error, EmitError::NoConnection(_)), "{error}");
}

/// RFC 23 and 37: the greeting, then READY of a PUB.
fn handshake_of_a_publisher() -> Vec<u8> {
    let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 1];
    bytes.extend_from_slice(b"NULL");
    bytes.resize(64, 0);
    let ready = b"\x05READY\x0bSocket-Type\0\0\0\x03PUB";
    bytes.extend_from_slice(&[4, u8::try_from(ready.len()).unwrap()]);
    bytes.extend_from_slice(ready);
    bytes
}

#[tokio::test]
async fn a_publisher_that_hangs_is_left() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    let hanging = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&handshake_of_a_publisher()).await.unwrap();
            // Its machine acknowledges everything, and nobody reads it.
            held.push(stream);
        }
    });
    let mut options = Options::default();
    options.connect.heartbeat = HeartbeatConfig {
        interval: Duration::from_millis(100),
        timeout: Duration::from_millis(200),
        stalled_timeout: Duration::from_millis(400),
        ..options.connect.heartbeat
    };
    let mut subscription = Subscription::new(endpoint.parse().unwrap(), options);
    let Update::Disconnected { cause } = next(&mut subscription).await else {
        panic!("not noticed")
    };
    assert!(cause.to_string().contains("stalled"), "{cause}");
    hanging.abort();
}
