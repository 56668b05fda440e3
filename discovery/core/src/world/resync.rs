//! Mark and sweep: declarations of a source that it has not restated during a resynchronization.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::{Change, ConfigKind, Hostname, Namespace, WorkloadKind};

/// Identity of a declaration of a source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DeclarationKey {
    Service(Namespace, Hostname),
    Endpoints(Namespace, Hostname),
    Workload(WorkloadKind, Namespace, Arc<str>),
    Config(ConfigKind, Namespace, Arc<str>),
}

/// Synchronization of a source.
#[derive(Clone, Debug, Default)]
pub(super) struct ResyncTracker {
    /// Declarations not restated since the last `Resync`; empty otherwise.
    unmentioned: BTreeSet<DeclarationKey>,
    is_synced: bool,
}

// === impl ResyncTracker ===

impl ResyncTracker {
    /// Returns true once the source has sent its complete state.
    pub(super) const fn is_synced(&self) -> bool {
        self.is_synced
    }

    /// Begins a resynchronization of a source with these declarations. One that has not ended begins again.
    pub(super) fn begin(&mut self, declared: BTreeSet<DeclarationKey>) {
        self.unmentioned = declared;
    }

    /// Ends the resynchronization. Returns the declarations that were not restated.
    pub(super) fn end(&mut self) -> BTreeSet<DeclarationKey> {
        self.is_synced = true;
        std::mem::take(&mut self.unmentioned)
    }

    /// Records that a change mentions its declaration.
    pub(super) fn mention(&mut self, change: &Change) {
        if !self.unmentioned.is_empty() {
            self.unmentioned.remove(&DeclarationKey::of(change));
        }
    }
}

// === impl DeclarationKey ===

impl DeclarationKey {
    /// Returns the key of the declaration that a change adds, replaces or removes.
    pub(super) fn of(change: &Change) -> Self {
        match change {
            Change::Service(service) => Self::Service(service.namespace.clone(), service.hostname.clone()),
            Change::ServiceGone(namespace, host) => Self::Service(namespace.clone(), host.clone()),
            Change::Endpoints(namespace, host, _) => Self::Endpoints(namespace.clone(), host.clone()),
            Change::Workload(workload) => {
                Self::Workload(workload.kind, workload.namespace.clone(), workload.name.clone())
            }
            Change::WorkloadGone(kind, namespace, name) => {
                Self::Workload(*kind, namespace.clone(), name.clone())
            }
            Change::Config(object) => {
                let meta = &object.meta;
                Self::Config(object.spec.kind(), meta.namespace.clone(), meta.name.clone())
            }
            Change::ConfigGone(kind, namespace, name) => Self::Config(*kind, namespace.clone(), name.clone()),
        }
    }

    /// Returns the change that removes the declaration.
    pub(super) fn removal(self) -> Change {
        match self {
            Self::Service(namespace, host) => Change::ServiceGone(namespace, host),
            Self::Endpoints(namespace, host) => Change::Endpoints(namespace, host, Vec::new()),
            Self::Workload(kind, namespace, name) => Change::WorkloadGone(kind, namespace, name),
            Self::Config(kind, namespace, name) => Change::ConfigGone(kind, namespace, name),
        }
    }
}
