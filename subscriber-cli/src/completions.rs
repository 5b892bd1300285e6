//! `lavabus completions` and `lavabus man`: written from the definitions of the command line.

use std::io::Write as _;

use clap::CommandFactory as _;

use crate::arguments::Arguments as CommandLine;
use crate::exit::Exit;
use crate::failure::Failure;

/// Write the completion script for a shell.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Which shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Writes the completion script to standard output.
///
/// # Errors
///
/// [`Failure`] if standard output cannot be written.
pub fn write(arguments: &Arguments) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut CommandLine::command(), "lavabus", &mut script);
    print(&script)
}

/// Writes the manual page to standard output, in troff: `lavabus man | man -l -`.
///
/// # Errors
///
/// [`Failure`] if standard output cannot be written.
pub fn write_manual() -> Result<Exit, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(CommandLine::command())
        .render(&mut page)
        .map_err(|error| Failure::output(&error))?;
    print(&page)
}

fn print(bytes: &[u8]) -> Result<Exit, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(Exit::Success),
        Err(error) => Err(Failure::output(&error)),
    }
}
