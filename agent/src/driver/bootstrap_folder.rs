//! The bootstrap files: `envoy-rev<N>.json`, one per epoch, in the agent's configuration folder.
//!
//! They may hold secrets, so they have mode 0600. They are written atomically. None is left behind, neither by this
//! agent nor by one before it that was killed.

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

/// Prefix of admin sockets.
const ADMIN: &str = "admin-";

/// File that is validated.
const CANDIDATE: &str = "envoy-candidate.json";

/// Longest path of the folder of sockets: their names have up to 33 bytes, and the kernel's limit for both is 107.
const LONGEST: usize = 70;

/// The folder of bootstrap files.
#[derive(Debug)]
pub(super) struct BootstrapFolder {
    folder: PathBuf,
}

/// Creates the folder for the agent's sockets inside `folder`, or in `/tmp` if the path would be too long.
pub(super) fn run_folder(folder: &Path) -> anyhow::Result<PathBuf> {
    let usual = folder.join("run");
    let run = if usual.as_os_str().len() <= LONGEST {
        usual
    } else {
        PathBuf::from(format!("/tmp/pilot-agent-{:016x}", RandomState::new().hash_one(())))
    };
    create(&run)?;
    // Another user with access could replace the socket of Envoy's admin.
    let metadata = fs::symlink_metadata(&run).with_context(|| format!("look at {}", run.display()))?;
    let (mode, owner) = (metadata.mode() & 0o777, metadata.uid());
    ensure!(
        metadata.is_dir() && mode == 0o700 && owner == geteuid().as_raw(),
        "{} has mode {mode:o} and owner {owner}: it must be a folder of mode 700 owned by the agent's user",
        run.display()
    );
    Ok(run)
}

fn create(folder: &Path) -> anyhow::Result<()> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.with_context(|| format!("create the folder {}", folder.display()))
}

/// Path of the admin socket of an Envoy.
pub(super) fn admin_socket(run: &Path, launch: Launch) -> PathBuf {
    run.join(format!("{ADMIN}{launch}.sock"))
}

/// Writes a file of mode 0600 atomically.
pub(super) fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".tmp");
    let partial = PathBuf::from(partial);
    remove(&partial)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(contents)?;
    fs::rename(&partial, path)
}

/// Removes a file if it exists.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

// === impl BootstrapFolder ===

impl BootstrapFolder {
    /// Creates the folder if needed and removes files of an earlier agent.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        create(folder)?;
        let bootstrap_folder = Self { folder: folder.to_owned() };
        bootstrap_folder
            .clear_bootstraps()
            .with_context(|| format!("remove stale bootstrap_folder from {}", folder.display()))?;
        Ok(bootstrap_folder)
    }

    /// Path of the file of this epoch, as Envoy gets it.
    pub(super) fn path(&self, epoch: Epoch) -> PathBuf {
        self.folder.join(format!("{PREFIX}{epoch}.json"))
    }

    /// Writes the file of this epoch.
    pub(super) fn write(&self, epoch: Epoch, bootstrap: &[u8]) -> io::Result<PathBuf> {
        let path = self.path(epoch);
        write(&path, bootstrap)?;
        Ok(path)
    }

    /// Writes the file that is validated.
    pub(super) fn write_candidate(&self, bootstrap: &[u8]) -> io::Result<PathBuf> {
        let path = self.folder.join(CANDIDATE);
        write(&path, bootstrap)?;
        Ok(path)
    }

    /// Removes the agent's bootstrap files and, from the folder of sockets, the admin sockets.
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
            if entry.file_name().to_str().is_some_and(is_bootstrap) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Returns `true` for `envoy-rev<digits>.json` and the candidate, with or without `.tmp`.
fn is_bootstrap(name: &str) -> bool {
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
    fn a_bootstrap_is_bootstrap_alone_to_read() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("etc/istio/proxy");
        let bootstrap_folder = BootstrapFolder::open(&folder).unwrap();
        let path = bootstrap_folder.write(Epoch::FIRST, b"{}").unwrap();
        assert_eq!(path, folder.join("envoy-rev0.json"));
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
        bootstrap_folder.write(Epoch::FIRST, b"{\"node\":{}}").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"{\"node\":{}}");
        assert_eq!(names(&folder), ["envoy-rev0.json"]);
    }

    #[test]
    fn stale_bootstraps_are_removed_and_other_files_stay() {
        let home = tempfile::tempdir().unwrap();
        let others = ["XDS", "envoy-rev.json", "envoy-rev0.yaml", "envoy-rev1x.json", "grpc-bootstrap.json"];
        for name in others.iter().chain(&["envoy-rev0.json", "envoy-rev12.json", "envoy-rev0.json.tmp"]) {
            fs::write(home.path().join(name), "").unwrap();
        }
        BootstrapFolder::open(home.path()).unwrap();
        assert_eq!(names(home.path()), others);
    }

    #[test]
    fn run_folder_is_private_and_short_enough_for_sockets() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(mode(&run_folder(home.path()).unwrap()), 0o700);
        fs::set_permissions(home.path().join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(run_folder(home.path()).unwrap_err().to_string().contains("mode 755"));
        // A socket's path is limited.
        let far = home.path().join("a".repeat(100));
        fs::create_dir(&far).unwrap();
        let near = [run_folder(&far).unwrap(), run_folder(&far).unwrap()];
        assert!(near.iter().all(|folder| folder.as_os_str().len() <= LONGEST), "{near:?}");
        assert_ne!(near[0], near[1], "a predictable name can be taken by others");
        for folder in near {
            fs::remove_dir(folder).unwrap();
        }
    }

    #[test]
    fn error_names_the_folder_that_cannot_be_created() {
        let error = BootstrapFolder::open(Path::new("/proc/nowhere")).unwrap_err();
        assert_eq!(error.to_string(), "create the folder /proc/nowhere");
    }
}
