//! From an answer to the events that go out. Pure: the same question and answer make the same bytes.

use lavabus_protocol::event::{MAX_DETAILS, MAX_MESSAGE, error_type, shorten};
use lavabus_protocol::redact::redact;
use lavabus_protocol::{EventId, Kind, Record};
use serde_json::{Map, Value};

use super::question::Question;
use crate::answer::Explanation;

/// The fourth frame of our events.
const USER: &str = "lavabus";
/// Who noticed the fault.
const ORIGIN: &str = "explain";
/// So many bytes of a text are looked at.
const LOOKED_AT: usize = 1 << 18;

/// What the detail says where no text does.
const NOTHING_WRITTEN: &str = "cause unknown: LAVA wrote none down";
const NOT_VISIBLE: &str = "cause unknown: the job is deleted, or not visible to the account that asks";

impl Question {
    /// The events that answer it: `.attempt` first, if a device is known, then `.fault`, if LAVA gave a reason.
    /// `None`: LAVA shows no such job.
    ///
    /// An error of a class that tells against the device is a fault of the device; any other is one of the job. The
    /// attempt of a job whose error is of a neutral class is neutral; with any other class, or none, it is a fail.
    pub fn answered(&self, explanation: Option<&Explanation>) -> Vec<Record> {
        let failure = explanation.map(|explanation| &explanation.failure);
        let texts = failure.map(|failure| [&failure.error_msg, &failure.failure_comment]);
        let texts = texts.into_iter().flatten().flatten();
        let looked_at = |text: &str| text.floor_char_boundary(LOOKED_AT);
        let texts: Vec<String> = texts.map(|text| redact(text[..looked_at(text)].trim())).collect();
        let message = texts.iter().map(|text| one_line(text)).find(|text| !text.is_empty());
        let class = failure.and_then(|failure| failure.error_type.as_deref());
        let class = class.map(one_line).filter(|class| !class.is_empty());
        let is_neutral = class.as_deref().and_then(error_type::is_neutral);
        let of_rest = explanation.and_then(|explanation| explanation.device.as_ref());
        let device = self.device.as_ref().or(of_rest);

        let mut events = Vec::new();
        if let Some(device) = device {
            let unknown = if explanation.is_some() {
                NOTHING_WRITTEN
            } else {
                NOT_VISIBLE
            };
            let time = |own: &Option<String>, told: fn(&Explanation) -> &Option<String>| {
                own.clone().or_else(|| explanation.and_then(|it| told(it).clone()))
            };
            let mut data = Map::new();
            data.insert("device".into(), device.as_str().into());
            data.insert("job_id".into(), self.job_number());
            data.insert("exit_code".into(), 1.into());
            put(&mut data, "detail", Some(message.as_deref().unwrap_or(unknown)));
            let outcome = if is_neutral == Some(true) { "neutral" } else { "fail" };
            put(&mut data, "outcome", Some(outcome));
            put(&mut data, "error_type", class.as_deref());
            put(
                &mut data,
                "started",
                time(&self.started, |told| &told.start_time).as_deref(),
            );
            put(
                &mut data,
                "finished",
                time(&self.finished, |told| &told.end_time).as_deref(),
            );
            events.push(self.record(Kind::Attempt, self.attempt_id(), data));
        }
        if let Some(message) = message {
            let against = device.filter(|_| is_neutral == Some(false));
            let subject = match against {
                Some(device) => format!("device/{device}"),
                None => format!("job/{}", self.job),
            };
            let all = texts.join("\n\n");
            let all = shorten(&all, MAX_DETAILS);
            let mut data = Map::new();
            put(&mut data, "subject", Some(&subject));
            put(&mut data, "message", Some(&message));
            // Only what the message does not say.
            put(&mut data, "details", Some(&*all).filter(|all| *all != message));
            put(&mut data, "origin", Some(ORIGIN));
            data.insert("job".into(), self.job_number());
            put(&mut data, "device", device.map(String::as_str));
            events.push(self.record(Kind::Fault, self.fault_id(), data));
        }
        events
    }

    /// As LAVA writes it: a number.
    fn job_number(&self) -> Value {
        match self.job.parse::<u64>() {
            Ok(number) => number.into(),
            Err(_) => self.job.as_str().into(),
        }
    }

    fn record(&self, kind: Kind, uuid: EventId, data: Map<String, Value>) -> Record {
        Record {
            topic: format!("{}{kind}", self.prefix),
            uuid,
            datetime: self.datetime.clone(),
            username: USER.to_owned(),
            data: Value::Object(data).to_string(),
            cursor: None,
            lab: None,
        }
    }
}

fn put(data: &mut Map<String, Value>, key: &str, text: Option<&str>) {
    if let Some(text) = text {
        data.insert(key.to_owned(), text.into());
    }
}

