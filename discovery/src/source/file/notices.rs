//! The kernel's word that something happened (inotify), as hints about which files to look at. A hint too many
//! costs a look; a hint that was lost is made up for by looking at everything now and then.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind, RemoveKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tracing::warn;

use super::settle::{Hints, WRITER_PATIENCE};

/// What happened to one path.
#[derive(Debug)]
enum Notice {
    /// Its content was written to.
    Written(PathBuf),
    /// Somebody who could write has closed it.
    Closed(PathBuf),
    /// A rename has put it in place.
    Renamed(PathBuf),
    /// It appeared, went, or changed in another way.
    Touched(PathBuf),
    /// A directory went, and its watch with it.
    DirectoryGone(PathBuf),
    /// Some notices were lost.
    Lost,
    /// Nobody needs notices any more.
    Stop,
}

/// How often to look when the kernel does not tell.
const POLL: Duration = Duration::from_millis(250);
/// Notices that wait while somebody looks. When there are more, everything is looked at.
const WAITING_NOTICES: usize = 4096;

/// The watched directories and what was noticed in them.
#[derive(Debug)]
pub(super) struct Notices {
    /// `None`: the kernel gives none.
    watcher: Option<RecommendedWatcher>,
    sight: Sight,
    /// The inode that is watched under each path, and whether the current look has asked for it.
    directories: HashMap<PathBuf, ((u64, u64), Asked)>,
    receiver: Receiver<Notice>,
    lost: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
    /// Files that were written to and not closed, with the time of the last write.
    writing: HashMap<PathBuf, Instant>,
}

/// Whether the kernel tells of every directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    Full,
    Partial,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    InThisLook,
    Before,
}

/// Ends the wait for notices when dropped.
#[derive(Debug)]
pub(super) struct Stop {
    sender: SyncSender<Notice>,
    stopped: Arc<AtomicBool>,
}

/// Why a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// There may be something to see.
    By(Hints),
    /// Nobody needs to know any more.
    Stopped,
}

// === impl Notices ===

impl Notices {
    /// Notices of nothing yet, and the handle that ends them.
    pub(super) fn new() -> (Self, Stop) {
        let (sender, receiver) = sync_channel(WAITING_NOTICES);
        let (lost, stopped) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let stop = Stop { sender: sender.clone(), stopped: stopped.clone() };
        let told = lost.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            for notice in notices(event) {
                // Full: the receiver has plenty to wake up for, and will look at everything.
                if let Err(TrySendError::Full(_)) = sender.try_send(notice) {
                    told.store(true, Ordering::Relaxed);
                }
            }
        });
        let (watcher, sight) = match watcher {
            Ok(watcher) => (Some(watcher), Sight::Full),
            Err(error) => {
                warn!(%error, every = ?POLL, "inotify is not to be had; looking at the files instead");
                (None, Sight::Partial)
            }
        };
        let (directories, writing) = (HashMap::new(), HashMap::new());
        (Self { watcher, sight, directories, receiver, lost, stopped, writing }, stop)
    }

    /// Asks for notices of the entries of a directory.
    pub(super) fn watch(&mut self, directory: &Path) {
        let Some(watcher) = &mut self.watcher else { return };
        // What is not there is not watched; its parent is.
        let Ok(metadata) = fs::metadata(directory) else { return };
        let inode = (metadata.dev(), metadata.ino());
        match self.directories.get_mut(directory) {
            Some((known, asked)) if *known == inode => return *asked = Asked::InThisLook,
            // Another directory has taken its place; the watch went with the old one or not at all.
            Some(_) => drop(watcher.unwatch(directory)),
            None => {}
        }
        match watcher.watch(directory, RecursiveMode::NonRecursive) {
            Ok(()) => drop(self.directories.insert(directory.to_owned(), (inode, Asked::InThisLook))),
            Err(error) if self.sight == Sight::Full => {
                warn!(%error, every = ?POLL, "not every directory can be watched; looking at the files instead");
                self.sight = Sight::Partial;
            }
            Err(_) => {}
        }
    }

    /// Ends a look: directories that it did not ask for are of no interest any more.
    pub(super) fn end_look(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        self.directories.retain(|directory, (_, asked)| {
            let keep = *asked == Asked::InThisLook;
            *asked = Asked::Before;
            if !keep {
                drop(watcher.unwatch(directory));
            }
            keep
        });
    }

    /// Waits for notices that concern somebody, until there are some or it is time.
    pub(super) fn wait(&mut self, until: Instant, concerns: impl Fn(&Path) -> bool) -> Woken {
        let mut hints = Hints::default();
        loop {
            let mut left = until.saturating_duration_since(Instant::now());
            if self.sight == Sight::Partial {
                left = left.min(POLL);
            }
            let first = match self.receiver.recv_timeout(left) {
                Err(RecvTimeoutError::Disconnected) => return Woken::Stopped,
                Err(RecvTimeoutError::Timeout) => None,
                Ok(notice) => Some(notice),
            };
            let timed_out = first.is_none();
            let mut concerned = false;
            let waiting: Vec<_> = first.into_iter().chain(self.receiver.try_iter()).collect();
            for notice in waiting {
                concerned |= self.take(notice, &mut hints, &concerns);
            }
            if self.stopped.load(Ordering::Relaxed) {
                return Woken::Stopped;
            }
            if self.lost.swap(false, Ordering::Relaxed) {
                hints.everything = true;
            }
            if timed_out || concerned || hints.everything {
                break;
            }
        }
        let now = Instant::now();
        self.writing.retain(|path, last| {
            let still = now < *last + WRITER_PATIENCE;
            if !still {
                hints.touched.insert(path.clone());
            }
            still
        });
        hints.writing = self.writing.keys().cloned().collect();
        Woken::By(hints)
    }

    /// Whether the notice concerns somebody.
    fn take(&mut self, notice: Notice, hints: &mut Hints, concerns: &impl Fn(&Path) -> bool) -> bool {
        match notice {
            Notice::Written(path) if concerns(&path) => drop(self.writing.insert(path, Instant::now())),
            Notice::Closed(path) if concerns(&path) => {
                self.writing.remove(&path);
                hints.touched.insert(path);
            }
            Notice::Written(_) | Notice::Closed(_) => return false,
            Notice::Renamed(path) => {
                // The rename that a mounted `ConfigMap` changes by stands for everything beside it.
                if path.file_name().is_some_and(|name| name == "..data") {
                    hints.renamed.extend(path.parent().map(Path::to_owned));
                }
                hints.touched.insert(path.clone());
                hints.renamed.insert(path);
            }
            Notice::Touched(path) => drop(hints.touched.insert(path)),
            Notice::DirectoryGone(path) => {
                self.directories.retain(|directory, _| !directory.starts_with(&path));
            }
            Notice::Lost => hints.everything = true,
            Notice::Stop => {}
        }
        true
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Full: then the receiver wakes up anyway. Closed: it has ended before.
        drop(self.sender.try_send(Notice::Stop));
    }
}

