//! `Gateway`: what enters the mesh, and where to.

use super::check;
use crate::fixture::{Client, Mesh};

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}, {name: tcp, port: 9000}, {name: tls, port: 443}]}
";

fn gateway(servers: &str, rules: &str) -> Client {
    let mesh = Mesh::yaml(MESH).and(&format!(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: shop}}
spec: {{selector: {{istio: ingressgateway}}, servers: [{servers}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: web, namespace: shop}}
spec: {{gateways: [edge], hosts: ['*.example.com'], {rules}}}
"
    ));
    mesh.gateway("istio-system", "istio=ingressgateway")
}

const TO_BYTES: &str = "route: [{destination: {host: web, port: {number: 9000}}}]";
const TO_TLS: &str = "route: [{destination: {host: web, port: {number: 443}}}]";

#[test]
fn bytes_enter_at_the_port_of_a_server() {
    let server = "{port: {number: 9000, name: tcp, protocol: TCP}, hosts: ['*']}";
    check(
        &gateway(server, &format!("tcp: [{{{TO_BYTES}}}]")),
        &[
            (
                "and go where the first rule says",
                "tcp://192.0.2.1:9000",
                "0.0.0.0_9000 outbound|9000||web.shop.svc.cluster.local",
            ),
            ("nothing listens at other ports", "tcp://192.0.2.1:9001", "refused"),
        ],
    );
    check(
        &gateway(server, &format!("tcp: [{{match: [{{port: 1}}], {TO_BYTES}}}]")),
        &[("a rule for another port is none for this", "tcp://192.0.2.1:9000", "refused")],
    );
}

#[test]
fn tls_is_passed_on_by_name() {
    let server =
        "{port: {number: 443, name: tls, protocol: TLS}, hosts: ['*.example.com'], tls: {mode: PASSTHROUGH}}";
    check(
        &gateway(server, &format!("tls: [{{match: [{{sniHosts: [a.example.com]}}], {TO_TLS}}}]")),
        &[
            (
                "to where the rule for the name says",
                "tls://a.example.com | @192.0.2.1:443",
                "0.0.0.0_443 outbound|443||web.shop.svc.cluster.local",
            ),
            ("other names find nobody", "tls://b.example.com | @192.0.2.1:443", "0.0.0.0_443 closed"),
        ],
    );
}

#[test]
fn tls_ends_at_a_server_with_a_certificate() {
    let server = "{port: {number: 443, name: tls, protocol: TLS}, hosts: ['a.example.com'],
      tls: {mode: SIMPLE, serverCertificate: /etc/cert.pem, privateKey: /etc/key.pem}}";
    check(
        &gateway(server, &format!("tcp: [{{{TO_BYTES}}}]")),
        &[
            (
                "and what is inside goes where the rule for bytes says",
                "tls://a.example.com | @192.0.2.1:443",
                "0.0.0.0_443 outbound|9000||web.shop.svc.cluster.local",
            ),
            (
                "for the hosts of the server alone",
                "tls://b.example.com | @192.0.2.1:443",
                "0.0.0.0_443 closed",
            ),
        ],
    );
}

const HTTP: &str = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example.com']}";

#[test]
fn requests_enter_at_the_port_of_a_server() {
    let to =
        "http: [{match: [{uri: {prefix: /api}}], route: [{destination: {host: web, port: {number: 80}}}]}]";
    check(
        &gateway(HTTP, to),
        &[
            (
                "and go where the rules for their host say",
                "http://192.0.2.1/api | host: a.example.com",
                "0.0.0.0_80 [*.example.com:80] outbound|80||web.shop.svc.cluster.local",
            ),
            (
                "a path without a rule finds nobody",
                "http://192.0.2.1/ | host: a.example.com",
                "0.0.0.0_80 [*.example.com:80] 404",
            ),
            ("so does another host", "http://192.0.2.1/api | host: example.org", "0.0.0.0_80 404"),
            (
                "the port in a host says nothing",
                "http://192.0.2.1/api | host: a.example.com:80",
                "0.0.0.0_80 [*.example.com:80] outbound|80||web.shop.svc.cluster.local",
            ),
        ],
    );
    check(
        &gateway("{port: {number: 80, name: http, protocol: HTTP}, hosts: ['a.example.com']}", to),
        &[
            (
                "of two hosts the narrower one is served",
                "http://192.0.2.1/api | host: a.example.com",
                "0.0.0.0_80 [a.example.com:80] outbound|80||web.shop.svc.cluster.local",
            ),
            (
                "and nothing else of the wider one",
                "http://192.0.2.1/api | host: b.example.com",
                "0.0.0.0_80 404",
            ),
        ],
    );
    check(
        &gateway("{port: {number: 80, name: http, protocol: HTTP}, hosts: ['other/*']}", to),
        &[(
            "rules of other namespaces than the server names are not for it",
            "http://192.0.2.1/api | host: a.example.com",
            "0.0.0.0_80 [blackhole:80] 404",
        )],
    );
    check(
        &gateway("{port: {number: 80, name: http, protocol: HTTP}, hosts: ['./*']}", to),
        &[(
            "`.` is the namespace of the Gateway",
            "http://192.0.2.1/api | host: a.example.com",
            "0.0.0.0_80 [*.example.com:80] outbound|80||web.shop.svc.cluster.local",
        )],
    );
}

