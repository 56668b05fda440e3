//! Finds the user of a socket in the kernel's tables, `/proc/net/tcp` and `tcp6`.
//!
//! A socket whose process has closed it shows user 0, that is root, for as long as it lingers. A stranger who
//! sends his request and hangs up would be taken for root; hence two looks that agree, each at a socket that
//! is still open: a socket that the second finds open was so at the first.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use super::{Denied, Ends};

/// The kernel makes as many rows at once as fit; fewer turns, fewer rows that move meanwhile.
const BUFFER: usize = 64 << 10;

/// A row may slip through a look while others come and go.
const LOOKS: usize = 4;

/// `TCP_ESTABLISHED`: neither side has hung up.
const ESTABLISHED: &str = "01";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    uid: u32,
    /// Never zero: a socket that a process holds.
    inode: u64,
}

/// The user who made the socket at the other end.
pub(super) fn owner(folder: &Path, ends: Ends) -> Result<u32, Denied> {
    let mut before: Option<Owner> = None;
    for _ in 0..LOOKS {
        let seen = look(folder, ends).map_err(|error| Denied::Unknown(error.to_string()))?;
        match (seen, before) {
            (Some(now), Some(before)) if now == before => return Ok(now.uid),
            _ => before = seen.or(before),
        }
    }
    Err(Denied::Unknown("your end of the connection is not open".into()))
}

fn look(folder: &Path, ends: Ends) -> io::Result<Option<Owner>> {
    let ends = Ends { theirs: plain(ends.theirs), ours: plain(ends.ours) };
    // An IPv6 socket may have connected to an IPv4 address, and is in the other table.
    let tables: &[&str] = if ends.theirs.is_ipv4() { &["tcp", "tcp6"] } else { &["tcp6"] };
    for table in tables {
        let file = match File::open(folder.join(table)) {
            Ok(file) => file,
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && *table == "tcp6" => continue,
            Err(error) => return Err(error),
        };
        for row in BufReader::with_capacity(BUFFER, file).lines().skip(1) {
            if let Some(owner) = read(&row?, ends) {
                return Ok(Some(owner));
            }
        }
    }
    Ok(None)
}

/// Address and port: a scope says nothing on loopback.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// `sl local remote state queues timer retransmits uid timeout inode ...`, if the row is the other end's.
fn read(row: &str, ends: Ends) -> Option<Owner> {
    let mut fields = row.split_ascii_whitespace().skip(1);
    let found = address(fields.next()?)? == ends.theirs && address(fields.next()?)? == ends.ours;
    if !found || fields.next()? != ESTABLISHED {
        return None;
    }
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok().filter(|inode| *inode != 0)?;
    Some(Owner { uid, inode })
}

/// `0100007F:1F90`: words as they lie in memory, the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let digits = ip.get(index * 8..index * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index)?);
            }
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}
