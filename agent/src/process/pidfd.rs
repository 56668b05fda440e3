//! Waits for a process that is not a child, and returns its status where the kernel reports it (Linux 6.15).

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep,
};

use crate::supervisor::ExitStatus;

/// Time in which the parent of an ended process reaps it; the kernel reports the status after that.
const REAPED_WITHIN: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(10);

/// `PIDFD_INFO_EXIT` of `linux/pidfd.h`.
const INFO_EXIT: u64 = 1 << 3;

/// `PIDFD_GET_INFO`: `_IOWR(0xFF, 11, struct pidfd_info)` with the 64 bytes of its first version.
const GET_INFO: libc::Ioctl = 0xC040_FF0B_u32 as libc::Ioctl;

/// `struct pidfd_info`.
#[derive(Default)]
#[repr(C)]
struct Info {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// Process that was started by another one.
#[derive(Debug)]
pub(crate) struct WatchedProcess(AsyncFd<OwnedFd>);

// === impl Watched ===

impl WatchedProcess {
    /// Holds on to the process of this id, whatever the id is used for later. Within a tokio runtime.
    #[expect(unsafe_code, reason = "there is no other way to wait for a descriptor of one's own")]
    pub(crate) fn open(pid: i32) -> io::Result<Self> {
        let pidfd = pidfd_open(pid)?;
        // SAFETY: the descriptor is the `OwnedFd`'s, which keeps it open and which nothing replaces.
        Ok(Self(unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?))
    }

    /// Waits for its end; returns its exit code, or 128 and its signal, if the kernel reports it.
    pub(crate) async fn end(&self) -> Option<u8> {
        // An error would be the runtime's end.
        drop(self.0.readable().await);
        let mut waited = Duration::ZERO;
        loop {
            match exit_status(self.0.get_ref()) {
                Ok(Some(status)) => return Some(status.code()),
                Ok(None) if waited < REAPED_WITHIN => {
                    sleep(INTERVAL).await;
                    waited += INTERVAL;
                }
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

#[expect(unsafe_code, reason = "nix has no pidfd_open")]
fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just created this descriptor, and nothing else uses it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `None`: it has not been reaped yet.
#[expect(unsafe_code, reason = "nix does not know this request")]
fn exit_status(pidfd: &OwnedFd) -> io::Result<Option<ExitStatus>> {
    let mut info = Info { mask: INFO_EXIT, ..Info::default() };
    // SAFETY: the size in the request's number is that of `Info`, and the kernel writes no more.
    let asked = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO, &raw mut info) };
    if asked < 0 {
        return Err(io::Error::last_os_error());
    }
    if info.mask & INFO_EXIT == 0 {
        return Ok(None);
    }
    // As `wait` has it: the signal in the low seven bits, the code above.
    let [low, high, ..] = info.exit_code.to_le_bytes();
    Ok(Some(match low & 0x7f {
        0 => ExitStatus::Exited(high),
        signal => ExitStatus::Signaled(signal),
    }))
}
