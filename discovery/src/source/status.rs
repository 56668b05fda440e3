//! Status of a source: synchronization, counts of objects, problems. For logs, debug pages and metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use pilot_core::model::SourceId;
use pilot_core::validate::Severity;

use super::Problem;
use super::objects::{ObjectAction, ObjectChange, ObjectKind};

/// Status of a source. Written by the source, read by metrics and debug pages.
#[derive(Debug)]
pub(crate) struct SourceStatus {
    id: SourceId,
    state: Mutex<SourceState>,
    events: BTreeMap<ObjectKind, [AtomicU64; 3]>,
}

#[derive(Clone, Debug, Default)]
struct SourceState {
    is_synced: bool,
    last_error: Option<SourceError>,
    last_event: Option<SystemTime>,
    problems: Vec<Problem>,
}

/// Failure of a source to read its registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceError {
    /// Time of the failure.
    pub(crate) time: SystemTime,
    /// Description of the failure.
    pub(crate) message: String,
}

// === impl SourceStatus ===

impl SourceStatus {
    /// Returns the status of a source that has not read anything.
    pub(crate) fn new(id: SourceId) -> Self {
        let events = ObjectKind::all().map(|kind| (kind, Default::default())).collect();
        Self { id, state: Mutex::default(), events }
    }

    /// Returns the id of the source.
    pub(crate) const fn id(&self) -> &SourceId {
        &self.id
    }

    /// Returns true once the source has sent its complete state.
    pub(crate) fn is_synced(&self) -> bool {
        self.state().is_synced
    }

    /// Returns the last failure to read the registry. It stays after the source has recovered.
    pub(crate) fn last_error(&self) -> Option<SourceError> {
        self.state().last_error.clone()
    }

    /// Returns the time of the last event sent.
    pub(crate) fn last_event(&self) -> Option<SystemTime> {
        self.state().last_event
    }

    /// Returns the current problems of objects.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        self.state().problems.clone()
    }

    /// Returns the number of objects that are rejected, wholly or in their last version.
    pub(crate) fn rejected(&self) -> usize {
        self.state().problems.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    /// Returns the number of object changes by kind (`pilot_k8s_reg_events`).
    pub(crate) fn events(&self) -> impl Iterator<Item = (ObjectKind, ObjectAction, u64)> {
        self.events.iter().flat_map(|(kind, counters)| {
            let counters = ObjectAction::ALL.into_iter().zip(counters);
            counters.map(|(action, count)| (*kind, action, count.load(Ordering::Relaxed)))
        })
    }

    /// Returns the current number of objects of each kind that has any.
    pub(crate) fn objects(&self) -> BTreeMap<ObjectKind, u64> {
        let mut objects: BTreeMap<ObjectKind, u64> = BTreeMap::new();
        for (kind, [added, _, deleted]) in &self.events {
            // An object is added before it is deleted, so the later read of `added` is never the smaller one.
            let deleted = deleted.load(Ordering::Acquire);
            let count = added.load(Ordering::Acquire).saturating_sub(deleted);
            if count > 0 {
                objects.insert(*kind, count);
            }
        }
        objects
    }

    pub(super) fn count_changes(&self, changes: &[ObjectChange]) {
        for change in changes {
            self.count(change.kind(), change.action());
        }
    }

    fn count(&self, kind: ObjectKind, action: ObjectAction) {
        let counters = self.events.get(&kind).into_iter().flatten();
        let counter = ObjectAction::ALL.into_iter().zip(counters).find(|(counted, _)| *counted == action);
        if let Some((_, counter)) = counter {
            counter.fetch_add(1, Ordering::Release);
        }
    }

    pub(super) fn set_synced(&self) {
        self.state().is_synced = true;
    }

    pub(super) fn record_event(&self) {
        self.state().last_event = Some(SystemTime::now());
    }

    pub(super) fn record_error(&self, message: String) {
        self.state().last_error = Some(SourceError { time: SystemTime::now(), message });
    }

    /// Replaces the current problems. Returns the new ones and the resolved ones.
    pub(super) fn set_problems(&self, problems: Vec<Problem>) -> (Vec<Problem>, Vec<Problem>) {
        let current = &mut self.state().problems;
        let new: Vec<_> = problems.iter().filter(|problem| !current.contains(problem)).cloned().collect();
        let resolved = current.iter().filter(|problem| !problems.contains(problem)).cloned().collect();
        *current = problems;
        (new, resolved)
    }

    fn state(&self) -> MutexGuard<'_, SourceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn status() -> SourceStatus {
        SourceStatus::new(SourceId("File".into()))
    }

    #[test]
    fn set_problems_returns_new_and_resolved_problems() {
        let status = status();
        let problem = |message: &str| Problem::of_file(Path::new("f"), message.to_owned());
        let (a, b) = (problem("a"), problem("b"));
        assert_eq!(status.set_problems(vec![a.clone()]), (vec![a.clone()], vec![]));
        assert_eq!(status.set_problems(vec![a.clone(), b.clone()]), (vec![b.clone()], vec![]));
        assert_eq!(status.set_problems(vec![a.clone(), b.clone()]), (vec![], vec![]));
        assert_eq!(status.set_problems(vec![b.clone()]), (vec![], vec![a]));
        assert_eq!(status.problems(), [b]);
        assert_eq!(status.rejected(), 1);
    }

    #[test]
    fn objects_are_those_added_and_not_deleted() {
        use ObjectAction::{Added, Deleted, Updated};
        let status = status();
        for action in [Added, Updated, Added, Deleted] {
            status.count(ObjectKind::Pod, action);
        }
        for action in [Added, Deleted] {
            status.count(ObjectKind::Node, action);
        }
        assert_eq!(status.objects(), BTreeMap::from([(ObjectKind::Pod, 1)]));
    }
}
