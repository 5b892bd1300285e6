//! `lavabus demo`: a publisher, a simulated lab, a listener and a wait in one process, on a database of its own.
//!
//! The only place that knows both programs. Nothing leaves the machine, and nothing is left behind.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lava_publisher::{Config, Publisher};
use lavabus_cli::mock::{Lab, LabOptions, Profile};
use lavabus_cli::{Context, DemoArguments, format};
use lavabus_client::{Emitter, Options, Subscription, Update};
use lavabus_protocol::{Kind, SnapshotScope};
use lavabus_zmtp::Endpoint;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

type Failed = Box<dyn Error + Send + Sync>;

const PATIENCE: Duration = Duration::from_secs(5);

/// Runs the demo until its time is over or Ctrl-C; says what failed.
pub(crate) fn run(arguments: &DemoArguments, context: &Context) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            context.notice(format_args!("the demo cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(play(arguments, context)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            context.notice(format_args!("the demo failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn play(arguments: &DemoArguments, context: &Context) -> Result<(), Failed> {
    let mut terminate = signal(SignalKind::terminate())?;
    let folder = tempfile::Builder::new().prefix("lavabus-demo-").tempdir()?;
    let database = folder.path().join("events.db");
    let intake: Endpoint = format!("ipc://{}", folder.path().join("intake").display()).parse()?;
    let config = Config::new(vec![intake.clone()], vec!["tcp://127.0.0.1:0".parse()?]).with_journal(&database);
    let publisher = Publisher::bind(config).await?;
    let bus = publisher.endpoints().publish[0].clone();
    let counters = publisher.counters();
    context.notice(format_args!(
        "publisher at {bus}, its journal in {}",
        database.display()
    ));
    context.notice(format_args!("in another terminal: lavabus --bus {bus} listen -o json"));
    context.notice(format_args!(
        "                     lavabus status --db {}",
        database.display()
    ));
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(publisher.run(shutdown.clone()));

    let mut parts = JoinSet::new();
    parts.spawn(simulate(intake, lab(arguments)));
    parts.spawn(listen(bus.clone()));
    parts.spawn(wait_for_jobs(bus, context.clone()));
    let over = async {
        match arguments.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        () = over => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Failed::from),
        _ = terminate.recv() => Ok(()),
        Some(ended) = parts.join_next() => ended.map_err(Failed::from).and_then(|never| never),
    };
    parts.shutdown().await;
    shutdown.cancel();
    serving.await??;
    let count = |name: &str| {
        counters
            .all()
            .find(|(known, _)| *known == name)
            .map_or(0, |(_, value)| value)
    };
    context.notice(format_args!(
        "{} events received, {} kept, {} refused; the demo's files are removed",
        count("received"),
        count("committed"),
        count("refused")
    ));
    outcome
}

fn lab(arguments: &DemoArguments) -> Lab {
    Lab::new(LabOptions {
        seed: u64::from(std::process::id()),
        devices: arguments.devices,
        workers: arguments.devices.div_ceil(4),
        topic: "org.example.lab".to_owned(),
        start: jiff::Timestamp::now(),
        rate: arguments.rate,
        profile: Profile::Steady,
    })
}

/// Sends the lab's events when they are due. Does not end by itself.
async fn simulate(intake: Endpoint, lab: Lab) -> Result<(), Failed> {
    let mut emitter = Emitter::connect(&intake, PATIENCE).await?;
    for event in lab {
        let due = event.at.duration_since(jiff::Timestamp::now());
        tokio::time::sleep(Duration::try_from(due).unwrap_or_default()).await;
        emitter.send(&event.record.envelope()).await?;
        emitter.confirm(PATIENCE).await?;
    }
    Ok(())
}

/// Prints every event, as `lavabus listen` does.
async fn listen(bus: Endpoint) -> Result<(), Failed> {
    let mut subscription = Subscription::new(bus, Options::default());
    loop {
        if let Update::Event { record, .. } = subscription.next().await? {
            // Who reads it may go away, as in `demo | head`.
            if writeln!(std::io::stdout(), "{}", format::plain_line(&record)).is_err() {
                return Ok(());
            }
        }
    }
}

/// Waits for one job after the other, as a pipeline would: from its submission to its end.
async fn wait_for_jobs(bus: Endpoint, context: Context) -> Result<(), Failed> {
    let mut jobs = Subscription::new(bus.clone(), Options::default());
    loop {
        let Update::Event { record, .. } = jobs.next().await? else {
            continue;
        };
        let event = record.event();
        if event.kind() != Kind::Testjob || event.state() != Some("Submitted") {
            continue;
        }
        let Some(job) = event.job() else { continue };
        context.notice(format_args!("waiting for job {job}"));
        let began = Instant::now();
        let scope = SnapshotScope::One {
            kind: Kind::Testjob,
            id: job.to_string(),
        };
        let options = Options {
            snapshots: vec![scope],
            ..Options::default()
        };
        let mut waiting = Subscription::new(bus.clone(), options);
        let health = loop {
            let Update::Event { record, .. } = waiting.next().await? else {
                continue;
            };
            let event = record.event();
            if event.kind() == Kind::Testjob && event.is_finished() && event.job() == Some(job) {
                break event.health().unwrap_or("Unknown").to_owned();
            }
        };
        context.notice(format_args!(
            "job {job} finished: {health}, after {:.1} s",
            began.elapsed().as_secs_f64()
        ));
    }
}
