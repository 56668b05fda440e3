//! What became of patches. Istio's `pilot_envoy_filter_status`.

use std::sync::Arc;

use super::Patch;
use crate::model::Shared;

/// What one patch did to one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It changed it.
    Applied,
    /// It is not for it, or what it was to be put next to is not there.
    NotMatched,
    /// It is for it and does not fit; the thing is as it was. In the words of the reason.
    Failed(String),
}

/// What patches did to one or many resources. A patch that is named nowhere here did not match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    applied: Vec<Shared<Patch>>,
    failed: Vec<(Shared<Patch>, String)>,
}

// === impl Outcomes ===

impl Outcomes {
    /// Patches that changed something, each once.
    pub fn applied(&self) -> impl Iterator<Item = &Arc<Patch>> {
        self.applied.iter().map(Shared::arc)
    }

    /// Patches that did not fit somewhere, each once, with the first reason.
    pub fn failed(&self) -> impl Iterator<Item = (&Arc<Patch>, &str)> {
        self.failed.iter().map(|(patch, reason)| (patch.arc(), reason.as_str()))
    }

    /// What became of a patch on the whole: one that did not fit somewhere failed.
    pub fn verdict(&self, patch: &Arc<Patch>) -> Verdict {
        let patch = Shared::from(patch.clone());
        match self.failed.iter().find(|(failed, _)| *failed == patch) {
            Some((_, reason)) => Verdict::Failed(reason.clone()),
            None if self.applied.contains(&patch) => Verdict::Applied,
            None => Verdict::NotMatched,
        }
    }

    /// Takes in what happened elsewhere.
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
