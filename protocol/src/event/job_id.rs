//! A job's id in its written forms.

use std::fmt;

/// A job's id as text, whichever way it was written.
///
/// LAVA writes one job's id in four ways: `1995`, `"1995"`, `"4000.1"` (the sub id of a multinode job) and
/// `http://…/scheduler/job/1995`. People add `job/1995`. All are read to the same text, and compared as text.
///
/// ```
/// use lavabus_protocol::event::JobId;
///
/// let id = JobId::parse("1995");
/// assert_eq!(JobId::parse("https://lava.example.org/scheduler/job/1995/"), id);
/// assert_eq!(JobId::parse("job/1995"), id);
/// assert_ne!(JobId::parse("1995.0"), id);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(String);

impl JobId {
    /// Reads an id in any of its forms; `None` if nothing is left of it.
    ///
    /// Of a path, it is what follows the first part `job` or `testjob`, or else the last part.
    pub fn parse(text: &str) -> Option<JobId> {
        let path = match text.find(['?', '#']) {
            Some(end) => &text[..end],
            None => text,
        };
        let mut parts = path.split('/').map(str::trim).filter(|part| !part.is_empty());
        let mut last = None;
        while let Some(part) = parts.next() {
            last = Some(part);
            if matches!(part, "job" | "testjob")
                && let Some(id) = parts.next()
            {
                last = Some(id);
                break;
            }
        }
        last.map(|id| JobId(id.to_owned()))
    }

    /// The id's text. Never empty.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Option<String> {
        JobId::parse(text).map(|id| id.to_string())
    }

    #[test]
    fn all_written_forms_are_one() {
        for text in [
            "1995",
            " 1995\n",
            "job / 1995 ?",
            "job/1995",
            "testjob/1995",
            "/job/1995/",
            "http://lava/scheduler/job/1995",
            "http://lava/scheduler/job/1995/",
            "https://lava:8000/sub/scheduler/job/1995/definition",
            "https://lava/scheduler/job/1995#results",
            "https://lava/scheduler/job/1995?tab=log",
            "http://lava/scheduler/1995",
        ] {
            assert_eq!(read(text).as_deref(), Some("1995"), "{text}");
        }
        assert_eq!(read("4000.1").as_deref(), Some("4000.1"));
        assert_eq!(read("https://lava/scheduler/job/4000.1").as_deref(), Some("4000.1"));
    }

    #[test]
    fn nothing_is_no_id() {
        for text in ["", " ", "/", "//", "#1", "?"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn reading_twice_is_reading_once(text in "\\PC{0,30}") {
            if let Some(id) = JobId::parse(&text) {
                prop_assert!(!id.as_str().is_empty());
                prop_assert_eq!(JobId::parse(id.as_str()), Some(id));
            }
        }
    }
}
