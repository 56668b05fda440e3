//! Mark and sweep: what one source has said so far, and what it no longer says after a resync.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::{Change, ConfigKind, Hostname, Namespace, WorkloadKind};

/// Names one thing a source speaks of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    Service(Namespace, Hostname),
    Endpoints(Namespace, Hostname),
    Workload(WorkloadKind, Namespace, Arc<str>),
    Config(ConfigKind, Namespace, Arc<str>),
}

/// What one source has said.
#[derive(Clone, Debug, Default)]
pub(super) struct Lineage {
    known: BTreeSet<Item>,
    /// Known before the running resync and not mentioned in it yet.
    unmentioned: Option<BTreeSet<Item>>,
    synced: bool,
}

// === impl Lineage ===

impl Lineage {
    pub(super) const fn is_synced(&self) -> bool {
        self.synced
    }

    /// The source starts over. A resync inside a resync starts over again.
    pub(super) fn resync(&mut self) {
        self.unmentioned = Some(self.known.clone());
    }

    /// The source has told everything: returns what it did not mention.
    pub(super) fn synced(&mut self) -> BTreeSet<Item> {
        self.synced = true;
        let gone = self.unmentioned.take().unwrap_or_default();
        self.known.retain(|item| !gone.contains(item));
        gone
    }

    /// The source said this.
    pub(super) fn note(&mut self, change: &Change) {
        let (item, presence) = Item::of(change);
        if let Some(unmentioned) = &mut self.unmentioned {
            unmentioned.remove(&item);
        }
        match presence {
            Presence::There => self.known.insert(item),
            Presence::Gone => self.known.remove(&item),
        };
    }
}

/// Whether a statement says that its item is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    There,
    Gone,
}

// === impl Item ===

impl Item {
    /// What a statement is about. (A service without endpoints has no endpoints item: there is nothing to sweep.)
    pub(super) fn of(change: &Change) -> (Self, Presence) {
        use Presence::{Gone, There};
        match change {
            Change::Service(service) => {
                (Self::Service(service.namespace.clone(), service.hostname.clone()), There)
            }
            Change::ServiceGone(namespace, host) => (Self::Service(namespace.clone(), host.clone()), Gone),
            Change::Endpoints(namespace, host, endpoints) => {
                let presence = if endpoints.is_empty() { Gone } else { There };
                (Self::Endpoints(namespace.clone(), host.clone()), presence)
            }
            Change::Workload(workload) => {
                (Self::Workload(workload.kind, workload.namespace.clone(), workload.name.clone()), There)
            }
            Change::WorkloadGone(kind, namespace, name) => {
                (Self::Workload(*kind, namespace.clone(), name.clone()), Gone)
            }
            Change::Config(object) => {
                let meta = &object.meta;
                (Self::Config(object.spec.kind(), meta.namespace.clone(), meta.name.clone()), There)
            }
            Change::ConfigGone(kind, namespace, name) => {
                (Self::Config(*kind, namespace.clone(), name.clone()), Gone)
            }
        }
    }

    /// The statement that the item is not there any more.
    pub(super) fn gone(self) -> Change {
        match self {
            Self::Service(namespace, host) => Change::ServiceGone(namespace, host),
            Self::Endpoints(namespace, host) => Change::Endpoints(namespace, host, Vec::new()),
            Self::Workload(kind, namespace, name) => Change::WorkloadGone(kind, namespace, name),
            Self::Config(kind, namespace, name) => Change::ConfigGone(kind, namespace, name),
        }
    }
}
