//! Who may ask for how much of the past.

use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use lavabus_zmtp::PeerAddress;

/// Loopback and ipc peers may have everything. Others may have what was received within the resume window, and
/// everything if their address is in one of the networks.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) networks: Vec<IpNet>,
    pub(crate) resume_window: Duration,
}

impl History {
    /// Whether this peer may have all of the past.
    pub(crate) fn is_open_to(&self, peer: PeerAddress) -> bool {
        let named = |network: &IpNet| matches!(peer, PeerAddress::Tcp(address) if network.contains(&address.ip()));
        peer.is_local() || self.networks.iter().any(named)
    }

    /// The earliest time of receipt that this peer may ask for, in µs since 1970; None if there is no limit.
    pub(crate) fn earliest(&self, peer: PeerAddress) -> Option<i64> {
        let window = i64::try_from(self.resume_window.as_micros()).unwrap_or(i64::MAX);
        (!self.is_open_to(peer)).then(|| Timestamp::now().as_microsecond().saturating_sub(window))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_for_this_machine_and_for_named_networks() {
        let history = History {
            networks: vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()],
            resume_window: Duration::from_secs(3600),
        };
        let tcp = |address: &str| PeerAddress::Tcp(address.parse().unwrap());
        let open = [
            tcp("127.0.0.1:9"),
            tcp("[::1]:9"),
            tcp("10.1.2.3:9"),
            tcp("[fd00::7]:9"),
            PeerAddress::Ipc { uid: 1000, pid: None },
        ];
        for peer in open {
            assert!(history.is_open_to(peer), "{peer}");
            assert_eq!(history.earliest(peer), None);
        }
        for peer in [tcp("10.2.0.1:9"), tcp("192.168.1.1:9"), tcp("[2001:db8::1]:9")] {
            assert!(!history.is_open_to(peer), "{peer}");
            let now = Timestamp::now().as_microsecond();
            let earliest = history.earliest(peer).unwrap();
            assert!((now - 3_600_000_000 - earliest).abs() < 60_000_000);
        }
    }
}
