//! Watch table: which inotify watches exist, and which of our paths an event affects.
//!
//! On `nix` rather than `notify`: that crate runs a thread per watcher, and the agent's only runtime thread can read the
//! descriptor itself. Directories are watched, with every component of the path to a file, because mounted secrets, editors
//! and package managers replace files by renames. Files of a set are watched too, because they may have other names (hard
//! links) in other directories. A mount causes no event; the next rescan finds it.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, Inotify, InotifyEvent, WatchDescriptor};

use crate::path_components;
use crate::stability::EventKind;

/// Events of directories and files alike: an inode has one mask, also if it is watched by several paths.
const MASK: AddWatchFlags = AddWatchFlags::IN_MODIFY
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_MOVE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF);

/// Reason for which events do not cover every file.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WatchError {
    /// inotify is unavailable.
    #[error("initialize inotify{}", hint(*.0))]
    Init(#[source] Errno),
    /// The runtime cannot wait for the descriptor.
    #[error("register the inotify descriptor with the runtime")]
    Register(#[source] Arc<io::Error>),
    /// A path cannot be watched.
    #[error("watch {}{}", .0.display(), hint(*.1))]
    Watch(PathBuf, #[source] Errno),
}

/// Paths affected by the events of each watch.
#[derive(Debug, Default)]
pub(crate) struct WatchTable(HashMap<WatchDescriptor, WatchTargets>);

/// Paths affected by the events of one inode.
#[derive(Debug, Default)]
struct WatchTargets {
    /// Paths under which this directory is part of a tree. Every entry matters.
    tree_directories: BTreeSet<PathBuf>,
    /// Names in this directory that are components of paths, with these paths.
    components: HashMap<OsString, BTreeSet<PathBuf>>,
    /// Paths of this file itself.
    files: BTreeSet<PathBuf>,
}

/// Watch table under construction. Adds watches as paths are added.
#[derive(Debug)]
pub(crate) struct WatchTableBuilder<'a> {
    /// `None`: no inotify; nothing is watched.
    inotify: Option<&'a Inotify>,
    table: WatchTable,
    /// Directories watched so far.
    directories: HashMap<PathBuf, Option<WatchDescriptor>>,
    error: Option<WatchError>,
}

/// Names the kernel limit that was most likely reached.
fn hint(error: Errno) -> &'static str {
    match error {
        Errno::EMFILE => " (is fs.inotify.max_user_instances too low?)",
        Errno::ENOSPC => " (is fs.inotify.max_user_watches too low?)",
        _ => "",
    }
}

// === impl WatchTable ===

impl WatchTable {
    /// Returns the paths that an event affects; a directory stands for everything below it. `in_tree` returns `true` for the
    /// files that trees list.
    pub(crate) fn affected(
        &self,
        event: &InotifyEvent,
        in_tree: impl Fn(&Path) -> bool,
    ) -> (EventKind, BTreeSet<PathBuf>) {
        let kind = kind(event.mask);
        let Some(targets) = self.0.get(&event.wd) else { return (kind, BTreeSet::new()) };
        let paths = match &event.name {
            None => {
                let components = targets.components.values().flatten();
                components.chain(&targets.tree_directories).chain(&targets.files).cloned().collect()
            }
            Some(name) => {
                let entries = targets.tree_directories.iter().map(|directory| directory.join(name));
                // Writes to other files, for example logs, are frequent and irrelevant.
                let is_write = matches!(kind, EventKind::Written | EventKind::Closed);
                let entries = entries.filter(|path| !is_write || in_tree(path));
                targets.components.get(name).into_iter().flatten().cloned().chain(entries).collect()
            }
        };
        (kind, paths)
    }
}

/// Returns `true` if events before this one were lost.
pub(crate) fn is_overflow(event: &InotifyEvent) -> bool {
    event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)
}

fn kind(mask: AddWatchFlags) -> EventKind {
    let unlinked = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_DELETE_SELF;
    if mask.contains(AddWatchFlags::IN_CLOSE_WRITE) {
        EventKind::Closed
    } else if mask.contains(AddWatchFlags::IN_MODIFY) {
        EventKind::Written
    } else if mask.contains(AddWatchFlags::IN_MOVED_TO) {
        EventKind::RenamedTo
    } else if mask.intersects(unlinked) {
        EventKind::Unlinked
    } else {
        EventKind::Other
    }
}

// === impl WatchTableBuilder ===

impl<'a> WatchTableBuilder<'a> {
    pub(crate) fn new(inotify: Option<&'a Inotify>) -> Self {
        Self { inotify, table: WatchTable::default(), directories: HashMap::new(), error: None }
    }

    /// Watches a directory of a tree: every entry matters.
    pub(crate) fn add_tree_directory(&mut self, path: &Path) {
        if let Some(targets) = self.directory(path) {
            targets.tree_directories.insert(path.to_owned());
        }
    }

    /// Watches every component of `path`; its events affect `target`. Returns the resolved path.
    pub(crate) fn add_path(&mut self, path: &Path, target: &Path) -> PathBuf {
        if self.inotify.is_none() {
            return path.to_owned();
        }
        path_components::walk(path, |directory, name| {
            if let Some(targets) = self.directory(directory) {
                targets.components.entry(name.to_owned()).or_default().insert(target.to_owned());
            }
        })
    }

