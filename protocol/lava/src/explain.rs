//! Why jobs failed: LAVA's events do not tell, its REST API does.
//!
//! Whoever hears events puts the questions that they raise to [`Questions`], which never waits. An [`Explainer`] asks
//! the server, one job at a time and not too often, and gives the events that the answer makes. Nothing here sends or
//! stores them.
//!
//! ```
//! use lavabus_lava::explain::{Explainer, Pace, Question, Step};
//! use lavabus_lava::{Identity, Server};
//! use lavabus_protocol::Envelope;
//!
//! async fn explain(server: Server, heard: &[Envelope<'_>]) {
//!     let mut explainer = Explainer::new(server, Pace::default());
//!     let questions = explainer.questions();
//!     heard.iter().filter_map(Question::of).for_each(|question| questions.ask(question));
//!     loop {
//!         match explainer.next().await {
//!             Step::Explained { events, .. } => events.iter().for_each(|event| println!("{}", event.to_json_line())),
//!             step => eprintln!("{step}"),
//!         }
//!     }
//! }
//! ```

mod events;
mod past;
mod question;
mod queue;

use std::fmt;
use std::time::Duration;

use lavabus_protocol::Record;
use lavabus_protocol::event::state;
use tokio::time::Instant;

pub use self::past::LOOK_BACK;
pub use self::question::Question;
pub use self::queue::Questions;
use crate::answer::Explanation;
use crate::error::ServerError;
use crate::server::Server;

/// How often a server is asked, and how long it is tried.
#[derive(Clone, Debug)]
pub struct Pace {
    /// From one job to the next. Each takes up to three requests, one after the other. 1 s by default.
    pub between_jobs: Duration,
    /// Questions that may wait. 1,000 by default.
    pub waiting: usize,
    /// Without an answer it is tried again after this time, then after twice that, and so on. 1 s by default.
    pub retry: Duration,
    /// But no later than after this. 1 min by default.
    pub retry_at_most: Duration,
    /// A question that waited longer than this and still gets no answer is given up. 1 h by default.
    pub give_up: Duration,
    /// Who is refused asks again after this time. 10 min by default.
    pub pause: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            between_jobs: Duration::from_secs(1),
            waiting: 1000,
            retry: Duration::from_secs(1),
            retry_at_most: Duration::from_secs(60),
            give_up: Duration::from_secs(3600),
            pause: Duration::from_secs(600),
        }
    }
}

/// What has happened. All but [`Explained`](Step::Explained) is to be said to a person; none of it holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// LAVA answered.
    Explained {
        /// The job.
        job: String,
        /// The `.attempt`, then the `.fault`; none of them if LAVA tells neither device nor cause.
        events: Vec<Record>,
    },
    /// LAVA's job of this number is another one: the event came from another lab.
    Foreign {
        /// The job.
        job: String,
    },
    /// LAVA does not answer. Said once, until it answers again.
    Unavailable {
        /// Why.
        cause: String,
    },
    /// LAVA refuses us, or its certificate is refused. Said once, until it answers again.
    Refused {
        /// Why.
        cause: String,
        /// Until it is tried again.
        pause: Duration,
    },
    /// LAVA answers again.
    Available,
    /// Jobs stay without an explanation.
    GivenUp {
        /// How many.
        jobs: u64,
        /// Why.
        cause: String,
    },
    /// More jobs failed than could wait. Said once a minute at most.
    LeftOut {
        /// How many since this was said last.
        jobs: u64,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Explained { job, .. } => write!(f, "job {job} is explained"),
            Step::Foreign { job } => write!(f, "job {job} is another lab's: LAVA's own job {job} is another one"),
            Step::Unavailable { cause } => {
                write!(f, "LAVA cannot be asked why jobs failed, it is tried again: {cause}")
            }
            Step::Refused { cause, pause } => {
                write!(
                    f,
                    "LAVA does not say why jobs failed: {cause}; is the token good? Next try in {pause:?}"
                )
            }
            Step::Available => write!(f, "LAVA says again why jobs failed"),
            Step::GivenUp { jobs, cause } => write!(f, "why {jobs} jobs failed is not asked any more: {cause}"),
            Step::LeftOut { jobs } => write!(f, "too many failed jobs to ask LAVA about: {jobs} left out"),
        }
    }
}

