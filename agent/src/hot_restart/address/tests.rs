use std::{
    net::{TcpListener, UdpSocket},
    os::{
        fd::{AsFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixSocketAddr, UnixListener},
    },
};

use nix::sys::socket::{SockFlag, SockProtocol, SockaddrIn, bind, socket};

use super::*;

fn address(text: &str) -> ListenAddress {
    text.parse().unwrap()
}

#[test]
fn addresses_are_spelled_as_envoy_spells_them() {
    for text in [
        "tcp://127.0.0.1:80",
        "tcp://0.0.0.0:15006",
        "tcp://[::1]:46002",
        "tcp://[::]:46003",
        "tcp://[fe80::1%2]:80",
        "udp://127.0.0.1:46006",
        "unix:///tmp/l.sock",
        "unix://@hotx/l",
    ] {
        assert_eq!(address(text).to_string(), text);
    }
    for text in [
        "",
        "tcp://",
        "tcp://localhost:80",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:65536",
        "unix://",
        "unix://@",
        "unix://relative",
        "quic://127.0.0.1:80",
        "127.0.0.1:80",
        "envoy://internal",
    ] {
        assert_eq!(text.parse::<ListenAddress>(), Err(InvalidListenAddress), "{text}");
    }
}

#[test]
fn a_socket_is_checked_against_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket").to_str().unwrap().to_owned();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp6 = TcpListener::bind("[::1]:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let unix = UnixListener::bind(&path).unwrap();
    let name = format!("pilot-test-{}", std::process::id());
    let named = UnixListener::bind_addr(&UnixSocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let listening = [
        (ListenAddress::Tcp(tcp.local_addr().unwrap()), OwnedFd::from(tcp)),
        (ListenAddress::Tcp(tcp6.local_addr().unwrap()), tcp6.into()),
        (ListenAddress::Udp(udp.local_addr().unwrap()), udp.into()),
        (ListenAddress::Unix(path), unix.into()),
        (ListenAddress::Unix(format!("@{name}")), named.into()),
    ];
    for (wanted, _) in &listening {
        for (bound, socket) in &listening {
            let elsewhere =
                || SocketMismatch::Elsewhere { requested: wanted.clone(), bound: bound.to_string() };
            let expected = if wanted == bound { Ok(()) } else { Err(elsewhere()) };
            assert_eq!(wanted.check(socket.as_fd()), expected);
        }
    }
}

#[test]
fn what_does_not_listen_is_no_listener() {
    let bound = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), SockProtocol::Tcp).unwrap();
    bind(bound.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let name: SockaddrStorage = getsockname(bound.as_raw_fd()).unwrap();
    let wanted = ListenAddress::Tcp(internet(&name).unwrap());
    assert_eq!(wanted.check(bound.as_fd()), Err(SocketMismatch::NotListening(wanted.clone())));

    let no_socket = tempfile::tempfile().unwrap();
    assert_eq!(wanted.check(no_socket.as_fd()), Err(SocketMismatch::Unreadable(wanted, Errno::ENOTSOCK)));
}
