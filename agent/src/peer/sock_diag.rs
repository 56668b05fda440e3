//! Lookup of the other end of a connection by `sock_diag(7)`, in microseconds, whatever the number of sockets and their address
//! family.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};

use super::{ConnectionAddresses, SocketOwner};

/// `linux/sock_diag.h`, `linux/netlink.h`, `net/tcp_states.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const ESTABLISHED: u8 = 1;

/// Lengths of `nlmsghdr` and `inet_diag_req_v2`.
const HEADER: usize = 16;
const REQUEST: usize = 56;

/// Reply of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SockDiagReply {
    /// A process holds it open.
    Open(SocketOwner),
    /// There is no such socket, or its process has closed it.
    NotOpen,
    /// This kernel answers no such questions.
    Unable,
}

pub(super) fn look(ends: ConnectionAddresses) -> io::Result<SockDiagReply> {
    let ends = ends.plain();
    match ask(ends.peer, ends.local) {
        Ok(reply) => Ok(read(&reply).map_or(SockDiagReply::NotOpen, SockDiagReply::Open)),
        // Either there is no such socket, or the lookup is not permitted. The agent's listening socket exists.
        Err(Errno::ENOENT) => match ask(ends.local, SocketAddr::new(ends.peer.ip(), 0)) {
            Ok(_) => Ok(SockDiagReply::NotOpen),
            Err(_) => Ok(SockDiagReply::Unable),
        },
        Err(Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT | Errno::EINVAL | Errno::EPERM | Errno::EACCES) => {
            Ok(SockDiagReply::Unable)
        }
        Err(error) => Err(error.into()),
    }
}

/// The reply about the socket with these two ends, the first of which is its own.
fn ask(own: SocketAddr, other: SocketAddr) -> Result<Vec<u8>, Errno> {
    let netlink =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    send(netlink.as_raw_fd(), &request(own, other), MsgFlags::empty())?;
    // The kernel has replied before `send` returns.
    let mut reply = vec![0; 4096];
    let length = recv(netlink.as_raw_fd(), &mut reply, MsgFlags::MSG_DONTWAIT)?;
    reply.truncate(length);
    match field(&reply, 4).map(u16::from_ne_bytes) {
        Some(SOCK_DIAG_BY_FAMILY) => Ok(reply),
        Some(NLMSG_ERROR) => {
            let code = field(&reply, HEADER).map(i32::from_ne_bytes).unwrap_or_default();
            Err(Errno::from_raw(code.saturating_neg()))
        }
        _ => Err(Errno::EBADMSG),
    }
}

fn request(own: SocketAddr, other: SocketAddr) -> Vec<u8> {
    let family = if own.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let length = u32::try_from(HEADER + REQUEST).unwrap_or_default();
    let mut request = Vec::with_capacity(HEADER + REQUEST);
    request.extend(length.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence and port: there is one request per socket.
    request.extend([0; 8]);
    request.extend([u8::try_from(family).unwrap_or_default(), 6, 0, 0]);
    // Sockets in any state.
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(own.port().to_be_bytes());
    request.extend(other.port().to_be_bytes());
    request.extend(words(own.ip()));
    request.extend(words(other.ip()));
    // Any interface, and no cookie.
    request.extend(0_u32.to_ne_bytes());
    request.extend([0xff; 8]);
    request
}

/// An address in 16 bytes, an IPv4 one in the first four.
fn words(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// From `inet_diag_msg`. A socket that listens on the port that was theirs is none of theirs.
fn read(reply: &[u8]) -> Option<SocketOwner> {
    let message = reply.get(HEADER..)?;
    let state = *message.get(1)?;
    let uid = u32::from_ne_bytes(field(message, 64)?);
    let inode = u32::from_ne_bytes(field(message, 68)?).into();
    (state == ESTABLISHED && inode != 0).then_some(SocketOwner { uid, inode })
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reply of the kernel's as it is on the wire.
    fn reply(state: u8, uid: u32, inode: u32) -> Vec<u8> {
        let mut reply = vec![0; HEADER + 72];
        reply[HEADER + 1] = state;
        reply[HEADER + 64..HEADER + 68].copy_from_slice(&uid.to_ne_bytes());
        reply[HEADER + 68..].copy_from_slice(&inode.to_ne_bytes());
        reply
    }

    #[test]
    fn only_a_socket_that_is_held_open_has_an_owner() {
        assert_eq!(read(&reply(1, 2000, 77)), Some(SocketOwner { uid: 2000, inode: 77 }));
        // Lingering, in TIME_WAIT, listening; and cut short.
        for reply in [reply(1, 0, 0), reply(4, 0, 77), reply(6, 0, 0), reply(10, 0, 77)] {
            assert_eq!(read(&reply), None, "{reply:?}");
        }
        let whole = reply(1, 2000, 77);
        assert!((0..whole.len()).all(|length| read(&whole[..length]).is_none()));
    }

    #[test]
    fn a_request_is_as_long_as_it_says() {
        let request = request("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        assert_eq!(request.len(), HEADER + REQUEST);
    }
}
