//! Which events are wanted: one flag for each field of an event, its negation, and a jq program.

use clap::builder::{StringValueParser, TypedValueParser as _};
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use lavabus_protocol::Filter;
use lavabus_protocol::filter::{Field, Pattern, PatternError};

use crate::jq;

/// The flags of a filter: `--kind`, `--not-kind` and so on.
#[derive(Clone, Debug, Default)]
pub struct FilterArguments {
    /// What the fields must be.
    pub filter: Filter,
    /// jq programs, all of which must keep an event. They are known to be sound.
    pub jq: Vec<String>,
}

/// Field, its negation's flag, help.
const FLAGS: [(Field, &str, &str); 15] = [
    (
        Field::Kind,
        "not-kind",
        "device, job (or testjob), worker, event, attempt, stage, fault, result, or what else a topic ends with",
    ),
    (Field::Topic, "not-topic", "Topic, or its beginning before a '*'"),
    (
        Field::Job,
        "not-job",
        "Job id in any form: 1995, 4000.1, job/1995, its URL",
    ),
    (Field::Device, "not-device", "Device name"),
    (Field::DeviceType, "not-device-type", "Device type"),
    (Field::Worker, "not-worker", "Worker host name"),
    (Field::User, "not-user", "Username of the event"),
    (Field::Submitter, "not-submitter", "Submitter of the job"),
    (Field::State, "not-state", "State, in any case"),
    (Field::Health, "not-health", "Health, in any case"),
    (Field::Message, "not-message", "Message of a test shell, fault or stage"),
    (Field::Service, "not-service", "Service of a stage"),
    (Field::Status, "not-status", "Status of a stage, in any case"),
    (Field::Account, "not-account", "Account of a stage"),
    (Field::Lab, "not-lab", "Lab: the name or endpoint of its --bus"),
];

/// What is wrong with a pattern, in one line: a regular expression's own error has several.
fn fault(text: &str, error: &PatternError) -> String {
    let expression = text.strip_prefix('~').unwrap_or(text);
    let (kind, span) = match (error, regex_syntax::parse(expression)) {
        (PatternError::Regex { .. }, Err(regex_syntax::Error::Parse(fault))) => {
            (fault.kind().to_string(), *fault.span())
        }
        (PatternError::Regex { .. }, Err(regex_syntax::Error::Translate(fault))) => {
            (fault.kind().to_string(), *fault.span())
        }
        _ => return error.to_string(),
    };
    // The '~' counts too.
    let at = expression.get(..span.start.offset).unwrap_or_default().chars().count() + 2;
    format!("{kind} at character {at} of the regular expression")
}

impl clap::Args for FilterArguments {
    fn augment_args(command: Command) -> Command {
        let mut command = command
            .next_help_heading("Filters (a value or ~REGEX; repeat for alternatives; each has a negation --not-…)");
        for (field, negation, help) in FLAGS {
            for (flag, negated) in [(field.as_str(), false), (negation, true)] {
                let parser = StringValueParser::new().try_map(move |text| match Pattern::parse(field, &text) {
                    Ok(_) => Ok(text),
                    Err(error) => Err(fault(&text, &error)),
                });
                command = command.arg(
                    Arg::new(flag)
                        .long(flag)
                        .value_name("VALUE")
                        .help(help)
                        .action(ArgAction::Append)
                        .hide(negated)
                        .value_parser(parser),
                );
            }
        }
        command
            .arg(
                Arg::new("jq")
                    .long("jq")
                    .value_name("PROGRAM")
                    .help("Keep events for which this jq program gives neither false nor null; it sees them as -o json")
                    .action(ArgAction::Append)
                    .value_parser(jq::parse),
            )
            .next_help_heading(None::<&str>)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for FilterArguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<FilterArguments, clap::Error> {
        let mut arguments = FilterArguments::default();
        arguments.update_from_arg_matches(matches)?;
        Ok(arguments)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.jq
            .extend(matches.get_many::<String>("jq").into_iter().flatten().cloned());
        for (field, negation, _) in FLAGS {
            for (flag, negated) in [(field.as_str(), false), (negation, true)] {
                for text in matches.get_many::<String>(flag).into_iter().flatten() {
                    self.filter
                        .add(field, negated, text)
                        .map_err(|error| clap::Error::raw(clap::error::ErrorKind::ValueValidation, error))?;
                }
            }
        }
        Ok(())
    }
}
