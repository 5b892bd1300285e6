//! The fifth frame as LAVA writes it: its keys and their order.

use serde::Serialize;

/// A job in a device's event: the database id, or the sub id of a multinode job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(untagged)]
pub(super) enum DeviceJob {
    Id(u64),
    SubId(String),
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(super) struct DeviceData<'a> {
    pub(super) health: &'a str,
    pub(super) state: &'a str,
    pub(super) device: &'a str,
    pub(super) device_type: &'a str,
    pub(super) worker: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<DeviceJob>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(super) struct JobData<'a> {
    pub(super) health: &'a str,
    pub(super) state: &'a str,
    pub(super) job: u64,
    #[cfg_attr(test, serde(borrow))]
    pub(super) description: std::borrow::Cow<'a, str>,
    pub(super) priority: u8,
    pub(super) submit_time: &'a str,
    pub(super) submitter: &'a str,
    pub(super) health_check: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sub_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) device: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) worker: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) device_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) start_time: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) end_time: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(super) struct WorkerData<'a> {
    pub(super) hostname: &'a str,
    pub(super) health: &'a str,
    pub(super) state: &'a str,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(super) struct MessageData<'a> {
    #[cfg_attr(test, serde(borrow))]
    pub(super) message: std::borrow::Cow<'a, str>,
    pub(super) job: u64,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::python_json::to_text as write;
    use lavabus_protocol::{Kind, Record};

    #[test]
    fn what_a_real_server_sent_is_written_byte_for_byte() {
        let capture = include_str!("../../../tests/data/lava-capture.jsonl");
        let mut counted = 0;
        for line in capture.lines() {
            let record = Record::from_json_line(line).unwrap();
            let data = record.data.as_str();
            let written = match Kind::of(&record.topic) {
                Kind::Device => write(&serde_json::from_str::<DeviceData<'_>>(data).unwrap()),
                Kind::Testjob => write(&serde_json::from_str::<JobData<'_>>(data).unwrap()),
                Kind::Worker => write(&serde_json::from_str::<WorkerData<'_>>(data).unwrap()),
                Kind::Event => write(&serde_json::from_str::<MessageData<'_>>(data).unwrap()),
                other => panic!("{other}"),
            };
            assert_eq!(written, data);
            counted += 1;
        }
        assert_eq!(counted, 208);
    }

    #[test]
    fn what_the_capture_does_not_have() {
        let device = DeviceData {
            health: "Retired",
            state: "Idle",
            device: "d",
            device_type: "t",
            worker: None,
            job: None,
        };
        assert_eq!(
            write(&device),
            r#"{"health": "Retired", "state": "Idle", "device": "d", "device_type": "t", "worker": null}"#
        );
        let beyond_16_bits = MessageData {
            message: "🦀\n".into(),
            job: 1,
        };
        assert_eq!(write(&beyond_16_bits), r#"{"message": "\ud83e\udd80\n", "job": 1}"#);
    }
}
