use pilot_core::model::ConfigSpec;

use super::*;

fn manifest(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap()
}

fn faults(yaml: &str) -> Vec<String> {
    let items = decode(manifest(yaml)).into_iter();
    let told = items.flat_map(|item| {
        let whose = match item.decoded {
            Decoded::Invalid(Some(key)) => format!("{key}: "),
            Decoded::Invalid(None) => String::new(),
            other => panic!("{yaml}: {other:?}"),
        };
        item.findings.into_iter().map(move |finding| format!("{whose}{finding}"))
    });
    told.collect()
}

fn objects(yaml: &str) -> Vec<Object> {
    let items = decode(manifest(yaml)).into_iter();
    items
        .map(|item| match item.decoded {
            Decoded::Object(object) => object,
            other => panic!("{yaml}: {other:?}"),
        })
        .collect()
}

#[test]
fn what_is_read_knows_who_it_is() {
    for (yaml, key) in [
        ("{apiVersion: v1, kind: Namespace, metadata: {name: a}}", "Namespace a"),
        ("{apiVersion: v1, kind: Node, metadata: {name: a.b, namespace: nonsense}}", "Node a.b"),
        ("{apiVersion: v1, kind: Service, metadata: {name: a}}", "Service default/a"),
        ("{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: ''}}", "Pod default/a"),
        ("{apiVersion: v1, kind: Endpoints, metadata: {name: a, namespace: b}}", "Endpoints b/a"),
        (
            "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, addressType: IPv4}",
            "EndpointSlice default/a",
        ),
        (
            "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: a}, spec: {hosts: [a.b]}}",
            "ServiceEntry default/a",
        ),
        (
            "{apiVersion: networking.istio.io/v1alpha3, kind: WorkloadEntry, metadata: {name: a}, spec: {address: 1.1.1.1}}",
            "WorkloadEntry default/a",
        ),
    ] {
        let keys: Vec<_> = objects(yaml).iter().map(|object| object.key().to_string()).collect();
        assert_eq!(keys, [key], "{yaml}");
    }
}

#[test]
fn a_list_is_its_items() {
    let yaml = "{apiVersion: v1, kind: List, items: [
        {apiVersion: v1, kind: Service, metadata: {name: a}},
        {apiVersion: v1, kind: Pod, metadata: {name: b}}]}";
    assert_eq!(objects(yaml).len(), 2);
    // As the API server writes it: the items do not repeat what they are.
    let yaml = "{apiVersion: v1, kind: ServiceList, items: [{metadata: {name: a}}, {metadata: {name: b}}]}";
    assert_eq!(objects(yaml).len(), 2);
    assert_eq!(objects("{apiVersion: v1, kind: List, items: null}"), []);
    let items = decode(manifest("{apiVersion: v1, kind: List, items: [3, {apiVersion: v1, kind: Pod}]}"));
    let indexes: Vec<_> =
        items.iter().map(|item| (item.index, matches!(item.decoded, Decoded::Invalid(None)))).collect();
    assert_eq!(indexes, [(Some(0), true), (Some(1), true)]);
}

#[test]
fn kinds_that_are_not_read_are_told_from_kinds_that_do_not_exist() {
    enum Is {
        NotRead,
        Unknown,
        Fault,
    }
    for (api_version, kind, is) in [
        ("v1", "ConfigMap", Is::NotRead),
        ("apps/v1", "Deployment", Is::NotRead),
        ("gateway.networking.k8s.io/v1", "Gateway", Is::NotRead),
        ("security.istio.io/v1", "AuthorizationPolicy", Is::NotRead),
        ("gateway.networking.k8s.io/v1", "HTTPRoute", Is::NotRead),
        ("cert-manager.io/v1", "Certificate", Is::Unknown),
        // The beginning of "Service", of a file that somebody is still writing.
        ("v1", "Serv", Is::Fault),
        ("networking.istio.io/v1", "ServiceEntri", Is::Fault),
        ("discovery.k8s.io/v1beta1", "EndpointSlice", Is::Fault),
        ("networking.istio.io/v2", "ServiceEntry", Is::Fault),
        ("v1", "ServiceEntry", Is::Fault),
        ("v1", "EndpointSlice", Is::Fault),
        ("networking.istio.io/v1", "EnvoyFilter", Is::Fault),
        ("networking.istio.io/v1alpha3", "ProxyConfig", Is::Fault),
        ("networking.istio.io/v1", "Telemetry", Is::Fault),
        ("telemetry.istio.io/v1beta1", "Telemetry", Is::Fault),
    ] {
        let yaml = format!("{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: a}}}}");
        let decoded = decode(manifest(&yaml)).remove(0).decoded;
        let as_expected = match is {
            Is::NotRead => decoded == Decoded::Unsupported(api_version.into(), kind.into()),
            Is::Unknown => decoded == Decoded::Unknown(api_version.into(), kind.into()),
            Is::Fault => matches!(decoded, Decoded::Invalid(None)),
        };
        assert!(as_expected, "{yaml}: {decoded:?}");
    }
}

