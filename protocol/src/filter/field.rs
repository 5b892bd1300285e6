//! What a clause can look at.

use std::fmt;
use std::str::FromStr;

/// A field of an event, named as the command line's flag for it.
///
/// In the order in which they are looked at: those before `Job` are known without reading the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// The topic's last part; `job` means `testjob`. Any case.
    Kind,
    /// The whole topic, or its beginning before a `*` at the end.
    Topic,
    /// The username frame.
    User,
    /// The lab from which it came.
    Lab,
    /// The job that it mentions, in any written form, by number or sub id.
    Job,
    /// Name of the device that it mentions.
    Device,
    /// Type of that device.
    DeviceType,
    /// Host name of the worker that it mentions.
    Worker,
    /// Who submitted the job.
    Submitter,
    /// State of what it is about. Any case.
    State,
    /// Health of what it is about. Any case.
    Health,
    /// What a test shell, a fault or a stage says.
    Message,
    /// The service of a stage.
    Service,
    /// The status of a stage. Any case.
    Status,
    /// The account of a stage.
    Account,
}

impl Field {
    /// All of them, in order.
    pub const ALL: [Field; 15] = [
        Field::Kind,
        Field::Topic,
        Field::User,
        Field::Lab,
        Field::Job,
        Field::Device,
        Field::DeviceType,
        Field::Worker,
        Field::Submitter,
        Field::State,
        Field::Health,
        Field::Message,
        Field::Service,
        Field::Status,
        Field::Account,
    ];

    /// The name, as in `--device-type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Field::Kind => "kind",
            Field::Topic => "topic",
            Field::User => "user",
            Field::Lab => "lab",
            Field::Job => "job",
            Field::Device => "device",
            Field::DeviceType => "device-type",
            Field::Worker => "worker",
            Field::Submitter => "submitter",
            Field::State => "state",
            Field::Health => "health",
            Field::Message => "message",
            Field::Service => "service",
            Field::Status => "status",
            Field::Account => "account",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text names no field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown field {found:?}, expected one of {}", Field::ALL.map(Field::as_str).join(", "))]
pub struct FieldError {
    /// What was written.
    pub found: String,
}

impl FromStr for Field {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Field, FieldError> {
        Field::ALL
            .into_iter()
            .find(|field| field.as_str() == text)
            .ok_or_else(|| FieldError { found: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_stand_in_order() {
        for field in Field::ALL {
            assert_eq!(field.as_str().parse(), Ok(field));
        }
        assert!(Field::ALL.is_sorted());
        assert!("Kind".parse::<Field>().is_err());
    }
}
