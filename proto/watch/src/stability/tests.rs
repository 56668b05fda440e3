use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::settings::PER_FILE;

const WHOLE_SET: Settings = Settings {
    debounce: Duration::from_millis(100),
    max_delay: Some(Duration::from_secs(1)),
    absence: Duration::from_secs(1),
    grouping: Grouping::WholeSet,
    ..PER_FILE
};

/// Directory with virtual time in milliseconds.
struct Directory {
    filter: StabilityFilter,
    listing: Listing,
    start: Instant,
}

impl Directory {
    fn empty(settings: Settings) -> Self {
        let filter = StabilityFilter::new(settings);
        Self { filter, listing: Listing::default(), start: Instant::now() }
    }

    /// Files with an accepted first version.
    fn with(settings: Settings, names: &[&str]) -> Self {
        let mut directory = Self::empty(settings);
        for name in names {
            directory.filter.assume(name.into());
            directory.write(name, 0);
        }
        assert_eq!(directory.scan(0), (String::new(), None));
        directory
    }

    fn write(&mut self, name: &str, version: i64) {
        self.listing.files.insert(name.into(), FileStamp::of_version(version));
    }

    fn remove(&mut self, name: &str) {
        self.listing.files.remove(Path::new(name));
    }

    fn at(&self, at: u64) -> Instant {
        self.start + Duration::from_millis(at)
    }

    fn due(&self) -> Option<u64> {
        self.filter.due().map(|due| u64::try_from((due - self.start).as_millis()).unwrap())
    }

    /// Records an event and returns when the next scan is due.
    fn event(&mut self, at: u64, kind: EventKind, name: &str) -> Option<u64> {
        self.filter.on_event(kind, Path::new(name), self.at(at));
        self.due()
    }

    /// Scans; returns the changes and when the next scan is due.
    fn scan(&mut self, at: u64) -> (String, Option<u64>) {
        self.scan_for(ScanReason::Due, at)
    }

    fn scan_for(&mut self, reason: ScanReason, at: u64) -> (String, Option<u64>) {
        let changes = self.filter.on_listing(&self.listing, reason, self.at(at));
        let changes: Vec<_> = changes
            .iter()
            .map(|change| match change {
                FileChange::Stable(path) => format!("stable {}", path.display()),
                FileChange::Missing(path) => format!("missing {}", path.display()),
                FileChange::Removed(path) => format!("removed {}", path.display()),
            })
            .collect();
        assert!(self.due().is_none_or(|due| due > at), "a scan leaves nothing due");
        (changes.join(", "), self.due())
    }
}

fn nothing(due: impl Into<Option<u64>>) -> (String, Option<u64>) {
    (String::new(), due.into())
}

#[test]
fn changed_file_is_accepted_after_the_debounce_period() {
    let mut directory = Directory::empty(PER_FILE);
    directory.write("a", 1);
    assert_eq!(directory.scan(0), nothing(30));
    assert_eq!(directory.scan(29), nothing(30));
    directory.write("a", 2);
    assert_eq!(directory.scan(29), nothing(59));
    assert_eq!(directory.scan(59), ("stable a".into(), None));
    assert_eq!(directory.scan(99), nothing(None));
}

#[test]
fn event_makes_a_file_with_the_same_metadata_suspect() {
    // Two writes within one tick of the file system's clock.
    let mut directory = Directory::with(PER_FILE, &["a"]);
    assert_eq!(directory.event(100, EventKind::Other, "a"), Some(130));
    assert_eq!(directory.event(120, EventKind::Other, "a"), Some(150));
    assert_eq!(directory.scan(130), nothing(150));
    assert_eq!(directory.scan(150), ("stable a".into(), None));
}

#[test]
fn new_file_is_accepted_at_its_first_listing_only_after_a_write_event() {
    let mut directory = Directory::empty(PER_FILE);
    // Its directory was created, and is watched by the scan.
    directory.event(0, EventKind::Other, "d/a");
    directory.write("d/a", 1);
    assert_eq!(directory.scan(30), nothing(60));
    directory.event(50, EventKind::Closed, "d/a");
    assert_eq!(directory.scan(60), nothing(80));
    assert_eq!(directory.scan(80), ("stable d/a".into(), None));
    directory.write("b", 1);
    directory.event(100, EventKind::Closed, "b");
    assert_eq!(directory.scan(130), ("stable b".into(), None));
}

#[test]
fn file_open_for_writing_is_not_accepted_until_closed() {
    let mut directory = Directory::with(PER_FILE, &["a"]);
    directory.write("a", 1);
    assert_eq!(directory.event(100, EventKind::Written, "a"), Some(10_100));
    assert_eq!(directory.event(900, EventKind::Written, "a"), Some(10_900));
    assert_eq!(directory.scan(900), nothing(10_900));
    assert_eq!(directory.event(901, EventKind::Closed, "a"), Some(931));
    assert_eq!(directory.scan(931), ("stable a".into(), None));
    // A writer that never closes.
    assert_eq!(directory.event(2000, EventKind::Written, "a"), Some(12_000));
    assert_eq!(directory.scan(12_000), ("stable a".into(), None));
    // The file is deleted while open.
    directory.event(13_000, EventKind::Written, "a");
    directory.remove("a");
    assert_eq!(directory.event(13_001, EventKind::Unlinked, "a"), Some(13_031));
    assert_eq!(directory.scan(13_031), ("missing a".into(), Some(13_331)));
}

