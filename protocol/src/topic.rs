//! The kind of an event is the last part of its topic.

use std::fmt;
use std::str::FromStr;

/// What an event is about, told by the last dot-separated part of its topic.
///
/// The first four are LAVA's, the next four are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A device changed its state or health.
    Device,
    /// A test job changed its state or health.
    Testjob,
    /// A worker changed its state or health.
    Worker,
    /// A message out of a running test shell.
    Event,
    /// One try at a job on a device, ended.
    Attempt,
    /// A service says how far it is with a request.
    Stage,
    /// An error to be kept with the thing that it is about.
    Fault,
    /// One test case's result.
    Result,
    /// A topic that ends in something else.
    Other,
}

impl Kind {
    /// All kinds, in the order of their definition.
    pub const ALL: [Kind; 9] = [
        Kind::Device,
        Kind::Testjob,
        Kind::Worker,
        Kind::Event,
        Kind::Attempt,
        Kind::Stage,
        Kind::Fault,
        Kind::Result,
        Kind::Other,
    ];

    /// The kind of an event with this topic. The prefix may be anything, or missing.
    ///
    /// ```
    /// use lavabus_protocol::Kind;
    /// assert_eq!(Kind::of("org.example.lab.testjob"), Kind::Testjob);
    /// assert_eq!(Kind::of("device"), Kind::Device);
    /// assert_eq!(Kind::of("org.example.lab.Device"), Kind::Other);
    /// ```
    pub fn of(topic: &str) -> Kind {
        match last_part(topic) {
            "device" => Kind::Device,
            "testjob" => Kind::Testjob,
            "worker" => Kind::Worker,
            "event" => Kind::Event,
            "attempt" => Kind::Attempt,
            "stage" => Kind::Stage,
            "fault" => Kind::Fault,
            "result" => Kind::Result,
            _ => Kind::Other,
        }
    }

    /// The kind as a topic ends with it; `other` for [`Kind::Other`].
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Device => "device",
            Kind::Testjob => "testjob",
            Kind::Worker => "worker",
            Kind::Event => "event",
            Kind::Attempt => "attempt",
            Kind::Stage => "stage",
            Kind::Fault => "fault",
            Kind::Result => "result",
            Kind::Other => "other",
        }
    }
}

/// What follows the last dot of a topic; the whole topic if it has none.
pub fn last_part(topic: &str) -> &str {
    match topic.rsplit_once('.') {
        Some((_, last)) => last,
        None => topic,
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text names no kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown kind {found:?}, expected device, testjob (or job), worker, event, attempt, stage, fault, result or other"
)]
pub struct KindError {
    /// What was written.
    pub found: String,
}

/// Any case; `job` is a synonym of `testjob`.
impl FromStr for Kind {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Kind, KindError> {
        if text.eq_ignore_ascii_case("job") {
            return Ok(Kind::Testjob);
        }
        Kind::ALL
            .into_iter()
            .find(|kind| text.eq_ignore_ascii_case(kind.as_str()))
            .ok_or_else(|| KindError { found: text.to_owned() })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_topic_and_by_its_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(&format!("org.example.lab.{kind}")), kind);
            assert_eq!(kind.as_str().to_uppercase().parse(), Ok(kind));
        }
        assert_eq!("job".parse(), Ok(Kind::Testjob));
        assert_eq!("Job".parse(), Ok(Kind::Testjob));
        assert!("jobs".parse::<Kind>().is_err());
    }

    #[test]
    fn odd_topics() {
        assert_eq!(Kind::of(".codehelp.calvin.worker"), Kind::Worker);
        assert_eq!(Kind::of("org.example.job"), Kind::Other);
        for topic in ["", ".", "device.", "device.x", "mydevice"] {
            assert_eq!(Kind::of(topic), Kind::Other, "{topic}");
        }
    }
}
