//! Fields without effect.
//!
//! One table; a field is removed from it when it gets an effect. It includes fields that have no effect in Istio either.

use pilot_proto::mesh::MeshConfig;
use pilot_proto::proto3_json::ser;
use serde_json::{Map, Value};

use super::findings::{At, Findings};
use crate::model::{ConfigKind, ConfigSpec};

/// Kind and field in `spec`: `[]` is any element of a list, `{}` any entry of a map, `=` its value.
const UNSUPPORTED: &[(ConfigKind, &str)] = &[
    (ConfigKind::DestinationRule, "trafficPolicy.tunnel"),
    (ConfigKind::DestinationRule, "subsets[].trafficPolicy.tunnel"),
    (ConfigKind::DestinationRule, "trafficPolicy.loadBalancer.backendUtilization"),
    (ConfigKind::DestinationRule, "trafficPolicy.portLevelSettings[].loadBalancer.backendUtilization"),
    (ConfigKind::DestinationRule, "subsets[].trafficPolicy.loadBalancer.backendUtilization"),
    (
        ConfigKind::DestinationRule,
        "subsets[].trafficPolicy.portLevelSettings[].loadBalancer.backendUtilization",
    ),
    (ConfigKind::EnvoyFilter, "configPatches[].match.listener.portName"),
    (ConfigKind::Gateway, "servers[].defaultEndpoint"),
    // The CA certificates of all certificates are those of the server.
    (ConfigKind::Gateway, "servers[].tls.tlsCertificates[].caCertificates"),
    // TLS there depends on `PeerAuthentication`, which is not supported.
    (ConfigKind::Sidecar, "ingress[].tls"),
    (ConfigKind::VirtualService, "tcp[].match[].sourceSubnet"),
    // Registration of machines is not supported.
    (ConfigKind::WorkloadGroup, "metadata"),
    (ConfigKind::WorkloadGroup, "template"),
    (ConfigKind::WorkloadGroup, "probe"),
    // Used by sidecar injection, which is not supported.
    (ConfigKind::ProxyConfig, "concurrency"),
    (ConfigKind::ProxyConfig, "environmentVariables"),
    (ConfigKind::ProxyConfig, "image"),
    // Used by `istio.stats`, a filter of Istio's build of Envoy.
    (ConfigKind::Telemetry, "metrics"),
];

/// Fields, in the same notation, that make Envoy wait for a secret. Neither the control plane nor the agent serves secrets.
const SECRETS: &[(ConfigKind, &str)] = &[
    (ConfigKind::DestinationRule, "trafficPolicy.tls.credentialName"),
    (ConfigKind::DestinationRule, "trafficPolicy.tls.mode=ISTIO_MUTUAL"),
    (ConfigKind::DestinationRule, "trafficPolicy.portLevelSettings[].tls.credentialName"),
    (ConfigKind::DestinationRule, "trafficPolicy.portLevelSettings[].tls.mode=ISTIO_MUTUAL"),
    (ConfigKind::DestinationRule, "subsets[].trafficPolicy.tls.credentialName"),
    (ConfigKind::DestinationRule, "subsets[].trafficPolicy.tls.mode=ISTIO_MUTUAL"),
    (ConfigKind::DestinationRule, "subsets[].trafficPolicy.portLevelSettings[].tls.credentialName"),
    (ConfigKind::DestinationRule, "subsets[].trafficPolicy.portLevelSettings[].tls.mode=ISTIO_MUTUAL"),
    (ConfigKind::Gateway, "servers[].tls.credentialName"),
    (ConfigKind::Gateway, "servers[].tls.credentialNames"),
    (ConfigKind::Gateway, "servers[].tls.caCertCredentialName"),
    (ConfigKind::Gateway, "servers[].tls.mode=ISTIO_MUTUAL"),
];

