//! Events of a file or of standard input.

use std::path::Path;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use lavabus_protocol::Record;
use lavabus_protocol::event::read_datetime;
use serde::Deserialize;
use tokio::sync::mpsc::Sender;

use super::Arguments;
use super::entry::{self, Batch, Entry};
use super::report::Report;
use crate::context::Context;
use crate::failure::Failure;
use crate::lines;
use crate::listen::{Selection, sent};

/// A batch holds no more events than these, and about so many bytes.
const EVENTS: usize = 500;
const BYTES: usize = 256 * 1024;

/// Hands on the lines of a file until its end, or until the writer has enough.
pub(super) async fn read(
    path: &Path,
    arguments: &Arguments,
    batches: &Sender<Batch>,
    report: &Report,
    context: &Context,
) -> Result<(), Failure> {
    let selection = Selection::new(&arguments.filter, arguments.since, None)?;
    let mut lines = lines::read(path)?;
    let reading = async {
        let mut batch = Batch::new();
        let mut bytes = 0;
        loop {
            let line = match lines.try_next() {
                Some(line) => line?,
                None => {
                    if !batch.is_empty() {
                        let _ = batches.send(std::mem::take(&mut batch)).await;
                        bytes = 0;
                    }
                    lines.next().await?
                }
            };
            let Some(line) = line else { break };
            match line.record() {
                Ok((record, text)) if selection.wants(&record, context) => {
                    bytes += entry::bytes(&record);
                    batch.push(Entry::Event {
                        received_us: received_us(text, &record, Timestamp::now()),
                        record,
                        of: None,
                    });
                }
                Ok(_) => {}
                Err(error) => {
                    report.counts().passed_over.fetch_add(1, Ordering::Relaxed);
                    report.notice(format_args!("{}:{}: passed over: {error}", lines.name(), line.number));
                }
            }
            if batch.len() >= EVENTS || bytes >= BYTES {
                let _ = batches.send(std::mem::take(&mut batch)).await;
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            let _ = batches.send(batch).await;
        }
        Ok(())
    };
    tokio::select! {
        result = reading => result,
        () = report.keep_up() => Ok(()),
        () = batches.closed() => Ok(()),
    }
}

/// When an event was received, in µs since 1970: as the capture says, else when it was made; never later than now, since no
/// event after it may be earlier.
pub(crate) fn received_us(line: &str, record: &Record, now: Timestamp) -> i64 {
    #[derive(Deserialize)]
    struct Capture {
        recv_time: Option<String>,
    }
    // Only a capture has it, and to read a line twice takes time.
    let capture = match line.contains("\"recv_time\"") {
        true => serde_json::from_str(line).unwrap_or(Capture { recv_time: None }),
        false => Capture { recv_time: None },
    };
    let received = capture.recv_time.as_deref().and_then(read_datetime);
    received
        .or_else(|| sent(record))
        .unwrap_or(now)
        .min(now)
        .as_microsecond()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FRAMES: &str = r#"["lab.worker","8e503fbe-e568-11f1-8b37-02fc00000001","2026-11-21T05:01:05+00:00","lavaserver","{\"hostname\": \"w\"}"]"#;

    fn received(line: &str, now: &str) -> String {
        let record = Record::from_json_line(line).unwrap();
        let at = received_us(line, &record, now.parse().unwrap());
        Timestamp::from_microsecond(at).unwrap().to_string()
    }

    #[test]
    fn a_capture_says_when_it_was_received() {
        let later = "2026-11-22T00:00:00Z";
        let capture = |time: &str| format!(r#"{{"recv_time": {time}, "frames": {FRAMES}}}"#);
        let line = capture("\"2026-11-21T05:01:05.222338+00:00\"");
        assert_eq!(received(&line, later), "2026-11-21T05:01:05.222338Z");
        for other in [FRAMES.to_owned(), capture("7"), capture("null"), capture("\"soon\"")] {
            assert_eq!(received(&other, later), "2026-11-21T05:01:05Z", "{other}");
        }
        assert_eq!(
            received(&line, "2026-11-21T05:01:04Z"),
            "2026-11-21T05:01:04Z",
            "not in the future"
        );
    }
}
