//! What the tests of the jobs said.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lavabus_lava::{Server, ServerError};
use tokio::time::{Instant, sleep};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::wait::inquiry;
use crate::wait::tracker::Tracker;

/// LAVA's own suite: its steps are no tests of the job's author.
const OWN_SUITE: &str = "lava";
/// A server that does not answer is asked again after this time, and then after longer.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(15);
/// Failed tests that are listed.
const LISTED: usize = 20;

/// What is wanted of the tests.
#[derive(Debug)]
pub(super) struct Tests<'a> {
    /// `--tests`
    pub(super) is_asked: bool,
    /// `--junit`
    pub(super) junit: Option<&'a Path>,
    /// A server that does not answer is asked again for so long.
    pub(super) patience: Duration,
}

/// Better to fail before the submission than after the job. Nothing is left behind.
pub(super) fn can_be_written(path: &Path) -> Result<(), Failure> {
    let is_new = !path.exists();
    let opened = fs::File::options().create(true).append(true).open(path);
    opened.map_err(|error| not_written(path, &error))?;
    if is_new {
        let _ = fs::remove_file(path);
    }
    Ok(())
}

fn not_written(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::Usage,
        format!("--junit {} cannot be written", path.display()),
        error,
        "a file in a folder that you may write to",
    )
}

/// Asks for the results of the jobs that are finished.
pub(super) async fn look_at_tests(
    tests: &Tests<'_>,
    tracker: &mut Tracker,
    server: &Server,
    context: &Context,
) -> Result<(), Failure> {
    let finished: Vec<(usize, String)> = tracker
        .tracked()
        .iter()
        .enumerate()
        .filter(|(_, tracked)| tracked.is_finished())
        .map(|(index, tracked)| (index, tracked.object.id.clone()))
        .collect();
    let is_single = tracker.tracked().len() == 1;
    for (index, id) in finished {
        if let Some(path) = tests.junit {
            let path = if is_single { path.to_owned() } else { with_id(path, &id) };
            let report = patiently(tests.patience, server, context, || server.junit(&id)).await?;
            fs::write(&path, report).map_err(|error| not_written(&path, &error))?;
            context.detail(format_args!("the results of job {id} are in {}", path.display()));
        }
        if tests.is_asked {
            let cases = patiently(tests.patience, server, context, || server.tests(&id)).await?;
            let own = cases.iter().filter(|case| case.suite != OWN_SUITE);
            let failed: Vec<String> = own
                .clone()
                .filter(|case| case.result == "fail")
                .map(|case| format!("{}/{}", case.suite, case.name))
                .collect();
            context.notice(format_args!(
                "job {id}: {} of {} tests failed",
                failed.len(),
                own.count()
            ));
            for test in failed.iter().take(LISTED) {
                context.notice(format_args!("  failed: {test}"));
            }
            if failed.len() > LISTED {
                context.notice(format_args!("  and {} more", failed.len() - LISTED));
            }
            if !failed.is_empty() {
                tracker.tell_failed_tests(index, failed.len());
            }
        }
    }
    Ok(())
}

/// Asks again while the server does not answer.
async fn patiently<T, F>(
    patience: Duration,
    server: &Server,
    context: &Context,
    ask: impl Fn() -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, ServerError>>,
{
    let began = Instant::now();
    let mut retry = FIRST_RETRY;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if error.is_temporary() && began.elapsed() < patience => {
                context.detail(format_args!("no results yet, asking again: {error}"));
                sleep(retry).await;
                retry = (retry * 2).min(LAST_RETRY);
            }
            Err(error) => return Err(inquiry::failure(server, &error)),
        }
    }
}

/// `report.xml` of job 12 is `report-12.xml`.
fn with_id(path: &Path, id: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let ending = path
        .extension()
        .map(|ending| format!(".{}", ending.to_string_lossy()))
        .unwrap_or_default();
    path.with_file_name(format!("{stem}-{id}{ending}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_jobs_have_a_file_each() {
        assert_eq!(
            with_id(Path::new("out/report.xml"), "12"),
            Path::new("out/report-12.xml")
        );
        assert_eq!(with_id(Path::new("report"), "4000.1"), Path::new("report-4000.1"));
    }
}
