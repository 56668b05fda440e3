//! Non-blocking, bounded reads of files, and fingerprints of their metadata and content.

use std::fs::{File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// Bytes hashed at a time. Keeps the memory use independent of the file's size.
const CHUNK: usize = 64 * 1024;

/// Fingerprint of a file's metadata: distinguishes states of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileStamp {
    /// Device and inode number.
    inode: (u64, u64),
    /// Bytes.
    size: u64,
    /// Time of the last change of the content: seconds and nanoseconds.
    modified: (i64, i64),
    /// Time of the last change of content or metadata. Cannot be set by programs.
    changed: (i64, i64),
}

/// Fingerprint of a file's content. Equal across processes of one build, not across builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentDigest {
    /// Bytes.
    length: u64,
    /// `SipHash` with a fixed key. A writer that can produce a collision could as well leave the file unchanged.
    hash: u64,
}

/// Opens a file for reading without waiting.
///
/// Named pipes and devices are refused: a pipe can be read only once and its open waits for a writer, a device may have
/// no end. The check is on the open descriptor, so the file cannot be replaced in between.
pub fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_fifo() {
        return Err(io::Error::new(io::ErrorKind::NotSeekable, "a named pipe can be read only once"));
    }
    if kind.is_char_device() || kind.is_block_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a device is not a regular file"));
    }
    Ok(file)
}

/// Reads a whole file of at most `max` bytes.
pub fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    read_open(&open(path)?, max)
}

/// Reads a whole file of at most `max` bytes. Returns `None` if it changed during the read.
pub fn read_unchanged(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = open(path)?;
    let before = FileStamp::of(&file.metadata()?);
    let bytes = read_open(&file, max)?;
    let is_same = FileStamp::of(&file.metadata()?) == before && before.size == bytes.len() as u64;
    Ok(is_same.then_some(bytes))
}

fn read_open(file: &File, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {max} bytes")));
    }
    Ok(bytes)
}

// === impl FileStamp ===

impl FileStamp {
    /// Returns the stamp of the file with this metadata.
    pub fn of(file: &Metadata) -> Self {
        Self {
            inode: (file.dev(), file.ino()),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }

    /// A stamp that differs for each version, for tests without files.
    #[cfg(test)]
    pub(crate) const fn of_version(version: i64) -> Self {
        Self { inode: (0, 1), size: 7, modified: (version, 0), changed: (version, 0) }
    }
}

// === impl ContentDigest ===

impl ContentDigest {
    /// Returns the digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(bytes);
        Self { length: bytes.len() as u64, hash: hasher.finish() }
    }

    /// Returns the digest of a file's content. Blocks.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        Self::of_reader(open(path)?)
    }

    /// Returns the digest of a file's content and drops the content from the page cache, which counts against the memory
    /// limit of the pod. Blocks.
    pub fn of_file_uncached(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let digest = Self::of_reader(&file)?;
        // Pages that a running process has mapped stay. Failure of the advice is harmless.
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).ok();
        Ok(digest)
    }

    /// Returns `true` if the content is empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn of_reader(mut reader: impl Read) -> io::Result<Self> {
        let (mut hasher, mut length) = (DefaultHasher::new(), 0);
        let mut chunk = vec![0; CHUNK];
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => return Ok(Self { length, hash: hasher.finish() }),
                Ok(count) => {
                    hasher.write(chunk.get(..count).unwrap_or_default());
                    length += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn pipes_devices_and_oversized_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let kind = |path: &Path| read(path, 3).unwrap_err().kind();
        assert_eq!(kind(&path), io::ErrorKind::NotFound);
        assert_eq!(kind(directory.path()), io::ErrorKind::IsADirectory);
        assert_eq!(kind(Path::new("/dev/zero")), io::ErrorKind::InvalidInput);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(kind(&path), io::ErrorKind::NotSeekable, "and the open does not wait for a writer");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "abcd").unwrap();
        assert_eq!(kind(&path), io::ErrorKind::FileTooLarge);
        fs::write(&path, "abc").unwrap();
        assert_eq!(read_unchanged(&path, 3).unwrap().unwrap(), b"abc");
    }

    #[test]
    fn digest_does_not_depend_on_the_chunks_read() {
        /// Returns few bytes at a time.
        struct ShortReads<'a>(&'a [u8], usize);
        impl Read for ShortReads<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let count = self.1.min(buffer.len());
                self.0.read(&mut buffer[..count])
            }
        }
        let content: Vec<u8> = (0..=255).cycle().take(3 * CHUNK + 17).collect();
        for step in [1, 7, 8, 4096, CHUNK, 4 * CHUNK] {
            let digest = ContentDigest::of_reader(ShortReads(&content, step)).unwrap();
            assert_eq!(digest, ContentDigest::of(&content), "{step}");
        }
    }
}
