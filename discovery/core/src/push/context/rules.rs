//! Merged `DestinationRule`s: one rule for each host, and its lookup.
//!
//! The order of lookup is Istio's: the client's namespace, the service's, the root namespace; in each the most specific host.
//! <https://istio.io/latest/docs/reference/config/networking/destination-rule/>

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;

use super::routing::Defaults;
use super::{Configs, in_namespace};
use crate::api::DestinationRule;
use crate::api::destination_rule::{Subset, TrafficPolicy};
use crate::api::values::Map;
use crate::model::{ConfigKind, ConfigMeta, ConfigObject, ConfigSpec, ExportTo, Hostname, Namespace, Shared};

/// Merged `DestinationRule`s of one host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The host; may begin with `*`.
    pub host: Hostname,
    /// Namespace of the objects.
    pub namespace: Namespace,
    /// Labels of the clients that it is for; empty: all.
    pub selector: Map,
    /// Policy of the whole host.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Subsets of the host.
    pub subsets: Vec<Subset>,
    /// Namespaces that may use it; empty: the default of the mesh.
    pub export_to: BTreeSet<ExportTo>,
    /// Names of subsets that are defined more than once; the first definition has precedence.
    pub duplicate_subsets: Vec<String>,
    /// Objects that it is merged from, in order of precedence.
    pub sources: Vec<Shared<ConfigObject>>,
}

/// Merged `DestinationRule`s of all namespaces.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    by_namespace: OrdMap<Namespace, Arc<OfNamespace>>,
}

/// Rules of one namespace, by the clients that can use them.
#[derive(Debug, Default)]
struct OfNamespace {
    /// For clients in the same namespace.
    local: Pool,
    /// For clients in other namespaces.
    exported: Pool,
    /// For clients in the same namespace, if it is the root namespace.
    private: Pool,
}

#[derive(Debug, Default)]
struct Pool {
    exact: BTreeMap<Hostname, Vec<Shared<Rule>>>,
    /// Wildcard hosts, the longest first.
    wildcard: BTreeMap<(Reverse<usize>, Hostname), Vec<Shared<Rule>>>,
}

// === impl Rules ===

impl Rules {
    /// Updates the rules of these namespaces. Unchanged rules keep their identity.
    pub(super) fn update(
        &mut self,
        namespaces: &BTreeSet<Namespace>,
        configs: &Configs,
        defaults: &Defaults,
    ) {
        for namespace in namespaces {
            let mut objects: Vec<&Arc<ConfigObject>> =
                in_namespace(configs, ConfigKind::DestinationRule, namespace).collect();
            if objects.is_empty() {
                self.by_namespace.remove(namespace);
                continue;
            }
            objects.sort_by_key(|object| {
                let selects = rule_of(object).is_some_and(|rule| rule.workload_selector.is_some());
                (!selects, object.meta.created, &object.meta.name)
            });
            let before = self.by_namespace.get(namespace).cloned().unwrap_or_default();
            let mut made = OfNamespace::build(&objects, defaults);
            made.keep(&before);
            self.by_namespace.insert(namespace.clone(), Arc::new(made));
        }
    }

    /// Returns the rule for a host of a service's namespace, for clients in a namespace with these selectors; `root` is the
    /// mesh's root namespace.
    pub fn find(
        &self,
        host: &Hostname,
        service: &Namespace,
        client: &Namespace,
        root: &Namespace,
        selects: impl Fn(&Map) -> bool,
    ) -> Option<Shared<Rule>> {
        let of = |namespace| self.by_namespace.get(namespace);
        let own =
            of(client).and_then(|own| if client == root { own.private.of(host) } else { own.local.of(host) });
        let seen = |rule: &&Shared<Rule>| {
            rule.export_to.is_empty() || {
                let list: Vec<ExportTo> = rule.export_to.iter().cloned().collect();
                ExportTo::allows(&list, &rule.namespace, client)
            }
        };
        let exported = |namespace| -> Option<Vec<Shared<Rule>>> {
            let rules = of(namespace)?.exported.of(host)?;
            Some(rules.iter().filter(seen).cloned().collect::<Vec<_>>()).filter(|seen| !seen.is_empty())
        };
        let found = own.map(<[_]>::to_vec).or_else(|| exported(service)).or_else(|| exported(root))?;
        // A rule with a selector that matches has precedence over the one for all clients.
        let chosen = found
            .iter()
            .find(|rule| !rule.selector.is_empty() && rule.namespace == *client && selects(&rule.selector));
        chosen.or_else(|| found.iter().rfind(|rule| rule.selector.is_empty())).cloned()
    }

    /// Returns every rule that a client can use, in no particular order; some more than once.
    pub fn iter(&self) -> impl Iterator<Item = &Shared<Rule>> {
        self.by_namespace.values().flat_map(|own| own.local.iter().chain(own.exported.iter()))
    }
}

// === impl OfNamespace ===

