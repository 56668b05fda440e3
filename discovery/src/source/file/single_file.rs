//! Watches one file and provides its last content.

use std::path::Path;
use std::sync::Arc;

use pilot_watch::{Presence, Watcher};
use tokio::sync::watch;
use tracing::{error, warn};

use super::reader::{FileContentChange, FileReader, FileUpdate, WATCH_SETTINGS};

/// Last content of a file. Kept when the file is removed or cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum FileContent {
    /// The file has not existed yet.
    #[default]
    Missing,
    /// Text of the file.
    Text(Arc<str>),
}

/// Reads the file, and again whenever it has changed, until every receiver is dropped. Must be called in a runtime. Blocks
/// for the first read, about thirty milliseconds.
pub(crate) fn watch_file(path: &Path) -> watch::Receiver<FileContent> {
    let mut watcher = Watcher::of_files(FileReader::default(), WATCH_SETTINGS);
    let initial = watcher.parts().and_then(|(reader, scanner)| {
        scanner.set_files([(path, Presence::Absent)]);
        // Fails for directory trees only.
        reader.read_initial(scanner).ok()
    });
    let (sender, receiver) = watch::channel(initial.and_then(latest).unwrap_or_default());
    tokio::spawn(async move {
        let follow = async {
            while let Some(update) = watcher.next(FileReader::read).await {
                if let Some(content) = update.and_then(latest) {
                    sender.send_replace(content);
                }
            }
        };
        tokio::select! {
            () = sender.closed() => {}
            () = follow => error!("file scan failed; files are no longer watched"),
        }
    });
    receiver
}

/// Returns the new content, and logs what cannot be used.
fn latest(update: FileUpdate) -> Option<FileContent> {
    let mut latest = None;
    let warn =
        |path: &Path, problem: &str| warn!(path = %path.display(), "{problem}; keeping previous version");
    for (path, error) in update.unreadable {
        warn(&path, &error);
    }
    for change in update.changes {
        match change {
            FileContentChange::Content(path, bytes) => match String::from_utf8(bytes) {
                Ok(text) => latest = Some(FileContent::Text(text.into())),
                Err(error) => warn(&path, &format!("not UTF-8: {error}")),
            },
            FileContentChange::Unreadable(path, error) => warn(&path, &error),
            FileContentChange::Removed(path) => warn(&path, "file removed"),
            FileContentChange::Missing(_) => {}
        }
    }
    latest
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn watch_file_provides_the_last_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mesh");
        let mut content = watch_file(&path);
        let text = |text: &str| FileContent::Text(text.into());
        assert_eq!(*content.borrow(), FileContent::Missing);
        let mut becomes = async |expected: &str| {
            let becomes = content.wait_for(|content| *content == text(expected));
            timeout(DEADLINE, becomes).await.expect("content in time").unwrap();
        };
        fs::write(&path, "one").unwrap();
        becomes("one").await;
        fs::remove_file(&path).unwrap();
        fs::write(&path, "two").unwrap();
        becomes("two").await;
    }
}