#[test]
fn renamed_file_is_accepted_at_once() {
    let mut directory = Directory::with(PER_FILE, &["d/a", "d/b"]);
    directory.write("d/a", 1);
    directory.write("d/b", 1);
    assert_eq!(directory.event(100, EventKind::RenamedTo, "d/a"), Some(100));
    assert_eq!(directory.scan(100), ("stable d/a".into(), Some(130)));
    // A directory, or a link on the path, stands for every file below it except those being written.
    directory.event(105, EventKind::Written, "d/a");
    directory.write("d/a", 2);
    directory.write("d/c", 2);
    directory.filter.on_event(EventKind::RenamedTo, Path::new("d"), directory.at(110));
    directory.event(110, EventKind::Written, "d/a");
    assert_eq!(directory.scan(110), ("stable d/b, stable d/c".into(), Some(10_110)));
}

#[test]
fn missing_file_is_removed_after_the_absence_period() {
    let mut directory = Directory::with(PER_FILE, &["a", "b"]);
    directory.listing.files.clear();
    assert_eq!(directory.scan(100), ("missing a, missing b".into(), Some(400)));
    assert_eq!(directory.event(200, EventKind::Other, "b"), Some(230));
    assert_eq!(directory.scan(230), nothing(400));
    // An editor puts it back under its old name.
    directory.write("a", 1);
    assert_eq!(directory.scan(390), nothing(400));
    assert_eq!(directory.scan(400), ("removed b".into(), Some(420)));
    assert_eq!(directory.scan(420), ("stable a".into(), None));
}

#[test]
fn files_in_an_unreadable_directory_keep_their_state() {
    let mut directory = Directory::with(PER_FILE, &["d/a", "b"]);
    directory.listing.files.clear();
    directory.listing.unreadable.push(("d".into(), "permission denied".into()));
    directory.event(190, EventKind::Written, "d/a");
    assert_eq!(directory.scan(200), ("missing b".into(), Some(500)));
    directory.write("d/a", 1);
    directory.listing.unreadable.clear();
    assert_eq!(directory.scan(300), nothing(330));
    assert_eq!(directory.scan(330), ("stable d/a".into(), Some(500)));
}

#[test]
fn other_names_cause_a_scan_and_leave_no_trace() {
    let mut directory = Directory::with(PER_FILE, &["a"]);
    assert_eq!(directory.event(100, EventKind::Other, "4913"), Some(130));
    assert_eq!(directory.scan(130), nothing(None));
    assert!(directory.filter.is_stable());
}

#[test]
fn overflow_makes_every_file_suspect_and_ends_writes() {
    let mut directory = Directory::with(PER_FILE, &["a", "b"]);
    directory.event(100, EventKind::Written, "a");
    directory.filter.on_overflow(directory.at(200));
    assert_eq!(directory.due(), Some(230));
    assert_eq!(directory.scan(230), ("stable a, stable b".into(), None));
}

#[test]
fn rescan_reports_every_stable_file() {
    let mut directory = Directory::with(PER_FILE, &["a", "b", "c"]);
    directory.write("c", 1);
    assert_eq!(directory.scan_for(ScanReason::Rescan, 5000), ("stable a, stable b".into(), Some(5030)));
    assert_eq!(directory.scan(5030), ("stable c".into(), None));
}

#[test]
fn whole_set_is_due_when_it_is_quiet_or_after_the_maximum_delay() {
    use EventKind::{Closed, Other, RenamedTo, Written};
    let check = |events: &[(u64, EventKind, &str)], due: Option<u64>| {
        let mut directory = Directory::with(WHOLE_SET, &["a", "b"]);
        for (at, kind, name) in events {
            directory.event(*at, *kind, name);
        }
        assert_eq!(directory.due(), due, "{events:?}");
    };
    check(&[], None);
    check(&[(0, Other, "a")], Some(100));
    check(&[(0, RenamedTo, "a")], Some(100));
    check(&[(0, Other, "a"), (60, Other, "b")], Some(160));
    let storm: Vec<_> = (0..40).map(|turn| (turn * 50, Other, "a")).collect();
    check(&storm, Some(1000));
    check(&[(0, Written, "a")], Some(10_000));
    check(&[(0, Written, "a"), (3000, Written, "a"), (4000, Closed, "a")], Some(1000));
    check(&[(0, Written, "a"), (10, Closed, "a")], Some(110));
    check(&[(0, Written, "a"), (10, Written, "b"), (20, Closed, "a")], Some(10_010));
    check(&[(0, Closed, "a")], Some(100));
}

