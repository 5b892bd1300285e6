//! Which jobs need an explanation, and how the events of one are named.

use jiff::{SignedDuration, Timestamp};
use lavabus_protocol::event::{Body, health, read_datetime};
use lavabus_protocol::{Envelope, Event, EventId, Kind};
use uuid::Uuid;

use crate::answer::Explanation;

/// Texts of a job's event that are longer are nobody's names: such an event is passed over, so that a full queue is
/// some MiB at most.
const LONGEST: usize = 1024;

/// Of what the UUIDs are hashed; never to be changed, or jobs are explained a second time.
const NAMESPACE: Uuid = Uuid::from_u128(0x6c61_7661_6275_5365_8578_706c_6169_6e31);

/// A job that ended Incomplete, as its event tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The job's number in the database.
    pub job: String,
    /// The device that it ran on, if it had one.
    pub device: Option<String>,
    /// When it was submitted.
    pub submitted: Option<Timestamp>,
    /// When it began to run: ISO 8601.
    pub started: Option<String>,
    /// When it ended: ISO 8601.
    pub finished: Option<String>,
    /// The topic of its event without the kind: `org.example.lab.`, with the dot.
    pub prefix: String,
    /// The third frame of its event.
    pub datetime: String,
    /// When it ended as far as anybody told, for the UUIDs.
    ended: Timestamp,
}

impl Question {
    /// The question that an event raises. `None`: it does not say that a job ended Incomplete, or names no job that
    /// could be asked for, or has names of more than 1,024 bytes.
    pub fn of(event: &Envelope<'_>) -> Option<Question> {
        // Nearly all events end here, before their data is read. LAVA writes the word in this case only.
        if Kind::of(event.topic) != Kind::Testjob || !event.data.contains(health::INCOMPLETE) {
            return None;
        }
        let read = Event::from(event);
        if !read.is_finished() || read.health() != Some(health::INCOMPLETE) {
            return None;
        }
        let Body::Job(job) = read.body() else { return None };
        let id = job.job.as_ref()?.as_str();
        let texts = [&job.device, &job.start_time, &job.end_time];
        let mut lengths = texts.into_iter().flatten().map(String::len);
        let is_id = id.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if !is_id || id.len().max(event.datetime.len()) > LONGEST || lengths.any(|length| length > LONGEST) {
            return None;
        }
        // The end is told by every event of the job, the event's own time only by one.
        let ended = job.end_time.as_deref().and_then(read_datetime);
        let ended = ended.or_else(|| read_datetime(event.datetime));
        Some(Question {
            job: id.to_owned(),
            device: job.device.clone().filter(|name| !name.is_empty()),
            submitted: job.submit_time.as_deref().and_then(read_datetime),
            started: job.start_time.clone(),
            finished: job.end_time.clone(),
            prefix: event.topic.strip_suffix(Kind::Testjob.as_str())?.to_owned(),
            datetime: event.datetime.to_owned(),
            ended: ended.or_else(|| event.uuid.time()).unwrap_or_default(),
        })
    }

    /// Whether LAVA tells of this job. Another lab's events may pass here too: its jobs have the same numbers, but were
    /// submitted at other times. A time that is not told says nothing.
    pub fn is_about(&self, told: &Explanation) -> bool {
        let there = told.submit_time.as_deref().and_then(read_datetime);
        match (self.submitted, there) {
            // XML-RPC tells whole seconds.
            (Some(here), Some(there)) => here.duration_since(there).abs() < SignedDuration::from_secs(1),
            _ => true,
        }
    }

    /// The UUID of the `.attempt` event that answers this. Who has an event of this UUID need not ask.
    pub fn attempt_id(&self) -> EventId {
        self.id(Kind::Attempt)
    }

    /// The UUID of the `.fault` event that answers this.
    pub fn fault_id(&self) -> EventId {
        self.id(Kind::Fault)
    }

    /// The same for the same job always. Laid out as version 1 (RFC 9562 section 5.1): the time is the job's end, so that
    /// it lies in an index beside its job's events; clock sequence and node are a hash of lab, job and kind.
    fn id(&self, kind: Kind) -> EventId {
        let name = format!("{}\0{}\0{kind}", self.prefix, self.job);
        let hash = *Uuid::new_v5(&NAMESPACE, name.as_bytes()).as_bytes();
        let mut rest = [0; 8];
        rest.copy_from_slice(&hash[8..]);
        // The variant stands there already; a node that is no network card's has this bit.
        rest[2] |= 1;
        let microseconds = self.ended.as_microsecond().saturating_mul(10);
        let ticks = microseconds.saturating_add(GREGORIAN_TO_UNIX).max(0).cast_unsigned();
        let [a, b, c, d, e, f, g, h] = ticks.to_be_bytes();
        let [i, j, k, l, m, n, o, p] = rest;
        EventId([e, f, g, h, c, d, (a & 0x0f) | 0x10, b, i, j, k, l, m, n, o, p])
    }
}

