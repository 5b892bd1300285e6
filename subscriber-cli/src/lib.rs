//! The subscriber's command-line tool: listen, filter, emit, play a lab, ask a journal.
//!
//! ```
//! use lavabus_cli::{Arguments, Command, Exit};
//!
//! let arguments = Arguments::read(["lavabus", "listen", "--kind", "job", "--count", "1"])?;
//! assert!(matches!(arguments.command, Command::Listen(_)));
//!
//! // A wrong flag is said in three lines: what, cause, what to try.
//! let stop = Arguments::read(["lavabus", "listen", "--device", "~["]).unwrap_err();
//! assert_eq!(stop.exit(), Exit::Usage);
//! assert!(stop.to_string().starts_with("lavabus: --device"));
//! # Ok::<(), lavabus_cli::Stop>(())
//! ```
//!
//! # Map
//!
//! | module | subject |
//! |---|---|
//! | [`arguments`], `usage` | the command line, and what is wrong with one |
//! | [`exit`], [`failure`] | how the tool ends; the three lines of an error |
//! | [`context`], [`bus`] | what all commands share |
//! | [`filter`], `jq` | which events are wanted |
//! | [`mod@format`] | how events are written |
//! | [`listen`] | print events |
//! | [`wait`] | until something is as it should be |
//! | [`record`] | keep events in a database of one's own |
//! | [`submit`] | jobs to LAVA, and to their end |
//! | [`sources`] | identities of LAVA servers, and who is heard |
//! | [`emit`] | send events |
//! | [`mock`], [`mod@bench`], [`status`], [`rejected`], [`doctor`] | play a lab, measure, look |
//! | [`db`] | look after a database |
//! | [`query`], [`timeline`], [`stats`] | ask a database |
//! | [`show`], [`history`], [`faults`], [`results`], [`stuck`] | ask a database, by [`question`] |
//! | [`completions`] | for the shell, and the manual page |
//! | `own_data`, `python_json` | the fifth frame, as emit and mock write it |
//! | `cursor_file`, `lines`, `reader_gone` | what listen and emit read and write beside the bus |
//!
//! Data goes to standard output, all the rest to standard error. `lavabus demo` is only parsed here: it needs the
//! publisher, which this crate does not know.

// They panic where nobody reads: `context::say` does not.
#![deny(clippy::print_stderr, clippy::print_stdout)]

pub mod arguments;
pub mod bench;
pub mod bus;
pub mod completions;
pub mod context;
mod cursor_file;
mod database;
pub mod db;
pub mod doctor;
pub mod emit;
pub mod exit;
pub mod failure;
pub mod faults;
pub mod filter;
pub mod format;
pub mod history;
mod jq;
mod lines;
pub mod listen;
pub mod mock;
mod outlet;
mod own_data;
mod python_json;
pub mod query;
pub mod question;
mod reader_gone;
pub mod record;
pub mod rejected;
mod remote;
pub mod results;
mod run;
#[cfg(test)]
mod schemas;
pub mod show;
pub mod sources;
pub mod stats;
pub mod status;
pub mod stuck;
pub mod submit;
mod table;
pub mod timeline;
mod usage;
pub mod wait;

pub use arguments::{Arguments, Command, DemoArguments};
pub use bus::Bus;
pub use context::{Color, Context};
pub use exit::Exit;
pub use failure::Failure;
pub use run::{block_on, run};
pub use usage::Stop;

use std::process::ExitCode;

/// What the command line asks for.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // There is one a process.
pub enum Invocation {
    /// `lavabus demo`, to be run by the caller, in [`block_on`].
    Demo(DemoArguments, Context),
    /// Everything else, to be given to [`run`].
    Tool(Arguments),
    /// There is nothing to run: help was shown, or an error was said.
    Ended(ExitCode),
}

/// Reads this process's command line.
pub fn parse() -> Invocation {
    match Arguments::read(std::env::args_os()) {
        Ok(Arguments {
            command: Command::Demo(demo),
            global,
        }) => Invocation::Demo(demo, global.context()),
        Ok(arguments) => Invocation::Tool(arguments),
        Err(stop) => Invocation::Ended(stop.print()),
    }
}
