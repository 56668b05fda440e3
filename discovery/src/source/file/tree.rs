//! One look at what is watched: which files are there, in which state. Reads no file.
//!
//! Hidden names are left out, which is also how a mounted `ConfigMap` is seen right: its files are links through
//! the hidden `..data` into a hidden directory, and a rename of `..data` changes them all at once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::settle::Stamp;

/// What is watched.
#[derive(Clone, Debug)]
pub(super) enum Root {
    /// All manifests in a directory and below it.
    Directory(PathBuf),
    /// One file, whatever its name.
    File(PathBuf),
}

/// What one look has seen.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// The files.
    pub(super) files: BTreeMap<PathBuf, Stamp>,
    /// Where the files that are links really are.
    pub(super) links: HashMap<PathBuf, Vec<PathBuf>>,
    /// Directories that could not be looked into, and why.
    pub(super) unreadable: Vec<(PathBuf, String)>,
}

/// Why a look saw nothing at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    /// The directory is not there or cannot be opened.
    #[error("open the configuration directory {}", .path.display())]
    Root {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More than anybody can mean.
    #[error("{} has more than {MAX_FILES} manifests", .0.display())]
    TooMany(PathBuf),
}

/// How a file was come upon.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reached {
    Directly,
    ThroughLink,
}

/// A registry that needs more should not be a directory.
const MAX_FILES: usize = 50_000;
/// Directories inside directories.
const MAX_DEPTH: usize = 32;
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

// === impl Root ===

impl Root {
    /// Looks. `watch` is told every directory whose entries matter, before they are listed: what comes later
    /// is noticed, what came before is seen.
    pub(super) fn look(&self, watch: &mut dyn FnMut(&Path)) -> Result<Look, TreeError> {
        let mut look = Look::default();
        match self {
            Self::File(path) => {
                watch(&parent(path));
                look.file(path, Reached::ThroughLink, watch);
            }
            Self::Directory(root) => {
                // Notices that the directory itself is replaced.
                watch(&parent(root));
                // A look sees everything or fails: half a directory would read as the other half's end.
                fs::read_dir(root).map_err(|source| TreeError::Root { path: root.clone(), source })?;
                let mut visited = HashSet::new();
                let mut links = Vec::new();
                look.directory(root, 0, Reached::Directly, &mut visited, &mut links, watch);
                // A directory that is linked and really there is read where it really is.
                while !links.is_empty() {
                    for (path, depth) in std::mem::take(&mut links) {
                        look.directory(&path, depth, Reached::ThroughLink, &mut visited, &mut links, watch);
                    }
                }
                if look.files.len() > MAX_FILES {
                    return Err(TreeError::TooMany(root.clone()));
                }
                if let Some(at) = look.unreadable.iter().position(|(path, _)| path == root) {
                    let (path, why) = look.unreadable.swap_remove(at);
                    return Err(TreeError::Root { path, source: io::Error::other(why) });
                }
            }
        }
        Ok(look)
    }

    /// The directory or the file.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::File(path) => path,
        }
    }

    /// Whether news of a write to this path are worth a look.
    pub(super) fn concerns(&self, path: &Path) -> bool {
        match self {
            Self::File(file) => path == file,
            Self::Directory(root) => path.starts_with(root) && is_manifest(path),
        }
    }
}

// === impl Look ===

impl Look {
    fn directory(
        &mut self,
        path: &Path,
        depth: usize,
        reached: Reached,
        visited: &mut HashSet<(u64, u64)>,
        links: &mut Vec<(PathBuf, usize)>,
        watch: &mut dyn FnMut(&Path),
    ) {
        if depth > MAX_DEPTH {
            let why = format!("is more than {MAX_DEPTH} directories deep");
            return self.unreadable.push((path.to_owned(), why));
        }
        match fs::metadata(path) {
            Ok(metadata) if !visited.insert((metadata.dev(), metadata.ino())) => return,
            _ => {}
        }
        watch(path);
        let mut entries = match list(path) {
            Ok(entries) => entries,
            // Gone since its parent was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound && depth > 0 => return,
            Err(error) => return self.unreadable.push((path.to_owned(), error.to_string())),
        };
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (path, kind) in entries {
            if self.files.len() > MAX_FILES {
                return;
            }
            if kind.is_dir() {
                self.directory(&path, depth + 1, reached, visited, links, watch);
            } else if kind.is_symlink() && path.is_dir() {
                links.push((path, depth + 1));
            } else if is_manifest(&path) {
                self.file(&path, if kind.is_symlink() { Reached::ThroughLink } else { reached }, watch);
            }
        }
    }

    fn file(&mut self, path: &Path, reached: Reached, watch: &mut dyn FnMut(&Path)) {
        // A link that leads nowhere is as good as no file.
        let Ok(metadata) = fs::metadata(path) else { return };
        if !metadata.is_file() {
            return;
        }
        self.files.insert(path.to_owned(), Stamp::of(&metadata));
        if reached == Reached::ThroughLink
            && let Ok(real) = fs::canonicalize(path)
            && real != path
        {
            watch(&parent(&real));
            self.links.entry(real).or_default().push(path.to_owned());
        }
    }
}

// === impl Stamp ===

impl Stamp {
    /// The state that the file was in.
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The visible entries of a directory.
fn list(path: &Path) -> io::Result<Vec<(PathBuf, FileType)>> {
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

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) && !is_hidden(path)
}

/// The directory something is in; `.` for a bare name.
fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        None => path.to_owned(),
        Some(parent) if parent.as_os_str().is_empty() => ".".into(),
        Some(parent) => parent.to_owned(),
    }
}
