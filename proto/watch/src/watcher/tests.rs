//! Real files and real events. Every wait has a deadline and a condition.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use tempfile::TempDir;

use super::*;
use crate::settings::PER_FILE;
use crate::stability::FileChange;

const DEADLINE: Duration = Duration::from_secs(20);
/// No rescan comes in time to find what events have missed.
const SETTINGS: Settings = Settings {
    rescan_interval: Duration::from_hours(1),
    poll_interval: Duration::from_millis(50),
    ..PER_FILE
};
const UNAVAILABLE: OpenInotify = || Err(WatchError::Init(Errno::EMFILE));

/// Watched directory, or watched file in it.
struct Fixture {
    directory: TempDir,
    watcher: Watcher<()>,
}

impl Fixture {
    fn of_tree(open: OpenInotify, settings: Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("conf");
        fs::create_dir(&root).unwrap();
        let filter: fn(&Path) -> bool = |path| path.extension().is_some_and(|extension| extension == "yaml");
        let watcher = Watcher::new((), settings, Target::Tree(Tree { root, filter }), open);
        Self { directory, watcher }
    }

    fn of_file(name: &str, open: OpenInotify, settings: Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let target = Target::Files(BTreeSet::from([directory.path().join(name)]));
        Self { directory, watcher: Watcher::new((), settings, target, open) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    /// Renames a complete file into place.
    fn replace(&self, name: &str, text: &str) {
        self.write("next", text);
        fs::rename(self.path("next"), self.path(name)).unwrap();
    }

    fn watch_error(&mut self) -> Option<&WatchError> {
        self.watcher.parts().unwrap().1.watch_error()
    }

    async fn scan(&mut self) -> Result<Vec<FileChange>, String> {
        let scan = self.watcher.next(|(), scanner| scanner.scan());
        let scan = tokio::time::timeout(DEADLINE, scan).await.expect("a scan in time").unwrap();
        scan.map(|scan| scan.changes).map_err(|error| error.to_string())
    }

    /// Scans until this change is reported; returns the changes reported before.
    async fn until(&mut self, change: FileChange) -> Vec<FileChange> {
        let mut before = Vec::new();
        loop {
            let changes = self.scan().await.unwrap();
            if changes.contains(&change) {
                return before;
            }
            before.extend(changes);
        }
    }

    async fn until_stable(&mut self, name: &str) {
        let path = self.path(name);
        self.until(FileChange::Stable(path)).await;
    }
}

#[tokio::test]
async fn file_is_noticed_with_directories_that_did_not_exist() {
    let mut fixture = Fixture::of_file("a/b/f", open_inotify, SETTINGS);
    assert_eq!(fixture.scan().await, Ok(vec![]));
    fs::create_dir(fixture.path("a")).unwrap();
    assert_eq!(fixture.scan().await, Ok(vec![]));
    fixture.write("a/b/f", "1");
    fixture.until_stable("a/b/f").await;
    // The directories are replaced.
    fixture.write("next/b/f", "2");
    fs::rename(fixture.path("a"), fixture.path("old")).unwrap();
    fs::rename(fixture.path("next"), fixture.path("a")).unwrap();
    fixture.until_stable("a/b/f").await;
    fixture.write("a/b/f", "3");
    fixture.until_stable("a/b/f").await;
}

#[tokio::test]
async fn symlink_swap_and_writes_through_links_are_noticed() {
    let mut fixture = Fixture::of_file("f", open_inotify, SETTINGS);
    fixture.write("..1/f", "1");
    symlink("..1", fixture.path("..data")).unwrap();
    symlink("..data/f", fixture.path("f")).unwrap();
    fixture.until_stable("f").await;
    for version in 2..5 {
        fixture.write(&format!("..{version}/f"), "next");
        symlink(format!("..{version}"), fixture.path("..data_tmp")).unwrap();
        fs::rename(fixture.path("..data_tmp"), fixture.path("..data")).unwrap();
        fixture.until_stable("f").await;
        fixture.write(&format!("..{version}/f"), "in place");
        fixture.until_stable("f").await;
    }
    // The link itself is replaced.
    fixture.write("far/f", "elsewhere");
    fs::remove_file(fixture.path("f")).unwrap();
    symlink(fixture.path("far/f"), fixture.path("f")).unwrap();
    fixture.until_stable("f").await;
    fixture.write("far/f", "in place");
    fixture.until_stable("f").await;
    // Through another name of the file.
    fs::hard_link(fixture.path("far/f"), fixture.path("hard")).unwrap();
    fixture.until_stable("f").await;
    fixture.write("hard", "by hard link");
    fixture.until_stable("f").await;
}

#[tokio::test]
async fn write_in_progress_is_not_reported() {
    let mut fixture = Fixture::of_tree(open_inotify, SETTINGS);
    fixture.scan().await.unwrap();
    let mut file = File::create(fixture.path("conf/a.yaml")).unwrap();
    file.write_all(b"half").unwrap();
    fixture.replace("conf/b.yaml", "whole");
    let before = fixture.until(FileChange::Stable(fixture.path("conf/b.yaml"))).await;
    assert_eq!(before, []);
    std::thread::sleep(SETTINGS.debounce * 2);
    fixture.replace("conf/c.yaml", "whole");
    let before = fixture.until(FileChange::Stable(fixture.path("conf/c.yaml"))).await;
    assert_eq!(before, []);
    drop(file);
    fixture.until_stable("conf/a.yaml").await;
}

#[tokio::test]
async fn replaced_root_directory_is_watched_again() {
    let mut fixture = Fixture::of_tree(open_inotify, SETTINGS);
    for name in ["f.yaml", "g.yaml", "h.yaml"] {
        let path = format!("conf/{name}");
        fixture.scan().await.unwrap();
        fixture.write(&path, "x");
        fixture.until_stable(&path).await;
        fs::remove_dir_all(fixture.path("conf")).unwrap();
        while fixture.scan().await.is_ok() {}
        fs::create_dir(fixture.path("conf")).unwrap();
        while fixture.scan().await.is_err() {}
    }
}

#[tokio::test]
async fn queue_overflow_makes_every_file_suspect() {
    let mut fixture = Fixture::of_tree(open_inotify, SETTINGS);
    fixture.replace("conf/f.yaml", "1");
    fixture.until_stable("conf/f.yaml").await;
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    // Events of distinct names are not merged.
    for number in 0..=limit.trim().parse::<u32>().unwrap() / 2 {
        drop(File::create(fixture.path("conf/x")).unwrap());
        fs::rename(fixture.path("conf/x"), fixture.path(&format!("conf/{number}"))).unwrap();
        fs::remove_file(fixture.path(&format!("conf/{number}"))).unwrap();
    }
    // The event of this write is lost.
    fixture.write("conf/f.yaml", "2");
    fixture.until_stable("conf/f.yaml").await;
}

#[tokio::test]
async fn polling_finds_changes_without_inotify() {
    let mut fixture = Fixture::of_tree(UNAVAILABLE, SETTINGS);
    fixture.write("conf/sub/a.yaml", "1");
    fixture.until_stable("conf/sub/a.yaml").await;
    assert!(fixture.watch_error().is_some());
    fixture.replace("conf/sub/a.yaml", "2");
    fixture.until_stable("conf/sub/a.yaml").await;
    fs::remove_file(fixture.path("conf/sub/a.yaml")).unwrap();
    fixture.until(FileChange::Removed(fixture.path("conf/sub/a.yaml"))).await;
    // inotify becomes available.
    fixture.watcher.open = open_inotify;
    fixture.scan().await.unwrap();
    assert!(fixture.watch_error().is_none());
}

#[tokio::test]
async fn rescan_finds_changes_without_events() {
    let settings = Settings { rescan_interval: Duration::from_millis(50), ..SETTINGS };
    let mut fixture = Fixture::of_file("f", open_inotify, settings);
    // The runtime waits for an instance without watches: a file system without events.
    fixture.watcher.readiness = Some(register(Arc::new(open_inotify().unwrap())).unwrap());
    fixture.replace("f", "1");
    fixture.until_stable("f").await;
}

#[tokio::test]
async fn panic_in_a_scan_ends_the_watcher() {
    let mut fixture = Fixture::of_tree(open_inotify, SETTINGS);
    let panicked = fixture.watcher.next(|(), _| -> () { panic!("on purpose") }).await;
    assert_eq!(panicked, None);
    assert_eq!(fixture.watcher.next(|(), _| ()).await, None);
    assert!(fixture.watcher.parts().is_none());
}
