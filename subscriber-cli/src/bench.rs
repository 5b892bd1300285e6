//! `lavabus bench`.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Measure a publisher.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what failed, the cause, and the next thing to try.
pub async fn run(_arguments: Arguments, _context: &Context) -> Result<Exit, Failure> {
    Err(Failure::new(
        Exit::Internal,
        "`lavabus bench` cannot run",
        "it is not there yet",
        "a later version",
    ))
}
