//! TLS and PROXY protocol.

use super::*;

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
    assert_eq!(reasons, [RejectReason::SecretForAll], "the rejection is reported");
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
