//! Our four kinds. They stand in LAVA's five frames, under the topics `.attempt`, `.stage`, `.fault` and `.result`.
//!
//! | kind | required | optional |
//! |---|---|---|
//! | attempt | `device` `job_id` `exit_code` | `detail` `phase` `outcome` `error_type` `started` `finished` |
//! | stage | `service` `request_id` `status` `date` | `source` `account` `inventory_id` `system_id` `message` `job` |
//! | fault | `subject` `message` | `details` `origin` `job` `device` `cleared` |
//! | result | `testcase` `outcome`, or `run` `status` for the end of a run | `run` `item` `type` `note` `url` `job` `device` `data` |
//!
//! As everywhere, a key that is missing or of an unexpected type is `None`. The JSON Schemas in `docs/schemas` say what
//! a sender shall write.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::JobId;
use super::fields::Fields;

/// A fault's message is no longer, in characters.
pub const MAX_MESSAGE: usize = 255;
/// Details and other long texts are no longer, in characters.
pub const MAX_DETAILS: usize = 65_535;

/// A text of at most so many characters, 3 or more: of a longer one its beginning and `...`.
///
/// ```
/// use lavabus_protocol::event::shorten;
///
/// assert_eq!(shorten("no power", 8), "no power");
/// assert_eq!(shorten("no power at all", 8), "no po...");
/// ```
pub fn shorten(text: &str, characters: usize) -> Cow<'_, str> {
    if text.len() <= characters || text.char_indices().nth(characters).is_none() {
        return text.into();
    }
    let kept = text.chars().take(characters.saturating_sub(3));
    Cow::Owned(kept.chain("...".chars()).collect())
}

/// One try at something on a device, ended. Appended, never replaced.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attempt {
    /// On which device.
    pub device: Option<String>,
    /// For which job; `job_id` on the wire, `job` is taken too.
    pub job: Option<JobId>,
    /// 0 is success.
    pub exit_code: Option<i64>,
    /// The error's text.
    pub detail: Option<String>,
    /// Which part of the job, such as `provision`; the whole job if it is not said.
    pub phase: Option<String>,
    /// `pass`, `fail` or `neutral`, where the exit code is not all there is to say.
    pub outcome: Option<String>,
    /// LAVA's class of the error, such as `Infrastructure`.
    pub error_type: Option<String>,
    /// ISO 8601.
    pub started: Option<String>,
    /// ISO 8601.
    pub finished: Option<String>,
}

/// A service says how far it is with a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// Which service.
    pub service: Option<String>,
    /// Which request.
    pub request: Option<String>,
    /// `received`, then `success` or `error`; any other only informs.
    pub status: Option<String>,
    /// When, by the service's clock: ISO 8601.
    pub date: Option<String>,
    /// Which part of the service.
    pub source: Option<String>,
    /// Whose request.
    pub account: Option<String>,
    /// An id of the thing that the request is about.
    pub inventory: Option<String>,
    /// Another one.
    pub system: Option<String>,
    /// Why, or what; `message` or `status_msg` on the wire.
    pub message: Option<String>,
    /// The job behind it.
    pub job: Option<JobId>,
}

/// An error that is kept with the thing that it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// What it is about: `device/NAME`, `worker/NAME`, `job/ID`, or any other name.
    pub subject: Option<String>,
    /// One line, [`MAX_MESSAGE`] characters at most.
    pub message: Option<String>,
    /// More, for administrators.
    pub details: Option<String>,
    /// Who noticed it.
    pub origin: Option<String>,
    /// In which job.
    pub job: Option<JobId>,
    /// On which device.
    pub device: Option<String>,
    /// True: the fault with this message is over; without a message, all of this subject are.
    pub cleared: Option<bool>,
}

/// What one test case found; or, without a test case, how a run of them ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TestResult {
    /// Which test case.
    pub testcase: Option<String>,
    /// See [`outcome::ALL`].
    pub outcome: Option<String>,
    /// In which run.
    pub run: Option<String>,
    /// What was tested.
    pub item: Option<String>,
    /// What kind of thing that is.
    pub item_type: Option<String>,
    /// One line.
    pub note: Option<String>,
    /// Where to read more.
    pub url: Option<String>,
    /// In which job.
    pub job: Option<JobId>,
    /// On which device.
    pub device: Option<String>,
    /// Whether the run was executed to its end: `complete`, `incomplete` or `aborted`. It says nothing of what it found.
    pub status: Option<String>,
    /// Free keys and values.
    pub data: Map<String, Value>,
}

impl Attempt {
    pub(super) fn read(fields: &Fields<'_>) -> Attempt {
        Attempt {
            device: fields.text("device"),
            job: fields.job("job_id").or_else(|| fields.job("job")),
            exit_code: fields.integer("exit_code"),
            detail: fields.text("detail"),
            phase: fields.text("phase"),
            outcome: fields.text("outcome"),
            error_type: fields.text("error_type"),
            started: fields.text("started"),
            finished: fields.text("finished"),
        }
    }
}

