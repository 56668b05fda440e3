//! Findings about `EnvoyFilter`s.

use super::*;

/// Checks the findings about one patch, and the number of parsed patches.
fn said(patch: &Value) -> (Vec<String>, usize) {
    let good = json!({"applyTo": "CLUSTER", "patch": {"operation": "REMOVE"}});
    let spec: EnvoyFilter = serde_json::from_value(json!({"configPatches": [good, patch]})).unwrap();
    let (patches, findings) = Patches::parse(&meta("ns", "f", 0), &spec);
    let said = findings.iter().map(|finding| format!("{:?} {finding}", finding.severity)).collect();
    assert_eq!(patches.patches()[0].index, 0, "the good one stays");
    (said, patches.patches().len() - 1)
}

fn check(patch: &Value, findings: &[&str], patches: usize) {
    let (said, left) = said(patch);
    assert_eq!((said.len(), left), (findings.len(), patches), "{patch}: {said:?}");
    for (said, expected) in said.iter().zip(findings) {
        let (severity, rest) = expected.split_once(' ').unwrap();
        let expected = format!("{severity} spec.configPatches[1].{rest}");
        assert!(said.starts_with(&expected), "{said} is not {expected}");
    }
}

#[test]
fn what_does_not_fit_is_an_error_of_its_field() {
    let lua = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua";
    for (patch, finding) in [
        (
            json!({"applyTo": "CLUSTER", "patch": {"operation": "MERGE", "value": {"connect_timeout": "soon"}}}),
            "Error patch.value.connect_timeout: ",
        ),
        (
            json!({"applyTo": "CLUSTER", "patch": {"operation": "MERGE", "value": "c"}}),
            "Error patch.value: invalid type",
        ),
        (
            json!({"applyTo": "HTTP_FILTER", "patch": {"operation": "INSERT_FIRST", "value":
            {"name": "l", "typed_config": {"@type": lua, "stat_prefix": 3}}}}),
            "Error patch.value.typed_config.stat_prefix: invalid type",
        ),
        (
            json!({"applyTo": "HTTP_FILTER", "patch": {"operation": "INSERT_FIRST", "value":
            {"name": "l", "typed_config": {"@type": "type.googleapis.com/acme.Filter"}}}}),
            "Error patch.value.typed_config: @type type.googleapis.com/acme.Filter is not a message",
        ),
        (
            json!({"applyTo": "HTTP_FILTER", "patch": {"operation": "INSERT_FIRST", "value": {"name": "l", "typed_config": {}}}}),
            "Error patch.value.typed_config: no @type",
        ),
    ] {
        check(&patch, &[finding], 0);
    }
}

#[test]
fn what_is_doubtful_is_used_and_named() {
    let named = |name: &str, inner: &str| json!({"listener": {"filterChain": {"filter": {"name": name, "subFilter": {"name": inner}}}}});
    for (patch, findings) in [
        (
            json!({"applyTo": "CLUSTER", "patch": {"operation": "MERGE", "value": {"nome": "c", "lb_policy": "BEST"}}}),
            ["Warning patch.value.lb_policy: not known", "Warning patch.value.nome: not known"].as_slice(),
        ),
        (
            json!({"applyTo": "CLUSTER", "patch": {"operation": "MERGE", "value": {"http2_protocol_options": {}}}}),
            &["Warning patch.value.http2_protocol_options: deprecated"],
        ),
        (
            json!({"applyTo": "HTTP_FILTER", "match": named("envoy.http_connection_manager", "envoy.ext_authz"),
            "patch": {"operation": "REMOVE"}}),
            &[
                "Warning match.listener.filterChain.filter.name: envoy.http_connection_manager is deprecated; use envoy.filters.network.http",
                "Warning match.listener.filterChain.filter.subFilter.name: envoy.ext_authz is deprecated; use envoy.filters.http.ext_authz",
            ],
        ),
        (
            json!({"applyTo": "LISTENER_FILTER", "match": {"listener": {"listenerFilter": "envoy.listener.tls_inspector"}},
            "patch": {"operation": "REMOVE"}}),
            &[
                "Warning match.listener.listenerFilter: envoy.listener.tls_inspector is deprecated; use envoy.filters.listener.tls_inspector",
            ],
        ),
        (
            json!({"applyTo": "NETWORK_FILTER", "patch": {"operation": "INSERT_FIRST", "value": {"name": "f"}}}),
            &["Warning patch.value: has a name and no typed_config"],
        ),
        (
            json!({"applyTo": "HTTP_FILTER", "patch": {"operation": "ADD", "value": {"name": "f", "typed_config": text("")}}}),
            &["Warning patch.operation: puts it behind the router"],
        ),
    ] {
        check(&patch, findings, 1);
    }
}

