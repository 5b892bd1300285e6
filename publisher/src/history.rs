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