/// What keeps LAVA from answering, as it was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    Outage,
    Refusal,
}

/// Asks one server why jobs failed.
#[derive(Debug)]
pub struct Explainer {
    server: Server,
    questions: Questions,
    pace: Pace,
    /// Not asked before.
    next_at: Instant,
    trouble: Trouble,
    /// The pause after the next failure.
    retry: Duration,
    /// To be told next.
    pending: Option<Step>,
    left_out_said: (u64, Option<Instant>),
}

/// It is not said more often that jobs are left out.
const SAID_AGAIN: Duration = Duration::from_secs(60);

impl Explainer {
    /// Nothing is asked yet.
    pub fn new(server: Server, pace: Pace) -> Explainer {
        Explainer {
            questions: Questions::new(pace.waiting),
            next_at: Instant::now(),
            trouble: Trouble::None,
            retry: pace.retry,
            pending: None,
            left_out_said: (0, None),
            server,
            pace,
        }
    }

    /// Where questions are put.
    pub fn questions(&self) -> Questions {
        self.questions.clone()
    }

    /// What happens next; never ends while nothing does. Cancel-safe: a question that was under way is asked again.
    pub async fn next(&mut self) -> Step {
        loop {
            if let Some(step) = self.pending.take().or_else(|| self.left_out()) {
                return step;
            }
            let waiting = self.questions.first().await;
            tokio::time::sleep_until(self.next_at).await;
            let job = &waiting.question.job;
            let answer = self.server.explanation(job).await;
            let now = Instant::now();
            let explained = |explanation: Option<&Explanation>| Step::Explained {
                job: job.clone(),
                events: waiting.question.answered(explanation),
            };
            let (step, cause) = match &answer {
                Ok(told) if !waiting.question.is_about(told) => {
                    (Some(Step::Foreign { job: job.clone() }), String::new())
                }
                // LAVA sends its event before the change can be seen.
                Ok(told) if !told.state.eq_ignore_ascii_case(state::FINISHED) => {
                    (None, format!("LAVA says that it is {}", told.state))
                }
                Ok(told) => (Some(explained(Some(told))), String::new()),
                Err(ServerError::NotFound { .. }) => (Some(explained(None)), String::new()),
                Err(error) => (None, error.to_string()),
            };
            let is_answer = matches!(answer, Ok(_) | Err(ServerError::NotFound { .. }));
            if is_answer && std::mem::replace(&mut self.trouble, Trouble::None) != Trouble::None {
                self.pending = Some(Step::Available);
            }
            if let Some(step) = step {
                self.next_at = now + self.pace.between_jobs;
                self.retry = self.pace.retry;
                self.questions.answered();
                return step;
            }
            let is_refused = matches!(
                answer,
                Err(ServerError::Refused { .. } | ServerError::Certificate { .. })
            );
            let pause = if is_refused { self.pace.pause } else { self.retry };
            self.next_at = now + pause.max(self.pace.between_jobs);
            self.retry = (self.retry * 2).min(self.pace.retry_at_most);
            let jobs = self.questions.give_up(now, self.pace.give_up);
            if jobs > 0 {
                let cause = cause.clone();
                self.pending = Some(Step::GivenUp { jobs, cause });
            }
            self.questions.later();
            if is_answer {
                continue;
            }
            let trouble = if is_refused { Trouble::Refusal } else { Trouble::Outage };
            if std::mem::replace(&mut self.trouble, trouble) != trouble {
                return match trouble {
                    Trouble::Refusal => Step::Refused { cause, pause },
                    _ => Step::Unavailable { cause },
                };
            }
        }
    }

    fn left_out(&mut self) -> Option<Step> {
        let now = Instant::now();
        let (said, at) = self.left_out_said;
        let left_out = self.questions.left_out();
        if left_out == said || at.is_some_and(|at| now.duration_since(at) < SAID_AGAIN) {
            return None;
        }
        self.left_out_said = (left_out, Some(now));
        Some(Step::LeftOut { jobs: left_out - said })
    }
}
