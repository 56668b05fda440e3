//! Updates of the config watcher while files change. Every wait has a deadline and a condition. The absence of an update is
//! checked by the next one.

use std::io::Write as _;
use std::time::Instant;

use futures_util::FutureExt as _;

use super::*;

pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// The settings of the agent, without rescans.
pub(super) const SETTINGS: Settings = Settings { rescan_interval: Duration::from_hours(1), ..WATCH_SETTINGS };

/// Watched pod.
struct WatchedPod<'a> {
    pod: &'a PodFiles,
    watcher: ConfigWatcher,
}

impl<'a> WatchedPod<'a> {
    /// Starts a watcher and waits for its first scan, so that later changes are found by events only.
    async fn start(pod: &'a PodFiles) -> Self {
        Self::start_with(SETTINGS, pod).await
    }

    async fn start_with(settings: Settings, pod: &'a PodFiles) -> Self {
        let watcher = ConfigWatcher::with_settings(pod.inputs.clone(), pod.load(None).unwrap(), settings);
        let this = Self { pod, watcher };
        this.until_scanned(0).await;
        this
    }

    /// Waits for more scans than this number.
    async fn until_scanned(&self, scans: u64) {
        let deadline = Instant::now() + DEADLINE;
        while self.watcher.state().scans <= scans {
            assert!(Instant::now() < deadline, "no scan");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Changes files and waits for the next scan.
    async fn change(&self, change: impl FnOnce(&PodFiles)) {
        let scans = self.watcher.state().scans;
        change(self.pod);
        self.until_scanned(scans).await;
    }

    async fn next(&mut self) -> ConfigUpdate {
        tokio::time::timeout(DEADLINE, self.watcher.next()).await.expect("an update in time").unwrap()
    }

    async fn changed(&mut self) -> Arc<DesiredState> {
        match self.next().await {
            ConfigUpdate::Changed(desired) => desired,
            other => panic!("{other:?}"),
        }
    }

    async fn rejected(&mut self) -> String {
        match self.next().await {
            ConfigUpdate::Rejected(faults) => {
                faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            }
            other => panic!("{other:?}"),
        }
    }

    /// Expects an update to a mesh configuration with this number of threads, and none before.
    async fn threads(&mut self, threads: u32) {
        let desired = self.changed().await;
        assert_eq!(desired.config.proxy.concurrency, Some(threads));
    }

    /// Expects no update from the scans so far.
    fn no_update(&mut self) {
        let update = self.watcher.next().now_or_never();
        assert!(update.is_none(), "{update:?}");
    }

    /// Expects no update before that of another change.
    async fn no_update_before(&mut self, threads: u32) {
        self.pod.replace(MESH, &mesh(threads));
        self.threads(threads).await;
    }
}

#[tokio::test]
async fn symlink_swap_is_one_load() {
    let pod = PodFiles::new(&[]);
    pod.publish("etc/istio/config", 1, &[("mesh", &mesh(1)), ("other", "")]);
    let mut watched = WatchedPod::start(&pod).await;
    for version in 2..5 {
        let loads = watched.watcher.state().loads;
        watched
            .change(|pod| {
                pod.publish("etc/istio/config", version, &[("mesh", &mesh(version)), ("other", "")]);
            })
            .await;
        watched.threads(version).await;
        assert_eq!(watched.watcher.state().loads, loads + 1, "loaded once");
    }
    watched.change(|pod| pod.publish("etc/istio/config", 5, &[("mesh", &mesh(4)), ("other", "x")])).await;
    pod.publish("etc/istio/config", 6, &[("mesh", &mesh(6)), ("other", "x")]);
    watched.threads(6).await;
}

#[tokio::test]
async fn rewritten_content_is_no_change() {
    let pod = PodFiles::new(&[]);
    pod.write(MESH, &mesh(1));
    let mut watched = WatchedPod::start(&pod).await;
    let loads = watched.watcher.state().loads;
    watched.change(|pod| pod.write(MESH, &mesh(1))).await;
    watched.no_update();
    watched.change(|pod| pod.replace(MESH, &mesh(1))).await;
    watched.no_update();
    assert_eq!(watched.watcher.state().loads, loads, "nothing was loaded");
    watched.change(|pod| pod.write(MESH, &(mesh(1) + "# a comment\n"))).await;
    assert_eq!(watched.watcher.state().loads, loads + 1, "loaded, with the same meaning");
    watched.no_update_before(2).await;
}

#[tokio::test]
async fn burst_of_writes_is_debounced_and_the_last_write_wins() {
    let pod = PodFiles::new(&[]);
    let mut watched = WatchedPod::start(&pod).await;
    let start = Instant::now();
    for threads in 1..=50 {
        pod.write(MESH, &mesh(threads));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    while watched.changed().await.config.proxy.concurrency != Some(50) {}
    let loads = watched.watcher.state().loads;
    let turns = start.elapsed().as_millis() / SETTINGS.debounce.as_millis();
    assert!(u128::from(loads) <= turns + 1, "50 writes were loaded {loads} times in {:?}", start.elapsed());
}

#[tokio::test]
async fn slow_receiver_gets_the_last_state() {
    let pod = PodFiles::new(&[]);
    pod.write(MESH, "");
    let mut watched = WatchedPod::start(&pod).await;
    for threads in 1..=3 {
        watched.change(|pod| pod.replace(MESH, &mesh(threads))).await;
    }
    watched.change(|pod| pod.replace(MESH, "defaultConfig: [")).await;
    watched.threads(3).await;
    assert!(watched.rejected().await.contains("mesh"));
}

#[tokio::test]
async fn file_referenced_by_another_file_is_watched() {
    let pod = PodFiles::new(&[]);
    let mut watched = WatchedPod::start(&pod).await;
    pod.write(MESH, "defaultConfig: {customConfigFile: own/bootstrap.yaml}");
    assert!(watched.rejected().await.contains("own/bootstrap.yaml: there is no such file"));
    pod.write("own/bootstrap.yaml", "admin: {one: 1}");
    assert!(watched.changed().await.rendered.json.contains("one"));
    pod.write("own/bootstrap.yaml", "admin: {two: 2}");
    assert!(watched.changed().await.rendered.json.contains("two"));
    // A file that is no longer referenced is not watched.
    pod.write(MESH, &mesh(1));
    watched.threads(1).await;
    let scans = watched.watcher.state().scans;
    pod.write("own/bootstrap.yaml", "admin: {three: 3}");
    watched.no_update_before(2).await;
    assert_eq!(watched.watcher.state().scans, scans + 1);
}

#[tokio::test]
async fn invalid_configuration_is_rejected_and_recovers() {
    let pod = PodFiles::new(&[]);
    pod.write(MESH, &mesh(1));
    let mut watched = WatchedPod::start(&pod).await;
    for text in ["defaultConfig: {concurrency: [", "", "- 1"] {
        pod.write(MESH, text);
        assert!(watched.rejected().await.contains(MESH), "{text:?}");
        pod.write(MESH, &mesh(1));
        assert!(matches!(watched.next().await, ConfigUpdate::Recovered), "{text:?}");
    }
    pod.write(MESH, "defaultConfig: {concurrency: a}");
    assert!(watched.rejected().await.contains("concurrency"));
    pod.write(MESH, &mesh(2));
    watched.threads(2).await;
    // The change has ended the rejection: there is no other update.
    watched.no_update_before(3).await;
}

#[tokio::test]
async fn file_absent_for_a_moment_is_not_removed() {
    let pod = PodFiles::new(&[]);
    pod.write(MESH, &mesh(1));
    let mut watched = WatchedPod::start(&pod).await;
    watched.change(|pod| fs::remove_file(pod.path(MESH)).unwrap()).await;
    watched.no_update();
    watched.change(|pod| pod.write(MESH, &mesh(1))).await;
    watched.no_update();
    watched.change(|pod| fs::remove_file(pod.path("bin/envoy")).unwrap()).await;
    watched.no_update();
    watched.change(|pod| pod.replace("bin/envoy", "two")).await;
    watched.threads(1).await;

    fs::remove_file(pod.path(MESH)).unwrap();
    assert_eq!(watched.changed().await.config.proxy.concurrency, None, "removed after the absence period");
    fs::remove_file(pod.path("bin/envoy")).unwrap();
    assert!(watched.rejected().await.contains("no Envoy there"));
    pod.replace("bin/envoy", "three");
    watched.changed().await;
}

#[tokio::test]
async fn write_in_progress_is_not_loaded() {
    let pod = PodFiles::new(&[]);
    pod.write(MESH, &mesh(1));
    let mut watched = WatchedPod::start(&pod).await;
    let mut file = fs::File::create(pod.path(MESH)).unwrap();
    // Each prefix is a valid mesh configuration. The write takes longer than the maximum delay.
    for byte in mesh(27).bytes() {
        file.write_all(&[byte]).unwrap();
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    drop(file);
    watched.threads(27).await;
    assert_eq!(watched.watcher.state().loads, 1);
}

#[tokio::test]
async fn binary_is_read_by_a_rescan_and_its_copy_is_no_change() {
    let pod = PodFiles::new(&[]);
    let settings = Settings { rescan_interval: Duration::from_millis(50), ..SETTINGS };
    let mut watched = WatchedPod::start_with(settings, &pod).await;
    watched.change(|_| {}).await;
    watched.change(|pod| pod.replace("bin/envoy", "one")).await;
    watched.change(|_| {}).await;
    watched.no_update_before(2).await;
    pod.replace("bin/envoy", "two");
    watched.changed().await;
}

#[tokio::test]
async fn change_before_the_first_scan_is_a_change() {
    let pod = PodFiles::new(&[]);
    let first = pod.load(None).unwrap();
    pod.write(MESH, &mesh(1));
    let watcher = ConfigWatcher::with_settings(pod.inputs.clone(), first, SETTINGS);
    WatchedPod { pod: &pod, watcher }.threads(1).await;
}
