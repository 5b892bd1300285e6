//! Disk trouble does not stop the news: while the journal cannot write, events go out live without a number and wait in
//! memory; they are committed first when the disk is back, and what had no room is recorded as a gap.

#![allow(clippy::unwrap_used)]

mod lab;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lab::{Lab, Message, RawSub, RunningPublisher, StockPush, StockSub, eventually};
use lavabus_protocol::{ControlMessage, GapReason};
use lavabus_store::{Reader, StoreError};
use libzmq_peer::SocketOption;

/// A disk that breaks on command, for those who have no root. Commits fail while the flag is set.
fn breakable(lab: Lab) -> (Lab, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(false));
    let seen = broken.clone();
    let before_commit = Arc::new(move || match seen.load(Ordering::SeqCst) {
        true => Err(StoreError::DiskFull),
        false => Ok(()),
    });
    let lab = lab
        .journal()
        .configure(|config| config.journal.as_mut().unwrap().options.before_commit = Some(before_commit));
    (lab, broken)
}

/// The same events in the same order. Some are large, so that only their UUIDs are shown.
fn assert_same(found: &[Message], expected: &[Message]) {
    let uuids =
        |messages: &[Message]| -> Vec<String> { messages.iter().map(|message| message.uuid().to_owned()).collect() };
    assert_eq!(uuids(found), uuids(expected));
    assert!(
        found
            .iter()
            .zip(expected)
            .all(|(found, expected)| found.0[..5] == expected.0[..5])
    );
}

/// Everything that was sent, and who sends and sees it.
struct News {
    publisher: RunningPublisher,
    push: StockPush,
    live: StockSub,
    sent: Vec<Message>,
    /// The sixth frames in the order of `sent`.
    numbers: Vec<Option<u64>>,
}

impl News {
    async fn start(lab: Lab) -> News {
        let publisher = lab.start().await;
        let live = StockSub::connect_with(publisher.publish(), &["org", "@seq"], &[(SocketOption::RcvHwm, 0)]);
        assert!(live.next().is_control());
        let push = StockPush::connect(publisher.intake());
        News {
            publisher,
            push,
            live,
            sent: Vec::new(),
            numbers: Vec::new(),
        }
    }

    /// Sends one more event, and sees it come out as it was sent.
    fn send(&mut self) {
        let event = Message::test_event(self.sent.len() as u64);
        self.send_this(event);
    }

    fn send_this(&mut self, event: Message) {
        self.push.send(&event);
        let received = loop {
            let message = self.live.next();
            if !message.is_control() {
                break message;
            }
        };
        let number = match received.text(5) {
            "-" => None,
            _ => Some(received.position().seq),
        };
        assert_eq!(received.without_position(), event);
        self.sent.push(event);
        self.numbers.push(number);
    }

    fn is_numbered(&self) -> bool {
        self.numbers.last().unwrap().is_some()
    }

    /// Waits until readiness is as said.
    async fn ready(&self, ready: bool) {
        let health = self.publisher.health();
        eventually("readiness", || health.is_ready() == ready).await;
    }

    /// All events from one on, as a subscriber gets them that resumes after the one before it.
    async fn resumed_after(&self, index: usize) -> Vec<Message> {
        let after = format!("@after:{}", self.sent[index].uuid());
        let mut sub = RawSub::connect(self.publisher.publish(), &[&after, "@seq", "org"]).await;
        sub.take_events(self.sent.len() - index - 1).await
    }

    /// All events have the numbers of their order, in the journal and for who resumes.
    async fn nothing_is_missing(self) {
        let resumed = self.resumed_after(3).await;
        for (index, message) in resumed.iter().enumerate() {
            assert_eq!(message.position().seq, index as u64 + 5);
        }
        assert_same(&resumed, &self.sent[4..]);
        for (index, number) in self.numbers.iter().enumerate() {
            assert!(
                number.is_none_or(|number| number == index as u64 + 1),
                "{number:?} at {index}"
            );
        }
        assert_eq!(self.publisher.counters().not_recorded.get(), 0);
        let lab = self.publisher.stop().await;
        assert_same(&lab.journal_contents(), &self.sent);
    }
}

