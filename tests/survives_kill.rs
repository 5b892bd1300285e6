//! `kill -9` at any moment: no event that any subscriber ever saw is missing from the journal or changes its number,
//! and our listener, with its cursor in a file, has everything that the journal has.

#![allow(clippy::unwrap_used)]

mod lab;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lab::{LONG, Lab, Message, RawSub, StockPush, eventually};
use lavabus_protocol::Position;
use lavabus_store::Reader;
use lavabus_zmtp::Endpoint;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_util::sync::CancellationToken;

const KILLS: usize = 50;
/// The listener is killed as well, each time that the publisher was killed so often.
const LISTENER_KILL: usize = 9;
/// The publisher lives at most so long.
const LIFE: Duration = Duration::from_millis(500);
/// 2,000 events a second.
const TICK: Duration = Duration::from_millis(5);
const EACH_TICK: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_is_kept_under_its_number_through_fifty_kills() {
    let mut publisher = Lab::new().journal().start_process();
    let (intake, publish) = (publisher.intake().clone(), publisher.publish().clone());
    let mut listener = Listener::new(publisher.lab().folder(), &publish);
    let end = Message::test_event(0);
    let over = CancellationToken::new();
    let live = tokio::spawn(watch_live(publish.clone(), over.clone()));
    let resuming = tokio::spawn(watch_resuming(publish, end.clone()));
    let producer = Producer::start(intake.clone());
    eventually("the listener prints something", || listener.has_printed("\n")).await;

    for kills in 1..=KILLS {
        tokio::time::sleep(any_part_of(LIFE)).await;
        publisher = publisher.kill().start_process();
        if kills.is_multiple_of(LISTENER_KILL) {
            listener.kill_and_restart();
        }
    }
    let sent = producer.stop();
    StockPush::connect(&intake).send(&end);
    let resumed = resuming.await.unwrap();
    eventually("the listener prints the last event", || {
        listener.has_printed(end.uuid())
    })
    .await;
    over.cancel();
    let live = live.await.unwrap();
    let runs = listener.end();
    let lab = publisher.terminate();

    let journal = lab.journal_contents();
    let epoch = Reader::open(lab.database()).unwrap().epoch().unwrap();
    println!(
        "{KILLS} kills: {sent} events sent, {} kept, {} seen live, {} seen by resuming",
        journal.len(),
        live.len(),
        resumed.len()
    );
    assert!(
        live.len() > KILLS && resumed.len() > KILLS,
        "hardly anything was seen: nothing was shown"
    );
    for (uuid, position) in live.iter().chain(&resumed) {
        assert_eq!(position.epoch, epoch, "{uuid}");
        let kept = journal.get(position.seq as usize - 1).map(Message::uuid);
        assert_eq!(
            kept,
            Some(&**uuid),
            "the event that was seen with the number {}",
            position.seq
        );
    }
    // Who resumes misses nothing from the first event that it saw to the end.
    let numbers: HashMap<&str, usize> = (0..).zip(&journal).map(|(at, message)| (message.uuid(), at)).collect();
    let end = numbers[end.uuid()];
    let first = resumed.values().map(|position| position.seq).min().unwrap();
    assert_eq!(resumed.len() as u64, end as u64 + 2 - first);

    // The listener as well: each run goes on, in order and without a hole, where the one before stood, or repeats what
    // was printed after the cursor was last written.
    let mut next = numbers[&*runs[0][0]];
    for run in &runs {
        let Some(first) = run.first() else { continue };
        assert!(numbers[&**first] <= next, "the listener lacks what lies before {first}");
        for (at, uuid) in (numbers[&**first]..).zip(run) {
            assert_eq!(journal[at].uuid(), uuid);
        }
        next = next.max(numbers[&**first] + run.len());
    }
    assert!(next > end, "the listener has all to the end");
}

