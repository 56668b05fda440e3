//! Finds the user of the socket at the other end of a connection.
//!
//! A socket that its process has closed has user 0, root, while it lingers. A client that sends a request and closes would be
//! taken for root; hence two lookups that must agree, each of an open socket: a socket that is open at the second lookup was open
//! at the first.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{ConnectionAddresses, Denied, SocketOwner, proc_net, sock_diag};

/// A row may slip through a look at tables while others come and go.
const LOOKS: usize = 4;

/// Source of the sockets of the network namespace.
#[derive(Clone, Debug)]
pub(super) enum SocketTable {
    /// The kernel: by query, or by its tables.
    Kernel,
    /// Tables made up for a test, in this folder.
    #[cfg_attr(not(test), expect(dead_code, reason = "for tests"))]
    Tables(PathBuf),
}

// === impl SocketTable ===

impl SocketTable {
    /// Returns the user that made the socket at the other end.
    pub(super) fn owner(&self, ends: ConnectionAddresses) -> Result<u32, Denied> {
        let mut before: Option<SocketOwner> = None;
        for _ in 0..LOOKS {
            let seen = self.look(ends).map_err(|error| Denied::Unknown(error.to_string()))?;
            match (seen, before) {
                (Some(now), Some(before)) if now == before => return Ok(now.uid),
                _ => before = seen.or(before),
            }
        }
        Err(Denied::Unknown("your end of the connection is not open".into()))
    }

    fn look(&self, ends: ConnectionAddresses) -> io::Result<Option<SocketOwner>> {
        match self {
            Self::Kernel => match sock_diag::look(ends)? {
                sock_diag::SockDiagReply::Open(owner) => Ok(Some(owner)),
                sock_diag::SockDiagReply::NotOpen => Ok(None),
                sock_diag::SockDiagReply::Unable => proc_net::look(Path::new("/proc/net"), ends),
            },
            Self::Tables(folder) => proc_net::look(folder, ends),
        }
    }
}
