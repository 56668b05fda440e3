//! Traffic policies and the resulting fields of clusters, in Envoy's JSON.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::api::destination_rule::{Subset, TrafficPolicy};
use crate::generate::endpoint::{TlsModeMetadata, UnhealthyEndpoints};
use crate::generate::traffic_policy::MeshPolicy;
use crate::model::{
    Endpoint, EndpointAddress, Health, Locality, Protocol, Registry, Resolution, TargetPort, TlsMode,
};
use crate::push::Rule;

const HTTP: &str = "/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Port of a service, and the mesh it is in.
struct Case {
    service: Service,
    protocol: Protocol,
    client: ClusterClient,
    discovery: EndpointDiscovery,
    mesh: MeshPolicy,
    rule: Rule,
}

fn case() -> Case {
    let service = Service {
        hostname: "web.shop".into(),
        namespace: "shop".into(),
        name: "web".into(),
        registry: Registry::Kubernetes,
        ports: Vec::new(),
        addresses: Vec::new(),
        resolution: Resolution::ClientSideLb,
        location: Location::MeshInternal,
        export_to: Vec::new(),
        labels: std::collections::BTreeMap::new(),
        selector: std::collections::BTreeMap::new(),
        service_accounts: Vec::new(),
        created: 0,
        node_local: false,
        distribution: crate::model::Distribution::Any,
    };
    let rule = Rule {
        host: "web.shop".into(),
        namespace: "shop".into(),
        selector: std::collections::BTreeMap::new(),
        traffic_policy: None,
        subsets: Vec::new(),
        export_to: BTreeSet::new(),
        duplicate_subsets: Vec::new(),
        sources: Vec::new(),
    };
    let mesh = MeshPolicy {
        connect_timeout: Duration::from_secs(10),
        dns_refresh_rate: Duration::from_mins(1),
        locality: Some(crate::api::destination_rule::LocalityLb::default()),
        ..MeshPolicy::default()
    };
    let (protocol, client, discovery) = (Protocol::Http, ClusterClient::Sidecar, EndpointDiscovery::Eds);
    Case { service, protocol, client, discovery, mesh, rule }
}

impl Case {
    fn with(mut self, tweak: impl FnOnce(&mut Self)) -> Self {
        tweak(&mut self);
        self
    }

    fn outbound(self, subset: Option<&str>) -> ClusterInputs {
        let subset = subset.map(|name| self.rule.subsets.iter().find(|own| own.name == name).unwrap());
        let policy = MergedTrafficPolicy::of(Some(&self.rule), subset, 80, &Arc::new(self.mesh));
        let rule = DestinationRuleName {
            namespace: "shop".into(),
            name: "rule".into(),
            has_workload_selector: !self.rule.selector.is_empty(),
        };
        let port = ServicePort {
            name: "port".into(),
            port: 80,
            protocol: self.protocol,
            target: TargetPort::Number(8080),
        };
        let outbound = OutboundCluster {
            service: Arc::new(self.service).into(),
            port,
            subset: subset.map_or("", |subset| &subset.name).into(),
            discovery: self.discovery,
            client: self.client,
            rule: Some(rule),
            identities: vec!["spiffe://cluster.local/ns/shop/sa/web".into()],
        };
        ClusterInputs { role: ClusterRole::Outbound(outbound.into()), policy: Arc::new(policy) }
    }

    fn made(self, policy: &Value) -> Value {
        let settings: TrafficPolicy = serde_json::from_value(policy.clone()).unwrap();
        let inputs = self.with(|it| it.rule.traffic_policy = Some(settings)).outbound(None);
        printed(&inputs)
    }
}

fn printed(inputs: &ClusterInputs) -> Value {
    pilot_proto::json::to_value(&cluster(inputs).0.unwrap()).unwrap()
}

/// Returns the value at a path; `/` separates keys, because they may contain dots.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    value.pointer(path).unwrap_or(&Value::Null)
}

