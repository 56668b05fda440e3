//! `--meshConfig`: read, watched, and the last good version kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use pilot_proto::mesh::MeshConfig;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::source::file::documents::single;
use crate::source::file::watch::{FileContent, watch_file};

/// The mesh configuration, now and whenever it changes. A file that is not there means Istio's defaults, as long as
/// it has never been there; one that cannot be used at the start is an error, later a warning.
pub(crate) fn watch(path: &Path) -> anyhow::Result<watch::Receiver<Arc<MeshConfig>>> {
    let mut contents = watch_file(path).with_context(|| format!("watch --meshConfig {}", path.display()))?;
    let first = contents.borrow_and_update().clone();
    if first == FileContent::Missing {
        info!(path = %path.display(), "no mesh configuration; defaults hold");
    }
    let mesh = read(&first).map_err(|why| anyhow::anyhow!("--meshConfig {}: {why}", path.display()))?;
    let (sender, receiver) = watch::channel(Arc::new(mesh));
    tokio::spawn(follow(path.to_owned(), contents, sender));
    Ok(receiver)
}

async fn follow(
    path: PathBuf,
    mut contents: watch::Receiver<FileContent>,
    sender: watch::Sender<Arc<MeshConfig>>,
) {
    while contents.changed().await.is_ok() {
        let content = contents.borrow_and_update().clone();
        match read(&content) {
            Ok(mesh) => {
                info!(path = %path.display(), "mesh configuration read");
                if sender.send(Arc::new(mesh)).is_err() {
                    return;
                }
            }
            Err(why) => {
                warn!(path = %path.display(), %why, "mesh configuration cannot be used; the last one holds");
            }
        }
    }
}

fn read(content: &FileContent) -> Result<MeshConfig, String> {
    match content {
        FileContent::Missing => Ok(MeshConfig::default()),
        FileContent::Text(text) => MeshConfig::from_value(single(text)?).map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_file_is_read_and_a_bad_one_says_why() {
        let text = |text: &str| read(&FileContent::Text(text.into()));
        assert_eq!(text("connectTimeout: 1s").unwrap().connect_timeout.as_secs(), 1);
        assert_eq!(text("# nothing\n").unwrap(), MeshConfig::default());
        for (bad, word) in
            [("connectTimeout: soon", "soon"), ("a: b: c", "line 1"), ("a: 1\n---\nb: 2", "second")]
        {
            let why = text(bad).unwrap_err();
            assert!(why.contains(word), "{bad}: {why}");
        }
    }
}
