//! Files of `--meshConfig` and `--networksConfig`: reads and watches them, and keeps the last good version.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pilot_core::validate;
use pilot_proto::mesh::MeshConfig;
use pilot_proto::mesh::networks::MeshNetworks;
use serde_json::Value;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::source::file::documents::single;
use crate::source::file::single_file::{FileContent, watch_file};

/// File with settings of the whole mesh.
trait MeshFile: Clone + Default + PartialEq + Send + Sync + 'static {
    /// Flag that names the file.
    const FLAG: &str;

    /// Decodes parsed YAML.
    fn decode(value: Value) -> Result<Self, String>;

    /// Returns the settings that have no effect, with the reason.
    fn unsupported(&self) -> Vec<String>;
}

/// Watches the mesh configuration. A file that has never existed means Istio's defaults. A file that cannot be used is an
/// error at the start and a warning later.
pub(crate) fn watch(path: &Path) -> anyhow::Result<watch::Receiver<Arc<MeshConfig>>> {
    watch_mesh_file(path)
}

/// Watches the networks in the same way. A file that has never existed means one network.
pub(crate) fn watch_networks(path: &Path) -> anyhow::Result<watch::Receiver<Arc<MeshNetworks>>> {
    watch_mesh_file(path)
}

fn watch_mesh_file<M: MeshFile>(path: &Path) -> anyhow::Result<watch::Receiver<Arc<M>>> {
    let flag = M::FLAG;
    let mut contents = watch_file(path);
    let first = contents.borrow_and_update().clone();
    if first == FileContent::Missing {
        info!(path = %path.display(), flag, "file does not exist; using defaults");
    }
    let mesh: M = read(&first).map_err(|error| anyhow::anyhow!("{flag} {}: {error}", path.display()))?;
    warn_unsupported(&mesh);
    let (sender, receiver) = watch::channel(Arc::new(mesh));
    tokio::spawn(follow(path.to_owned(), contents, sender));
    Ok(receiver)
}

async fn follow<M: MeshFile>(
    path: PathBuf,
    mut contents: watch::Receiver<FileContent>,
    sender: watch::Sender<Arc<M>>,
) {
    let flag = M::FLAG;
    while contents.changed().await.is_ok() {
        let content = contents.borrow_and_update().clone();
        match read::<M>(&content) {
            Ok(mesh) => {
                info!(path = %path.display(), flag, "mesh settings read");
                warn_unsupported(&mesh);
                if sender.send(Arc::new(mesh)).is_err() {
                    return;
                }
            }
            Err(error) => {
                warn!(path = %path.display(), flag, %error, "invalid mesh settings; keeping previous version");
            }
        }
    }
}

fn read<M: MeshFile>(content: &FileContent) -> Result<M, String> {
    match content {
        FileContent::Missing => Ok(M::default()),
        FileContent::Text(text) => M::decode(single(text)?),
    }
}

fn warn_unsupported<M: MeshFile>(mesh: &M) {
    for problem in mesh.unsupported() {
        warn!(flag = M::FLAG, problem, "mesh settings are used only in part");
    }
}

impl MeshFile for MeshConfig {
    const FLAG: &str = "--meshConfig";

    fn decode(value: Value) -> Result<Self, String> {
        Self::from_value(value).map_err(|error| error.to_string())
    }

    fn unsupported(&self) -> Vec<String> {
        validate::mesh(self).iter().map(ToString::to_string).collect()
    }
}

impl MeshFile for MeshNetworks {
    const FLAG: &str = "--networksConfig";

    fn decode(value: Value) -> Result<Self, String> {
        Self::from_value(value).map_err(|error| error.to_string())
    }

    fn unsupported(&self) -> Vec<String> {
        Self::unused(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_invalid<M: MeshFile + std::fmt::Debug>(table: &[(&str, &str)]) {
        for (text, word) in table {
            let error = read::<M>(&FileContent::Text((*text).into())).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn mesh_config_file_is_decoded_or_rejected_with_the_reason() {
        let text = |text: &str| read::<MeshConfig>(&FileContent::Text(text.into()));
        assert_eq!(text("connectTimeout: 1s").unwrap().connect_timeout.as_secs(), 1);
        assert_eq!(text("# empty\n").unwrap(), MeshConfig::default());
        check_invalid::<MeshConfig>(&[
            ("connectTimeout: soon", "soon"),
            ("a: b: c", "line 1"),
            ("a: 1\n---\nb: 2", "second"),
        ]);
    }

    #[test]
    fn networks_file_is_decoded_or_rejected_with_the_reason() {
        let text = "networks: {n1: {gateways: [{address: 1.2.3.4, port: 15443}]}}";
        let networks = read::<MeshNetworks>(&FileContent::Text(text.into())).unwrap();
        assert_eq!(networks.networks["n1"].gateways[0].port, 15443);
        check_invalid::<MeshNetworks>(&[
            ("networks: {n1: {gateways: [{port: many}]}}", "many"),
            ("networks: 1", "1"),
        ]);
    }
}