/// Checks the cluster of an HTTP port of a sidecar.
#[expect(clippy::needless_pass_by_value, reason = "tables are written in place")]
fn check(rule: &str, policy: Value, expected: &[(&str, Value)]) {
    check_in(case(), rule, &policy, expected);
}

fn check_in(case: Case, rule: &str, policy: &Value, expected: &[(&str, Value)]) {
    let made = case.made(policy);
    for (path, expected) in expected {
        assert_eq!(at(&made, path), expected, "{rule}: {path} of {policy}\n{made:#}");
    }
}

#[test]
fn simple_load_balancing() {
    let check = |settings: Value, lb: Value, kind: &str| {
        check("simple", settings, &[("/lb_policy", lb), ("/type", json!(kind))]);
    };
    check(json!({}), json!("LEAST_REQUEST"), "EDS");
    for (simple, lb) in [
        ("UNSPECIFIED", json!("LEAST_REQUEST")),
        ("LEAST_CONN", json!("LEAST_REQUEST")),
        ("LEAST_REQUEST", json!("LEAST_REQUEST")),
        ("RANDOM", json!("RANDOM")),
        // Envoy's default is not printed.
        ("ROUND_ROBIN", Value::Null),
    ] {
        check(json!({"loadBalancer": {"simple": simple}}), lb, "EDS");
    }
    let passthrough = json!({"loadBalancer": {"simple": "PASSTHROUGH"}});
    check(passthrough.clone(), json!("CLUSTER_PROVIDED"), "ORIGINAL_DST");
    check_in(case(), "nobody asks for endpoints", &passthrough, &[("/eds_cluster_config", Value::Null)]);
}

#[test]
fn consistent_hashing() {
    let check = |hash: Value, lb: &str, ring: Value, table: Value| {
        let settings = json!({"loadBalancer": {"consistentHash": hash}});
        let expected = [
            ("/lb_policy", json!(lb)),
            ("/ring_hash_lb_config/minimum_ring_size", ring),
            ("/maglev_lb_config/table_size", table),
        ];
        check("consistentHash", settings, &expected);
    };
    check(json!({"useSourceIp": true}), "RING_HASH", json!("1024"), Value::Null);
    check(json!({"useSourceIp": true, "minimumRingSize": 7}), "RING_HASH", json!("7"), Value::Null);
    check(json!({"httpHeaderName": "x", "ringHash": {}}), "RING_HASH", Value::Null, Value::Null);
    check(json!({"ringHash": {"minimumRingSize": 9}}), "RING_HASH", json!("9"), Value::Null);
    check(json!({"maglev": {}}), "MAGLEV", Value::Null, Value::Null);
    check(json!({"maglev": {"tableSize": 11}}), "MAGLEV", Value::Null, json!("11"));
}

#[test]
fn slow_start_config_follows_warmup() {
    let warmup = json!({"duration": "30s"});
    let full = json!({"duration": "30s", "minimumPercent": 5.0, "aggression": 2.0});
    let slow = |percent: f64, aggression: f64| {
        json!({
            "slow_start_window": "30s",
            "min_weight_percent": {"value": percent},
            "aggression": {"default_value": aggression, "runtime_key": "("},
        })
    };
    for (lb, path, expected) in [
        (json!({"warmup": warmup}), "/least_request_lb_config", slow(10.0, 1.0)),
        (json!({"warmup": full, "simple": "ROUND_ROBIN"}), "/round_robin_lb_config", slow(5.0, 2.0)),
        (json!({"warmupDurationSecs": "7s"}), "/least_request_lb_config", json!({"slow_start_window": "7s"})),
        (json!({"warmup": warmup, "warmupDurationSecs": "7s"}), "/least_request_lb_config", slow(10.0, 1.0)),
        (json!({"warmup": warmup, "simple": "RANDOM"}), "/least_request_lb_config", Value::Null),
    ] {
        let path = format!("{path}{}", if expected.is_null() { "" } else { "/slow_start_config" });
        check("warmup", json!({"loadBalancer": lb}), &[(&path, expected)]);
    }
}

