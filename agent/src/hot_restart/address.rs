//! Listening addresses in the spelling of Envoy's hot-restart messages: `tcp://127.0.0.1:80`, `udp://[::1]:443`,
//! `unix:///run/a.sock`, `unix://@abstract`.

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
pub(crate) enum ListenAddress {
    /// For connections.
    Tcp(SocketAddr),
    /// For datagrams: QUIC, DNS.
    Udp(SocketAddr),
    /// A Unix socket: a path, or a name in the abstract namespace after `@`.
    Unix(String),
}

/// A text that is no listening address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address of a listener")]
pub(crate) struct InvalidListenAddress;

/// A socket other than the requested one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SocketMismatch {
    /// The socket is bound to another address.
    #[error("a socket of {bound} instead of {requested}")]
    Elsewhere {
        /// The requested address.
        requested: ListenAddress,
        /// The address it is bound to.
        bound: String,
    },
    /// The socket is bound and does not listen.
    #[error("a socket of {0} that does not listen")]
    NotListening(ListenAddress),
    /// The kernel reports an error; most likely it is no socket.
    #[error("inspect a socket of {0}")]
    Unreadable(ListenAddress, #[source] Errno),
}

// === impl ListenAddress ===

impl ListenAddress {
    /// Returns the port of an IP address.
    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) | Self::Udp(address) => Some(address.port()),
            Self::Unix(_) => None,
        }
    }

    /// Checks that `socket` listens on this address.
    pub(crate) fn check(&self, socket: BorrowedFd<'_>) -> Result<(), SocketMismatch> {
        let unreadable = |errno| SocketMismatch::Unreadable(self.clone(), errno);
        let name: SockaddrStorage = getsockname(socket.as_raw_fd()).map_err(unreadable)?;
        let kind = getsockopt(&socket, sockopt::SockType).map_err(unreadable)?;
        let bound = match (name.family(), kind) {
            (Some(AddressFamily::Unix), SockType::Stream) => {
                name.as_unix_addr().and_then(unix_name).map(Self::Unix)
            }
            (Some(AddressFamily::Inet | AddressFamily::Inet6), SockType::Stream) => {
                internet(&name).map(Self::Tcp)
            }
            (Some(AddressFamily::Inet | AddressFamily::Inet6), SockType::Datagram) => {
                internet(&name).map(Self::Udp)
            }
            _ => None,
        };
        if bound.as_ref() != Some(self) {
            let bound = bound.map_or_else(|| format!("{kind:?} {name}"), |address| address.to_string());
            return Err(SocketMismatch::Elsewhere { requested: self.clone(), bound });
        }
        let listens = match kind {
            SockType::Datagram => true,
            _ => getsockopt(&socket, sockopt::AcceptConn).map_err(unreadable)?,
        };
        if listens { Ok(()) } else { Err(SocketMismatch::NotListening(self.clone())) }
    }
}

impl FromStr for ListenAddress {
    type Err = InvalidListenAddress;

    fn from_str(text: &str) -> Result<Self, InvalidListenAddress> {
        let ip = |text: &str| text.parse().map_err(|_| InvalidListenAddress);
        match text.split_once("://") {
            Some(("tcp", rest)) => ip(rest).map(Self::Tcp),
            Some(("udp", rest)) => ip(rest).map(Self::Udp),
            Some(("unix", rest)) if rest.len() > 1 && rest.starts_with(['/', '@']) => {
                Ok(Self::Unix(rest.into()))
            }
            _ => Err(InvalidListenAddress),
        }
    }
}

impl fmt::Display for ListenAddress {
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
