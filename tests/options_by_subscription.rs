//! What a subscription that begins with `@` sets for its connection.

#![allow(clippy::unwrap_used)]

mod lab;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use lab::{Lab, Message, RawSub, RunningPublisher, StockPush, StockSub, version_1};
use lavabus_protocol::{ControlMessage, EventId, GapReason, Position};
use lavabus_store::{Journal, NewEvent, Options};

const HOUR: Duration = Duration::from_secs(3600);

fn after(message: &Message) -> String {
    format!("@after:{}", message.uuid())
}

/// A publisher whose journal has these.
async fn publisher_with(messages: &[Message]) -> (RunningPublisher, StockPush) {
    let publisher = Lab::new().journal().start().await;
    let push = StockPush::connect(publisher.intake());
    push.send_all(messages);
    publisher.published(messages.len() as u64).await;
    (publisher, push)
}

fn test_events(count: u64) -> Vec<Message> {
    (1..=count).map(Message::test_event).collect()
}

fn head(control: ControlMessage) -> (Position, Option<u64>, u64, Option<u64>) {
    match control {
        ControlMessage::Head {
            head,
            oldest,
            skipped,
            position,
        } => (head, oldest, skipped, position.map(|position| position.seq)),
        other => panic!("not a head: {other:?}"),
    }
}

/// The gap that is told next, heads passed over: from, to, why.
async fn next_gap(sub: &mut RawSub) -> (Option<u64>, Option<u64>, GapReason) {
    loop {
        match sub.next_control().await {
            ControlMessage::Gap { from, to, reason } => {
                return (from.map(|from| from.seq), to.map(|to| to.seq), reason);
            }
            ControlMessage::Head { .. } => {}
            other => panic!("not a gap: {other:?}"),
        }
    }
}

// @seq