/// At random, so that each run of the test is another.
fn any_part_of(whole: Duration) -> Duration {
    let random = uuid::Uuid::new_v4().as_u128() as u32;
    whole.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Sees what is live, as early as anybody can, whenever the publisher is there.
async fn watch_live(publish: Endpoint, over: CancellationToken) -> HashMap<String, Position> {
    let mut seen = HashMap::new();
    let watching = async {
        loop {
            let Some(mut sub) = RawSub::try_connect(&publish, &["", "@seq", "@start"]).await else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            let mut last = None;
            while let Some(message) = sub.try_next().await {
                if !message.is_control() {
                    let seq = message.position().seq;
                    assert!(last.is_none_or(|last| seq == last + 1), "{seq} after {last:?}");
                    last = Some(seq);
                    record(&mut seen, &message);
                }
            }
        }
    };
    tokio::select! {
        () = over.cancelled() => {}
        () = watching => {}
    }
    seen
}

/// Goes on after each loss of the connection behind the last event that it saw, until it has seen the end.
async fn watch_resuming(publish: Endpoint, end: Message) -> HashMap<String, Position> {
    let mut seen = HashMap::new();
    let mut last: Option<(Position, String)> = None;
    loop {
        let mut subscriptions = vec![String::new(), "@seq".to_owned()];
        subscriptions.extend(last.iter().map(|(position, uuid)| format!("@after:{position}/{uuid}")));
        subscriptions.push("@start".to_owned());
        let subscriptions: Vec<_> = subscriptions.iter().map(String::as_str).collect();
        let Some(mut sub) = RawSub::try_connect(&publish, &subscriptions).await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        while let Some(message) = sub.try_next().await {
            if message.is_control() {
                assert_eq!(message.text(1), "head", "{message:?}");
                continue;
            }
            let position = message.position();
            if let Some((last, _)) = &last {
                assert_eq!(position.seq, last.seq + 1, "in order, nothing missing, nothing twice");
            }
            record(&mut seen, &message);
            last = Some((position, message.uuid().to_owned()));
            if message.uuid() == end.uuid() {
                return seen;
            }
        }
    }
}

/// An event is never seen with two numbers.
fn record(seen: &mut HashMap<String, Position>, message: &Message) {
    let before = seen.insert(message.uuid().to_owned(), message.position());
    assert!(
        before.is_none_or(|before| before == message.position()),
        "{before:?}, now {message:?}"
    );
}

/// Sends 2,000 events a second for as long as there is a publisher. What it sent and nobody saw may be lost.
struct Producer {
    stop: Arc<AtomicBool>,
    sending: std::thread::JoinHandle<u64>,
}

impl Producer {
    fn start(intake: Endpoint) -> Producer {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let sending = std::thread::spawn(move || {
            let push = StockPush::connect(&intake);
            let (start, mut sent) = (Instant::now(), 0);
            for tick in 1.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                for _ in 0..EACH_TICK {
                    sent += u64::from(push.try_send(&Message::test_event(sent + 1)));
                }
                let due = start + TICK * tick;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            sent
        });
        Producer { stop, sending }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.sending.join().unwrap()
    }
}

/// `lavabus listen --cursor-file`, the real program.
struct Listener {
    bus: String,
    folder: PathBuf,
    child: Child,
    runs: usize,
}

impl Listener {
    fn new(folder: &Path, bus: &Endpoint) -> Listener {
        let (bus, folder) = (bus.to_string(), folder.to_owned());
        let child = run(&bus, &folder, 1);
        Listener {
            bus,
            folder,
            child,
            runs: 1,
        }
    }

    fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.runs += 1;
        self.child = run(&self.bus, &self.folder, self.runs);
    }

    /// Whether the present run has printed that so far.
    fn has_printed(&self, text: &str) -> bool {
        let printed = fs::read_to_string(output(&self.folder, self.runs));
        printed.unwrap().contains(text)
    }

    /// Ends it; what each run has printed.
    fn end(mut self) -> Vec<Vec<String>> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        let deadline = Instant::now() + LONG;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the listener does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        (1..=self.runs).map(|run| read(&output(&self.folder, run))).collect()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn output(folder: &Path, run: usize) -> PathBuf {
    folder.join(format!("printed-{run}.jsonl"))
}

fn run(bus: &str, folder: &Path, run: usize) -> Child {
    Command::new(env!("CARGO_BIN_EXE_lavabus"))
        .args([
            "--bus",
            bus,
            "--output",
            "json",
            "--quiet",
            "listen",
            "--strict",
            "--cursor-file",
        ])
        .arg(folder.join("cursor"))
        .stdin(Stdio::null())
        .stdout(File::create(output(folder, run)).unwrap())
        .spawn()
        .unwrap()
}

/// The UUIDs of whole lines; the last line may have been cut short by a kill.
fn read(output: &Path) -> Vec<String> {
    let text = fs::read_to_string(output).unwrap();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let uuid = |line| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["uuid"].as_str().unwrap().to_owned()
    };
    whole.lines().map(uuid).collect()
}
