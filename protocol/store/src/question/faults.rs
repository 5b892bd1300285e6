//! What is wrong with what.

use std::cmp::Reverse;

use lavabus_protocol::JobId;

use super::{Answer, Moment, collect, collect_first, is_lab};
use crate::error::StoreError;
use crate::projection::fault::{BY_STATE, Fault};
use crate::reader::Reader;

/// A specific fault that was last seen so much earlier than a generic one is still the more telling of the two. A day,
/// in µs.
const RECENT_US: i64 = 24 * 3_600 * 1_000_000;

/// A message with one of these tells that something is wrong, and little of what.
const GENERIC: [&str; 6] = [
    "timeout",
    "timed out",
    "time out",
    "unknown error",
    "internal error",
    "unexpected error",
];

const OF_SUBJECT: &str = "SELECT * FROM fault WHERE lab = ?1 AND subject = ?2 ORDER BY first_seq";
const NEXT_LAB: &str = "SELECT min(lab) FROM fault WHERE lab >= ?1";
const OPEN: &str = "SELECT * FROM fault WHERE cleared_us IS NULL AND last_us >= ?1 ORDER BY last_us DESC";
const ALL: &str = "SELECT * FROM fault WHERE last_us >= ?1 ORDER BY last_us DESC";

#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[OF_SUBJECT, NEXT_LAB, OPEN, ALL];

/// Which faults are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultQuestion<'a> {
    /// About what: `device/NAME`, `worker/NAME`, `job/ID`, any other subject, or a name that may be any of these.
    pub subject: Option<&'a str>,
    /// In which lab.
    pub lab: Option<&'a str>,
    /// Only those that are not over.
    pub open: bool,
    /// Only those that were seen last at this time or later, in µs since 1970.
    pub since_us: i64,
    /// At most so many, the newest.
    pub limit: usize,
}

/// Faults, those that were seen last first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// At most as many as were asked for.
    pub faults: Vec<Fault>,
    /// Whether there are more.
    pub more: bool,
}

/// How much a fault tells: a state least, a generic message more, a specific one most.
fn weight(fault: &Fault) -> u8 {
    let message = fault.message.to_ascii_lowercase();
    let is_generic = GENERIC.iter().any(|generic| message.contains(generic));
    match (fault.origin.as_deref() == Some(BY_STATE), is_generic) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 2,
    }
}

/// What is wrong now, of the faults of one subject: none that is over; one that tells a cause rather than one that does
/// not, unless it is a day older; of several the one that was seen last.
pub fn current_fault(faults: &[Fault]) -> Option<&Fault> {
    let open = || faults.iter().filter(|fault| fault.cleared_us.is_none());
    let newest_us = open().map(|fault| fault.last_us).max()?;
    let rank = |fault: &&Fault| {
        let is_recent = fault.last_us >= newest_us.saturating_sub(RECENT_US);
        // A state holds until it is over, so it is as recent as anything.
        let weight = weight(fault);
        (is_recent || weight == 0, weight, fault.last_us, fault.first_seq)
    };
    open().max_by_key(rank)
}

/// The subjects that are meant by what somebody wrote.
fn subjects(written: &str) -> Vec<String> {
    let job = |text: &str| JobId::parse(text).map(|id| format!("job/{id}"));
    match written.split_once('/') {
        Some(("job" | "testjob" | "http:" | "https:", _)) => {
            job(written).into_iter().chain([written.to_owned()]).collect()
        }
        Some(_) => vec![written.to_owned()],
        None => {
            let of_kind = ["device", "worker", "job"].map(|kind| format!("{kind}/{written}"));
            of_kind.into_iter().chain([written.to_owned()]).collect()
        }
    }
}

impl Moment<'_> {
    /// The faults of a subject in one lab.
    pub(super) fn faults_of(&self, lab: &str, subject: &str) -> Result<Vec<Fault>, StoreError> {
        let changed = &self.history.faults;
        if let Some(faults) = changed.get(&vec![lab.to_owned(), subject.to_owned()]) {
            return Ok(faults.to_vec());
        }
        Ok(collect(&self.conn, OF_SUBJECT, [lab, subject], changed, |fault| {
            fault.lab == lab && fault.subject == subject
        })?)
    }

    /// Every fault that is not over.
    pub(super) fn open_faults(&self) -> Result<Vec<Fault>, StoreError> {
        let is_open = |fault: &Fault| fault.cleared_us.is_none();
        Ok(collect(&self.conn, OPEN, [i64::MIN], &self.history.faults, is_open)?)
    }
}

