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

impl Exit {
    /// When the tool ends so, in a sentence or two.
    pub fn explanation(self) -> &'static str {
        match self {
            Exit::Success => {
                "What was asked for is done. A plain wait for a job: it is Finished and Complete. A wait with --for: the condition is met, whatever the health."
            }
            Exit::Internal => "A fault of the tool itself, or standard output that cannot be written.",
            Exit::Usage => "The command line, a file that it names, or the identity is wrong. Nothing was done.",
            Exit::JobIncomplete => {
                "The job finished Incomplete, or with no known health. The last line says why, where LAVA knows."
            }
            Exit::JobCanceled => "The job finished Canceled.",
            Exit::Unreachable => {
                "The condition can no longer be met: a job finished that was waited for to run, a device or worker is Retired, a job is over without the event."
            }
            Exit::NoSuchObject => {
                "LAVA has no such job, device or worker, or it is private and this identity may not see it. Or a question is about something that the database, or the publisher that --bus http(s)://… names, does not know. (A wait without an identity asks nobody: it waits for what was not heard of yet.)"
            }
            Exit::TestsFailed => {
                "With --tests: the job is Complete, and a test of it failed. `emit tap --fail`: a test failed, or the run did not come to its end."
            }
            Exit::SubmissionRefused => {
                "LAVA refused the job definition. Its message is said, and the line where it can be found."
            }
            Exit::NoConnection => {
                "Nobody was heard: no first connection within --connect-timeout, or later an outage longer than --max-outage, or who answers is none of ours, or has no certificate that is trusted here; or a submission whose answer was lost and that could not be found again; or an emit whose events were not all taken. Or a job is over and nobody was heard who could tell whether it had the event that was waited for."
            }
            Exit::CredentialsRefused => "The server refused the token.",
            Exit::Gap => "With --strict: events are missing and cannot be had.",
            Exit::Database => "The local database cannot be read or written.",
            Exit::Timeout => {
                "The time of --timeout is over. (`listen` and `record` with --timeout and without --count end with 0.)"
            }
            Exit::Interrupted => "SIGINT, as Ctrl-C sends it.",
            Exit::Terminated => "SIGTERM, or SIGHUP as a closed terminal sends it.",
        }
    }
}

/// Below `lavabus --help` and in the manual page.
pub(crate) fn help() -> String {
    let codes: Vec<String> = Exit::ALL
        .iter()
        .map(|exit| format!("  {:>3}  {exit}", exit.code()))
        .collect();
    format!("Exit codes:\n{}\n\n`lavabus help COMMAND` says more.", codes.join("\n"))
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

    /// `docs/exit-codes.md` is written from here: `UPDATE_DOCS=1 cargo test -p lavabus-cli exit`.
    #[test]
    #[allow(clippy::unwrap_used)]
    fn the_document_says_the_same() {
        let mut text = "# Exit codes\n\nOf `lavabus`, for scripts to decide by. They never change their meaning.\n\n\
            | code | meaning | when |\n|---|---|---|\n"
            .to_owned();
        for exit in Exit::ALL {
            text += &format!("| {} | {exit} | {} |\n", exit.code(), exit.explanation());
        }
        text += "\nOf several objects with `--all` the worst wins: 20 to 22, then 13, 12, 10, 14, 11, then 0. With `--any` \
            the first that is decided decides.\n\n`lava-publisher` ends with 0, 1 or 2.\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/exit-codes.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), text);
    }

    #[test]
    fn the_numbers_are_these() {
        assert_eq!(
            Exit::ALL.map(Exit::code),
            [0, 1, 2, 10, 11, 12, 13, 14, 15, 20, 21, 22, 30, 124, 130, 143]
        );
    }
}