#[tokio::test(flavor = "multi_thread")]
async fn seq_tells_the_head_at_once_and_numbers_each_event() {
    let events = test_events(5);
    let (publisher, push) = publisher_with(&events[..3]).await;
    let mut sub = RawSub::connect(publisher.publish(), &["", "@seq", "@start"]).await;
    let (at, oldest, skipped, position) = head(sub.next_control().await);
    assert_eq!((at.seq, oldest, skipped, position), (3, Some(1), 0, Some(3)));
    push.send_all(&events[3..]);
    for (number, event) in (4..).zip(&events[3..]) {
        let seen = sub.next_event().await;
        assert_eq!(seen.0.len(), 6);
        assert_eq!(
            seen.position(),
            Position {
                epoch: at.epoch,
                seq: number
            }
        );
        assert_eq!(seen.without_position(), *event);
    }
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seq_tells_the_head_again_so_that_a_missing_tail_shows() {
    let (publisher, push) = publisher_with(&[]).await;
    // It wants nothing of what comes, but hears how far that is.
    let mut sub = RawSub::connect(publisher.publish(), &["nothing.of.this", "@seq", "@start"]).await;
    assert_eq!(head(sub.next_control().await).0.seq, 0);
    push.send_all(&test_events(7));
    publisher.published(7).await;
    loop {
        let (at, oldest, skipped, position) = head(sub.next_control().await);
        if at.seq == 7 && position == Some(7) {
            assert_eq!((oldest, skipped), (Some(1), 0));
            break;
        }
    }
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seq_on_a_live_connection_counts_from_there_on() {
    let events = test_events(4);
    let (publisher, push) = publisher_with(&[]).await;
    let mut sub = RawSub::connect(publisher.publish(), &["", "@start"]).await;
    assert_eq!(sub.in_force().await, []);
    push.send_all(&events[..2]);
    assert_eq!([sub.next().await, sub.next().await], events[..2]);
    sub.subscribe("@seq").await;
    assert_eq!(head(sub.next_control().await).0.seq, 2);
    push.send_all(&events[2..]);
    assert_eq!(sub.next_event().await.position().seq, 3);
    assert_eq!(sub.next_event().await.position().seq, 4);
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_and_epoch_go_on_after_a_restart() {
    let events = test_events(6);
    let (publisher, _) = publisher_with(&events[..3]).await;
    let mut sub = RawSub::connect(publisher.publish(), &["", "@seq", "@start"]).await;
    let (before, ..) = head(sub.next_control().await);
    let publisher = publisher.stop().await.start().await;
    let mut sub = RawSub::connect(publisher.publish(), &["", "@seq", "@start"]).await;
    let (at, ..) = head(sub.next_control().await);
    assert_eq!(at, before);
    StockPush::connect(publisher.intake()).send_all(&events[3..]);
    let seen = sub.take_events(3).await;
    assert_eq!(
        seen.iter().map(|event| event.position().seq).collect::<Vec<_>>(),
        [4, 5, 6]
    );
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_each_start_is_a_new_epoch() {
    let lab = Lab::new();
    let mut epochs = Vec::new();
    let mut publisher = lab.start().await;
    for _ in 0..2 {
        let mut sub = RawSub::connect(publisher.publish(), &["", "@seq", "@start"]).await;
        let (at, oldest, ..) = head(sub.next_control().await);
        assert_eq!((at.seq, oldest), (0, None));
        epochs.push(at.epoch);
        publisher = publisher.stop().await.start().await;
    }
    assert_ne!(epochs[0], epochs[1]);
    publisher.stop().await;
}

// @start

#[tokio::test(flavor = "multi_thread")]
async fn what_came_between_connecting_and_subscribing_is_delivered() {
    // A position is kept for 1 s without a subscription. Should a busy machine take longer, it is tried again.
    for _ in 0..20 {
        let (publisher, push) = publisher_with(&[]).await;
        let connected = Instant::now();
        let mut sub = RawSub::connect(publisher.publish(), &[]).await;
        publisher.subscribers(1).await;
        let events = test_events(3);
        push.send_all(&events);
        publisher.published(3).await;
        sub.subscribe("").await;
        let received = sub.in_force().await;
        let in_time = connected.elapsed() < Duration::from_secs(1);
        publisher.stop().await;
        if in_time {
            assert_eq!(received, events);
            return;
        }
    }
    panic!("the machine is too busy");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_delivered_before_the_subscriptions_are_in() {
    let events = test_events(20);
    let (publisher, _push) = publisher_with(&events).await;
    // The position is the last to come: had delivery begun with the first subscription, nothing old would follow.
    let mut sub = RawSub::connect(publisher.publish(), &["", "@seq", &after(&events[4]), "@start"]).await;
    assert_eq!(sub.next_event().await.position().seq, 6);
    // Without @start it settles by itself.
    let mut sub = RawSub::connect(publisher.publish(), &["", "@seq", &after(&events[4])]).await;
    assert_eq!(sub.next_event().await.position().seq, 6);
    publisher.stop().await;
}

// @after

#[tokio::test(flavor = "multi_thread")]
async fn of_several_positions_the_furthest_wins() {
    let events = test_events(50);
    let (publisher, push) = publisher_with(&events).await;
    let unknown = format!("@after:{}", version_1(Timestamp::now() - HOUR));
    let orders = [[0, 9, 39], [39, 9, 0], [9, 39, 0]];
    for order in orders {
        let positions = order.map(|at| after(&events[at]));
        let mut subscriptions: Vec<&str> = positions.iter().map(String::as_str).collect();
        // One that is known is further than any that is not.
        subscriptions.extend(["", &unknown, "@start"]);
        let mut sub = RawSub::connect(publisher.publish(), &subscriptions).await;
        assert_eq!(sub.take_events(10).await, events[40..]);
    }
    // Stock clients send their subscriptions in byte order.
    let positions = [0, 9, 39].map(|at| after(&events[at]));
    let sub = StockSub::connect(publisher.publish(), &["", &positions[2], &positions[0], &positions[1]]);
    assert_eq!(sub.take(10), events[40..]);
    let last = Message::test_event(51);
    push.send(&last);
    assert_eq!(sub.next(), last);
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_may_be_written_with_its_number() {
    let events = test_events(30);
    let (publisher, _push) = publisher_with(&events).await;
    let mut sub = RawSub::connect(publisher.publish(), &["", "@seq", "@start"]).await;
    let epoch = head(sub.next_control().await).0.epoch;
    let at = |seq: u64, of: &Message| format!("@after:{epoch}/{seq}/{}", of.uuid());

    let mut sub = RawSub::connect(publisher.publish(), &["", &at(20, &events[19]), "@seq", "@start"]).await;
    assert_eq!(head(sub.next_control().await).3, Some(20));
    assert_eq!(sub.next_event().await.position().seq, 21);

    // A number whose event is another one belongs to another journal: the UUID is what counts.
    let stranger = Message::test_event_before(0, 2 * HOUR);
    let mut sub = RawSub::connect(publisher.publish(), &["", &at(20, &stranger), "@seq", "@start"]).await;
    let (_, to, reason) = next_gap(&mut sub).await;
    assert_eq!((to, reason), (Some(0), GapReason::UnknownCursor));
    assert_eq!(sub.next_event().await.position().seq, 1);
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_live_connection_a_position_moves_nothing() {
    let events = test_events(10);
    let (publisher, push) = publisher_with(&events[..5]).await;
    let mut sub = RawSub::connect(publisher.publish(), &["", "@start"]).await;
    assert_eq!(sub.in_force().await, []);
    sub.subscribe(&after(&events[0])).await;
    assert_eq!(sub.in_force().await, []);
    push.send_all(&events[5..]);
    assert_eq!(sub.take_events(5).await, events[5..]);
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_matches_is_caught_up() {
    let captured = lab::captured();
    let (publisher, _push) = publisher_with(&captured).await;
    for topic in [
        "org.example.lab.device",
        "org.example.lab.testjob",
        "org.example.lab.worker",
    ] {
        let sub = StockSub::connect(publisher.publish(), &[topic, &after(&captured[20])]);
        let own: Vec<_> = captured[21..]
            .iter()
            .filter(|message| message.topic() == topic)
            .cloned()
            .collect();
        assert_eq!(sub.take(own.len()), own);
    }
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_position_resumes_at_its_time_less_60_s_and_says_so() {
    let events = [200, 100, 50, 10].map(|ago| Message::test_event_before(ago, Duration::from_secs(ago)));
    let (publisher, push) = publisher_with(&events).await;
    let unknown = |ago: Duration| format!("@after:{}", version_1(Timestamp::now() - ago));

    let mut sub = RawSub::connect(publisher.publish(), &["", "@seq", &unknown(Duration::ZERO), "@start"]).await;
    assert_eq!(next_gap(&mut sub).await, (None, Some(2), GapReason::UnknownCursor));
    assert_eq!(sub.next_event().await.position().seq, 3);
    assert_eq!(sub.next_event().await.position().seq, 4);

    // Older than all that is kept: from the oldest on.
    let mut sub = RawSub::connect(publisher.publish(), &["", "@seq", &unknown(2 * HOUR), "@start"]).await;
    assert_eq!(next_gap(&mut sub).await, (None, Some(0), GapReason::UnknownCursor));
    assert_eq!(sub.next_event().await.position().seq, 1);

    // A UUID without a time: from the oldest on.
    let random = "@after:919108f7-52d1-4320-9bac-f847db4148a8";
    let mut sub = RawSub::connect(publisher.publish(), &["", "@seq", random, "@start"]).await;
    assert_eq!(next_gap(&mut sub).await, (None, Some(0), GapReason::UnknownCursor));
    assert_eq!(sub.next_event().await.position().seq, 1);

    // Who does not count gets the events, and nothing but events.
    let sub = StockSub::connect(publisher.publish(), &["", &unknown(Duration::ZERO)]);
    assert_eq!(sub.take(2), events[2..]);
    let next = Message::test_event(0);
    push.send(&next);
    assert_eq!(sub.next(), next);
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_position_newer_than_all_that_is_kept_begins_with_what_comes() {
    let events = [3, 2].map(|hours| Message::test_event_before(hours, u32::try_from(hours).unwrap() * HOUR));
    let (publisher, push) = publisher_with(&events).await;
    let now = format!("@after:{}", version_1(Timestamp::now()));
    let mut sub = RawSub::connect(publisher.publish(), &["", "@seq", &now, "@start"]).await;
    assert_eq!(next_gap(&mut sub).await, (None, Some(2), GapReason::UnknownCursor));
    let next = Message::test_event(1);
    push.send(&next);
    assert_eq!(sub.next_event().await.without_position(), next);
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_was_pruned_is_expired() {
    let lab = Lab::new().journal().configure(|config| {
        config.journal.as_mut().unwrap().retention.max_age = Some(HOUR);
    });
    // Ten events of two hours ago, ten of now.
    let ages = [2 * HOUR, Duration::ZERO].map(|age| [age; 10]).concat();
    let events: Vec<_> = (1..)
        .zip(&ages)
        .map(|(number, age)| Message::test_event_before(number, *age))
        .collect();
    let mut journal = Journal::open(lab.database(), &Options::default()).unwrap();
    let mut group = journal.group().unwrap();
    for (event, age) in events.iter().zip(&ages) {
        let id: EventId = event.uuid().parse().unwrap();
        let received_us = (Timestamp::now() - *age).as_microsecond();
        let [topic, sent, user, data] = [0, 2, 3, 4].map(|frame| event.text(frame));
        let event = NewEvent {
            id: &id,
            received_us,
            topic,
            sent,
            user,
            data,
            lab: "",
        };
        group.append(&event).unwrap();
    }
    group.commit().unwrap();
    let epoch = *journal.epoch();
    journal.close().unwrap();

    let publisher = lab.start().await;
    let mut sub = RawSub::connect(publisher.publish(), &["", "@seq", "@start"]).await;
    // The head tells when they are gone.
    while head(sub.next_control().await).1 != Some(11) {}

    let cursor = format!("@after:{epoch}/5/{}", events[4].uuid());
    let mut sub = RawSub::connect(publisher.publish(), &["", "@seq", &cursor, "@start"]).await;
    assert_eq!(next_gap(&mut sub).await, (None, Some(10), GapReason::Expired));
    let kept = sub.take_events(10).await.into_iter().map(Message::without_position);
    assert_eq!(kept.collect::<Vec<_>>(), events[10..]);

    // Right before the oldest: nothing is missing but the one that the client has.
    let cursor = format!("@after:{epoch}/11/{}", events[10].uuid());
    let mut sub = RawSub::connect(publisher.publish(), &["", "@seq", &cursor, "@start"]).await;
    assert_eq!(head(sub.next_control().await).3, Some(11));
    assert_eq!(sub.next_event().await.position().seq, 12);
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_positions_are_found_in_memory() {
    let publisher = Lab::new().start().await;
    let push = StockPush::connect(publisher.intake());
    let events = test_events(20);
    push.send_all(&events);
    publisher.published(20).await;
    let mut sub = RawSub::connect(publisher.publish(), &["", &after(&events[9]), "@start"]).await;
    assert_eq!(sub.take_events(10).await, events[10..]);
    let unknown = format!("@after:{}", version_1(Timestamp::now()));
    let mut sub = RawSub::connect(publisher.publish(), &["", "@seq", &unknown, "@start"]).await;
    assert_eq!(next_gap(&mut sub).await.2, GapReason::UnknownCursor);
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_a_reader_that_falls_behind_is_told_what_it_lost() {
    const EVENTS: u64 = 60_000;
    let publisher = Lab::new()
        .configure(|config| config.ring_bytes = 256 * 1024)
        .start()
        .await;
    let mut slow = RawSub::connect(publisher.publish(), &["", "@seq", "@start"]).await;
    assert_eq!(head(slow.next_control().await).0.seq, 0);
    let push = StockPush::connect(publisher.intake());
    push.send_all(&test_events(EVENTS));
    publisher.published(EVENTS).await;
    let (mut next, mut lost) = (1, 0);
    while next <= EVENTS {
        let message = slow.next().await;
        if !message.is_control() {
            assert_eq!((message.number(), message.position().seq), (next, next));
            next += 1;
        } else if message.text(1) == "gap" {
            let from: Position = message.text(2).parse().unwrap();
            let to: Position = message.text(3).parse().unwrap();
            assert_eq!((from.seq, message.text(4)), (next, "ring_overrun"));
            lost += to.seq + 1 - from.seq;
            next = to.seq + 1;
        }
    }
    assert!(lost > 0, "the kernel took all: nothing was shown");
    assert_eq!(publisher.counters().skipped.get(), lost);
    let skipped = loop {
        let (_, _, skipped, position) = head(slow.next_control().await);
        if position == Some(EVENTS) {
            break skipped;
        }
    };
    assert_eq!(skipped, lost);
    publisher.stop().await;
}

// @snapshot

/// A lab's history, and what of it is the latest of each object.
fn history() -> (Vec<Message>, Vec<Message>) {
    let old = [
        Message::device("qemu-01", "Idle"),
        Message::device("qemu-02", "Idle"),
        Message::worker("worker-01", "Offline"),
        Message::job(1, "Submitted", "Unknown"),
        Message::job(1, "Running", "Unknown"),
        Message::test_event(1),
    ];
    let latest = [
        Message::device("qemu-01", "Running"),
        Message::worker("worker-01", "Online"),
        Message::job(2, "Running", "Unknown"),
    ];
    let finished = Message::job(1, "Finished", "Complete");
    let all = [&old[..], &latest, std::slice::from_ref(&finished)].concat();
    let kept = [std::slice::from_ref(&old[1]), &latest].concat();
    (all, kept)
}

/// The events between `begin` and `end` of a snapshot, which come next; the end counts them.
async fn snapshot(sub: &mut RawSub, subscription: &str) -> (u64, Vec<Message>) {
    let begin = sub.next().await;
    assert_eq!((begin.topic(), begin.text(1)), (subscription, "begin"));
    let position: Position = begin.text(2).parse().unwrap();
    let mut events = Vec::new();
    loop {
        let message = sub.next().await;
        if message.is_control() {
            assert_eq!((message.topic(), message.text(1)), (subscription, "end"));
            assert_eq!(message.text(2), events.len().to_string());
            return (position.seq, events);
        }
        events.push(message);
    }
}

fn sorted(mut messages: Vec<Message>) -> Vec<Message> {
    messages.sort_by_key(|message| message.uuid().to_owned());
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_the_latest_of_each_object_and_the_stream_goes_on_after_it() {
    let (all, latest) = history();
    let (publisher, push) = publisher_with(&all).await;
    let mut sub = RawSub::connect(publisher.publish(), &["", "@snapshot", "@start"]).await;
    let (position, events) = snapshot(&mut sub, "@snapshot").await;
    assert_eq!(position, all.len() as u64);
    assert_eq!(sorted(events), sorted(latest.clone()));
    let next = Message::device("qemu-01", "Idle");
    push.send(&next);
    assert_eq!(sub.next().await, next);

    // The same after a restart, and with numbers.
    let publisher = publisher.stop().await.start().await;
    let mut sub = RawSub::connect(publisher.publish(), &["", "@seq", "@snapshot", "@start"]).await;
    let mut events = Vec::new();
    loop {
        let message = sub.next().await;
        match message.is_control() {
            false => events.push(message),
            true if message.text(1) == "end" => break,
            true => {}
        }
    }
    let numbers: Vec<_> = events
        .iter()
        .map(|event| (event.uuid().to_owned(), event.position().seq))
        .collect();
    for (uuid, number) in numbers {
        let at = all
            .iter()
            .chain([&next])
            .position(|message| message.uuid() == uuid)
            .unwrap();
        assert_eq!(number, at as u64 + 1);
    }
    assert_eq!(events.len(), latest.len());
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_one_object_knows_it_finished_or_not() {
    let (all, _) = history();
    let (publisher, _push) = publisher_with(&all).await;
    let cases = [
        ("@snapshot:testjob/1", all.last()),
        ("@snapshot:job/1", all.last()),
        ("@snapshot:testjob/2", Some(&all[8])),
        ("@snapshot:device/qemu-01", Some(&all[6])),
        ("@snapshot:device/qemu-02", Some(&all[1])),
        ("@snapshot:worker/worker-01", Some(&all[7])),
        ("@snapshot:worker/nobody", None),
        ("@snapshot:testjob/12345", None),
    ];
    for (subscription, expected) in cases {
        let mut sub = RawSub::connect(publisher.publish(), &["", subscription, "@start"]).await;
        let (_, events) = snapshot(&mut sub, subscription).await;
        assert_eq!(events.first(), expected, "{subscription}");
        assert_eq!(events.len(), usize::from(expected.is_some()));
        // A stock client too sees its begin and end: they carry its own words.
        let sub = StockSub::connect(publisher.publish(), &["org.example", subscription]);
        let received = sub.take(2 + events.len());
        assert_eq!(received[0].topic(), subscription);
        assert_eq!(received[1..=events.len()], events);
    }
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_follows_what_was_missed() {
    let (all, _) = history();
    let (publisher, _push) = publisher_with(&all).await;
    let (missed, wanted) = (after(&all[5]), "@snapshot:device/qemu-02");
    let mut sub = RawSub::connect(publisher.publish(), &["", &missed, wanted, "@start"]).await;
    assert_eq!(sub.take_events(4).await, all[6..]);
    assert_eq!(snapshot(&mut sub, wanted).await, (10, vec![all[1].clone()]));
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_snapshot_is_answered_once() {
    let (all, _) = history();
    let (publisher, push) = publisher_with(&all).await;
    let wanted = "@snapshot:device/qemu-02";
    let mut sub = RawSub::connect(publisher.publish(), &["", wanted, wanted, "@start", wanted]).await;
    snapshot(&mut sub, wanted).await;
    sub.subscribe(wanted).await;
    assert_eq!(sub.in_force().await, []);
    let next = Message::test_event(2);
    push.send(&next);
    assert_eq!(sub.next().await, next);
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_there_is_no_snapshot_and_who_counts_is_told() {
    let publisher = Lab::new().start().await;
    let mut sub = RawSub::connect(publisher.publish(), &["", "@seq", "@snapshot", "@start"]).await;
    let (_, _, reason) = next_gap(&mut sub).await;
    assert_eq!(reason, GapReason::NoJournal);
    publisher.stop().await;
}

// All others

#[tokio::test(flavor = "multi_thread")]
async fn an_option_that_is_not_understood_changes_nothing() {
    let (publisher, push) = publisher_with(&test_events(3)).await;
    let odd = [
        "@",
        "@nonsense",
        "@after:",
        "@after:zzz",
        "@after:0/0/0",
        "@seq:1",
        "@snapshot:event/1",
        "@snapshot:device/",
    ];
    let mut sub = RawSub::connect(publisher.publish(), &odd).await;
    sub.subscribe("@after:\u{fffd}").await;
    sub.subscribe("org").await;
    assert_eq!(sub.in_force().await, []);
    let next = Message::test_event(4);
    push.send(&next);
    assert_eq!(sub.next().await, next);
    publisher.stop().await;
}

/// A topic may not begin with `@`, so that no event is ever taken for a message about the stream.
#[tokio::test(flavor = "multi_thread")]
async fn no_event_can_pass_for_a_control_message() {
    let (publisher, push) = publisher_with(&[]).await;
    let sub = StockSub::connect(publisher.publish(), &["", "@", "@nonsense"]);
    publisher.subscribers(1).await;
    let good = Message::test_event(2);
    push.send_all([
        &Message::test_event(1).with_topic("@seq"),
        &Message::test_event(1).with_topic("@nonsense"),
        &good,
    ]);
    assert_eq!(sub.next(), good);
    assert_eq!(publisher.counters().refused.get(), 2);
    publisher.stop().await;
}
