//! What every command is told beside its own arguments.

use std::fmt;
use std::io::{IsTerminal, Write as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use crate::bus::{Address, Bus};
use crate::format::Format;
use crate::sources::IdentityArguments;

/// The arguments that all commands share.
#[derive(Clone, Debug)]
pub struct Context {
    /// What is still to be done when a signal ends the command.
    pub farewell: Farewell,
    /// Where events come from, at least one.
    pub buses: Vec<Bus>,
    /// Somebody named them; otherwise they are the default.
    pub is_bus_named: bool,
    /// Which identity of a LAVA server to use.
    pub identity: IdentityArguments,
    /// How events are written; `None` where nobody said.
    pub format: Option<Format>,
    /// Whether standard output shall have colour.
    pub color: bool,
    /// Only errors go to standard error.
    pub quiet: bool,
    /// How much more than notices goes to standard error: 0 nothing, 1 what is done, 2 and more everything.
    pub verbose: u8,
}

/// Writes a line to standard error. Where nobody reads it any more, or its disk is full, the line is lost and the command
/// goes on: its exit code is what counts.
pub(crate) fn say(line: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// LAVA's `EVENT_SOCKET` on this machine.
const DEFAULT_BUS: &str = "tcp://127.0.0.1:5500";

impl Default for Context {
    /// What counts when nothing is said.
    fn default() -> Context {
        let address: Address = DEFAULT_BUS.parse().expect("the default is an endpoint");
        Context {
            farewell: Farewell::default(),
            buses: vec![Bus { name: None, address }],
            is_bus_named: false,
            identity: IdentityArguments::default(),
            format: None,
            color: false,
            quiet: false,
            verbose: 0,
        }
    }
}

impl Context {
    /// Says something to the person at the terminal, on standard error, unless `--quiet`.
    pub fn notice(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            say(format_args!("lavabus: {text}"));
        }
    }

    /// Says what is being done, with `--verbose` only.
    pub fn detail(&self, text: impl std::fmt::Display) {
        if self.verbose > 0 && !self.quiet {
            say(format_args!("lavabus: {text}"));
        }
    }
}

/// What is still to be done when a signal ends a command, which is dropped then. It has limits of its own.
#[derive(Clone, Default)]
pub struct Farewell(Arc<Mutex<Option<Last>>>);

type Last = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Farewell {
    /// From now on this is to be done.
    pub fn set(&self, last: Last) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }

    /// Whether anything is to be done.
    pub fn is_set(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// What is to be done, once.
    pub fn take(&self) -> Option<Last> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Farewell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Farewell")
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
