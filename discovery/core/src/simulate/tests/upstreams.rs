//! Clusters: their endpoints, the security of connections to them, their source objects.

use super::*;

const CLUSTERS: &str = "
clusters:
- {name: eds, type: EDS, eds_cluster_config: {service_name: other}}
- {name: empty, type: EDS}
- name: secured
  type: EDS
  eds_cluster_config: {service_name: other}
  metadata: {filter_metadata: {istio: {config: /apis/networking.istio.io/v1/namespaces/ns/destination-rule/dr}}}
  transport_socket_matches:
  - name: mtls
    match: {tlsMode: istio}
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: outbound_.80_._.a
        common_tls_context: {tls_certificate_sds_secret_configs: [{name: default}]}
  - {name: plain, match: {}, transport_socket: {name: envoy.transport_sockets.raw_buffer}}
- name: simple
  type: LOGICAL_DNS
  load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: api.example.com, port_value: 443}}}}]}]}
  transport_socket:
    name: envoy.transport_sockets.tls
    typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: api.example.com}
- {name: BlackHoleCluster, type: STATIC}
- {name: PassthroughCluster, type: ORIGINAL_DST}
- {name: dfp, cluster_type: {name: envoy.clusters.dynamic_forward_proxy}}
assignments:
- cluster_name: other
  endpoints:
  - priority: 1
    locality: {region: r2}
    lb_endpoints: [{endpoint: {address: {socket_address: {address: 'fd00::1', port_value: 80}}}, health_status: UNHEALTHY}]
  - locality: {region: r1, zone: z1}
    load_balancing_weight: 70
    lb_endpoints:
    - endpoint: {address: {socket_address: {address: 10.1.0.1, port_value: 80}}}
      load_balancing_weight: 3
      metadata: {filter_metadata: {envoy.transport_socket_match: {tlsMode: istio}}}
    - endpoint: {address: {pipe: {path: /run/a}}}
      health_status: DEGRADED
";

#[test]
fn a_cluster_says_who_is_behind_it() {
    let told = told(CLUSTERS);
    for (name, there, expected) in [
        (
            "eds",
            true,
            "10.1.0.1:80 w3 r1/z1=70, unix:///run/a r1/z1=70 degraded, [fd00::1]:80 p1 r2 unhealthy",
        ),
        (
            "secured",
            true,
            "10.1.0.1:80 w3 r1/z1=70 mtls:outbound_.80_._.a, unix:///run/a r1/z1=70 degraded, [fd00::1]:80 p1 r2 unhealthy",
        ),
        ("empty", false, "has no endpoints"),
        ("simple", true, "api.example.com:443 tls:api.example.com"),
        ("BlackHoleCluster", false, "leads nowhere"),
        ("PassthroughCluster", true, "leads on to where the client wanted"),
        ("dfp", true, "finds its endpoints by envoy.clusters.dynamic_forward_proxy"),
        ("nobody", false, "is not there"),
    ] {
        let (upstream, step) = told.upstream(name);
        assert_eq!(upstream.to_string(), expected, "{name}");
        assert_eq!(upstream.is_there(), there, "{name}");
        assert_eq!(step.what, expected);
    }
    assert_eq!(told.upstream("secured").1.origins, ["DestinationRule/ns/dr"]);
    assert_eq!(told.hostname("simple").as_deref(), Some("api.example.com"));
    assert_eq!(told.hostname("eds"), None);
    assert_eq!(told.wanted_assignments(), ["empty", "other"].into_iter().map(std::sync::Arc::from).collect());
}
