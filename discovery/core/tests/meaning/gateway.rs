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
