//! What was seen of the files that a configuration is made of: enough to tell a change, never the content itself.
//!
//! A file that is not there, an empty one and one that cannot be read are three different sights.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// Read at a time: whatever the size of a file, the agent stays small.
const CHUNK: usize = 64 * 1024;

/// Files, what was asked of them, and what was seen. Each is asked one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(BTreeMap<PathBuf, (Question, Sight)>);

/// What matters of a file. The later outranks the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// Whether it is there.
    Presence,
    /// Which file it is: for a program, which is too big to be read whenever something else changes.
    Identity,
    /// What it says.
    Content,
}

/// What was seen of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sight {
    /// There is no such file.
    Absent,
    /// There is.
    Present,
    /// This one, in this state.
    Identity(Stamp),
    /// It says this.
    Content(Digest),
    /// It is there and cannot be read.
    Unreadable(io::ErrorKind),
}

/// Tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Device and number of the inode.
    inode: (u64, u64),
    /// Bytes.
    size: u64,
    /// When the content changed: seconds and nanoseconds.
    modified: (i64, i64),
    /// When anything changed; nobody can set it.
    changed: (i64, i64),
}

/// Tells one content from another. Means the same to every agent of one build, and nothing to another build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest {
    /// Bytes.
    length: u64,
    /// `SipHash` with a fixed key: who could make two files collide could as well leave the one unchanged.
    hash: u64,
}

// === impl Sources ===

impl Sources {
    /// Notes what was seen. What was seen first stays, so that a file that changed between two glances differs
    /// from what is noted, and is read again.
    pub fn note(&mut self, path: PathBuf, question: Question, sight: Sight) {
        match self.0.entry(path) {
            Entry::Vacant(entry) => drop(entry.insert((question, sight))),
            Entry::Occupied(mut entry) if entry.get().0 < question => drop(entry.insert((question, sight))),
            Entry::Occupied(_) => {}
        }
    }

    /// What was seen of this file; `None`: nobody has asked.
    pub fn sight(&self, path: &Path) -> Option<Sight> {
        self.0.get(path).map(|(_, sight)| *sight)
    }

    /// The files, also those that are not there.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// Whether a second look sees the same. Blocks.
    pub fn are_still_so(&self) -> bool {
        self.0.iter().all(|(path, (question, sight))| question.ask(path) == *sight)
    }

    /// Whether a file that was there is not there now. One that nobody asks for any more is no loss.
    pub fn lost_any(&self, before: &Self) -> bool {
        let gone = self.0.iter().filter(|(_, (_, sight))| *sight == Sight::Absent);
        gone.map(|(path, _)| path).any(|path| before.sight(path).is_some_and(|sight| sight != Sight::Absent))
    }

    /// Files that said something before and say nothing now.
    pub fn emptied<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a Path> {
        let said = |sight: Option<Sight>| matches!(sight, Some(Sight::Content(digest)) if digest.length > 0);
        let empty = self.0.iter().filter(|(_, (_, sight))| *sight == Sight::Content(Digest::of(b"")));
        empty.map(|(path, _)| path.as_path()).filter(move |path| said(before.sight(path)))
    }
}

// === impl Question ===

impl Question {
    /// Looks at the file. Blocks.
    pub fn ask(self, path: &Path) -> Sight {
        match self {
            Self::Presence if path.is_file() => Sight::Present,
            Self::Presence => Sight::Absent,
            Self::Identity => Sight::from(path.metadata().map(|file| Sight::Identity(Stamp::of(&file)))),
            Self::Content => Sight::from(open(path).and_then(Digest::of_reader).map(Sight::Content)),
        }
    }
}

/// Opens a file to be read. A pipe is refused: nobody could read it again when something else has changed, and
/// whoever tries waits forever.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::NotSeekable, "it is a pipe, which can be read only once"));
    }
    Ok(file)
}

// === impl Sight ===

impl From<io::Result<Self>> for Sight {
    fn from(seen: io::Result<Self>) -> Self {
        seen.unwrap_or_else(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Absent,
            kind => Self::Unreadable(kind),
        })
    }
}

// === impl Stamp ===