impl OfNamespace {
    fn build(objects: &[&Arc<ConfigObject>], defaults: &Defaults) -> Self {
        let mut made = Self::default();
        for object in objects {
            let Some(spec) = rule_of(object) else { continue };
            let rule = Rule::of(object, spec, &defaults.domain_suffix);
            let private = ExportTo::To(object.meta.namespace.clone());
            let allows = |target: &ExportTo| {
                *target == ExportTo::Public || *target == ExportTo::Private || *target == private
            };
            if rule.export_to.is_empty() || rule.export_to.iter().any(allows) {
                made.local.add(rule.clone());
            }
            let only_own = if rule.export_to.is_empty() {
                defaults.export_to.contains(&ExportTo::Private)
            } else {
                rule.export_to.iter().all(|target| *target == ExportTo::Private || *target == private)
            };
            if only_own { made.private.add(rule) } else { made.exported.add(rule) }
        }
        made
    }

    /// Replaces rules that are equal to those of `before` with the same value.
    fn keep(&mut self, before: &Self) {
        self.local.keep(&before.local);
        self.exported.keep(&before.exported);
        self.private.keep(&before.private);
    }
}

// === impl Pool ===

impl Pool {
    /// Returns the rules of the most specific host that includes this one.
    fn of(&self, host: &Hostname) -> Option<&[Shared<Rule>]> {
        let exact = if host.is_wildcard() { None } else { self.exact.get(host) };
        let wide = || self.wildcard.iter().find(|((_, wide), _)| wide.includes(host)).map(|(_, rules)| rules);
        exact.or_else(wide).map(Vec::as_slice)
    }

    fn iter(&self) -> impl Iterator<Item = &Shared<Rule>> {
        self.exact.values().chain(self.wildcard.values()).flatten()
    }

    /// Adds a rule, or merges it into the one of the same host.
    fn add(&mut self, rule: Rule) {
        let host = rule.host.clone();
        let rules = if host.is_wildcard() {
            self.wildcard.entry((Reverse(host.as_str().len()), host)).or_default()
        } else {
            self.exact.entry(host).or_default()
        };
        let mut apart = true;
        for existing in rules.iter_mut() {
            let whose = match (existing.selector.is_empty(), rule.selector.is_empty()) {
                (true, true) => Whose::Same,
                (false, false) if existing.selector == rule.selector => Whose::Same,
                (false, false) => Whose::Others,
                _ => Whose::Different,
            };
            let seen_by_more =
                !existing.export_to.is_empty() && rule.export_to.is_superset(&existing.export_to);
            if whose == Whose::Others || (existing.export_to != rule.export_to && !seen_by_more) {
                continue;
            }
            if whose == Whose::Same {
                apart = false;
            }
            *existing = Shared::from(Arc::new(existing.with(&rule)));
        }
        if apart {
            rules.push(Shared::from(Arc::new(rule)));
        }
    }

    fn keep(&mut self, before: &Self) {
        let pairs = self.exact.iter_mut().map(|(host, rules)| (before.exact.get(host), rules));
        let wide = self.wildcard.iter_mut().map(|(host, rules)| (before.wildcard.get(host), rules));
        for (before, rules) in pairs.chain(wide) {
            for rule in rules {
                if let Some(same) =
                    before.into_iter().flatten().find(|old| old.sources == rule.sources && ***old == **rule)
                {
                    *rule = same.clone();
                }
            }
        }
    }
}

/// Relation of the clients of two rules of the same host.
#[derive(PartialEq, Eq)]
enum Whose {
    /// The same clients.
    Same,
    /// Different clients.
    Others,
    /// One is for all clients, the other for some.
    Different,
}

// === impl Rule ===

impl Rule {
    fn of(object: &Arc<ConfigObject>, spec: &DestinationRule, suffix: &str) -> Self {
        let ConfigMeta { namespace, .. } = &object.meta;
        let selector = spec.workload_selector.as_ref().map(|selector| selector.match_labels.clone());
        let export_to = match &selector {
            // No other namespace has those workloads.
            Some(_) => [ExportTo::Private].into(),
            None => spec.export_to.iter().map(|text| ExportTo::parse(text)).collect(),
        };
        Self {
            host: Hostname::completed(&spec.host, namespace, suffix),
            namespace: namespace.clone(),
            selector: selector.unwrap_or_default(),
            traffic_policy: spec.traffic_policy.clone(),
            subsets: spec.subsets.clone(),
            export_to,
            duplicate_subsets: Vec::new(),
            sources: vec![object.clone().into()],
        }
    }

    /// Returns this rule with the settings of `other` that it does not have.
    fn with(&self, other: &Self) -> Self {
        let mut both = self.clone();
        for subset in &other.subsets {
            if both.subsets.iter().any(|own| own.name == subset.name) {
                both.duplicate_subsets.push(subset.name.clone());
            } else {
                both.subsets.push(subset.clone());
            }
        }
        if both.traffic_policy.is_none() {
            both.traffic_policy.clone_from(&other.traffic_policy);
        }
        both.sources.extend(other.sources.iter().cloned());
        both
    }
}

const fn rule_of(object: &ConfigObject) -> Option<&DestinationRule> {
    match &object.spec {
        ConfigSpec::DestinationRule(spec) => Some(spec),
        _ => None,
    }
}
