//! Validation of `loadBalancer`.

use std::collections::HashSet;

use super::super::findings::{At, Findings};
use crate::api::destination_rule::{
    ConsistentHash, Failover, HashCookie, LoadBalancer, LocalityLb, OutlierDetection, Warmup,
};

/// Labels of the topology; endpoints of the same locality share them anyway.
const TOPOLOGY: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];
/// Maximum size of Envoy's Maglev tables.
const LARGEST_TABLE: u64 = 5_000_011;

pub(super) fn check(
    out: &mut Findings,
    at: At<'_>,
    balancer: &LoadBalancer,
    outliers: Option<&OutlierDetection>,
) {
    out.at_most_one(
        at,
        &[("simple", balancer.simple.is_some()), ("consistentHash", balancer.consistent_hash.is_some())],
    );
    if let Some(hash) = &balancer.consistent_hash {
        consistent_hash(out, at.of("consistentHash"), hash);
    }
    out.at_most_one(
        at,
        &[
            ("localityLbSetting", balancer.locality_lb_setting.is_some()),
            ("zoneAwareLbSetting", balancer.zone_aware_lb_setting.is_some()),
        ],
    );
    if let Some(locality) = &balancer.locality_lb_setting {
        let at = at.of("localityLbSetting");
        locality_lb(out, at, locality);
        failover(out, at, &locality.failover);
        without_outliers(out, at, &locality.failover, &locality.failover_priority, outliers);
    }
    if let Some(zones) = &balancer.zone_aware_lb_setting {
        let at = at.of("zoneAwareLbSetting");
        for (index, label) in zones.failover_priority.iter().enumerate() {
            if TOPOLOGY.contains(&label.as_str()) {
                out.error(at.of("failoverPriority").nth(index), "regions and zones are told apart anyway");
            }
        }
        if zones.min_cluster_size == Some(0) {
            out.error(at.of("minClusterSize"), "0 is no size: 1 at least");
        }
        failover(out, at, &zones.failover);
        without_outliers(out, at, &zones.failover, &zones.failover_priority, outliers);
    }
    out.duration(at.of("warmupDurationSecs"), balancer.warmup_duration_secs);
    if let Some(settings) = &balancer.warmup {
        warmup(out, at.of("warmup"), settings);
    }
}

fn consistent_hash(out: &mut Findings, at: At<'_>, hash: &ConsistentHash) {
    let keys = [
        ("httpHeaderName", hash.http_header_name.is_some()),
        ("httpCookie", hash.http_cookie.is_some()),
        ("useSourceIp", hash.use_source_ip.is_some()),
        ("httpQueryParameterName", hash.http_query_parameter_name.is_some()),
    ];
    out.at_most_one(at, &keys);
    out.at_most_one(
        at,
        &[
            ("ringHash", hash.ring_hash.is_some()),
            ("maglev", hash.maglev.is_some()),
            ("minimumRingSize", hash.minimum_ring_size != 0),
        ],
    );
    if hash.minimum_ring_size != 0 {
        out.warning(at.of("minimumRingSize"), "is deprecated: see ringHash");
    }
    if let Some(key) = &hash.http_cookie {
        cookie(out, at.of("httpCookie"), key);
    }
    if let Some(maglev) = hash.maglev
        && !(maglev.table_size < LARGEST_TABLE && is_prime(maglev.table_size))
    {
        let message = format!("{} is no prime below {LARGEST_TABLE}", maglev.table_size);
        out.error(at.of("maglev").of("tableSize"), message);
    }
}

fn cookie(out: &mut Findings, at: At<'_>, cookie: &HashCookie) {
    out.present(at.of("name"), &cookie.name);
    let mut names = HashSet::new();
    for (index, attribute) in cookie.attributes.iter().enumerate() {
        let list = at.of("attributes");
        let at = list.nth(index);
        out.present(at.of("name"), &attribute.name);
        if !names.insert(&attribute.name) {
            out.error(at.of("name"), format!("{:?} is there before", attribute.name));
        }
    }
}

