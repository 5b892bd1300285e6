//! The publisher is killed and started again, over and over: every wait ends, with the right code.

#![allow(clippy::unwrap_used)]

mod lab;

use std::sync::Arc;
use std::time::Duration;

use lab::{Cli, Lab, RunningCli, push_events_of};
use lava_stand_in::{Job, LavaServer};

const RESTARTS: u64 = 20;
const WAITS: usize = 50;
const JOBS: usize = 200;
/// Each wait has so many jobs of its own.
const EACH: usize = JOBS / WAITS;
/// The publisher lives so long.
const LIFE: Duration = Duration::from_millis(400);

/// How a job ends, and how bad that is for a wait of several: the worst decides.
const ENDS: [(&str, i32); 3] = [("Complete", 0), ("Canceled", 11), ("Incomplete", 10)];

#[tokio::test(flavor = "multi_thread")]
async fn fifty_waits_over_two_hundred_jobs_live_through_twenty_kills() {
    let lava = Arc::new(LavaServer::start().await);
    let mut publisher = Lab::new().journal().start_process();
    push_events_of(&lava, publisher.intake());
    let cli = Cli::of(&lava).variable("LAVABUS_BUS", publisher.publish());
    let jobs: Vec<String> = (0..JOBS).map(|_| lava.add_job(Job::default())).collect();
    let waits: Vec<Wait> = jobs.chunks(EACH).map(|jobs| Wait::begin(&cli, jobs)).collect();
    for wait in &waits {
        wait.running.says("works");
    }

    let playing = tokio::spawn(play(lava.clone(), jobs.clone()));
    for _ in 0..RESTARTS {
        tokio::time::sleep(LIFE).await;
        publisher = tokio::task::block_in_place(|| publisher.kill().start_process());
    }
    playing.await.unwrap();

    for (number, wait) in waits.into_iter().enumerate() {
        let ended = wait.running.ended().with(expected(number));
        // It was cut off by some of the kills, and not by chance waiting for something else.
        assert!(ended.stderr.matches("no connection").count() >= 3, "{ended:?}");
    }
    drop(publisher);
}

struct Wait {
    running: RunningCli,
}

impl Wait {
    fn begin(cli: &Cli, jobs: &[String]) -> Wait {
        let words = ["-v", "wait", "job"].into_iter().chain(jobs.iter().map(String::as_str));
        Wait {
            running: cli.start(words),
        }
    }
}

/// How the job with that index ends: the last one of a wait may be the worst of them, or not.
fn end(index: usize) -> (&'static str, i32) {
    let (wait, is_last) = (index / EACH, index % EACH == EACH - 1);
    match is_last {
        true => ENDS[wait % ENDS.len()],
        false => ENDS[wait % 2],
    }
}

fn expected(wait: usize) -> i32 {
    let codes = (wait * EACH..(wait + 1) * EACH).map(|index| end(index).1);
    // 10 is worse than 11, and 11 than 0.
    codes
        .max_by_key(|code| [0, 11, 10].iter().position(|known| known == code))
        .unwrap()
}

/// All jobs run and end while the publisher is being killed, each at its own time.
async fn play(lava: Arc<LavaServer>, jobs: Vec<String>) {
    let pause = LIFE * u32::try_from(RESTARTS).unwrap() / u32::try_from(JOBS).unwrap();
    // First the first of each wait: all waits are open until the last quarter.
    let order = (0..EACH).flat_map(|part| (part..JOBS).step_by(EACH));
    for index in order {
        let id = &jobs[index];
        // It blocks while the publisher's intake is full or away.
        let (lava, id) = (lava.clone(), id.clone());
        let told = tokio::task::spawn_blocking(move || {
            lava.set_job(&id, "Running", "Unknown");
            lava.set_job(&id, "Finished", end(index).0);
        });
        told.await.unwrap();
        tokio::time::sleep(pause).await;
    }
}
