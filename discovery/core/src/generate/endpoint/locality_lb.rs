//! `localityLbSetting`, `zoneAwareLbSetting` and `trafficDistribution`: which endpoints come first for a client.
//! <https://istio.io/latest/docs/reference/config/networking/destination-rule/#LocalityLoadBalancerSetting>

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::LocalityGroup;
use crate::api::destination_rule::{Distribute, Failover};
use crate::api::values::Map;
use crate::generate::traffic_policy::{LocalityPreference, MergedTrafficPolicy};
use crate::model::{Labels, Locality};

/// From where endpoints are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientLocality {
    /// Where the client runs.
    pub locality: Locality,
    /// Its labels.
    pub labels: Labels,
    /// Its network, empty when unknown.
    pub network: Arc<str>,
    /// Its node, empty when unknown.
    pub node: Arc<str>,
}

/// Which endpoints come first, seen from one place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LocalityPriority {
    /// Shares of localities, which may end in `*`; who has none gets nothing.
    Shares(BTreeMap<String, u32>),
    /// Who has more in common with the client goes first.
    Order {
        /// What labels should be, the most important first.
        labels: Vec<(String, String)>,
        /// After them, how far away endpoints may be.
        places: LocalityFailover,
    },
}

/// How far away endpoints are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LocalityFailover {
    /// It makes no difference.
    Alike,
    /// The same sub-zone, zone, region; then the region that takes over, then others.
    Localities {
        /// Where the client is.
        own: Locality,
        /// The region that takes over, if one is named.
        next: Option<String>,
    },
    /// The same region, the one that takes over, others.
    Regions {
        /// Where the client is.
        own: Arc<str>,
        /// The region that takes over, if one is named.
        next: Option<String>,
    },
}

// === impl ClientLocality ===

impl ClientLocality {
    /// The label that tells the network.
    pub const NETWORK: &str = "topology.istio.io/network";
    /// The label that tells the node.
    pub const NODE: &str = "kubernetes.io/hostname";

    /// What it has under a label; what says where it is counts as labels too.
    fn label(&self, key: &str) -> Option<&str> {
        label(&self.labels, &self.locality, &self.network, &self.node, key)
    }
}

/// The labels that a registry adds to those of a workload.
pub(super) fn label<'a>(
    labels: &'a Map,
    locality: &'a Locality,
    network: &'a str,
    node: &'a str,
    key: &str,
) -> Option<&'a str> {
    let said = || labels.get(key).map(String::as_str);
    let known = match key {
        "topology.kubernetes.io/region" => &*locality.region,
        "topology.kubernetes.io/zone" => &*locality.zone,
        "topology.istio.io/subzone" => &*locality.sub_zone,
        ClientLocality::NODE => node,
        // The one that a workload may say better itself.
        ClientLocality::NETWORK => return said().or(Some(network)).filter(|network| !network.is_empty()),
        _ => return said(),
    };
    Some(known).filter(|known| !known.is_empty()).or_else(said)
}

// === impl LocalityPriority ===

impl LocalityPriority {
    /// What a policy means to a client; `None`: nothing, all are alike to it.
    ///
    /// Priorities need outlier detection: without it Envoy never learns that a nearer endpoint is bad, and would never
    /// leave it.
    pub fn of(policy: &MergedTrafficPolicy, client: &ClientLocality) -> Option<Self> {
        match policy.locality_preference() {
            LocalityPreference::Locality(said) if !said.distribute.is_empty() => {
                shares(&said.distribute, client)
            }
            LocalityPreference::Locality(said) => {
                policy.outlier_detection.as_ref()?;
                let labels = wanted(&said.failover_priority, client);
                // Labels replace places, unless somebody names regions too.
                let places = if labels.is_empty() || !said.failover.is_empty() {
                    let (own, next) = (client.locality.clone(), next(&said.failover, client));
                    LocalityFailover::Localities { own, next }
                } else {
                    LocalityFailover::Alike
                };
                Some(Self::Order { labels, places })
            }
            LocalityPreference::Zone(said) if said.enabled != Some(false) => {
                let (own, next) = (client.locality.region.clone(), next(&said.failover, client));
                let labels = wanted(&said.failover_priority, client);
                Some(Self::Order { labels, places: LocalityFailover::Regions { own, next } })
            }
            // The service itself asks: nobody has to say when an endpoint is bad.
            LocalityPreference::TrafficDistribution(preferred) => {
                let labels = wanted(preferred.labels(), client);
                Some(Self::Order { labels, places: LocalityFailover::Alike })
            }
            LocalityPreference::Zone(_) | LocalityPreference::Off => None,
        }
    }

