//! When to look at files after something was noticed. Pure: notices come in with their time.
//!
//! ```text
//!   notice ──▶ quiet for `settle`, or `at_most` after the first ──▶ look
//!     └─ written to, and not closed ──▶ closed, or `writer` after the first ──▶ look
//! ```
//!
//! The beginning of a YAML file is mostly YAML itself, so a file that is being written is not read.

use std::collections::HashSet;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use nix::sys::inotify::WatchDescriptor;

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// From the last notice to a look. A mounted secret changes with five notices.
    pub(super) settle: Duration,
    /// From the first notice to a look, if they do not end.
    pub(super) at_most: Duration,
    /// How long somebody may hold a file open that he writes to. Who never closes is the exception.
    pub(super) writer: Duration,
    /// How long a file must be away to be believed gone: who replaces one in two steps is quicker.
    pub(super) absence: Duration,
    /// From look to look without a notice: there are file systems that give none.
    pub(super) idle: Duration,
    /// The same when the kernel gives none at all.
    pub(super) blind: Duration,
}

/// What was noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// A file was written to.
    Written(Place),
    /// Who could write to it has closed it.
    Closed(Place),
    /// Something else.
    Changed,
    /// Notices were lost.
    Lost,
}

/// A file as the kernel names it: by a watch, and by its name if the watch is its folder's.
pub(super) type Place = (WatchDescriptor, Option<OsString>);

/// Notices since the last look.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// The first and the last.
    noticed: Option<(Instant, Instant)>,
    /// Written to and not closed.
    writing: HashSet<Place>,
}

// === impl Pace ===

impl Pace {
    /// What users get.
    pub(super) const USUAL: Self = Self {
        settle: Duration::from_millis(100),
        at_most: Duration::from_secs(1),
        writer: Duration::from_secs(10),
        absence: Duration::from_secs(1),
        idle: Duration::from_secs(30),
        blind: Duration::from_secs(2),
    };
}

// === impl Patience ===

impl Patience {
    /// Takes a notice in.
    pub(super) fn notice(&mut self, notice: Notice, now: Instant) {
        let first = self.noticed.map_or(now, |(first, _)| first);
        self.noticed = Some((first, now));
        match notice {
            Notice::Written(place) => drop(self.writing.insert(place)),
            Notice::Closed(place) => drop(self.writing.remove(&place)),
            // That a writer has closed may be among what was lost.
            Notice::Lost => self.writing.clear(),
            Notice::Changed => {}
        }
    }

    /// When to look; `None`: nothing was noticed.
    pub(super) fn due(&self, pace: &Pace) -> Option<Instant> {
        let (first, last) = self.noticed?;
        let quiet = (last + pace.settle).min(first + pace.at_most);
        Some(if self.writing.is_empty() { quiet } else { first + pace.writer })
    }

    /// A look begins: what was noticed is seen by it. A writer who goes on is noticed again.
    pub(super) fn look(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

    use super::*;

    /// Notices at milliseconds, and when to look.
    fn check(notices: &[(u64, Notice)], due: Option<u64>) {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut patience = Patience::default();
        for (millis, notice) in notices {
            patience.notice(notice.clone(), at(*millis));
        }
        assert_eq!(patience.due(&Pace::USUAL), due.map(at), "{notices:?}");
        patience.look();
        assert_eq!(patience.due(&Pace::USUAL), None, "{notices:?}");
    }

    #[test]
    fn a_look_comes_when_it_is_quiet_or_at_the_latest_soon() {
        use Notice::{Changed, Closed, Lost, Written};
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC).unwrap();
        let folder = inotify.add_watch("/", AddWatchFlags::IN_CREATE).unwrap();
        let [a, b] = ["a", "b"].map(|name| (folder, Some(name.into())));

        check(&[], None);
        check(&[(0, Changed)], Some(100));
        check(&[(0, Changed), (60, Changed)], Some(160));
        let storm: Vec<_> = (0..40).map(|turn| (turn * 50, Changed)).collect();
        check(&storm, Some(1000));

        check(&[(0, Written(a.clone()))], Some(10_000));
        check(&[(0, Written(a.clone())), (3000, Written(a.clone())), (4000, Closed(a.clone()))], Some(1000));
        check(&[(0, Written(a.clone())), (10, Closed(a.clone()))], Some(110));
        check(&[(0, Written(a.clone())), (10, Written(b.clone())), (20, Closed(a.clone()))], Some(10_000));
        check(&[(0, Written(b)), (20, Closed(a.clone())), (30, Lost)], Some(130));
        check(&[(0, Closed(a))], Some(100));
    }
}
