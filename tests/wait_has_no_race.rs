//! A job that ends at the moment when somebody begins to wait for it: the wait always ends, and with the right code.
//!
//! All 10,000 races, which take five minutes:
//! `LAVABUS_RACES=2500 cargo test --test wait_has_no_race`

#![allow(clippy::unwrap_used)]

mod lab;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lab::{CLOSED_PORT, Cli, Lab, PlainPublisher, RunningPublisher, push_events_of};
use lava_stand_in::{Job, LavaServer, Options};
use lavabus_cli::sources::IdentityArguments;
use lavabus_cli::{Arguments, Command, Context, Exit};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

/// Races over each channel, unless the environment says another number.
const RACES: u64 = 500;
/// A wait that has not ended so long after its job hangs.
const HANGS: Duration = Duration::from_secs(60);
/// The job ends so long before the wait begins, or after, at most.
const WINDOW: Duration = Duration::from_millis(30);
/// A race begins this often. More at a time would wait for the processor and not for each other.
const PACE: Duration = Duration::from_millis(25);
/// Races at one time. Some waits take two seconds: to find that a publisher is a plain one, and to ask again.
const AT_ONCE: usize = 200;

fn races() -> u64 {
    std::env::var("LAVABUS_RACES").map_or(RACES, |races| races.parse().expect("LAVABUS_RACES is a number"))
}

/// A job's end, and the code that a wait for it has.
const ENDS: [(&str, Exit); 3] = [
    ("Complete", Exit::Success),
    ("Incomplete", Exit::JobIncomplete),
    ("Canceled", Exit::JobCanceled),
];

/// Runs the races; the context names who is heard and who is asked.
async fn race(lava: Arc<LavaServer>, context: Context, races: u64) {
    // Each wait that does not end with 0 says so, even under --quiet.
    nix::unistd::dup2_stderr(File::options().write(true).open("/dev/null").unwrap()).unwrap();
    let began = Instant::now();
    let (before, slots) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(AT_ONCE)));
    let mut running = JoinSet::new();
    let seed = rand_seed();
    let mut pace = interval(PACE);
    for number in 0..races {
        pace.tick().await;
        let slot = slots.clone().acquire_owned().await.unwrap();
        let (lava, before, context) = (lava.clone(), before.clone(), context.clone());
        let mut random = Random(seed.wrapping_add(number));
        running.spawn(async move {
            let _slot = slot;
            // Half of them are known to who listens, half are heard of at their end for the first time.
            let id = lava.add_job(Job::default());
            if random.below(2) == 0 {
                lava.set_job(&id, "Running", "Unknown");
            }
            let (health, expected) = ENDS[random.below(3) as usize];
            let Command::Wait(arguments) = Arguments::read(["lavabus", "wait", "job", &id]).unwrap().command else {
                unreachable!("it is a wait");
            };
            let ends_at = Duration::from_micros(random.below(2 * WINDOW.as_micros() as u64));
            let end = tokio::spawn({
                let (lava, id) = (lava.clone(), id.clone());
                async move {
                    sleep(ends_at).await;
                    lava.set_job(&id, "Finished", health);
                    Instant::now()
                }
            });
            sleep(WINDOW).await;
            let wait_began = Instant::now();
            let exit = timeout(HANGS, Box::pin(lavabus_cli::wait::run(arguments, &context))).await;
            let ended_at = end.await.unwrap();
            if ended_at < wait_began {
                before.fetch_add(1, Ordering::Relaxed);
            }
            let race = format!(
                "race {number} of seed {seed}: job {id} ended {health} {:?} after its wait began",
                ended_at.saturating_duration_since(wait_began)
            );
            let exit = exit.unwrap_or_else(|_| panic!("{race}: the wait hangs"));
            let exit = exit.unwrap_or_else(|failure| panic!("{race}: {failure}"));
            assert_eq!(exit, expected, "{race}");
        });
        while let Some(ended) = running.try_join_next() {
            ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        }
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
    let before = before.load(Ordering::Relaxed);
    println!(
        "{} races in {:?}; in {before} the job ended first",
        races,
        began.elapsed()
    );
    assert!(
        (races / 10..races * 9 / 10).contains(&before),
        "in {before} of {} the job ended before the wait began: these were no races",
        races
    );
}

fn rand_seed() -> u64 {
    jiff::Timestamp::now().as_nanosecond() as u64
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// Who is heard and asked: the default identity of that home, and nobody of this machine's user.
fn context(cli: &Cli) -> Context {
    Context {
        identity: IdentityArguments {
            identity: None,
            config: Some(cli.identities()),
        },
        quiet: true,
        ..Context::default()
    }
}

async fn lava(web_socket: bool) -> Arc<LavaServer> {
    Arc::new(
        LavaServer::start_with(Options {
            web_socket,
            ..Options::default()
        })
        .await,
    )
}

/// One at a time: each needs its share of the machine, so that a race is about the moment that it is meant to be about.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn against_our_publisher_alone() {
    let publisher = Lab::new().journal().start().await;
    let bus = publisher.publish().to_string();
    race_alone(&publisher, &bus, races()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn against_our_publisher_alone_over_http() {
    let publisher = Lab::new().journal().http().start().await;
    // Each has a client of its own, which takes its time.
    race_alone(&publisher, &publisher.http_bus(), races() / 5).await;
}

/// Nobody is there who could be asked.
async fn race_alone(publisher: &RunningPublisher, bus: &str, races: u64) {
    let _alone = ALONE.lock().await;
    let lava = lava(false).await;
    push_events_of(&lava, publisher.intake());
    let cli = Cli::new().identity("default", "http://127.0.0.1:1/RPC2", "admin", "token", CLOSED_PORT);
    let context = Context {
        buses: vec![bus.parse().unwrap()],
        is_bus_named: true,
        ..context(&cli)
    };
    race(lava, context, races).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn against_a_plain_publisher_with_rest_beside_it() {
    let _alone = ALONE.lock().await;
    let lava = lava(false).await;
    let plain = PlainPublisher::of(&lava);
    let cli = Cli::with_bus(&lava, plain.endpoint());
    race(lava, context(&cli), races()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_web_socket_where_the_bus_is_closed() {
    let _alone = ALONE.lock().await;
    let lava = lava(true).await;
    let cli = Cli::of(&lava);
    race(lava, context(&cli), races()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_asking_alone() {
    let _alone = ALONE.lock().await;
    let lava = lava(false).await;
    let cli = Cli::of(&lava);
    race(lava, context(&cli), races()).await;
}