#[test]
fn requests_in_plaintext_may_be_sent_to_https() {
    let server = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example.com'], tls: {httpsRedirect: true}}";
    let to = "http: [{route: [{destination: {host: web, port: {number: 80}}}]}]";
    check(
        &gateway(server, to),
        &[(
            "of every host of the server",
            "http://192.0.2.1/x | host: a.example.com",
            "0.0.0.0_80 [*.example.com:80] 301 https://a.example.com/x",
        )],
    );
}

#[test]
fn https_ends_at_a_server_with_a_certificate() {
    let server = |name: &str, host: &str| {
        format!(
            "{{port: {{number: 443, name: {name}, protocol: HTTPS}}, hosts: ['{host}'],
              tls: {{mode: SIMPLE, serverCertificate: /etc/cert.pem, privateKey: /etc/key.pem}}}}"
        )
    };
    let to = "http: [{route: [{destination: {host: web, port: {number: 80}}}]}]";
    let two = format!("{}, {}", server("a", "a.example.com"), server("b", "b.example.com"));
    check(
        &gateway(&two, to),
        &[
            (
                "each name has the routes of its server",
                "https://a.example.com/ | @192.0.2.1:443",
                "0.0.0.0_443 [a.example.com:443] outbound|80||web.shop.svc.cluster.local",
            ),
            (
                "a name that nobody serves is closed",
                "https://c.example.com/ | @192.0.2.1:443",
                "0.0.0.0_443 closed",
            ),
            (
                "a request for another host than the name is not routed",
                "https://a.example.com/ | @192.0.2.1:443 | host: b.example.com",
                "0.0.0.0_443 404",
            ),
            ("plaintext is closed", "http://192.0.2.1:443/ | host: a.example.com", "0.0.0.0_443 closed"),
        ],
    );
    let same = format!("{}, {}", server("a", "a.example.com"), server("b", "a.example.com"));
    check(
        &gateway(&same, to),
        &[(
            "of two servers for one name the first one has it",
            "https://a.example.com/ | @192.0.2.1:443",
            "0.0.0.0_443 [a.example.com:443] outbound|80||web.shop.svc.cluster.local",
        )],
    );
}

#[test]
fn who_has_a_port_first_decides_what_is_spoken_there() {
    let servers = "{port: {number: 80, name: tcp, protocol: TCP}, hosts: ['*']}, {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}";
    let rules = format!(
        "tcp: [{{{TO_BYTES}}}], http: [{{route: [{{destination: {{host: web, port: {{number: 80}}}}}}]}}]"
    );
    check(
        &gateway(servers, &rules),
        &[("bytes came first", "http://192.0.2.1/", "0.0.0.0_80 outbound|9000||web.shop.svc.cluster.local")],
    );
}

#[test]
fn tls_of_the_mesh_is_passed_on_by_the_cluster_that_its_sni_names() {
    let server = "{port: {number: 15443, name: tls, protocol: TLS}, hosts: ['*.local'], tls: {mode: AUTO_PASSTHROUGH}}";
    let sni = "outbound_.9000_._.web.shop.svc.cluster.local";
    let client = gateway(server, "http: [{route: [{destination: {host: web}}]}]");
    check(
        &client,
        &[
            (
                "to the cluster",
                &format!("tls://{sni} | @192.0.2.1:15443 | alpn istio"),
                &format!("0.0.0.0_15443 {sni}"),
            ),
            (
                "whoever does not offer the mesh's protocols is closed",
                &format!("tls://{sni} | @192.0.2.1:15443 | alpn h2"),
                "0.0.0.0_15443 closed",
            ),
        ],
    );
}
