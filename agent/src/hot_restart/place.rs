//! Where an agent keeps what belongs to hot restart, and how several agents stay out of each other's way.
//!
//! | shared by two agents | what would collide | what prevents it |
//! | --- | --- | --- |
//! | nothing | nothing | |
//! | network namespace (containers of one pod) | abstract sockets | sockets have paths, in a folder of one's own |
//! | `/dev/shm` | segments: Envoy of epoch 0 unlinks any | a locked file for each base id, beside the segment |
//! | the run folder | sockets: Envoy unlinks whatever has the name | a lock on the folder: the second is refused |
//!
//! A lock belongs to the kernel's open file, so it needs no process id (which means nothing in another
//! namespace), and it ends with the agent however that ends. A reservation that can be locked is therefore
//! one of a dead agent, and is removed with its segment. Whatever has no reservation is not an agent's, and is
//! never touched: base ids that are in use by anything else are passed over. Neither can a stranger take a
//! name from us, as `/dev/shm` is sticky and our folder closed to others.
//!
//! Not covered: an Envoy that is no agent's and is started later with the very base id that was chosen here.

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

use super::lineage::{Lineage, STEM, is_of, is_socket_name, reserved_base_id, segment_name};
use super::{endpoint, lineage};

/// Where POSIX shared memory lives; Envoy can be told no other place.
pub const SHARED_MEMORY: &str = "/dev/shm";

/// Base ids to choose from. Small ones are what people give by hand. Ten times the largest must fit 31 bits:
/// Envoy names segments by an unsigned number and sockets by a signed one.
const BASE_IDS: Range<u32> = 1_000_000..200_000_000;

/// A base id is free at the first try but for one in millions; more failures than these have another cause.
const ATTEMPTS: u32 = 64;

/// The longest path a socket can have, in bytes.
const LONGEST_PATH: usize = 107;

/// A folder for our sockets and one for segments. One agent has one.
#[derive(Debug)]
pub struct Place {
    run: PathBuf,
    shared_memory: PathBuf,
    /// Held open: the lock on it keeps other agents out.
    _lock: File,
}

/// Why there can be no hot restart. The Envoy of such an agent runs with `--disable-hot-restart`.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The folder cannot be made, read or locked.
    #[error("prepare the folder {path} for Envoy's hot-restart sockets")]
    Folder {
        /// The run folder.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// Others may enter the folder, and one datagram of theirs would end Envoy.
    #[error("the folder {path} has mode {mode:o} and owner {owner}: it must be 700 and our own")]
    NotPrivate {
        /// The run folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its user id.
        owner: u32,
    },
    /// Another agent lives in it.
    #[error("another agent uses the folder {0}")]
    InUse(PathBuf),
    /// The names of sockets in it would not fit the kernel's 107 bytes.
    #[error("the folder {0} has too long a name for sockets in it")]
    TooLong(PathBuf),
    /// Nothing can be created there: read-only, full, or missing.
    #[error("reserve a hot-restart base id in {path}")]
    SharedMemory {
        /// The folder of the segments.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// Every base id tried was in use.
    #[error("{ATTEMPTS} hot-restart base ids tried in {0}, and all are in use")]
    NoneFree(PathBuf),
}

/// What became of one base id.
enum Reserved {
    Ours(File),
    Taken,
}

// === impl Place ===

impl Place {
    /// Takes the folder `run` for us alone, made with mode 0700 if it is missing, and removes what dead
    /// agents have left in it and in `shared_memory`, which is [`SHARED_MEMORY`] but in tests.
    pub fn open(run: &Path, shared_memory: &Path) -> Result<Self, PlaceError> {
        let longest = format!("/{STEM}_udp_parent_{}{}", u32::MAX, endpoint::UNNAMED);
        if run.as_os_str().as_bytes().len() + longest.len() > LONGEST_PATH {
            return Err(PlaceError::TooLong(run.to_owned()));
        }
        let lock = lock_folder(run)?;
        let place = Self { run: run.to_owned(), shared_memory: shared_memory.to_owned(), _lock: lock };
        place.sweep_sockets();
        place.sweep_segments();
        Ok(place)
    }

    /// A base id nobody uses, with everything that belongs to it.
    pub fn lineage(&self) -> Result<Lineage, PlaceError> {
        let no_memory = |source| PlaceError::SharedMemory { path: self.shared_memory.clone(), source };
        // Without /proc the reservation alone has to do.
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
                Reserved::Ours(lock) => {
                    return Ok(Lineage::reserved(base_id, &self.run, &self.shared_memory, lock));
                }
                Reserved::Taken => {}
            }
        }
        Err(PlaceError::NoneFree(self.shared_memory.clone()))
    }

    fn reserve(&self, base_id: u32) -> io::Result<Reserved> {
        let path = self.shared_memory.join(lineage::reservation_name(base_id));
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = match created {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Reserved::Taken),
            other => other?,
        };
        // An agent that starts at this moment may have taken the file for a dead one's.
        if lock_named(&file, &path).is_err() {
            return Ok(Reserved::Taken);
        }
        if self.shared_memory.join(segment_name(base_id)).symlink_metadata().is_ok() {
            fs::remove_file(&path)?;
            return Ok(Reserved::Taken);
        }
        Ok(Reserved::Ours(file))
    }

    /// We hold the folder's lock, so whatever lies in it is a dead agent's.
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
            // Best effort: what cannot be removed costs 104 bytes and no more.
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

fn lock_folder(run: &Path) -> Result<File, PlaceError> {
    let failed = |source| PlaceError::Folder { path: run.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(run).map_err(failed)?;
    let folder = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(run).map_err(failed)?;
    let metadata = folder.metadata().map_err(failed)?;
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    if mode & 0o077 != 0 || owner != geteuid().as_raw() {
        return Err(PlaceError::NotPrivate { path: run.to_owned(), mode, owner });
    }
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => Err(PlaceError::InUse(run.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Locks a file, if `path` still is its name afterwards: whoever held the lock may have removed it.
fn lock_named(file: &File, path: &Path) -> io::Result<()> {
    file.try_lock()?;
    let (locked, named) = (file.metadata()?, path.symlink_metadata()?);
    let is_named = (locked.dev(), locked.ino()) == (named.dev(), named.ino());
    if is_named { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
}

/// Any number becomes one of the range.
fn within(range: Range<u32>, number: u64) -> u32 {
    let size = u64::from(range.end.saturating_sub(range.start)).max(1);
    range.start.saturating_add(u32::try_from(number % size).unwrap_or(0))
}

#[cfg(test)]
mod tests;
