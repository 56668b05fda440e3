//! Finds the other end of a connection in the tables of `/proc/net`, `tcp` and `tcp6`. For kernels that answer
//! no questions about sockets: a look takes milliseconds, however few sockets there are.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use super::{ConnectionAddresses, SocketOwner};

/// The kernel makes as many rows at once as fit; fewer turns, fewer rows that move meanwhile.
const BUFFER: usize = 64 << 10;

/// `TCP_ESTABLISHED`: neither side has hung up.
const ESTABLISHED: &str = "01";

pub(super) fn look(folder: &Path, ends: ConnectionAddresses) -> io::Result<Option<SocketOwner>> {
    let ends = ends.plain();
    // An IPv6 socket may have connected to an IPv4 address, and is in the other table.
    let tables: &[&str] = if ends.peer.is_ipv4() { &["tcp", "tcp6"] } else { &["tcp6"] };
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

/// `sl local remote state queues timer retransmits uid timeout inode ...`, if the row is the other end's.
fn read(row: &str, ends: ConnectionAddresses) -> Option<SocketOwner> {
    let mut fields = row.split_ascii_whitespace().skip(1);
    let found = address(fields.next()?)? == ends.peer && address(fields.next()?)? == ends.local;
    if !found || fields.next()? != ESTABLISHED {
        return None;
    }
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok().filter(|inode| *inode != 0)?;
    Some(SocketOwner { uid, inode })
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
