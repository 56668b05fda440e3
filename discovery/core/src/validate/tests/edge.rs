use super::*;

/// One server, with what is different about it.
fn server(different: &Value, expected: &[&str]) {
    let mut server = json!({"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]});
    for (field, value) in different.as_object().unwrap() {
        server[field] = value.clone();
    }
    check(ConfigKind::Gateway, &json!({"servers": [server]}), expected);
}

#[test]
fn a_server_has_a_port_and_hosts() {
    server(&json!({"hosts": ["a.b", "*.b", "./c.d", "*/*", "ns/e.f", "10.0.0.1"]}), &[]);
    server(&json!({"bind": "unix:///run/x", "port": {"name": "x", "protocol": "HTTP"}}), &[]);
    server(&json!({"hosts": []}), &["spec.servers[0].hosts: needs at least one"]);
    server(
        &json!({"hosts": ["short", "*a.b", "~/c.d", "a_b.c"]}),
        &[
            "spec.servers[0].hosts[0]: \"short\" is a short name",
            "spec.servers[0].hosts[1]: \"*a.b\" has a wildcard",
            "spec.servers[0].hosts[2]: \"~\" is neither",
            "spec.servers[0].hosts[3]: \"a_b.c\" is no host",
        ],
    );
    server(&json!({"port": null}), &["spec.servers[0].port: is missing"]);
    server(
        &json!({"port": {"protocol": "SMTP", "targetPort": 1}}),
        &[
            "spec.servers[0].port.protocol: \"SMTP\" is no protocol",
            "spec.servers[0].port.number: 0 is no port",
            "spec.servers[0].port.targetPort: gateways have no",
            "spec.servers[0].port.name: is missing",
        ],
    );
    server(
        &json!({"bind": "unix://x"}),
        &[
            "spec.servers[0].bind: \"x\" is no absolute path",
            "spec.servers[0].bind: a Unix socket has no port",
        ],
    );
    server(&json!({"bind": "a.b"}), &["spec.servers[0].bind: \"a.b\" is no IP"]);
    check(ConfigKind::Gateway, &json!({}), &["spec.servers: needs at least one"]);
    let port = json!({"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]});
    check(
        ConfigKind::Gateway,
        &json!({"servers": [port, port]}),
        &["spec.servers[1].port.name: \"http\" is taken"],
    );
    let mut named = object(ConfigKind::Gateway, &json!({"servers": [port]}));
    named.meta.name = "a.b".into();
    assert_eq!(told(&named), ["metadata.name: \"a.b\" is not a single DNS label"]);
}

#[test]
fn tls_ends_with_one_certificate_from_one_place() {
    let tls = |tls: Value, expected: &[&str]| {
        let expected: Vec<String> =
            expected.iter().map(|line| line.replace("TLS.", "spec.servers[0].tls.")).collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        server(
            &json!({"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "tls": tls}),
            &expected,
        );
    };
    tls(json!({"mode": "SIMPLE", "credentialName": "c", "minProtocolVersion": "TLSV1_2"}), &[]);
    tls(json!({"mode": "PASSTHROUGH"}), &[]);
    tls(json!(null), &["spec.servers[0].tls: is missing"]);
    tls(
        json!({"mode": "MUTUAL"}),
        &[
            "TLS.caCertificates: is missing",
            "TLS.serverCertificate: is missing",
            "TLS.privateKey: is missing",
        ],
    );
    tls(
        json!({"mode": "SIMPLE", "credentialName": "c", "credentialNames": ["d"]}),
        &["spec.servers[0].tls: has credentialName and credentialNames"],
    );
    tls(
        json!({"mode": "SIMPLE", "tlsCertificates": [{"serverCertificate": "c"}], "caCrl": "l"}),
        &["TLS.caCrl: mode SIMPLE", "TLS.tlsCertificates[0].privateKey: is missing"],
    );
    tls(
        json!({"mode": "ISTIO_MUTUAL", "privateKey": "k", "credentialName": "c"}),
        &["TLS.privateKey: mode ISTIO_MUTUAL", "TLS.credentialName: mode ISTIO_MUTUAL"],
    );
    tls(
        json!({"mode": "AUTO_PASSTHROUGH", "credentialName": "c"}),
        &["warning TLS.mode: TLS does not end here"],
    );
    tls(
        json!({"mode": "SIMPLE", "credentialNames": ["a", "b", "c"]}),
        &["TLS.credentialNames: 3 are too many"],
    );
    tls(
        json!({"mode": "SIMPLE", "credentialName": "c", "cipherSuites": ["AES128-SHA", "RC4", "AES128-SHA"], "minProtocolVersion": "TLSV1_3", "maxProtocolVersion": "TLSV1_2"}),
        &[
            "warning TLS.maxProtocolVersion: is before",
            "warning TLS.cipherSuites[1]: \"RC4\" is no suite",
            "warning TLS.cipherSuites[2]: \"AES128-SHA\" is there before",
        ],
    );
    tls(
        json!({"mode": "SIMPLE", "credentialName": "c", "ecdhCurves": ["P-256", "P-1"]}),
        &["warning TLS.ecdhCurves[1]: \"P-1\" is no curve"],
    );
    tls(
        json!({"mode": "SIMPLE", "credentialName": "c", "minProtocolVersion": "TLSV1_0"}),
        &["warning TLS.minProtocolVersion: before 1.2"],
    );
    // Plaintext may send its clients to where TLS is.
    server(&json!({"tls": {"httpsRedirect": true}}), &[]);
    server(
        &json!({"tls": {"mode": "SIMPLE", "credentialName": "c"}}),
        &["spec.servers[0].tls: protocol HTTP is without TLS"],
    );
    let tcp = json!({"number": 1, "name": "tcp", "protocol": "TCP"});
    server(
        &json!({"port": tcp, "tls": {"httpsRedirect": true}}),
        &[
            "warning TLS.httpsRedirect".replace("TLS.", "spec.servers[0].tls.").as_str(),
            "spec.servers[0].tls: protocol TCP",
        ],
    );
}

#[test]
fn a_sidecar_listens_to_what_can_be_listened_to() {
    let sidecar = |value: Value, expected: &[&str]| check(ConfigKind::Sidecar, &value, expected);
    sidecar(json!({}), &["spec: says nothing"]);
    sidecar(
        json!({"workloadSelector": {"labels": {"a": "b"}}, "egress": [{"hosts": ["./*", "istio-system/*", "~other/*.x", "~/*"]}]}),
        &[],
    );
    sidecar(
        json!({"egress": [{"hosts": ["*/*"]}, {"port": {"number": 80, "protocol": "HTTP"}, "hosts": []}]}),
        &["spec.egress[0].port: is missing", "spec.egress[1].hosts: needs at least one"],
    );
    sidecar(
        json!({"egress": [{"hosts": ["a.b", "x_y/a.b", "*/short", "./*a.b", "default/a.b", "./a.b", "*/*"]}]}),
        &[
            "spec.egress[0].hosts[0]: \"a.b\" is not of the form",
            "spec.egress[0].hosts[1]: \"x_y\" is neither",
            "spec.egress[0].hosts[2]: \"short\" is a short name",
            "spec.egress[0].hosts[3]: \"*a.b\" has a wildcard",
            "warning spec.egress[0].hosts[5]: is there before",
            "warning spec.egress[0].hosts[6]: is there before",
            "warning spec.egress[0].hosts: \"*/*\" is everything",
        ],
    );
    sidecar(
        json!({"egress": [
            {"port": {"number": 80, "name": "a_b"}, "bind": "x", "hosts": ["*/*"]},
            {"port": {"number": 80, "targetPort": 1}, "hosts": ["*/*"]},
            {"port": {"protocol": "HTTP"}, "bind": "unix:///a", "captureMode": "IPTABLES", "hosts": ["*/*"]},
            {"port": {"protocol": "NOPE"}, "hosts": ["*/*"]},
        ]}),
        &[
            "spec.egress[0].port.name: \"a_b\" is not",
            "spec.egress[0].bind: \"x\" is no IP",
            "spec.egress[1].port.targetPort: sidecars have no",
            "spec.egress[1].port: is taken",
            "spec.egress[2].captureMode: nothing is redirected",
            "spec.egress[3].port.protocol: \"NOPE\" is no protocol",
            "spec.egress[3].bind: port 0 is for Unix",
        ],
    );
    let ingress = |different: Value, expected: &[&str]| {
        let mut listener = json!({"port": {"number": 80, "protocol": "HTTP", "name": "http"}});
        for (field, value) in different.as_object().unwrap() {
            listener[field] = value.clone();
        }
        check(ConfigKind::Sidecar, &json!({"ingress": [listener]}), expected);
    };
    for endpoint in
        ["127.0.0.1:80", "0.0.0.0:1", "[::1]:80", "[::]:80", ":80", "unix:///run/app", "unix://@app", ""]
    {
        ingress(json!({"defaultEndpoint": endpoint}), &[]);
    }
    ingress(
        json!({"defaultEndpoint": "10.0.0.1:80"}),
        &["spec.ingress[0].defaultEndpoint: \"10.0.0.1:80\" is neither"],
    );
    ingress(json!({"defaultEndpoint": ":x"}), &["spec.ingress[0].defaultEndpoint: \"x\" is no port"]);
    ingress(json!({"defaultEndpoint": ":70000"}), &["spec.ingress[0].defaultEndpoint: 70000 is no port"]);
    ingress(json!({"port": null}), &["spec.ingress[0].port: is missing"]);
    ingress(
        json!({"tls": {"mode": "SIMPLE", "credentialName": "c"}}),
        &[
            "spec.ingress[0].tls.credentialName: is for gateways",
            "spec.ingress[0].tls: protocol \"HTTP\" is without TLS",
            "warning spec.ingress[0].tls: is not supported yet",
        ],
    );
    ingress(
        json!({"port": {"number": 1, "protocol": "TCP"}, "connectionPool": {"http": {"maxRetries": 1}}}),
        &["warning spec.ingress[0].connectionPool.http: has no effect"],
    );
    ingress(
        json!({"port": {"number": 80, "protocol": "HTTP_PROXY"}}),
        &["warning spec.ingress[0].port.protocol: HTTP_PROXY is for the egress"],
    );
    check(
        ConfigKind::Sidecar,
        &json!({"egress": [{"port": {"number": 80, "protocol": "HTTP_PROXY", "name": "proxy"}, "hosts": ["*/*"]}]}),
        &[],
    );
    let policy = |policy: Value, expected: &[&str]| {
        check(ConfigKind::Sidecar, &json!({"outboundTrafficPolicy": policy}), expected);
    };
    policy(json!({"mode": "ALLOW_ANY", "egressProxy": {"host": "a.b", "port": {"number": 80}}}), &[]);
    policy(
        json!({"mode": "ALLOW_ANY", "egressProxy": {"host": "*.b"}}),
        &[
            "spec.outboundTrafficPolicy.egressProxy.host: ",
            "spec.outboundTrafficPolicy.egressProxy.port: is missing",
        ],
    );
    policy(
        json!({"egressProxy": {"host": "a.b", "port": {"number": 80}}}),
        &["spec.outboundTrafficPolicy.egressProxy: is for mode ALLOW_ANY"],
    );
}
