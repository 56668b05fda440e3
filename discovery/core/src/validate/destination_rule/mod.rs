//! Validation of `DestinationRule`.

mod balancing;
mod client_tls;
pub(super) mod pool;

use std::collections::HashSet;

use super::findings::{At, Findings};
use super::sharing::Exporter;
use super::values::{is_host, is_ip};
use crate::api::DestinationRule;
use crate::api::destination_rule::{OutlierDetection, PortTrafficPolicy, TrafficPolicy, Tunnel};

/// Maximum number of ports of one policy.
const MOST_PORTS: usize = 4096;

pub(super) fn check(out: &mut Findings, at: At<'_>, namespace: &str, rule: &DestinationRule) {
    if rule.host.is_empty() {
        out.error(at.of("host"), "is missing");
    } else {
        out.wildcard_host(at.of("host"), &rule.host);
    }
    if let Some(policy) = &rule.traffic_policy {
        traffic_policy(out, at.of("trafficPolicy"), namespace, policy);
    }
    let mut names = HashSet::new();
    for (index, subset) in rule.subsets.iter().enumerate() {
        let list = at.of("subsets");
        let at = list.nth(index);
        out.label(at.of("name"), &subset.name);
        if !names.insert(&subset.name) {
            out.error(at.of("name"), format!("{:?} is taken by a subset before", subset.name));
        }
        out.labels(at.of("labels"), &subset.labels);
        if let Some(policy) = &subset.traffic_policy {
            traffic_policy(out, at.of("trafficPolicy"), namespace, policy);
        }
    }
    let exporter = if rule.workload_selector.is_some() { Exporter::Selective } else { Exporter::Other };
    out.export_to(at.of("exportTo"), namespace, &rule.export_to, exporter);
    out.match_labels(at.of("workloadSelector"), rule.workload_selector.as_ref());
}

fn traffic_policy(out: &mut Findings, at: At<'_>, namespace: &str, policy: &TrafficPolicy) {
    if *policy == TrafficPolicy::default() {
        out.error(at, "says nothing");
    }
    out.at_most_one(
        at,
        &[("tunnel", policy.tunnel.is_some()), ("proxyProtocol", policy.proxy_protocol.is_some())],
    );
    let TrafficPolicy { load_balancer, connection_pool, outlier_detection, tls, port_level_settings, .. } =
        policy;
    let common = PortTrafficPolicy {
        port: None,
        load_balancer: load_balancer.clone(),
        connection_pool: connection_pool.clone(),
        outlier_detection: outlier_detection.clone(),
        tls: tls.clone(),
    };
    settings(out, at, namespace, &common);
    let list = at.of("portLevelSettings");
    out.at_most(list, port_level_settings.len(), MOST_PORTS);
    for (index, port) in port_level_settings.iter().enumerate() {
        let at = list.nth(index);
        match port.port {
            None => out.error(at.of("port"), "is missing"),
            Some(port) => out.port(at.of("port").of("number"), port.number),
        }
        if (PortTrafficPolicy { port: port.port, ..PortTrafficPolicy::default() }) == *port {
            out.error(at, "says nothing but a port");
        }
        settings(out, at, namespace, port);
    }
    if let Some(through) = &policy.tunnel {
        tunnel(out, at.of("tunnel"), through);
    }
    if let Some(percent) = policy.retry_budget.as_ref().and_then(|budget| budget.percent)
        && !(0.0..=100.0).contains(&percent.0)
    {
        out.error(at.of("retryBudget").of("percent"), format!("{} is no share: 0 to 100", percent.0));
    }
}

/// Checks the settings that a host and its ports have in common.
fn settings(out: &mut Findings, at: At<'_>, namespace: &str, settings: &PortTrafficPolicy) {
    let outliers = settings.outlier_detection.as_ref();
    if let Some(outliers) = outliers {
        outlier_detection(out, at.of("outlierDetection"), outliers);
    }
    if let Some(limits) = &settings.connection_pool {
        pool::check(out, at.of("connectionPool"), limits);
    }
    if let Some(balancer) = &settings.load_balancer {
        balancing::check(out, at.of("loadBalancer"), balancer, outliers);
    }
    if let Some(tls) = &settings.tls {
        client_tls::check(out, at.of("tls"), namespace, tls);
    }
}

fn outlier_detection(out: &mut Findings, at: At<'_>, outliers: &OutlierDetection) {
    if outliers.consecutive_errors != 0 {
        let message =
            "is deprecated and has no effect: see consecutiveGatewayErrors and consecutive5xxErrors";
        out.warning(at.of("consecutiveErrors"), message);
    }
    if !outliers.split_external_local_origin_errors
        && outliers.consecutive_local_origin_failures.unwrap_or(0) > 0
    {
        out.error(at.of("consecutiveLocalOriginFailures"), "needs splitExternalLocalOriginErrors");
    }
    out.duration(at.of("interval"), outliers.interval);
    out.duration(at.of("baseEjectionTime"), outliers.base_ejection_time);
    out.whole_percent(at.of("maxEjectionPercent"), outliers.max_ejection_percent);
    out.whole_percent(at.of("minHealthPercent"), outliers.min_health_percent);
    for (index, status) in outliers.outlier_detection_http_error_codes.iter().enumerate() {
        if !(100..=599).contains(status) {
            let list = at.of("outlierDetectionHttpErrorCodes");
            out.error(list.nth(index), format!("{status} is no status: 100 to 599"));
        }
    }
}

fn tunnel(out: &mut Findings, at: At<'_>, tunnel: &Tunnel) {
    if !["", "CONNECT", "POST"].contains(&tunnel.protocol.as_str()) {
        out.error(at.of("protocol"), format!("{:?} is neither CONNECT nor POST", tunnel.protocol));
    }
    if !is_host(&tunnel.target_host) && !is_ip(&tunnel.target_host) {
        let message = format!("{:?} is neither a host name nor an IP address", tunnel.target_host);
        out.error(at.of("targetHost"), message);
    }
    out.port(at.of("targetPort"), tunnel.target_port);
}
