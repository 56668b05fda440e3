//! Locality load balancing: `localityLbSetting`, `zoneAwareLbSetting` and `trafficDistribution` as weights or priorities.
//! <https://istio.io/latest/docs/reference/config/networking/destination-rule/#LocalityLoadBalancerSetting>

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::LocalityGroup;
use crate::api::destination_rule::{Distribute, Failover};
use crate::api::values::Map;
use crate::generate::traffic_policy::{LocalityPreference, MergedTrafficPolicy};
use crate::model::{Labels, Locality};

/// Locality, labels, network and node of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientLocality {
    /// Locality of the client.
    pub locality: Locality,
    /// Labels of the client.
    pub labels: Labels,
    /// Network of the client, empty if unknown.
    pub network: Arc<str>,
    /// Node of the client, empty if unknown.
    pub node: Arc<str>,
}

/// Locality load balancing for clients with equal relevant properties.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LocalityPriority {
    /// Weights of localities (`distribute`); a locality may end in `*`, one without a weight receives no traffic.
    Shares(BTreeMap<String, u32>),
    /// Priorities (`failover`): endpoints with more in common with the client come first.
    Order {
        /// Expected labels in order of precedence (`failoverPriority`).
        labels: Vec<(String, String)>,
        /// Priorities by locality among endpoints with equal labels.
        failover: LocalityFailover,
    },
}

/// Priorities by locality.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LocalityFailover {
    /// Localities have equal priority.
    Alike,
    /// Same sub-zone, zone, region; then the failover region, then others.
    Localities {
        /// Locality or region of the client.
        client: Locality,
        /// Failover region, if one is configured.
        next: Option<String>,
    },
    /// Same region, failover region, others.
    Regions {
        /// Locality or region of the client.
        client: Arc<str>,
        /// Failover region, if one is configured.
        next: Option<String>,
    },
}

// === impl ClientLocality ===

impl ClientLocality {
    /// Label of the network.
    pub const NETWORK: &str = "topology.istio.io/network";
    /// Label of the node.
    pub const NODE: &str = "kubernetes.io/hostname";

    /// Returns the value of a label; locality, network and node count as labels.
    fn label(&self, key: &str) -> Option<&str> {
        label(&self.labels, &self.locality, &self.network, &self.node, key)
    }
}

/// Returns the value of a label, including the topology labels that a registry derives.
pub(super) fn label<'a>(
    labels: &'a Map,
    locality: &'a Locality,
    network: &'a str,
    node: &'a str,
    key: &str,
) -> Option<&'a str> {
    let settings = || labels.get(key).map(String::as_str);
    let value = match key {
        "topology.kubernetes.io/region" => &*locality.region,
        "topology.kubernetes.io/zone" => &*locality.zone,
        "topology.istio.io/subzone" => &*locality.sub_zone,
        ClientLocality::NODE => node,
        // The label of the workload takes precedence over the registry.
        ClientLocality::NETWORK => return settings().or(Some(network)).filter(|network| !network.is_empty()),
        _ => return settings(),
    };
    Some(value).filter(|value| !value.is_empty()).or_else(settings)
}

// === impl LocalityPriority ===

impl LocalityPriority {
    /// Evaluates a policy for a client; `None`: no locality load balancing.
    ///
    /// Priorities need outlier detection: without it Envoy does not detect failing endpoints and never fails over.
    pub fn of(policy: &MergedTrafficPolicy, client: &ClientLocality) -> Option<Self> {
        match policy.locality_preference() {
            LocalityPreference::Locality(settings) if !settings.distribute.is_empty() => {
                shares(&settings.distribute, client)
            }
            LocalityPreference::Locality(settings) => {
                policy.outlier_detection.as_ref()?;
                let labels = expected_labels(&settings.failover_priority, client);
                // `failoverPriority` replaces localities unless `failover` is set too.
                let failover = if labels.is_empty() || !settings.failover.is_empty() {
                    let (client, next) =
                        (client.locality.clone(), failover_region(&settings.failover, client));
                    LocalityFailover::Localities { client, next }
                } else {
                    LocalityFailover::Alike
                };
                Some(Self::Order { labels, failover })
            }
            LocalityPreference::Zone(settings) if settings.enabled != Some(false) => {
                let labels = expected_labels(&settings.failover_priority, client);
                let next = failover_region(&settings.failover, client);
                let client = client.locality.region.clone();
                Some(Self::Order { labels, failover: LocalityFailover::Regions { client, next } })
            }
            // `trafficDistribution` of a service does not require outlier detection.
            LocalityPreference::TrafficDistribution(preferred) => {
                let labels = expected_labels(preferred.labels(), client);
                Some(Self::Order { labels, failover: LocalityFailover::Alike })
            }
            LocalityPreference::Zone(_) | LocalityPreference::Off => None,
        }
    }

    /// Sets weights or priorities. A group is split if its endpoints differ in labels.
    pub(super) fn order<'a>(&self, groups: Vec<LocalityGroup<'a>>) -> Vec<LocalityGroup<'a>> {
        match self {
            Self::Shares(shares) => distribute(groups, shares),
            Self::Order { labels, failover } => {
                let mut groups = by_labels(groups, labels);
                for group in &mut groups {
                    let steps = group.priority.saturating_mul(LocalityFailover::STEPS);
                    group.priority = steps.saturating_add(failover.distance(group.locality));
                }
                compact(&mut groups);
                groups
            }
        }
    }
}

