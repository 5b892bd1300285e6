//! Measures how the `zeromq` crate (0.7.0) behaves as the socket layer of a daemon. The results, and what follows from
//! them, are in `docs/decisions/0001-own-zmtp.md`.
//!
//! ```text
//! cargo run --release --example zeromq_crate_study -- ping|frame-claim|slow-subscriber|narrow|reconnect|all
//! ```
//!
//! Each line of output is one finding. Everything stays on loopback; an experiment takes a minute at most, and the
//! largest needs 1.5 GiB of memory. Each run that is measured by its memory, or that may end its process, has a process
//! of its own. libzmq 4.3.5 goes through the same as a control, where it says something. Linux only: memory is read from
//! `/proc`.

mod frame_claim;
mod narrow;
mod peers;
mod ping;
mod reconnect;
mod slow_subscriber;

use std::error::Error;
use std::process::Command;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["ping"] => ping::run().await,
        ["frame-claim"] => frame_claim::run(),
        ["frame-claim-victim", library] => frame_claim::victim(library).await,
        ["slow-subscriber"] => slow_subscriber::run(),
        ["slow-subscriber-run", library, subscribers, size] => {
            slow_subscriber::run_one(library, subscribers.parse()?, size.parse()?).await
        }
        ["narrow"] => narrow::run().await,
        ["reconnect"] => reconnect::run().await,
        ["all"] => {
            for experiment in ["ping", "frame-claim", "slow-subscriber", "narrow", "reconnect"] {
                run_myself(&[experiment])?;
            }
            Ok(())
        }
        _ => Err("usage: zeromq_crate_study ping|frame-claim|slow-subscriber|narrow|reconnect|all".into()),
    }
}

/// Runs this program in a process of its own, to its end.
fn run_myself(arguments: &[&str]) -> Outcome {
    match myself(arguments).status()? {
        status if status.success() => Ok(()),
        status => Err(format!("{}: {status}", arguments.join(" ")).into()),
    }
}

/// This program again, to be started.
fn myself(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a running program has a path"));
    command.args(arguments);
    command
}