#[test]
fn locality_weights_apply_only_if_configured() {
    let outliers = json!({});
    let share = json!([{"from": "a/*", "to": {"a/*": 100}}]);
    for (setting, detects, expected) in [
        (json!({"distribute": share}), false, true),
        (json!({"distribute": share, "enabled": false}), false, false),
        (json!({"failover": [{"from": "a", "to": "b"}]}), false, false),
        (json!({"failover": [{"from": "a", "to": "b"}]}), true, true),
        (json!({"failoverPriority": ["app"]}), true, true),
        (json!({}), true, false),
    ] {
        let mut policy = json!({"loadBalancer": {"localityLbSetting": setting}});
        if detects {
            policy["outlierDetection"] = outliers.clone();
        }
        let weighted = if expected { json!({}) } else { Value::Null };
        check("localityLbSetting", policy, &[("/common_lb_config/locality_weighted_lb_config", weighted)]);
    }
    for (setting, expected) in [
        (json!({"minClusterSize": 3}), json!({"min_cluster_size": "3"})),
        (json!({"enabled": false}), json!({"routing_enabled": {}})),
    ] {
        let policy = json!({"loadBalancer": {"zoneAwareLbSetting": setting}});
        check("zoneAwareLbSetting", policy, &[("/common_lb_config/zone_aware_lb_config", expected)]);
    }
}

#[test]
fn mesh_defaults_apply_without_rules() {
    let share = json!({"distribute": [{"from": "a", "to": {"a": 100}}]});
    let mesh = json!({
        "connectTimeout": "3s",
        "tcpKeepalive": {"probes": 3, "time": "60s"},
        "h2UpgradePolicy": "UPGRADE",
        "localityLbSetting": share,
        "defaultTrafficPolicy": {
            "connectionPool": {"tcp": {"maxConnections": 5}}, "outlierDetection": {"consecutive5xxErrors": 9}
        },
    });
    let mesh = MeshPolicy::of(&pilot_proto::mesh::MeshConfig::from_value(mesh).unwrap());
    let meshed = || case().with(|it| it.mesh = mesh.clone());
    let h2 = format!("{HTTP}/explicit_http_config/http2_protocol_options");
    check_in(
        meshed(),
        "mesh",
        &json!({}),
        &[
            ("/connect_timeout", json!("3s")),
            ("/circuit_breakers/thresholds/0/max_connections", json!(5)),
            ("/outlier_detection/consecutive_5xx", json!(9)),
            (
                "/upstream_connection_options/tcp_keepalive",
                json!({"keepalive_probes": 3, "keepalive_time": 60}),
            ),
            ("/common_lb_config/locality_weighted_lb_config", json!({})),
            (&h2, json!({})),
        ],
    );
    let own = json!({
        "connectionPool": {
            "tcp": {"connectTimeout": "1s", "tcpKeepalive": {"probes": 4, "interval": "5.9s"}},
            "http": {"h2UpgradePolicy": "DO_NOT_UPGRADE"},
        },
        "outlierDetection": {"consecutive5xxErrors": 1},
        "loadBalancer": {"localityLbSetting": {"enabled": false}},
    });
    let keepalive = json!({"keepalive_probes": 4, "keepalive_time": 60, "keepalive_interval": 5});
    check_in(
        meshed(),
        "a rule wins, block by block; keepalive field by field",
        &own,
        &[
            ("/connect_timeout", json!("1s")),
            ("/circuit_breakers/thresholds/0/max_connections", json!(u32::MAX)),
            ("/outlier_detection/consecutive_5xx", json!(1)),
            ("/upstream_connection_options/tcp_keepalive", keepalive),
            ("/common_lb_config/locality_weighted_lb_config", Value::Null),
            (HTTP, Value::Null),
        ],
    );
    let bytes = meshed().with(|it| it.protocol = Protocol::Tcp);
    check_in(bytes, "the mesh upgrades what is HTTP", &json!({}), &[(HTTP, Value::Null)]);
}

