//! What Envoy listens on, in the spelling of its hot-restart messages: `tcp://127.0.0.1:80`,
//! `udp://[::1]:443`, `unix:///run/a.sock`, `unix://@abstract`.

use std::{
    fmt,
    net::SocketAddr,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    str::FromStr,
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, SockType, SockaddrLike, SockaddrStorage, UnixAddr, getsockname, getsockopt, sockopt,
    },
};

/// One address of one listener.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// Takes connections.
    Tcp(SocketAddr),
    /// Takes datagrams: QUIC, DNS.
    Udp(SocketAddr),
    /// A Unix socket: a path, or a name in the abstract namespace after `@`.
    Unix(String),
}

/// Not the spelling of an address we know.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address of a listener")]
pub struct UnknownAddress;

/// A socket that is not what was asked for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It is bound to something else.
    #[error("a socket of {found} in place of one of {wanted}")]
    Elsewhere {
        /// What was asked for.
        wanted: Address,
        /// What it is bound to.
        found: String,
    },
    /// It is bound, and accepts nothing.
    #[error("a socket of {0} that does not listen")]
    NotListening(Address),
    /// The kernel does not say: no socket at all, most likely.
    #[error("look at a socket of {0}")]
    Unreadable(Address, #[source] Errno),
}

// === impl Address ===

impl Address {
    /// The port, if it has one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) | Self::Udp(address) => Some(address.port()),
            Self::Unix(_) => None,
        }
    }

    /// Whether `socket` is one that listens on this address.
    pub fn check(&self, socket: BorrowedFd<'_>) -> Result<(), Mismatch> {
        let unreadable = |errno| Mismatch::Unreadable(self.clone(), errno);
        let bound: SockaddrStorage = getsockname(socket.as_raw_fd()).map_err(unreadable)?;
        let kind = getsockopt(&socket, sockopt::SockType).map_err(unreadable)?;
        let found = match (bound.family(), kind) {
            (Some(AddressFamily::Unix), SockType::Stream) => {
                bound.as_unix_addr().and_then(unix_name).map(Self::Unix)
            }
            (Some(AddressFamily::Inet | AddressFamily::Inet6), SockType::Stream) => {
                internet(&bound).map(Self::Tcp)
            }
            (Some(AddressFamily::Inet | AddressFamily::Inet6), SockType::Datagram) => {
                internet(&bound).map(Self::Udp)
            }
            _ => None,
        };
        if found.as_ref() != Some(self) {
            let found = found.map_or_else(|| format!("{kind:?} {bound}"), |found| found.to_string());
            return Err(Mismatch::Elsewhere { wanted: self.clone(), found });
        }
        let listens = match kind {
            SockType::Datagram => true,
            _ => getsockopt(&socket, sockopt::AcceptConn).map_err(unreadable)?,
        };
        if listens { Ok(()) } else { Err(Mismatch::NotListening(self.clone())) }
    }
}

impl FromStr for Address {
    type Err = UnknownAddress;

    fn from_str(text: &str) -> Result<Self, UnknownAddress> {
        let ip = |text: &str| text.parse().map_err(|_| UnknownAddress);
        match text.split_once("://") {
            Some(("tcp", rest)) => ip(rest).map(Self::Tcp),
            Some(("udp", rest)) => ip(rest).map(Self::Udp),
            Some(("unix", rest)) if rest.len() > 1 && rest.starts_with(['/', '@']) => {
                Ok(Self::Unix(rest.into()))
            }
            _ => Err(UnknownAddress),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::Unix(name) => write!(f, "unix://{name}"),
        }
    }
}

fn internet(bound: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = || bound.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
    // The scope of a link-local address is part of its spelling.
    let v6 = || bound.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into()));
    v4().or_else(v6)
}

fn unix_name(bound: &UnixAddr) -> Option<String> {
    match (bound.path(), bound.as_abstract()) {
        (Some(path), _) => std::str::from_utf8(path.as_os_str().as_bytes()).ok().map(String::from),
        (None, Some(name)) => std::str::from_utf8(name).ok().map(|name| format!("@{name}")),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests;
