//! A job that walks through its states by itself.

use std::sync::Arc;

use tokio::sync::watch;

use crate::server::{Shared, Steps};

pub(crate) async fn play(shared: Arc<Shared>, number: u64, steps: Steps, mut woken: watch::Receiver<u64>) {
    for (wait, state, health) in steps {
        let elapsed = tokio::time::sleep(wait);
        tokio::pin!(elapsed);
        loop {
            tokio::select! {
                () = &mut elapsed => break,
                // Ends only with the server.
                Ok(()) = woken.changed() => if end_if_cancelled(&shared, number) { return },
            }
        }
        let goes_on = shared.change(|lab| {
            // Looked at under the same lock as the change: a cancellation just now wins.
            match lab.job(number).map(|job| job.state.as_str()) {
                None | Some("Finished") => (false, Vec::new()),
                Some("Canceling") => (false, lab.set_job(number, "Finished", "Canceled").into_iter().collect()),
                Some(_) => (true, lab.set_job(number, &state, &health).into_iter().collect()),
            }
        });
        if !goes_on {
            return;
        }
    }
}

/// Whether the job is at its end.
fn end_if_cancelled(shared: &Shared, number: u64) -> bool {
    shared.change(|lab| match lab.job(number).map(|job| job.state.as_str()) {
        None | Some("Finished") => (true, Vec::new()),
        Some("Canceling") => (true, lab.set_job(number, "Finished", "Canceled").into_iter().collect()),
        Some(_) => (false, Vec::new()),
    })
}
