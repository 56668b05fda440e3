//! A folder that plays a pod's file system, and what becomes of the desired state when it changes.

mod following;
mod last_word;
mod reading;

use std::fs;
use std::num::NonZeroU32;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use clap::Parser as _;
use tempfile::TempDir;

use super::*;
use crate::cli::{Cli, Command};

/// Where the mesh's configuration is mounted.
const MESH: &str = "etc/istio/config/mesh";

/// A pod.
struct Pod {
    folder: TempDir,
    given: Given,
}

impl Pod {
    /// With an Envoy, no other file, and this environment besides.
    fn new(environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cli = Cli::try_parse_from(["pilot-agent", "proxy", "sidecar"]).unwrap();
        let Command::Proxy(flags) = cli.command else { unreachable!("proxy was asked for") };
        let own = [("PROXY_CONFIG", "{binaryPath: bin/envoy, discoveryAddress: 'istiod:15010'}")];
        let given = Given {
            flags,
            log: cli.log,
            overrides: Overrides::default(),
            environment: own.iter().chain(environment).copied().collect(),
            root: folder.path().to_owned(),
            interfaces: Interfaces::from([("eth0", &["10.9.9.9".parse().unwrap()][..])]),
            limits: Limits { cores: NonZeroU32::MIN, quota: None, memory: None },
        };
        let pod = Self { folder, given };
        pod.write("bin/envoy", "one");
        fs::set_permissions(pod.path("bin/envoy"), fs::Permissions::from_mode(0o755)).unwrap();
        pod
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Writes a file as an editor without manners does, and makes its folder.
    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Puts a whole file in place of another.
    fn put(&self, path: &str, text: &str) {
        let next = format!("{path}.next");
        self.write(&next, text);
        fs::set_permissions(self.path(&next), fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(self.path(&next), self.path(path)).unwrap();
    }

    /// Publishes a folder of files as the kubelet does: a folder of its own, then one rename of a link.
    fn publish(&self, folder: &str, version: u32, files: &[(&str, &str)]) {
        let folder = Path::new(folder);
        let version = format!("..v{version}");
        for (name, text) in files {
            self.write(folder.join(&version).join(name).to_str().unwrap(), text);
        }
        let folder = self.folder.path().join(folder);
        symlink(&version, folder.join("..data_tmp")).unwrap();
        let before = fs::read_link(folder.join("..data"));
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        for (name, _) in files {
            if !folder.join(name).is_symlink() {
                symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
            }
        }
        if let Ok(before) = before {
            fs::remove_dir_all(folder.join(before)).unwrap();
        }
    }

    fn read(&self, before: Option<&Desired>) -> Result<Arc<Desired>, Faults> {
        self.given.read(before).outcome
    }
}

/// A mesh whose proxies have so many threads.
fn mesh(threads: u32) -> String {
    format!("defaultConfig: {{concurrency: {threads}}}\n")
}
