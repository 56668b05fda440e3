//! Validation of `EnvoyFilter` by Istio's rules. The value of a patch is checked against Envoy's API in `patch`.

use super::findings::{At, Findings};
use crate::api::EnvoyFilter;
use crate::api::envoy_filter::{
    ApplyTo, ConfigPatch, FilterMatch, ListenerMatch, ObjectMatch, Patch, PatchContext, PatchOperation,
};

/// Names of the filter that contains HTTP filters, current and deprecated.
const HTTP_CONNECTION_MANAGER: [&str; 2] =
    ["envoy.filters.network.http_connection_manager", "envoy.http_connection_manager"];
/// Maximum length of an expression for versions of proxies.
const LONGEST_VERSION: usize = 1024;

pub(super) fn check(out: &mut Findings, at: At<'_>, filter: &EnvoyFilter) {
    out.at_most_one(
        at,
        &[
            ("workloadSelector", filter.workload_selector.is_some()),
            ("targetRefs", !filter.target_refs.is_empty()),
        ],
    );
    out.workload_selector(at.of("workloadSelector"), filter.workload_selector.as_ref());
    out.target_refs(at.of("targetRefs"), &filter.target_refs);
    for (index, change) in filter.config_patches.iter().enumerate() {
        config_patch(out, at.of("configPatches").nth(index), change);
    }
}

fn config_patch(out: &mut Findings, at: At<'_>, change: &ConfigPatch) {
    if let Some(matching) = &change.r#match {
        let is_waypoint = matching.context == PatchContext::Waypoint;
        object_match(out, at.of("match"), matching);
        if is_waypoint {
            return;
        }
        let things = fitting(change.apply_to);
        for (field, is_set) in kinds(matching) {
            if is_set && things.is_some_and(|thing| thing != field) {
                let message = format!("is not what {} is found by", spelt(change.apply_to));
                out.error(at.of("match").of(field), message);
            }
        }
        if let Some(listener) = &matching.listener {
            listener_match(out, at.of("match").of("listener"), listener, change.apply_to);
        }
    }
    if change.apply_to == ApplyTo::Invalid {
        out.error(at.of("applyTo"), "is missing");
    }
    match &change.patch {
        None => out.error(at.of("patch"), "is missing"),
        Some(patch) => check_patch(out, at.of("patch"), patch),
    }
}

fn kinds(matching: &ObjectMatch) -> [(&'static str, bool); 4] {
    [
        ("listener", matching.listener.is_some()),
        ("routeConfiguration", matching.route_configuration.is_some()),
        ("cluster", matching.cluster.is_some()),
        ("waypoint", matching.waypoint.is_some()),
    ]
}

/// Returns the field of `match` that fits a type of object; `None`: any.
const fn fitting(apply_to: ApplyTo) -> Option<&'static str> {
    match apply_to {
        ApplyTo::Listener | ApplyTo::FilterChain | ApplyTo::NetworkFilter | ApplyTo::HttpFilter => {
            Some("listener")
        }
        ApplyTo::RouteConfiguration | ApplyTo::VirtualHost | ApplyTo::HttpRoute => Some("routeConfiguration"),
        ApplyTo::Cluster => Some("cluster"),
        ApplyTo::Invalid | ApplyTo::ExtensionConfig | ApplyTo::Bootstrap | ApplyTo::ListenerFilter => None,
    }
}

fn object_match(out: &mut Findings, at: At<'_>, matching: &ObjectMatch) {
    out.at_most_one(at, &kinds(matching));
    match (&matching.waypoint, matching.context) {
        (None, PatchContext::Waypoint) => out.error(at.of("waypoint"), "is missing in context WAYPOINT"),
        (Some(waypoint), PatchContext::Waypoint) => {
            if waypoint.port_number != 0 {
                out.port(at.of("waypoint").of("portNumber"), waypoint.port_number);
            }
        }
        (Some(_), _) => out.error(at.of("waypoint"), "is for context WAYPOINT alone"),
        (None, _) => {}
    }
    let Some(proxy) = matching.proxy.as_ref().filter(|proxy| !proxy.proxy_version.is_empty()) else { return };
    let field = at.of("proxy");
    if proxy.proxy_version.len() > LONGEST_VERSION {
        let message = format!("is longer than {LONGEST_VERSION} characters and not looked at");
        out.warning(field.of("proxyVersion"), message);
    } else {
        out.regex(field.of("proxyVersion"), &proxy.proxy_version);
    }
}

fn listener_match(out: &mut Findings, at: At<'_>, listener: &ListenerMatch, apply_to: ApplyTo) {
    let Some(filter) = listener.filter_chain.as_ref().and_then(|chain| chain.filter.as_ref()) else { return };
    let chain = at.of("filterChain");
    let at = chain.of("filter");
    if matches!(apply_to, ApplyTo::Listener | ApplyTo::FilterChain) {
        out.warning(at, format!("has no effect on {}", spelt(apply_to)));
    }
    out.present(at.of("name"), &filter.name);
    sub_filter(out, at.of("subFilter"), filter, apply_to);
}

fn sub_filter(out: &mut Findings, at: At<'_>, filter: &FilterMatch, apply_to: ApplyTo) {
    let Some(inside) = &filter.sub_filter else { return };
    if apply_to != ApplyTo::HttpFilter {
        out.error(at, "is for HTTP_FILTER alone");
    } else if !HTTP_CONNECTION_MANAGER.contains(&filter.name.as_str()) {
        out.error(at, format!("is found in {} alone", HTTP_CONNECTION_MANAGER.join(", ")));
    }
    out.present(at.of("name"), &inside.name);
}

fn check_patch(out: &mut Findings, at: At<'_>, patch: &Patch) {
    if patch.operation == PatchOperation::Invalid {
        out.error(at.of("operation"), "is missing");
    }
    match &patch.value {
        Some(value) if !value.is_object() => out.error(at.of("value"), "is no mapping"),
        None if !matches!(patch.operation, PatchOperation::Remove | PatchOperation::Invalid) => {
            out.error(at.of("value"), "is missing");
        }
        _ => {}
    }
}

/// Returns the spelling in manifests.
fn spelt(apply_to: ApplyTo) -> String {
    serde_json::to_value(apply_to).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}
