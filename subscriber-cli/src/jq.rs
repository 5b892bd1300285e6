//! Programs in jq's language that keep or drop events.

use jaq_core::data::JustLut;
use jaq_core::load::{Arena, Error as LoadError, File, Loader, span};
use jaq_core::val::ValT as _;
use jaq_core::{Compiler, Ctx, Vars, unwrap_valr};
use jaq_json::{Val, read};
use lavabus_protocol::Record;

/// A compiled program. It sees an event as [`Record::to_json_line`] writes it.
pub(crate) struct Program {
    filter: jaq_core::compile::Filter<jaq_core::Native<JustLut<Val>>>,
}

/// What is wrong with a program, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause} at character {at}, expected a jq program such as '.data.state == \"Running\"'")]
pub(crate) struct ProgramError {
    cause: String,
    /// From 1.
    at: usize,
}

impl Program {
    pub(crate) fn compile(text: &str) -> Result<Program, ProgramError> {
        let fault = |part: &str, cause: String| ProgramError {
            cause,
            at: text.get(..span(text, part).start).unwrap_or_default().chars().count() + 1,
        };
        let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let arena = Arena::default();
        let modules = Loader::new(definitions)
            .load(&arena, File { code: text, path: () })
            .map_err(|errors| match errors.into_iter().next().map(|(_, error)| error) {
                Some(LoadError::Lex(errors)) => first(errors, |(expected, found)| {
                    fault(
                        found,
                        format!("{} where a {} should be", excerpt(found), expected.as_str()),
                    )
                }),
                Some(LoadError::Parse(errors)) => first(errors, |(expected, found)| {
                    fault(
                        found,
                        format!("{} where a {} should be", excerpt(found), expected.as_str()),
                    )
                }),
                Some(LoadError::Io(errors)) => first(errors, |(path, cause)| fault(path, cause)),
                None => unknown(),
            })?;
        let filter = Compiler::default()
            .with_funs(functions)
            .compile(modules)
            .map_err(|errors| match errors.into_iter().next() {
                Some((_, errors)) => first(errors, |(name, undefined)| {
                    fault(name, format!("undefined {} {name:?}", undefined.as_str()))
                }),
                None => unknown(),
            })?;
        Ok(Program { filter })
    }

    /// Whether the program's first output is true: anything but `false` and `null`.
    pub(crate) fn keeps(&self, record: &Record) -> Result<bool, String> {
        let input = read::parse_single(record.to_json_line().as_bytes()).map_err(|error| error.to_string())?;
        let context = Ctx::<JustLut<Val>>::new(&self.filter.lut, Vars::new([]));
        match self.filter.id.run((context, input)).map(unwrap_valr).next() {
            None => Ok(false),
            Some(Ok(value)) => Ok(value.as_bool()),
            Some(Err(error)) => Err(error.to_string()),
        }
    }
}

fn first<E>(errors: Vec<E>, say: impl FnOnce(E) -> ProgramError) -> ProgramError {
    errors.into_iter().next().map_or_else(unknown, say)
}

fn unknown() -> ProgramError {
    ProgramError {
        cause: "it cannot be read".to_owned(),
        at: 1,
    }
}

fn excerpt(found: &str) -> String {
    match found.chars().next() {
        None => "the end".to_owned(),
        Some(character) => format!("{character:?}"),
    }
}

/// Reads a program given on the command line, and keeps its text.
pub(crate) fn parse(text: &str) -> Result<String, ProgramError> {
    Program::compile(text).map(|_| text.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record::from_json_line(
            r#"{"topic":"lab.testjob","uuid":"8e503fbe-e568-11f1-8b37-02fc00000001","datetime":"2026-11-21T05:01:05+00:00","username":"ann","data":{"job": 1995, "state": "Running"}}"#,
        )
        .unwrap()
    }

    #[test]
    fn the_first_output_decides() {
        for (program, keeps) in [
            (".", true),
            (".data.state == \"Running\"", true),
            (".data.job > 2000", false),
            (".data.missing", false),
            ("empty", false),
            (".topic | test(\"job$\")", true),
            ("0", true),
            ("false, true", false),
        ] {
            assert_eq!(
                Program::compile(program).unwrap().keeps(&record()),
                Ok(keeps),
                "{program}"
            );
        }
        assert!(
            Program::compile(".data.job | test(\"x\")")
                .unwrap()
                .keeps(&record())
                .is_err()
        );
    }

    #[test]
    fn faults_say_where() {
        for (program, at) in [
            ("", 1),
            (".a | (", 7),
            (".a | nothing", 6),
            ("é&", 1),
            (".a ==", 6),
            ("if . then", 10),
        ] {
            let error = Program::compile(program).map(|_| ()).unwrap_err();
            assert_eq!(error.at, at, "{program}: {error}");
        }
    }
}