impl Stage {
    pub(super) fn read(fields: &Fields<'_>) -> Stage {
        Stage {
            service: fields.text("service"),
            request: fields.text("request_id"),
            status: fields.text("status"),
            date: fields.text("date"),
            source: fields.text("source"),
            account: fields.text("account"),
            inventory: fields.text("inventory_id"),
            system: fields.text("system_id"),
            message: fields.text("message").or_else(|| fields.text("status_msg")),
            job: fields.job("job"),
        }
    }
}

impl Fault {
    pub(super) fn read(fields: &Fields<'_>) -> Fault {
        Fault {
            subject: fields.text("subject"),
            message: fields.text("message"),
            details: fields.text("details"),
            origin: fields.text("origin"),
            job: fields.job("job"),
            device: fields.text("device"),
            cleared: fields.bool("cleared"),
        }
    }

    /// The device that it is about: named as such, or the subject `device/NAME`.
    pub fn on_device(&self) -> Option<&str> {
        let subject = self
            .subject
            .as_deref()
            .and_then(|subject| subject.strip_prefix("device/"));
        self.device.as_deref().or(subject).filter(|name| !name.is_empty())
    }
}

impl TestResult {
    pub(super) fn read(fields: &Fields<'_>) -> TestResult {
        TestResult {
            testcase: fields.text("testcase"),
            outcome: fields.text("outcome"),
            run: fields.text("run"),
            item: fields.text("item"),
            item_type: fields.text("type"),
            note: fields.text("note"),
            url: fields.text("url"),
            job: fields.job("job"),
            device: fields.text("device"),
            status: fields.text("status"),
            data: fields.object("data").unwrap_or_default(),
        }
    }
}

/// What a test case found.
pub mod outcome {
    /// All went well.
    pub const PASSED: &str = "PASSED";
    /// Nothing is wrong, but somebody may want to know.
    pub const INFO: &str = "INFO";
    /// Something is wrong.
    pub const FAILED: &str = "FAILED";
    /// Nobody but a person can tell.
    pub const NEEDS_INSPECTION: &str = "NEEDS_INSPECTION";
    /// The test itself broke off before its end.
    pub const ABORTED: &str = "ABORTED";
    /// The test itself failed to run.
    pub const CRASHED: &str = "CRASHED";
    /// From the best to the worst; of several, the worst one counts.
    pub const ALL: [&str; 6] = [PASSED, INFO, NEEDS_INSPECTION, FAILED, ABORTED, CRASHED];

    /// The place of an outcome among [`ALL`], in any case; an unknown one is as bad as [`NEEDS_INSPECTION`].
    ///
    /// ```
    /// use lavabus_protocol::event::outcome;
    ///
    /// assert!(outcome::badness("failed") > outcome::badness("INFO"));
    /// assert_eq!(outcome::badness("odd"), outcome::badness(outcome::NEEDS_INSPECTION));
    /// ```
    pub fn badness(outcome: &str) -> usize {
        let place = |wanted: &str| ALL.iter().position(|known| known.eq_ignore_ascii_case(wanted));
        place(outcome).or_else(|| place(NEEDS_INSPECTION)).unwrap_or(0)
    }
}

/// LAVA's classes of errors (`lava_common/exceptions.py`), and whom they tell against.
pub mod error_type {
    /// Against the device and what is around it.
    pub const AGAINST_DEVICE: [&str; 3] = ["Infrastructure", "Configuration", "Bug"];
    /// Against the job and its test: nothing is said of the device.
    pub const NEUTRAL: [&str; 3] = ["Job", "Test", "Canceled"];

    /// Whether an error of this class says nothing of the device; `None` if the class is unknown.
    pub fn is_neutral(error_type: &str) -> Option<bool> {
        let among = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(error_type));
        match (among(&NEUTRAL), among(&AGAINST_DEVICE)) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn characters_are_counted_not_bytes() {
        let longest = "é".repeat(MAX_MESSAGE);
        assert_eq!(shorten(&longest, MAX_MESSAGE), longest);
        let shortened = shorten(&format!("{longest}x"), MAX_MESSAGE).into_owned();
        assert_eq!(shortened, format!("{}...", "é".repeat(252)));
    }

    proptest! {
        #[test]
        fn any_text_is_kept_or_shortened(text in "\\PC{0,40}", characters in 3..40_usize) {
            let shortened = shorten(&text, characters);
            if text.chars().count() <= characters {
                prop_assert_eq!(shortened, &*text);
            } else {
                prop_assert_eq!(shortened.chars().count(), characters);
                prop_assert!(text.starts_with(shortened.strip_suffix("...").unwrap_or("?")));
            }
        }
    }
}