#[test]
fn circuit_breakers_follow_connection_pool() {
    let limit = "/circuit_breakers/thresholds/0";
    let none = json!({
        "max_connections": u32::MAX, "max_pending_requests": u32::MAX, "max_requests": u32::MAX,
        "max_retries": u32::MAX, "track_remaining": true,
    });
    check("no limits without a word", json!({}), &[(limit, none)]);
    let pool = json!({"connectionPool": {
        "tcp": {"maxConnections": 1},
        "http": {"http1MaxPendingRequests": 2, "http2MaxRequests": 3, "maxRetries": 4},
    }});
    let all = json!({
        "max_connections": 1, "max_pending_requests": 2, "max_requests": 3, "max_retries": 4, "track_remaining": true,
    });
    check("limits", pool, &[(limit, all)]);
    for (budget, expected) in [
        (json!({}), json!({"budget_percent": {"value": 20.0}, "min_retry_concurrency": 3})),
        (
            json!({"percent": 50.0, "minRetryConcurrency": 9, "budgetInterval": "2s"}),
            json!({"budget_percent": {"value": 50.0}, "min_retry_concurrency": 9, "budget_interval": "2s"}),
        ),
    ] {
        check("retryBudget", json!({"retryBudget": budget}), &[(&format!("{limit}/retry_budget"), expected)]);
    }
}

#[test]
fn connection_timeouts_follow_connection_pool() {
    let common = format!("{HTTP}/common_http_protocol_options");
    let check = |pool: Value, expected: Value| {
        check("connectionPool", json!({"connectionPool": pool}), &[(&common, expected)]);
    };
    check(json!({"http": {"idleTimeout": "9s"}}), json!({"idle_timeout": "9s"}));
    check(json!({"tcp": {"idleTimeout": "8s"}}), json!({"idle_timeout": "8s"}));
    check(
        json!({"http": {"idleTimeout": "9s"}, "tcp": {"idleTimeout": "8s"}}),
        json!({"idle_timeout": "9s"}),
    );
    check(json!({"tcp": {"maxConnectionDuration": "7s"}}), json!({"max_connection_duration": "7s"}));
    check(json!({"http": {"maxRequestsPerConnection": 6}}), json!({"max_requests_per_connection": 6}));
    check(json!({"http": {"maxRequestsPerConnection": 0}}), Value::Null);
}

#[test]
fn upstream_http_version_follows_protocol_and_policy() {
    let h2 = |settings: Value| json!({"http2_protocol_options": settings});
    let streams = json!({"connectionPool": {"http": {
        "maxConcurrentStreams": 5, "http2KeepAlive": {"interval": "3s", "timeout": "2s"},
    }}});
    let limited =
        h2(json!({"max_concurrent_streams": 5, "connection_keepalive": {"interval": "3s", "timeout": "2s"}}));
    let upgrade = |policy: &str| json!({"connectionPool": {"http": {"h2UpgradePolicy": policy}}});
    let use_downstream =
        json!({"connectionPool": {"http": {"useClientProtocol": true, "h2UpgradePolicy": "UPGRADE"}}});
    for (protocol, client, policy, explicit, follows) in [
        (Protocol::Http, ClusterClient::Sidecar, json!({}), Value::Null, false),
        (Protocol::Http, ClusterClient::Sidecar, upgrade("UPGRADE"), h2(json!({})), false),
        (Protocol::Tcp, ClusterClient::Sidecar, upgrade("UPGRADE"), h2(json!({})), false),
        (Protocol::Http, ClusterClient::Sidecar, upgrade("DO_NOT_UPGRADE"), Value::Null, false),
        (Protocol::Http, ClusterClient::Sidecar, use_downstream.clone(), Value::Null, true),
        (Protocol::Grpc, ClusterClient::Sidecar, json!({}), h2(json!({})), false),
        (Protocol::Grpc, ClusterClient::Gateway, streams.clone(), limited, false),
        (Protocol::Grpc, ClusterClient::Sidecar, use_downstream, Value::Null, true),
        (Protocol::Auto, ClusterClient::Sidecar, json!({}), Value::Null, true),
        (Protocol::Auto, ClusterClient::Sidecar, upgrade("UPGRADE"), Value::Null, true),
        (Protocol::Auto, ClusterClient::Gateway, json!({}), Value::Null, false),
    ] {
        let made = case().with(|it| (it.protocol, it.client) = (protocol, client)).made(&policy);
        let found = at(&made, &format!("{HTTP}/explicit_http_config"));
        let following = !at(&made, &format!("{HTTP}/use_downstream_protocol_config")).is_null();
        assert_eq!((found, following), (&explicit, follows), "{protocol} {client:?} {policy}");
    }
}

