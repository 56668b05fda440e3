//! Identity of the peer of a connection, and authorization.
//!
//! Loopback is no boundary inside a pod: all its containers, of any user, are at 127.0.0.1. So everything that changes state, or
//! shows secrets of the mesh, is for root, for the agent's own user and for those of `--trustedUids`. Root comes with `kubectl
//! port-forward`, the agent's user with `kubectl exec`.
//!
//! The request is not known here.

mod browser;
mod proc_net;
mod sock_diag;
mod socket_owner;

use std::{collections::BTreeSet, fmt, io, net::SocketAddr, str::FromStr};

use nix::unistd::Uid;
use tokio::net::TcpStream;

pub(crate) use self::browser::no_foreign_page;
use self::socket_owner::SocketTable;

/// The two ends of a connection that came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionAddresses {
    /// Address of the peer.
    pub(crate) peer: SocketAddr,
    /// Local address.
    pub(crate) local: SocketAddr,
}

/// The owner of a socket that a process holds open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SocketOwner {
    /// User that created the socket.
    uid: u32,
    /// Never zero.
    inode: u64,
}

/// Users that are trusted besides root and the agent's own: `--trustedUids`, a list of numbers or `any`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TrustedUids {
    /// All users in the pod, as in Istio.
    Any,
    /// These.
    Only(BTreeSet<u32>),
}

/// A text that is not user ids.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a user id nor \"any\"")]
pub(crate) struct InvalidUid(String);

/// Authorizes peers, or returns the reason of a refusal.
#[derive(Clone, Debug)]
pub(crate) struct PeerPolicy {
    trusted: TrustedUids,
    own: u32,
    sockets: SocketTable,
}

/// Reason of a refusal; displayed to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The peer is not in this pod.
    OutsidePod,
    /// The peer is another user, which is not trusted.
    UntrustedUid(u32),
    /// The user is unknown: the connection is closed, or the system does not report it.
    Unknown(String),
    /// The host header is not a name of this host.
    ForeignHost,
    /// Cross-site request of a browser.
    ForeignPage,
}

// === impl ConnectionAddresses ===

impl ConnectionAddresses {
    /// Returns the addresses of a connection.
    pub(crate) fn of(stream: &TcpStream) -> io::Result<Self> {
        Ok(Self { peer: stream.peer_addr()?, local: stream.local_addr()? })
    }

    /// Returns the addresses in the kernel's form; a scope is irrelevant on loopback.
    fn plain(self) -> Self {
        let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Self { peer: plain(self.peer), local: plain(self.local) }
    }

    /// Checks that both ends are in one pod.
    pub(crate) fn in_pod(self) -> Result<(), Denied> {
        // Behind a dual-stack socket an IPv4 loopback comes as `::ffff:127.0.0.1`.
        if self.peer.ip().to_canonical().is_loopback() { Ok(()) } else { Err(Denied::OutsidePod) }
    }
}

// === impl TrustedUids ===

impl Default for TrustedUids {
    /// Trusts no additional user.
    fn default() -> Self {
        Self::Only(BTreeSet::new())
    }
}

impl FromStr for TrustedUids {
    type Err = InvalidUid;

    fn from_str(text: &str) -> Result<Self, InvalidUid> {
        if text == "any" {
            return Ok(Self::Any);
        }
        let uids = text.split(',').map(str::trim).filter(|uid| !uid.is_empty());
        uids.map(|uid| uid.parse().map_err(|_| InvalidUid(uid.into())))
            .collect::<Result<_, _>>()
            .map(Self::Only)
    }
}

// === impl PeerPolicy ===

impl PeerPolicy {
    /// Creates the policy for root, the user of this process, and these users.
    pub(crate) fn new(trusted: TrustedUids) -> Self {
        Self { trusted, own: Uid::effective().as_raw(), sockets: SocketTable::Kernel }
    }

    /// The same with other socket tables and another own user.
    #[cfg(test)]
    pub(crate) fn for_test(trusted: TrustedUids, own: u32, sockets: &std::path::Path) -> Self {
        Self { trusted, own, sockets: SocketTable::Tables(sockets.into()) }
    }

    /// Checks the peer of a TCP connection. Takes microseconds, or milliseconds with a kernel whose tables must be read.
    pub(crate) fn authorize(&self, ends: ConnectionAddresses) -> Result<(), Denied> {
        ends.in_pod()?;
        match self.trusted {
            TrustedUids::Any => Ok(()),
            TrustedUids::Only(_) => self.judge(self.sockets.owner(ends)?),
        }
    }

    fn judge(&self, uid: u32) -> Result<(), Denied> {
        let trusted = match &self.trusted {
            TrustedUids::Any => true,
            TrustedUids::Only(uids) => uid == 0 || uid == self.own || uids.contains(&uid),
        };
        if trusted { Ok(()) } else { Err(Denied::UntrustedUid(uid)) }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutsidePod => f.write_str("only from the pod itself"),
            Self::UntrustedUid(uid) => write!(
                f,
                "only for root and the agent's own user, not for user {uid}: \
                 pilot-agent's --trustedUids={uid} (or any) lets you in"
            ),
            Self::ForeignHost => f.write_str("only under the name localhost or an address of loopback"),
            Self::ForeignPage => f.write_str("not for pages of other sites"),
            Self::Unknown(why) => write!(
                f,
                "only for root and the agent's own user, and the user of the connection is unknown ({why}): \
                 pilot-agent's --trustedUids=any lets you in"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
