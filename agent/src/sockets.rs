//! Counts the TCP connections of a process by the kernel's tables, for an Envoy whose admin endpoint is closed.
//!
//! Reads `/proc/<pid>/fd` for the sockets of the process, and `/proc/<pid>/net/tcp` and `tcp6` for their state. Costs a
//! millisecond for a hundred connections.

use std::{
    collections::{BTreeSet, HashSet},
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use nix::unistd::Pid;

/// `TCP_ESTABLISHED`.
const ESTABLISHED: &str = "01";

/// The kernel renders as many rows per read as fit.
const BUFFER: usize = 64 << 10;

/// Returns the number of connections that the process accepted on these ports.
pub(crate) fn connections(pid: Pid, ports: &BTreeSet<u16>) -> io::Result<usize> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let own = inodes(&process.join("fd"))?;
    let mut count = 0;
    for table in ["net/tcp", "net/tcp6"] {
        match File::open(process.join(table)) {
            Ok(file) => {
                for row in BufReader::with_capacity(BUFFER, file).lines().skip(1) {
                    if established(&row?)
                        .is_some_and(|(port, inode)| ports.contains(&port) && own.contains(&inode))
                    {
                        count += 1;
                    }
                }
            }
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table == "net/tcp6" => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// The sockets among a process's open files.
fn inodes(fds: &Path) -> io::Result<HashSet<u64>> {
    let links = fs::read_dir(fds)?.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let inode = |link: PathBuf| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    Ok(links.filter_map(inode).collect())
}

/// Local port and inode of a row, if it is an open connection.
fn established(row: &str) -> Option<(u16, u64)> {
    // Most rows of a busy machine are in TIME_WAIT, and none of their other columns matters.
    let mut columns = row.trim_start().splitn(5, ' ').skip(1);
    let (local, state, rest) = (columns.next()?, columns.nth(1)?, columns.next()?);
    if state != ESTABLISHED {
        return None;
    }
    let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
    // tx_queue:rx_queue, tr:tm->when, retrnsmt, uid, timeout, inode
    Some((port, rest.split_ascii_whitespace().nth(5)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use nix::unistd::getpid;

    use super::*;

    #[test]
    fn accepted_connections_are_counted_in_both_families_and_dialled_ones_are_not() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(loopback).unwrap();
            let port = listener.local_addr().unwrap().port();
            let count = || connections(getpid(), &BTreeSet::from([port])).unwrap();
            assert_eq!(count(), 0, "a listening socket is no connection");
            let dialled = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            assert_eq!(count(), 1, "on {loopback}");
            drop((dialled, accepted));
        }
    }

    #[test]
    fn what_is_no_row_is_no_connection() {
        for row in
            ["", "0:", "0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 77", "0: xyz 0:0 01 a b c d e f"]
        {
            assert_eq!(established(row), None, "{row:?}");
        }
    }
}
