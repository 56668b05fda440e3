//! Types of clusters, and clusters of the workload.

use super::*;

fn served(address: &str) -> EndpointSelection {
    let endpoint = Endpoint {
        address: EndpointAddress::Dns(address.into()),
        port: 8080,
        port_name: "port".into(),
        labels: Arc::default(),
        service_account: "".into(),
        network: "".into(),
        locality: Locality::default(),
        weight: 1,
        health: Health::Healthy,
        tls_mode: TlsMode::Disabled,
        namespace: "shop".into(),
        workload: "".into(),
        node: "".into(),
    };
    EndpointSelection {
        cluster: None,
        service: "web.shop".into(),
        endpoints: Arc::<[Endpoint]>::from([endpoint]).into(),
        port_name: "port".into(),
        labels: std::collections::BTreeMap::new(),
        node: None,
        unhealthy: UnhealthyEndpoints::Included,
        tls_mode_metadata: TlsModeMetadata::Included,
        locality_priority: None,
        networks: None,
    }
}

#[test]
fn cluster_type_follows_endpoint_discovery() {
    let dns = |dns_type| EndpointDiscovery::Dns {
        selection: served("a.com").into(),
        dns_type,
        families: IpFamilies::V4,
    };
    let name = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/address";
    for (discovery, expected) in [
        (EndpointDiscovery::Eds, vec![("/type", json!("EDS")), ("/lb_policy", json!("LEAST_REQUEST"))]),
        (
            EndpointDiscovery::OriginalDst,
            vec![("/type", json!("ORIGINAL_DST")), ("/lb_policy", json!("CLUSTER_PROVIDED"))],
        ),
        (
            dns(DnsClusterType::Strict),
            vec![("/type", json!("STRICT_DNS")), ("/dns_refresh_rate", json!("60s")), (name, json!("a.com"))],
        ),
        (
            dns(DnsClusterType::Logical),
            vec![("/type", json!("LOGICAL_DNS")), ("/lb_policy", json!("LEAST_REQUEST"))],
        ),
        (
            EndpointDiscovery::DynamicForwardProxy(IpFamilies::V4),
            vec![
                ("/cluster_type/name", json!("envoy.clusters.dynamic_forward_proxy")),
                ("/cluster_type/typed_config/dns_cache_config/name", json!("dynamic_dns")),
                ("/cluster_type/typed_config/dns_cache_config/dns_lookup_family", json!("V4_ONLY")),
                ("/lb_policy", json!("CLUSTER_PROVIDED")),
            ],
        ),
    ] {
        let balanced = json!({"loadBalancer": {"simple": "LEAST_REQUEST"}});
        check_in(case().with(|it| it.discovery = discovery), "discovery", &balanced, &expected);
    }
}

#[test]
fn dynamic_forward_proxy_verifies_names_unless_disabled() {
    let unchecked = "/cluster_type/typed_config/allow_insecure_cluster_options";
    let names = format!("{HTTP}/upstream_http_protocol_options");
    let both = json!({"auto_sni": true, "auto_san_validation": true});
    for (tls, insecure, expected) in [
        (json!({"mode": "DISABLE"}), Value::Null, Value::Null),
        (json!({"mode": "SIMPLE"}), Value::Null, both.clone()),
        (json!({"mode": "SIMPLE", "subjectAltNames": ["a"]}), Value::Null, both.clone()),
        (json!({"mode": "SIMPLE", "sni": "a"}), json!(true), json!({"auto_san_validation": true})),
        (json!({"mode": "SIMPLE", "insecureSkipVerify": true}), json!(true), json!({"auto_sni": true})),
        (json!({"mode": "ISTIO_MUTUAL"}), Value::Null, both),
    ] {
        let dynamic = case().with(|it| {
            it.discovery = EndpointDiscovery::DynamicForwardProxy(IpFamilies::V4);
            it.service.resolution = Resolution::DynamicDns;
        });
        let expected = [(unchecked, insecure), (&*names, expected)];
        check_in(dynamic, "DYNAMIC_DNS", &json!({"tls": tls}), &expected);
    }
}

#[test]
fn inbound_clusters() {
    let service = Arc::new(case().service);
    let rendered = |workload_address: WorkloadAddress, policy: MergedTrafficPolicy| {
        let port = ServicePort {
            name: "http".into(),
            port: 80,
            protocol: Protocol::Http,
            target: TargetPort::Number(8080),
        };
        let inbound = InboundCluster {
            target_port: 8080,
            services: vec![service.clone().into()],
            port,
            workload_address,
            families: IpFamilies::V4,
            rule: None,
        };
        printed(&ClusterInputs { role: ClusterRole::Inbound(inbound), policy: Arc::new(policy) })
    };
    let own = "/upstream_bind_config/source_address/address";
    let to = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";
    let socket = |ip: &str| json!({"socket_address": {"address": ip, "port_value": 9}});
    for (workload_address, kind, address, source) in [
        (WorkloadAddress::OriginalDst, json!("ORIGINAL_DST"), Value::Null, json!("127.0.0.6")),
        (WorkloadAddress::Ip([127, 0, 0, 1].into(), 9), json!("STATIC"), socket("127.0.0.1"), Value::Null),
        (
            WorkloadAddress::Ip([10, 0, 0, 1].into(), 9),
            json!("STATIC"),
            socket("10.0.0.1"),
            json!("127.0.0.6"),
        ),
        (WorkloadAddress::Unix("/s".into()), json!("STATIC"), json!({"pipe": {"path": "/s"}}), Value::Null),
    ] {
        let rendered = rendered(workload_address.clone(), MergedTrafficPolicy::default());
        let actual = (at(&rendered, "/type"), at(&rendered, to), at(&rendered, own));
        // STATIC is the default value.
        let kind = if kind == "STATIC" && actual.0.is_null() { Value::Null } else { kind };
        assert_eq!(actual, (&kind, &address, &source), "{workload_address:?}");
    }
    let settings = json!({"tcp": {"maxConnections": 3}, "http": {"idleTimeout": "4s"}});
    let pool = serde_json::from_value(settings).unwrap();
    let limited = rendered(
        WorkloadAddress::OriginalDst,
        MergedTrafficPolicy { connection_pool: Some(pool), ..MergedTrafficPolicy::default() },
    );
    assert_eq!(at(&limited, "/circuit_breakers/thresholds/0/max_connections"), &json!(3));
    assert_eq!(at(&limited, &format!("{HTTP}/common_http_protocol_options/idle_timeout")), &json!("4s"));
}

#[test]
fn passthrough_cluster_has_mesh_circuit_breakers() {
    let pool = serde_json::from_value(json!({"tcp": {"maxConnections": 3}})).unwrap();
    let mesh = Arc::new(MeshPolicy { connection_pool: Some(pool), ..case().mesh });
    let policy = Arc::new(MergedTrafficPolicy::of(None, None, 0, &mesh));
    for role in [ClusterRole::Passthrough, ClusterRole::InboundPassthrough(IpFamilies::V4)] {
        let rendered = printed(&ClusterInputs { role, policy: policy.clone() });
        assert_eq!(at(&rendered, "/circuit_breakers/thresholds/0/max_connections"), &json!(3));
        assert_eq!(
            at(&rendered, &format!("{HTTP}/common_http_protocol_options/idle_timeout")),
            &json!("300s")
        );
    }
}
