//! What a clause looks for.

use regex::{Regex, RegexBuilder};

use super::{Field, canonical_kind, ignores_case};
use crate::event::JobId;

/// Memory that one compiled regular expression may take, in bytes. Some come from strangers, by HTTP.
const REGEX_LIMIT: usize = 256 << 10;

/// The value of a field, or a rule for it.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// This value.
    Exact(String),
    /// This value, in any case (ASCII).
    AnyCase(String),
    /// Any value that begins so; for topics only.
    Prefix(String),
    /// Any value in which this is found, not anchored.
    Regex(Regex),
}

impl Pattern {
    /// Reads a pattern for this field: `~REGEX`, or a value.
    ///
    /// A value is compared as a whole. Kinds, states, healths and statuses are in any case, by regular expression too;
    /// `job` means the kind `testjob`; a job may be in any of its written forms; a topic that ends in `*` is a
    /// beginning. A value that begins with `~` itself can be looked for with a regular expression: `~^~`.
    ///
    /// # Errors
    ///
    /// [`PatternError`] says why it could never match, or not be read.
    pub fn parse(field: Field, text: &str) -> Result<Pattern, PatternError> {
        if let Some(expression) = text.strip_prefix('~') {
            return RegexBuilder::new(expression)
                .case_insensitive(ignores_case(field))
                .size_limit(REGEX_LIMIT)
                .dfa_size_limit(REGEX_LIMIT)
                .build()
                .map(Pattern::Regex)
                .map_err(|cause| PatternError::Regex {
                    field,
                    cause: Box::new(cause),
                });
        }
        match field {
            Field::Kind => Ok(Pattern::AnyCase(canonical_kind(text).to_owned())),
            Field::Job => match JobId::parse(text) {
                Some(id) => Ok(Pattern::Exact(id.to_string())),
                None => Err(PatternError::NoJob { found: text.to_owned() }),
            },
            // Sent as a subscription, it would set an option.
            Field::Topic if text.starts_with('@') => Err(PatternError::ReservedTopic { found: text.to_owned() }),
            Field::Topic => match text.strip_suffix('*') {
                Some(prefix) => Ok(Pattern::Prefix(prefix.to_owned())),
                None => Ok(Pattern::Exact(text.to_owned())),
            },
            _ if ignores_case(field) => Ok(Pattern::AnyCase(text.to_owned())),
            _ => Ok(Pattern::Exact(text.to_owned())),
        }
    }

    /// Whether this value is looked for.
    pub fn matches(&self, value: &str) -> bool {
        match self {
            Pattern::Exact(text) => value == text,
            Pattern::AnyCase(text) => value.eq_ignore_ascii_case(text),
            Pattern::Prefix(prefix) => value.starts_with(prefix.as_str()),
            Pattern::Regex(regex) => regex.is_match(value),
        }
    }

    /// What every value that matches begins with; empty where that is not known.
    pub(super) fn literal_prefix(&self) -> &str {
        match self {
            Pattern::Exact(text) | Pattern::Prefix(text) => text,
            Pattern::AnyCase(_) | Pattern::Regex(_) => "",
        }
    }
}

/// Why a text is no pattern.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PatternError {
    /// The regular expression cannot be read, or is too large.
    #[error("regular expression for {field}: {cause}")]
    Regex {
        /// For which field.
        field: Field,
        /// What is wrong with it; may have several lines.
        cause: Box<regex::Error>,
    },
    /// No job has such an id.
    #[error("{found:?} is no job id, expected a number such as 1995, a sub id such as 7.0, or the job's URL")]
    NoJob {
        /// What was written.
        found: String,
    },
    /// No event has such a topic.
    #[error("{found:?} is no topic: none begins with '@'")]
    ReservedTopic {
        /// What was written.
        found: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_match_is_refused() {
        assert!(matches!(
            Pattern::parse(Field::Device, "~["),
            Err(PatternError::Regex {
                field: Field::Device,
                ..
            })
        ));
        assert!(matches!(
            Pattern::parse(Field::User, "~(\\w{100}){100}"),
            Err(PatternError::Regex { .. })
        ));
        assert!(matches!(
            Pattern::parse(Field::Job, "/"),
            Err(PatternError::NoJob { .. })
        ));
        assert!(matches!(
            Pattern::parse(Field::Topic, "@seq"),
            Err(PatternError::ReservedTopic { .. })
        ));
    }
}