/// 100 ns intervals between 1582-10-15, where a version 1 time begins, and 1970-01-01.
const GREGORIAN_TO_UNIX: i64 = 0x01B2_1DD2_1381_4000;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DATA: &str = r#"{"health": "Incomplete", "state": "Finished", "job": 1995, "device": "qemu-01",
        "start_time": "2026-11-21T05:00:00+00:00", "end_time": "2026-11-21T05:01:05.217939+00:00"}"#;

    fn event<'a>(topic: &'a str, datetime: &'a str, data: &'a str) -> Envelope<'a> {
        Envelope {
            topic,
            uuid: EventId::parse(b"8e503fbe-e568-11f1-8b37-02fc00000001").unwrap(),
            datetime,
            username: "ada",
            data,
        }
    }

    fn question(topic: &str, datetime: &str, data: &str) -> Option<Question> {
        Question::of(&event(topic, datetime, data))
    }

    #[test]
    fn a_job_that_ended_incomplete() {
        let question = question("org.lab.testjob", "2026-11-21T05:01:06+00:00", DATA).unwrap();
        assert_eq!(
            (question.job.as_str(), question.device.as_deref()),
            ("1995", Some("qemu-01"))
        );
        assert_eq!(
            (question.prefix.as_str(), question.datetime.as_str()),
            ("org.lab.", "2026-11-21T05:01:06+00:00")
        );
        // As it is in every database that has explained this job.
        assert_eq!(
            question.attempt_id().to_string(),
            "8e503fbe-e568-11f1-a46d-a131df368619"
        );
        assert_eq!(
            question.attempt_id().time(),
            Some("2026-11-21T05:01:05.217939Z".parse().unwrap())
        );
        assert_ne!(question.attempt_id(), question.fault_id());
    }

    #[test]
    fn everything_else_raises_no_question() {
        for (topic, data) in [
            ("org.lab.testjob", &*DATA.replace("Incomplete", "Complete")),
            ("org.lab.testjob", &DATA.replace("Finished", "Running")),
            ("org.lab.testjob", &DATA.replace("1995", "\"../users\"")),
            ("org.lab.testjob", &DATA.replace("\"job\": 1995,", "")),
            ("org.lab.testjob", &DATA.replace("qemu-01", &"x".repeat(1025))),
            (
                "org.lab.testjob",
                r#"{"description": "Incomplete", "health": "Canceled", "state": "Finished", "job": 1}"#,
            ),
            ("org.lab.testjob", "[]"),
            ("org.lab.device", DATA),
            ("org.lab.Testjob", DATA),
        ] {
            assert_eq!(question(topic, "", data), None, "{topic} {data}");
        }
    }

    #[test]
    fn a_repeat_of_the_event_is_the_same_question() {
        let first = question("lab.testjob", "2026-11-21T05:01:06+00:00", DATA).unwrap();
        let repeat = question("lab.testjob", "2026-11-21T05:09:00+00:00", DATA).unwrap();
        assert_eq!(first.attempt_id(), repeat.attempt_id());
        for (topic, data) in [
            ("lab2.testjob", DATA),
            ("lab.testjob", &DATA.replace("1995", "1996")),
            ("lab.testjob", &DATA.replace("05.21", "05.22")),
        ] {
            let other = question(topic, "", data).unwrap();
            assert_ne!(other.attempt_id(), first.attempt_id(), "{topic} {data}");
        }
    }

    #[test]
    fn another_labs_job_of_the_same_number_was_submitted_at_another_time() {
        let data = DATA.replace('{', r#"{"submit_time": "2026-11-21T04:59:00.217961+00:00", "#);
        let question = question("lab.testjob", "", &data).unwrap();
        for (told, expected) in [
            (Some("2026-11-21T04:59:00.217961Z"), true),
            (Some("2026-11-21T04:59:00"), true),
            (Some("2026-11-21T04:59:02Z"), false),
            (Some("soon"), true),
            (None, true),
        ] {
            let told = Explanation {
                submit_time: told.map(str::to_owned),
                ..Explanation::default()
            };
            assert_eq!(question.is_about(&told), expected, "{told:?}");
        }
    }

    #[test]
    fn a_job_of_2018_and_one_without_times() {
        let data = r#"{"status": "Finished", "health": "Incomplete", "job": "http://lava/scheduler/job/1995"}"#;
        let question = question("testjob", "yesterday", data).unwrap();
        assert_eq!((question.job.as_str(), question.prefix.as_str()), ("1995", ""));
        // The event's own UUID tells.
        assert_eq!(
            question.fault_id().time(),
            Some("2026-11-21T05:01:05.217939Z".parse().unwrap())
        );
    }

    proptest! {
        #[test]
        fn any_event_is_taken(topic in "([a-z]{0,6}[.])?testjob", datetime in "\\PC{0,20}", data in "\\PC{0,40}", end in "\\PC{0,20}|[-0-9T:]{0,20}") {
            let _ = question(&topic, &datetime, &data);
            let data = serde_json::json!({"state": "Finished", "health": "Incomplete", "job": 1, "end_time": end});
            let id = question(&topic, &datetime, &data.to_string()).unwrap().attempt_id();
            let text = id.to_string();
            prop_assert_eq!(EventId::parse(text.as_bytes()), Some(id));
            prop_assert_eq!(&text[14..15], "1");
        }
    }
}
