//! What a real LAVA server sent, pushed by libzmq, comes out of a libzmq SUB byte for byte and in order; a subscriber
//! by prefix gets exactly its own.

#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Lab, Message, RawSub, RunningPublisher, StockPush, StockSub, captured};

const PREFIXES: [&str; 9] = [
    "org.example.lab.device",
    "org.example.lab.testjob",
    "org.example.lab.worker",
    "org.example.lab.event",
    "org.example.lab.",
    "o",
    "org.example.lab.device.and.more",
    "ORG",
    "\u{1}",
];

fn labs() -> [Lab; 4] {
    let lab = Lab::new;
    [
        lab(),
        lab().publish_at_ipc(),
        lab().journal(),
        lab().journal().publish_at_ipc(),
    ]
}

/// Of each kind one, after which nothing comes.
fn ends() -> [Message; 4] {
    [
        Message::device("last", "Idle"),
        Message::job(999_999, "Finished", "Complete"),
        Message::worker("last", "Online"),
        Message::test_event(999_999),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn all_come_out_byte_for_byte_and_in_order() {
    let captured = captured();
    assert_eq!(captured.len(), 208);
    for lab in labs() {
        let publisher = lab.start().await;
        let sub = StockSub::connect(publisher.publish(), &[""]);
        publisher.subscribers(1).await;
        StockPush::connect(publisher.intake()).send_all(&captured);
        for message in &captured {
            assert_eq!(sub.next(), *message);
        }
        publisher.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_by_prefix_gets_exactly_its_own() {
    let mut pushed = captured();
    pushed.extend(ends());
    for lab in labs() {
        let publisher = lab.start().await;
        let subs = PREFIXES.map(|prefix| (prefix, StockSub::connect(publisher.publish(), &[prefix])));
        publisher.subscribers(PREFIXES.len() as u64).await;
        let push = StockPush::connect(publisher.intake());
        push.send_all(&pushed);
        for (prefix, sub) in subs {
            let own: Vec<_> = pushed
                .iter()
                .filter(|message| message.topic().starts_with(prefix))
                .collect();
            let received = sub.take(own.len());
            assert_eq!(received.iter().collect::<Vec<_>>(), own, "{prefix:?}");
            // What it now asks for as well is the next that it gets.
            sub.subscribe("extra");
            pass_something_on(&publisher, &push, &sub).await;
        }
        publisher.stop().await;
    }
}

/// Pushes messages with the topic `extra` until one arrives, which must be the next message at all.
async fn pass_something_on(publisher: &RunningPublisher, push: &StockPush, sub: &StockSub) {
    loop {
        let extra = Message::test_event(0).with_topic("extra");
        let before = publisher.counters().published.get();
        push.send(&extra);
        publisher.published(before + 1).await;
        if let Ok(frames) = sub.socket().recv_timeout(std::time::Duration::from_millis(50)) {
            assert_eq!(Message(frames).topic(), "extra");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overlapping_prefixes_give_each_message_once() {
    let captured = captured();
    let publisher = Lab::new().journal().start().await;
    let sub = StockSub::connect(
        publisher.publish(),
        &["", "org", "org.example.lab.device", "org.example.lab.device"],
    );
    publisher.subscribers(1).await;
    StockPush::connect(publisher.intake()).send_all(&captured);
    assert_eq!(sub.take(captured.len()), captured);
    publisher.stop().await;
}

/// libzmq counts equal subscriptions itself: subscribed twice and taken back once, one is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_stock_sub_that_takes_back_one_of_two_equal_subscriptions_keeps_the_other() {
    let captured = captured();
    let publisher = Lab::new().start().await;
    let sub = StockSub::connect(
        publisher.publish(),
        &["org.example.lab.device", "org.example.lab.device"],
    );
    sub.unsubscribe("org.example.lab.device");
    publisher.subscribers(1).await;
    StockPush::connect(publisher.intake()).send_all(&captured);
    let devices: Vec<_> = captured
        .into_iter()
        .filter(|message| message.topic().ends_with(".device"))
        .collect();
    assert_eq!(sub.take(devices.len()), devices);
    publisher.stop().await;
}

/// On one connection the subscriptions are a set: libzmq sends an equal one twice, but only one CANCEL.
#[tokio::test(flavor = "multi_thread")]
async fn one_cancel_ends_a_subscription_that_was_sent_twice() {
    let captured = captured();
    let publisher = Lab::new().journal().start().await;
    let (device, worker) = ("org.example.lab.device", "org.example.lab.worker");
    let mut sub = RawSub::connect(publisher.publish(), &[device, device, worker, "@start"]).await;
    assert_eq!(sub.in_force().await, []);
    let push = StockPush::connect(publisher.intake());
    push.send_all(&captured);
    let of = |topics: &[&str]| {
        let wanted = captured.iter().filter(|message| topics.contains(&message.topic()));
        wanted.cloned().collect::<Vec<_>>()
    };
    let both = of(&[device, worker]);
    assert_eq!(sub.take_events(both.len()).await, both);

    sub.cancel(device).await;
    assert_eq!(sub.in_force().await, []);
    let [last_device, _, last_worker, _] = ends();
    push.send_all([&last_device, &last_worker]);
    assert_eq!(sub.next().await, last_worker);

    // A CANCEL of what is not subscribed changes nothing.
    sub.cancel(device).await;
    sub.cancel("org.example.lab.").await;
    sub.subscribe(device).await;
    assert_eq!(sub.in_force().await, []);
    let (again, end) = (Message::device("again", "Idle"), Message::worker("end", "Offline"));
    push.send_all([&again, &end]);
    assert_eq!([sub.next().await, sub.next().await], [again, end]);
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_has_them_as_they_came() {
    let captured = captured();
    let publisher = Lab::new().journal().start().await;
    StockPush::connect(publisher.intake()).send_all(&captured);
    publisher.published(208).await;
    assert_eq!(publisher.stop().await.journal_contents(), captured);
}
