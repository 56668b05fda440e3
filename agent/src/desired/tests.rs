//! A directory stands for the file system of a pod. Tests of the desired state after changes of its files.

mod histories;
mod loading;
mod watching;

use std::fs;
use std::num::NonZeroU32;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use clap::Parser as _;
use tempfile::TempDir;

use super::*;
use crate::cli::{Cli, Command};

/// Mount path of the mesh configuration.
const MESH: &str = "etc/istio/config/mesh";

/// File system of a pod, and inputs of its configuration.
struct PodFiles {
    directory: TempDir,
    inputs: FixedInputs,
}

impl PodFiles {
    /// Contains an Envoy binary and no other file; with this additional environment.
    fn new(environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cli = Cli::try_parse_from(["pilot-agent", "proxy", "sidecar"]).unwrap();
        let Command::Proxy(flags) = cli.command else { unreachable!("the command is proxy") };
        let proxy_config = [("PROXY_CONFIG", "{binaryPath: bin/envoy, discoveryAddress: 'istiod:15010'}")];
        let inputs = FixedInputs {
            flags,
            log: cli.log,
            overrides: Overrides::default(),
            environment: proxy_config.iter().chain(environment).copied().collect(),
            root: directory.path().to_owned(),
            interfaces: Interfaces::from([("eth0", &["10.9.9.9".parse().unwrap()][..])]),
            limits: Limits { cores: NonZeroU32::MIN, quota: None, memory: None },
        };
        let pod = Self { directory, inputs };
        pod.write("bin/envoy", "one");
        fs::set_permissions(pod.path("bin/envoy"), fs::Permissions::from_mode(0o755)).unwrap();
        pod
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    /// Writes a file in place, and creates its directory.
    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Replaces a file by a rename.
    fn replace(&self, path: &str, text: &str) {
        let next = format!("{path}.next");
        self.write(&next, text);
        fs::set_permissions(self.path(&next), fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(self.path(&next), self.path(path)).unwrap();
    }

    /// Publishes a directory of files as the kubelet does: writes them to a new directory, then renames a link to it.
    fn publish(&self, directory: &str, version: u32, files: &[(&str, &str)]) {
        let directory = Path::new(directory);
        let version = format!("..v{version}");
        for (name, text) in files {
            self.write(directory.join(&version).join(name).to_str().unwrap(), text);
        }
        let directory = self.directory.path().join(directory);
        symlink(&version, directory.join("..data_tmp")).unwrap();
        let before = fs::read_link(directory.join("..data"));
        fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
        for (name, _) in files {
            if !directory.join(name).is_symlink() {
                symlink(Path::new("..data").join(name), directory.join(name)).unwrap();
            }
        }
        if let Ok(before) = before {
            fs::remove_dir_all(directory.join(before)).unwrap();
        }
    }

    fn load(&self, before: Option<&DesiredState>) -> Result<Arc<DesiredState>, Faults> {
        self.inputs.load(before).outcome
    }
}

/// Mesh configuration with this number of proxy threads.
fn mesh(threads: u32) -> String {
    format!("defaultConfig: {{concurrency: {threads}}}\n")
}
