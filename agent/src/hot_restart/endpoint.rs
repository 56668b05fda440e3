//! A datagram socket with a name in the file system, as Envoy has two for each role.
//!
//! Deliberately never gives its name back: whoever still sends to it aborts at once if the name is gone, and
//! tries again for ten seconds if only the socket is. Names go with their [`Lineage`](super::Lineage).

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

/// Appended to a name until it is taken.
pub(super) const UNNAMED: &str = ".new";

/// The kernel passes no more descriptors at once (`SCM_MAX_FD`).
const MOST_DESCRIPTORS: usize = 253;

/// More than the kernel queues at a socket, unless it was told to (`net.unix.max_dgram_qlen` is 10, or 512).
const MOST_QUEUED: u32 = 1024;

/// The other end reads one datagram before it sends the next, so its queue has room; only a stopped process
/// has not. The kernel tells nobody when there is room in another's queue, hence the pause.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(5);

/// A bound socket.
#[derive(Debug)]
pub(super) struct Endpoint {
    socket: UnixDatagram,
}

/// What came in.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) bytes: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
    pub(super) whole: Whole,
}

/// Whether a datagram fit the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    Yes,
    CutOff,
}

// === impl Endpoint ===

impl Endpoint {
    /// Binds a socket of mode 0600 to this name, from whoever has it. The name never points to nothing in
    /// between: an Envoy that sends at that moment would abort. To be called within a tokio runtime.
    pub(super) fn bind(name: &Path) -> io::Result<Self> {
        let mut unnamed = name.as_os_str().to_owned();
        unnamed.push(UNNAMED);
        let unnamed = Path::new(&unnamed);
        match fs::remove_file(unnamed) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = net::UnixDatagram::bind(unnamed)?;
        socket.set_nonblocking(true)?;
        fs::set_permissions(unnamed, Permissions::from_mode(0o600))?;
        let socket = UnixDatagram::from_std(socket)?;
        fs::rename(unnamed, name)?;
        Ok(Self { socket })
    }

    /// The next datagram. Nothing is lost when this is cancelled.
    pub(super) async fn receive(&self) -> io::Result<Datagram> {
        self.socket.async_io(Interest::READABLE, || receive(self.socket.as_raw_fd())).await
    }

    /// Drops what has come in and was not received.
    pub(super) fn discard(&self) {
        let mut left = MOST_QUEUED;
        while left > 0 && receive(self.socket.as_raw_fd()).is_ok() {
            left -= 1;
        }
    }

    /// Sends a message in as many datagrams as it takes, the descriptor beside the first.
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
        timeout(PATIENCE, sent).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
    }

    async fn send_one(&self, to: &UnixAddr, datagram: &[u8], descriptor: Option<RawFd>) -> io::Result<()> {
        let (bytes, descriptors) = ([IoSlice::new(datagram)], descriptor.as_slice());
        let beside = [ControlMessage::ScmRights(descriptors)];
        let beside = if descriptors.is_empty() { &beside[..0] } else { &beside[..] };
        loop {
            let sent = sendmsg(self.socket.as_raw_fd(), &bytes, beside, MsgFlags::MSG_DONTWAIT, Some(to));
            match sent.map_err(io::Error::from) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(PAUSE).await,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other.map(drop),
            }
        }
    }
}

fn receive(socket: RawFd) -> io::Result<Datagram> {
    let mut bytes = vec![0; DATAGRAM];
    // Room for all there can be: descriptors that do not fit would be open and known to nobody.
    let mut room = cmsg_space!([RawFd; MOST_DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<UnixAddr>(socket, &mut parts, Some(&mut room), flags)?;
    let mut descriptors = Vec::new();
    for beside in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(passed) = beside {
            descriptors.extend(passed.into_iter().map(own));
        }
    }
    let whole = if received.flags.contains(MsgFlags::MSG_TRUNC) { Whole::CutOff } else { Whole::Yes };
    let length = received.bytes;
    bytes.truncate(length);
    Ok(Datagram { bytes, descriptors, whole })
}

#[expect(unsafe_code, reason = "the kernel hands out descriptors as numbers")]
fn own(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us, and nobody else has seen its number.
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

    /// Envoy tries again when nobody listens behind a name, and aborts when there is no name.
    #[tokio::test]
    async fn a_name_that_changes_hands_is_never_missing() {
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
        endpoint.send(&name, b"to whoever has the name", None).await.unwrap();
        assert_eq!(endpoint.receive().await.unwrap().bytes, b"to whoever has the name");
    }

    #[tokio::test]
    async fn a_datagram_that_is_too_long_is_known_to_be_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("name");
        let endpoint = Endpoint::bind(&name).unwrap();
        for (length, whole) in [(0, Whole::Yes), (DATAGRAM, Whole::Yes), (DATAGRAM + 1, Whole::CutOff)] {
            let stranger = net::UnixDatagram::unbound().unwrap();
            stranger.send_to(&vec![7; length], &name).unwrap();
            let datagram = endpoint.receive().await.unwrap();
            assert_eq!((datagram.bytes.len(), datagram.whole), (length.min(DATAGRAM), whole));
        }
    }

    #[tokio::test]
    async fn every_descriptor_that_comes_in_has_an_owner() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("name");
        let endpoint = Endpoint::bind(&name).unwrap();
        let (stranger, to) = (net::UnixDatagram::unbound().unwrap(), UnixAddr::new(&name).unwrap());
        let beside = [ControlMessage::ScmRights(&[stranger.as_raw_fd(); MOST_DESCRIPTORS])];
        sendmsg(stranger.as_raw_fd(), &[IoSlice::new(b"x")], &beside, MsgFlags::empty(), Some(&to)).unwrap();
        assert_eq!(endpoint.receive().await.unwrap().descriptors.len(), MOST_DESCRIPTORS);
    }
}
