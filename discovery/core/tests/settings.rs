//! Effects of mesh and proxy settings on clusters, listeners and routes.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

mod fixture;

use std::collections::BTreeMap;

use fixture::*;
use pilot_core::model::Proxy;
use pilot_core::push::PushContext;
use pilot_proto::ResourceType::{self, Cluster, Listener, Route};
use pilot_proto::envoy::config::cluster::v3 as cds;
use pilot_proto::envoy::config::listener::v3 as lds;
use pilot_proto::envoy::config::route::v3::RouteConfiguration;
use prost::{Message, Name};
use serde_json::{Value, json};

fn mesh_of(config: &str, objects: &str) -> Mesh {
    let web =
        kubernetes("web.default").to("http", 80, 8080).to("tcp", 81, 8081).vip("10.0.0.1").on("10.1.0.1");
    let outside = entry("db.example.com").port("tcp", 5432).vip("10.0.0.2").on("10.2.0.1");
    Mesh::of([web, outside], objects).config(config)
}

fn web() -> Proxy {
    sidecar("10.1.0.1", "default")
}

fn saying(config: Value) -> Proxy {
    let mut proxy = web();
    proxy.metadata.proxy_config = Some(config);
    proxy
}

fn printed<M: Message + Name + Default>(
    push: &PushContext,
    proxy: &Proxy,
    kind: ResourceType,
) -> BTreeMap<String, Value> {
    let asked = (kind == Route).then(|| names(["80", "http.8080"]));
    let made: BTreeMap<String, M> = decoded(&generate(push, proxy, kind, asked.as_ref()));
    made.into_iter()
        .map(|(name, message)| (name, pilot_proto::proto3_json::to_value(&message).unwrap()))
        .collect()
}

fn listeners(push: &PushContext, proxy: &Proxy) -> BTreeMap<String, Value> {
    printed::<lds::Listener>(push, proxy, Listener)
}

fn clusters(push: &PushContext, proxy: &Proxy) -> BTreeMap<String, Value> {
    printed::<cds::Cluster>(push, proxy, Cluster)
}

/// The first HTTP connection manager of a listener.
fn manager(listener: &Value) -> Value {
    let chains = listener["filter_chains"].as_array().into_iter().flatten();
    let all = chains
        .chain(listener.get("default_filter_chain"))
        .flat_map(|chain| chain["filters"].as_array().unwrap());
    let mut found = all.filter(|filter| filter["name"] == "envoy.filters.network.http_connection_manager");
    found.next().unwrap()["typed_config"].clone()
}

/// Returns the connection managers of outbound and inbound traffic.
fn managers(config: &str, proxy: &Proxy) -> [Value; 2] {
    let found = listeners(&mesh_of(config, "").push(), proxy);
    ["0.0.0.0_80", "virtualInbound"].map(|name| manager(&found[name]))
}

#[test]
fn paths_are_put_in_order_as_far_as_the_mesh_says() {
    for (said, normal, merged, escaped) in [
        ("DEFAULT", true, false, "KEEP_UNCHANGED"),
        ("NONE", false, false, "KEEP_UNCHANGED"),
        ("BASE", true, false, "KEEP_UNCHANGED"),
        ("MERGE_SLASHES", true, true, "KEEP_UNCHANGED"),
        ("DECODE_AND_MERGE_SLASHES", true, true, "UNESCAPE_AND_FORWARD"),
    ] {
        for manager in managers(&format!("pathNormalization: {{normalization: {said}}}"), &web()) {
            assert_eq!(manager["normalize_path"], json!(normal), "{said}");
            assert_eq!(manager.get("merge_slashes").is_some(), merged, "{said}");
            assert_eq!(manager["path_with_escaped_slashes_action"], escaped, "{said}");
        }
    }
}

