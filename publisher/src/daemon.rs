//! The process around a publisher: log, signals, service manager, exit code.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use tracing_subscriber::filter::LevelFilter;

use crate::arguments::{Arguments, Level};
use crate::authority;
use crate::check;
use crate::config::{AuthorityConfig, Config};
use crate::health::Health;
use crate::publisher::Publisher;

/// Exit code for wrong options, as everywhere in lavabus.
const USAGE: u8 = 2;

/// Runs `lava-publisher` with the process's arguments.
pub fn main() -> ExitCode {
    // Prints help and usage errors itself, and ends with 2 on the latter.
    let arguments = Arguments::parse();
    if let Some(name) = &arguments.new_token {
        let (token, entry) = authority::new_token(name);
        println!(
            "The token, for whoever is to use it; it is not shown again:\n{}\n",
            token.expose()
        );
        print!("Its entry for the file of --tokens:\n{entry}");
        return ExitCode::SUCCESS;
    }
    let config = match arguments.config(raise_descriptor_limit()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("lava-publisher: {error}");
            return ExitCode::from(USAGE);
        }
    };
    if arguments.check {
        return report(&config, &arguments.log_file);
    }
    if let Err(error) = start_log(&arguments.log_file, arguments.level) {
        eprintln!(
            "lava-publisher: cannot write the log {}: {error}\nName another file with --log-file, or - for standard error.",
            arguments.log_file.display()
        );
        return ExitCode::from(USAGE);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(serve(config));
    // What still runs was cut off on purpose: it is not waited for.
    runtime.shutdown_background();
    match result {
        Ok(()) => {
            info!("ended");
            ExitCode::SUCCESS
        }
        Err(cause) => {
            error!("{cause}");
            if !is_standard_error(&arguments.log_file) {
                eprintln!("lava-publisher: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

fn report(config: &Config, log_file: &Path) -> ExitCode {
    print!("{}", check::describe(config));
    let problems = check::problems(config, log_file);
    for problem in &problems {
        eprintln!("lava-publisher: {problem}");
    }
    if problems.is_empty() {
        println!("options are good");
        ExitCode::SUCCESS
    } else {
        ExitCode::from(USAGE)
    }
}

async fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let shutdown = CancellationToken::new();
    end_on_signals(shutdown.clone())?;
    let open = config.publish.iter().filter(|endpoint| !endpoint.is_loopback_or_ipc());
    for endpoint in open {
        info!(%endpoint, "open to the network: whoever can reach it sees all events, those of private jobs included");
    }
    if !config.authority_reason.is_empty() {
        info!(authority = %config.authority, reason = config.authority_reason, "who may see what");
    }
    if let AuthorityConfig::Lava(lava) = &config.authority {
        for warning in &lava.identity.warnings {
            warn!("{warning}");
        }
    }
    let kept = config
        .journal
        .as_ref()
        .map(|journal| journal.path.display().to_string());
    let publisher = Publisher::bind(config).await?;
    for endpoint in publisher.endpoints().intake {
        info!(%endpoint, "intake");
    }
    for endpoint in publisher.endpoints().publish {
        info!(%endpoint, "publish");
    }
    for endpoint in publisher.endpoints().publish_public {
        info!(%endpoint, "publish, public events only");
    }
    for address in publisher.endpoints().http {
        info!(%address, "http");
    }
    info!(journal = kept.as_deref().unwrap_or("none: nothing is kept"), "ready");
    // Without a service manager these do nothing.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tokio::spawn(watchdog(publisher.health(), shutdown.clone()));
    publisher.run(shutdown).await?;
    Ok(())
}

/// The first SIGTERM or SIGINT ends in order, the second at once.
fn end_on_signals(shutdown: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if shutdown.is_cancelled() {
                info!("second signal: ending at once");
                std::process::exit(0);
            }
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
            shutdown.cancel();
        }
    });
    Ok(())
}

/// Tells the service manager that events can pass, twice in the time after which it would restart us.
async fn watchdog(health: Arc<Health>, shutdown: CancellationToken) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut ticks = tokio::time::interval((limit / 2).max(Duration::from_millis(100)));
    while !shutdown.is_cancelled() {
        ticks.tick().await;
        if health.is_alive() {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
    }
}

fn is_standard_error(log_file: &Path) -> bool {
    log_file == Path::new("-")
}

fn start_log(log_file: &Path, level: Level) -> io::Result<()> {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    let log = tracing_subscriber::fmt().with_max_level(level).with_target(false);
    if is_standard_error(log_file) {
        log.with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .with_writer(io::stderr)
            .init();
    } else {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .open(log_file)?;
        log.with_ansi(false).with_writer(Arc::new(file)).init();
    }
    Ok(())
}

/// Each connection takes a descriptor: asks for as many as the system allows. Returns how many there are.
fn raise_descriptor_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 1024;
    };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}
