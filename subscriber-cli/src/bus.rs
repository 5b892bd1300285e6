//! Where events come from: a publish endpoint, with a name if it has one.

use std::fmt;
use std::str::FromStr;

use lavabus_zmtp::{Endpoint, EndpointError};

/// A publish endpoint as `--bus` names it: `ENDPOINT` or `NAME=ENDPOINT`.
///
/// ```
/// use lavabus_cli::Bus;
///
/// let bus: Bus = "staging=tcp://lava.example.org:5500".parse()?;
/// assert_eq!(bus.lab(), "staging");
/// assert_eq!("tcp://127.0.0.1:5500".parse::<Bus>()?.lab(), "tcp://127.0.0.1:5500");
/// # Ok::<(), lavabus_zmtp::EndpointError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bus {
    /// What it is called, if it has a name.
    pub name: Option<String>,
    /// Where it is.
    pub endpoint: Endpoint,
}

impl Bus {
    /// The label of its events: its name, or else its endpoint.
    pub fn lab(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.endpoint.to_string())
    }
}

impl FromStr for Bus {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Bus, EndpointError> {
        // A path may hold a '=', a name no ':'.
        match text.split_once('=') {
            Some((name, endpoint)) if !name.is_empty() && !name.contains(':') => Ok(Bus {
                name: Some(name.to_owned()),
                endpoint: endpoint.parse()?,
            }),
            _ => Ok(Bus {
                name: None,
                endpoint: text.parse()?,
            }),
        }
    }
}

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.endpoint),
            None => write!(f, "{}", self.endpoint),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_stands_before_the_first_equals_sign() {
        let bus: Bus = "lab=ipc:///tmp/a=b".parse().unwrap();
        assert_eq!(
            (bus.name.as_deref(), bus.endpoint.to_string().as_str()),
            (Some("lab"), "ipc:///tmp/a=b")
        );
        let bus: Bus = "ipc:///tmp/a=b".parse().unwrap();
        assert_eq!(bus.name, None);
        assert!("=tcp://a:1".parse::<Bus>().is_err());
        assert!("lab=".parse::<Bus>().is_err());
    }
}
