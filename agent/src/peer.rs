//! Who is at the other end of a connection, and whether he may ask for it.
//!
//! Loopback is no boundary inside a pod: every container of it, whatever its user, is at 127.0.0.1. So
//! whatever changes something, or shows secrets of the mesh, is for root, for our own user and for those that
//! `--trustedUids` names. Root comes with `kubectl port-forward`, our own user with `kubectl exec`.
//!
//! Deliberately does not know what is asked for.

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
    /// Of the one who came.
    pub(crate) peer: SocketAddr,
    /// Of ours.
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

/// Who is trusted besides root and our own user: `--trustedUids`, a list of numbers or `any`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TrustedUids {
    /// Everybody in the pod, as Istio has it.
    Any,
    /// These.
    Only(BTreeSet<u32>),
}

/// A text that is not user ids.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a user id nor \"any\"")]
pub(crate) struct InvalidUid(String);

/// Lets some in and tells the others why not.
#[derive(Clone, Debug)]
pub(crate) struct PeerPolicy {
    trusted: TrustedUids,
    own: u32,
    sockets: SocketTable,
}

/// Why somebody is not let in. What is displayed is for him to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// He is not in this pod.
    OutsidePod,
    /// He is another user, who is not trusted.
    UntrustedUid(u32),
    /// He cannot be told: he has hung up, or the system does not say.
    Unknown(String),
    /// He used a name for us that is not this host's.
    ForeignHost,
    /// He is a browser, and a page of somebody else made it ask.
    ForeignPage,
}

// === impl ConnectionAddresses ===

impl ConnectionAddresses {
    /// Of this connection.
    pub(crate) fn of(stream: &TcpStream) -> io::Result<Self> {
        Ok(Self { peer: stream.peer_addr()?, local: stream.local_addr()? })
    }

    /// Addresses as the kernel keeps them; a scope says nothing on loopback.
    fn plain(self) -> Self {
        let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Self { peer: plain(self.peer), local: plain(self.local) }
    }

    /// Whether both are in one pod.
    pub(crate) fn in_pod(self) -> Result<(), Denied> {
        // Behind a dual-stack socket an IPv4 loopback comes as `::ffff:127.0.0.1`.
        if self.peer.ip().to_canonical().is_loopback() { Ok(()) } else { Err(Denied::OutsidePod) }
    }
}

// === impl TrustedUids ===

impl Default for TrustedUids {
    /// Nobody else.
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
    /// For root, the user this process runs as, and these.
    pub(crate) fn new(trusted: TrustedUids) -> Self {
        Self { trusted, own: Uid::effective().as_raw(), sockets: SocketTable::Kernel }
    }

    /// The same, but the tables of sockets are elsewhere and we are somebody else.
    #[cfg(test)]
    pub(crate) fn for_test(trusted: TrustedUids, own: u32, sockets: &std::path::Path) -> Self {
        Self { trusted, own, sockets: SocketTable::Tables(sockets.into()) }
    }

    /// Whether the one at the other end of a TCP connection may come in. Takes microseconds, or
    /// milliseconds with a kernel whose tables must be read.
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
                "only for root and the agent's own user, and it cannot be told who you are ({why}): \
                 pilot-agent's --trustedUids=any lets you in"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
