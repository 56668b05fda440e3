use super::*;

#[test]
fn a_service_has_names_and_ports_of_its_own() {
    for (value, expected) in [
        (
            json!({"hosts": ["a.b"], "ports": [{"number": 80, "name": "http", "targetPort": 8080}], "addresses": ["10.0.0.0/8", "1.1.1.1"]}),
            &[][..],
        ),
        (json!({}), &["spec.hosts: needs at least one host"]),
        (
            json!({"hosts": ["*", "*a.b", "a_b"]}),
            &[
                "spec.hosts[0]: \"*\" is no host name",
                "warning spec.hosts[1]: wildcards should be",
                "spec.hosts[2]: \"a_b\" is no host name",
            ],
        ),
        (
            json!({"hosts": ["a.b"], "addresses": ["10.0.0.0/33"]}),
            &["spec.addresses[0]: \"10.0.0.0/33\" is neither"],
        ),
        (
            json!({"hosts": ["a.b"], "resolution": "DNS", "addresses": ["10.0.0.0/8"]}),
            &["spec.addresses[0]: networks are for"],
        ),
        (
            json!({"hosts": ["a.b"], "ports": [{"name": "a"}, {"number": 1, "name": "a"}, {"number": 1, "name": "c", "protocol": "SMTP", "targetPort": 70000}, {"number": 2}]}),
            &[
                "spec.ports[0].number: 0 is no port",
                "spec.ports[1].name: \"a\" is taken",
                "spec.ports[2].targetPort: 70000 is no port",
                "spec.ports[2].number: 1 is taken",
                "spec.ports[2].protocol: \"SMTP\" is no protocol",
                "spec.ports[3].name: is missing",
            ],
        ),
        (
            json!({"hosts": ["a.b", "c.d"], "resolution": "STATIC", "ports": [{"number": 1, "name": "a", "protocol": "TCP"}]}),
            &["spec.ports[0].protocol: several hosts"],
        ),
        (
            json!({"hosts": ["a.b", "c.d"], "resolution": "STATIC", "ports": [{"number": 1, "name": "a", "protocol": "TLS"}]}),
            &[],
        ),
        (json!({"hosts": ["a.b"], "exportTo": ["~"]}), &[]),
        (json!({"hosts": ["a.b"], "exportTo": ["~", "x"]}), &["spec.exportTo: \"~\" is no namespace"]),
        (
            json!({"hosts": ["a.b"], "workloadSelector": {"labels": {"a": "b"}}}),
            &["warning spec.workloadSelector: resolution NONE"],
        ),
        (
            json!({"hosts": ["a.b"], "ports": [{"number": 1, "name": "a", "protocol": "HTTP_PROXY"}]}),
            &["warning spec.ports[0].protocol: HTTP_PROXY"],
        ),
    ] {
        check(ConfigKind::ServiceEntry, &value, expected);
    }
}

#[test]
fn endpoints_are_what_the_resolution_can_use() {
    let entry = |resolution: &str, endpoints: Value, expected: &[&str]| {
        let value = json!({"hosts": ["a.b"], "resolution": resolution, "ports": [{"number": 1, "name": "a"}], "endpoints": endpoints});
        check(ConfigKind::ServiceEntry, &value, expected);
    };
    entry("STATIC", json!([{"address": "1.1.1.1", "ports": {"a": 80}}, {"address": "unix:///x"}]), &[]);
    entry(
        "STATIC",
        json!([{"network": "n"}]),
        &["warning spec.endpoints[0].address: is missing: reached through"],
    );
    entry(
        "STATIC",
        json!([{"address": "c.d"}]),
        &["spec.endpoints[0].address: \"c.d\" is no IP address, as"],
    );
    entry(
        "STATIC",
        json!([{"address": "unix://relative"}]),
        &["spec.endpoints[0].address: \"relative\" is no absolute path"],
    );
    entry(
        "STATIC",
        json!([{"address": "unix:///x", "ports": {"a": 1}}]),
        &["spec.endpoints[0].ports: a Unix socket"],
    );
    entry(
        "DNS",
        json!([{"address": "c.d", "ports": {"b": 0}}]),
        &["spec.endpoints[0].ports.b: 0 is no port", "spec.endpoints[0].ports.b: is no port of this"],
    );
    entry("DNS", json!([{"address": "c d"}]), &["spec.endpoints[0].address: \"c d\" is neither"]);
    entry("NONE", json!([{"address": "1.1.1.1"}]), &["spec.endpoints: resolution NONE"]);
    entry(
        "DNS_ROUND_ROBIN",
        json!([{"address": "c.d"}, {"address": "e.f"}]),
        &["spec.endpoints: resolution DNS_ROUND_ROBIN"],
    );
    check(
        ConfigKind::ServiceEntry,
        &json!({"hosts": ["c.d", "*.b"], "resolution": "DNS"}),
        &["spec.hosts[1]: DNS cannot resolve"],
    );
    let both = json!({"hosts": ["a.b"], "resolution": "STATIC", "workloadSelector": {"labels": {"a": "b"}}, "endpoints": [{"address": "1.1.1.1"}]});
    check(ConfigKind::ServiceEntry, &both, &["spec.workloadSelector: excludes endpoints"]);
}