#[test]
fn whole_set_accepts_nothing_while_a_file_is_changing_or_missing() {
    let mut directory = Directory::with(WHOLE_SET, &["a", "b"]);
    // Replaced in two steps, while another file changes.
    directory.remove("a");
    directory.write("b", 1);
    assert_eq!(directory.scan(0), ("missing a".into(), Some(1000)));
    directory.write("a", 1);
    assert_eq!(directory.scan(900), nothing(1000));
    assert_eq!(directory.scan(1000), ("stable a, stable b".into(), None));
    // Removed.
    directory.remove("a");
    assert_eq!(directory.scan(2000), ("missing a".into(), Some(3000)));
    directory.write("b", 2);
    assert_eq!(directory.scan(2900), nothing(3000));
    assert_eq!(directory.scan(3000), ("removed a, stable b".into(), None));
    // It did not exist before either.
    assert_eq!(directory.scan(3100), nothing(None));
}

#[test]
fn polling_accepts_what_two_scans_list_alike() {
    let mut directory = Directory::with(WHOLE_SET, &["a"]);
    directory.write("a", 1);
    assert_eq!(directory.scan(0), nothing(100));
    directory.write("a", 2);
    assert_eq!(directory.scan(100), nothing(200));
    directory.write("a", 3);
    assert_eq!(directory.scan(950), nothing(1000));
    directory.write("a", 4);
    assert_eq!(directory.scan(1000), ("stable a".into(), None), "the maximum delay");
}

/// Step of a random history.
#[derive(Clone, Debug)]
enum Step {
    /// The file gets this version, by a write that is closed at once, or by a rename.
    Write(usize, EventKind),
    Remove(usize),
    Overflow,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop::sample::select(vec![EventKind::Closed, EventKind::RenamedTo]);
    let step = prop_oneof![
        3 => (0..3usize, kind).prop_map(|(file, kind)| Step::Write(file, kind)),
        2 => (0..3usize).prop_map(Step::Remove),
        1 => Just(Step::Overflow),
        4 => (1..500u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..40)
}

/// Plays a history, with events or without, and scans whenever it is due. Checks each report against the history.
fn check_history(settings: Settings, has_events: bool, steps: &[Step]) {
    const NAMES: [&str; 3] = ["a", "b", "d/c"];
    let mut directory = Directory::empty(settings);
    // By file: time of the last change, and whether it was a rename; the first and the last are long past.
    let mut changed: [(u64, EventKind); 3] = [(0, EventKind::Other); 3];
    let mut reported: BTreeMap<PathBuf, FileStamp> = BTreeMap::new();
    let (mut now, mut version) = (1000, 0);
    let end = Step::Wait(60_000);
    for step in steps.iter().chain([&end]) {
        match step {
            Step::Write(file, kind) => {
                version += 1;
                directory.write(NAMES[*file], version);
                changed[*file] = (now, *kind);
                if has_events {
                    directory.event(now, *kind, NAMES[*file]);
                }
            }
            Step::Remove(file) if !directory.listing.files.contains_key(Path::new(NAMES[*file])) => {}
            Step::Remove(file) => {
                directory.remove(NAMES[*file]);
                changed[*file] = (now, EventKind::Unlinked);
                if has_events {
                    directory.event(now, EventKind::Unlinked, NAMES[*file]);
                }
            }
            Step::Overflow => directory.filter.on_overflow(directory.at(now)),
            Step::Wait(duration) => {
                let until = now + duration;
                loop {
                    // Without events, polls find the changes.
                    let poll = now - now % 50 + 50;
                    let due = directory.due().unwrap_or(u64::MAX).max(now);
                    now = if has_events { due } else { due.min(poll) }.min(until);
                    if now == until && due > until {
                        break;
                    }
                    let at = directory.at(now);
                    for change in directory.filter.on_listing(&directory.listing, ScanReason::Due, at) {
                        let (FileChange::Stable(path)
                        | FileChange::Missing(path)
                        | FileChange::Removed(path)) = &change;
                        let file = NAMES.iter().position(|name| Path::new(name) == path).unwrap();
                        let (since, kind) = changed[file];
                        let quiet = Duration::from_millis(now - since);
                        match &change {
                            FileChange::Stable(path) => {
                                let is_complete =
                                    settings.grouping == Grouping::PerFile && kind == EventKind::RenamedTo;
                                let is_late = settings.max_delay.is_some();
                                assert!(
                                    quiet >= settings.debounce || is_complete || is_late,
                                    "{change:?} at {now}"
                                );
                                reported.insert(path.clone(), directory.listing.files[path]);
                            }
                            FileChange::Missing(path) => assert!(!directory.listing.files.contains_key(path)),
                            FileChange::Removed(path) => {
                                // Polls may miss a file that exists for a moment.
                                assert!(quiet >= settings.absence || !has_events, "{change:?} at {now}");
                                reported.remove(path);
                            }
                        }
                    }
                    assert!(directory.due().is_none_or(|due| due > now), "a scan leaves nothing due");
                }
                now = until;
            }
        }
    }
    assert_eq!(reported, directory.listing.files, "the last report is the last state");
    assert!(directory.filter.is_stable());
}

proptest! {
    #[test]
    fn reports_are_stable_and_end_with_the_last_state(history in steps(), has_events: bool) {
        for settings in [PER_FILE, WHOLE_SET] {
            check_history(settings, has_events, &history);
        }
    }
}
