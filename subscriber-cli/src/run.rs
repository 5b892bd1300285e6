//! From a command line to an exit code.

use std::future::Future;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::{Arguments, Command};
use crate::context::{Context, Farewell};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::Format;
use crate::{
    bench, completions, db, doctor, emit, listen, mock, query, record, rejected, stats, status, submit, timeline, wait,
};
use crate::{faults, history, results, show, stuck};

/// A command that has not ended so long after a signal hangs in a write: it is not waited for.
const GRACE: Duration = Duration::from_secs(2);

/// Signals so close to each other are one: a runner may signal a whole process group while a shell in it forwards its own.
const SAME_SIGNAL: Duration = Duration::from_secs(1);
/// With a farewell it has this much more.
const FAREWELL: Duration = Duration::from_secs(30);

/// Runs the command, says what failed, and gives the exit code.
pub fn run(arguments: Arguments) -> ExitCode {
    let context = arguments.global.context();
    match arguments.command {
        Command::Completions(shell) => end(completions::write(&shell)),
        Command::Man => end(completions::write_manual()),
        command => block_on(dispatch(command, &context), &context.farewell),
    }
}

async fn dispatch(command: Command, context: &Context) -> Result<Exit, Failure> {
    if context.format == Some(Format::Markdown) && !matches!(command, Command::Timeline(_)) {
        return Err(Failure::new(
            Exit::Usage,
            "this cannot be written as markdown",
            "-o markdown is for `lavabus timeline`",
            "-o plain or json",
        ));
    }
    match command {
        Command::Listen(arguments) => Box::pin(listen::run(arguments, context)).await,
        Command::Wait(arguments) => Box::pin(wait::run(arguments, context)).await,
        Command::Submit(arguments) => Box::pin(submit::run(arguments, context)).await,
        Command::Run(arguments) => Box::pin(submit::run(arguments.into(), context)).await,
        Command::Record(arguments) => Box::pin(record::run(arguments, context)).await,
        Command::Emit(arguments) => Box::pin(emit::run(arguments, context)).await,
        Command::Mock(arguments) => Box::pin(mock::run(arguments, context)).await,
        Command::Bench(arguments) => Box::pin(bench::run(arguments, context)).await,
        Command::Doctor(arguments) => Box::pin(doctor::run(arguments, context)).await,
        Command::Show(arguments) => Box::pin(show::run(arguments, context)).await,
        Command::History(arguments) => Box::pin(history::run(arguments, context)).await,
        Command::Faults(arguments) => Box::pin(faults::run(arguments, context)).await,
        Command::Results(arguments) => Box::pin(results::run(arguments, context)).await,
        Command::Stuck(arguments) => Box::pin(stuck::run(arguments, context)).await,
        Command::Status(arguments) => Box::pin(status::run(arguments, context)).await,
        Command::Rejected(arguments) => Box::pin(rejected::run(arguments, context)).await,
        Command::Db(arguments) => Box::pin(db::run(arguments, context)).await,
        Command::Query(arguments) => Box::pin(query::run(arguments, context)).await,
        Command::Timeline(arguments) => Box::pin(timeline::run(arguments, context)).await,
        Command::Stats(arguments) => Box::pin(stats::run(arguments, context)).await,
        Command::Completions(_) | Command::Man => unreachable!("these need no runtime"),
        Command::Demo(_) => Err(Failure::new(
            Exit::Internal,
            "this program has no demo",
            "it was built without a publisher",
            "`lavabus mock`",
        )),
    }
}

/// Runs a command's future until it ends or a signal comes, says what failed, and gives the exit code.
///
/// On SIGINT and SIGTERM the future is dropped: what has to be kept is to be kept in `Drop`, and what takes time is the
/// farewell's. A second signal ends at once.
pub fn block_on(command: impl Future<Output = Result<Exit, Failure>>, farewell: &Farewell) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return end(Err(Failure::new(
                Exit::Internal,
                "cannot start",
                error,
                "see to the limits of processes and open files (ulimit -a)",
            )));
        }
    };
    let result = runtime.block_on(async {
        let mut signals = match Signals::new(farewell.clone()) {
            Ok(signals) => signals,
            Err(error) => return Err(Failure::new(Exit::Internal, "cannot watch signals", error, "again")),
        };
        let exit = tokio::select! {
            result = command => return result,
            exit = signals.next() => exit,
        };
        // `select!` has dropped the command.
        if let Some(farewell) = farewell.take() {
            farewell.await;
        }
        Ok(exit)
    });
    // A blocking read of standard input cannot be cancelled: it is not waited for.
    runtime.shutdown_background();
    end(result)
}

/// The number of SIGHUP on every Unix.
const SIGHUP: u32 = 1;

/// Whether whoever started us wants this signal to be ignored (proc_pid_status(5), `SigIgn`).
fn is_ignored(signal: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

struct Signals(tokio::sync::mpsc::Receiver<Exit>);

impl Signals {
    /// Watches in a task of its own, for a command may hang in a write to a reader that does not read.
    fn new(farewell: Farewell) -> std::io::Result<Signals> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        // Under nohup a terminal that is closed shall not end it.
        let mut hang_up = match is_ignored(SIGHUP) {
            true => None,
            false => Some(signal(SignalKind::hangup())?),
        };
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let exit = tokio::select! {
                _ = interrupt.recv() => Exit::Interrupted,
                _ = terminate.recv() => Exit::Terminated,
                Some(_) = async { hang_up.as_mut()?.recv().await } => Exit::Terminated,
            };
            let grace = if farewell.is_set() { FAREWELL } else { GRACE };
            let _ = sender.send(exit).await;
            let began = Instant::now();
            while began.elapsed() < grace {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    () = tokio::time::sleep(grace.saturating_sub(began.elapsed())) => break,
                }
                if began.elapsed() >= SAME_SIGNAL {
                    break;
                }
            }
            std::process::exit(i32::from(exit.code()));
        });
        Ok(Signals(receiver))
    }

    async fn next(&mut self) -> Exit {
        match self.0.recv().await {
            Some(exit) => exit,
            None => std::future::pending().await,
        }
    }
}

fn end(result: Result<Exit, Failure>) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.is_silent() {
                crate::context::say(&failure);
            }
            failure.exit().into()
        }
    }
}
