//! A public endpoint: what everybody may see, for subscribers who show no login.

#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Lab, Message, StockPush, StockSub, captured, eventually};
use lava_publisher::{AuthorityConfig, LavaConfig};
use lava_stand_in::{Failure, Job, LavaServer};
use lavabus_lava::Identity;

/// Where all is open it carries everything, byte for byte and in order, and ends after the last event.
#[tokio::test(flavor = "multi_thread")]
async fn where_all_is_open_it_carries_everything() {
    let publisher = Lab::new()
        .journal()
        .configure(|config| config.publish_public = vec!["tcp://127.0.0.1:0".parse().unwrap()])
        .start()
        .await;
    let all = StockSub::connect(publisher.publish(), &[""]);
    let public = StockSub::connect(publisher.publish_public(), &[""]);
    publisher.subscribers(2).await;
    let push = StockPush::connect(publisher.intake());
    let mut sent = captured();
    sent.extend((0..5_000).map(Message::test_event));
    push.send_all(&sent);
    let count = sent.len();
    publisher.published(count as u64).await;
    let got = tokio::task::spawn_blocking(move || (all.take(count), public.take(count)));
    let lab = publisher.stop().await;
    let (all, public) = got.await.unwrap();
    assert!(all == sent && public == sent);
    drop(lab);
}

/// A subscriber that is behind delays neither the others nor the stream of all events.
#[tokio::test(flavor = "multi_thread")]
async fn options_work_within_its_own_memory() {
    let publisher = Lab::new()
        .journal()
        .configure(|config| config.publish_public = vec!["tcp://127.0.0.1:0".parse().unwrap()])
        .start()
        .await;
    let public = StockSub::connect(publisher.publish_public(), &["", "@seq"]);
    publisher.subscribers(1).await;
    let push = StockPush::connect(publisher.intake());
    push.send(&Message::test_event(7));
    let event = loop {
        let message = public.next();
        if !message.is_control() {
            break message;
        }
    };
    assert_eq!((event.number(), event.position().seq), (7, 1));
    eventually("published once", || publisher.counters().published.get() == 1).await;
}

/// What everybody might see once, not everybody may see now: whoever comes later asks the stream of all events.
#[tokio::test(flavor = "multi_thread")]
async fn it_has_no_past() {
    let publisher = Lab::new()
        .journal()
        .configure(|config| config.publish_public = vec!["tcp://127.0.0.1:0".parse().unwrap()])
        .start()
        .await;
    let first = StockSub::connect(publisher.publish_public(), &["", "@seq"]);
    publisher.subscribers(1).await;
    let push = StockPush::connect(publisher.intake());
    push.send(&Message::test_event(1));
    push.send(&Message::test_event(2));
    while first.next().is_control() {}
    let unknown = "@after:00000000-0000-4000-8000-000000000000".to_owned();
    for cursor in [unknown, format!("@after:{}", Message::test_event(1).uuid())] {
        let late = StockSub::connect(publisher.publish_public(), &["", "@seq", &cursor]);
        let gap = loop {
            let message = late.next();
            assert!(message.is_control(), "{message:?}");
            if message.text(1) == "gap" {
                break message;
            }
        };
        assert!(format!("{gap:?}").contains("not_permitted"), "{gap:?}");
    }
}

/// A LAVA that is away when the publisher starts is only late: what everybody may see comes when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_lava_that_is_away_at_the_start_silences_it_only_until_it_is_back() {
    let lava = LavaServer::start().await;
    lava.add_job(Job::default());
    lava.fail(Failure::Status(502), "/api", usize::MAX);
    let authority = LavaConfig {
        identity: Identity::anonymous(&lava.uri()).unwrap(),
        administrators: Vec::new(),
        tokens: None,
        workers: None,
    };
    let publisher = Lab::new()
        .journal()
        .configure(|config| {
            config.authority = AuthorityConfig::Lava(Box::new(authority));
            config.publish_public = vec!["tcp://127.0.0.1:0".parse().unwrap()];
        })
        .start()
        .await;
    let public = StockSub::connect(publisher.publish_public(), &[""]);
    publisher.subscribers(1).await;
    let push = StockPush::connect(publisher.intake());
    push.send(&Message::job(1, "Submitted", "Unknown"));
    publisher.published(1).await;
    lava.heal();
    let shown = tokio::task::spawn_blocking(move || public.next());
    while !shown.is_finished() {
        push.send(&Message::job(1, "Running", "Unknown"));
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(shown.await.unwrap().topic().ends_with(".testjob"));
}