impl Reader {
    /// The faults that are asked for. An answer with details is for whoever may read them; that is decided elsewhere.
    pub fn faults(&self, question: &FaultQuestion<'_>) -> Result<Answer<Faults>, StoreError> {
        let moment = self.moment()?;
        let changed = &moment.history.faults;
        let wanted = |fault: &Fault| {
            is_lab(question.lab, &fault.lab)
                && fault.last_us >= question.since_us
                && !(question.open && fault.cleared_us.is_some())
        };
        let mut faults = Vec::new();
        match question.subject {
            Some(written) => {
                let mut labs = moment.labs(NEXT_LAB, question.lab)?;
                labs.extend(changed.iter().filter_map(|(owner, _)| owner.first().cloned()));
                labs.sort();
                labs.dedup();
                let mut subjects = subjects(written);
                subjects.sort();
                subjects.dedup();
                for lab in labs {
                    for subject in &subjects {
                        faults.extend(moment.faults_of(&lab, subject)?);
                    }
                }
                faults.retain(wanted);
            }
            None => {
                let sql = if question.open { OPEN } else { ALL };
                faults = collect_first(
                    question.limit.saturating_add(1),
                    &moment.conn,
                    sql,
                    [question.since_us],
                    changed,
                    wanted,
                )?;
            }
        }
        faults.sort_by_key(|fault| Reverse((fault.last_us, fault.first_seq)));
        let more = faults.len() > question.limit;
        faults.truncate(question.limit);
        Ok(moment.answer(Faults { faults, more }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(message: &str, origin: Option<&str>, last_us: i64, cleared_us: Option<i64>) -> Fault {
        Fault {
            lab: String::new(),
            subject: "device/qemu-01".to_owned(),
            first_seq: last_us.unsigned_abs(),
            touched: 1,
            message: message.to_owned(),
            details: None,
            origin: origin.map(str::to_owned),
            job: None,
            first_us: 0,
            last_us,
            count: 1,
            cleared_us,
        }
    }

    #[test]
    fn what_is_wrong_now() {
        let state = fault("health is Bad", Some(BY_STATE), 5, None);
        let timeout = fault("auto-login-action timed out after 288 seconds", None, 4, None);
        let specific = fault("sd-mux: no such device", None, 3, None);
        let later = fault("pdu does not answer", None, 6, None);
        let over = fault("no power", None, 9, Some(10));
        let message = |faults: &[&Fault]| {
            let faults: Vec<Fault> = faults.iter().map(|fault| (*fault).clone()).collect();
            current_fault(&faults)
                .map(|fault| fault.message.clone())
                .unwrap_or_default()
        };
        assert_eq!(message(&[]), "");
        assert_eq!(message(&[&over]), "");
        assert_eq!(message(&[&over, &state]), "health is Bad");
        assert_eq!(message(&[&timeout, &state]), timeout.message);
        assert_eq!(message(&[&specific, &timeout, &state, &over]), "sd-mux: no such device");
        assert_eq!(message(&[&later, &specific]), "pdu does not answer");
        let much_later = fault("timeout", None, 3 + RECENT_US + 1, None);
        assert_eq!(message(&[&specific, &much_later]), "timeout");
    }

    #[test]
    fn subjects_as_people_write_them() {
        assert_eq!(subjects("device/qemu-01"), ["device/qemu-01"]);
        assert_eq!(
            subjects("qemu-01"),
            ["device/qemu-01", "worker/qemu-01", "job/qemu-01", "qemu-01"]
        );
        assert_eq!(subjects("https://lava/scheduler/job/12")[0], "job/12");
        assert_eq!(subjects("testjob/12")[0], "job/12");
        assert_eq!(subjects("rack/3"), ["rack/3"]);
    }
}
