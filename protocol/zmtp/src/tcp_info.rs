//! What the kernel knows of a TCP peer.

use nix::libc;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::GetStruct;
use std::os::fd::AsFd;
use std::time::Duration;

/// The start of `struct tcp_info` in `linux/tcp.h`, since Linux 4.6. The kernel fills as much of the structure as is
/// asked for.
///
/// ```text
///   0: state, ca_state, retransmits, probes, and four more of one byte each
///   8: values of four bytes each: of them at
///  24: unacked         segments sent that are not acknowledged
///  56: last_ack_recv   milliseconds since the last acknowledgement
/// 144: notsent_bytes   bytes that are still to be sent
/// ```
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Info {
    bytes: [u8; 8],
    words: [u32; 35],
}

const RETRANSMITS: usize = 2;
const PROBES: usize = 3;
const UNACKED: usize = (24 - 8) / 4;
const LAST_ACK_RECEIVED: usize = (56 - 8) / 4;
const NOT_SENT: usize = (144 - 8) / 4;

nix::getsockopt_impl!(TcpInfo, libc::IPPROTO_TCP, libc::TCP_INFO, Info, GetStruct<Info>);

/// The socket option `TCP_INFO`, see tcp(7).
#[derive(Debug, Clone, Copy)]
struct TcpInfo;

/// Probes of a full window are doubled in distance up to two minutes, so some may be under way.
const PROBES_UNDER_WAY: u8 = 2;

/// See [`Stream::host_answers`](crate::Stream::host_answers).
pub(crate) fn host_answers(socket: &impl AsFd, within: Duration) -> bool {
    let Ok(info) = getsockopt(socket, TcpInfo) else {
        return false;
    };
    let nothing_overdue = info.bytes[RETRANSMITS] == 0 && info.bytes[PROBES] <= PROBES_UNDER_WAY;
    nothing_overdue || Duration::from_millis(info.words[LAST_ACK_RECEIVED].into()) < within
}

/// See [`Stream::is_acknowledged`](crate::Stream::is_acknowledged).
pub(crate) fn is_acknowledged(socket: &impl AsFd) -> bool {
    getsockopt(socket, TcpInfo).is_ok_and(|info| info.words[UNACKED] == 0 && info.words[NOT_SENT] == 0)
}
