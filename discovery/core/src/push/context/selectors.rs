//! Workload selectors of all objects.
//!
//! Two proxies with the same matching selectors get the same configuration, whatever their other labels: the matching selectors
//! are part of the class of a proxy.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;

use crate::api::values::Map;
use crate::model::{ConfigObject, ConfigSpec, Labels, Namespace, selects};

/// All selectors, each with the namespace of its proxies and the number of objects that have it.
#[derive(Clone, Debug, Default)]
pub struct Selectors {
    written: OrdMap<(Reach, Labels), usize>,
}

/// Proxies that a selector can match.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// All proxies.
    Everywhere,
    /// Proxies of a namespace; all proxies if it is the root namespace.
    Of(Namespace),
}

// === impl Selectors ===

impl Selectors {
    /// Returns the selectors that match a proxy of a namespace with these labels, in order. Empty selectors match all proxies and
    /// are left out.
    pub fn matching(&self, namespace: &Namespace, root: &Namespace, labels: &Map) -> Arc<[Labels]> {
        let mut places = BTreeSet::from([Reach::Everywhere, Reach::Of(namespace.clone())]);
        places.insert(Reach::Of(root.clone()));
        let mut found = BTreeSet::new();
        for place in places {
            let from = (place.clone(), Labels::default());
            let here = self.written.range(from..).take_while(|((reach, _), _)| *reach == place);
            let selecting =
                here.map(|((_, selector), _)| selector).filter(|selector| selects(selector, labels));
            found.extend(selecting.cloned());
        }
        found.into_iter().collect()
    }

    pub(super) fn remove(&mut self, object: &ConfigObject) {
        for key in selectors(object) {
            match self.written.get_mut(&key) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(self.written.remove(&key)),
            }
        }
    }

    pub(super) fn add(&mut self, object: &ConfigObject) {
        for key in selectors(object) {
            *self.written.entry(key).or_insert(0) += 1;
        }
    }
}

/// Returns the selectors of an object, one for each occurrence.
fn selectors(object: &ConfigObject) -> Vec<(Reach, Labels)> {
    let own = || Reach::Of(object.meta.namespace.clone());
    let found: Vec<(Reach, &Map)> = match &object.spec {
        ConfigSpec::Sidecar(spec) => {
            spec.workload_selector.iter().map(|selector| (own(), &selector.labels)).collect()
        }
        ConfigSpec::EnvoyFilter(spec) => {
            spec.workload_selector.iter().map(|selector| (own(), &selector.labels)).collect()
        }
        ConfigSpec::DestinationRule(spec) => {
            spec.workload_selector.iter().map(|selector| (own(), &selector.match_labels)).collect()
        }
        ConfigSpec::Telemetry(spec) => {
            spec.selector.iter().map(|selector| (own(), &selector.match_labels)).collect()
        }
        ConfigSpec::Gateway(spec) => vec![(Reach::Everywhere, &spec.selector)],
        ConfigSpec::VirtualService(spec) => {
            let http = spec.http.iter().flat_map(|rule| &rule.r#match).map(|matches| &matches.source_labels);
            let tls = spec.tls.iter().flat_map(|rule| &rule.r#match).map(|matches| &matches.source_labels);
            let tcp = spec.tcp.iter().flat_map(|rule| &rule.r#match).map(|matches| &matches.source_labels);
            http.chain(tls).chain(tcp).map(|labels| (Reach::Everywhere, labels)).collect()
        }
        ConfigSpec::ServiceEntry(_)
        | ConfigSpec::WorkloadEntry(_)
        | ConfigSpec::WorkloadGroup(_)
        | ConfigSpec::ProxyConfig(_) => Vec::new(),
    };
    let said = found.into_iter().filter(|(_, selector)| !selector.is_empty());
    said.map(|(reach, selector)| (reach, Arc::new(selector.clone()))).collect()
}
