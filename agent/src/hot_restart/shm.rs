//! The shared memory segment of a lineage, as far as a supervisor has to touch it: written for an Envoy
//! that has no predecessor but us, and repaired after one that died while it started.
//!
//! ```text
//!   0        8           16              56                     96         104
//!   │ u64 size │ u64 version │ log mutex, 40 │ access log mutex, 40 │ u64 flags │
//! ```
//!
//! Bit 0 of the flags is INITIALIZING. An Envoy sets it when it attaches and clears it when it is LIVE; one
//! that finds it set leaves with "previous envoy process is still initializing". Whoever dies in between
//! leaves it set for good (envoyproxy/envoy#33446).
//!
//! Deliberately does not know who is alive: repairing under a starting Envoy is the caller's fault.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::lineage::Lineage;

/// Size of the segment in bytes.
const SIZE: usize = 104;

/// Version word of the layout above.
const VERSION: u64 = 11;

/// Where the flags are.
const FLAGS: u64 = 96;

/// The only flag there is.
const INITIALIZING: u64 = 1;

/// Whether the segment says that an Envoy starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initializing {
    /// It does, or died while it did: the next one would refuse to start.
    Yes,
    /// Nobody does.
    No,
}

/// What a segment looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As drawn above.
    Known(Initializing),
    /// Something else: another version's, or not Envoy's at all.
    Unknown,
}

/// What a repair did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// The bit was set, and is clear now.
    Repaired,
    /// There was nothing to repair.
    WasClear,
    /// Not a segment we know; not touched.
    UnknownLayout,
}

/// The segment could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("{doing} the shared memory segment {path}")]
pub struct ShmError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

// === impl Lineage ===

impl Lineage {
    /// Writes a segment that says nobody starts, for an Envoy of epoch 1 whose predecessor we play. The two
    /// mutexes are zeros, which to glibc are free mutexes of one process; only this Envoy will ever take them.
    pub fn write_segment(&self) -> Result<(), ShmError> {
        let path = self.segment();
        write_fresh(path).map_err(|source| error("write", path, source))
    }

    /// Clears the INITIALIZING bit that an Envoy left when it died before it was LIVE. Only to be called when
    /// no Envoy of the lineage is starting.
    pub fn repair_segment(&self) -> Result<Repair, ShmError> {
        let path = self.segment();
        repair(path).map_err(|source| error("repair", path, source))
    }

    /// What the segment says at the moment.
    pub fn read_segment(&self) -> Result<Layout, ShmError> {
        let path = self.segment();
        let read = || layout(&File::open(path)?);
        read().map_err(|source| error("read", path, source))
    }
}

fn error(doing: &'static str, path: &Path, source: io::Error) -> ShmError {
    ShmError { doing, path: path.to_owned(), source }
}

fn write_fresh(path: &Path) -> io::Result<()> {
    let mut segment = [0; SIZE];
    let words = (SIZE as u64).to_ne_bytes().into_iter().chain(VERSION.to_ne_bytes());
    segment.iter_mut().zip(words).for_each(|(byte, word)| *byte = word);
    // Never through somebody's symbolic link: with O_EXCL the kernel follows none.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(&segment)
}

fn repair(path: &Path) -> io::Result<Repair> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    match layout(&file)? {
        Layout::Unknown => Ok(Repair::UnknownLayout),
        Layout::Known(Initializing::No) => Ok(Repair::WasClear),
        Layout::Known(Initializing::Yes) => {
            let flags = word(&file, FLAGS)? & !INITIALIZING;
            file.write_all_at(&flags.to_ne_bytes(), FLAGS)?;
            Ok(Repair::Repaired)
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
        Ok(Layout::Known(if set { Initializing::Yes } else { Initializing::No }))
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
    fn a_fresh_segment_is_one_that_needs_no_repair() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("segment");
        write_fresh(&path).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (104, 0o600));
        assert_eq!(repair(&path).unwrap(), Repair::WasClear);
        // A name that is taken is somebody's.
        assert_eq!(write_fresh(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    }

    #[test]
    fn only_the_stuck_bit_of_a_known_segment_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let check = |before: &[u8], verdict: Repair, after: &[u8]| {
            let path = folder.path().join("segment");
            fs::write(&path, before).unwrap();
            assert_eq!(repair(&path).unwrap(), verdict);
            assert_eq!(fs::read(&path).unwrap(), after);
        };
        let stays = |segment: Vec<u8>, verdict| check(&segment, verdict, &segment);
        check(&segment(104, 11, 1), Repair::Repaired, &segment(104, 11, 0));
        check(&segment(104, 11, 0b111), Repair::Repaired, &segment(104, 11, 0b110));
        stays(segment(104, 11, 0), Repair::WasClear);
        stays(segment(104, 11, 2), Repair::WasClear);
        stays(segment(104, 12, 1), Repair::UnknownLayout);
        stays(segment(120, 11, 1), Repair::UnknownLayout);
        stays([segment(104, 11, 1), vec![0]].concat(), Repair::UnknownLayout);
        stays(segment(104, 11, 1)[..103].to_vec(), Repair::UnknownLayout);
        stays(Vec::new(), Repair::UnknownLayout);
    }

    #[test]
    fn no_segment_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let missing = repair(&folder.path().join("none")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        let said = error("repair", Path::new("/dev/shm/none"), missing).to_string();
        assert_eq!(said, "repair the shared memory segment /dev/shm/none");
    }
}