/// Fields of `MeshConfig`, in the same notation.
const OF_MESH: &[&str] = &[
    "meshMTLS",
    "verifyCertificateAtClient",
    "discoverySelectors",
    "defaultProviders.metrics",
    "extensionProviders[].envoyExtAuthzHttp",
    "extensionProviders[].envoyExtAuthzGrpc",
    // Envoy has removed both tracers; `opentelemetry` replaces them.
    "extensionProviders[].lightstep",
    "extensionProviders[].opencensus",
    "extensionProviders[].sds",
    "extensionProviders[].skywalking.accessToken",
    "extensionProviders[].opentelemetry.resourceDetectors",
    "extensionProviders[].opentelemetry.serviceAttributeEnrichment",
    "extensionProviders[].opentelemetry.dynatraceSampler",
    "extensionProviders[].opentelemetry.http.headers[].envName",
    "extensionProviders[].opentelemetry.grpc.initialMetadata[].envName",
    "extensionProviders[].zipkin.headers[].envName",
    "defaultConfig.privateKeyProvider",
    "defaultConfig.proxyHeaders.preserveHttp1HeaderCase",
    // All except `globalDownstreamConnectionLimit`, which the agent reads.
    "defaultConfig.connectionSettings.profile",
    "defaultConfig.connectionSettings.httpIdleTimeout",
    "defaultConfig.connectionSettings.httpMaxConnectionDuration",
    "defaultConfig.connectionSettings.httpMaxStreamDuration",
    "defaultConfig.connectionSettings.httpStreamIdleTimeout",
    "defaultConfig.connectionSettings.httpRequestTimeout",
    "defaultConfig.connectionSettings.httpRequestHeadersTimeout",
    "defaultConfig.connectionSettings.httpDrainTimeout",
    "defaultConfig.connectionSettings.httpMaxConcurrentStreams",
    "defaultConfig.connectionSettings.http2InitialStreamWindowSize",
    "defaultConfig.connectionSettings.http2InitialConnectionWindowSize",
    "defaultConfig.connectionSettings.httpHeadersWithUnderscoresAction",
    "defaultConfig.connectionSettings.httpMergeSlashes",
    "defaultConfig.connectionSettings.httpPathWithEscapedSlashesAction",
    "defaultConfig.connectionSettings.listenerPerConnectionBufferLimitBytes",
];

const NO_EFFECT: &str = "is not supported yet and has no effect";

/// Messages for the fields of both tables.
const MESSAGES: [(&[(ConfigKind, &str)], &str); 2] = [
    (UNSUPPORTED, NO_EFFECT),
    (SECRETS, "asks for a secret, and secrets are not served yet: connections will fail"),
];

/// Adds warnings about fields that are set and have no effect.
pub(super) fn check(out: &mut Findings, at: At<'_>, spec: &ConfigSpec) {
    let kind = spec.kind();
    if !MESSAGES.iter().any(|(table, _)| table.iter().any(|(of, _)| *of == kind)) {
        return;
    }
    // All values can be encoded as JSON.
    let Ok(written) = spec.written() else { return };
    for (table, message) in MESSAGES {
        for (_, pattern) in table.iter().filter(|(of, _)| *of == kind) {
            find(out, at, &written, pattern, message);
        }
    }
}

/// Adds warnings about fields of `MeshConfig`.
pub(super) fn mesh(out: &mut Findings, mesh: &MeshConfig) {
    let fields = |mesh: &MeshConfig| match ser::message(mesh) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    // Default values are not reported.
    let default = fields(&MeshConfig::default());
    for (name, value) in fields(mesh).iter().filter(|(name, value)| default.get(*name) != Some(value)) {
        let of_field = OF_MESH.iter().filter_map(|pattern| pattern.strip_prefix(name.as_str()));
        let value = if name == "defaultConfig" { renamed(value) } else { value.clone() };
        for rest in of_field.filter(|rest| rest.is_empty() || rest.starts_with(['.', '['])) {
            find(out, At::Root(name), &value, rest, NO_EFFECT);
        }
    }
}

/// Returns the value with JSON's field names; a value that was kept as written may have those of protobuf.
fn renamed(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (json_name(name), renamed(value))).collect()
        }
        other => other.clone(),
    }
}

fn json_name(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut name, word| {
        let mut letters = word.chars();
        name.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        name + letters.as_str()
    })
}

