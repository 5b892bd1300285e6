//! What `lavabus status` says, as a value, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::PathBuf;

use jiff::Timestamp;
use lavabus_store::{Gap, Retention, Status};
use serde::{Deserialize, Serialize, Serializer};

use crate::database::Writer;

/// JSON lists so many gaps at most, the newest; text lists [`GAPS_IN_TEXT`].
const GAPS: usize = 100;
const GAPS_IN_TEXT: usize = 5;

/// Everything about a publisher and its journal. The keys of the JSON are public.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    database: PathBuf,
    epoch: String,
    created: String,
    publisher: &'static str,
    pub(super) bus: Vec<BusReport>,
    events: Events,
    size: Size,
    retention: RetentionReport,
    projection: Projection,
    rejected: Rejected,
    gaps: Gaps,
}

/// Whether a publish endpoint answers.
#[derive(Debug, Serialize)]
pub(super) struct BusReport {
    pub(super) endpoint: String,
    pub(super) answers: bool,
    /// Why not.
    pub(super) error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Events {
    kept: u64,
    oldest: Option<Numbered>,
    newest: Option<Numbered>,
}

#[derive(Debug, Serialize)]
struct Numbered {
    seq: u64,
    received: Option<Micros>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Size {
    used_bytes: u64,
    file_bytes: u64,
    log_bytes: u64,
}

/// The database does not tell what its publisher was started with.
#[derive(Debug, Serialize)]
struct RetentionReport {
    default_max_age_seconds: Option<u64>,
    default_max_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Projection {
    entities: u64,
    read_to: u64,
    behind: u64,
}

#[derive(Debug, Serialize)]
struct Rejected {
    kept: u64,
    reasons: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct Gaps {
    known: u64,
    newest: Vec<GapReport>,
}

#[derive(Debug, Serialize)]
struct GapReport {
    after_seq: u64,
    from: Micros,
    to: Micros,
    missing: Option<u64>,
    reason: String,
}

impl Report {
    pub(super) fn new(
        database: PathBuf,
        writer: Writer,
        status: &Status,
        retention: Retention,
        reasons: BTreeMap<String, u64>,
        gaps: Vec<Gap>,
    ) -> Report {
        let numbered = |seq, received: Option<i64>| Numbered {
            seq,
            received: received.map(Micros),
        };
        let skipped = gaps.len().saturating_sub(GAPS);
        Report {
            database,
            epoch: status.epoch.to_string(),
            created: status.created.clone(),
            publisher: match writer {
                Writer::Running => "running",
                Writer::Absent => "not running",
                Writer::Unknown => "unknown",
            },
            bus: Vec::new(),
            events: Events {
                kept: status.events,
                oldest: status.oldest.map(|seq| numbered(seq, status.oldest_received_us)),
                newest: (status.head > 0).then(|| numbered(status.head, status.newest_received_us)),
            },
            size: Size {
                used_bytes: status.used_bytes,
                file_bytes: status.file_bytes,
                log_bytes: status.log_bytes,
            },
            retention: RetentionReport {
                default_max_age_seconds: retention.max_age.map(|age| age.as_secs()),
                default_max_bytes: retention.max_bytes,
            },
            projection: Projection {
                entities: status.entities,
                read_to: status.projected,
                behind: status.head.saturating_sub(status.projected),
            },
            rejected: Rejected {
                kept: status.rejected,
                reasons,
            },
            gaps: Gaps {
                known: status.gaps,
                newest: gaps.into_iter().skip(skipped).map(GapReport::from).collect(),
            },
        }
    }

    /// What differs from run to run becomes fixed.
    #[cfg(test)]
    pub(super) fn settle(mut self) -> Report {
        assert_eq!(self.epoch.len(), 8);
        self.database = "/var/lib/lava-publisher/events.db".into();
        self.epoch = "4f2a90c1".to_owned();
        self.created = "2026-11-21T05:00:00Z".to_owned();
        self.size = Size {
            used_bytes: 40 << 10,
            file_bytes: 60 << 10,
            log_bytes: 4 << 20,
        };
        self
    }

