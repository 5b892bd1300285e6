//! `--explain`: LAVA is asked why jobs failed, and what it says is recorded beside their events.
//!
//! It stands between what is read and what is written and delays neither: questions wait in a bounded queue of their
//! own. The UUIDs of its events follow from those of the jobs' ends, so that what is explained twice is there once.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use lavabus_lava::explain::{Explainer, LOOK_BACK, Pace, Question, Questions, Step};
use lavabus_protocol::Record;
use lavabus_store::{Reader, StoreError};
use tokio::sync::mpsc::{Receiver, Sender};

use super::entry::{Batch, Entry};
use super::report::Report;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::sources;

/// Who asks the LAVA server of the identity.
pub(super) fn explainer(context: &Context) -> Result<Explainer, Failure> {
    let Some(identity) = sources::identity(context)? else {
        return Err(Failure::new(
            Exit::Usage,
            "--explain needs a LAVA server to ask",
            "no identity is named",
            "-i NAME of lavacli.yaml, or LAVABUS_URI and LAVABUS_TOKEN_FILE",
        ));
    };
    Ok(Explainer::new(sources::server(&identity)?, Pace::default()))
}

/// Hands on what was read until there is no more, or until the writer has enough; and what LAVA says, between.
pub(super) async fn explain(
    mut explainer: Explainer,
    path: PathBuf,
    lab: String,
    mut read: Receiver<Batch>,
    write: Sender<Batch>,
    report: Report,
) {
    let questions = explainer.questions();
    let past = questions.clone();
    match tokio::task::spawn_blocking(move || look_back(&path, &past)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => report.notice(format_args!(
            "jobs that failed in the last hour are not looked for: {error}"
        )),
        Err(error) => report.notice(format_args!(
            "jobs that failed in the last hour are not looked for: {error}"
        )),
    }
    loop {
        // Both are cancel-safe: what is not taken stays.
        let batch = tokio::select! {
            batch = read.recv() => match batch {
                Some(batch) => {
                    ask(&batch, &questions);
                    batch
                }
                None => return,
            },
            step = explainer.next() => match step {
                Step::Explained { events, .. } => events.into_iter().map(|record| entry(record, &lab)).collect(),
                Step::Foreign { .. } => continue,
                step => {
                    report.notice(step);
                    continue;
                }
            },
            () = write.closed() => return,
        };
        if write.send(batch).await.is_err() {
            return;
        }
    }
}

fn ask(batch: &Batch, questions: &Questions) {
    for entry in batch {
        if let Entry::Event { record, .. } = entry
            && let Some(question) = Question::of(&record.envelope())
        {
            questions.ask(question);
        }
    }
}

fn entry(mut record: Record, lab: &str) -> Entry {
    record.lab = Some(lab.to_owned()).filter(|lab| !lab.is_empty());
    Entry::Event {
        record,
        received_us: Timestamp::now().as_microsecond(),
        of: None,
    }
}

/// Asks of the jobs that failed in the last hour and that nothing in the database explains.
fn look_back(path: &Path, questions: &Questions) -> Result<(), StoreError> {
    let Ok(reader) = Reader::open(path) else {
        return Ok(());
    };
    let since = Timestamp::now() - LOOK_BACK;
    let from = reader.seq_received_since(since.as_microsecond())?;
    questions.look_back(
        from.saturating_sub(1),
        reader.head()?,
        |after, upto, visit| {
            reader.scan(after, upto, |row| {
                visit(&row.envelope());
                ControlFlow::Continue(())
            })?;
            Ok(())
        },
        |id| Ok(reader.by_id(id)?.is_some()),
    )
}
