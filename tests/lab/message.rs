//! Messages as they are pushed and received: captured ones, and made ones of LAVA's shape.

use std::fmt;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use lavabus_protocol::EventId;
use lavabus_store::EventRow;

/// LAVA's `EVENT_TOPIC` in the capture and in all made events.
const PREFIX: &str = "org.example.lab";
/// The node of made UUIDs.
const NODE: [u8; 6] = [2, 0xfc, 0, 0, 0, 7];

/// The frames of one message.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Message(pub Vec<Vec<u8>>);

/// The 208 messages of a real LAVA server, in their order.
pub fn captured() -> Vec<Message> {
    include_str!("../data/lava-capture.jsonl")
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let frames = line["frames"].as_array().unwrap().iter();
            Message(
                frames
                    .map(|frame| frame.as_str().unwrap().as_bytes().to_vec())
                    .collect(),
            )
        })
        .collect()
}

/// A UUID of that time, as LAVA would make it.
pub fn version_1(time: Timestamp) -> EventId {
    // Tells events of one tick apart.
    static COUNTER: AtomicU16 = AtomicU16::new(0);
    let counter = COUNTER.fetch_add(1, Ordering::Relaxed) & 0x3fff;
    let seconds = u64::try_from(time.as_second()).unwrap();
    let nanoseconds = u32::try_from(time.subsec_nanosecond()).unwrap();
    let time = uuid::Timestamp::from_unix_time(seconds, nanoseconds, u128::from(counter), 14);
    uuid::Uuid::new_v1(time, &NODE).into()
}

impl Message {
    /// Any frames.
    pub fn new<F: AsRef<[u8]>>(frames: &[F]) -> Message {
        Message(frames.iter().map(|frame| frame.as_ref().to_vec()).collect())
    }

    /// Five frames of a kind such as `testjob`, sent at that time.
    pub fn sent_at(time: Timestamp, kind: &str, data: &serde_json::Value) -> Message {
        let sent = lavabus_client::datetime_text(time);
        Message::new(&[
            format!("{PREFIX}.{kind}"),
            version_1(time).to_string(),
            sent,
            "lavaserver".to_owned(),
            data.to_string(),
        ])
    }

    /// A test-shell event of now with that number in its data.
    pub fn test_event(number: u64) -> Message {
        Message::test_event_before(number, Duration::ZERO)
    }

    /// A test-shell event as [`test_event`](Self::test_event), as long ago as said.
    pub fn test_event_before(number: u64, ago: Duration) -> Message {
        let data = serde_json::json!({"message": format!("step {number}"), "job": 1995, "number": number});
        Message::sent_at(Timestamp::now() - ago, "event", &data)
    }

    /// A job's event of now.
    pub fn job(id: u64, state: &str, health: &str) -> Message {
        let data = serde_json::json!({
            "health": health, "state": state, "job": id, "description": "boot", "priority": 50,
            "submit_time": "2026-11-21T05:01:05.217961+00:00", "submitter": "admin", "health_check": false,
        });
        Message::sent_at(Timestamp::now(), "testjob", &data)
    }

    /// A device's event of now.
    pub fn device(name: &str, state: &str) -> Message {
        let data = serde_json::json!({
            "health": "Good", "state": state, "device": name, "device_type": "qemu", "worker": "worker-01",
        });
        Message::sent_at(Timestamp::now(), "device", &data)
    }

    /// A worker's event of now.
    pub fn worker(hostname: &str, state: &str) -> Message {
        let data = serde_json::json!({"hostname": hostname, "health": "Active", "state": state});
        Message::sent_at(Timestamp::now(), "worker", &data)
    }

    /// The same under another topic.
    pub fn with_topic(mut self, topic: &str) -> Message {
        self.0[0] = topic.into();
        self
    }

    /// A frame as text.
    pub fn text(&self, frame: usize) -> &str {
        std::str::from_utf8(&self.0[frame]).expect("a frame of UTF-8")
    }

    /// The first frame.
    pub fn topic(&self) -> &str {
        self.text(0)
    }

    /// The UUID's text.
    pub fn uuid(&self) -> &str {
        self.text(1)
    }

    /// The number of a test event.
    pub fn number(&self) -> u64 {
        let data: serde_json::Value = serde_json::from_slice(&self.0[4]).unwrap();
        data["number"].as_u64().expect("a numbered test event")
    }

    /// A message about the stream, not an event.
    pub fn is_control(&self) -> bool {
        self.0[0].first() == Some(&b'@')
    }

    /// The five frames without the number behind them.
    pub fn without_position(mut self) -> Message {
        self.0.truncate(5);
        self
    }

    /// The epoch and number that `@seq` adds.
    pub fn position(&self) -> lavabus_protocol::Position {
        self.text(5).parse().expect("a sixth frame with a position")
    }
}

impl From<&EventRow<'_>> for Message {
    fn from(row: &EventRow<'_>) -> Message {
        Message::new(&[row.topic, &row.id.to_string(), row.sent, row.user, row.data])
    }
}

/// Failed assertions shall be readable.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frames = self.0.iter().map(|frame| String::from_utf8_lossy(frame));
        f.debug_list().entries(frames).finish()
    }
}