/// The promise, with a disk that `trouble` takes away and gives back.
async fn the_news_goes_on(lab: Lab, mut trouble: impl FnMut(bool)) {
    let mut news = News::start(lab).await;
    for _ in 0..20 {
        news.send();
    }
    assert!(news.numbers.iter().all(Option::is_some) && news.publisher.health().is_ready());

    trouble(true);
    // A full disk shows only when the database needs more of it.
    while news.is_numbered() {
        assert!(news.sent.len() < 50_000, "the disk is never full");
        news.send();
    }
    news.ready(false).await;
    for _ in 0..200 {
        news.send();
        assert!(!news.is_numbered());
    }
    let unnumbered = news.publisher.counters().unnumbered.get();
    assert_eq!(unnumbered, 201);
    assert!(!news.publisher.health().is_ready());
    assert!(news.publisher.health().is_alive());

    // What is known is dropped all the same, whether it is kept or waits; other content is refused.
    let (kept, waits) = (news.sent[2].clone(), news.sent.last().unwrap().clone());
    let counters = news.publisher.counters();
    news.push.send(&kept);
    news.push.send(&waits);
    eventually("repeats", || counters.repeated.get() == 2).await;
    for known in [kept, waits] {
        let mut other = known;
        other.0[4] = b"{\"message\": \"other content\"}".to_vec();
        news.push.send(&other);
    }
    eventually("conflicts", || counters.refused.get() == 2).await;
    // Who resumes meanwhile gets what is kept and what waits.
    let resumed = news.resumed_after(10).await;
    assert_same(&resumed, &news.sent[11..]);

    trouble(false);
    news.ready(true).await;
    for _ in 0..20 {
        news.send();
        assert!(news.is_numbered());
    }
    // The numbers go on behind those that waited: nothing_is_missing looks at each.
    news.nothing_is_missing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_and_room_again() {
    let Some(disk) = lab::own_disk("a_full_disk_and_room_again", "size=8m") else {
        return;
    };
    let lab = Lab::new()
        .journal()
        .configure(|config| config.journal.as_mut().unwrap().path = disk.join("events.db"));
    let mut ballast = None;
    the_news_goes_on(lab, |full| match full {
        true => ballast = Some(lab::fill(&disk)),
        false => std::fs::remove_file(ballast.take().unwrap()).unwrap(),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_fail_and_work_again() {
    let (lab, broken) = breakable(Lab::new());
    the_news_goes_on(lab, |full| broken.store(full, Ordering::SeqCst)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_outage_after_another() {
    let (lab, broken) = breakable(Lab::new());
    let mut news = News::start(lab).await;
    for _ in 0..3 {
        for _ in 0..10 {
            news.send();
            assert!(news.is_numbered());
        }
        broken.store(true, Ordering::SeqCst);
        for _ in 0..10 {
            news.send();
            assert!(!news.is_numbered());
        }
        broken.store(false, Ordering::SeqCst);
        news.ready(true).await;
    }
    news.nothing_is_missing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_subscriber_that_falls_out_of_the_ring_meanwhile() {
    let (lab, broken) = breakable(Lab::new().configure(|config| config.ring_bytes = 1 << 20));
    let mut news = News::start(lab).await;
    for _ in 0..5 {
        news.send();
    }
    let mut slow = RawSub::connect(news.publisher.publish(), &["org", "@seq"]).await;
    slow.in_force().await;
    broken.store(true, Ordering::SeqCst);
    // More than the ring and the kernel's buffers hold.
    let text = "x".repeat(100_000);
    for number in 0..300 {
        let mut event = Message::test_event(number);
        event.0[4] = serde_json::json!({"message": text, "number": number})
            .to_string()
            .into_bytes();
        news.send_this(event);
        assert!(!news.is_numbered());
    }
    broken.store(false, Ordering::SeqCst);
    news.ready(true).await;
    for _ in 0..5 {
        news.send();
    }
    let received: Vec<_> = slow.take_events(305).await;
    let numbers = received.iter().filter(|message| message.text(5) != "-");
    let numbers: Vec<u64> = numbers.map(|message| message.position().seq).collect();
    assert!(numbers.is_sorted() && *numbers.last().unwrap() == 310, "{numbers:?}");
    assert_same(&received, &news.sent[5..]);
    news.nothing_is_missing().await;
}

/// A ring so small that what went out live is not had from there later.
fn with_a_small_ring() -> Lab {
    Lab::new().configure(|config| config.ring_bytes = 512 * 1024)
}

/// Sends so much that not all has room to wait. Afterwards `sent` has what is kept; returns how many are not.
async fn more_than_memory(news: &mut News, broken: &AtomicBool) -> u64 {
    for _ in 0..5 {
        news.send();
    }
    broken.store(true, Ordering::SeqCst);
    let text = "x".repeat(1_000_000);
    for number in 0..75 {
        let mut event = Message::test_event(number);
        event.0[4] = serde_json::json!({"message": text}).to_string().into_bytes();
        news.send_this(event);
        assert!(!news.is_numbered());
    }
    broken.store(false, Ordering::SeqCst);
    news.ready(true).await;
    let lost = news.publisher.counters().not_recorded.get();
    assert!((1..20).contains(&lost), "{lost} not recorded");
    let end = news.sent.len();
    news.sent.drain(end - usize::try_from(lost).unwrap()..);
    for _ in 0..5 {
        news.send();
        assert!(news.is_numbered());
    }
    lost
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_room_to_wait_is_recorded_as_a_gap() {
    let (lab, broken) = breakable(with_a_small_ring());
    let mut news = News::start(lab).await;
    let lost = more_than_memory(&mut news, &broken).await;
    assert_same(&news.resumed_after(0).await, &news.sent[1..]);
    let lab = news.publisher.stop().await;
    assert_same(&lab.journal_contents(), &news.sent);
    let gaps = Reader::open(lab.database()).unwrap().gaps(0).unwrap();
    assert_eq!(gaps.len(), 1);
    assert_eq!((gaps[0].count, gaps[0].reason.as_str()), (Some(lost), "not_recorded"));
    assert_eq!(gaps[0].after_seq, news.sent.len() as u64 - 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_resumes_across_a_recorded_gap_is_told() {
    let (lab, broken) = breakable(with_a_small_ring());
    let mut news = News::start(lab).await;
    more_than_memory(&mut news, &broken).await;
    let after = format!("@after:{}", news.sent[0].uuid());
    let mut sub = RawSub::connect(news.publisher.publish(), &[&after, "@seq", "org"]).await;
    let mut events = 0;
    let mut told = None;
    while events < news.sent.len() - 1 {
        let message = sub.next().await;
        if !message.is_control() {
            events += 1;
            continue;
        }
        let frames = message.0.iter().map(Vec::as_slice);
        if let ControlMessage::Gap { reason, .. } = ControlMessage::decode(frames).unwrap().unwrap() {
            told = Some((reason, events));
        }
    }
    assert_eq!(told, Some((GapReason::NotRecorded, news.sent.len() - 1 - 5)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_twice_at_once_is_taken_once() {
    let (lab, broken) = breakable(Lab::new());
    let mut news = News::start(lab).await;
    news.send();
    broken.store(true, Ordering::SeqCst);
    for number in 1..=100 {
        let event = Message::test_event(number);
        news.push.send(&event);
        news.push.send(&event);
        news.sent.push(event);
    }
    let counters = news.publisher.counters();
    eventually("repeats", || counters.repeated.get() == 100).await;
    for event in &news.sent[1..] {
        let received = std::iter::repeat_with(|| news.live.next()).find(|message| !message.is_control());
        assert_eq!(received.unwrap().without_position(), *event);
    }
    broken.store(false, Ordering::SeqCst);
    news.ready(true).await;
    let lab = news.publisher.stop().await;
    assert_same(&lab.journal_contents(), &news.sent);
}
