//! The bootstrap files: `envoy-rev<N>.json`, one per epoch, in the agent's configuration folder.
//!
//! They may hold secrets, so nobody else reads them; they appear whole or not at all; and none is left
//! behind, neither by us nor by an agent before us that was killed.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use nix::unistd::geteuid;

use crate::supervisor::{Epoch, Launch};

const PREFIX: &str = "envoy-rev";

/// Sockets of admins.
const ADMIN: &str = "admin-";

/// What Envoy is asked whether it would take.
const CANDIDATE: &str = "envoy-candidate.json";

/// The names of sockets are up to 33 bytes long, and 107 is the most the kernel has for folder and name.
const LONGEST: usize = 70;

/// The folder.
#[derive(Debug)]
pub(super) struct Bootstraps {
    folder: PathBuf,
}

/// A folder for sockets of ours inside `folder`; if its name is too long for a socket, one in the folder for
/// temporary files.
pub(super) fn run_folder(folder: &Path) -> anyhow::Result<PathBuf> {
    let usual = folder.join("run");
    let run = if usual.as_os_str().len() <= LONGEST {
        usual
    } else {
        PathBuf::from(format!("/tmp/pilot-agent-{:016x}", RandomState::new().hash_one(())))
    };
    make(&run)?;
    // Whoever may enter it could put a socket of his own in the place of Envoy's admin.
    let metadata = fs::symlink_metadata(&run).with_context(|| format!("look at {}", run.display()))?;
    let (mode, owner) = (metadata.mode() & 0o777, metadata.uid());
    ensure!(
        metadata.is_dir() && mode == 0o700 && owner == geteuid().as_raw(),
        "{} has mode {mode:o} and owner {owner}: it must be a folder of mode 700, and our own",
        run.display()
    );
    Ok(run)
}

fn make(folder: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("create the folder {}", folder.display()))
}

/// Where the admin of this Envoy is, unless users reach it on a port.
pub(super) fn admin_socket(run: &Path, launch: Launch) -> PathBuf {
    run.join(format!("{ADMIN}{launch}.sock"))
}

/// Writes a file that nobody else may read, whole or not at all.
pub(super) fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".tmp");
    let partial = PathBuf::from(partial);
    remove(&partial)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(contents)?;
    fs::rename(&partial, path)
}

/// Removes a file, if there is one.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

// === impl Bootstraps ===

impl Bootstraps {
    /// Makes the folder if there is none, and removes what an earlier agent left in it.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        make(folder)?;
        let bootstraps = Self { folder: folder.to_owned() };
        bootstraps
            .clear_bootstraps()
            .with_context(|| format!("remove stale bootstraps from {}", folder.display()))?;
        Ok(bootstraps)
    }

    /// The file of this epoch, and the name Envoy is to know it by.
    pub(super) fn path(&self, epoch: Epoch) -> PathBuf {
        self.folder.join(format!("{PREFIX}{epoch}.json"))
    }

    /// Writes the file of this epoch.
    pub(super) fn write(&self, epoch: Epoch, bootstrap: &[u8]) -> io::Result<PathBuf> {
        let path = self.path(epoch);
        write(&path, bootstrap)?;
        Ok(path)
    }

    /// Writes the file of what may become an epoch.
    pub(super) fn write_candidate(&self, bootstrap: &[u8]) -> io::Result<PathBuf> {
        let path = self.folder.join(CANDIDATE);
        write(&path, bootstrap)?;
        Ok(path)
    }

    /// Removes every file of ours, and nobody else's; from the folder of sockets those of admins.
    pub(super) fn clear(&self, run: &Path) -> io::Result<()> {
        for entry in fs::read_dir(run).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(ADMIN)) {
                remove(&entry.path())?;
            }
        }
        self.clear_bootstraps()
    }

    fn clear_bootstraps(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(is_ours) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// `envoy-rev<digits>.json`, perhaps with `.tmp`.
fn is_ours(name: &str) -> bool {
    let name = name.strip_suffix(".tmp").unwrap_or(name);
    if name == CANDIDATE {
        return true;
    }
    let epoch = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(".json"));
    epoch.is_some_and(|epoch| !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_bootstrap_is_ours_alone_to_read() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("etc/istio/proxy");
        let bootstraps = Bootstraps::open(&folder).unwrap();
        let path = bootstraps.write(Epoch::FIRST, b"{}").unwrap();
        assert_eq!(path, folder.join("envoy-rev0.json"));
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
        bootstraps.write(Epoch::FIRST, b"{\"node\":{}}").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"{\"node\":{}}");
        assert_eq!(names(&folder), ["envoy-rev0.json"]);
    }

    #[test]
    fn what_a_killed_agent_left_goes_and_everything_else_stays() {
        let home = tempfile::tempdir().unwrap();
        let others = ["XDS", "envoy-rev.json", "envoy-rev0.yaml", "envoy-rev1x.json", "grpc-bootstrap.json"];
        for name in others.iter().chain(&["envoy-rev0.json", "envoy-rev12.json", "envoy-rev0.json.tmp"]) {
            fs::write(home.path().join(name), "").unwrap();
        }
        Bootstraps::open(home.path()).unwrap();
        assert_eq!(names(home.path()), others);
    }

    #[test]
    fn sockets_are_put_where_nobody_else_can_enter() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(mode(&run_folder(home.path()).unwrap()), 0o700);
        fs::set_permissions(home.path().join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(run_folder(home.path()).unwrap_err().to_string().contains("mode 755"));
        // A socket's name has an end.
        let far = home.path().join("a".repeat(100));
        fs::create_dir(&far).unwrap();
        let near = [run_folder(&far).unwrap(), run_folder(&far).unwrap()];
        assert!(near.iter().all(|folder| folder.as_os_str().len() <= LONGEST), "{near:?}");
        assert_ne!(near[0], near[1], "a name that can be known before can be taken before");
        for folder in near {
            fs::remove_dir(folder).unwrap();
        }
    }

    #[test]
    fn a_folder_that_cannot_be_says_which() {
        let error = Bootstraps::open(Path::new("/proc/nowhere")).unwrap_err();
        assert_eq!(error.to_string(), "create the folder /proc/nowhere");
    }
}