#[test]
fn what_validation_has_an_error_for_is_left_out() {
    use crate::model::{ConfigObject, ConfigSpec};
    for patch in [
        json!({}),
        json!({"patch": {"operation": "REMOVE"}}),
        json!({"applyTo": "CLUSTER", "patch": {}}),
        json!({"applyTo": "CLUSTER", "patch": {"operation": "ADD"}}),
        json!({"applyTo": "CLUSTER", "match": {"listener": {}}, "patch": {"operation": "REMOVE"}}),
        json!({"applyTo": "HTTP_FILTER", "match": {"routeConfiguration": {}}, "patch": {"operation": "REMOVE"}}),
        json!({"applyTo": "HTTP_ROUTE", "match": {"cluster": {}}, "patch": {"operation": "REMOVE"}}),
        json!({"applyTo": "CLUSTER", "match": {"proxy": {"proxyVersion": "1.2("}}, "patch": {"operation": "REMOVE"}}),
    ] {
        check(&patch, &[], 0);
        let spec =
            ConfigSpec::EnvoyFilter(serde_json::from_value(json!({"configPatches": [patch]})).unwrap());
        let findings = crate::validate::config(&ConfigObject { meta: meta("ns", "f", 0), spec });
        assert!(findings.iter().any(|finding| finding.severity == Severity::Error), "{patch}: {findings:?}");
    }
}

#[test]
fn what_has_no_effect_is_left_out_and_named() {
    let cluster = json!({"name": "c"});
    for (apply_to, operation) in [
        ("CLUSTER", "REPLACE"),
        ("LISTENER", "REPLACE"),
        ("FILTER_CHAIN", "REPLACE"),
        ("HTTP_ROUTE", "REPLACE"),
        ("ROUTE_CONFIGURATION", "ADD"),
        ("ROUTE_CONFIGURATION", "REMOVE"),
        ("ROUTE_CONFIGURATION", "INSERT_FIRST"),
        ("EXTENSION_CONFIG", "REMOVE"),
        ("EXTENSION_CONFIG", "MERGE"),
    ] {
        let patch = json!({"applyTo": apply_to, "patch": {"operation": operation, "value": cluster}});
        check(&patch, &["Warning patch.operation: "], 0);
    }
    check(
        &json!({"applyTo": "BOOTSTRAP", "patch": {"operation": "MERGE", "value": {}}}),
        &["Warning applyTo: "],
        0,
    );
    let waypoint =
        json!({"applyTo": "CLUSTER", "match": {"context": "WAYPOINT"}, "patch": {"operation": "REMOVE"}});
    check(&waypoint, &["Warning match.context: "], 0);
}

#[test]
fn filters_from_the_wild_are_understood() {
    for config in [
        json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "defaultSourceCode": {"inlineString": "function envoy_on_request(h) end"}}),
        json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm", "config": {
            "configuration": text("{}"), "vm_config": {"runtime": "envoy.wasm.runtime.v8",
                "code": {"remote": {"http_uri": {"uri": "http://x", "cluster": "c", "timeout": "10s"}, "sha256": "00"}}}}}),
        json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
            "grpc_service": {"envoy_grpc": {"cluster_name": "c"}, "timeout": "0.500s"}, "failure_mode_allow": true}),
        json!({"@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
            "type_url": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "value": {"stat_prefix": "s", "token_bucket": {"max_tokens": 4}}}),
        json!({"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": "x", "value": {}}),
        json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit", "domain": "d",
            "rate_limit_service": {"transport_api_version": "V3", "grpc_service": {"envoy_grpc": {"cluster_name": "c"}}}}),
        json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config"}),
        json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor"}),
        json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"}),
        json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.compressor.v3.Compressor"}),
        json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.oauth2.v3.OAuth2"}),
        json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"}),
    ] {
        let value = json!({"name": "f", "typedConfig": config});
        check(
            &json!({"applyTo": "HTTP_FILTER", "patch": {"operation": "INSERT_BEFORE", "value": value}}),
            &[],
            1,
        );
    }
}
