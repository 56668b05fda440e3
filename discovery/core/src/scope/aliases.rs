//! Aliases of services (Kubernetes `ExternalName`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{Hostname, Resolution, Service};

/// Returns the aliases of each service. Aliases of aliases are resolved; circular ones are left out, as in DNS.
pub(super) fn aliases<'a>(
    services: impl IntoIterator<Item = &'a Arc<Service>>,
) -> BTreeMap<Hostname, Vec<Hostname>> {
    let links: BTreeMap<&Hostname, &Hostname> = services
        .into_iter()
        .filter_map(|service| match &service.resolution {
            Resolution::Alias(target) => Some((&service.hostname, target)),
            _ => None,
        })
        .collect();
    let mut resolved: BTreeMap<Hostname, Vec<Hostname>> = BTreeMap::new();
    for (alias, first) in &links {
        let mut passed = BTreeSet::from([*alias]);
        let mut target = *first;
        while let Some(next) = links.get(target)
            && passed.insert(target)
        {
            target = next;
        }
        if !links.contains_key(target) {
            resolved.entry(target.clone()).or_default().push((*alias).clone());
        }
    }
    resolved
}