    pub(super) fn to_json_line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("strings and numbers are always written");
        line.push('\n');
        line
    }
}

impl From<Gap> for GapReport {
    fn from(gap: Gap) -> GapReport {
        GapReport {
            after_seq: gap.after_seq,
            from: Micros(gap.from_us),
            to: Micros(gap.to_us),
            missing: gap.count,
            reason: gap.reason,
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "database    {}", self.database.display())?;
        writeln!(f, "            epoch {}, made {}", self.epoch, self.created)?;
        writeln!(f, "publisher   {}", self.publisher)?;
        for bus in &self.bus {
            match &bus.error {
                None => writeln!(f, "bus         {} answers", bus.endpoint)?,
                Some(error) => writeln!(f, "bus         {} does not answer: {error}", bus.endpoint)?,
            }
        }
        writeln!(f, "events      {} kept", self.events.kept)?;
        for (name, event) in [("oldest", &self.events.oldest), ("newest", &self.events.newest)] {
            if let Some(Numbered { seq, received }) = event {
                write!(f, "            {name} {seq}")?;
                match received {
                    Some(received) => writeln!(f, ", received {received}")?,
                    None => writeln!(f)?,
                }
            }
        }
        writeln!(f, "size        {}", self.size)?;
        let RetentionReport {
            default_max_age_seconds: age,
            default_max_bytes: bytes,
        } = self.retention;
        writeln!(f, "retention   by default {}", Limits(age, bytes))?;
        writeln!(
            f,
            "projection  {} objects, {} events behind",
            self.projection.entities, self.projection.behind
        )?;
        write!(f, "rejected    {} kept", self.rejected.kept)?;
        let mut reasons: Vec<_> = self.rejected.reasons.iter().collect();
        reasons.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), *reason));
        for (index, (reason, count)) in reasons.iter().enumerate() {
            write!(f, "{} {count} {reason}", if index == 0 { ":" } else { "," })?;
        }
        writeln!(f)?;
        writeln!(f, "gaps        {}", self.gaps.known)?;
        for gap in self.gaps.newest.iter().rev().take(GAPS_IN_TEXT) {
            let GapReport {
                after_seq,
                from,
                to,
                missing,
                reason,
            } = gap;
            match missing {
                Some(missing) => write!(f, "            {missing} events")?,
                None => write!(f, "            unknown number")?,
            }
            writeln!(f, " after {after_seq}, {from} to {to}: {reason}")?;
        }
        Ok(())
    }
}

/// Microseconds since 1970, written as RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Micros(pub(crate) i64);

impl Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_microsecond(self.0) {
            Ok(at) => at.fmt(f),
            Err(_) => write!(f, "@{}us", self.0),
        }
    }
}

impl Serialize for Micros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [used, file, log] = [self.used_bytes, self.file_bytes, self.log_bytes].map(Bytes);
        write!(f, "{used} used, file {file}, log {log}")
    }
}

/// How long events are kept: seconds and bytes.
pub(super) struct Limits(pub(super) Option<u64>, pub(super) Option<u64>);

impl Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let age = self.0.map(|seconds| match seconds % 86_400 {
            0 => format!("{} days", seconds / 86_400),
            _ => format!("{} hours", seconds / 3_600),
        });
        match (age, self.1.map(Bytes)) {
            (Some(age), Some(bytes)) => write!(f, "{age} or {bytes}, whichever is first"),
            (Some(age), None) => write!(f, "{age}"),
            (None, Some(bytes)) => write!(f, "{bytes}"),
            (None, None) => write!(f, "without limit"),
        }
    }
}

/// A number of bytes for people: 1.5 MiB.
struct Bytes(u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut size = self.0 as f64;
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        for unit in ["KiB", "MiB", "GiB"] {
            size /= 1024.0;
            if size < 1023.95 {
                return write!(f, "{size:.1} {unit}");
            }
        }
        write!(f, "{:.1} TiB", size / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        let text = |bytes| Bytes(bytes).to_string();
        assert_eq!(text(0), "0 B");
        assert_eq!(text(1023), "1023 B");
        assert_eq!(text(1536), "1.5 KiB");
        assert_eq!(text(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(text(4 << 30), "4.0 GiB");
        assert_eq!(text(3 << 40), "3.0 TiB");
    }

    #[test]
    fn times_out_of_range_are_said_as_numbers() {
        assert_eq!(Micros(1_795_237_265_222_338).to_string(), "2026-11-21T05:01:05.222338Z");
        assert_eq!(Micros(i64::MAX).to_string(), "@9223372036854775807us");
    }
}
