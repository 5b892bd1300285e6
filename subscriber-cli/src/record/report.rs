//! What a person sees of a recording: a status line on a terminal, notices, the last line.

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::writer::Ended;
use crate::context::Context;

const TICK: Duration = Duration::from_millis(250);

/// What was written since the start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Events.
    pub(super) recorded: AtomicU64,
    /// Events that were there already.
    pub(super) repeats: AtomicU64,
    /// Events that have the UUID of another.
    pub(super) conflicts: AtomicU64,
    /// Gaps.
    pub(super) gaps: AtomicU64,
    /// Lines of a file that are no events.
    pub(super) passed_over: AtomicU64,
    /// Events of the buses that were not read yet.
    pub(super) behind: AtomicU64,
}

/// Says things on standard error, above the status line if there is one.
#[derive(Clone, Debug)]
pub(super) struct Report {
    quiet: bool,
    verbose: u8,
    bar: Option<ProgressBar>,
    counts: Arc<Counts>,
}

impl Report {
    pub(super) fn new(context: &Context, counts: Arc<Counts>) -> Report {
        let is_live = std::io::stderr().is_terminal() && !context.quiet;
        Report {
            quiet: context.quiet,
            verbose: context.verbose,
            bar: is_live.then(|| {
                let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}");
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
                    .with_style(style.expect("a template that is known"));
                bar.enable_steady_tick(TICK);
                bar
            }),
            counts,
        }
    }

    /// What was written so far.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Says something, unless `--quiet`.
    pub(super) fn notice(&self, text: impl Display) {
        if !self.quiet {
            self.say(format_args!("lavabus: {text}"));
        }
    }

    /// Says what is being done, with `--verbose` only.
    pub(super) fn detail(&self, text: impl Display) {
        if self.verbose > 0 {
            self.notice(text);
        }
    }

    fn say(&self, line: impl Display) {
        match &self.bar {
            Some(bar) => bar.suspend(|| crate::context::say(line)),
            None => crate::context::say(line),
        }
    }

    /// Keeps the status line up to date, where there is one. Never ends.
    pub(super) async fn keep_up(&self) {
        let Some(bar) = &self.bar else {
            return std::future::pending().await;
        };
        let mut before = (Instant::now(), 0);
        loop {
            let recorded = self.counts.recorded.load(Ordering::Relaxed);
            let seconds = before.0.elapsed().as_secs_f64().max(0.001);
            let rate = recorded.saturating_sub(before.1) as f64 / seconds;
            before = (Instant::now(), recorded);
            bar.set_message(status(&self.counts, rate));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Says what was recorded, and takes the status line away.
    pub(super) fn finish(&self, ended: &Ended) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.notice(summary(&self.counts, ended));
    }
}

/// `12345 events, 980/s, 17 behind, 1 gap`
fn status(counts: &Counts, rate: f64) -> String {
    let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let mut text = format!("{}, {rate:.0}/s", number(get(&counts.recorded), "event"));
    match get(&counts.behind) {
        0 => {}
        behind => text += &format!(", {behind} behind"),
    }
    match get(&counts.gaps) {
        0 => {}
        gaps => text += &format!(", {}", number(gaps, "gap")),
    }
    text
}

/// `12345 events recorded in /home/ann/x.db, 2 repeats, 1 gap`
fn summary(counts: &Counts, ended: &Ended) -> String {
    let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let recorded = number(get(&counts.recorded), "event");
    let mut text = format!("{recorded} recorded in {}", ended.path.display());
    for (count, what) in [
        (get(&counts.repeats), "repeat"),
        (get(&counts.conflicts), "UUID conflict"),
        (get(&counts.gaps), "gap"),
        (get(&counts.passed_over), "bad line"),
    ] {
        if count > 0 {
            text += &format!(", {}", number(count, what));
        }
    }
    if ended.unwritten > 0 {
        text += &format!("; {} could not be written", number(ended.unwritten, "event"));
    }
    if ended.behind > 0 {
        text += &format!(
            "; answers lack the newest {}, until the next run or `lavabus db rebuild`",
            number(ended.behind, "event")
        );
    }
    text
}

fn number(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}
