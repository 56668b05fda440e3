//! A datagram socket bound to a path.
//!
//! The path is never removed here: an Envoy that sends to a missing path aborts at once, while it retries for ten seconds
//! if only the socket is closed. Paths are removed with their [`BaseIdLease`](super::BaseIdLease).

use std::{
    fs::{self, Permissions},
    io::{self, ErrorKind, IoSlice, IoSliceMut},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::{fs::PermissionsExt, net},
    },
    path::Path,
    time::Duration,
};

use nix::{
    cmsg_space,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg},
};
use tokio::{
    io::Interest,
    net::UnixDatagram,
    time::{sleep, timeout},
};

use super::wire::DATAGRAM;

/// Suffix of the path until the socket is renamed to its final path.
pub(super) const TEMPORARY_SUFFIX: &str = ".new";

/// The kernel's limit of descriptors per message (`SCM_MAX_FD`).
const MAX_DESCRIPTORS: usize = 253;

/// More datagrams than the kernel queues by default (`net.unix.max_dgram_qlen` is 10 or 512).
const MAX_QUEUED: u32 = 1024;

/// Limit for sending a message. The peer reads one datagram before it sends the next, so its queue has room unless the
/// process is stopped. The kernel does not signal room in a peer's queue, hence the retry interval.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// A bound socket.
#[derive(Debug)]
pub(super) struct Endpoint {
    socket: UnixDatagram,
}

/// A received datagram.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) bytes: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
    pub(super) completeness: Completeness,
}

/// Completeness of a received datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completeness {
    Whole,
    Truncated,
}

// === impl Endpoint ===

impl Endpoint {
    /// Binds a socket of mode 0600 to this path, replacing any other. The path exists at every moment, because an Envoy
    /// that sends to a missing one aborts. Needs a tokio runtime.
    pub(super) fn bind(name: &Path) -> io::Result<Self> {
        let mut temporary = name.as_os_str().to_owned();
        temporary.push(TEMPORARY_SUFFIX);
        let temporary = Path::new(&temporary);
        match fs::remove_file(temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = net::UnixDatagram::bind(temporary)?;
        socket.set_nonblocking(true)?;
        fs::set_permissions(temporary, Permissions::from_mode(0o600))?;
        let socket = UnixDatagram::from_std(socket)?;
        fs::rename(temporary, name)?;
        Ok(Self { socket })
    }

    /// Receives the next datagram. Cancel-safe.
    pub(super) async fn receive(&self) -> io::Result<Datagram> {
        self.socket.async_io(Interest::READABLE, || receive(self.socket.as_raw_fd())).await
    }

    /// Discards the queued datagrams.
    pub(super) fn discard(&self) {
        let mut left = MAX_QUEUED;
        while left > 0 && receive(self.socket.as_raw_fd()).is_ok() {
            left -= 1;
        }
    }

    /// Sends a message in as many datagrams as it takes, the descriptor control the first.
    pub(super) async fn send(
        &self,
        to: &Path,
        message: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let to = UnixAddr::new(to)?;
        let mut descriptor = descriptor.map(|descriptor| descriptor.as_raw_fd());
        let sent = async {
            for datagram in message.chunks(DATAGRAM) {
                self.send_one(&to, datagram, descriptor.take()).await?;
            }
            Ok(())
        };
        timeout(SEND_TIMEOUT, sent).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
    }

    async fn send_one(&self, to: &UnixAddr, datagram: &[u8], descriptor: Option<RawFd>) -> io::Result<()> {
        let (bytes, descriptors) = ([IoSlice::new(datagram)], descriptor.as_slice());
        let control = [ControlMessage::ScmRights(descriptors)];
        let control = if descriptors.is_empty() { &control[..0] } else { &control[..] };
        loop {
            let sent = sendmsg(self.socket.as_raw_fd(), &bytes, control, MsgFlags::MSG_DONTWAIT, Some(to));
            match sent.map_err(io::Error::from) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(RETRY_INTERVAL).await,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other.map(drop),
            }
        }
    }
}

fn receive(socket: RawFd) -> io::Result<Datagram> {
    let mut bytes = vec![0; DATAGRAM];
    // Room for the maximum: descriptors that do not fit would leak.
    let mut room = cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<UnixAddr>(socket, &mut parts, Some(&mut room), flags)?;
    let mut descriptors = Vec::new();
    for control in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(passed) = control {
            descriptors.extend(passed.into_iter().map(to_owned_fd));
        }
    }
    let completeness = if received.flags.contains(MsgFlags::MSG_TRUNC) {
        Completeness::Truncated
    } else {
        Completeness::Whole
    };
    let length = received.bytes;
    bytes.truncate(length);
    Ok(Datagram { bytes, descriptors, completeness })
}

#[expect(unsafe_code, reason = "the kernel passes descriptors as numbers")]
fn to_owned_fd(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just created this descriptor for this process; it has no other owner.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::MetadataExt,
        sync::atomic::{AtomicU32, Ordering},
        thread,
        time::Instant,
    };

    use super::*;

    /// Envoy retries when a path has no socket, and aborts when there is no path.
    #[tokio::test]
    async fn path_exists_while_the_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("name");
        let mut endpoint = Endpoint::bind(&name).unwrap();
        let (changes, deadline) = (AtomicU32::new(0), Instant::now() + Duration::from_secs(20));
        thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut last = 0;
                while changes.load(Ordering::Relaxed) < 300 && Instant::now() < deadline {
                    let inode = name.symlink_metadata().unwrap().ino();
                    changes.fetch_add(u32::from(inode != last), Ordering::Relaxed);
                    last = inode;
                }
            });
            while !watcher.is_finished() {
                endpoint = Endpoint::bind(&name).unwrap();
            }
            watcher.join().unwrap();
        });
        assert_eq!(changes.into_inner(), 300);
        endpoint.send(&name, b"to the current owner", None).await.unwrap();
        assert_eq!(endpoint.receive().await.unwrap().bytes, b"to the current owner");
    }

    #[tokio::test]
    async fn oversized_datagram_is_reported_as_truncated() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("name");
        let endpoint = Endpoint::bind(&name).unwrap();
        for (length, completeness) in [
            (0, Completeness::Whole),
            (DATAGRAM, Completeness::Whole),
            (DATAGRAM + 1, Completeness::Truncated),
        ] {
            let stranger = net::UnixDatagram::unbound().unwrap();
            stranger.send_to(&vec![7; length], &name).unwrap();
            let datagram = endpoint.receive().await.unwrap();
            assert_eq!((datagram.bytes.len(), datagram.completeness), (length.min(DATAGRAM), completeness));
        }
    }

    #[tokio::test]
    async fn all_received_descriptors_are_owned() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("name");
        let endpoint = Endpoint::bind(&name).unwrap();
        let (stranger, to) = (net::UnixDatagram::unbound().unwrap(), UnixAddr::new(&name).unwrap());
        let control = [ControlMessage::ScmRights(&[stranger.as_raw_fd(); MAX_DESCRIPTORS])];
        sendmsg(stranger.as_raw_fd(), &[IoSlice::new(b"x")], &control, MsgFlags::empty(), Some(&to)).unwrap();
        assert_eq!(endpoint.receive().await.unwrap().descriptors.len(), MAX_DESCRIPTORS);
    }
}
