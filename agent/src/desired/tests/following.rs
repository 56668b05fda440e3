//! What the follower tells while files change under it. Every wait has an end and a condition; that nothing was
//! told is shown by what is told next.

use std::io::Write as _;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use nix::errno::Errno;

use super::*;
use crate::desired::eyes::{self, Blindness};
use crate::desired::follower::Open;
use crate::desired::patience::Pace;

pub(super) const PATIENCE: Duration = Duration::from_secs(30);
pub(super) const SEEING: Open = eyes::open;
const BLIND: Open = || Err(Blindness::Init(Errno::EMFILE));
/// A file system that takes watches and gives no notices.
const SILENT: Open = || Ok((eyes::open()?.0, eyes::open()?.1));

/// As users have it, but that the look for the sake of looking comes too late to help a test, or soon if all
/// depends on it.
pub(super) const PACE: Pace =
    Pace { idle: Duration::from_hours(1), blind: Duration::from_millis(50), ..Pace::USUAL };

/// Follows a pod.
struct Watch<'a> {
    pod: &'a Pod,
    follower: Follower,
}

impl<'a> Watch<'a> {
    /// After the first look: what changes from now on must be noticed.
    async fn new(pod: &'a Pod, open: Open) -> Self {
        Self::at(PACE, pod, open).await
    }

    async fn at(pace: Pace, pod: &'a Pod, open: Open) -> Self {
        let follower = Follower::with(pod.given.clone(), pod.read(None).unwrap(), (pace, open));
        let watch = Self { pod, follower };
        watch.looked(0).await;
        watch
    }

