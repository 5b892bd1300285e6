//! What is wrong with a command line, in the same three lines as any other error.

use std::error::Error as _;
use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches};

use crate::arguments::Arguments;
use crate::exit::Exit;

/// A command line that asks for nothing to be run: help, the version, or something wrong.
#[derive(Debug)]
pub struct Stop(clap::Error);

impl std::error::Error for Stop {}

impl Arguments {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    ///
    /// [`Stop`] is help that was asked for, or what is wrong.
    pub fn read<I, T>(command_line: I) -> Result<Arguments, Stop>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let mut command = Arguments::command();
        let mut matches = command.try_get_matches_from_mut(command_line).map_err(Stop)?;
        Arguments::from_arg_matches_mut(&mut matches).map_err(|error| Stop(error.format(&mut command)))
    }
}

impl Stop {
    /// How the tool ends.
    pub fn exit(&self) -> Exit {
        match self.0.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Success,
            _ => Exit::Usage,
        }
    }

    /// Says it: help to standard output, what is wrong to standard error.
    pub fn print(&self) -> ExitCode {
        match self.three_lines() {
            Some(lines) => crate::context::say(lines),
            // Whoever reads help may go away early: `lavabus --help | head`.
            None => drop(self.0.print()),
        }
        self.exit().into()
    }

    fn context(&self, kind: ContextKind) -> Option<String> {
        match self.0.get(kind)? {
            ContextValue::String(text) => Some(text.clone()),
            ContextValue::Strings(texts) => Some(texts.join(", ")),
            ContextValue::StyledStr(text) => Some(text.to_string()),
            ContextValue::StyledStrs(texts) => {
                Some(texts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
            }
            _ => None,
        }
        .filter(|text| !text.is_empty())
    }

    /// `None` for what clap says better itself: help, the version, and kinds not foreseen here.
    fn three_lines(&self) -> Option<String> {
        let flag = self.context(ContextKind::InvalidArg);
        let value = self.context(ContextKind::InvalidValue);
        let (what, cause, hint) = match self.0.kind() {
            ErrorKind::ValueValidation => {
                let (cause, hint) = split_hint(&self.0.source()?.to_string());
                (format!("{} does not take {:?}", name_of(&flag?), value?), cause, hint)
            }
            ErrorKind::InvalidValue => {
                let possible = self.context(ContextKind::ValidValue);
                let hint = possible.map(|possible| format!("one of {possible}"));
                match value {
                    Some(value) => (
                        format!("{} does not take {value:?}", name_of(&flag?)),
                        "it is none of its values".to_owned(),
                        hint,
                    ),
                    None => (
                        format!("{} needs a value", name_of(&flag?)),
                        "none is given".to_owned(),
                        hint,
                    ),
                }
            }
            ErrorKind::UnknownArgument => {
                let suggested = self.context(ContextKind::SuggestedArg);
                (
                    format!("there is no {}", flag?),
                    "no such argument of this command".to_owned(),
                    suggested.map(|name| format!("did you mean {name}?")),
                )
            }
            ErrorKind::InvalidSubcommand => {
                let suggested = self.context(ContextKind::SuggestedSubcommand);
                (
                    format!(
                        "there is no command {:?}",
                        self.context(ContextKind::InvalidSubcommand)?
                    ),
                    "no such command".to_owned(),
                    suggested.map(|name| format!("did you mean {name}?")),
                )
            }
            ErrorKind::ArgumentConflict => {
                let other = self
                    .context(ContextKind::PriorArg)
                    .unwrap_or_else(|| "another argument".to_owned());
                let same = flag.as_deref() == Some(other.as_str());
                let cause = match same {
                    true => "it may be given once".to_owned(),
                    false => format!("it cannot stand together with {other}"),
                };
                (
                    format!("{} is one too many", name_of(&flag?)),
                    cause,
                    Some("leave one of them out".to_owned()),
                )
            }
            ErrorKind::MissingRequiredArgument => (
                format!("{} is missing", flag?),
                "this command needs it".to_owned(),
                None,
            ),
            _ => return None,
        };
        let hint = hint.unwrap_or_else(|| "`lavabus help` or `lavabus COMMAND --help`".to_owned());
        Some(crate::Failure::new(Exit::Usage, what, cause, hint).to_string())
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.three_lines() {
            Some(lines) => f.write_str(&lines),
            None => self.0.fmt(f),
        }
    }
}

/// `--device` of `--device <VALUE>`.
fn name_of(flag: &str) -> &str {
    flag.split([' ', '=']).next().unwrap_or(flag)
}

/// Our texts say the cause first, then what would be right: `no port; accepted are …`, `…, expected …`.
fn split_hint(text: &str) -> (String, Option<String>) {
    for between in ["; try ", "; accepted are ", ", expected ", "; expected "] {
        if let Some((cause, hint)) = text.rsplit_once(between) {
            return (cause.to_owned(), Some(hint.to_owned()));
        }
    }
    match text.strip_prefix("expected ") {
        Some(hint) => ("it is something else".to_owned(), Some(hint.to_owned())),
        None => (text.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &[&str]) -> String {
        match Arguments::read(["lavabus"].iter().chain(line)) {
            Ok(arguments) => panic!("taken: {arguments:?}"),
            Err(stop) => {
                assert_eq!(stop.exit(), Exit::Usage, "{line:?}");
                stop.to_string()
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_three_lines_with_its_flag() {
        let lines: Vec<String> = [
            &["listen", "--device", "~qemu-["] as &[&str],
            &["listen", "--job", "/"],
            &["listen", "--not-topic", "@seq"],
            &["listen", "--since", "soon"],
            &["listen", "--timeout", "90"],
            &["listen", "--after", "5f0e11d2/x/8e503fbe-e568-11f1-8b37-02fc00000001"],
            &["listen", "--bus", "127.0.0.1:5500"],
            &["listen", "--jq", ".data | ("],
            &["listen", "-o", "template={{ job"],
            &["listen", "-o", "xml"],
            &["listen", "--count", "0"],
            &["listen", "--count", "x"],
            &["listen", "--stat", "Idle"],
            &["listen", "--last", "1", "--since", "-1h"],
            &["listen", "--db", "x"],
            &["listen", "--color", "sometimes"],
            &["listne"],
            &["emit"],
            &["emit", "event", "hello"],
            &["emit", "event", "hello", "--job", "/"],
            &["emit", "--to", "tcp://a"],
            &["demo", "--rate", "0"],
        ]
        .into_iter()
        .map(|line| format!("$ lavabus {}\n{}\n", line.join(" "), said(line)))
        .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn help_and_version_are_no_errors() {
        for line in [
            &["--help"] as &[&str],
            &["--version"],
            &["listen", "--help"],
            &["help", "emit", "device"],
        ] {
            let stop = Arguments::read(["lavabus"].iter().chain(line))
                .map(|_| ())
                .map_err(|stop| stop.exit());
            assert_eq!(stop, Err(Exit::Success), "{line:?}");
        }
    }
}
