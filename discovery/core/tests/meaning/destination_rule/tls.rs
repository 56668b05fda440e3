//! TLS of connections to a host.

use super::*;

pub(super) const TABLES: Tables = &[modes, certificates, names, secrets, proxy_protocol];

fn tls(said: &str) -> Client {
    policy(&format!("{{tls: {said}}}"))
}

#[test]
fn modes() {
    check_each(
        Look::Upstream,
        "http://b/",
        tls,
        &[
            ("DISABLE sends plaintext", "{mode: DISABLE}", "10.1.0.2:80"),
            ("SIMPLE shows no certificate", "{mode: SIMPLE, sni: x.com}", "10.1.0.2:80 tls:x.com"),
            (
                "MUTUAL shows a certificate",
                "{mode: MUTUAL, sni: x.com, clientCertificate: /c.pem, privateKey: /k.pem}",
                "10.1.0.2:80 mtls:x.com",
            ),
            (
                "ISTIO_MUTUAL asks for the cluster and shows the mesh's certificate",
                "{mode: ISTIO_MUTUAL}",
                "10.1.0.2:80 mtls:outbound_.80_._.b.default.svc.cluster.local",
            ),
            (
                "ISTIO_MUTUAL asks for what it is told to",
                "{mode: ISTIO_MUTUAL, sni: x.com}",
                "10.1.0.2:80 mtls:x.com",
            ),
        ],
    );
    check(
        &Mesh::of(services(), "").sidecar("default", ""),
        Look::Upstream,
        &[("where no rule is nothing is secured", "http://b/", "10.1.0.2:80")],
    );
    check_each(
        Look::Settings("offers"),
        "http://rpc:90/",
        |said| ruled("rpc", &format!("trafficPolicy: {{tls: {said}}}")),
        &[
            ("HTTP/2 is offered where it is spoken", "{mode: SIMPLE}", "offers h2"),
            ("HTTP/2 is offered besides the mesh's own protocol", "{mode: ISTIO_MUTUAL}", "offers istio,h2"),
        ],
    );
    check_each(
        Look::Settings("offers"),
        "http://b/",
        tls,
        &[
            ("nothing is offered where HTTP/1.1 is spoken", "{mode: SIMPLE}", ""),
            (
                "the mesh's own protocol is offered where HTTP/1.1 is spoken",
                "{mode: ISTIO_MUTUAL}",
                "offers istio",
            ),
        ],
    );
}

#[test]
fn certificates() {
    check_each(
        Look::Settings("shows"),
        "http://b/",
        tls,
        &[
            (
                "MUTUAL shows the certificate in a file",
                "{mode: MUTUAL, clientCertificate: /c.pem, privateKey: /k.pem}",
                "shows /c.pem",
            ),
            ("ISTIO_MUTUAL shows the agent's certificate", "{mode: ISTIO_MUTUAL}", "shows default"),
            ("SIMPLE has no certificate to show", "{mode: SIMPLE}", ""),
        ],
    );
    check_each(
        Look::Settings("trusts"),
        "http://b/",
        tls,
        &[
            ("roots are those of the system", "{mode: SIMPLE}", "trusts /etc/ssl/certs/ca-certificates.crt"),
            ("roots are those in a file", "{mode: SIMPLE, caCertificates: /ca.pem}", "trusts /ca.pem"),
            ("roots are none where nothing is verified", "{mode: SIMPLE, insecureSkipVerify: true}", ""),
            ("ISTIO_MUTUAL trusts the roots of the mesh", "{mode: ISTIO_MUTUAL}", "trusts ROOTCA"),
        ],
    );
    check_each(
        Look::Settings("revokes"),
        "http://b/",
        tls,
        &[(
            "what is revoked stands in a file",
            "{mode: SIMPLE, caCertificates: /ca.pem, caCrl: /crl.pem}",
            "revokes by /crl.pem",
        )],
    );
}

#[test]
fn names() {
    check_each(
        Look::Settings("expects"),
        "http://b/",
        tls,
        &[
            (
                "servers have one of these names",
                "{mode: SIMPLE, sni: x.com, subjectAltNames: [x.com, y.com]}",
                "expects x.com,y.com",
            ),
            (
                "servers have the name of the host of the request",
                "{mode: SIMPLE}",
                "expects the host of the request",
            ),
            ("servers have any name where none is verified", "{mode: SIMPLE, insecureSkipVerify: true}", ""),
        ],
    );
    check_each(
        Look::Settings("asks"),
        "http://b/",
        tls,
        &[
            (
                "without a name the host of the request is asked for",
                "{mode: SIMPLE}",
                "asks for the host of the request",
            ),
            ("with a name that is asked for", "{mode: SIMPLE, sni: x.com}", ""),
        ],
    );
}

#[test]
fn secrets() {
    let secret = "tls: {mode: SIMPLE, sni: x.com, credentialName: c}";
    let mesh = |more: &str| {
        let rule =
            object("DestinationRule", "rule", &format!("host: b\n{more}\ntrafficPolicy: {{{secret}}}"));
        Mesh::of(services(), &rule)
    };
    let selected = "workloadSelector: {matchLabels: {app: web}}";
    check_each(
        Look::Upstream,
        "http://b/",
        |more| mesh(more).sidecar("default", "app=web"),
        &[
            ("a sidecar is told of a secret by a rule for its workload", selected, "10.1.0.2:80 tls:x.com"),
            ("a sidecar is not told of a secret by a rule for all", "", "10.1.0.2:80"),
        ],
    );
    let entered = object(
        "VirtualService",
        "b",
        "hosts: ['*']\ngateways: [edge]\nhttp: [{route: [{destination: {host: b, port: {number: 80}}}]}]",
    );
    let edge = object(
        "Gateway",
        "edge",
        "servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]",
    );
    let gateway = mesh("").and(&entered).and(&edge).gateway("istio-system", "istio=ingressgateway");
    check(
        &gateway,
        Look::Settings("trusts"),
        &[(
            "a gateway is told of every secret",
            "http://192.0.2.1/ | host: x.com",
            "trusts kubernetes://c-cacert",
        )],
    );
}

#[test]
fn proxy_protocol() {
    check_each(
        Look::Settings("sends PROXY"),
        "http://b/",
        policy,
        &[
            (
                "the PROXY protocol in text",
                "{proxyProtocol: {version: V1}}",
                "sends PROXY protocol version 1",
            ),
            (
                "the PROXY protocol in bytes",
                "{proxyProtocol: {version: V2}}",
                "sends PROXY protocol version 2",
            ),
            ("without the PROXY protocol nothing is told", "{tls: {mode: DISABLE}}", ""),
        ],
    );
    check_each(
        Look::Upstream,
        "http://b/",
        policy,
        &[(
            "the PROXY protocol is outside of TLS",
            "{proxyProtocol: {version: V2}, tls: {mode: SIMPLE, sni: x.com}}",
            "10.1.0.2:80 tls:x.com",
        )],
    );
}
