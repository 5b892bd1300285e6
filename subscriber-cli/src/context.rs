//! What every command is told beside its own arguments.

use std::io::IsTerminal;

use crate::bus::Bus;
use crate::format::Format;

/// The arguments that all commands share.
#[derive(Clone, Debug)]
pub struct Context {
    /// Publish endpoints, at least one.
    pub buses: Vec<Bus>,
    /// How events are written; `None` where nobody said.
    pub format: Option<Format>,
    /// Whether standard output shall have colour.
    pub color: bool,
    /// Only errors go to standard error.
    pub quiet: bool,
    /// How much more than notices goes to standard error: 0 nothing, 1 what is done, 2 and more everything.
    pub verbose: u8,
}

impl Context {
    /// Says something to the person at the terminal, on standard error, unless `--quiet`.
    pub fn notice(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            eprintln!("lavabus: {text}");
        }
    }

    /// Says what is being done, with `--verbose` only.
    pub fn detail(&self, text: impl std::fmt::Display) {
        if self.verbose > 0 && !self.quiet {
            eprintln!("lavabus: {text}");
        }
    }
}

/// When there is colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless the variable NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Whether standard output shall have colour. `NO_COLOR` counts when it is set and not empty (no-color.org).
    pub fn on_stdout(self) -> bool {
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        }
    }
}
