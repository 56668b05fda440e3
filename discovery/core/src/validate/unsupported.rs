//! What can be written and has no effect, because nothing here acts on it.
//!
//! One table, of what is to be taken out of it as it comes to have an effect. What has none in Istio either is in it too.

use pilot_proto::write;
use serde_json::Value;

use super::findings::{At, Findings};
use crate::model::{ConfigSpec, Kind};

/// Kind, and the field in `spec`: `[]` is any element of a list, `{}` any entry of a map, `=` its value.
const UNSUPPORTED: &[(Kind, &str)] = &[
    (Kind::DestinationRule, "trafficPolicy.tunnel"),
    (Kind::DestinationRule, "subsets[].trafficPolicy.tunnel"),
    (Kind::DestinationRule, "trafficPolicy.loadBalancer.backendUtilization"),
    (Kind::DestinationRule, "trafficPolicy.portLevelSettings[].loadBalancer.backendUtilization"),
    (Kind::DestinationRule, "subsets[].trafficPolicy.loadBalancer.backendUtilization"),
    (Kind::DestinationRule, "subsets[].trafficPolicy.portLevelSettings[].loadBalancer.backendUtilization"),
    (Kind::EnvoyFilter, "configPatches[].match.listener.portName"),
    (Kind::Gateway, "servers[].defaultEndpoint"),
    // The roots of all certificates are those of the server.
    (Kind::Gateway, "servers[].tls.tlsCertificates[].caCertificates"),
    // TLS there begins with `PeerAuthentication`, which is not read.
    (Kind::Sidecar, "ingress[].tls"),
    (Kind::VirtualService, "tcp[].match[].sourceSubnet"),
    // Machines do not register themselves here.
    (Kind::WorkloadGroup, "metadata"),
    (Kind::WorkloadGroup, "template"),
    (Kind::WorkloadGroup, "probe"),
    // Read by whoever injects sidecars, which nobody does here.
    (Kind::ProxyConfig, "concurrency"),
    (Kind::ProxyConfig, "environmentVariables"),
    (Kind::ProxyConfig, "image"),
    (Kind::Telemetry, "tracing"),
    (Kind::Telemetry, "metrics"),
];

/// Fields, as above, by which Envoy waits for a secret that nobody gives it: the control plane serves none, the agent none of the
/// mesh's own.
const SECRETS: &[(Kind, &str)] = &[
    (Kind::DestinationRule, "trafficPolicy.tls.credentialName"),
    (Kind::DestinationRule, "trafficPolicy.tls.mode=ISTIO_MUTUAL"),
    (Kind::DestinationRule, "trafficPolicy.portLevelSettings[].tls.credentialName"),
    (Kind::DestinationRule, "trafficPolicy.portLevelSettings[].tls.mode=ISTIO_MUTUAL"),
    (Kind::DestinationRule, "subsets[].trafficPolicy.tls.credentialName"),
    (Kind::DestinationRule, "subsets[].trafficPolicy.tls.mode=ISTIO_MUTUAL"),
    (Kind::DestinationRule, "subsets[].trafficPolicy.portLevelSettings[].tls.credentialName"),
    (Kind::DestinationRule, "subsets[].trafficPolicy.portLevelSettings[].tls.mode=ISTIO_MUTUAL"),
    (Kind::Gateway, "servers[].tls.credentialName"),
    (Kind::Gateway, "servers[].tls.credentialNames"),
    (Kind::Gateway, "servers[].tls.caCertCredentialName"),
    (Kind::Gateway, "servers[].tls.mode=ISTIO_MUTUAL"),
];

/// What either table says of a field.
const MESSAGES: [(&[(Kind, &str)], &str); 2] = [
    (UNSUPPORTED, "is not supported yet and has no effect"),
    (SECRETS, "asks for a secret, and secrets are not served yet: connections will fail"),
];

/// Warns of what is set and in the tables.
pub(super) fn check(out: &mut Findings, at: At<'_>, spec: &ConfigSpec) {
    let kind = spec.kind();
    if !MESSAGES.iter().any(|(table, _)| table.iter().any(|(of, _)| *of == kind)) {
        return;
    }
    let written = match spec {
        ConfigSpec::ServiceEntry(spec) => write::message(spec),
        ConfigSpec::WorkloadEntry(spec) => write::message(spec),
        ConfigSpec::WorkloadGroup(spec) => write::message(spec),
        ConfigSpec::VirtualService(spec) => write::message(spec),
        ConfigSpec::DestinationRule(spec) => write::message(spec),
        ConfigSpec::Gateway(spec) => write::message(spec),
        ConfigSpec::Sidecar(spec) => write::message(spec),
        ConfigSpec::EnvoyFilter(spec) => write::message(spec),
        ConfigSpec::ProxyConfig(spec) => write::message(spec),
        ConfigSpec::Telemetry(spec) => write::message(spec),
    };
    // Texts, numbers and maps by text: nothing that JSON could not hold.
    let Ok(written) = written else { return };
    for (table, message) in MESSAGES {
        for (_, pattern) in table.iter().filter(|(of, _)| *of == kind) {
            find(out, at, &written, pattern, message);
        }
    }
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

    /// A pattern that leads nowhere would keep silent for ever.
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
            "Telemetry": {"tracing": [{}], "metrics": [{}]},
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
}
