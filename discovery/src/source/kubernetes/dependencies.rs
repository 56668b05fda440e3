//! Dependencies of services and workloads on the objects that were looked up while building them, including objects that were
//! not found.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::source::objects::NamespacedName;

/// Result that is built from several objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Dependent {
    /// Workload of a pod.
    Workload(NamespacedName),
    /// Service and its endpoints.
    Service(NamespacedName),
}

/// Key of a lookup.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum DependencyKey {
    /// Pod by name.
    Pod(NamespacedName),
    /// Pod by address.
    PodAt(IpAddr),
    /// Node by name.
    Node(Arc<str>),
    /// Settings of a namespace for its services.
    Namespace(Arc<str>),
    /// Network that the system namespace declares.
    SystemNetwork,
}

/// Dependencies in both directions.
#[derive(Debug, Default)]
pub(super) struct Dependencies {
    keys: HashMap<Dependent, BTreeSet<DependencyKey>>,
    dependents: HashMap<DependencyKey, Dependents>,
}

/// Dependents of one key. Nearly always one, and there are many keys.
#[derive(Debug)]
enum Dependents {
    One(Dependent),
    Many(BTreeSet<Dependent>),
}

// === impl Dependencies ===

impl Dependencies {
    /// Replaces the dependencies of a dependent.
    pub(super) fn set(&mut self, dependent: &Dependent, keys: BTreeSet<DependencyKey>) {
        let before = self.keys.remove(dependent).unwrap_or_default();
        for key in before.difference(&keys) {
            let rest = self.dependents.remove(key).and_then(|dependents| dependents.without(dependent));
            if let Some(rest) = rest {
                self.dependents.insert(key.clone(), rest);
            }
        }
        for key in keys.difference(&before) {
            let with = match self.dependents.remove(key) {
                Some(dependents) => dependents.with(dependent),
                None => Dependents::One(dependent.clone()),
            };
            self.dependents.insert(key.clone(), with);
        }
        if !keys.is_empty() {
            self.keys.insert(dependent.clone(), keys);
        }
    }

    /// Returns the dependents of a key.
    pub(super) fn on(&self, key: &DependencyKey) -> impl Iterator<Item = &Dependent> {
        let (one, many) = match self.dependents.get(key) {
            Some(Dependents::One(dependent)) => (Some(dependent), None),
            Some(Dependents::Many(dependents)) => (None, Some(dependents)),
            None => (None, None),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

// === impl Dependents ===

impl Dependents {
    fn with(self, dependent: &Dependent) -> Self {
        match self {
            Self::One(one) if one == *dependent => Self::One(one),
            Self::One(one) => Self::Many(BTreeSet::from([one, dependent.clone()])),
            Self::Many(mut many) => {
                many.insert(dependent.clone());
                Self::Many(many)
            }
        }
    }

    fn without(self, dependent: &Dependent) -> Option<Self> {
        match self {
            Self::One(one) => (one != *dependent).then_some(Self::One(one)),
            Self::Many(mut many) => {
                many.remove(dependent);
                if many.len() > 1 { Some(Self::Many(many)) } else { many.pop_first().map(Self::One) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_removes_previous_dependencies() {
        let service = |name: &str| {
            Dependent::Service(NamespacedName { namespace: "default".into(), name: name.into() })
        };
        let (a, b, node) = (service("a"), service("b"), DependencyKey::Node("n1".into()));
        let mut dependencies = Dependencies::default();
        dependencies.set(&a, BTreeSet::from([node.clone(), DependencyKey::SystemNetwork]));
        dependencies.set(&b, BTreeSet::from([node.clone()]));
        assert_eq!(dependencies.on(&node).collect::<Vec<_>>(), [&a, &b]);

        dependencies.set(&a, BTreeSet::from([DependencyKey::SystemNetwork]));
        assert_eq!(dependencies.on(&node).collect::<Vec<_>>(), [&b]);
        assert_eq!(dependencies.on(&DependencyKey::SystemNetwork).collect::<Vec<_>>(), [&a]);

        dependencies.set(&a, BTreeSet::new());
        dependencies.set(&b, BTreeSet::new());
        assert!(dependencies.keys.is_empty() && dependencies.dependents.is_empty());
    }
}
