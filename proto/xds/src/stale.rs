//! Resources that have to be generated again before their type is passed to the stream.
//!
//! The subscription of the *stream* decides: a client may have changed its subscription in a request that is still on the
//! wire, or that the server ignores because its nonce is stale. Every change of the subscription marks the names that it
//! adds, whatever the request means otherwise (a rejection may change the subscription, too).

use std::collections::BTreeMap;

use pilot_proto::ResourceType;

use super::name_set::NameSet;
use super::subscription::RequestedNames;

/// Stale resources of all types of one stream.
#[derive(Debug, Default)]
pub(crate) struct StaleResources {
    by_type: BTreeMap<ResourceType, StaleNames>,
}

#[derive(Debug)]
enum StaleNames {
    All,
    Some(NameSet),
}

/// Resources of one type to generate before the next response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Regenerate {
    /// None: the last set passed is up to date.
    Nothing,
    /// These; the rest of the last set passed is up to date.
    Names(NameSet),
    /// All that the client subscribes to, which are these names.
    AllOf(NameSet),
    /// All that the client should have; it subscribes to the wildcard.
    Everything,
}

// === impl StaleResources ===

impl StaleResources {
    /// Marks every resource of a type.
    pub(crate) fn mark_all(&mut self, kind: ResourceType) {
        self.by_type.insert(kind, StaleNames::All);
    }

    /// Marks these resources of a type.
    pub(crate) fn mark(&mut self, kind: ResourceType, names: &NameSet) {
        match self.by_type.entry(kind).or_insert_with(|| StaleNames::Some(NameSet::default())) {
            StaleNames::All => {}
            StaleNames::Some(stale) => *stale = stale.union(names),
        }
    }

    /// Removes the marks of a type.
    pub(crate) fn clear(&mut self, kind: ResourceType) {
        self.by_type.remove(&kind);
    }

    /// Removes the marks of a type and returns the resources to generate for the requested names.
    pub(crate) fn take(&mut self, kind: ResourceType, requested: RequestedNames<'_>) -> Regenerate {
        let names = match requested {
            RequestedNames::None => return Regenerate::Nothing,
            RequestedNames::Wildcard => None,
            RequestedNames::Names(names) => Some(names),
        };
        match (self.by_type.remove(&kind), names) {
            (None, _) => Regenerate::Nothing,
            (Some(_), None) => Regenerate::Everything,
            (Some(StaleNames::Some(stale)), Some(names)) if stale.len() < names.len() => {
                Regenerate::Names(stale.filtered(|name| names.contains(name)))
            }
            (Some(_), Some(names)) => Regenerate::AllOf(names.clone()),
        }
    }
}
