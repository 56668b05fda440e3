//! Files as they can be believed: waits for hints, looks, lets what it sees settle, and reads.
//!
//! Blocks; it runs on a thread of its own. What the files mean is not known here.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::notices::{Notices, Stop, Woken};
use super::settle::{Belief, Hints, Settle, Stamp};
use super::tree::{Root, TreeError};

/// Something that is known about a file since the last observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sighting {
    /// Its content is this, and was not this before.
    Content(PathBuf, Vec<u8>),
    /// It is there and cannot be read.
    Unreadable(PathBuf, String),
    /// It was there a moment ago.
    Vanishing(PathBuf),
    /// It is gone.
    Gone(PathBuf),
}

/// One look, as far as it has news.
#[derive(Debug, Default)]
pub(super) struct Observation {
    /// About files.
    pub(super) sightings: Vec<Sighting>,
    /// Why there was nothing to see, or not everything.
    pub(super) trouble: Vec<(PathBuf, String)>,
}

/// Looks at files whenever there is reason to.
#[derive(Debug)]
pub(super) struct Observer {
    root: Root,
    notices: Notices,
    settle: Settle,
    links: HashMap<PathBuf, Vec<PathBuf>>,
    /// Fingerprints of what was read.
    contents: HashMap<PathBuf, u64>,
    hasher: RandomState,
    trouble: Vec<(PathBuf, String)>,
    look_again: Option<Instant>,
    rescan: Instant,
    /// Looking costs: no sooner than this, so that it takes a small part of one core at most.
    not_before: Instant,
}

/// A manifest of this size is no manifest.
pub(super) const MAX_FILE_SIZE: u64 = 64 * 1024 * 1024;
/// How often everything is read again, whatever the kernel said: notices can be lost, and file systems on a network
/// give none.
const RESCAN: Duration = Duration::from_secs(5);
/// How often to look for a directory that went.
const RETRY: Duration = Duration::from_millis(250);
/// How long the first observation waits for files that somebody is writing.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks, this many times what the last one took.
const REST: u32 = 2;

// === impl Observer ===

impl Observer {
    /// Has seen nothing yet; dropping the handle ends it.
    pub(super) fn new(root: Root) -> (Self, Stop) {
        let (notices, stop) = Notices::new();
        let now = Instant::now();
        let observer = Self {
            root,
            notices,
            settle: Settle::default(),
            links: HashMap::new(),
            contents: HashMap::new(),
            hasher: RandomState::new(),
            trouble: Vec::new(),
            look_again: None,
            rescan: now + RESCAN,
            not_before: now,
        };
        (observer, stop)
    }

    /// Everything that is there now. `None`: nobody wants to know any more.
    pub(super) fn first(&mut self) -> Result<Option<Observation>, TreeError> {
        let mut first = Observation::default();
        let deadline = Instant::now() + FIRST_PATIENCE;
        let mut hints = Hints::default();
        loop {
            let observation = self.look(&hints)?;
            first.sightings.extend(observation.sightings);
            self.trouble.clone_from(&observation.trouble);
            first.trouble = observation.trouble;
            if self.look_again.is_none_or(|at| at > deadline) {
                return Ok(Some(first));
            }
            match self.wait() {
                Woken::By(news) => hints = news,
                Woken::Stopped => return Ok(None),
            }
        }
    }

    /// Waits for the next news. `None`: nobody wants to know any more.
    pub(super) fn next(&mut self) -> Option<Observation> {
        loop {
            let Woken::By(hints) = self.wait() else { return None };
            let observation = match self.look(&hints) {
                Ok(observation) => observation,
                // What was there is still believed; whoever takes a whole directory away may bring another.
                Err(error) => {
                    self.rescan = Instant::now() + RETRY;
                    let why = format!("{:#}", anyhow::Error::new(error));
                    Observation { sightings: Vec::new(), trouble: vec![(self.root.path().to_owned(), why)] }
                }
            };
            let is_news = !observation.sightings.is_empty() || observation.trouble != self.trouble;
            self.trouble.clone_from(&observation.trouble);
            if is_news {
                return Some(observation);
            }
        }
    }

    fn wait(&mut self) -> Woken {
        let until = self.look_again.map_or(self.rescan, |at| at.min(self.rescan));
        let (root, links) = (&self.root, &self.links);
        let mut woken = self.notices.wait(until, |path| root.concerns(path) || links.contains_key(path));
        if let Woken::By(hints) = &mut woken {
            std::thread::sleep(self.not_before.saturating_duration_since(Instant::now()));
            if Instant::now() >= self.rescan {
                hints.everything = true;
                self.rescan = Instant::now() + RESCAN;
            }
        }
        woken
    }

    fn look(&mut self, hints: &Hints) -> Result<Observation, TreeError> {
        let began = Instant::now();
        // Should the look fail, the next notice or rescan is the time for another.
        self.look_again = None;
        let notices = &mut self.notices;
        let look = self.root.look(&mut |directory| notices.watch(directory))?;
        self.notices.end_look();
        let hints = through_links(hints, &look.links);
        self.links = look.links;
        let unreadable: Vec<PathBuf> = look.unreadable.iter().map(|(path, _)| path.clone()).collect();
        let (beliefs, again) = self.settle.look(&look.files, &unreadable, &hints, Instant::now());
        self.look_again = again;
        self.not_before = Instant::now() + began.elapsed() * REST;

        let sightings = beliefs.into_iter().filter_map(|belief| match belief {
            Belief::Settled(path) => self.read(path),
            Belief::Vanishing(path) => {
                // Whatever comes back under this name is news.
                self.contents.remove(&path).map(|_| Sighting::Vanishing(path))
            }
            Belief::Gone(path) => Some(Sighting::Gone(path)),
        });
        let sightings = sightings.collect();
        Ok(Observation { sightings, trouble: look.unreadable })
    }

    /// Reads a file, unless it has changed since the look, or says the same as before.
    fn read(&mut self, path: PathBuf) -> Option<Sighting> {
        let bytes = match read_whole(&path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                let now = Instant::now();
                self.settle.doubt(&path, now);
                self.look_again = Some(now + super::settle::SETTLE);
                return None;
            }
            // It went; the next look will see that.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.contents.remove(&path);
                return Some(Sighting::Unreadable(path, error.to_string()));
            }
        };
        let fingerprint = self.hasher.hash_one(&bytes);
        let before = self.contents.insert(path.clone(), fingerprint);
        (before != Some(fingerprint)).then_some(Sighting::Content(path, bytes))
    }
}

/// The content, or `None` if it changed meanwhile.
fn read_whole(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut file = File::open(path)?;
    let before = file.metadata()?;
    let mut bytes = Vec::new();
    file.by_ref().take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        return Err(io::Error::other(format!("is bigger than {MAX_FILE_SIZE} bytes")));
    }
    let same = Stamp::of(&before) == Stamp::of(&file.metadata()?) && before.len() == bytes.len() as u64;
    Ok(same.then_some(bytes))
}

/// What happened to a file happened to every link to it.
fn through_links(hints: &Hints, links: &HashMap<PathBuf, Vec<PathBuf>>) -> Hints {
    let mut hints = hints.clone();
    for (real, names) in links {
        for set in [&mut hints.writing, &mut hints.touched] {
            if set.contains(real) {
                set.extend(names.iter().cloned());
            }
        }
    }
    hints
}
