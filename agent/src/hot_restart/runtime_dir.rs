//! The agent's hot-restart files, kept apart from those of other agents.
//!
//! | shared by two agents | collision | prevented by |
//! | --- | --- | --- |
//! | nothing | none | |
//! | network namespace (containers of one pod) | abstract sockets | sockets with paths, in a private folder |
//! | `/dev/shm` | segments: Envoy of epoch 0 unlinks any | a locked reservation file for each base id, beside the segment |
//! | the run folder | sockets: Envoy unlinks whatever has the name | a lock on the folder: the second agent is refused |
//!
//! A lock belongs to the kernel's open file. It needs no process id, which means nothing in another namespace, and it
//! ends with the agent however that ends. So a reservation that can be locked belongs to a dead agent and is removed with
//! its segment. Files without a reservation belong to other programs and are never touched; base ids in use by them are
//! skipped. Other users cannot take over a name: `/dev/shm` is sticky and the run folder is private.
//!
//! Not covered: an Envoy outside any agent that is started later with the same base id.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    hash::{BuildHasher, RandomState},
    io::{self, ErrorKind},
    ops::Range,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;

use super::base_id::{BaseIdLease, STEM, is_of, is_socket_name, reserved_base_id, segment_name};
use super::{base_id, endpoint};

/// Folder of POSIX shared memory. Envoy cannot use another one.
pub(crate) const SHARED_MEMORY: &str = "/dev/shm";

/// Base ids to choose from, above the small ones that people use. Ten times the largest must fit 31 bits: Envoy
/// names segments by an unsigned number and sockets by a signed one.
const BASE_IDS: Range<u32> = 1_000_000..200_000_000;

/// Attempts to find a free base id. Nearly every first attempt succeeds, so more failures have another cause.
const ATTEMPTS: u32 = 64;

/// The kernel's limit for the path of a socket, in bytes.
const MAX_SOCKET_PATH: usize = 107;

/// Folders of the agent's hot-restart sockets and segments.
#[derive(Debug)]
pub(crate) struct RuntimeDir {
    run: PathBuf,
    shared_memory: PathBuf,
    /// Kept open: its lock keeps other agents out.
    _lock: File,
}

/// Hot restart is impossible; Envoy runs with `--disable-hot-restart`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeDirError {
    /// The folder cannot be created, read or locked.
    #[error("prepare the folder {path} for Envoy's hot-restart sockets")]
    Folder {
        /// The run folder.
        path: PathBuf,
        /// Error of the kernel.
        source: io::Error,
    },
    /// Other users have access to the folder, and one datagram would end Envoy.
    #[error(
        "the folder {path} has mode {mode:o} and owner {owner}: it must be 700 and owned by the agent's user"
    )]
    NotPrivate {
        /// The run folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its user id.
        owner: u32,
    },
    /// Another agent uses it.
    #[error("another agent uses the folder {0}")]
    InUse(PathBuf),
    /// Socket paths in it would exceed the kernel's 107 bytes.
    #[error("the folder {0} has too long a name for sockets in it")]
    TooLong(PathBuf),
    /// No file can be created there: the folder is read-only, full, or missing.
    #[error("reserve a hot-restart base id in {path}")]
    SharedMemory {
        /// The folder of the segments.
        path: PathBuf,
        /// Error of the kernel.
        source: io::Error,
    },
    /// Every base id tried was in use.
    #[error("{ATTEMPTS} hot-restart base ids tried in {0}, and all are in use")]
    NoneFree(PathBuf),
}

/// Outcome of the reservation of a base id.
enum Reservation {
    Acquired(File),
    Taken,
}

// === impl RuntimeDir ===

impl RuntimeDir {
    /// Locks the folder `run`, creating it with mode 0700 if needed, and removes files of dead agents from it and from
    /// `shared_memory`, which is [`SHARED_MEMORY`] except in tests.
    pub(crate) fn open(run: &Path, shared_memory: &Path) -> Result<Self, RuntimeDirError> {
        let longest = format!("/{STEM}_udp_parent_{}{}", u32::MAX, endpoint::TEMPORARY_SUFFIX);
        if run.as_os_str().as_bytes().len() + longest.len() > MAX_SOCKET_PATH {
            return Err(RuntimeDirError::TooLong(run.to_owned()));
        }
        let lock = lock_folder(run)?;
        let runtime_dir = Self { run: run.to_owned(), shared_memory: shared_memory.to_owned(), _lock: lock };
        runtime_dir.sweep_sockets();
        runtime_dir.sweep_segments();
        Ok(runtime_dir)
    }