/// White space collapsed, [`MAX_MESSAGE`] characters at most.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    shorten(&line, MAX_MESSAGE).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::answer::Failure;
    use lavabus_protocol::Envelope;
    use proptest::prelude::*;

    fn question(device: &str) -> Question {
        let data = format!(
            r#"{{"health": "Incomplete", "state": "Finished", "job": 1995{device}, "end_time": "2026-11-21T05:01:05+00:00"}}"#
        );
        Question::of(&Envelope {
            topic: "org.lab.testjob",
            uuid: EventId::NIL,
            datetime: "2026-11-21T05:01:06+00:00",
            username: "ada",
            data: &data,
        })
        .unwrap()
    }

    fn on_qemu() -> Question {
        question(r#", "device": "qemu-01""#)
    }

    fn explanation(class: &str, message: &str) -> Explanation {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Explanation {
            state: "Finished".to_owned(),
            device: some("qemu-07"),
            submit_time: None,
            start_time: some("2026-11-21T05:00:00Z"),
            end_time: None,
            failure: Failure {
                error_type: some(class),
                error_msg: some(message),
                failure_comment: None,
            },
        }
    }

    fn data(records: &[Record]) -> Vec<(&str, Value)> {
        let read = |record: &Record| serde_json::from_str(&record.data).unwrap();
        let kind = |record: &Record| Kind::of(&record.topic).as_str();
        records.iter().map(|record| (kind(record), read(record))).collect()
    }

    #[test]
    fn an_error_of_the_device() {
        let records = on_qemu().answered(Some(&explanation("Infrastructure", "no power")));
        assert_eq!(
            records[0].data,
            r#"{"detail":"no power","device":"qemu-01","error_type":"Infrastructure","exit_code":1,"finished":"2026-11-21T05:01:05+00:00","job_id":1995,"outcome":"fail","started":"2026-11-21T05:00:00Z"}"#
        );
        assert_eq!(
            records[1].data,
            r#"{"device":"qemu-01","job":1995,"message":"no power","origin":"explain","subject":"device/qemu-01"}"#
        );
        for (record, topic) in records.iter().zip(["org.lab.attempt", "org.lab.fault"]) {
            assert_eq!(
                (&*record.topic, &*record.datetime, &*record.username),
                (topic, "2026-11-21T05:01:06+00:00", "lavabus")
            );
        }
        assert_eq!(
            records,
            on_qemu().answered(Some(&explanation("Infrastructure", "no power")))
        );
    }

    #[test]
    fn whom_an_error_tells_against() {
        for (class, outcome, subject) in [
            ("Infrastructure", "fail", "device/qemu-01"),
            ("Configuration", "fail", "device/qemu-01"),
            ("Bug", "fail", "device/qemu-01"),
            ("Job", "neutral", "job/1995"),
            ("Test", "neutral", "job/1995"),
            ("Canceled", "neutral", "job/1995"),
            ("Unknown", "fail", "job/1995"),
            ("LAVATimeout", "fail", "job/1995"),
            ("", "fail", "job/1995"),
        ] {
            let records = on_qemu().answered(Some(&explanation(class, "m")));
            let data = data(&records);
            assert_eq!(data[0].1["outcome"], outcome, "{class}");
            assert_eq!(data[1].1["subject"], subject, "{class}");
            assert_eq!(data[0].1.get("error_type").is_some(), !class.is_empty());
        }
    }

    #[test]
    fn an_unknown_cause_is_said_to_be_one() {
        for (answer, detail) in [
            (None, NOT_VISIBLE),
            (Some(explanation("", "")), NOTHING_WRITTEN),
            (Some(explanation("Job", " \n")), NOTHING_WRITTEN),
        ] {
            let records = on_qemu().answered(answer.as_ref());
            let data = data(&records);
            assert_eq!((data.len(), data[0].0), (1, "attempt"));
            assert_eq!(data[0].1["detail"], detail);
        }
    }

    #[test]
    fn without_a_device_there_is_no_attempt() {
        let told = explanation("Infrastructure", "no device");
        let nowhere = Explanation {
            device: None,
            ..told.clone()
        };
        let records = question("").answered(Some(&nowhere));
        assert_eq!(data(&records)[0].1["subject"], "job/1995");
        assert_eq!(records.len(), 1);
        assert_eq!(question("").answered(None), []);
        // LAVA may know it though the event did not.
        let records = question("").answered(Some(&told));
        assert_eq!(data(&records)[1].1["subject"], "device/qemu-07");
    }

    #[test]
    fn texts_are_redacted_first_and_then_cut() {
        let long = format!("{} password=hunter2\n{}", "é".repeat(235), "x".repeat(70_000));
        let mut told = explanation("Bug", &long);
        told.failure.failure_comment = Some("see https://ada:s3cret@lab/".to_owned());
        let records = on_qemu().answered(Some(&told));
        let fault = &data(&records)[1].1;
        let message = fault["message"].as_str().unwrap();
        assert_eq!(message.chars().count(), 255);
        assert!(message.ends_with("password=… xxxxx..."), "{message}");
        let details = fault["details"].as_str().unwrap();
        assert!(
            details.chars().count() == MAX_DETAILS && details.ends_with("x...") && details.contains("password=…\nxx")
        );
        assert!(!records[0].data.contains("hunter2") && !records[1].data.contains("hunter2"));

        told.failure.error_msg = None;
        let records = on_qemu().answered(Some(&told));
        assert_eq!(data(&records)[1].1["message"], "see https://ada:…@lab/");
        told.failure.error_msg = Some("a\nb".to_owned());
        let records = on_qemu().answered(Some(&told));
        assert_eq!(data(&records)[1].1["details"], "a\nb\n\nsee https://ada:…@lab/");
    }

    proptest! {
        #[test]
        fn any_answer_makes_events_of_the_form(class in "\\PC{0,10}", message in "(\\PC|\n){0,400}", comment in "(\\PC|\n){0,300}") {
            let mut told = explanation(&class, &message);
            told.failure.failure_comment = Some(comment);
            for record in on_qemu().answered(Some(&told)) {
                let mut uuid = [0; 36];
                prop_assert_eq!(Envelope::check(record.envelope().frames(&mut uuid)), Ok(record.envelope()));
                if let lavabus_protocol::event::Body::Fault(fault) = record.event().body() {
                    let message = fault.message.as_deref().unwrap();
                    prop_assert!(message.chars().count() <= 255 && !message.contains('\n'));
                }
            }
        }
    }
}
