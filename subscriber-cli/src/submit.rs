//! `lavabus submit` and `lavabus run`: send job definitions to LAVA, and wait for what comes of them.
//!
//! Ids go to standard output, one a line, as soon as they are known, and nothing else does.

mod adopt;
mod definition;
mod follow;
mod outcome;
mod sending;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lavabus_lava::Server;
use lavabus_protocol::{Kind, Record};
use tokio::time::Instant;

use self::definition::Definition;
use self::follow::Followers;
use self::sending::Submitted;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::sources::sources;
use crate::wait::channel::Wanted;
use crate::wait::condition::Conditions;
use crate::wait::contact::Channel;
use crate::wait::report::Report;
use crate::wait::tracker::{Object, Tracker};
use crate::wait::watch::{Sources, Watch};
use crate::wait::{ConditionArguments, PatienceArguments, conclude};

/// Submit jobs to LAVA; with --wait, wait for them: the exit code says what came of them
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Job definitions in YAML; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Wait until the jobs are finished, or as --for says; every option below means it too
    #[arg(long)]
    pub wait: bool,

    /// Print the jobs' logs as they grow, on standard error
    #[arg(long)]
    pub follow: bool,

    /// And then.
    #[command(flatten)]
    pub after: AfterArguments,
}

/// Submit jobs and follow them to their end: submit --wait --follow
#[derive(Clone, Debug, clap::Args)]
pub struct RunArguments {
    /// Job definitions in YAML; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// And then.
    #[command(flatten)]
    pub after: AfterArguments,
}

/// What is done after the submission.
#[derive(Clone, Debug, clap::Args)]
pub struct AfterArguments {
    /// Ask for the tests' results too: exit code 14 when one failed
    #[arg(long)]
    pub tests: bool,

    /// Save the tests' results as JUnit XML; of several jobs the id is put before the file's ending
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,

    /// Cancel the jobs on LAVA when the time is over, or when a signal ends this command
    #[arg(long, value_name = "WHEN", value_enum, value_delimiter = ',')]
    pub cancel_on: Vec<CancelOn>,

    /// What the jobs are waited for.
    #[command(flatten)]
    pub conditions: ConditionArguments,

    /// For how long.
    #[command(flatten)]
    pub patience: PatienceArguments,
}

/// `--cancel-on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CancelOn {
    /// `--timeout` is over.
    Timeout,
    /// SIGINT or SIGTERM.
    Signal,
}

impl Arguments {
    fn is_waiting(&self) -> bool {
        let after = &self.after;
        let conditions = &after.conditions;
        self.wait
            || self.follow
            || after.tests
            || after.junit.is_some()
            || !after.cancel_on.is_empty()
            || !conditions.conditions.is_empty()
            || conditions.state.is_some()
            || conditions.health.is_some()
            || conditions.all
            || conditions.any
            || after.patience.timeout.is_some()
    }
}

impl From<RunArguments> for Arguments {
    fn from(arguments: RunArguments) -> Arguments {
        Arguments {
            files: arguments.files,
            wait: true,
            follow: true,
            after: arguments.after,
        }
    }
}

/// The results of a job that did not pass are asked for so long.
const RESULTS_WITHIN: Duration = Duration::from_secs(10);

/// Runs the command.
///
/// # Errors
///
/// [`Failure`] says what failed, the cause, and the next thing to try.
pub async fn run(arguments: Arguments, context: &Context) -> Result<Exit, Failure> {
    let conditions = arguments.after.conditions.conditions()?;
    let definitions = definition::read(&arguments.files).await?;
    if let Some(path) = &arguments.after.junit {
        outcome::can_be_written(path)?;
    }
    let sources = sources(context)?;
    let Some(server) = sources.server.clone() else {
        return Err(Failure::new(
            Exit::Usage,
            "there is no LAVA server to submit to",
            "no identity is named, and there is no ~/.config/lavacli.yaml with a default one",
            "-i NAME, or LAVABUS_URI, LAVABUS_USERNAME and LAVABUS_TOKEN_FILE",
        ));
    };
    let submitted = Arc::new(Submitted::new(
        server.clone(),
        arguments.after.cancel_on.contains(&CancelOn::Signal),
    ));
    context.farewell.set(sending::farewell(submitted.clone()));
    // The time allowed is for all of it.
    let deadline = arguments.after.patience.deadline();
    if !arguments.is_waiting() {
        for definition in &definitions {
            let sent = sending::submit(definition, &submitted, &arguments.after.patience, context).await;
            sent.inspect_err(|_| submitted.name_others(context))?;
        }
        return match submitted.is_printed() {
            true => Ok(Exit::Success),
            false => Err(Failure::new(
                Exit::Internal,
                "standard output cannot be written",
                "the ids are said above",
                "a reader that stays, or room on the disk",
            )),
        };
    }
    let watched = Box::pin(submit_and_wait(&arguments, definitions, sources, &submitted, context)).await?;
    let waiting = Waiting {
        conditions,
        deadline,
        arguments: &arguments,
        server: &server,
        submitted: &submitted,
        context,
    };
    waiting.until_the_end(watched).await
}