    /// Waits until it has looked more often than that.
    async fn looked(&self, before: u64) {
        let end = Instant::now() + PATIENCE;
        while self.follower.looks().0 <= before {
            assert!(Instant::now() < end, "it never looked");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Changes something and waits until that was looked at.
    async fn change(&self, change: impl FnOnce(&Pod)) {
        let before = self.follower.looks().0;
        change(self.pod);
        self.looked(before).await;
    }

    async fn news(&mut self) -> News {
        tokio::time::timeout(PATIENCE, self.follower.news()).await.expect("no news came").unwrap()
    }

    async fn changed(&mut self) -> Arc<Desired> {
        match self.news().await {
            News::Changed(desired) => desired,
            other => panic!("{other:?}"),
        }
    }

    async fn refused(&mut self) -> String {
        match self.news().await {
            News::Refused(faults) => faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
            other => panic!("{other:?}"),
        }
    }

    /// The next news is of a mesh with so many threads, and nothing was told before.
    async fn threads(&mut self, threads: u32) {
        let desired = self.changed().await;
        assert_eq!(desired.config.proxy.concurrency, Some(threads));
    }

    /// The last look has given nothing to be told.
    fn nothing_new(&mut self) {
        let news = self.follower.news().now_or_never();
        assert!(news.is_none(), "{news:?}");
    }

    /// Nothing was told, and what changes now is.
    async fn silent(&mut self, threads: u32) {
        self.pod.put(MESH, &mesh(threads));
        self.threads(threads).await;
    }
}

#[tokio::test]
async fn a_swap_of_a_mounted_folder_is_one_change() {
    let pod = Pod::new(&[]);
    pod.publish("etc/istio/config", 1, &[("mesh", &mesh(1)), ("other", "")]);
    let mut watch = Watch::new(&pod, SEEING).await;
    for version in 2..5 {
        let read = watch.follower.looks().1;
        watch
            .change(|pod| {
                pod.publish("etc/istio/config", version, &[("mesh", &mesh(version)), ("other", "")]);
            })
            .await;
        watch.threads(version).await;
        assert_eq!(watch.follower.looks().1, read + 1, "read once");
    }
    watch.change(|pod| pod.publish("etc/istio/config", 5, &[("mesh", &mesh(4)), ("other", "x")])).await;
    pod.publish("etc/istio/config", 6, &[("mesh", &mesh(6)), ("other", "x")]);
    watch.threads(6).await;
}

#[tokio::test]
async fn the_same_content_is_nothing() {
    let pod = Pod::new(&[]);
    pod.write(MESH, &mesh(1));
    let mut watch = Watch::new(&pod, SEEING).await;
    let (_, read) = watch.follower.looks();
    watch.change(|pod| pod.write(MESH, &mesh(1))).await;
    watch.nothing_new();
    watch.change(|pod| pod.put(MESH, &mesh(1))).await;
    watch.nothing_new();
    assert_eq!(watch.follower.looks().1, read, "nothing new was read");
    watch.change(|pod| pod.write(MESH, &(mesh(1) + "# a comment\n"))).await;
    assert_eq!(watch.follower.looks().1, read + 1, "it was read, and means the same");
    watch.silent(2).await;
}

#[tokio::test]
async fn a_burst_is_read_a_few_times_and_its_last_write_wins() {
    let pod = Pod::new(&[]);
    let mut watch = Watch::new(&pod, SEEING).await;
    let start = Instant::now();
    for threads in 1..=50 {
        pod.write(MESH, &mesh(threads));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    while watch.changed().await.config.proxy.concurrency != Some(50) {}
    let (_, read) = watch.follower.looks();
    let turns = start.elapsed().as_millis() / PACE.settle.as_millis();
    assert!(u128::from(read) <= turns + 1, "50 writes were read {read} times in {:?}", start.elapsed());
}

#[tokio::test]
async fn who_listens_slowly_hears_the_last_word() {
    let pod = Pod::new(&[]);
    let mut watch = Watch::new(&pod, SEEING).await;
    for threads in 1..=3 {
        watch.change(|pod| pod.put(MESH, &mesh(threads))).await;
    }
    watch.change(|pod| pod.put(MESH, "defaultConfig: [")).await;
    watch.threads(3).await;
    assert!(watch.refused().await.contains("mesh"));
}

#[tokio::test]
async fn a_file_that_appears_later_is_noticed_with_its_folders() {
    let pod = Pod::new(&[]);
    let mut watch = Watch::new(&pod, SEEING).await;
    watch.change(|pod| fs::create_dir(pod.path("etc")).unwrap()).await;
    watch.change(|pod| fs::create_dir_all(pod.path("etc/istio/config")).unwrap()).await;
    pod.write(MESH, &mesh(1));
    watch.threads(1).await;
}

#[tokio::test]
async fn a_file_named_by_another_is_followed_from_then_on() {
    let pod = Pod::new(&[]);
    let mut watch = Watch::new(&pod, SEEING).await;
    pod.write(MESH, "defaultConfig: {customConfigFile: own/bootstrap.yaml}");
    assert!(watch.refused().await.contains("own/bootstrap.yaml: there is no such file"));
    pod.write("own/bootstrap.yaml", "admin: {one: 1}");
    assert!(watch.changed().await.rendered.json.contains("one"));
    pod.write("own/bootstrap.yaml", "admin: {two: 2}");
    assert!(watch.changed().await.rendered.json.contains("two"));
    // And what nobody names any more is of no interest.
    pod.write(MESH, &mesh(1));
    watch.threads(1).await;
    let looks = watch.follower.looks().0;
    pod.write("own/bootstrap.yaml", "admin: {three: 3}");
    watch.silent(2).await;
    assert_eq!(watch.follower.looks().0, looks + 1);
}

#[tokio::test]
async fn a_folder_may_be_replaced_and_a_link_may_point_elsewhere() {
    let pod = Pod::new(&[]);
    pod.write(MESH, &mesh(1));
    let mut watch = Watch::new(&pod, SEEING).await;
    pod.write("next/config/mesh", &mesh(2));
    fs::rename(pod.path("etc/istio"), pod.path("old")).unwrap();
    fs::rename(pod.path("next"), pod.path("etc/istio")).unwrap();
    watch.threads(2).await;
    pod.write(MESH, &mesh(3));
    watch.threads(3).await;

    pod.write("far/mesh", &mesh(4));
    fs::remove_file(pod.path(MESH)).unwrap();
    symlink(pod.path("far/mesh"), pod.path(MESH)).unwrap();
    watch.threads(4).await;
    pod.write("far/mesh", &mesh(5));
    watch.threads(5).await;
}

#[tokio::test]
async fn a_file_has_other_names() {
    let pod = Pod::new(&[]);
    pod.write("elsewhere/mesh", &mesh(1));
    fs::create_dir_all(pod.path("etc/istio/config")).unwrap();
    fs::hard_link(pod.path("elsewhere/mesh"), pod.path(MESH)).unwrap();
    let mut watch = Watch::new(&pod, SEEING).await;
    pod.write("elsewhere/mesh", &mesh(2));
    watch.threads(2).await;
}

#[tokio::test]
async fn what_is_bad_is_told_and_what_is_good_again_too() {
    let pod = Pod::new(&[]);
    pod.write(MESH, &mesh(1));
    let mut watch = Watch::new(&pod, SEEING).await;
    for bad in ["defaultConfig: {concurrency: [", "", "- 1"] {
        pod.write(MESH, bad);
        assert!(watch.refused().await.contains(MESH), "{bad:?}");
        pod.write(MESH, &mesh(1));
        assert!(matches!(watch.news().await, News::Mended), "{bad:?}");
    }
    pod.write(MESH, "defaultConfig: {concurrency: a}");
    assert!(watch.refused().await.contains("concurrency"));
    pod.write(MESH, &mesh(2));
    watch.threads(2).await;
    // It was mended by the change: nothing is left to be said.
    watch.silent(3).await;
}

#[tokio::test]
async fn a_file_away_for_a_moment_is_not_gone() {
    let pod = Pod::new(&[]);
    pod.write(MESH, &mesh(1));
    let mut watch = Watch::new(&pod, SEEING).await;
    watch.change(|pod| fs::remove_file(pod.path(MESH)).unwrap()).await;
    watch.nothing_new();
    watch.change(|pod| pod.write(MESH, &mesh(1))).await;
    watch.nothing_new();
    watch.change(|pod| fs::remove_file(pod.path("bin/envoy")).unwrap()).await;
    watch.nothing_new();
    watch.change(|pod| pod.put("bin/envoy", "two")).await;
    watch.threads(1).await;

    fs::remove_file(pod.path(MESH)).unwrap();
    assert_eq!(watch.changed().await.config.proxy.concurrency, None, "now it is");
    fs::remove_file(pod.path("bin/envoy")).unwrap();
    assert!(watch.refused().await.contains("no Envoy there"));
    pod.put("bin/envoy", "three");
    watch.changed().await;
}

#[tokio::test]
async fn what_is_being_written_is_not_read() {
    let pod = Pod::new(&[]);
    pod.write(MESH, &mesh(1));
    let mut watch = Watch::new(&pod, SEEING).await;
    let mut file = fs::File::create(pod.path(MESH)).unwrap();
    // Each beginning of it is a mesh, too; it takes longer than any debounce waits.
    for byte in mesh(27).bytes() {
        file.write_all(&[byte]).unwrap();
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    drop(file);
    watch.threads(27).await;
    assert_eq!(watch.follower.looks().1, 1);
}

#[tokio::test]
async fn without_the_kernels_help_everything_is_found_all_the_same() {
    let pod = Pod::new(&[]);
    pod.publish("etc/istio/config", 1, &[("mesh", &mesh(1))]);
    let mut watch = Watch::new(&pod, BLIND).await;
    pod.publish("etc/istio/config", 2, &[("mesh", &mesh(2))]);
    watch.threads(2).await;
    pod.put("bin/envoy", "two");
    watch.changed().await;
    pod.write(MESH, "defaultConfig: {concurrency: a}");
    watch.refused().await;
    pod.write(MESH, &mesh(2));
    assert!(matches!(watch.news().await, News::Mended));
}

#[tokio::test]
async fn a_file_system_without_notices_is_looked_at_when_there_is_time() {
    let pod = Pod::new(&[]);
    let pace = Pace { idle: Duration::from_millis(50), ..PACE };
    let mut watch = Watch::at(pace, &pod, SILENT).await;
    pod.put(MESH, &mesh(1));
    watch.threads(1).await;
    // By then the binary has been read, too: its own copy is no news.
    watch.change(|pod| pod.put("bin/envoy", "one")).await;
    watch.looked(watch.follower.looks().0).await;
    watch.silent(2).await;
    pod.put("bin/envoy", "two");
    watch.changed().await;
}

#[tokio::test]
async fn what_changed_before_the_first_look_is_news() {
    let pod = Pod::new(&[]);
    let first = pod.read(None).unwrap();
    pod.write(MESH, &mesh(1));
    let follower = Follower::with(pod.given.clone(), first, (PACE, SEEING));
    Watch { pod: &pod, follower }.threads(1).await;
}