#[test]
fn outlier_detection() {
    let check = |settings: Value, path: &str, expected: Value| {
        let policy = json!({"outlierDetection": settings});
        check("outlierDetection", policy, &[(&format!("/outlier_detection{path}"), expected)]);
    };
    check(json!({}), "", json!({"enforcing_success_rate": 0}));
    let stat_name_variables = json!({
        "enforcing_success_rate": 0,
        "consecutive_5xx": 3, "enforcing_consecutive_5xx": 100,
        "consecutive_gateway_failure": 0, "enforcing_consecutive_gateway_failure": 0,
    });
    check(json!({"consecutive5xxErrors": 3, "consecutiveGatewayErrors": 0}), "", stat_name_variables);
    let timed = json!({
        "enforcing_success_rate": 0, "interval": "1s", "base_ejection_time": "2s", "max_ejection_percent": 50,
    });
    check(json!({"interval": "1s", "baseEjectionTime": "2s", "maxEjectionPercent": 50}), "", timed);
    let split = json!({
        "enforcing_success_rate": 0, "split_external_local_origin_errors": true,
        "consecutive_local_origin_failure": 4, "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_local_origin_success_rate": 0,
    });
    let local = json!({"splitExternalLocalOriginErrors": true, "consecutiveLocalOriginFailures": 4});
    check(local, "", split);
    check(json!({"consecutiveLocalOriginFailures": 4}), "", json!({"enforcing_success_rate": 0}));
}

#[test]
fn panic_threshold_is_set_only_by_min_health_percent() {
    for (policy, threshold) in [
        (json!({}), json!({})),
        (json!({"outlierDetection": {}}), json!({})),
        (json!({"outlierDetection": {"minHealthPercent": 30}}), json!({"value": 30.0})),
    ] {
        check("minHealthPercent", policy, &[("/common_lb_config/healthy_panic_threshold", threshold)]);
    }
}

#[test]
fn outlier_detection_http_error_codes() {
    let status = |code: &str| json!({"http_response_headers_match": {"headers": [{"name": ":status", "string_match": {"exact": code}}]}});
    for (codes, expected) in [
        (json!([]), Value::Null),
        (json!([503]), status("503")),
        (json!([429, 503]), json!({"or_match": {"rules": [status("429"), status("503")]}})),
    ] {
        let path = format!("{HTTP}/outlier_detection/error_matcher");
        let policy = json!({"outlierDetection": {"outlierDetectionHttpErrorCodes": codes}});
        check("outlierDetectionHttpErrorCodes", policy, &[(&path, expected)]);
    }
}

const TLS: &str = "/transport_socket/typed_config/common_tls_context";