    /// Reserves an unused base id.
    pub(crate) fn reserve_base_id(&self) -> Result<BaseIdLease, RuntimeDirError> {
        let no_memory = |source| RuntimeDirError::SharedMemory { path: self.shared_memory.clone(), source };
        // Without /proc only the reservation prevents collisions.
        let sockets = fs::read("/proc/net/unix").unwrap_or_default();
        let sockets = String::from_utf8_lossy(&sockets);
        let random = RandomState::new();
        for attempt in 0..ATTEMPTS {
            let base_id = within(BASE_IDS, random.hash_one(attempt));
            if sockets.lines().filter_map(|line| line.split(' ').next_back()).any(|name| is_of(base_id, name))
            {
                continue;
            }
            match self.reserve(base_id).map_err(no_memory)? {
                Reservation::Acquired(lock) => {
                    return Ok(BaseIdLease::reserved(base_id, &self.run, &self.shared_memory, lock));
                }
                Reservation::Taken => {}
            }
        }
        Err(RuntimeDirError::NoneFree(self.shared_memory.clone()))
    }

    fn reserve(&self, base_id: u32) -> io::Result<Reservation> {
        let path = self.shared_memory.join(base_id::reservation_name(base_id));
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = match created {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Reservation::Taken),
            other => other?,
        };
        // An agent that starts at this moment may have removed the file as stale.
        if lock_named(&file, &path).is_err() {
            return Ok(Reservation::Taken);
        }
        if self.shared_memory.join(segment_name(base_id)).symlink_metadata().is_ok() {
            fs::remove_file(&path)?;
            return Ok(Reservation::Taken);
        }
        Ok(Reservation::Acquired(file))
    }

    /// Removes sockets of dead agents; the folder is locked, so no other agent uses it.
    fn sweep_sockets(&self) {
        for entry in fs::read_dir(&self.run).into_iter().flatten().flatten() {
            let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
            if is_socket && entry.file_name().to_str().is_some_and(is_socket_name) {
                drop(fs::remove_file(entry.path()));
            }
        }
    }

    fn sweep_segments(&self) {
        for entry in fs::read_dir(&self.shared_memory).into_iter().flatten().flatten() {
            let Some(base_id) = entry.file_name().to_str().and_then(reserved_base_id) else { continue };
            // Best effort: a segment that stays costs 104 bytes.
            drop(self.sweep_segment(base_id, &entry.path()));
        }
    }

    fn sweep_segment(&self, base_id: u32, reservation: &Path) -> io::Result<()> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(reservation)?;
        if file.metadata()?.uid() != geteuid().as_raw() {
            return Ok(());
        }
        lock_named(&file, reservation)?;
        let segment = self.shared_memory.join(segment_name(base_id));
        match fs::remove_file(&segment) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => fs::remove_file(reservation),
        }
    }
}

fn lock_folder(run: &Path) -> Result<File, RuntimeDirError> {
    let failed = |source| RuntimeDirError::Folder { path: run.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(run).map_err(failed)?;
    let folder = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(run).map_err(failed)?;
    let metadata = folder.metadata().map_err(failed)?;
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    if mode & 0o077 != 0 || owner != geteuid().as_raw() {
        return Err(RuntimeDirError::NotPrivate { path: run.to_owned(), mode, owner });
    }
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => Err(RuntimeDirError::InUse(run.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Locks a file. Fails if `path` names another file afterwards: the previous holder of the lock may have removed it.
fn lock_named(file: &File, path: &Path) -> io::Result<()> {
    file.try_lock()?;
    let (locked, named) = (file.metadata()?, path.symlink_metadata()?);
    let is_named = (locked.dev(), locked.ino()) == (named.dev(), named.ino());
    if is_named { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
}

/// Maps a number to one of the range.
fn within(range: Range<u32>, number: u64) -> u32 {
    let size = u64::from(range.end.saturating_sub(range.start)).max(1);
    range.start.saturating_add(u32::try_from(number % size).unwrap_or(0))
}

#[cfg(test)]
mod tests;