fn is_prime(number: u64) -> bool {
    let mut divisors = (2..).take_while(|divisor| divisor * divisor <= number);
    number > 1 && !divisors.any(|divisor| number.is_multiple_of(divisor))
}

/// Checks distribution and failover of localities.
fn locality_lb(out: &mut Findings, at: At<'_>, locality: &LocalityLb) {
    out.at_most_one(
        at,
        &[("distribute", !locality.distribute.is_empty()), ("failover", !locality.failover.is_empty())],
    );
    if !locality.failover.is_empty() {
        for (index, label) in locality.failover_priority.iter().enumerate() {
            if TOPOLOGY.contains(&label.as_str()) {
                out.error(at.of("failoverPriority").nth(index), "excludes failover, which says the same");
            }
        }
    }
    let list = at.of("distribute");
    let from: Vec<&str> = locality.distribute.iter().map(|share| share.from.as_str()).collect();
    localities(out, list, &from);
    for (index, share) in locality.distribute.iter().enumerate() {
        let at = list.nth(index);
        let to: Vec<&str> = share.to.keys().map(String::as_str).collect();
        localities(out, at.of("to"), &to);
        for (place, weight) in &share.to {
            if !(1..=100).contains(weight) {
                out.error(at.of("to").of(place), format!("{weight} is no share: 1 to 100"));
            }
        }
        let sum: u64 = share.to.values().copied().map(u64::from).sum();
        if sum != 100 {
            out.error(at.of("to"), format!("the shares are {sum} together, not 100"));
        }
    }
}

/// Checks a list of localities, of which none may contain another: `region`, `region/zone`, `region/zone/sub-zone`, each with or
/// without a final `*`.
fn localities(out: &mut Findings, at: At<'_>, places: &[&str]) {
    let mut before: Vec<Vec<&str>> = Vec::new();
    for place in places {
        if place.strip_suffix('*').unwrap_or(place).contains('*') {
            out.error(at, format!("{place:?}: a wildcard is at the end"));
            continue;
        }
        let mut parts: Vec<&str> = place.splitn(3, '/').collect();
        if parts.contains(&"") {
            out.error(at, format!("{place:?} has an empty part"));
            continue;
        }
        parts.retain(|part| *part != "*");
        if before.iter().any(|other| parts.starts_with(other) || other.starts_with(&parts)) {
            out.error(at, format!("{place:?} overlaps with another locality"));
        }
        before.push(parts);
    }
}

fn failover(out: &mut Findings, at: At<'_>, failover: &[Failover]) {
    for (index, Failover { from, to }) in failover.iter().enumerate() {
        let list = at.of("failover");
        let at = list.nth(index);
        if from == to {
            out.error(at, format!("{from:?} cannot take over from itself"));
        }
        for (field, region) in [("from", from), ("to", to)] {
            if region.contains(['/', '*']) {
                out.error(at.of(field), format!("{region:?} is no region"));
            }
        }
    }
}

/// Warns of failover without outlier detection: it needs ejected endpoints.
fn without_outliers(
    out: &mut Findings,
    at: At<'_>,
    failover: &[Failover],
    priority: &[String],
    outliers: Option<&OutlierDetection>,
) {
    if outliers.is_none() && !(failover.is_empty() && priority.is_empty()) {
        out.warning(at, "failover has no effect without outlierDetection");
    }
}

fn warmup(out: &mut Findings, at: At<'_>, warmup: &Warmup) {
    if warmup.duration.is_none() {
        out.error(at.of("duration"), "is missing");
    }
    out.duration(at.of("duration"), warmup.duration);
    if let Some(percent) = warmup.minimum_percent
        && !(0.0..=100.0).contains(&percent.0)
    {
        out.error(at.of("minimumPercent"), format!("{} is no share: 0 to 100", percent.0));
    }
    if let Some(aggression) = warmup.aggression
        && aggression.0 <= 0.0
    {
        out.error(at.of("aggression"), format!("{} is not more than 0", aggression.0));
    }
}