/// Somebody who hears since before the submission, and what was heard meanwhile.
struct Watched<'c> {
    watch: Watch<'c>,
    held: Vec<(Channel, Record)>,
}

/// The subscription stands before the submission.
async fn submit_and_wait<'c>(
    arguments: &Arguments,
    definitions: Vec<Definition>,
    sources: Sources,
    submitted: &Arc<Submitted>,
    context: &'c Context,
) -> Result<Watched<'c>, Failure> {
    let patience = &arguments.after.patience;
    let mut watch = Watch::begin_with(sources, Wanted::default(), patience.patience(), context);
    watch.ready().await?;
    let mut all_held = Vec::new();
    for definition in &definitions {
        let sending = sending::submit(definition, submitted, patience, context);
        let (done, held) = match watch.hold_while(sending).await {
            Ok(heard) => heard,
            Err(failure) => {
                submitted.settle().await;
                return Err(failure);
            }
        };
        done.inspect_err(|_| submitted.name_others(context))?;
        all_held.extend(held);
    }
    Ok(Watched { watch, held: all_held })
}

/// What the wait after a submission needs.
struct Waiting<'a> {
    conditions: Conditions,
    deadline: Option<Instant>,
    arguments: &'a Arguments,
    server: &'a Server,
    submitted: &'a Submitted,
    context: &'a Context,
}

impl Waiting<'_> {
    async fn until_the_end(self, watched: Watched<'_>) -> Result<Exit, Failure> {
        let Watched { mut watch, held } = watched;
        let (after, context, server) = (&self.arguments.after, self.context, self.server);
        let ids = self.submitted.ids();
        let objects = ids.iter().map(|id| Object {
            kind: Kind::Testjob,
            id: id.clone(),
        });
        let mut tracker = Tracker::new(objects.collect(), self.conditions, after.conditions.quantity());
        watch.objects_are_own();
        watch.tell_held(&mut tracker, held);
        watch.look_now();
        let mut report = Report::new(context);
        let is_following = self.arguments.follow;
        let followers = is_following.then(|| Followers::begin(server, &ids, &report, context));
        let decided = watch.decide(&mut tracker, self.deadline, &mut report).await;
        if matches!(decided, Ok(false)) && after.cancel_on.contains(&CancelOn::Timeout) {
            // First: the boards are waited for.
            self.submitted.cancel(&undecided(&tracker), context).await;
        }
        if let Some(followers) = followers {
            followers.end().await;
        }
        drop(report);
        let is_decided = decided?;
        // A signal has nothing to cancel any more: what comes now only asks.
        let ended = tracker.tracked().iter().filter(|tracked| tracked.verdict.is_some());
        self.submitted.forget(ended.map(|tracked| &tracked.object.id));
        let tests = outcome::Tests {
            is_asked: after.tests,
            junit: after.junit.as_deref(),
            // Where the verdict is bad already there is less to wait for.
            patience: match tracker.decider().and_then(|decider| decider.verdict.as_ref()) {
                Some(verdict) if verdict.exit == Exit::Success => after.patience.max_outage,
                _ => after.patience.max_outage.min(RESULTS_WITHIN),
            },
        };
        let looked = match is_decided {
            true => outcome::look_at_tests(&tests, &mut tracker, server, context).await,
            false => Ok(()),
        };
        if let Err(failure) = &looked {
            context.notice(format_args!("the tests' results could not be had: {failure}"));
        }
        let exit = conclude(&tracker, is_decided, Some(server), context).await;
        match looked {
            // A verdict that is worse already stands.
            Err(failure) if exit == Exit::Success => Err(failure),
            _ => Ok(exit),
        }
    }
}

fn undecided(tracker: &Tracker) -> Vec<String> {
    let open = tracker.tracked().iter().filter(|tracked| tracked.verdict.is_none());
    open.map(|tracked| tracked.object.id.clone()).collect()
}
