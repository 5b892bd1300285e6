//! The jobs' logs, as they grow.

use std::time::Duration;

use lavabus_lava::{LogLine, Server};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::context::{Context, say};
use crate::wait::report::{Report, Screen};

const BETWEEN: Duration = Duration::from_secs(1);
/// After the end the rest of a log is fetched for so long.
const REST: Duration = Duration::from_secs(20);

/// A task for each job. They end with the set.
#[derive(Debug)]
pub(super) struct Followers {
    tasks: JoinSet<()>,
    is_over: CancellationToken,
}

impl Followers {
    pub(super) fn begin(server: &Server, ids: &[String], report: &Report, context: &Context) -> Followers {
        let mut tasks = JoinSet::new();
        let is_over = CancellationToken::new();
        for id in ids {
            let follower = Follower {
                server: server.clone(),
                label: if ids.len() > 1 {
                    format!("[{id}] ")
                } else {
                    String::new()
                },
                id: id.clone(),
                screen: report.screen(),
                with_debug: context.verbose > 0,
                is_over: is_over.clone(),
            };
            tasks.spawn(follower.run());
        }
        Followers { tasks, is_over }
    }

    /// Fetches the rest, for a limited time.
    pub(super) async fn end(mut self) {
        self.is_over.cancel();
        let rest = async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        };
        if timeout(REST, rest).await.is_err() {
            say(format_args!("lavabus: the rest of the log could not be had in time"));
        }
    }
}

struct Follower {
    server: Server,
    id: String,
    label: String,
    screen: Screen,
    with_debug: bool,
    is_over: CancellationToken,
}

impl Follower {
    async fn run(self) {
        let mut next = 0;
        let mut is_trouble_told = false;
        loop {
            // Asked before, so that what was written up to the end is fetched after it.
            let was_over = self.is_over.is_cancelled();
            match self.server.logs(&self.id, next).await {
                Ok(lines) => {
                    is_trouble_told = false;
                    next += lines.len() as u64;
                    if lines.is_empty() && was_over {
                        return;
                    }
                    self.print(&lines);
                    if !lines.is_empty() {
                        continue;
                    }
                }
                Err(error) => {
                    if !is_trouble_told {
                        is_trouble_told = true;
                        self.screen
                            .say(format_args!("lavabus: no log of job {} for now: {error}", self.id));
                    }
                    if was_over || !error.is_temporary() {
                        return;
                    }
                }
            }
            tokio::select! {
                () = sleep(BETWEEN) => {}
                () = self.is_over.cancelled(), if !was_over => {}
            }
        }
    }

    fn print(&self, lines: &[LogLine]) {
        for line in lines.iter().filter(|line| self.with_debug || line.level != "debug") {
            for text in line.message.lines() {
                self.screen.say(format_args!("{}{}", self.label, harmless(text)));
            }
        }
    }
}

/// A board may print anything; a terminal shall not obey it.
fn harmless(text: &str) -> String {
    let plain = anstream::adapter::strip_str(text).to_string();
    plain.chars().filter(|c| *c == '\t' || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn what_a_terminal_would_obey_is_left_out() {
        assert_eq!(harmless("\u{1b}[31mred\u{1b}[0m\tU-Boot\r\u{7}"), "red\tU-Boot");
        assert_eq!(harmless("\u{1b}]0;title\u{7}grün"), "grün");
    }
}