#[test]
fn simple_tls() {
    let check = |rule: &str, tls: Value, path: &str, expected: Value| {
        let mut tls = tls;
        tls["mode"] = json!("SIMPLE");
        check(rule, json!({"tls": tls}), &[(path, expected)]);
    };
    let roots = format!("{TLS}/validation_context/trusted_ca/filename");
    let names = format!("{HTTP}/upstream_http_protocol_options");
    check("the system's roots", json!({}), &roots, json!("/etc/ssl/certs/ca-certificates.crt"));
    check("roots of the rule's", json!({"caCertificates": "/ca.pem"}), &roots, json!("/ca.pem"));
    let crl = format!("{TLS}/validation_context/crl/filename");
    check("revoked certificates", json!({"caCrl": "/crl.pem"}), &crl, json!("/crl.pem"));
    let verified = format!("{TLS}/validation_context");
    check("nothing is verified", json!({"insecureSkipVerify": true, "caCrl": "/x"}), &verified, json!({}));
    let both = json!({"auto_sni": true, "auto_san_validation": true});
    check("the host of the request is asked for and verified", json!({}), &names, both);
    check(
        "a name is asked for",
        json!({"sni": "a.com"}),
        "/transport_socket/typed_config/sni",
        json!("a.com"),
    );
    check("a name is asked for", json!({"sni": "a.com"}), &names, Value::Null);
    check("other names are verified", json!({"subjectAltNames": ["b"]}), &names, json!({"auto_sni": true}));
    let san = format!("{TLS}/validation_context/match_typed_subject_alt_names");
    check(
        "other names",
        json!({"subjectAltNames": ["b"]}),
        &san,
        json!([{"san_type": "DNS", "matcher": {"exact": "b"}}]),
    );
    check("no names", json!({"insecureSkipVerify": true}), &names, json!({"auto_sni": true}));
    let versions =
        json!({"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"});
    check("versions", json!({}), &format!("{TLS}/tls_params"), versions);
}

#[test]
fn mutual_tls_with_client_certificate() {
    let files = json!({"tls": {"mode": "MUTUAL", "clientCertificate": "/c", "privateKey": "/k"}});
    let pair = json!([{"certificate_chain": {"filename": "/c"}, "private_key": {"filename": "/k"}}]);
    check("files", files, &[(&format!("{TLS}/tls_certificates"), pair)]);
    let h2 = case().with(|it| it.protocol = Protocol::Http2);
    check_in(
        h2,
        "ALPN",
        &json!({"tls": {"mode": "SIMPLE"}}),
        &[(&format!("{TLS}/alpn_protocols"), json!(["h2"]))],
    );
    check("DISABLE", json!({"tls": {"mode": "DISABLE", "sni": "x"}}), &[("/transport_socket", Value::Null)]);
}

#[test]
fn credential_name_requires_workload_selector() {
    let tls = |name: &str| json!({"tls": {"mode": "MUTUAL", "credentialName": name}});
    let own = format!("{TLS}/tls_certificate_sds_secret_configs/0");
    let roots = format!("{TLS}/combined_validation_context/validation_context_sds_secret_config");
    let over_ads =
        |name: &str| json!({"name": name, "sds_config": {"ads": {}, "resource_api_version": "V3"}});
    let gateway = || case().with(|it| it.client = ClusterClient::Gateway);
    let selected = || case().with(|it| _ = it.rule.selector.insert("app".into(), "egress".into()));
    for (who, case) in [("a gateway", gateway()), ("a selected sidecar", selected())] {
        let expected =
            [(&*own, over_ads("kubernetes://pair")), (&*roots, over_ads("kubernetes://pair-cacert"))];
        check_in(case, who, &tls("pair"), &expected);
    }
    check_in(case(), "any sidecar", &tls("pair"), &[("/transport_socket", Value::Null)]);
    let with_scheme = [(&*own, over_ads("configmap://pair"))];
    check_in(case(), "a config map needs no selector", &tls("configmap://pair"), &with_scheme);

    let settings = serde_json::from_value(tls("pair")).unwrap();
    let inputs = case().with(|it| it.rule.traffic_policy = Some(settings)).outbound(None);
    let reasons: Vec<RejectReason> = cluster(&inputs).1.into_iter().map(|rejected| rejected.reason).collect();
    assert_eq!(reasons, [RejectReason::SecretForAll], "and somebody is told");
}