#[test]
fn null_and_unknown_fields_say_nothing() {
    let with = "{apiVersion: v1, kind: Service, metadata: {name: a, labels: null, managedFields: [{manager: x}]},
        spec: {ports: [{port: 80, name: null}], selector: null, newField: {a: 1}}, status: {loadBalancer: {}}}";
    let without = "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}]}}";
    assert_eq!(objects(with), objects(without));
}

#[test]
fn a_fault_names_the_object_and_the_field() {
    let service =
        |spec: &str| format!("{{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {spec}}}");
    let entry = |spec: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: a}}, spec: {spec}}}"
        )
    };
    let slice = |rest: &str| {
        format!("{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: a}}, {rest}}}")
    };
    let pod = |rest: &str| format!("{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, {rest}}}");
    for (yaml, expected) in [
        ("hello".into(), "is a string, not a manifest"),
        ("{kind: Service}".into(), "apiVersion: is missing"),
        ("{apiVersion: v1}".into(), "kind: is missing"),
        ("{apiVersion: v1, kind: [Service]}".into(), "kind: is not a name"),
        ("{apiVersion: v1, kind: Service}".into(), "metadata: a Service needs a name"),
        ("{apiVersion: v1, kind: Service, metadata: {}}".into(), "metadata.name: a Service needs a name"),
        ("{apiVersion: v1, kind: Pod, metadata: {name: 7}}".into(), "metadata.name: 7 is not a string"),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: a|b}}".into(),
            "Pod default/a|b: metadata.name: \"a|b\" is no DNS name in lower case",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: a.b}}".into(),
            "Service default/a.b: metadata.name: \"a.b\" is not a single DNS label",
        ),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: a, labels: {on: true}}}".into(),
            "Pod default/a: metadata.labels.on: invalid type: boolean `true`, expected a string",
        ),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: a, creationTimestamp: yesterday}}".into(),
            "Pod default/a: metadata.creationTimestamp: \"yesterday\" is not an RFC 3339 time",
        ),
        (
            service("{ports: [{port: 80, name: a}, {port: 70000}]}"),
            "Service default/a: spec.ports[1].port: 70000 is no port: 1 to 65535",
        ),
        (service("{ports: [{port: 80.5}]}"), "Service default/a: spec.ports[0].port: invalid type"),
        (service("{ports: [{}]}"), "Service default/a: spec.ports[0]: missing field `port`"),
        (
            service("{ports: [{port: 80, targetPort: 0}]}"),
            "Service default/a: spec.ports[0].targetPort: 0 is no port",
        ),
        (
            service("{ports: [{port: 80, protocol: HTTP}]}"),
            "Service default/a: spec.ports[0].protocol: unknown variant `HTTP`",
        ),
        (
            service("{ports: [{port: 80, name: a}, {port: 81, name: a}]}"),
            "Service default/a: spec.ports[1].name: \"a\" is taken by a port before",
        ),
        (
            service("{ports: [{port: 80, name: a}, {port: 80, name: b}]}"),
            "Service default/a: spec.ports[1].port: 80 is taken by a port before",
        ),
        (
            service("{ports: [{port: 80}, {port: 81, name: b}]}"),
            "Service default/a: spec.ports[0].name: is needed when there is more than one port",
        ),
        (service("{clusterIP: 10.0.0}"), "Service default/a: spec.clusterIP: \"10.0.0\" is neither"),
        (service("{type: ExternalName}"), "Service default/a: spec.externalName: \"\" is no host name"),
        (service("{type: External}"), "Service default/a: spec.type: unknown variant"),
        (service("7"), "Service default/a: spec: invalid type"),
        (
            slice("addressType: IPv4, endpoints: [{addresses: [10.0.0.1, '::1']}]"),
            "EndpointSlice default/a: endpoints[0].addresses[1]: \"::1\" is no IPv4 address",
        ),
        (slice("endpoints: []"), "EndpointSlice default/a: missing field `addressType`"),
        (
            slice("addressType: IPv4, ports: [{port: 0}]"),
            "EndpointSlice default/a: ports[0].port: 0 is no port",
        ),
        (pod("status: {podIP: 300.1.1.1}"), "Pod default/a: status.podIP: \"300.1.1.1\" is no IP address"),
        (
            "{apiVersion: v1, kind: Endpoints, metadata: {name: a}, subsets: [{addresses: [{ip: x}]}]}"
                .into(),
            "Endpoints default/a: subsets[0].addresses[0].ip: invalid IP address syntax",
        ),
        (entry("{}"), "ServiceEntry default/a: spec.hosts: needs at least one host"),
        (entry("{hosts: a.b}"), "ServiceEntry default/a: spec.hosts: is \"a.b\", not a list"),
        (
            entry("{hosts: [a.b], ports: [{number: x}]}"),
            "ServiceEntry default/a: spec.ports[0].number: is \"x\"",
        ),
        (entry("{hosts: [a.b], resolution: MAYBE}"), "ServiceEntry default/a: spec.resolution: is \"MAYBE\""),
    ] {
        let found = faults(&yaml);
        assert_eq!(found.len(), 1, "{yaml}: {found:?}");
        assert!(found[0].starts_with(expected), "{yaml}\n expected {expected}\n    found {}", found[0]);
    }
}

