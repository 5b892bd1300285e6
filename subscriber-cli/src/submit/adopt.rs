//! A submission whose answer was lost is looked for, not repeated.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lavabus_lava::{Server, ServerError};
use tokio::time::{Instant, sleep};

/// The server may still be at it.
const LOOK_FOR: Duration = Duration::from_secs(20);
const BETWEEN: Duration = Duration::from_secs(1);
/// A server says its time in whole seconds.
const WHOLE: SignedDuration = SignedDuration::from_secs(1);

/// What was found.
#[derive(Debug)]
pub(super) enum Adoption {
    /// The job.
    One(String),
    /// Nothing, and why.
    None(String),
    /// Jobs of which it may be any.
    Many(Vec<String>),
}

/// Looks for a job of this user, with the same definition, submitted since, and not one of those that are `known`.
pub(super) async fn look(server: &Server, definition: &str, sent_at: Timestamp, known: &[String]) -> Adoption {
    let began = Instant::now();
    loop {
        let mut found = look_once(server, definition, sent_at).await;
        if let Ok(ids) = &mut found {
            ids.retain(|id| !known.contains(id));
        }
        let is_late = began.elapsed() >= LOOK_FOR;
        match found {
            Ok(ids) => match ids.as_slice() {
                [] if is_late => return Adoption::None("no job of yours with this definition was found".to_owned()),
                [] => {}
                [id] => return Adoption::One(id.clone()),
                _ => return Adoption::Many(ids),
            },
            Err(error) if is_late || !error.is_temporary() => {
                return Adoption::None(format!("the server could not be asked for it: {error}"));
            }
            Err(_) => {}
        }
        sleep(BETWEEN).await;
    }
}

async fn look_once(server: &Server, definition: &str, sent_at: Timestamp) -> Result<Vec<String>, ServerError> {
    let Some(user) = server.whoami().await? else {
        return Ok(Vec::new());
    };
    // By the server's clock, which is the one that wrote the jobs' times.
    let ahead = server
        .clock()
        .await?
        .map_or(SignedDuration::ZERO, |clock| clock.duration_since(Timestamp::now()));
    let since = sent_at + ahead - WHOLE;
    let jobs = server.submitted_since(&user, since).await?;
    let is_it = |text: &Option<String>| text.as_ref().is_some_and(|text| text.trim() == definition.trim());
    let same = jobs
        .into_iter()
        .filter(|job| is_it(&job.original_definition) || is_it(&job.multinode_definition));
    Ok(same.filter(|job| job.submit_time >= since).map(|job| job.id).collect())
}
