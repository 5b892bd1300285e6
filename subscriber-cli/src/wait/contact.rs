//! Whether anybody is heard, and when patience ends. Pure: the time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// Who can tell of events or states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// A publisher's endpoint.
    Bus,
    /// LAVA's WebSocket.
    WebSocket,
    /// LAVA, when it is asked.
    Server,
}

/// How it stands with one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was not tried, or nothing came of it yet.
    Unknown,
    /// It works.
    Up,
    /// It does not.
    Down,
}

/// How it stands with all channels.
#[derive(Debug)]
pub(crate) struct Contact {
    standing: [Standing; 3],
    was_up: [bool; 3],
    /// Since when each is not up, if it is not.
    since: [Instant; 3],
    connect_timeout: Duration,
    max_outage: Duration,
    cause: String,
}

impl Contact {
    pub(crate) fn new(now: Instant, connect_timeout: Duration, max_outage: Duration) -> Contact {
        Contact {
            standing: [Standing::Unknown; 3],
            was_up: [false; 3],
            since: [now; 3],
            connect_timeout,
            max_outage,
            cause: "nobody answered".to_owned(),
        }
    }

    pub(crate) fn standing(&self, channel: Channel) -> Standing {
        self.standing[channel as usize]
    }

    /// Whether events come by themselves.
    pub(crate) fn is_pushed(&self) -> bool {
        self.standing(Channel::Bus) == Standing::Up || self.standing(Channel::WebSocket) == Standing::Up
    }

    pub(crate) fn up(&mut self, channel: Channel) {
        self.standing[channel as usize] = Standing::Up;
        self.was_up[channel as usize] = true;
    }

    pub(crate) fn down(&mut self, channel: Channel, now: Instant, cause: String) {
        if self.standing(channel) == Standing::Up {
            self.since[channel as usize] = now;
        }
        self.standing[channel as usize] = Standing::Down;
        self.cause = cause;
    }

    /// When it was silent for too long, if it stays so. A bus that may be another lab's is nobody.
    pub(crate) fn gives_up(&self, is_bus_trusted: bool) -> Option<Instant> {
        let heard = self.heard(is_bus_trusted);
        if heard.clone().any(|channel| self.standing(channel) == Standing::Up) {
            return None;
        }
        let patience = match self.was_heard(is_bus_trusted) {
            true => self.max_outage,
            false => self.connect_timeout,
        };
        // What cannot be told is as far away as an instant can be for a person.
        const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        let since = heard.map(|channel| self.since[channel as usize]).max()?;
        Some(since + patience.min(FAR))
    }

    fn heard(&self, is_bus_trusted: bool) -> impl Iterator<Item = Channel> + Clone {
        let all = [Channel::Bus, Channel::WebSocket, Channel::Server];
        all.into_iter()
            .filter(move |channel| is_bus_trusted || *channel != Channel::Bus)
    }

    fn was_heard(&self, is_bus_trusted: bool) -> bool {
        self.heard(is_bus_trusted).any(|channel| self.was_up[channel as usize])
    }

    /// What was lost last, and which patience has ended.
    pub(crate) fn why(&self, is_bus_trusted: bool) -> (String, &str) {
        let text = match self.was_heard(is_bus_trusted) {
            true => format!("nobody was heard for {:?}", self.max_outage),
            false => format!("no connection within {:?}", self.connect_timeout),
        };
        (text, &self.cause)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_connection_has_its_own_patience() {
        let now = Instant::now();
        let mut contact = Contact::new(now, 30 * SECOND, 900 * SECOND);
        assert_eq!(contact.gives_up(true), Some(now + 30 * SECOND));
        contact.down(Channel::Bus, now + SECOND, "refused".into());
        assert_eq!(contact.gives_up(true), Some(now + 30 * SECOND));
        assert_eq!(contact.why(true).1, "refused");
        contact.up(Channel::Server);
        assert_eq!(contact.gives_up(true), None);
        assert!(!contact.is_pushed());
    }

    #[test]
    fn an_outage_is_when_nobody_is_heard() {
        let now = Instant::now();
        let mut contact = Contact::new(now, 30 * SECOND, 900 * SECOND);
        contact.up(Channel::Bus);
        contact.up(Channel::Server);
        contact.down(Channel::Bus, now + SECOND, "lost".into());
        assert_eq!(contact.gives_up(true), None);
        contact.down(Channel::Server, now + 2 * SECOND, "502".into());
        assert_eq!(contact.gives_up(true), Some(now + 902 * SECOND));
        contact.down(Channel::Bus, now + 3 * SECOND, "again".into());
        assert_eq!(contact.gives_up(true), Some(now + 902 * SECOND));
        contact.up(Channel::WebSocket);
        assert!(contact.is_pushed());
        assert_eq!(contact.gives_up(true), None);
    }

    #[test]
    fn a_bus_that_is_not_trusted_is_nobody() {
        let now = Instant::now();
        let mut contact = Contact::new(now, 30 * SECOND, 900 * SECOND);
        contact.up(Channel::Bus);
        assert_eq!(contact.gives_up(true), None);
        assert_eq!(contact.gives_up(false), Some(now + 30 * SECOND));
        contact.up(Channel::Server);
        contact.down(Channel::Server, now + SECOND, "502".into());
        assert_eq!(contact.gives_up(false), Some(now + 901 * SECOND));
    }
}