fn find(out: &mut Findings, at: At<'_>, value: &Value, pattern: &str, message: &str) {
    if pattern.is_empty() {
        return out.warning(at, message);
    }
    if let Some(expected) = pattern.strip_prefix('=') {
        if value.as_str() == Some(expected) {
            out.warning(at, message);
        }
        return;
    }
    let pattern = pattern.strip_prefix('.').unwrap_or(pattern);
    if let Some(rest) = pattern.strip_prefix("[]") {
        for (index, element) in value.as_array().into_iter().flatten().enumerate() {
            find(out, at.nth(index), element, rest, message);
        }
    } else if let Some(rest) = pattern.strip_prefix("{}") {
        for (key, entry) in value.as_object().into_iter().flatten() {
            find(out, at.of(key), entry, rest, message);
        }
    } else {
        let end = pattern.find(['.', '[', '{', '=']).unwrap_or(pattern.len());
        let (name, rest) = pattern.split_at(end);
        if let Some(field) = value.get(name) {
            find(out, at.of(name), field, rest, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pattern of no field would never match.
    #[test]
    fn every_pattern_is_a_field_of_its_kind() {
        let tls = serde_json::json!({"mode": "ISTIO_MUTUAL", "credentialName": "x"});
        let balancer = serde_json::json!({"backendUtilization": {"weightUpdatePeriod": "1s"}});
        let policy = serde_json::json!({
            "tunnel": {}, "tls": tls, "loadBalancer": balancer,
            "portLevelSettings": [{"tls": tls, "loadBalancer": balancer}],
        });
        let server_tls = serde_json::json!({
            "mode": "ISTIO_MUTUAL", "credentialName": "x", "credentialNames": ["x"], "caCertCredentialName": "x",
            "tlsCertificates": [{"caCertificates": "x"}],
        });
        let all = serde_json::json!({
            "DestinationRule": {"trafficPolicy": policy, "subsets": [{"trafficPolicy": policy}]},
            "EnvoyFilter": {"configPatches": [{"match": {"listener": {"portName": "x"}}}]},
            "Gateway": {"servers": [{"defaultEndpoint": "x", "tls": server_tls}]},
            "Sidecar": {"ingress": [{"tls": {"mode": "SIMPLE"}}]},
            "VirtualService": {"tcp": [{"match": [{"sourceSubnet": "x"}]}]},
            "WorkloadGroup": {"metadata": {"labels": {"a": "b"}}, "template": {}, "probe": {}},
            "ProxyConfig": {"concurrency": 1, "environmentVariables": {"A": "b"}, "image": {}},
            "Telemetry": {"metrics": [{}]},
        });
        for (table, message) in MESSAGES {
            for (kind, pattern) in table {
                let mut out = Findings::default();
                let spec = super::super::tests::spec(*kind, &all[kind.as_str()]);
                check(&mut out, At::Root("spec"), &spec);
                let flat = |field: &str| field.replace("[0]", "[]").replace("spec.", "");
                let field = pattern.split('=').next();
                let found = out.into_inner();
                let is_it = |finding: &&super::super::Finding| {
                    Some(flat(&finding.field).as_str()) == field && finding.message == message
                };
                assert!(found.iter().any(|finding| is_it(&finding)), "{pattern}: {found:?}");
            }
        }
    }

    /// Returns a value with this field only.
    fn having(pattern: &str) -> Value {
        let Some((name, rest)) = pattern.split_once('.') else {
            return serde_json::json!({pattern: null});
        };
        match name.strip_suffix("[]") {
            Some(list) => serde_json::json!({list: [having(rest)]}),
            None => serde_json::json!({name: having(rest)}),
        }
    }

    #[test]
    fn every_pattern_of_the_mesh_is_a_field_of_it() {
        // Values of the fields, by the type of the last one.
        let values = [
            serde_json::json!({}),
            serde_json::json!([{}]),
            serde_json::json!(["x"]),
            serde_json::json!(false),
            serde_json::json!("x"),
        ];
        for pattern in OF_MESH {
            let shape = having(pattern).to_string();
            let tried = values.iter().filter_map(|value| {
                let mesh = serde_json::from_str(&shape.replace("null", &value.to_string())).unwrap();
                MeshConfig::from_value(mesh).ok().filter(|mesh| mesh.unread.is_empty())
            });
            let warned = tried.into_iter().any(|mesh| {
                let mut out = Findings::default();
                super::mesh(&mut out, &mesh);
                out.into_inner()
                    .iter()
                    .any(|finding| finding.field.replace("[3]", "[]").replace("[0]", "[]") == *pattern)
            });
            assert!(warned, "{pattern}");
        }
    }

    #[test]
    fn istios_own_mesh_has_nothing_that_means_nothing() {
        let mut out = Findings::default();
        mesh(&mut out, &MeshConfig::default());
        assert_eq!(out.into_inner(), []);
    }

    #[test]
    fn what_is_kept_as_written_is_found_by_either_name() {
        for headers in ["proxyHeaders", "proxy_headers"] {
            let written =
                serde_json::json!({"defaultConfig": {headers: {"preserve_http1_header_case": true}}});
            let mut out = Findings::default();
            mesh(&mut out, &MeshConfig::from_value(written).unwrap());
            let found: Vec<String> = out.into_inner().into_iter().map(|finding| finding.field).collect();
            assert_eq!(found, ["defaultConfig.proxyHeaders.preserveHttp1HeaderCase"]);
        }
    }
}