#[test]
fn headers_are_those_that_a_proxy_is_told_to_write() {
    let [leaving, arriving] = managers("", &web());
    assert_eq!((leaving.get("server_name"), &arriving["server_name"]), (None, &json!("istio-envoy")));
    assert_eq!(arriving["forward_client_cert_details"], "APPEND_FORWARD");
    assert_eq!(
        arriving["set_current_client_cert_details"],
        json!({"subject": true, "dns": true, "uri": true})
    );
    let told = json!({"proxyHeaders": {
        "server": {"value": "mine"}, "requestId": {"disabled": true}, "envoyDebugHeaders": {"disabled": true},
        "forwardedClientCert": "APPEND_FORWARD", "setCurrentClientCertDetails": {"subject": false, "cert": true, "chain": true},
        "xForwardedPort": {"enabled": true},
    }});
    for manager in managers("", &saying(told)) {
        assert_eq!(
            (&manager["server_name"], &manager["generate_request_id"]),
            (&json!("mine"), &json!(false))
        );
        assert_eq!(manager["append_x_forwarded_port"], json!(true));
        let router = manager["http_filters"].as_array().unwrap().last().unwrap();
        assert_eq!(router["typed_config"]["suppress_envoy_headers"], json!(true));
        let details = manager.get("set_current_client_cert_details");
        assert!(
            details.is_none_or(|told| *told
                == json!({"subject": false, "cert": true, "chain": true, "dns": true, "uri": true}))
        );
    }
    // Unset fields of the proxy have the value of the mesh.
    let config = "defaultConfig: {proxyHeaders: {server: {disabled: true}, forwardedClientCert: SANITIZE}}";
    let [leaving, arriving] = managers(config, &web());
    for manager in [&leaving, &arriving] {
        assert_eq!(manager["server_header_transformation"], "PASS_THROUGH");
        assert_eq!(manager.get("server_name"), None);
    }
    // SANITIZE is Envoy's own default.
    assert_eq!(
        (arriving.get("forward_client_cert_details"), arriving.get("set_current_client_cert_details")),
        (None, None)
    );
}

#[test]
fn upstreams_are_told_of_attempts_unless_they_are_not_to_be() {
    let gateway = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g}
spec: {servers: [{port: {number: 8080, protocol: HTTP, name: http}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec: {hosts: [a.example.com], gateways: [g], http: [{route: [{destination: {host: web, port: {number: 80}}}]}]}
";
    let push = mesh_of("", gateway).push();
    let told = |proxy: &Proxy| {
        let routes = printed::<RouteConfiguration>(&push, proxy, Route);
        let hosts: Vec<bool> = routes
            .values()
            .flat_map(|routes| routes["virtual_hosts"].as_array().into_iter().flatten())
            .map(|host| host.get("include_request_attempt_count").is_some())
            .collect();
        assert!(hosts.iter().all(|told| *told == hosts[0]), "{hosts:?}");
        hosts[0]
    };
    let quiet = || saying(json!({"proxyHeaders": {"attemptCount": {"disabled": true}}}));
    assert_eq!((told(&web()), told(&quiet())), (true, false));
    assert_eq!((told(&web().router()), told(&quiet().router())), (true, false));
}

#[test]
fn upstreams_are_told_the_host_that_was_asked_for_if_they_are_to_be() {
    let rule = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec: {hosts: [web], http: [
  {match: [{uri: {prefix: /a}}], rewrite: {authority: b}, route: [{destination: {host: web}}]},
  {route: [{destination: {host: web}}]},
]}
";
    let push = mesh_of("", rule).push();
    let told = |proxy: &Proxy| {
        let routes = printed::<RouteConfiguration>(&push, proxy, Route)["80"]["virtual_hosts"].to_string();
        routes.matches("append_x_forwarded_host").count()
    };
    assert_eq!(told(&web()), 0);
    assert_eq!(told(&saying(json!({"proxyHeaders": {"xForwardedHost": {"enabled": true}}}))), 1);
}

#[test]
fn a_gateway_is_told_what_stands_before_it() {
    let gateway = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g}
spec: {servers: [
  {port: {number: 8080, protocol: HTTP, name: http}, hosts: ['*']},
  {port: {number: 8443, protocol: HTTPS, name: https}, hosts: ['*'], tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k}},
]}
";
    let mesh = mesh_of("defaultConfig: {gatewayTopology: {numTrustedProxies: 1}}", gateway);
    let of = |proxy: &Proxy| {
        let found = listeners(&mesh.push(), proxy);
        let filters =
            |name: &str| texts(&found[name]["listener_filters"], "name").into_iter().collect::<Vec<_>>();
        (manager(&found["0.0.0.0_8080"]), filters("0.0.0.0_8080"), filters("0.0.0.0_8443"))
    };
    let (by_mesh, none, tls) = of(&web().router());
    assert_eq!(
        (&by_mesh["xff_num_trusted_hops"], &by_mesh["server_name"]),
        (&json!(1), &json!("istio-envoy"))
    );
    assert_eq!(by_mesh["forward_client_cert_details"], "SANITIZE_SET");
    assert_eq!((none.len(), tls.len()), (0, 1));
    let topology = json!({"gatewayTopology": {"numTrustedProxies": 3, "forwardClientCertDetails": "ALWAYS_FORWARD_ONLY", "proxyProtocol": {}}});
    let (own, plain, tls) = of(&saying(topology).router());
    assert_eq!(
        (&own["xff_num_trusted_hops"], &own["forward_client_cert_details"]),
        (&json!(3), &json!("ALWAYS_FORWARD_ONLY"))
    );
    assert_eq!(
        plain.iter().map(|name| &**name).collect::<Vec<_>>(),
        ["envoy.filters.listener.proxy_protocol"]
    );
    assert_eq!(tls.len(), 2);
    let found = listeners(&mesh.push(), &saying(json!({"gatewayTopology": {"proxyProtocol": {}}})).router());
    assert_eq!(found["0.0.0.0_8443"]["listener_filters"][0]["name"], "envoy.filters.listener.proxy_protocol");
}