    /// Watches every component of the path to a file, and the file itself.
    pub(crate) fn add_file(&mut self, path: &Path) {
        let resolved = self.add_path(path, path);
        if let Some(watch) = self.add_watch(&resolved, AddWatchFlags::empty()) {
            self.targets(watch).files.insert(path.to_owned());
        }
    }

    /// Removes the watches of the previous table that were not added again. Returns the error if something could not be
    /// watched; the rest is.
    pub(crate) fn finish(self, previous: &WatchTable) -> (WatchTable, Option<WatchError>) {
        for watch in previous.0.keys().filter(|watch| !self.table.0.contains_key(watch)) {
            // The watch of a deleted inode was removed by the kernel.
            self.inotify.map(|inotify| inotify.rm_watch(*watch).ok());
        }
        (self.table, self.error)
    }

    fn targets(&mut self, watch: WatchDescriptor) -> &mut WatchTargets {
        self.table.0.entry(watch).or_default()
    }

    /// Watches a directory, once for each table.
    fn directory(&mut self, path: &Path) -> Option<&mut WatchTargets> {
        let watch = match self.directories.get(path) {
            Some(watch) => *watch,
            None => {
                let watch = self.add_watch(path, AddWatchFlags::IN_ONLYDIR);
                self.directories.insert(path.to_owned(), watch);
                watch
            }
        };
        Some(self.targets(watch?))
    }

    /// Returns `None` if the path cannot be watched. A missing path, or one that may not be read, is no error: its parent
    /// directory reports a change of that, and the watch of a file reports its replacement.
    fn add_watch(&mut self, path: &Path, flags: AddWatchFlags) -> Option<WatchDescriptor> {
        match self.inotify?.add_watch(path, MASK | flags) {
            Ok(watch) => return Some(watch),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES) => {}
            Err(error) => self.error = Some(WatchError::Watch(path.to_owned(), error)),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::inotify::InitFlags;

    use super::*;

    #[test]
    fn event_affects_paths_through_the_name_and_files_of_the_tree() {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC).unwrap();
        let [directory, file, other] =
            ["/", "/etc", "/usr"].map(|path| inotify.add_watch(path, MASK).unwrap());
        let (mesh, tree) =
            (BTreeSet::from([PathBuf::from("/mesh")]), BTreeSet::from([PathBuf::from("conf")]));
        let components = HashMap::from([("mesh".into(), mesh.clone()), ("..data".into(), mesh.clone())]);
        let table = WatchTable(HashMap::from([
            (directory, WatchTargets { components, ..WatchTargets::default() }),
            (file, WatchTargets { files: mesh, tree_directories: tree, ..WatchTargets::default() }),
        ]));
        let check = |wd, name: Option<&str>, mask, kind: EventKind, paths: &[&str]| {
            let event = InotifyEvent { wd, mask, cookie: 0, name: name.map(Into::into) };
            let affected = table.affected(&event, |path| path.extension().is_some_and(|end| end == "yaml"));
            assert_eq!(affected, (kind, paths.iter().map(PathBuf::from).collect()), "{name:?} {mask:?}");
        };
        let (modify, close) = (AddWatchFlags::IN_MODIFY, AddWatchFlags::IN_CLOSE_WRITE);
        let (create, moved_to) = (AddWatchFlags::IN_CREATE, AddWatchFlags::IN_MOVED_TO);
        check(directory, Some("mesh"), modify, EventKind::Written, &["/mesh"]);
        check(directory, Some("mesh"), close, EventKind::Closed, &["/mesh"]);
        check(directory, Some("..data"), moved_to, EventKind::RenamedTo, &["/mesh"]);
        check(directory, Some("log"), modify, EventKind::Written, &[]);
        check(directory, None, AddWatchFlags::IN_MOVE_SELF, EventKind::Other, &["/mesh"]);
        check(directory, None, AddWatchFlags::IN_DELETE_SELF, EventKind::Unlinked, &["/mesh"]);
        check(file, None, modify, EventKind::Written, &["/mesh", "conf"]);
        check(file, None, AddWatchFlags::IN_UNMOUNT, EventKind::Other, &["/mesh", "conf"]);
        check(file, Some("a.yaml"), modify, EventKind::Written, &["conf/a.yaml"]);
        check(file, Some("a.log"), modify, EventKind::Written, &[]);
        check(file, Some("a.log"), create, EventKind::Other, &["conf/a.log"]);
        check(other, None, AddWatchFlags::IN_IGNORED, EventKind::Other, &[]);
    }

    #[test]
    fn error_names_the_limit_reached() {
        let text = |error: WatchError| format!("{:#}", anyhow::Error::new(error));
        assert_eq!(
            text(WatchError::Init(Errno::EMFILE)),
            "initialize inotify (is fs.inotify.max_user_instances too low?): EMFILE: Too many open files"
        );
        assert_eq!(
            text(WatchError::Watch("/etc".into(), Errno::ENOSPC)),
            "watch /etc (is fs.inotify.max_user_watches too low?): ENOSPC: No space left on device"
        );
    }
}