#[test]
fn a_workload_can_be_reached() {
    for (value, expected) in [
        (json!({"address": "a.b", "labels": {"app": "x", "a.b/c": ""}}), &[][..]),
        (json!({"address": "unix://@abstract"}), &[]),
        (json!({}), &["spec.address: is missing"]),
        (json!({"address": "unix:///dir/"}), &["spec.address: \"/dir/\" is no absolute path"]),
        (
            json!({"address": "1.1.1.1", "ports": {"@": 99999}}),
            &["spec.ports.@: \"@\" is not a single", "spec.ports.@: 99999 is no port"],
        ),
    ] {
        check(ConfigKind::WorkloadEntry, &value, expected);
    }
    let unsupported = "warning spec.template: is not supported yet";
    for (value, expected) in [
        (json!({"template": {"serviceAccount": "x"}}), &[unsupported][..]),
        (json!({}), &["spec.template: is missing"]),
        (
            json!({"template": {"weight": 1}, "metadata": {"labels": {"x": "-"}}, "probe": {"periodSeconds": -1, "httpGet": {"scheme": "ftp", "httpHeaders": [{}]}, "exec": {}}}),
            &[
                "spec.metadata.labels.x: \"-\" is no value",
                "spec.probe.periodSeconds: -1 is less",
                "spec.probe: has httpGet and exec",
                "spec.probe.httpGet.port: 0 is no port",
                "spec.probe.httpGet.scheme: \"ftp\" is neither",
                "spec.probe.httpGet.httpHeaders[0].name: \"\" is no name",
                "spec.probe.exec.command: is missing",
                "warning spec.metadata: is not supported yet",
                unsupported,
                "warning spec.probe: is not supported yet",
            ],
        ),
    ] {
        check(ConfigKind::WorkloadGroup, &value, expected);
    }
}

#[test]
fn a_patch_says_what_is_done_to_what() {
    let patch = |patch: Value, expected: &[&str]| {
        check(ConfigKind::EnvoyFilter, &json!({"configPatches": [patch]}), expected);
    };
    patch(
        json!({"applyTo": "CLUSTER", "match": {"cluster": {}}, "patch": {"operation": "MERGE", "value": {"a": 1}}}),
        &[],
    );
    patch(json!({"applyTo": "CLUSTER", "patch": {"operation": "REMOVE"}}), &[]);
    patch(
        json!({}),
        &["spec.configPatches[0].applyTo: is missing", "spec.configPatches[0].patch: is missing"],
    );
    patch(json!({"applyTo": "CLUSTER", "patch": {}}), &["spec.configPatches[0].patch.operation: is missing"]);
    patch(
        json!({"applyTo": "CLUSTER", "patch": {"operation": "ADD"}}),
        &["spec.configPatches[0].patch.value: is missing"],
    );
    patch(
        json!({"applyTo": "CLUSTER", "patch": {"operation": "ADD", "value": []}}),
        &["spec.configPatches[0].patch.value: is no mapping"],
    );
    let matched = |apply_to: &str, matching: Value, expected: &[&str]| {
        patch(json!({"applyTo": apply_to, "match": matching, "patch": {"operation": "REMOVE"}}), expected);
    };
    matched(
        "CLUSTER",
        json!({"listener": {}}),
        &["spec.configPatches[0].match.listener: is not what CLUSTER is found by"],
    );
    matched(
        "HTTP_ROUTE",
        json!({"listener": {}, "routeConfiguration": {}}),
        &[
            "spec.configPatches[0].match: has listener and routeConfiguration",
            "spec.configPatches[0].match.listener: is not what HTTP_ROUTE",
        ],
    );
    matched(
        "CLUSTER",
        json!({"proxy": {"proxyVersion": "1\\.("}}),
        &["spec.configPatches[0].match.proxy.proxyVersion: "],
    );
    matched(
        "CLUSTER",
        json!({"proxy": {"proxyVersion": "1".repeat(2000)}}),
        &["warning spec.configPatches[0].match.proxy.proxyVersion: is longer"],
    );
    let filter = |filter: Value| json!({"listener": {"filterChain": {"filter": filter}}});
    matched(
        "HTTP_FILTER",
        filter(json!({"name": "envoy.filters.network.http_connection_manager", "subFilter": {"name": "x"}})),
        &[],
    );
    matched(
        "HTTP_FILTER",
        filter(json!({"name": "other", "subFilter": {}})),
        &[
            "spec.configPatches[0].match.listener.filterChain.filter.subFilter: is found in",
            "spec.configPatches[0].match.listener.filterChain.filter.subFilter.name: is missing",
        ],
    );
    matched(
        "LISTENER",
        filter(json!({"subFilter": {"name": "x"}})),
        &[
            "warning spec.configPatches[0].match.listener.filterChain.filter: has no effect on LISTENER",
            "spec.configPatches[0].match.listener.filterChain.filter.name: is missing",
            "spec.configPatches[0].match.listener.filterChain.filter.subFilter: is for HTTP_FILTER",
        ],
    );
    matched("CLUSTER", json!({"context": "WAYPOINT", "waypoint": {}}), &[]);
    matched("CLUSTER", json!({"context": "WAYPOINT"}), &["spec.configPatches[0].match.waypoint: is missing"]);
    matched(
        "LISTENER_FILTER",
        json!({"waypoint": {}}),
        &["spec.configPatches[0].match.waypoint: is for context WAYPOINT"],
    );
    check(
        ConfigKind::EnvoyFilter,
        &json!({"workloadSelector": {"labels": {"a": "b"}}, "targetRefs": [{"kind": "Pod", "name": "x", "namespace": "y"}]}),
        &[
            "spec: has workloadSelector and targetRefs",
            "spec.targetRefs[0].namespace: only objects",
            "spec.targetRefs[0].kind: \"Pod\" of \"\" is none of",
        ],
    );
}

