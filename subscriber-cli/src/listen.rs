//! `lavabus listen`: print events as they come.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::filter::FilterArguments;

/// Print events as they come.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    filter: FilterArguments,
    /// End after so many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what failed, the cause, and the next thing to try.
pub async fn run(_arguments: Arguments, _context: &Context) -> Result<Exit, Failure> {
    Err(Failure::new(
        Exit::Internal,
        "`lavabus listen` cannot run",
        "it is not there yet",
        "a later version",
    ))
}
