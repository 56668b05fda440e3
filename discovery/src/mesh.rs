//! `--meshConfig` and `--networksConfig`: read, watched, and the last good version kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use pilot_core::validate;
use pilot_proto::mesh::MeshConfig;
use pilot_proto::mesh::networks::MeshNetworks;
use serde_json::Value;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::source::file::documents::single;
use crate::source::file::watch::{FileContent, watch_file};

/// A file about the whole mesh.
trait Mesh: Clone + Default + PartialEq + Send + Sync + 'static {
    /// The flag that names the file.
    const FLAG: &str;

    /// From YAML that was parsed.
    fn read(value: Value) -> Result<Self, String>;

    /// What of it is not acted upon, and why.
    fn unused(&self) -> Vec<String>;
}

/// The mesh configuration, now and whenever it changes. A file that is not there means Istio's defaults, as long as
/// it has never been there; one that cannot be used at the start is an error, later a warning.
pub(crate) fn watch(path: &Path) -> anyhow::Result<watch::Receiver<Arc<MeshConfig>>> {
    followed(path)
}

/// The networks, likewise. A file that is not there means one network.
pub(crate) fn watch_networks(path: &Path) -> anyhow::Result<watch::Receiver<Arc<MeshNetworks>>> {
    followed(path)
}

fn followed<M: Mesh>(path: &Path) -> anyhow::Result<watch::Receiver<Arc<M>>> {
    let flag = M::FLAG;
    let mut contents = watch_file(path).with_context(|| format!("watch {flag} {}", path.display()))?;
    let first = contents.borrow_and_update().clone();
    if first == FileContent::Missing {
        info!(path = %path.display(), flag, "no such file; defaults hold");
    }
    let mesh: M = read(&first).map_err(|why| anyhow::anyhow!("{flag} {}: {why}", path.display()))?;
    warn_of(&mesh);
    let (sender, receiver) = watch::channel(Arc::new(mesh));
    tokio::spawn(follow(path.to_owned(), contents, sender));
    Ok(receiver)
}

async fn follow<M: Mesh>(
    path: PathBuf,
    mut contents: watch::Receiver<FileContent>,
    sender: watch::Sender<Arc<M>>,
) {
    let flag = M::FLAG;
    while contents.changed().await.is_ok() {
        let content = contents.borrow_and_update().clone();
        match read::<M>(&content) {
            Ok(mesh) => {
                info!(path = %path.display(), flag, "mesh-wide settings read");
                warn_of(&mesh);
                if sender.send(Arc::new(mesh)).is_err() {
                    return;
                }
            }
            Err(why) => {
                warn!(path = %path.display(), flag, %why, "mesh-wide settings cannot be used; the last ones hold");
            }
        }
    }
}

fn read<M: Mesh>(content: &FileContent) -> Result<M, String> {
    match content {
        FileContent::Missing => Ok(M::default()),
        FileContent::Text(text) => M::read(single(text)?),
    }
}

fn warn_of<M: Mesh>(mesh: &M) {
    for problem in mesh.unused() {
        warn!(flag = M::FLAG, problem, "mesh-wide settings do not mean all that was written");
    }
}

impl Mesh for MeshConfig {
    const FLAG: &str = "--meshConfig";

    fn read(value: Value) -> Result<Self, String> {
        Self::from_value(value).map_err(|wrong| wrong.to_string())
    }

    fn unused(&self) -> Vec<String> {
        validate::mesh(self).iter().map(ToString::to_string).collect()
    }
}

impl Mesh for MeshNetworks {
    const FLAG: &str = "--networksConfig";

    fn read(value: Value) -> Result<Self, String> {
        Self::from_value(value).map_err(|wrong| wrong.to_string())
    }

    fn unused(&self) -> Vec<String> {
        Self::unused(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_bad<M: Mesh + std::fmt::Debug>(table: &[(&str, &str)]) {
        for (bad, word) in table {
            let why = read::<M>(&FileContent::Text((*bad).into())).unwrap_err();
            assert!(why.contains(word), "{bad}: {why}");
        }
    }

    #[test]
    fn a_mesh_file_is_read_and_a_bad_one_says_why() {
        let text = |text: &str| read::<MeshConfig>(&FileContent::Text(text.into()));
        assert_eq!(text("connectTimeout: 1s").unwrap().connect_timeout.as_secs(), 1);
        assert_eq!(text("# nothing\n").unwrap(), MeshConfig::default());
        check_bad::<MeshConfig>(&[
            ("connectTimeout: soon", "soon"),
            ("a: b: c", "line 1"),
            ("a: 1\n---\nb: 2", "second"),
        ]);
    }

    #[test]
    fn a_file_of_networks_is_read_and_a_bad_one_says_why() {
        let text = "networks: {n1: {gateways: [{address: 1.2.3.4, port: 15443}]}}";
        let networks = read::<MeshNetworks>(&FileContent::Text(text.into())).unwrap();
        assert_eq!(networks.networks["n1"].gateways[0].port, 15443);
        check_bad::<MeshNetworks>(&[
            ("networks: {n1: {gateways: [{port: many}]}}", "many"),
            ("networks: 1", "1"),
        ]);
    }
}
