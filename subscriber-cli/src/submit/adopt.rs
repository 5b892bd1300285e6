//! A submission whose answer was lost is looked for, not repeated.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lavabus_lava::{Server, ServerError, SubmittedJob};
use tokio::time::{Instant, sleep, timeout};

/// The server may still be at it.
const LOOK_FOR: Duration = Duration::from_secs(20);
const BETWEEN: Duration = Duration::from_secs(1);
/// The look before a submission is worth no more time than this.
const BEFORE: Duration = Duration::from_secs(5);
/// A server says its time in whole seconds, and was asked for it a moment ago.
const UNSURE: SignedDuration = SignedDuration::from_secs(2);

/// How it was before the submission: what is there since is newer.
#[derive(Debug)]
pub(super) struct Before {
    at: Timestamp,
    /// The newest job's number in LAVA's database, where it was told.
    newest: Option<u64>,
}

impl Before {
    pub(super) async fn look(server: &Server) -> Before {
        let newest = timeout(BEFORE, server.newest_job()).await;
        Before {
            at: Timestamp::now(),
            newest: newest.ok().and_then(Result::ok).flatten(),
        }
    }

    fn is_since(&self, job: &SubmittedJob) -> bool {
        match (self.newest, job.id.parse::<u64>()) {
            (Some(newest), Ok(id)) => id > newest,
            _ => true,
        }
    }
}

/// What was found.
#[derive(Debug)]
pub(super) enum Adoption {
    /// The job, or all parts of it.
    One(Vec<String>),
    /// It is not there.
    None,
    /// It could not be looked for, and why.
    Unknown(String),
    /// Jobs of which it may be any.
    Many(Vec<String>),
}

/// Looks for a job of this user, with the same definition, submitted since, and not one of those that are `known`.
pub(super) async fn look(server: &Server, definition: &str, before: &Before, known: &[String]) -> Adoption {
    let began = Instant::now();
    loop {
        let is_late = began.elapsed() >= LOOK_FOR;
        match look_once(server, definition, before).await {
            Ok(mut jobs) => {
                jobs.retain(|job| {
                    !known.contains(&job.id) && !job.sub_id.as_ref().is_some_and(|id| known.contains(id))
                });
                if let Some(ids) = parts_of_one(&jobs) {
                    return Adoption::One(ids);
                }
                match jobs.as_slice() {
                    [] if is_late => return Adoption::None,
                    [] => {}
                    jobs => return Adoption::Many(jobs.iter().map(|job| job.id.clone()).collect()),
                }
            }
            Err(error) if is_late || !error.is_temporary() => {
                return Adoption::Unknown(format!("the server could not be asked for it: {error}"));
            }
            Err(_) => {}
        }
        sleep(BETWEEN).await;
    }
}

/// The ids of a single job, or of the parts of one multinode job: `4000.0` and `4000.1`.
fn parts_of_one(jobs: &[SubmittedJob]) -> Option<Vec<String>> {
    if let [job] = jobs {
        return Some(vec![job.sub_id.clone().unwrap_or_else(|| job.id.clone())]);
    }
    let mut parts: Vec<(&str, u32)> = Vec::new();
    for job in jobs {
        let (group, part) = job.sub_id.as_deref()?.split_once('.')?;
        parts.push((group, part.parse().ok()?));
    }
    parts.sort_unstable();
    let (first, _) = *parts.first()?;
    let is_one = parts
        .iter()
        .zip(0..)
        .all(|((group, part), place)| *group == first && *part == place);
    is_one.then(|| parts.iter().map(|(group, part)| format!("{group}.{part}")).collect())
}

async fn look_once(server: &Server, definition: &str, before: &Before) -> Result<Vec<SubmittedJob>, ServerError> {
    let Some(user) = server.whoami().await? else {
        return Ok(Vec::new());
    };
    // By the server's clock, which is the one that wrote the jobs' times.
    let asked = Timestamp::now();
    let clock = server.clock().await?;
    let ahead = clock.map_or(SignedDuration::ZERO, |clock| clock.duration_since(asked));
    let jobs = server.submitted_since(&user, before.at + ahead - UNSURE).await?;
    let is_it = |text: &Option<String>| text.as_ref().is_some_and(|text| text.trim() == definition.trim());
    let same = jobs
        .into_iter()
        .filter(|job| before.is_since(job) && (is_it(&job.original_definition) || is_it(&job.multinode_definition)));
    Ok(same.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(ids: &[(&str, Option<&str>)]) -> Vec<SubmittedJob> {
        let job = |(id, sub_id): &(&str, Option<&str>)| SubmittedJob {
            id: (*id).to_owned(),
            sub_id: sub_id.map(str::to_owned),
            submit_time: Timestamp::UNIX_EPOCH,
            original_definition: None,
            multinode_definition: None,
        };
        ids.iter().map(job).collect()
    }

    #[test]
    fn one_job_or_all_parts_of_one() {
        let found = |ids: &[(&str, Option<&str>)]| parts_of_one(&jobs(ids)).map(|ids| ids.join(" "));
        assert_eq!(found(&[("7", None)]).as_deref(), Some("7"));
        assert_eq!(
            found(&[("8", Some("7.1")), ("7", Some("7.0"))]).as_deref(),
            Some("7.0 7.1")
        );
        assert_eq!(found(&[("7", None), ("8", None)]), None);
        assert_eq!(found(&[("7", Some("7.0")), ("9", Some("9.0"))]), None);
        assert_eq!(found(&[("8", Some("7.1")), ("9", Some("7.2"))]), None);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn an_older_job_is_not_it() {
        let before = Before {
            at: Timestamp::UNIX_EPOCH,
            newest: Some(7),
        };
        let found = jobs(&[("7", None), ("8", None)]);
        assert!(!before.is_since(&found[0]) && before.is_since(&found[1]));
    }
}
