//! Control groups of this process, of version 1, 2 or both: paths of their files.
//!
//! The files are read by [`Limits`] and [`OomCount`]. A missing or invalid file sets no limit, so that the agent starts anyway.
//!
//! ```text
//!   /proc/self/cgroup     4:memory:/kubepods/pod1/c1     0::/kubepods/pod1/c1
//!   /proc/self/mountinfo  … /kubepods/pod1/c1 /sys/fs/cgroup/memory … - cgroup … memory
//!                            └ root of mount  └ mount point
//!   own folder            mount point + path without the root of the mount
//!   looked at             own folder, its parent, … , mount point
//! ```

mod limits;
mod oom;

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use self::limits::Limits;
pub(crate) use self::oom::{Oom, OomCount};

/// Controller of a resource. Version 1 has a hierarchy for each, version 2 one for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Controller {
    Cpu,
    Cpuset,
    Memory,
}

/// The groups of this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cgroup {
    groups: Vec<Group>,
}

/// This process's group in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    hierarchy: Hierarchy,
    /// Mount point of the visible part of the hierarchy.
    mount: PathBuf,
    own: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hierarchy {
    /// With the controllers it is for.
    V1(Vec<String>),
    V2,
}

// === impl Controller ===

impl Controller {
    const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
        }
    }
}

// === impl Cgroup ===

impl Cgroup {
    /// Finds the control groups of this process; empty if there are none.
    pub(crate) fn of_process() -> Self {
        Self::below(Path::new("/"))
    }

    /// The same, with another folder in place of `/`.
    pub(crate) fn below(root: &Path) -> Self {
        let read = |path| fs::read_to_string(root.join(path)).unwrap_or_default();
        let (memberships, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
        let groups = mounts.lines().filter_map(|mount| Group::of(root, mount, &memberships)).collect();
        Self { groups }
    }

    /// Returns the groups with files of this controller: more than one on a machine with both versions.
    fn groups(&self, controller: Controller) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(move |group| group.hierarchy.has(controller.name()))
    }

    /// The folders of these groups, each from our own up to the highest that we see.
    fn folders(&self, controller: Controller) -> impl Iterator<Item = &Path> {
        let groups = self.groups(controller);
        groups.flat_map(|group| group.own.ancestors().take_while(|folder| folder.starts_with(&group.mount)))
    }
}

/// A file of one line, or of a few words.
fn text(folder: &Path, file: &str) -> Option<String> {
    Some(fs::read_to_string(folder.join(file)).ok()?.trim().to_owned())
}

// === impl Group ===

impl Group {
    /// One line of `mountinfo`: `id parent major:minor root mount-point options [...] - type source options`.
    fn of(root: &Path, mount: &str, memberships: &str) -> Option<Self> {
        let (place, kind) = mount.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (seen, mount) = (unescaped(place.next()?), unescaped(place.next()?));
        let mut kind = kind.split(' ');
        let hierarchy = match kind.next()? {
            "cgroup2" => Hierarchy::V2,
            "cgroup" => Hierarchy::V1(kind.nth(1)?.split(',').map(ToOwned::to_owned).collect()),
            _ => return None,
        };
        let path = memberships.lines().find_map(|line| hierarchy.membership(line))?;
        let mount = root.join(mount.trim_start_matches('/'));
        // A mount of a part without this process (`/../..` from another namespace) still belongs to it: groups of other
        // containers are not mounted into a container.
        let below = Path::new(path).strip_prefix(&seen).unwrap_or(Path::new(""));
        let own = if below.components().any(|part| part.as_os_str() == "..") {
            mount.clone()
        } else {
            mount.join(below)
        };
        Some(Self { hierarchy, mount, own })
    }
}

/// `mountinfo` writes a space as `\040`, and a few others likewise.
fn unescaped(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (escape, character)| path.replace(escape, character))
}

// === impl Hierarchy ===

impl Hierarchy {
    fn has(&self, controller: &str) -> bool {
        match self {
            Self::V1(controllers) => controllers.iter().any(|mine| mine == controller),
            Self::V2 => true,
        }
    }

    /// The path in a line of `/proc/self/cgroup` (`4:cpu,cpuacct:/path`, or `0::/path`), if it is of this one.
    fn membership<'a>(&self, line: &'a str) -> Option<&'a str> {
        let (_, line) = line.split_once(':')?;
        let (controllers, path) = line.split_once(':')?;
        let mine = match self {
            Self::V1(_) => {
                controllers.split(',').any(|controller| !controller.is_empty() && self.has(controller))
            }
            Self::V2 => controllers.is_empty(),
        };
        mine.then_some(path)
    }
}

#[cfg(test)]
mod tests;
