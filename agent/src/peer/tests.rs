//! Trusted and untrusted users, and closed connections, with test tables and real sockets.

use std::{fs, net::TcpListener, path::Path};

use super::*;

const HEADER: &str =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

/// Our end is 127.0.0.1:15000 or `[::1]:15000`, peer has port 40000.
fn ends(peer: &str, local: &str) -> ConnectionAddresses {
    ConnectionAddresses { peer: peer.parse().unwrap(), local: local.parse().unwrap() }
}

fn v4() -> ConnectionAddresses {
    ends("127.0.0.1:40000", "127.0.0.1:15000")
}

/// A row of `tcp`, as a little-endian kernel writes it.
fn row(state: &str, uid: u32, inode: u64) -> String {
    format!(
        "   0: 0100007F:9C40 0100007F:3A98 {state} 00000000:00000000 00:00000000 00000000 {uid:>5} 0 {inode} 1 0 20\n"
    )
}

fn row6(peer: &str, local: &str, uid: u32) -> String {
    format!("   0: {peer}:9C40 {local}:3A98 01 00000000:00000000 00:00000000 00000000 {uid:>5} 0 77 1 0 20\n")
}

/// Tables of these rows; we are user 1337 and trust root, ourselves and user 2001.
fn admit(tcp: &str, tcp6: Option<&str>, ends: ConnectionAddresses) -> Result<(), Denied> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tcp"), format!("{HEADER}{tcp}")).unwrap();
    if let Some(rows) = tcp6 {
        fs::write(folder.path().join("tcp6"), format!("{HEADER}{rows}")).unwrap();
    }
    PeerPolicy::for_test("2001".parse().unwrap(), 1337, folder.path()).authorize(ends)
}

#[test]
fn root_we_ourselves_and_the_trusted_come_in() {
    for (uid, expected) in
        [(0, Ok(())), (1337, Ok(())), (2001, Ok(())), (2000, Err(Denied::UntrustedUid(2000)))]
    {
        assert_eq!(admit(&row("01", uid, 77), None, v4()), expected, "{uid}");
    }
}

#[test]
fn who_has_hung_up_is_not_taken_for_root() {
    // FIN_WAIT1 without a process, TIME_WAIT, and a socket on its way from one to the other.
    for rows in [row("04", 0, 0), row("06", 0, 0), row("01", 0, 0), row("04", 0, 77), String::new()] {
        assert!(matches!(admit(&rows, Some(""), v4()), Err(Denied::Unknown(_))), "{rows}");
    }
}

#[test]
fn our_own_end_of_the_connection_is_not_theirs() {
    let local =
        "   0: 0100007F:3A98 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1337 0 78 1 0 20\n";
    assert_eq!(
        admit(&format!("{local}{}", row("01", 2000, 77)), None, v4()),
        Err(Denied::UntrustedUid(2000))
    );
}

#[test]
fn both_address_families_and_their_mixture_are_found() {
    const LOOPBACK: &str = "00000000000000000000000001000000";
    const MAPPED: &str = "0000000000000000FFFF00000100007F";
    let v6 = ends("[::1]:40000", "[::1]:15000");
    assert_eq!(admit("", Some(&row6(LOOPBACK, LOOPBACK, 1337)), v6), Ok(()));
    assert_eq!(admit("", Some(&row6(LOOPBACK, LOOPBACK, 2000)), v6), Err(Denied::UntrustedUid(2000)));
    let dual = ends("[::ffff:127.0.0.1]:40000", "[::ffff:127.0.0.1]:15000");
    assert_eq!(admit(&row("01", 2000, 77), Some(""), dual), Err(Denied::UntrustedUid(2000)));
    for ends in [v4(), dual] {
        assert_eq!(admit("", Some(&row6(MAPPED, MAPPED, 2000)), ends), Err(Denied::UntrustedUid(2000)));
    }
}

#[test]
fn nobody_comes_from_outside_and_nonsense_is_nobody() {
    assert_eq!(admit("", None, ends("10.1.2.3:40000", "10.1.2.4:15020")), Err(Denied::OutsidePod));
    for rows in
        ["\n", "0: x:y z:w 01\n", "0: 0100007F:9C40 0100007F:3A98 01 0 0 0 root 0 77\n", "0: 01é0007F:9C40\n"]
    {
        assert!(matches!(admit(rows, None, v4()), Err(Denied::Unknown(_))), "{rows}");
    }
}

#[test]
fn a_list_of_uids_is_numbers_or_any() {
    assert_eq!("any".parse(), Ok(TrustedUids::Any));
    assert_eq!("".parse(), Ok(TrustedUids::default()));
    assert_eq!("1000, 2000".parse(), Ok(TrustedUids::Only([1000, 2000].into())));
    for text in ["all", "-1", "4294967296", "1000;2000"] {
        assert!(text.parse::<TrustedUids>().is_err(), "{text}");
    }
    assert_eq!(PeerPolicy::for_test(TrustedUids::Any, 1, Path::new("/nowhere")).authorize(v4()), Ok(()));
}

#[test]
fn a_refusal_names_the_flag_that_opens() {
    for denied in [Denied::UntrustedUid(2000), Denied::Unknown("gone".into())] {
        assert!(denied.to_string().contains("--trustedUids="), "{denied}");
    }
}

/// On real sockets, in each family and across them: the user is found as long as the client's end is open, by query or by the
/// kernel's tables.
#[test]
fn the_kernel_knows_us() {
    for sockets in [SocketTable::Kernel, SocketTable::Tables("/proc/net".into())] {
        for (listen, connect) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")] {
            let listener = TcpListener::bind(listen).unwrap();
            let port = listener.local_addr().unwrap().port();
            let client = std::net::TcpStream::connect((connect, port)).unwrap();
            let (stream, peer) = listener.accept().unwrap();
            let ends = ConnectionAddresses { peer, local: stream.local_addr().unwrap() };
            assert_eq!(sockets.owner(ends), Ok(Uid::effective().as_raw()), "{sockets:?} {ends:?}");
            drop(client);
            assert!(matches!(sockets.owner(ends), Err(Denied::Unknown(_))), "{sockets:?} {ends:?}");
        }
    }
}

/// This kernel supports the query: also about a closed socket.
#[test]
fn a_socket_that_is_gone_is_not_looked_for_in_tables() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ends = ConnectionAddresses { peer: gone, local: listener.local_addr().unwrap() };
    assert_eq!(sock_diag::look(ends).unwrap(), sock_diag::SockDiagReply::NotOpen);
}
