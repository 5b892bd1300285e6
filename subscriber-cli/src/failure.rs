//! Why a command ends without having done what was asked for.

use std::io;

use crate::exit::Exit;

/// A command's end that is no success.
///
/// ```
/// use lavabus_cli::{Exit, Failure};
///
/// let failure = Failure::new(Exit::Database, "cannot read /tmp/x.db", "permission denied", "give --db PATH");
/// assert_eq!(
///     failure.to_string(),
///     "lavabus: cannot read /tmp/x.db\n  cause: permission denied\n  try: give --db PATH"
/// );
/// assert_eq!(failure.exit(), Exit::Database);
/// ```
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something to be said, in three short lines.
    #[error("lavabus: {what}\n  cause: {cause}\n  try: {hint}")]
    Said {
        /// How the tool ends.
        exit: Exit,
        /// What failed.
        what: String,
        /// The cause.
        cause: String,
        /// The next thing to try.
        hint: String,
    },
    /// Whoever read standard output has gone. That is how `lavabus … | head` ends: no error.
    #[error("standard output was closed by its reader")]
    OutputClosed,
}

impl Failure {
    /// A failure with its three lines: what failed, the cause, the next thing to try. Line breaks become blanks.
    pub fn new(exit: Exit, what: impl ToString, cause: impl ToString, hint: impl ToString) -> Failure {
        Failure::Said {
            exit,
            what: one_line(&what.to_string()),
            cause: one_line(&cause.to_string()),
            hint: one_line(&hint.to_string()),
        }
    }

    /// Standard output cannot be written.
    pub fn output(error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::new(
                Exit::Internal,
                "cannot write to standard output",
                error,
                "see to the room on its disk, or to the program that reads it",
            ),
        }
    }

    /// How the tool ends.
    pub fn exit(&self) -> Exit {
        match self {
            Failure::Said { exit, .. } => *exit,
            Failure::OutputClosed => Exit::Success,
        }
    }

    /// Whether there is anything to say.
    pub fn is_silent(&self) -> bool {
        matches!(self, Failure::OutputClosed)
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_is_no_error() {
        let failure = Failure::output(&io::ErrorKind::BrokenPipe.into());
        assert!(failure.is_silent());
        assert_eq!(failure.exit(), Exit::Success);
        assert!(!Failure::output(&io::ErrorKind::StorageFull.into()).is_silent());
    }

    #[test]
    fn three_lines_whatever_the_cause_looks_like() {
        let failure = Failure::new(Exit::Usage, "a\nb", "c\n\n  d", "e");
        assert_eq!(failure.to_string().lines().count(), 3);
    }
}
