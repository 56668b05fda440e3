//! Listing of the files of a directory tree with their metadata. Reads no file.
//!
//! Hidden names are left out. This is also right for a mounted `ConfigMap`: its files are links through the hidden `..data`
//! link into a hidden directory, and a rename of `..data` changes them all at once.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::file::FileStamp;
use crate::inotify::WatchTableBuilder;

/// Largest number of files in a tree.
const MAX_FILES: usize = 50_000;
/// Largest number of directories inside directories.
const MAX_DEPTH: usize = 32;

/// Directory tree.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Root directory.
    pub root: PathBuf,
    /// Returns `true` for the files to be listed, by their path.
    pub filter: fn(&Path) -> bool,
}

/// Files at one moment.
#[derive(Debug, Default)]
pub struct Listing {
    /// Files with their metadata.
    pub files: BTreeMap<PathBuf, FileStamp>,
    /// Paths that could not be listed, and the error.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// Error that prevents a listing: the root directory cannot be opened, or there are too many files.
#[derive(Debug, thiserror::Error)]
#[error("list directory {}", .root.display())]
pub struct TreeError {
    /// Root directory.
    pub root: PathBuf,
    /// Cause.
    pub source: io::Error,
}

/// State of a listing in progress.
struct TreeWalk<'a, 'w> {
    tree: &'a Tree,
    watches: &'a mut WatchTableBuilder<'w>,
    listing: Listing,
    /// Inodes of the directories listed.
    visited: HashSet<(u64, u64)>,
    /// Links to directories, with their depth. Listed last: a directory that is also reachable without a link is listed
    /// under its real path.
    links: Vec<(PathBuf, usize)>,
}

// === impl Tree ===

impl Tree {
    /// Lists the tree once. Blocks.
    pub fn list(&self) -> Result<Listing, TreeError> {
        self.list_and_watch(&mut WatchTableBuilder::new(None))
    }

    /// Lists the tree. Each directory is watched before it is listed: later changes are noticed, earlier ones are seen.
    pub(crate) fn list_and_watch(&self, watches: &mut WatchTableBuilder<'_>) -> Result<Listing, TreeError> {
        let root = &self.root;
        watches.add_path(root, root);
        let error = |source| TreeError { root: root.clone(), source };
        // A listing is complete or fails: files of an unlisted half would look removed.
        fs::read_dir(root).map_err(error)?;
        let links = vec![(root.clone(), 0)];
        let mut walk =
            TreeWalk { tree: self, watches, listing: Listing::default(), visited: HashSet::new(), links };
        while !walk.links.is_empty() {
            for (path, depth) in std::mem::take(&mut walk.links) {
                walk.directory(&path, depth);
            }
        }
        let mut listing = walk.listing;
        if listing.files.len() > MAX_FILES {
            return Err(error(io::Error::other(format!("more than {MAX_FILES} files"))));
        }
        match listing.unreadable.iter().position(|(path, _)| path == root) {
            Some(index) => Err(error(io::Error::other(listing.unreadable.swap_remove(index).1))),
            None => Ok(listing),
        }
    }

    /// Returns `true` if a file with this path is listed.
    pub(crate) fn contains(&self, path: &Path) -> bool {
        !is_hidden(path) && (self.filter)(path)
    }
}

// === impl TreeWalk ===

impl TreeWalk<'_, '_> {
    fn directory(&mut self, path: &Path, depth: usize) {
        if depth > MAX_DEPTH {
            let error = format!("more than {MAX_DEPTH} directories deep");
            return self.listing.unreadable.push((path.to_owned(), error));
        }
        match fs::metadata(path) {
            Ok(metadata) if !self.visited.insert((metadata.dev(), metadata.ino())) => return,
            _ => {}
        }
        self.watches.add_tree_directory(path);
        let mut entries = match entries(path) {
            Ok(entries) => entries,
            // Removed since its parent was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound && depth > 0 => return,
            Err(error) => return self.listing.unreadable.push((path.to_owned(), error.to_string())),
        };
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (path, kind) in entries {
            if self.listing.files.len() > MAX_FILES {
                return;
            }
            if kind.is_dir() {
                self.directory(&path, depth + 1);
            } else if kind.is_symlink() && path.is_dir() {
                self.watches.add_path(&path, &path);
                self.links.push((path, depth + 1));
            } else if self.tree.contains(&path) {
                if kind.is_symlink() {
                    self.watches.add_path(&path, &path);
                }
                self.file(path);
            }
        }
    }

    fn file(&mut self, path: PathBuf) {
        // A dangling link is the same as no file.
        if let Ok(metadata) = fs::metadata(&path)
            && metadata.is_file()
        {
            self.listing.files.insert(path, FileStamp::of(&metadata));
        }
    }
}

/// Returns the entries of a directory that are not hidden.
fn entries(path: &Path) -> io::Result<Vec<(PathBuf, FileType)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let path = entry.path();
        if !is_hidden(&path) {
            entries.push((path, entry.file_type()?));
        }
    }
    Ok(entries)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
}