/// What an event of the kernel says.
fn notices(event: notify::Result<Event>) -> Vec<Notice> {
    let Ok(event) = event else { return vec![Notice::Lost] };
    if event.need_rescan() {
        return vec![Notice::Lost];
    }
    let what: fn(PathBuf) -> Notice = match event.kind {
        EventKind::Modify(ModifyKind::Data(_)) => Notice::Written,
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Notice::Closed,
        // Reading is our own doing.
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return Vec::new(),
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Notice::Renamed,
        EventKind::Remove(RemoveKind::Folder) => Notice::DirectoryGone,
        _ => Notice::Touched,
    };
    event.paths.into_iter().map(what).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn wait(notices: &mut Notices) -> Hints {
        match notices.wait(Instant::now() + DEADLINE, |_| true) {
            Woken::By(hints) => hints,
            Woken::Stopped => panic!("nobody has stopped it"),
        }
    }

    #[test]
    fn more_notices_than_can_wait_mean_everything() {
        let directory = tempfile::tempdir().unwrap();
        let (mut notices, _stop) = Notices::new();
        notices.watch(directory.path());
        for number in 0..WAITING_NOTICES {
            fs::write(directory.path().join(number.to_string()), "x").unwrap();
        }
        // Each file gave several notices; what did not fit says so at the latest with the last that did.
        let mut hints = wait(&mut notices);
        while !hints.everything {
            hints = wait(&mut notices);
        }
    }

    #[test]
    fn what_is_being_written_is_known_until_it_is_closed() {
        use std::io::Write;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let mut file = fs::File::create(&path).unwrap();
        let (mut notices, _stop) = Notices::new();
        notices.watch(directory.path());
        file.write_all(b"half").unwrap();
        assert!(wait(&mut notices).writing.contains(&path));
        drop(file);
        let hints = wait(&mut notices);
        assert_eq!((hints.writing.contains(&path), hints.touched.contains(&path)), (false, true));
    }

    #[test]
    fn a_directory_that_was_replaced_is_watched_again() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("d");
        let (mut notices, _stop) = Notices::new();
        for round in ["f", "g", "h"] {
            fs::create_dir(&directory).unwrap();
            notices.watch(parent.path());
            notices.watch(&directory);
            notices.end_look();
            let path = directory.join(round);
            fs::write(&path, "x").unwrap();
            while !wait(&mut notices).touched.contains(&path) {}
            fs::remove_dir_all(&directory).unwrap();
            while notices.directories.contains_key(&directory) {
                wait(&mut notices);
            }
        }
    }

    #[test]
    fn a_dropped_handle_ends_the_wait() {
        let (mut notices, stop) = Notices::new();
        drop(stop);
        assert_eq!(notices.wait(Instant::now() + DEADLINE, |_| true), Woken::Stopped);
    }
}
