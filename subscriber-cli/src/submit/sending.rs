//! One submission: sent once, its answer awaited even through a signal, never repeated blindly.

use std::io::Write as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lavabus_lava::{Server, ServerError, SubmitError, locate};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

use super::adopt::{self, Adoption};
use super::definition::Definition;
use crate::context::{Context, say};
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
    is_unprinted: AtomicBool,
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
            is_unprinted: AtomicBool::new(false),
            on_their_way: TaskTracker::new(),
        }
    }

    /// All ids, in the order of their submission.
    pub(super) fn ids(&self) -> Vec<String> {
        lock(&self.ids).clone()
    }

    /// Keeps the ids and prints them; where standard output cannot be written, they are said on standard error.
    fn add(&self, ids: &[String]) {
        lock(&self.open).extend_from_slice(ids);
        lock(&self.ids).extend_from_slice(ids);
        let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
        let mut stdout = std::io::stdout().lock();
        if let Err(error) = stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush()) {
            self.is_unprinted.store(true, Ordering::Relaxed);
            let ids = ids.join(", ");
            say(format_args!(
                "lavabus: submitted job {ids}; standard output cannot be written: {error}"
            ));
        }
    }

    /// Whether all ids could be printed.
    pub(super) fn is_printed(&self) -> bool {
        !self.is_unprinted.load(Ordering::Relaxed)
    }

    /// One definition of several was not submitted: the jobs of those before it go on.
    pub(super) fn name_others(&self, context: &Context) {
        let ids = self.ids();
        if !ids.is_empty() {
            context.notice(format_args!(
                "submitted before, and not cancelled: job {}",
                ids.join(", ")
            ));
        }
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
            say(format_args!(
                "lavabus: a submission was not answered: look for the job on {}",
                self.server.uri()
            ));
        }
    }

    /// Cancels these jobs on LAVA, and says so.
    pub(super) async fn cancel(&self, ids: &[String], context: &Context) {
        for id in ids {
            match timeout(FAREWELL, self.server.cancel(id)).await {
                Ok(Ok(())) => context.notice(format_args!("job {id} is cancelled")),
                Ok(Err(error)) => say(format_args!("lavabus: job {id} could not be cancelled: {error}")),
                Err(_) => say(format_args!("lavabus: job {id} could not be cancelled: no answer")),
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
            say(format_args!(
                "lavabus: not cancelled: job {} goes on (--cancel-on signal would end it)",
                open.join(", ")
            ));
        }
    })
}

/// Submits one definition and prints its ids, in a task of its own: a signal that ends the command does not end it.
pub(super) async fn submit(
    definition: &Definition,
    submitted: &Arc<Submitted>,
    patience: &PatienceArguments,
    context: &Context,
) -> Result<(), Failure> {
    let sending = Sending {
        definition: definition.clone(),
        submitted: submitted.clone(),
        connect_timeout: patience.connect_timeout,
        context: context.clone(),
    };
    match submitted.on_their_way.spawn(sending.run()).await {
        Ok(done) => done,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

struct Sending {
    definition: Definition,
    submitted: Arc<Submitted>,
    connect_timeout: Duration,
    context: Context,
}

impl Sending {
    async fn run(self) -> Result<(), Failure> {
        let (server, definition) = (&self.submitted.server, &self.definition);
        let began = Instant::now();
        let before = adopt::Before::look(server).await;
        let mut retry = FIRST_RETRY;
        loop {
            let error = match server.submit(&definition.text).await {
                Ok(ids) => {
                    self.submitted.add(&ids);
                    return Ok(());
                }
                Err(error) => error,
            };
            match error {
                // A signal has ended the command: nothing new is begun.
                SubmitError::NotSent(error)
                    if error.is_temporary()
                        && began.elapsed() < self.connect_timeout
                        && !self.submitted.on_their_way.is_closed() =>
                {
                    self.context
                        .notice(format_args!("not submitted yet, trying again: {error}"));
                    sleep(retry).await;
                    retry = (retry * 2).min(LAST_RETRY);
                }
                SubmitError::NotSent(error) => return Err(inquiry::failure(server, &error)),
                SubmitError::AnswerLost { cause } => {
                    let ids = self.look_for(&cause, &before).await?;
                    self.context.notice(format_args!("job {} is it", ids.join(", ")));
                    self.submitted.add(&ids);
                    return Ok(());
                }
                error => return Err(refused(definition, server, error)),
            }
        }
    }

    async fn look_for(&self, cause: &str, before: &adopt::Before) -> Result<Vec<String>, Failure> {
        self.context.notice(format_args!(
            "the answer to the submission was lost ({cause}): looking whether the job is there"
        ));
        let known = self.submitted.ids();
        match adopt::look(&self.submitted.server, &self.definition.text, before, &known).await {
            Adoption::One(ids) => Ok(ids),
            Adoption::None => Err(Failure::new(
                Exit::NoConnection,
                format!("{} seems not to be submitted", self.definition.name),
                format!("{cause}; and no job of yours with this definition came to be there"),
                "submit it again",
            )),
            Adoption::Unknown(why) => Err(lost(&self.definition, cause, &why)),
            Adoption::Many(ids) => {
                let why = format!("it may be one of these: {}", ids.join(", "));
                Err(lost(&self.definition, cause, &why))
            }
        }
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
