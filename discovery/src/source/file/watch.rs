//! One file, watched: its last content, for whoever needs it now and whenever it changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tracing::warn;

use super::observer::{Observation, Observer, Sighting};
use super::tree::Root;

/// The last that was seen of a file. A file that goes or cannot be read leaves its last content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum FileContent {
    /// It has not been there yet.
    #[default]
    Missing,
    /// Its text.
    Text(Arc<str>),
}

/// Reads the file, and again whenever it has changed and settled, until every receiver is dropped. Blocks for the
/// first reading, some thirty milliseconds.
///
/// An error means that there is no thread to be had.
pub(crate) fn watch_file(path: &Path) -> std::io::Result<watch::Receiver<FileContent>> {
    let (mut observer, stop) = Observer::new(Root::File(path.to_owned()));
    let mut content = FileContent::Missing;
    // A file's root is no directory that could be missing.
    if let Ok(Some(first)) = observer.first() {
        content = latest(first).unwrap_or_default();
    }
    let (sender, receiver) = watch::channel(content);
    let name: PathBuf = path.file_name().map(PathBuf::from).unwrap_or_default();
    let closed = sender.clone();
    std::thread::Builder::new().name(format!("watch {}", name.display())).spawn(move || {
        while let Some(news) = observer.next() {
            if let Some(content) = latest(news) {
                sender.send_replace(content);
            }
        }
    })?;
    tokio::spawn(async move {
        closed.closed().await;
        drop(stop);
    });
    Ok(receiver)
}

fn latest(seen: Observation) -> Option<FileContent> {
    let mut latest = None;
    for sighting in seen.sightings {
        match sighting {
            Sighting::Content(path, bytes) => match String::from_utf8(bytes) {
                Ok(text) => latest = Some(FileContent::Text(text.into())),
                Err(error) => warn!(%error, path = %path.display(), "not UTF-8; what was read before stays"),
            },
            Sighting::Unreadable(path, why) => {
                warn!(%why, path = %path.display(), "cannot be read; what was read before stays");
            }
            Sighting::Gone(path) => warn!(path = %path.display(), "is gone; what was read before stays"),
            Sighting::Vanishing(_) => {}
        }
    }
    latest
}