    /// The groups with their shares or priorities. A group whose members differ in labels becomes several.
    pub(super) fn order<'a>(&self, groups: Vec<LocalityGroup<'a>>) -> Vec<LocalityGroup<'a>> {
        match self {
            Self::Shares(shares) => distribute(groups, shares),
            Self::Order { labels, places } => {
                let mut groups = by_labels(groups, labels);
                for group in &mut groups {
                    let steps = group.priority.saturating_mul(LocalityFailover::STEPS);
                    group.priority = steps.saturating_add(places.distance(group.locality));
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

/// `key`, or `key=value` for a value that is not the client's own.
fn wanted<L: AsRef<str>>(labels: &[L], client: &ClientLocality) -> Vec<(String, String)> {
    let one = |label: &L| match label.as_ref().split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (label.as_ref().to_owned(), client.label(label.as_ref()).unwrap_or_default().to_owned()),
    };
    labels.iter().map(one).collect()
}

/// The region that takes over from the client's.
fn next(rules: &[Failover], client: &ClientLocality) -> Option<String> {
    rules.iter().find(|rule| *rule.from == *client.locality.region).map(|rule| rule.to.clone())
}

/// Whether a locality is one that a rule means: `region/zone/sub-zone`, `*` in a place for all, what is left out too.
fn includes(rule: &str, locality: &Locality) -> bool {
    let mut parts = rule.split('/');
    let region = parts.next().unwrap_or_default();
    let is = |part: Option<&str>, own: &str| part.is_none_or(|part| matches!(part, "" | "*") || part == own);
    (region == "*" || region == &*locality.region)
        && is(parts.next(), &locality.zone)
        && is(parts.next(), &locality.sub_zone)
}

/// A share of several localities is divided among them as their endpoints weigh.
fn distribute<'a>(
    mut groups: Vec<LocalityGroup<'a>>,
    shares: &BTreeMap<String, u32>,
) -> Vec<LocalityGroup<'a>> {
    for (place, share) in shares {
        let mut meant: Vec<&mut LocalityGroup<'_>> = groups
            .iter_mut()
            .filter(|group| group.weight.is_none() && includes(place, group.locality))
            .collect();
        let total: u64 = meant.iter().map(|group| u64::from(group.weight())).sum();
        for group in &mut meant {
            let part = (u64::from(group.weight()) * u64::from(*share)).div_ceil(total.max(1));
            group.weight = Some(u32::try_from(part).unwrap_or(u32::MAX));
        }
    }
    // Who was given nothing gets nothing, and Envoy refuses a weight of 0.
    groups.retain(|group| group.weight.is_some_and(|weight| weight > 0));
    groups
}

/// How many labels, counted from the end, come after the first one that differs. The network is special when it is the
/// first: whoever is in another one comes after everybody in this one, and among themselves the other labels count.
fn by_labels<'a>(groups: Vec<LocalityGroup<'a>>, labels: &[(String, String)]) -> Vec<LocalityGroup<'a>> {
    if labels.is_empty() {
        return groups;
    }
    let most = u32::try_from(labels.len()).unwrap_or(u32::MAX);
    let mut ordered = Vec::new();
    for group in groups {
        let mut ranks: BTreeMap<u32, Vec<super::LbHost<'a>>> = BTreeMap::new();
        for member in group.members {
            let differs =
                |(key, value): &(String, String)| member.target.label(key).unwrap_or_default() != value;
            let abroad =
                labels.first().is_some_and(|first| first.0 == ClientLocality::NETWORK && differs(first));
            let (base, rest) = if abroad { (most, labels.get(1..).unwrap_or_default()) } else { (0, labels) };
            let left = rest.iter().position(differs).map_or(0, |at| rest.len() - at);
            let rank = base.saturating_add(u32::try_from(left).unwrap_or(u32::MAX));
            ranks.entry(rank).or_default().push(member);
        }
        let locality = group.locality;
        let split = ranks.into_iter().map(|(priority, members)| LocalityGroup {
            locality,
            priority,
            weight: None,
            members,
        });
        ordered.extend(split);
    }
    ordered
}

/// Priorities without gaps, as Envoy wants them.
fn compact(groups: &mut [LocalityGroup<'_>]) {
    let used: BTreeSet<u32> = groups.iter().map(|group| group.priority).collect();
    for group in groups {
        group.priority = u32::try_from(used.range(..group.priority).count()).unwrap_or(u32::MAX);
    }
}

// === impl LocalityFailover ===

impl LocalityFailover {
    /// More than the distances there are.
    const STEPS: u32 = 5;

    fn distance(&self, place: &Locality) -> u32 {
        let of_region = |next: &Option<String>| match next {
            Some(next) if **next != *place.region => 1,
            _ => 0,
        };
        match self {
            Self::Alike => 0,
            Self::Localities { own, .. } if own == place => 0,
            Self::Localities { own, .. } if (&own.region, &own.zone) == (&place.region, &place.zone) => 1,
            Self::Localities { own, .. } if own.region == place.region => 2,
            Self::Localities { next, .. } => 3 + of_region(next),
            Self::Regions { own, .. } if *own == place.region => 0,
            Self::Regions { next: Some(next), .. } if **next == *place.region => 1,
            Self::Regions { .. } => 2,
        }
    }
}