#[test]
fn what_is_reported_goes_somewhere() {
    let telemetry = |value: Value, expected: &[&str]| check(ConfigKind::Telemetry, &value, expected);
    telemetry(json!({"accessLogging": [{"providers": [{"name": "envoy"}]}]}), &[]);
    telemetry(
        json!({"accessLogging": [{"providers": [{}]}]}),
        &["spec.accessLogging[0].providers[0].name: is missing"],
    );
    let filtered = |expression: &str| json!({"accessLogging": [{"filter": {"expression": expression}}]});
    for good in ["response.code >= 400", "request.headers['a)'] == \"b\\\"(\" && (x in [1, 2])"] {
        telemetry(filtered(good), &[]);
    }
    let field = "spec.accessLogging[0].filter.expression";
    for (bad, why) in [
        ("", "is missing"),
        ("(a", "is no CEL expression: ) is missing at its end"),
        ("a)", "is no CEL expression: ) closes nothing"),
        ("a[b)", "is no CEL expression: ) closes nothing"),
        ("a == 'b", "is no CEL expression: ' is missing at its end"),
    ] {
        telemetry(filtered(bad), &[&format!("{field}: {why}")]);
    }
    telemetry(
        json!({"selector": {"matchLabels": {"a": "b"}}, "targetRef": {"kind": "Service", "name": "x"}}),
        &["spec: has selector and targetRef"],
    );
    telemetry(
        json!({"tracing": [{"randomSamplingPercentage": 101, "customTags": {"a": {"literal": {}, "header": {"name": "x"}}}}]}),
        &[
            "spec.tracing[0].randomSamplingPercentage: 101 is no share",
            "spec.tracing[0].customTags.a: has literal and header",
            "spec.tracing[0].customTags.a.literal.value: is missing",
        ],
    );
    telemetry(
        json!({"metrics": [{"reportingInterval": "0s", "overrides": [{"match": {"metric": "REQUEST_COUNT", "customMetric": ""},
        "tagOverrides": {"a": {}, "b": {"operation": "REMOVE", "value": "x"}}}]}]}),
        &[
            "spec.metrics[0].overrides[0].match: has metric and customMetric",
            "spec.metrics[0].overrides[0].match.customMetric: is missing",
            "spec.metrics[0].overrides[0].tagOverrides.a.value: is missing",
            "spec.metrics[0].overrides[0].tagOverrides.b.value: a tag that is removed",
            "spec.metrics[0].reportingInterval: 0ns is too short",
            "warning spec.metrics: is not supported yet",
        ],
    );
    check(
        ConfigKind::ProxyConfig,
        &json!({"concurrency": -1, "environmentVariables": {"A": "b".repeat(2049)}}),
        &[
            "spec.concurrency: -1 is less",
            "spec.environmentVariables.A: is 2049 bytes long",
            "warning spec.concurrency: is not supported yet",
            "warning spec.environmentVariables: is not supported yet",
        ],
    );
}