#[test]
fn istio_mutual_uses_mesh_certificates() {
    let tls = json!({"tls": {"mode": "ISTIO_MUTUAL"}});
    let sni = "/transport_socket/typed_config/sni";
    let own = format!("{TLS}/tls_certificate_sds_secret_configs/0");
    let roots = format!("{TLS}/combined_validation_context/validation_context_sds_secret_config/name");
    let names =
        format!("{TLS}/combined_validation_context/default_validation_context/match_typed_subject_alt_names");
    let alpn = format!("{TLS}/alpn_protocols");
    let server = "sds_config/api_config_source/grpc_services/0/envoy_grpc/cluster_name";
    check(
        "ISTIO_MUTUAL",
        tls.clone(),
        &[
            (sni, json!("outbound_.80_._.web.shop")),
            (&format!("{own}/name"), json!("default")),
            (&format!("{own}/{server}"), json!("sds-grpc")),
            (&roots, json!("ROOTCA")),
            (
                &names,
                json!([{"san_type": "URI", "matcher": {"exact": "spiffe://cluster.local/ns/shop/sa/web"}}]),
            ),
            (&alpn, json!(["istio"])),
            (HTTP, Value::Null),
        ],
    );
    let h2 = case().with(|it| it.protocol = Protocol::Grpc);
    check_in(h2, "ALPN", &tls, &[(&alpn, json!(["istio", "h2"]))]);
    let own = json!({"tls": {"mode": "ISTIO_MUTUAL", "sni": "a", "subjectAltNames": ["b"]}});
    check(
        "own names",
        own,
        &[(sni, json!("a")), (&names, json!([{"san_type": "DNS", "matcher": {"exact": "b"}}]))],
    );
}

#[test]
fn subject_alt_names_of_service_entry_are_verified() {
    let declared = || {
        case().with(|it| {
            it.service.registry = Registry::External;
            it.service.service_accounts = vec!["a.com".into()];
        })
    };
    let names = format!("{TLS}/validation_context/match_typed_subject_alt_names");
    let settings = [(&*names, json!([{"san_type": "DNS", "matcher": {"exact": "a.com"}}]))];
    check_in(declared(), "the entry's", &json!({"tls": {"mode": "SIMPLE"}}), &settings);
    let own = [(&*names, json!([{"san_type": "DNS", "matcher": {"exact": "b.com"}}]))];
    let tls = json!({"tls": {"mode": "SIMPLE", "subjectAltNames": ["b.com"]}});
    check_in(declared(), "the rule's", &tls, &own);
}

#[test]
fn proxy_protocol_wraps_transport_socket() {
    let config = "/transport_socket/typed_config";
    for (policy, version, inner) in [
        (json!({"proxyProtocol": {}}), json!({}), "envoy.transport_sockets.raw_buffer"),
        (
            json!({"proxyProtocol": {"version": "V2"}, "tls": {"mode": "SIMPLE"}}),
            json!({"version": "V2"}),
            "envoy.transport_sockets.tls",
        ),
    ] {
        let expected = [
            ("/transport_socket/name", json!("envoy.transport_sockets.upstream_proxy_protocol")),
            (&format!("{config}/config"), version),
            (&format!("{config}/transport_socket/name"), json!(inner)),
        ];
        check("proxyProtocol", policy, &expected);
    }
}

