//! The shared memory segment of a base id: written for an Envoy whose parent is the agent, and repaired after an Envoy that
//! died while it started.
//!
//! ```text
//!   0        8           16              56                     96         104
//!   │ u64 size │ u64 version │ log mutex, 40 │ access log mutex, 40 │ u64 flags │
//! ```
//!
//! Bit 0 of the flags is INITIALIZING. An Envoy sets it when it attaches and clears it when it is LIVE; one that finds it
//! set exits with "previous envoy process is still initializing". An Envoy that dies in between leaves it set for good
//! (envoyproxy/envoy#33446).
//!
//! Callers must not repair the segment while an Envoy starts.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::base_id::BaseIdLease;

/// Size of the segment in bytes.
const SIZE: usize = 104;

/// Version word of the layout above.
const VERSION: u64 = 11;

/// Offset of the flags.
const FLAGS: u64 = 96;

/// The only flag.
const INITIALIZING: u64 = 1;

/// State of the INITIALIZING bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Initializing {
    /// An Envoy starts, or died while it did; the next one would exit.
    Yes,
    /// No Envoy starts.
    No,
}

/// Layout of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// The layout in the diagram above.
    Supported(Initializing),
    /// That of another version, or not Envoy's.
    Unknown,
}

/// Outcome of a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RepairOutcome {
    /// The bit was set and has been cleared.
    Repaired,
    /// The bit was clear.
    WasClear,
    /// The layout is not supported; the segment is unchanged.
    UnknownLayout,
}

/// The segment cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{operation} the shared memory segment {path}")]
pub(crate) struct ShmError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

// === impl BaseIdLease ===

impl BaseIdLease {
    /// Writes a segment with a clear INITIALIZING bit for an Envoy of epoch 1 whose parent is the agent. The two mutexes
    /// are zeros, which glibc treats as free mutexes of one process; only this Envoy takes them.
    pub(crate) fn write_segment(&self) -> Result<(), ShmError> {
        let path = self.segment();
        write_fresh(path).map_err(|source| error("write", path, source))
    }

    /// Clears the INITIALIZING bit of an Envoy that died before it was LIVE. Must not be called while an Envoy with this
    /// base id starts.
    pub(crate) fn repair_segment(&self) -> Result<RepairOutcome, ShmError> {
        let path = self.segment();
        repair(path).map_err(|source| error("repair", path, source))
    }
}

fn error(operation: &'static str, path: &Path, source: io::Error) -> ShmError {
    ShmError { operation, path: path.to_owned(), source }
}

fn write_fresh(path: &Path) -> io::Result<()> {
    let mut segment = [0; SIZE];
    let words = (SIZE as u64).to_ne_bytes().into_iter().chain(VERSION.to_ne_bytes());
    segment.iter_mut().zip(words).for_each(|(byte, word)| *byte = word);
    // With O_EXCL the kernel follows no symbolic link.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(&segment)
}

fn repair(path: &Path) -> io::Result<RepairOutcome> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    match layout(&file)? {
        Layout::Unknown => Ok(RepairOutcome::UnknownLayout),
        Layout::Supported(Initializing::No) => Ok(RepairOutcome::WasClear),
        Layout::Supported(Initializing::Yes) => {
            let flags = word(&file, FLAGS)? & !INITIALIZING;
            file.write_all_at(&flags.to_ne_bytes(), FLAGS)?;
            Ok(RepairOutcome::Repaired)
        }
    }
}

fn layout(file: &File) -> io::Result<Layout> {
    let read = || -> io::Result<Layout> {
        if file.metadata()?.len() != SIZE as u64 || word(file, 0)? != SIZE as u64 || word(file, 8)? != VERSION
        {
            return Ok(Layout::Unknown);
        }
        let set = word(file, FLAGS)? & INITIALIZING != 0;
        Ok(Layout::Supported(if set { Initializing::Yes } else { Initializing::No }))
    };
    match read() {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(Layout::Unknown),
        other => other,
    }
}

fn word(file: &File, offset: u64) -> io::Result<u64> {
    let mut word = [0; 8];
    file.read_exact_at(&mut word, offset)?;
    Ok(u64::from_ne_bytes(word))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn segment(size: u64, version: u64, flags: u64) -> Vec<u8> {
        let mutexes = [7; 80];
        [&size.to_ne_bytes()[..], &version.to_ne_bytes(), &mutexes, &flags.to_ne_bytes()].concat()
    }

    #[test]
    fn fresh_segment_needs_no_repair() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("segment");
        write_fresh(&path).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (104, 0o600));
        assert_eq!(repair(&path).unwrap(), RepairOutcome::WasClear);
        // An existing file is not overwritten.
        assert_eq!(write_fresh(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    }

    #[test]
    fn repair_changes_only_the_initializing_bit_of_a_supported_segment() {
        let folder = tempfile::tempdir().unwrap();
        let check = |before: &[u8], verdict: RepairOutcome, after: &[u8]| {
            let path = folder.path().join("segment");
            fs::write(&path, before).unwrap();
            assert_eq!(repair(&path).unwrap(), verdict);
            assert_eq!(fs::read(&path).unwrap(), after);
        };
        let stays = |segment: Vec<u8>, verdict| check(&segment, verdict, &segment);
        check(&segment(104, 11, 1), RepairOutcome::Repaired, &segment(104, 11, 0));
        check(&segment(104, 11, 0b111), RepairOutcome::Repaired, &segment(104, 11, 0b110));
        stays(segment(104, 11, 0), RepairOutcome::WasClear);
        stays(segment(104, 11, 2), RepairOutcome::WasClear);
        stays(segment(104, 12, 1), RepairOutcome::UnknownLayout);
        stays(segment(120, 11, 1), RepairOutcome::UnknownLayout);
        stays([segment(104, 11, 1), vec![0]].concat(), RepairOutcome::UnknownLayout);
        stays(segment(104, 11, 1)[..103].to_vec(), RepairOutcome::UnknownLayout);
        stays(Vec::new(), RepairOutcome::UnknownLayout);
    }

    #[test]
    fn missing_segment_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let missing = repair(&folder.path().join("none")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        let text = error("repair", Path::new("/dev/shm/none"), missing).to_string();
        assert_eq!(text, "repair the shared memory segment /dev/shm/none");
    }
}
