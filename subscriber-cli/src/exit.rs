//! How the tool ends. Scripts decide by these numbers, so they never change their meaning.

use std::fmt;
use std::process::ExitCode;

/// Every exit code of `lavabus`.
///
/// ```
/// use lavabus_cli::Exit;
/// assert_eq!(Exit::Timeout.code(), 124);
/// assert_eq!(Exit::Timeout.to_string(), "time is over");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// What was asked for is done, or the condition is met.
    Success = 0,
    /// A fault of the tool itself.
    Internal = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// The job finished Incomplete.
    JobIncomplete = 10,
    /// The job finished Canceled.
    JobCanceled = 11,
    /// The condition can no longer be met.
    Unreachable = 12,
    /// There is no such object, or it is private and the reader is not logged in.
    NoSuchObject = 13,
    /// Tests failed, where that was asked for.
    TestsFailed = 14,
    /// The server refused the job.
    SubmissionRefused = 15,
    /// No connection: the first one not in time, or a later outage that was too long.
    NoConnection = 20,
    /// The server refused the credentials.
    CredentialsRefused = 21,
    /// Events are missing and cannot be had, under `--strict`.
    Gap = 22,
    /// The local database cannot be read or written.
    Database = 30,
    /// The time allowed is over.
    Timeout = 124,
    /// Ended by SIGINT.
    Interrupted = 130,
    /// Ended by SIGTERM.
    Terminated = 143,
}

impl Exit {
    /// All of them, by number.
    pub const ALL: [Exit; 16] = [
        Exit::Success,
        Exit::Internal,
        Exit::Usage,
        Exit::JobIncomplete,
        Exit::JobCanceled,
        Exit::Unreachable,
        Exit::NoSuchObject,
        Exit::TestsFailed,
        Exit::SubmissionRefused,
        Exit::NoConnection,
        Exit::CredentialsRefused,
        Exit::Gap,
        Exit::Database,
        Exit::Timeout,
        Exit::Interrupted,
        Exit::Terminated,
    ];

    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Its meaning in a few words.
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Success => "done, condition met",
            Exit::Internal => "internal error",
            Exit::Usage => "usage or configuration",
            Exit::JobIncomplete => "job Incomplete",
            Exit::JobCanceled => "job Canceled",
            Exit::Unreachable => "condition can no longer be met",
            Exit::NoSuchObject => "no such object (or private: log in)",
            Exit::TestsFailed => "tests failed",
            Exit::SubmissionRefused => "submission refused",
            Exit::NoConnection => "no connection",
            Exit::CredentialsRefused => "refused credentials",
            Exit::Gap => "a gap that could not be filled",
            Exit::Database => "local database",
            Exit::Timeout => "time is over",
            Exit::Interrupted => "interrupted (SIGINT)",
            Exit::Terminated => "terminated (SIGTERM)",
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.meaning())
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_these() {
        assert_eq!(
            Exit::ALL.map(Exit::code),
            [0, 1, 2, 10, 11, 12, 13, 14, 15, 20, 21, 22, 30, 124, 130, 143]
        );
    }
}
