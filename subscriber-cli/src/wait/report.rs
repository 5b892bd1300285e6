//! What a person sees of a wait, on standard error: a line for each change, or one status line on a terminal.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tracker::{Tracked, Tracker};
use crate::context::{Context, say};
use crate::exit::Exit;

const TICK: Duration = Duration::from_millis(250);
/// On the status line.
const NAMED: usize = 3;

/// Shows how it stands.
#[derive(Debug)]
pub(crate) struct Report {
    /// What was shown of each object.
    shown: Vec<String>,
    bar: Option<ProgressBar>,
}

impl Report {
    pub(crate) fn new(context: &Context) -> Report {
        let is_live = std::io::stderr().is_terminal() && !context.quiet;
        Report {
            shown: Vec::new(),
            bar: is_live.then(|| {
                let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}");
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
                    .with_style(style.expect("a template that is known"));
                bar.enable_steady_tick(TICK);
                bar
            }),
        }
    }

    /// Shows what changed since it was shown last.
    pub(crate) fn show(&mut self, tracker: &Tracker, context: &Context) {
        self.shown.resize(tracker.tracked().len(), String::new());
        let mut is_changed = false;
        for (shown, tracked) in self.shown.iter_mut().zip(tracker.tracked()) {
            let line = status(tracked);
            // The last line says it.
            let is_last = tracked.verdict.is_some() && tracker.decider().is_some();
            if tracked.known().is_some() && *shown != line && !is_last {
                if self.bar.is_none() {
                    context.notice(&line);
                }
                *shown = line;
                is_changed = true;
            }
        }
        if let Some(bar) = &self.bar
            && is_changed
        {
            let open = tracker.tracked().iter().filter(|tracked| tracked.verdict.is_none());
            let lines: Vec<String> = open.clone().take(NAMED).map(status).collect();
            let more = match open.count().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            bar.set_message(lines.join(", ") + &more);
        }
    }

    /// For those who write beside it.
    pub(crate) fn screen(&self) -> Screen {
        Screen(self.bar.clone())
    }
}

/// Standard error, above the status line if there is one.
#[derive(Clone, Debug)]
pub(crate) struct Screen(Option<ProgressBar>);

impl Screen {
    pub(crate) fn say(&self, line: impl std::fmt::Display) {
        match &self.0 {
            Some(bar) => bar.suspend(|| say(&line)),
            None => say(&line),
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// `job 12 on qemu-01: Running`
fn status(tracked: &Tracked) -> String {
    let place = place(tracked);
    match tracked.known() {
        None => format!("{place}: not heard of yet"),
        Some((state, health, _)) if health.is_empty() || health.eq_ignore_ascii_case("unknown") => {
            format!("{place}: {state}")
        }
        Some((state, health, _)) => format!("{place}: {state} {health}"),
    }
}

fn place(tracked: &Tracked) -> String {
    let object = &tracked.object;
    match tracked.known() {
        Some((_, _, Some(device))) if device != object.id => format!("{object} on {device}"),
        _ => object.to_string(),
    }
}

/// The last line of a wait: which object, what came of it, why, where to look, the exit code.
///
/// ```text
/// lavabus: job 81233 on bbb-01: Incomplete: Infrastructure: no boot prompt, http://lava/scheduler/job/81233 (exit 10)
/// ```
pub(crate) fn last_line(
    tracked: &Tracked,
    outcome: &str,
    cause: Option<&str>,
    url: Option<&str>,
    exit: Exit,
) -> String {
    let mut line = format!("{}: {outcome}", place(tracked));
    if let Some(cause) = cause {
        line += ": ";
        line += cause;
    }
    if let Some(url) = url {
        line += ", ";
        line += url;
    }
    line + &format!(" (exit {})", exit.code())
}
