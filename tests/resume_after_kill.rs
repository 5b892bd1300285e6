//! A stock libzmq client that asks for what came after an event gets, after `kill -9` and a restart of the publisher,
//! everything it missed: in order, each once on that connection.

#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Lab, Message, PublisherProcess, RawSub, StockPush, StockSub};
use libzmq_peer::SocketOption;

fn after(message: &Message) -> String {
    format!("@after:{}", message.uuid())
}

/// Pushes messages, and waits until they have passed, which is when a witness has seen them.
async fn pass(publisher: &PublisherProcess, messages: &[Message]) {
    let mut witness = RawSub::connect(publisher.publish(), &["", "@start"]).await;
    assert_eq!(witness.in_force().await, []);
    let push = StockPush::connect(publisher.intake());
    push.send_all(messages);
    assert_eq!(witness.take_events(messages.len()).await, messages);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_client_gets_all_after_the_event_it_names() {
    let messages: Vec<_> = (1..=3_000).map(Message::test_event).collect();
    let publisher = Lab::new().journal().start_process();
    let reader = StockSub::connect(publisher.publish(), &["", "@snapshot:worker/nobody"]);
    // The answer proves that the subscriptions are in force.
    assert_eq!(reader.take(2)[1].text(1), "end");
    pass(&publisher, &messages[..2_000]).await;
    assert_eq!(reader.take(500), messages[..500]);
    drop(reader);

    let publisher = publisher.kill().start_process();
    let push = StockPush::connect(publisher.intake());
    push.send_all(&messages[2_000..2_500]);
    let reader = StockSub::connect(publisher.publish(), &["", &after(&messages[499])]);
    push.send_all(&messages[2_500..]);
    for message in &messages[500..] {
        assert_eq!(reader.next(), *message);
    }
    let end = Message::test_event(0);
    push.send(&end);
    assert_eq!(reader.next(), end, "nothing comes twice");
    assert_eq!(publisher.terminate().journal_contents()[..3_000], messages);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reconnects_by_itself_misses_nothing_of_what_it_wants() {
    const KILLS: usize = 5;
    const EACH: usize = 400;
    let mut publisher = Lab::new().journal().start_process();
    let wanted = |message: &Message| message.topic().ends_with(".testjob");
    let subscriptions = ["org.example.lab.testjob", "@snapshot:worker/nobody"];
    let client = StockSub::connect_with(publisher.publish(), &subscriptions, &[(SocketOption::ReconnectIvl, 20)]);
    assert_eq!(client.take(2)[1].text(1), "end");
    let mut acknowledged: Option<String> = None;
    let mut expected = Vec::new();
    for round in 0..=KILLS {
        let messages: Vec<_> = (0..EACH)
            .map(|n| match n % 3 {
                0 => Message::job((round * EACH + n) as u64, "Running", "Unknown"),
                1 => Message::test_event(n as u64),
                _ => Message::device("qemu-01", "Idle"),
            })
            .collect();
        pass(&publisher, &messages).await;
        expected.extend(messages.into_iter().filter(wanted));
        let events = std::iter::repeat_with(|| client.next()).filter(|message| !message.is_control());
        assert_eq!(events.take(expected.len()).collect::<Vec<_>>(), expected);
        // Read to the end, but acknowledged in the middle: what lies behind it comes again after the kill.
        expected.drain(..expected.len() / 2);
        let position = after(&expected.remove(0));
        client.subscribe(&position);
        if let Some(before) = acknowledged.replace(position) {
            client.unsubscribe(&before);
        }
        publisher = publisher.kill().start_process();
    }
}