#[test]
fn statistics_are_named_as_the_mesh_says() {
    let rule = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db}
spec: {hosts: [db.example.com], tcp: [{route: [{destination: {host: web, subset: v1, port: {number: 81}}}]}]}
";
    let config = "
outboundClusterStatName: '%SERVICE%_%SERVICE_NAME%_%SERVICE_FQDN%_%SERVICE_PORT%_%SERVICE_PORT_NAME%_%TARGET_PORT%_%SUBSET_NAME%'
inboundClusterStatName: 'in_%SERVICE%_%SERVICE_PORT_NAME%_%TARGET_PORT%'
";
    let push = mesh_of(config, rule).push();
    let found = clusters(&push, &web());
    let host = "web.default.svc.cluster.local";
    for (name, expected) in [
        (format!("outbound|80||{host}"), format!("web.default_web_{host}_80_http_8080_;")),
        (format!("outbound|81|v1|{host}"), format!("web.default_web_{host}_81_tcp_8081_v1;")),
        (
            "outbound|5432||db.example.com".into(),
            "db.example.com_db.example.com_db.example.com_5432_tcp_5432_;".into(),
        ),
        ("inbound|8080||".into(), "in_web.default_http_8080;".into()),
        ("PassthroughCluster".into(), "PassthroughCluster;".into()),
    ] {
        assert_eq!(found[&name]["alt_stat_name"], json!(expected), "{name}");
    }
    let prefixes = |name: &str| texts(&listeners(&push, &web())[name], "stat_prefix");
    assert!(prefixes("10.0.0.1_81").contains(&*format!("web.default_web_{host}_81_tcp_8081_")));
    assert!(prefixes("10.0.0.2_5432").contains(&*format!("web.default_web_{host}_81_tcp_8081_v1")));
    assert!(prefixes("virtualInbound").contains("in_web.default_tcp_8081"));
    // As for clusters without a setting of the mesh.
    let push = mesh_of("", rule).push();
    assert_eq!(clusters(&push, &web())["inbound|8080||"]["alt_stat_name"], "inbound|8080||;");
    assert!(
        texts(&listeners(&push, &web())["10.0.0.2_5432"], "stat_prefix")
            .contains(&*format!("outbound|81|v1|{host}"))
    );
}

#[test]
fn workloads_are_met_at_loopback_where_the_mesh_says_so() {
    let met = |config: &str, proxy: &Proxy| {
        let mut found = clusters(&mesh_of(config, "").push(), proxy);
        found.remove("inbound|8080||").unwrap()
    };
    let origin = met("", &web());
    assert_eq!(
        (origin["type"].as_str(), origin.get("upstream_bind_config").is_some()),
        (Some("ORIGINAL_DST"), true)
    );
    let local = met("inboundTrafficPolicy: {mode: LOCALHOST}", &web());
    assert_eq!(local.get("upstream_bind_config"), None);
    let endpoint =
        &local["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"];
    assert_eq!(*endpoint, json!({"address": "127.0.0.1", "port_value": 8080}));
}