#[test]
fn an_unknown_field_of_istios_is_told_and_costs_nothing() {
    let items = decode(manifest(
        "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: a, own: 1}, spec: {
            servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.b], host: c.d}], Selector: {}}, sped: {}}",
    ));
    let [Item { index: None, decoded: Decoded::Object(object), findings, unknown }] = items.as_slice() else {
        panic!("{items:?}");
    };
    assert_eq!((object.key().to_string(), findings.as_slice()), ("Gateway default/a".into(), [].as_slice()));
    assert_eq!(*unknown, ["sped", "spec.Selector", "spec.servers[0].host"]);
}

#[test]
fn every_kind_is_read_in_every_version_that_its_crd_has() {
    for (group, versions, kinds) in [
        (
            "networking.istio.io",
            &["v1", "v1beta1", "v1alpha3"][..],
            &[
                "ServiceEntry",
                "WorkloadEntry",
                "WorkloadGroup",
                "VirtualService",
                "DestinationRule",
                "Gateway",
                "Sidecar",
            ][..],
        ),
        ("networking.istio.io", &["v1alpha3"], &["EnvoyFilter"]),
        ("networking.istio.io", &["v1beta1"], &["ProxyConfig"]),
        ("telemetry.istio.io", &["v1", "v1alpha1"], &["Telemetry"]),
    ] {
        for (version, kind) in
            versions.iter().flat_map(|version| kinds.iter().map(move |kind| (version, kind)))
        {
            let yaml =
                format!("{{apiVersion: {group}/{version}, kind: {kind}, metadata: {{name: a}}, spec: 7}}");
            assert_eq!(faults(&yaml), [format!("{kind} default/a: spec: is 7, not a mapping")], "{yaml}");
        }
    }
}

#[test]
fn nulls_in_a_patch_are_part_of_it() {
    let yaml = "{apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {name: a, labels: {b: null}},
        spec: {workloadSelector: null, configPatches: [{applyTo: CLUSTER, patch: {operation: MERGE, value: {a_b: null}}}]}}";
    let read = objects(yaml);
    let [Object::Config(object)] = read.as_slice() else {
        panic!("{read:?}");
    };
    let ConfigSpec::EnvoyFilter(filter) = &object.spec else {
        panic!("{read:?}");
    };
    assert_eq!(filter.workload_selector, None);
    let patch = filter.config_patches[0].patch.as_ref().unwrap();
    assert_eq!(patch.value, Some(serde_json::json!({"a_b": null})));
}

#[test]
fn what_a_patch_says_is_looked_at_too() {
    let with = |patch: &str| {
        let spec = format!("{{configPatches: [{{applyTo: HTTP_FILTER, patch: {patch}}}]}}");
        let meta = "apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {name: a}";
        decode(manifest(&format!("{{{meta}, spec: {spec}}}"))).remove(0)
    };
    let lua = "{'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}";
    for (patch, expected, is_object) in [
        (format!("{{operation: INSERT_FIRST, value: {{name: l, typed_config: {lua}}}}}"), &[][..], true),
        (
            "{operation: INSERT_FIRST, value: {name: [l]}}".to_owned(),
            &["spec.configPatches[0].patch.value"],
            false,
        ),
        (
            "{operation: INSERT_FIRST, value: {name: l}}".to_owned(),
            &["spec.configPatches[0].patch.value: has a name and no typed_config"],
            true,
        ),
    ] {
        let item = with(&patch);
        let found: Vec<String> = item.findings.iter().map(ToString::to_string).collect();
        let fits = found.len() == expected.len()
            && found.iter().zip(expected).all(|(it, line)| it.starts_with(line));
        assert!(fits, "{patch}: {found:?}");
        assert_eq!(matches!(item.decoded, Decoded::Object(_)), is_object, "{patch}");
    }
}
