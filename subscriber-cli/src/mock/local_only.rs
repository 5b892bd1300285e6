//! Made-up events belong on this machine, unless somebody really wants them elsewhere.

use lavabus_zmtp::Endpoint;

use crate::exit::Exit;
use crate::failure::Failure;

/// Refuses an endpoint that other machines can be behind, unless `yes_really`.
///
/// # Errors
///
/// [`Failure`] with [`Exit::Usage`].
pub(crate) fn local_only(endpoint: &Endpoint, yes_really: bool) -> Result<(), Failure> {
    if yes_really || endpoint.is_loopback_or_ipc() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Usage,
        format!("made-up events are not sent to {endpoint}"),
        "it is not on this machine; schedulers, dashboards and people there would take them for real ones",
        "an ipc:// or tcp://127.0.0.1 endpoint, or --yes-really if it is a test system",
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_without_more_words() {
        for (endpoint, local) in [
            ("ipc:///tmp/lava.events", true),
            ("tcp://127.0.0.1:5500", true),
            ("tcp://localhost:5500", true),
            ("tcp://lava.example.org:5500", false),
            ("tcp://192.0.2.7:5500", false),
        ] {
            let endpoint: Endpoint = endpoint.parse().unwrap();
            let result = local_only(&endpoint, false);
            assert_eq!(result.is_ok(), local, "{endpoint}");
            if let Err(failure) = result {
                assert_eq!(failure.exit(), Exit::Usage);
            }
            assert!(local_only(&endpoint, true).is_ok());
        }
    }
}
