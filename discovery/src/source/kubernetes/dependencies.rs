//! Who has to be rebuilt when something changes: what was looked up while building it is what it depends on,
//! including what was looked up and not found.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::source::objects::NamespacedName;

/// Something that is built from others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Subject {
    /// A pod's workload.
    Workload(NamespacedName),
    /// A service and its endpoints.
    Service(NamespacedName),
}

/// Something that was looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Fact {
    /// The pod of this name.
    Pod(NamespacedName),
    /// The pod that has this address.
    PodAt(IpAddr),
    /// The node of this name.
    Node(Arc<str>),
    /// What a namespace asks for on behalf of its services.
    Namespace(Arc<str>),
    /// The network that the system namespace declares.
    SystemNetwork,
}

/// Both directions of "depends on".
#[derive(Debug, Default)]
pub(super) struct Dependencies {
    facts: HashMap<Subject, BTreeSet<Fact>>,
    subjects: HashMap<Fact, Subjects>,
}

/// Who depends on one fact. An address has one endpoint nearly always, and there are many addresses.
#[derive(Debug)]
enum Subjects {
    One(Subject),
    Many(BTreeSet<Subject>),
}

// === impl Dependencies ===

impl Dependencies {
    /// The subject now depends on these facts and no others.
    pub(super) fn set(&mut self, subject: &Subject, facts: BTreeSet<Fact>) {
        let before = self.facts.remove(subject).unwrap_or_default();
        for fact in before.difference(&facts) {
            let rest = self.subjects.remove(fact).and_then(|subjects| subjects.without(subject));
            if let Some(rest) = rest {
                self.subjects.insert(fact.clone(), rest);
            }
        }
        for fact in facts.difference(&before) {
            let with = match self.subjects.remove(fact) {
                Some(subjects) => subjects.with(subject),
                None => Subjects::One(subject.clone()),
            };
            self.subjects.insert(fact.clone(), with);
        }
        if !facts.is_empty() {
            self.facts.insert(subject.clone(), facts);
        }
    }

    /// Who depends on the fact.
    pub(super) fn on(&self, fact: &Fact) -> impl Iterator<Item = &Subject> {
        let (one, many) = match self.subjects.get(fact) {
            Some(Subjects::One(subject)) => (Some(subject), None),
            Some(Subjects::Many(subjects)) => (None, Some(subjects)),
            None => (None, None),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

// === impl Subjects ===

impl Subjects {
    fn with(self, subject: &Subject) -> Self {
        match self {
            Self::One(one) if one == *subject => Self::One(one),
            Self::One(one) => Self::Many(BTreeSet::from([one, subject.clone()])),
            Self::Many(mut many) => {
                many.insert(subject.clone());
                Self::Many(many)
            }
        }
    }

    fn without(self, subject: &Subject) -> Option<Self> {
        match self {
            Self::One(one) => (one != *subject).then_some(Self::One(one)),
            Self::Many(mut many) => {
                many.remove(subject);
                if many.len() > 1 { Some(Self::Many(many)) } else { many.pop_first().map(Self::One) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_looked_up_any_more_is_forgotten() {
        let service =
            |name: &str| Subject::Service(NamespacedName { namespace: "default".into(), name: name.into() });
        let (a, b, node) = (service("a"), service("b"), Fact::Node("n1".into()));
        let mut dependencies = Dependencies::default();
        dependencies.set(&a, BTreeSet::from([node.clone(), Fact::SystemNetwork]));
        dependencies.set(&b, BTreeSet::from([node.clone()]));
        assert_eq!(dependencies.on(&node).collect::<Vec<_>>(), [&a, &b]);

        dependencies.set(&a, BTreeSet::from([Fact::SystemNetwork]));
        assert_eq!(dependencies.on(&node).collect::<Vec<_>>(), [&b]);
        assert_eq!(dependencies.on(&Fact::SystemNetwork).collect::<Vec<_>>(), [&a]);

        dependencies.set(&a, BTreeSet::new());
        dependencies.set(&b, BTreeSet::new());
        assert!(dependencies.facts.is_empty() && dependencies.subjects.is_empty());
    }
}
