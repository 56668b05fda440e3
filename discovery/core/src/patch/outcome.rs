//! Results of patches, as in Istio's `pilot_envoy_filter_status`.

use std::sync::Arc;

use super::Patch;
use crate::model::Shared;

/// Result of one patch for one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The object was changed.
    Applied,
    /// The patch does not match the object, or its anchor does not exist.
    NotMatched,
    /// The patch matches and cannot be applied; the object is unchanged. Holds the reason.
    Failed(String),
}

/// Results of patches for one or many resources. A patch that is not in it did not match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    applied: Vec<Shared<Patch>>,
    failed: Vec<(Shared<Patch>, String)>,
}

// === impl Outcomes ===

impl Outcomes {
    /// Returns the applied patches, each once.
    pub fn applied(&self) -> impl Iterator<Item = &Arc<Patch>> {
        self.applied.iter().map(Shared::arc)
    }

    /// Returns the failed patches, each once, with the first reason.
    pub fn failed(&self) -> impl Iterator<Item = (&Arc<Patch>, &str)> {
        self.failed.iter().map(|(patch, reason)| (patch.arc(), reason.as_str()))
    }

    /// Returns the overall result of a patch: a single failure counts.
    pub fn verdict(&self, patch: &Arc<Patch>) -> Verdict {
        let patch = Shared::from(patch.clone());
        match self.failed.iter().find(|(failed, _)| *failed == patch) {
            Some((_, reason)) => Verdict::Failed(reason.clone()),
            None if self.applied.contains(&patch) => Verdict::Applied,
            None => Verdict::NotMatched,
        }
    }

    /// Adds the results of other resources.
    pub fn absorb(&mut self, other: &Self) {
        other.applied().for_each(|patch| self.note(patch, Verdict::Applied));
        other.failed().for_each(|(patch, reason)| self.note(patch, Verdict::Failed(reason.to_owned())));
    }

    pub(super) fn note(&mut self, patch: &Arc<Patch>, verdict: Verdict) {
        let patch = Shared::from(patch.clone());
        match verdict {
            Verdict::Applied if !self.applied.contains(&patch) => self.applied.push(patch),
            Verdict::Failed(reason) if !self.failed.iter().any(|(failed, _)| *failed == patch) => {
                self.failed.push((patch, reason));
            }
            Verdict::Applied | Verdict::Failed(_) | Verdict::NotMatched => {}
        }
    }
}
