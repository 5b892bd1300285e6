//! What a publisher says of itself at its second port, for people.

use std::fmt::{self, Display};

use lavabus_client::SecondPort;
use serde::Deserialize;
use serde_json::Value;

use super::report::{Limits, Size};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::plain::printable;

/// `GET /api/v1/status`. What is for administrators is missing for others, and what is of the journal where there is none.
#[derive(Debug, Deserialize)]
pub(super) struct PortReport {
    #[serde(skip)]
    base: String,
    version: String,
    ready: bool,
    epoch: String,
    head: u64,
    events: Option<Events>,
    size: Option<Size>,
    retention: Option<Retention>,
    projection: Option<Projection>,
    rejected: Option<u64>,
    gaps: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Events {
    kept: u64,
    oldest: Option<Numbered>,
    newest: Option<Numbered>,
}

#[derive(Debug, Deserialize)]
struct Numbered {
    seq: u64,
    received: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Retention {
    max_age_seconds: Option<u64>,
    max_bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Projection {
    behind: u64,
}

impl PortReport {
    /// # Errors
    ///
    /// [`Failure`] if it is not what a publisher says.
    pub(super) fn read(port: &SecondPort, status: Value) -> Result<PortReport, Failure> {
        let report = serde_json::from_value(status).map_err(|error| {
            Failure::new(
                Exit::NoConnection,
                format!("{} does not answer as a publisher does", port.base()),
                error.to_string(),
                "ask with -o json to see what it says; is it another version?",
            )
        });
        report.map(|report| PortReport {
            base: port.base().to_string(),
            ..report
        })
    }
}

impl Display for PortReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready = if self.ready { "ready" } else { "not ready" };
        writeln!(f, "publisher   {}, {ready}", printable(&self.base))?;
        writeln!(
            f,
            "            version {}, epoch {}",
            printable(&self.version),
            printable(&self.epoch)
        )?;
        match &self.events {
            None => writeln!(f, "events      {} published; no journal", self.head)?,
            Some(events) => {
                writeln!(f, "events      {} kept", events.kept)?;
                for (name, event) in [("oldest", &events.oldest), ("newest", &events.newest)] {
                    if let Some(Numbered { seq, received }) = event {
                        let received = received.as_deref().map(|at| format!(", received {}", printable(at)));
                        writeln!(f, "            {name} {seq}{}", received.unwrap_or_default())?;
                    }
                }
            }
        }
        if let Some(size) = &self.size {
            writeln!(f, "size        {size}")?;
        }
        if let Some(Retention {
            max_age_seconds,
            max_bytes,
        }) = self.retention
        {
            writeln!(f, "retention   {}", Limits(max_age_seconds, max_bytes))?;
        }
        if let Some(Projection { behind }) = self.projection {
            writeln!(f, "projection  {behind} events behind")?;
        }
        for (name, count) in [("rejected", self.rejected), ("gaps", self.gaps)] {
            if let Some(count) = count {
                writeln!(f, "{name:12}{count}")?;
            }
        }
        Ok(())
    }
}
