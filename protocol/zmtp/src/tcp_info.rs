//! What the kernel knows of a TCP peer.

use nix::libc;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::GetStruct;
use std::os::fd::AsFd;
use std::time::Duration;

/// The start of `struct tcp_info` in `linux/tcp.h`. The kernel fills as much of the structure as is asked for.
///
/// ```text
///  0: state, ca_state, retransmits, probes, backoff, options, wscale, flags  (1 byte each)
///  8: rto … reordering and the rest                                          (4 bytes each)
/// 56: last_ack_recv, in milliseconds
/// ```
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Info {
    state: [u8; 2],
    retransmits: u8,
    probes: u8,
    rest: [u8; 4],
    before_last_ack_received: [u32; 12],
    last_ack_received: u32,
}

nix::getsockopt_impl!(TcpInfo, libc::IPPROTO_TCP, libc::TCP_INFO, Info, GetStruct<Info>);

/// The socket option `TCP_INFO`, see tcp(7).
#[derive(Debug, Clone, Copy)]
struct TcpInfo;

/// Probes of a full window are doubled in distance up to two minutes, so some may be under way.
const PROBES_UNDER_WAY: u8 = 3;

/// See [`Stream::host_answers`](crate::Stream::host_answers).
pub(crate) fn host_answers(socket: &impl AsFd, within: Duration) -> bool {
    let Ok(info) = getsockopt(socket, TcpInfo) else {
        return false;
    };
    let nothing_overdue = info.retransmits == 0 && info.probes <= PROBES_UNDER_WAY;
    nothing_overdue || Duration::from_millis(info.last_ack_received.into()) < within
}