impl Stamp {
    /// Of the file whose metadata these are.
    pub fn of(file: &Metadata) -> Self {
        Self {
            inode: (file.dev(), file.ino()),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

// === impl Digest ===

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(bytes);
        Self { length: bytes.len() as u64, hash: hasher.finish() }
    }

    /// Of a program, without filling the page cache, which the application pays for. Blocks.
    pub fn of_program(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let digest = Self::of_reader(&file)?;
        // Pages that a running Envoy has mapped stay. Advice that is not taken does no harm.
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).ok();
        Ok(digest)
    }

    fn of_reader(mut reader: impl Read) -> io::Result<Self> {
        let (mut hasher, mut length) = (DefaultHasher::new(), 0);
        let mut chunk = vec![0; CHUNK];
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => return Ok(Self { length, hash: hasher.finish() }),
                Ok(read) => {
                    hasher.write(chunk.get(..read).unwrap_or_default());
                    length += read as u64;
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
    fn missing_empty_and_unreadable_are_three_things() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let ask = || Question::Content.ask(&path);
        assert_eq!(ask(), Sight::Absent);
        assert_eq!(Question::Content.ask(&path.join("below")), Sight::Absent);
        fs::write(&path, "").unwrap();
        assert_eq!(Question::Content.ask(&path.join("below")), Sight::Absent, "a file is no folder");
        assert_eq!(ask(), Sight::Content(Digest::of(b"")));
        fs::write(&path, "x").unwrap();
        assert_eq!(ask(), Sight::Content(Digest::of(b"x")));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(ask(), Sight::Unreadable(io::ErrorKind::IsADirectory));
        assert_eq!(Question::Presence.ask(&path), Sight::Absent, "a folder is no file");
        fs::remove_dir(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(ask(), Sight::Unreadable(io::ErrorKind::NotSeekable), "and nobody waits for a writer");
    }

    #[test]
    fn a_digest_is_of_the_content_however_it_was_read() {
        /// Gives as little at a time as a pipe might.
        struct Dribble<'a>(&'a [u8], usize);
        impl Read for Dribble<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let few = self.1.min(buffer.len());
                self.0.read(&mut buffer[..few])
            }
        }
        let content: Vec<u8> = (0..=255).cycle().take(3 * CHUNK + 17).collect();
        for step in [1, 7, 8, 4096, CHUNK, 4 * CHUNK] {
            assert_eq!(Digest::of_reader(Dribble(&content, step)).unwrap(), Digest::of(&content), "{step}");
        }
    }

    #[test]
    fn the_first_sight_stays_and_the_greater_question_is_asked() {
        let mut sources = Sources::default();
        let (one, two) = (Sight::Content(Digest::of(b"1")), Sight::Content(Digest::of(b"2")));
        sources.note("f".into(), Question::Presence, Sight::Present);
        for (question, sight) in
            [(Question::Content, one), (Question::Content, two), (Question::Presence, Sight::Present)]
        {
            sources.note("f".into(), question, sight);
            assert_eq!(sources.sight(Path::new("f")), Some(one));
        }
    }

    #[test]
    fn what_went_and_what_was_emptied_are_told_from_what_was_never_there() {
        let seen = |sights: &[(&str, Sight)]| {
            let mut sources = Sources::default();
            for (path, sight) in sights {
                sources.note(path.into(), Question::Content, *sight);
            }
            sources
        };
        let (full, empty) = (Sight::Content(Digest::of(b"x")), Sight::Content(Digest::of(b"")));
        for (before, now, lost, emptied) in [
            (Some(full), full, false, false),
            (Some(full), empty, false, true),
            (Some(full), Sight::Absent, true, false),
            (Some(empty), empty, false, false),
            (Some(empty), Sight::Absent, true, false),
            (Some(Sight::Absent), empty, false, false),
            (Some(Sight::Absent), Sight::Absent, false, false),
            (None, Sight::Absent, false, false),
            (None, empty, false, false),
        ] {
            let before = before.map_or_else(Sources::default, |sight| seen(&[("f", sight)]));
            let now = seen(&[("f", now)]);
            assert_eq!((now.lost_any(&before), now.emptied(&before).count() > 0), (lost, emptied), "{now:?}");
        }
        assert!(!Sources::default().lost_any(&seen(&[("f", full)])), "nobody asks for it any more");
    }
}
