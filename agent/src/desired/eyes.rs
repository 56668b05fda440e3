//! The kernel's word that something happened to one of our files (inotify).
//!
//! Not through a crate: `notify` has a thread of its own for it, and the agent's one runtime thread can read a
//! descriptor itself. Folders are watched, and every step of the way to a file with them, because a mounted
//! secret, an editor and a package change files by putting others in their place; files are watched too, because
//! they have other names (hard links) in other folders. What comes without a notice, a mount for example, is found
//! by the next look.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::patience::Notice;
use super::trail;

/// What the kernel is asked to tell of folders and files alike: an inode has one mask, whatever it is asked as.
const MASK: AddWatchFlags = AddWatchFlags::IN_MODIFY
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_MOVE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF);

/// Waits for notices.
#[derive(Debug)]
pub(super) struct Eyes(AsyncFd<Shared>);

/// Asks for notices. Blocks, as looking at files does.
#[derive(Clone, Debug)]
pub(super) struct Gaze {
    inotify: Arc<Inotify>,
    /// What is watched.
    watched: Arc<Watched>,
}

/// What is watched: the names that matter in each folder. A file has none, and always matters.
pub(super) type Watched = HashMap<WatchDescriptor, BTreeSet<OsString>>;

/// Why the kernel does not tell.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Blindness {
    /// There is no inotify.
    #[error("ask the kernel for notices of files{}", hint(*.0))]
    Init(#[source] Errno),
    /// The runtime cannot wait for it.
    #[error("wait for the kernel's notices of files")]
    Wait(#[source] Arc<io::Error>),
    /// There is no thread to look with.
    #[error("start a thread to look at files")]
    Thread(#[source] Arc<io::Error>),
    /// Something cannot be watched.
    #[error("watch {}{}", .0.display(), hint(*.1))]
    Watch(PathBuf, #[source] Errno),
}

#[derive(Debug)]
struct Shared(Arc<Inotify>);

/// Opens the eyes, which see nothing yet. Needs a runtime.
#[expect(unsafe_code, reason = "there is no other way to wait for a descriptor of one's own")]
pub(super) fn open() -> Result<(Eyes, Gaze), Blindness> {
    let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
    let inotify = Arc::new(Inotify::init(flags).map_err(Blindness::Init)?);
    let shared = Shared(inotify.clone());
    // SAFETY: the descriptor is `inotify`'s, which `shared` keeps open and nothing replaces.
    let eyes = unsafe { AsyncFd::register_with_interest(shared, Interest::READABLE) };
    let eyes = eyes.map_err(|error| Blindness::Wait(Arc::new(error.into())))?;
    Ok((Eyes(eyes), Gaze { inotify, watched: Arc::default() }))
}

/// The setting that most likely is too low.
fn hint(error: Errno) -> &'static str {
    match error {
        Errno::EMFILE => " (is fs.inotify.max_user_instances too low?)",
        Errno::ENOSPC => " (is fs.inotify.max_user_watches too low?)",
        _ => "",
    }
}

// === impl Eyes ===

impl Eyes {
    /// Waits for the next notices of what is watched; there may be none among what has happened. Nothing is lost
    /// when the wait is given up.
    pub(super) async fn notices(&self, watched: &Watched) -> Vec<Notice> {
        // The only error is a runtime that has ended.
        let Ok(mut ready) = self.0.readable().await else { return std::future::pending().await };
        match ready.try_io(|shared| shared.get_ref().0.read_events().map_err(io::Error::from)) {
            Ok(Ok(events)) => events.into_iter().filter_map(|event| notice(event, watched)).collect(),
            Ok(Err(_)) => vec![Notice::Lost],
            // Nothing there after all.
            Err(_) => Vec::new(),
        }
    }
}

impl AsRawFd for Shared {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// What an event says, if it concerns us.
fn notice(event: InotifyEvent, watched: &Watched) -> Option<Notice> {
    if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
        return Some(Notice::Lost);
    }
    let names = watched.get(&event.wd)?;
    if event.name.as_ref().is_some_and(|name| !names.contains(name)) {
        return None;
    }
    Some(if event.mask.contains(AddWatchFlags::IN_CLOSE_WRITE) {
        Notice::Closed((event.wd, event.name))
    } else if event.mask.contains(AddWatchFlags::IN_MODIFY) {
        Notice::Written((event.wd, event.name))
    } else {
        Notice::Changed
    })
}

// === impl Gaze ===

impl Gaze {
    /// Watches the way to each of these files, and nothing else any more. What could not be watched does not keep
    /// the rest from being watched.
    pub(super) fn turn_to<'a>(&mut self, paths: impl Iterator<Item = &'a Path>) -> Result<(), Blindness> {
        let mut watched = Watched::new();
        let mut blindness = Ok(());
        for path in paths {
            let end = trail::walk(path, |folder, name| match self.watch(folder, AddWatchFlags::IN_ONLYDIR) {
                Ok(Some(watch)) => drop(watched.entry(watch).or_default().insert(name.to_owned())),
                Ok(None) => {}
                Err(error) => blindness = Err(error),
            });
            match self.watch(&end, AddWatchFlags::empty()) {
                Ok(Some(watch)) => drop(watched.entry(watch).or_default()),
                // Its folder tells when it becomes readable.
                Ok(None) | Err(Blindness::Watch(_, Errno::EACCES)) => {}
                Err(error) => blindness = Err(error),
            }
        }
        for watch in self.watched.keys().filter(|watch| !watched.contains_key(watch)) {
            // An inode that is gone has taken its watch with it.
            self.inotify.rm_watch(*watch).ok();
        }
        self.watched = Arc::new(watched);
        blindness
    }

    /// What is watched.
    pub(super) fn watched(&self) -> Arc<Watched> {
        self.watched.clone()
    }

    /// `None`: it is not there.
    fn watch(&self, path: &Path, flags: AddWatchFlags) -> Result<Option<WatchDescriptor>, Blindness> {
        match self.inotify.add_watch(path, MASK | flags) {
            Ok(watch) => Ok(Some(watch)),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(error) => Err(Blindness::Watch(path.to_owned(), error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_concerns_our_files_is_noticed() {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC).unwrap();
        let [folder, file, other] = ["/", "/etc", "/usr"].map(|path| inotify.add_watch(path, MASK).unwrap());
        let watched = Watched::from([
            (folder, BTreeSet::from(["mesh".into(), "..data".into()])),
            (file, BTreeSet::new()),
        ]);
        let check = |wd, name: Option<&str>, mask, expected: Option<Notice>| {
            let event = InotifyEvent { wd, mask, cookie: 0, name: name.map(Into::into) };
            assert_eq!(notice(event, &watched), expected, "{name:?} {mask:?}");
        };
        let mesh = (folder, Some("mesh".into()));
        check(folder, Some("mesh"), AddWatchFlags::IN_MODIFY, Some(Notice::Written(mesh.clone())));
        check(folder, Some("mesh"), AddWatchFlags::IN_CLOSE_WRITE, Some(Notice::Closed(mesh)));
        check(folder, Some("..data"), AddWatchFlags::IN_MOVED_TO, Some(Notice::Changed));
        check(folder, Some("log"), AddWatchFlags::IN_MODIFY, None);
        check(folder, None, AddWatchFlags::IN_MOVE_SELF, Some(Notice::Changed));
        check(file, None, AddWatchFlags::IN_MODIFY, Some(Notice::Written((file, None))));
        check(file, None, AddWatchFlags::IN_UNMOUNT, Some(Notice::Changed));
        check(other, None, AddWatchFlags::IN_IGNORED, None);
        check(other, None, AddWatchFlags::IN_Q_OVERFLOW, Some(Notice::Lost));
    }

    #[test]
    fn a_limit_that_is_reached_is_named() {
        let text = |blindness: Blindness| format!("{:#}", anyhow::Error::new(blindness));
        assert_eq!(
            text(Blindness::Init(Errno::EMFILE)),
            "ask the kernel for notices of files (is fs.inotify.max_user_instances too low?): EMFILE: Too many open files"
        );
        assert_eq!(
            text(Blindness::Watch("/etc".into(), Errno::ENOSPC)),
            "watch /etc (is fs.inotify.max_user_watches too low?): ENOSPC: No space left on device"
        );
    }
}