#[test]
fn later_policy_layers_take_precedence() {
    let policy = json!({
        "connectionPool": {"tcp": {"maxConnections": 1}},
        "outlierDetection": {"consecutive5xxErrors": 1},
        "loadBalancer": {"simple": "RANDOM"},
        "proxyProtocol": {},
        "retryBudget": {},
        "portLevelSettings": [{"port": {"number": 81}, "loadBalancer": {"simple": "ROUND_ROBIN"}}],
    });
    let on_port = json!([{"port": {"number": 80}, "connectionPool": {"tcp": {"maxConnections": 2}}}]);
    let subset = json!({"outlierDetection": {"consecutive5xxErrors": 3}});
    let of_subset_port =
        json!({"portLevelSettings": [{"port": {"number": 80}, "loadBalancer": {"simple": "RANDOM"}}]});
    let mut with_port = policy.clone();
    with_port["portLevelSettings"] = on_port;
    // Fields of port-level settings, then those without: PROXY protocol, retry budget.
    for (rule, top, of_subset, expected) in [
        ("a port that is not this one says nothing", &policy, None, "1 1 RANDOM true true"),
        ("a port's settings are all there is", &with_port, None, "2 - LEAST_REQUEST false false"),
        ("a subset without a policy has the host's", &policy, Some(json!(null)), "1 1 RANDOM true true"),
        ("a subset's blocks win", &policy, Some(subset.clone()), "1 3 RANDOM true true"),
        ("over those of the host's port", &with_port, Some(subset), "2 3 LEAST_REQUEST false false"),
        (
            "a subset's port is all there is, but for what ports cannot say",
            &policy,
            Some(of_subset_port),
            "- - RANDOM true true",
        ),
    ] {
        let made = case().with(|it| {
            it.rule.traffic_policy = Some(serde_json::from_value(top.clone()).unwrap());
            let part = of_subset.as_ref().map(|policy| Subset {
                name: "v1".into(),
                traffic_policy: serde_json::from_value(policy.clone()).unwrap(),
                ..Subset::default()
            });
            it.rule.subsets = part.into_iter().collect();
        });
        let made = printed(&made.outbound(of_subset.as_ref().map(|_| "v1")));
        let limit = at(&made, "/circuit_breakers/thresholds/0/max_connections").as_u64().unwrap();
        let limit = if limit == u64::from(u32::MAX) { "-".to_owned() } else { limit.to_string() };
        let errors = at(&made, "/outlier_detection/consecutive_5xx").as_u64();
        let found = format!(
            "{limit} {} {} {} {}",
            errors.map_or("-".to_owned(), |errors| errors.to_string()),
            at(&made, "/lb_policy").as_str().unwrap_or("ROUND_ROBIN"),
            !at(&made, "/transport_socket").is_null(),
            !at(&made, "/circuit_breakers/thresholds/0/retry_budget").is_null(),
        );
        assert_eq!(found, expected, "{rule}");
    }
}

#[test]
fn subset_cluster_has_subset_metadata() {
    let made = case().with(|it| it.rule.subsets = vec![Subset { name: "v1".into(), ..Subset::default() }]);
    let made = printed(&made.outbound(Some("v1")));
    for (path, expected) in [
        ("/name", json!("outbound|80|v1|web.shop")),
        ("/eds_cluster_config/service_name", json!("outbound|80|v1|web.shop")),
        ("/metadata/filter_metadata/istio/subset", json!("v1")),
        (
            "/metadata/filter_metadata/istio/config",
            json!("/apis/networking.istio.io/v1/namespaces/shop/destination-rule/rule"),
        ),
    ] {
        assert_eq!(at(&made, path), &expected, "{path}");
    }
}

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
    let made = |workload_address: WorkloadAddress, policy: MergedTrafficPolicy| {
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
        let made = made(workload_address.clone(), MergedTrafficPolicy::default());
        let found = (at(&made, "/type"), at(&made, to), at(&made, own));
        // STATIC is the default value.
        let kind = if kind == "STATIC" && found.0.is_null() { Value::Null } else { kind };
        assert_eq!(found, (&kind, &address, &source), "{workload_address:?}");
    }
    let settings = json!({"tcp": {"maxConnections": 3}, "http": {"idleTimeout": "4s"}});
    let pool = serde_json::from_value(settings).unwrap();
    let limited = made(
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
        let made = printed(&ClusterInputs { role, policy: policy.clone() });
        assert_eq!(at(&made, "/circuit_breakers/thresholds/0/max_connections"), &json!(3));
        assert_eq!(at(&made, &format!("{HTTP}/common_http_protocol_options/idle_timeout")), &json!("300s"));
    }
}
