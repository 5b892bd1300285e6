//! `lavabus emit tap`: the tests of a TAP document as results.
//!
//! Whether the run was executed to its end is apart from what it found: the first is a result of its own, without a test
//! case, the second stands in each test's result.

mod block;
mod diagnostics;
mod document;
mod line;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

use lavabus_protocol::event::outcome;
use lavabus_protocol::{Kind, Record};

use self::document::{Document, Status};
use super::events::make;
use super::own::Origin;
use super::{Emission, Sending};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::own_data::ResultData;

/// A document is no larger, in bytes.
const MAX_DOCUMENT: u64 = 16 * 1024 * 1024;
/// So many warnings are said.
const WARNINGS: usize = 50;

/// The tests of a TAP document as results.
#[derive(Clone, Debug, clap::Args)]
pub struct TapArguments {
    /// The document, TAP 13 or 14, at most 16 MiB; '-': standard input
    #[arg(default_value = "-")]
    pub file: PathBuf,
    /// End with 14 when a test failed or the run did not come to its end
    #[arg(long)]
    pub fail: bool,
    /// What was tested, where a test does not say it
    #[arg(long, value_name = "NAME")]
    pub item: Option<String>,
    /// What kind of thing that is, where a test does not say it
    #[arg(long = "type", value_name = "TYPE")]
    pub item_type: Option<String>,
    /// Of which run, job and device.
    #[command(flatten)]
    pub origin: Origin,
}

impl TapArguments {
    /// Reads all, sends all, says what is in it.
    pub(super) async fn run(&self, sending: &Sending, context: &Context) -> Result<Exit, Failure> {
        let name = match self.file.as_os_str() == "-" {
            true => "standard input".to_owned(),
            false => self.file.display().to_string(),
        };
        let path = self.file.clone();
        let text = tokio::task::spawn_blocking(move || text_of(&path));
        let text = text.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let text = text.map_err(|error| {
            let what = format!("cannot read {name}");
            Failure::new(Exit::Usage, what, error, "`lavabus emit tap FILE` with a TAP document")
        })?;
        let (document, records) = self.read(&text, sending)?;
        self.warn(&document, &name, context);

        let mut emission = Emission::connect(sending, context).await?;
        for record in &records {
            emission.send(record).await?;
        }
        emission.confirm().await?;

        context.notice(summary(&document));
        let bad = outcome::badness(outcome::FAILED);
        let has_failed = document
            .results
            .iter()
            .any(|result| outcome::badness(result.outcome) >= bad);
        match self.fail && (has_failed || document.status != Status::Complete) {
            true => Ok(Exit::TestsFailed),
            false => Ok(Exit::Success),
        }
    }

    /// The document, and what is to be sent of it.
    pub(super) fn read(&self, text: &str, sending: &Sending) -> Result<(Document, Vec<Record>), Failure> {
        let document = document::read(text);
        let records = self.records(&document, sending)?;
        Ok((document, records))
    }

    fn records(&self, document: &Document, sending: &Sending) -> Result<Vec<Record>, Failure> {
        let url = self.origin.url();
        let common = || ResultData {
            run: self.origin.run.as_deref(),
            url: url.as_deref(),
            job: self.origin.job(),
            device: self.origin.device.as_deref(),
            ..ResultData::default()
        };
        let tests = document.results.iter().map(|result| ResultData {
            testcase: Some(&result.name),
            outcome: Some(result.outcome),
            item: result.item.as_deref().or(self.item.as_deref()),
            item_type: result.item_type.as_deref().or(self.item_type.as_deref()),
            note: result.note.as_deref(),
            data: result.data.clone(),
            ..common()
        });
        let end = self.origin.run.as_ref().map(|_| ResultData {
            status: Some(document.status.as_str()),
            note: document.note.as_deref(),
            ..common()
        });
        let all = tests.chain(end);
        all.map(|data| make(Kind::Result.as_str(), &data, sending)).collect()
    }

    fn warn(&self, document: &Document, name: &str, context: &Context) {
        for warning in document.warnings.iter().take(WARNINGS) {
            match warning.line {
                0 => context.notice(format_args!("{name}: {}", warning.text)),
                line => context.notice(format_args!("{name}:{line}: {}", warning.text)),
            }
        }
        if let Some(more @ 1..) = document.warnings.len().checked_sub(WARNINGS) {
            context.notice(format_args!("{name}: {more} more warnings"));
        }
    }
}

/// The whole text; what is no UTF-8 becomes U+FFFD.
fn text_of(path: &std::path::Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    let read = match path.as_os_str() == "-" {
        true => io::stdin().take(MAX_DOCUMENT + 1).read_to_end(&mut bytes)?,
        false => File::open(path)?.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes)?,
    };
    if read as u64 > MAX_DOCUMENT {
        return Err(io::Error::other("it is larger than 16 MiB"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `3 PASSED, 1 INFO, 2 FAILED; the run is complete`
fn summary(document: &Document) -> String {
    let count = |wanted: &str| {
        document
            .results
            .iter()
            .filter(|result| result.outcome == wanted)
            .count()
    };
    let counts: Vec<String> = outcome::ALL
        .iter()
        .map(|outcome| (count(outcome), outcome))
        .filter(|(count, _)| *count > 0)
        .map(|(count, outcome)| format!("{count} {outcome}"))
        .collect();
    let counts = if counts.is_empty() {
        "no tests".to_owned()
    } else {
        counts.join(", ")
    };
    let note = document.note.as_ref().map(|note| format!(": {note}"));
    let status = document.status.as_str();
    format!("{counts}; the run is {status}{}", note.unwrap_or_default())
}