#[test]
fn tls_with_the_world_outside_is_as_the_mesh_says() {
    let objects = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g}
spec: {servers: [
  {port: {number: 8443, protocol: HTTPS, name: https}, hosts: [a.example.com], tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k}},
  {port: {number: 8444, protocol: HTTPS, name: own}, hosts: [b.example.com], tls: {mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertificates: /r, minProtocolVersion: TLSV1_2, cipherSuites: [AES256-SHA]}},
  {port: {number: 8445, protocol: HTTPS, name: mesh}, hosts: [c.example.com], tls: {mode: ISTIO_MUTUAL}},
]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: db}
spec: {host: db.example.com, trafficPolicy: {tls: {mode: SIMPLE}}}
";
    let config =
        "tlsDefaults: {minProtocolVersion: TLSV1_3, cipherSuites: [AES128-SHA], ecdhCurves: [P-256]}";
    let mesh = mesh_of(config, objects);
    let found = listeners(&mesh.push(), &web().router());
    let params = |name: &str| {
        let socket = &found[name]["filter_chains"][0]["transport_socket"]["typed_config"];
        socket["common_tls_context"]["tls_params"].clone()
    };
    let defaults = json!({"tls_minimum_protocol_version": "TLSv1_3", "cipher_suites": ["AES128-SHA"], "ecdh_curves": ["P-256"]});
    assert_eq!(params("0.0.0.0_8443"), defaults);
    let own = json!({"tls_minimum_protocol_version": "TLSv1_2", "cipher_suites": ["AES256-SHA"], "ecdh_curves": ["P-256"]});
    assert_eq!(params("0.0.0.0_8444"), own);
    assert_eq!(params("0.0.0.0_8445"), Value::Null);
    let cluster = &clusters(&mesh.push(), &web())["outbound|5432||db.example.com"];
    let params = &cluster["transport_socket"]["typed_config"]["common_tls_context"]["tls_params"];
    assert_eq!(
        (&params["cipher_suites"], &params["ecdh_curves"]),
        (&json!(["AES128-SHA"]), &json!(["P-256"]))
    );
    assert_eq!(params["tls_minimum_protocol_version"], "TLSv1_2");
}

#[test]
fn settings_that_came_to_have_an_effect_warn_of_nothing() {
    let config = "
accessLogFile: /a
accessLogEncoding: JSON
accessLogFormat: '{\"a\": 1}'
enableTracing: true
pathNormalization: {normalization: NONE}
tlsDefaults: {ecdhCurves: [P-256]}
inboundTrafficPolicy: {mode: LOCALHOST}
outboundClusterStatName: '%SERVICE%'
defaultProviders: {accessLogging: [envoy], tracing: [z]}
extensionProviders: [{name: z, zipkin: {service: z, port: 1}}]
defaultConfig: {proxyHeaders: {server: {value: x}}, gatewayTopology: {proxyProtocol: {}}, tracing: {sampling: 5}, drainDuration: 5s}
";
    let mesh = |text: &str| {
        let mesh = pilot_proto::mesh::MeshConfig::from_value(serde_saphyr::from_str(text).unwrap()).unwrap();
        pilot_core::validate::mesh(&mesh).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(mesh(config), Vec::<String>::new());
    assert_eq!(
        mesh(
            "accessLogEncoding: JSON\naccessLogFormat: '%PROTOCOL%'\ningressClass: x\nmeshMTLS: {}\npathNormalization: {how: 1}\ndefaultConfig: {proxy_headers: {server: 5}}"
        ),
        [
            "ingressClass: is not known and has no effect",
            "pathNormalization.how: is not known and has no effect",
            "accessLogFormat: is no JSON object: the default fields are logged",
            "defaultConfig.proxyHeaders.server: is 5, not a mapping and has no effect",
            "meshMTLS: is not supported yet and has no effect",
        ]
    );
}
