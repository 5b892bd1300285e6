//! No subscriber sees an event before it is committed: here each commit is held up, and watched.

#![allow(clippy::unwrap_used)]

mod lab;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lab::{Lab, Message, RawSub, StockPush, StockSub};
use lavabus_store::Reader;
use libzmq_peer::Error;

/// Each commit takes so long.
const SYNC: Duration = Duration::from_millis(200);

/// A lab whose journal is slow, and the number of commits that were begun.
fn slow_lab() -> (Lab, Arc<AtomicU64>) {
    let begun = Arc::new(AtomicU64::new(0));
    let counter = begun.clone();
    let lab = Lab::new().journal().configure(|config| {
        config.journal.as_mut().unwrap().options.before_commit = Some(Arc::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(SYNC);
            Ok(())
        }));
    });
    (lab, begun)
}

/// What another process would find in the database now.
fn is_in_the_database(reader: &Reader, message: &Message) -> bool {
    let id = message.uuid().parse().unwrap();
    reader.by_id(&id).unwrap().is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_subscriber_sees_an_event_before_its_commit() {
    let (lab, _) = slow_lab();
    let publisher = lab.start().await;
    let reader = Reader::open(publisher.database()).unwrap();
    let stock = StockSub::connect(publisher.publish(), &[""]);
    let narrow = StockSub::connect(publisher.publish(), &["org.example.lab.event"]);
    let mut numbered = RawSub::connect(publisher.publish(), &["", "@seq", "@start"]).await;
    publisher.subscribers(3).await;
    let push = StockPush::connect(publisher.intake());
    for number in 1..=20 {
        let message = Message::test_event(number);
        push.send(&message);
        // Whoever is first to see it finds it in the database already.
        let seen = numbered.next_event().await;
        assert!(
            is_in_the_database(&reader, &seen),
            "event {number} was seen before its commit"
        );
        assert_eq!(seen.position().seq, number);
        assert_eq!(seen.without_position(), message);
        assert_eq!(stock.next(), message);
        assert_eq!(narrow.next(), message);
    }
    publisher.stop().await;
}

/// Watches from the other side: while a commit is under way nobody has any of its events.
#[tokio::test(flavor = "multi_thread")]
async fn while_a_commit_is_held_up_its_events_are_not_seen() {
    let (hold, held) = std::sync::mpsc::sync_channel::<()>(0);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(released);
    let lab = Lab::new().journal().configure(|config| {
        config.journal.as_mut().unwrap().options.before_commit = Some(Arc::new(move || {
            // Both end with the test.
            let _ = hold.send(());
            let _ = gate.lock().unwrap().recv();
            Ok(())
        }));
    });
    let publisher = lab.start().await;
    let reader = Reader::open(publisher.database()).unwrap();
    let sub = StockSub::connect(publisher.publish(), &[""]);
    publisher.subscribers(1).await;
    let push = StockPush::connect(publisher.intake());
    let mut seen = 0;
    for number in 1..=5 {
        push.send(&Message::test_event(number));
        // Commits of nothing but what follows from events pass as well.
        while seen < number {
            held.recv_timeout(lab::LONG).unwrap();
            assert_eq!(sub.socket().recv_timeout(SYNC), Err(Error::Again));
            assert_eq!(reader.head().unwrap(), seen);
            release.send(()).unwrap();
            while let Ok(frames) = sub.socket().recv_timeout(SYNC) {
                seen += 1;
                assert_eq!(Message(frames).number(), seen);
                assert!(reader.head().unwrap() >= seen);
            }
        }
    }
    drop((held, release));
    publisher.stop().await;
}

/// Under load, with commits of many events each, by the numbers: what is seen is at most what is committed.
#[tokio::test(flavor = "multi_thread")]
async fn under_load_nobody_is_ahead_of_the_database() {
    const EVENTS: u64 = 3_000;
    let (lab, commits) = slow_lab();
    let publisher = lab.start().await;
    let reader = Reader::open(publisher.database()).unwrap();
    let mut sub = RawSub::connect(publisher.publish(), &["", "@seq", "@start"]).await;
    sub.next_control().await;
    let push = StockPush::connect(publisher.intake());
    let pushing = std::thread::spawn(move || (1..=EVENTS).for_each(|number| push.send(&Message::test_event(number))));
    for number in 1..=EVENTS {
        let seen = sub.next_event().await;
        assert_eq!((seen.number(), seen.position().seq), (number, number));
        if !number.is_multiple_of(64) {
            continue;
        }
        assert!(reader.head().unwrap() >= number);
    }
    pushing.join().unwrap();
    assert!(
        commits.load(Ordering::SeqCst) > 1,
        "the events came in one group: nothing was shown"
    );
    let mut kept = 0;
    reader
        .scan(0, EVENTS, |_| {
            kept += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(kept, EVENTS);
    publisher.stop().await;
}
