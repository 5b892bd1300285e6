//! One submission: sent once, its answer awaited even through a signal, never repeated blindly.

use std::io::Write as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use lavabus_lava::{Server, ServerError, SubmitError, locate};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

use super::adopt::{self, Adoption};
use super::definition::Definition;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::wait::{PatienceArguments, inquiry};

/// A submission that did not go out is tried again after this time, and then after longer.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// When a signal ends the command: so long for an answer that is on its way, and for cancelling.
const FAREWELL: Duration = Duration::from_secs(10);

/// What was submitted so far. Shared with the farewell, which must know of it when the command is cut short.
#[derive(Debug)]
pub(super) struct Submitted {
    server: Server,
    cancels_on_signal: bool,
    /// Jobs that may still have to be cancelled.
    open: Mutex<Vec<String>>,
    ids: Mutex<Vec<String>>,
    /// Submissions that are on their way.
    on_their_way: TaskTracker,
}

impl Submitted {
    pub(super) fn new(server: Server, cancels_on_signal: bool) -> Submitted {
        Submitted {
            server,
            cancels_on_signal,
            open: Mutex::default(),
            ids: Mutex::default(),
            on_their_way: TaskTracker::new(),
        }
    }

    /// All ids, in the order of their submission.
    pub(super) fn ids(&self) -> Vec<String> {
        lock(&self.ids).clone()
    }

    /// Prints the ids and keeps them.
    fn add(&self, ids: &[String]) -> std::io::Result<()> {
        lock(&self.open).extend_from_slice(ids);
        lock(&self.ids).extend_from_slice(ids);
        let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush())
    }

    /// These need not be cancelled any more.
    pub(super) fn forget<'i>(&self, ids: impl Iterator<Item = &'i String>) {
        let ids: Vec<&String> = ids.collect();
        lock(&self.open).retain(|open| !ids.contains(&open));
    }

    /// Waits for answers that are on their way: their ids are printed, whatever else has ended the command.
    pub(super) async fn settle(&self) {
        self.on_their_way.close();
        if timeout(FAREWELL, self.on_their_way.wait()).await.is_err() {
            eprintln!(
                "lavabus: a submission was not answered: look for the job on {}",
                self.server.uri()
            );
        }
    }

    /// Cancels these jobs on LAVA, and says so.
    pub(super) async fn cancel(&self, ids: &[String], context: &Context) {
        for id in ids {
            match timeout(FAREWELL, self.server.cancel(id)).await {
                Ok(Ok(())) => context.notice(format_args!("job {id} is cancelled")),
                Ok(Err(error)) => eprintln!("lavabus: job {id} could not be cancelled: {error}"),
                Err(_) => eprintln!("lavabus: job {id} could not be cancelled: no answer"),
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is behind it is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is still to be done when a signal has ended the command.
pub(super) fn farewell(submitted: Arc<Submitted>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        submitted.settle().await;
        let open = lock(&submitted.open).clone();
        if submitted.cancels_on_signal {
            submitted.cancel(&open, &Context::default()).await;
        } else if !open.is_empty() {
            eprintln!(
                "lavabus: not cancelled: job {} goes on (--cancel-on signal would end it)",
                open.join(", ")
            );
        }
    })
}

/// Submits one definition and prints its ids.
pub(super) async fn submit(
    definition: &Definition,
    submitted: &Arc<Submitted>,
    patience: &PatienceArguments,
    context: &Context,
) -> Result<(), Failure> {
    let began = Instant::now();
    let mut retry = FIRST_RETRY;
    loop {
        let sent_at = Timestamp::now();
        let error = match send(definition, submitted).await? {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let server = &submitted.server;
        match error {
            SubmitError::NotSent(error) if error.is_temporary() && began.elapsed() < patience.connect_timeout => {
                context.notice(format_args!("not submitted yet, trying again: {error}"));
                sleep(retry).await;
                retry = (retry * 2).min(LAST_RETRY);
            }
            SubmitError::NotSent(error) => return Err(inquiry::failure(server, &error)),
            SubmitError::AnswerLost { cause } => {
                context.notice(format_args!(
                    "the answer to the submission was lost ({cause}): looking whether the job is there"
                ));
                let ids = match adopt::look(server, &definition.text, sent_at, &submitted.ids()).await {
                    Adoption::One(id) => vec![id],
                    Adoption::None(why) => return Err(lost(definition, &cause, &why)),
                    Adoption::Many(ids) => {
                        let why = format!("it may be one of these: {}", ids.join(", "));
                        return Err(lost(definition, &cause, &why));
                    }
                };
                context.notice(format_args!("job {} is it", ids.join(", ")));
                return submitted.add(&ids).map_err(|error| Failure::output(&error));
            }
            error => return Err(refused(definition, server, error)),
        }
    }
}

/// In a task of its own: a signal that ends the command does not end it.
async fn send(definition: &Definition, submitted: &Arc<Submitted>) -> Result<Result<(), SubmitError>, Failure> {
    let text = definition.text.clone();
    let shared = submitted.clone();
    let sending = submitted.on_their_way.spawn(async move {
        let ids = match shared.server.submit(&text).await {
            Ok(ids) => ids,
            Err(error) => return Ok(Err(error)),
        };
        shared.add(&ids).map(Ok)
    });
    match sending.await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Failure::output(&error)),
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

fn lost(definition: &Definition, cause: &str, why: &str) -> Failure {
    Failure::new(
        Exit::NoConnection,
        format!("it is not known whether {} was submitted", definition.name),
        format!("{cause}; {why}"),
        "the list of your jobs on the server, before you submit it again",
    )
}

fn refused(definition: &Definition, server: &Server, error: SubmitError) -> Failure {
    match error {
        SubmitError::Rejected { message } => {
            let place = match locate(&definition.text, &message) {
                Some(place) => {
                    let column = place.column.map(|column| format!(":{column}")).unwrap_or_default();
                    let key = place.key.map(|key| format!(" at {key}")).unwrap_or_default();
                    format!("{}:{}{column}{key}", definition.name, place.line)
                }
                None => definition.name.clone(),
            };
            Failure::new(
                Exit::SubmissionRefused,
                format!("{} refuses {place}", server.uri()),
                message,
                "the definition; LAVA's documentation has the keys of a job",
            )
        }
        SubmitError::Refused { status, message } => inquiry::failure(server, &ServerError::Refused { status, message }),
        SubmitError::Unexpected { status, excerpt } => {
            inquiry::failure(server, &ServerError::Unexpected { status, excerpt })
        }
        SubmitError::NotSent(error) => inquiry::failure(server, &error),
        SubmitError::AnswerLost { cause } => lost(definition, &cause, "it was not looked for"),
    }
}
