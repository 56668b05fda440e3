//! Hash policies of requests, from `consistentHash` of a `DestinationRule`.

use pilot_proto::envoy::config::route::v3::route_action::HashPolicy;
use pilot_proto::envoy::config::route::v3::route_action::hash_policy::{
    ConnectionProperties, Cookie, CookieAttribute, Header, PolicySpecifier, QueryParameter,
};

use crate::api::destination_rule::{ConsistentHash, TrafficPolicy};
use crate::generate::proto::duration;
use crate::push::Rule;

/// `consistentHash` settings of a `DestinationRule`, for the host, its ports and its subsets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HashPolicies {
    default: Option<ConsistentHash>,
    ports: Vec<(u32, ConsistentHash)>,
    /// By name of the subset.
    subsets: Vec<(String, Self)>,
}

// === impl HashPolicies ===

impl HashPolicies {
    /// Extracts the settings of a rule.
    pub fn of(rule: &Rule) -> Self {
        let subsets =
            rule.subsets.iter().map(|subset| (&subset.name, Self::of_policy(subset.traffic_policy.as_ref())));
        let subsets = subsets
            .filter(|(_, policies)| *policies != Self::default())
            .map(|(name, policies)| (name.clone(), policies));
        Self { subsets: subsets.collect(), ..Self::of_policy(rule.traffic_policy.as_ref()) }
    }

    fn of_policy(policy: Option<&TrafficPolicy>) -> Self {
        let Some(policy) = policy else { return Self::default() };
        let ports = policy.port_level_settings.iter().filter_map(|settings| {
            let hash = settings.load_balancer.as_ref()?.consistent_hash.clone()?;
            Some((settings.port?.number, hash))
        });
        Self {
            default: policy.load_balancer.as_ref().and_then(|balancer| balancer.consistent_hash.clone()),
            ports: ports.collect(),
            subsets: Vec::new(),
        }
    }

    /// Returns the hash policy of a port of a subset (empty: the whole service). Precedence: port of the subset, subset,
    /// port, host.
    pub(super) fn policy(&self, subset: &str, port: u16) -> Option<HashPolicy> {
        let subset = self.subsets.iter().find(|(name, _)| name == subset).map(|(_, policies)| policies);
        let at_port = |policies: &Self| {
            policies.ports.iter().find(|(number, _)| *number == u32::from(port)).map(|(_, hash)| hash.clone())
        };
        let hash = subset
            .and_then(at_port)
            .or_else(|| subset.and_then(|policies| policies.default.clone()))
            .or_else(|| at_port(self))
            .or_else(|| self.default.clone())?;
        hash_policy(&hash)
    }
}

fn hash_policy(hash: &ConsistentHash) -> Option<HashPolicy> {
    let is_set = |text: &&String| !text.is_empty();
    let specifier = if let Some(name) = hash.http_header_name.as_ref().filter(is_set) {
        PolicySpecifier::Header(Header { header_name: name.clone(), regex_rewrite: None })
    } else if let Some(cookie) = hash.http_cookie.as_ref().filter(|cookie| !cookie.name.is_empty()) {
        let attributes = cookie.attributes.iter().map(|attribute| CookieAttribute {
            name: attribute.name.clone(),
            value: attribute.value.clone(),
        });
        PolicySpecifier::Cookie(Cookie {
            name: cookie.name.clone(),
            ttl: cookie.ttl.and_then(duration),
            path: cookie.path.clone(),
            attributes: attributes.collect(),
        })
    } else if hash.use_source_ip == Some(true) {
        PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true })
    } else if let Some(name) = hash.http_query_parameter_name.as_ref().filter(is_set) {
        PolicySpecifier::QueryParameter(QueryParameter { name: name.clone() })
    } else {
        return None;
    };
    Some(HashPolicy { terminal: false, policy_specifier: Some(specifier) })
}