fn shares(rules: &[Distribute], client: &ClientLocality) -> Option<LocalityPriority> {
    let rule = rules.iter().find(|rule| includes(&rule.from, &client.locality))?;
    Some(LocalityPriority::Shares(rule.to.clone()))
}

/// Resolves labels of the form `key` (value of the client) or `key=value`.
fn expected_labels<L: AsRef<str>>(labels: &[L], client: &ClientLocality) -> Vec<(String, String)> {
    let one = |label: &L| match label.as_ref().split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (label.as_ref().to_owned(), client.label(label.as_ref()).unwrap_or_default().to_owned()),
    };
    labels.iter().map(one).collect()
}

/// Returns the failover region of the client.
fn failover_region(rules: &[Failover], client: &ClientLocality) -> Option<String> {
    rules.iter().find(|rule| *rule.from == *client.locality.region).map(|rule| rule.to.clone())
}

/// Returns true if a locality matches `region/zone/sub-zone`; `*` or a missing part matches any.
fn includes(rule: &str, locality: &Locality) -> bool {
    let mut parts = rule.split('/');
    let region = parts.next().unwrap_or_default();
    let is =
        |part: Option<&str>, client: &str| part.is_none_or(|part| matches!(part, "" | "*") || part == client);
    (region == "*" || region == &*locality.region)
        && is(parts.next(), &locality.zone)
        && is(parts.next(), &locality.sub_zone)
}

/// Sets locality weights. A weight of several localities is divided in proportion to their endpoints.
fn distribute<'a>(
    mut groups: Vec<LocalityGroup<'a>>,
    shares: &BTreeMap<String, u32>,
) -> Vec<LocalityGroup<'a>> {
    for (locality, share) in shares {
        let mut matching: Vec<&mut LocalityGroup<'_>> = groups
            .iter_mut()
            .filter(|group| group.weight.is_none() && includes(locality, group.locality))
            .collect();
        let total: u64 = matching.iter().map(|group| u64::from(group.weight())).sum();
        for group in &mut matching {
            let part = (u64::from(group.weight()) * u64::from(*share)).div_ceil(total.max(1));
            group.weight = Some(u32::try_from(part).unwrap_or(u32::MAX));
        }
    }
    // Localities without a weight receive no traffic; Envoy rejects a weight of 0.
    groups.retain(|group| group.weight.is_some_and(|weight| weight > 0));
    groups
}

/// Ranks endpoints by the number of labels from the first differing one to the end. If the network is the first label,
/// endpoints in other networks rank after all others, among themselves by the remaining labels.
fn by_labels<'a>(groups: Vec<LocalityGroup<'a>>, labels: &[(String, String)]) -> Vec<LocalityGroup<'a>> {
    if labels.is_empty() {
        return groups;
    }
    let max_rank = u32::try_from(labels.len()).unwrap_or(u32::MAX);
    let mut ordered = Vec::new();
    for group in groups {
        let mut ranks: BTreeMap<u32, Vec<super::LbHost<'a>>> = BTreeMap::new();
        for host in group.hosts {
            let differs =
                |(key, value): &(String, String)| host.target.label(key).unwrap_or_default() != value;
            let other_network =
                labels.first().is_some_and(|first| first.0 == ClientLocality::NETWORK && differs(first));
            let (base, rest) =
                if other_network { (max_rank, labels.get(1..).unwrap_or_default()) } else { (0, labels) };
            let differing = rest.iter().position(differs).map_or(0, |at| rest.len() - at);
            let rank = base.saturating_add(u32::try_from(differing).unwrap_or(u32::MAX));
            ranks.entry(rank).or_default().push(host);
        }
        let locality = group.locality;
        let split = ranks.into_iter().map(|(priority, hosts)| LocalityGroup {
            locality,
            priority,
            weight: None,
            hosts,
        });
        ordered.extend(split);
    }
    ordered
}

/// Renumbers priorities without gaps, which Envoy requires.
fn compact(groups: &mut [LocalityGroup<'_>]) {
    let used: BTreeSet<u32> = groups.iter().map(|group| group.priority).collect();
    for group in groups {
        group.priority = u32::try_from(used.range(..group.priority).count()).unwrap_or(u32::MAX);
    }
}

// === impl LocalityFailover ===

impl LocalityFailover {
    /// Exclusive upper bound of distances.
    const STEPS: u32 = 5;

    fn distance(&self, locality: &Locality) -> u32 {
        let of_region = |next: &Option<String>| match next {
            Some(next) if **next != *locality.region => 1,
            _ => 0,
        };
        match self {
            Self::Alike => 0,
            Self::Localities { client, .. } if client == locality => 0,
            Self::Localities { client, .. }
                if (&client.region, &client.zone) == (&locality.region, &locality.zone) =>
            {
                1
            }
            Self::Localities { client, .. } if client.region == locality.region => 2,
            Self::Localities { next, .. } => 3 + of_region(next),
            Self::Regions { client, .. } if *client == locality.region => 0,
            Self::Regions { next: Some(next), .. } if **next == *locality.region => 1,
            Self::Regions { .. } => 2,
        }
    }
}
