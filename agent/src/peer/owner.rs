//! Finds the user whose socket is at the other end of a connection.
//!
//! A socket whose process has closed it shows user 0, that is root, for as long as it lingers. A stranger who
//! sends his request and hangs up would be taken for root; hence two looks that agree, each at a socket that
//! is still open: a socket that the second finds open was so at the first.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{Denied, Ends, diag, table};

/// A row may slip through a look at tables while others come and go.
const LOOKS: usize = 4;

/// Who knows the sockets of our network namespace.
#[derive(Clone, Debug)]
pub(super) enum Sockets {
    /// The kernel: asked, or else read.
    Kernel,
    /// Tables made up for a test, in this folder.
    #[cfg_attr(not(test), expect(dead_code, reason = "for tests"))]
    Tables(PathBuf),
}

/// Whose a socket is that a process holds open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u32,
    /// Never zero.
    pub(super) inode: u64,
}

// === impl Sockets ===

impl Sockets {
    /// The user who made the socket at the other end.
    pub(super) fn owner(&self, ends: Ends) -> Result<u32, Denied> {
        let mut before: Option<Owner> = None;
        for _ in 0..LOOKS {
            let seen = self.look(ends).map_err(|error| Denied::Unknown(error.to_string()))?;
            match (seen, before) {
                (Some(now), Some(before)) if now == before => return Ok(now.uid),
                _ => before = seen.or(before),
            }
        }
        Err(Denied::Unknown("your end of the connection is not open".into()))
    }

    fn look(&self, ends: Ends) -> io::Result<Option<Owner>> {
        match self {
            Self::Kernel => match diag::look(ends)? {
                diag::Answer::Open(owner) => Ok(Some(owner)),
                diag::Answer::NotOpen => Ok(None),
                diag::Answer::Unable => table::look(Path::new("/proc/net"), ends),
            },
            Self::Tables(folder) => table::look(folder, ends),
        }
    }
}
