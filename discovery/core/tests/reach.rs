//! Which hosts and endpoints a proxy reaches, by what services and the mesh say of themselves.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

mod fixture;

use fixture::*;

#[test]
fn hosts_that_only_clients_name_are_looked_up() {
    let mesh = Mesh::yaml(
        r"
{kind: ServiceEntry, metadata: {name: wild}, spec: {
  hosts: ['*.example.com'], resolution: DYNAMIC_DNS,
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}],
}}
---
{kind: ServiceEntry, metadata: {name: plain}, spec: {
  hosts: [plain.org], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}],
}}
---
{kind: VirtualService, metadata: {name: other}, spec: {
  hosts: [other.org], http: [{route: [{destination: {host: '*.example.com', port: {number: 80}}}]}],
}}
---
{kind: Gateway, metadata: {name: edge}, spec: {selector: {istio: edge}, servers: [
  {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']},
  {port: {number: 443, name: tls, protocol: TLS}, tls: {mode: PASSTHROUGH}, hosts: ['*']},
]}}
---
{kind: VirtualService, metadata: {name: in}, spec: {
  hosts: ['*.example.com'], gateways: [edge],
  http: [{route: [{destination: {host: '*.example.com', port: {number: 80}}}]}],
  tls: [{match: [{port: 443, sniHosts: ['*.example.com']}],
    route: [{destination: {host: '*.example.com', port: {number: 443}}}]}],
}}
",
    );
    mesh.sidecar("default", "").check(&[
        (
            "http://9.9.9.9:80/ | host: a.example.com",
            "0.0.0.0_80 [*.example.com:80] outbound|80||*.example.com",
        ),
        ("http://9.9.9.9:80/ | host: plain.org", "0.0.0.0_80 [plain.org:80] outbound|80||plain.org"),
        ("http://9.9.9.9:80/ | host: other.org", "0.0.0.0_80 [other.org:80] outbound|80||*.example.com"),
        ("tls://9.9.9.9:443 | sni a.example.com", "0.0.0.0_443 outbound|443||*.example.com"),
        ("tls://9.9.9.9:443 | sni example.org", "0.0.0.0_443 PassthroughCluster"),
    ]);
    mesh.gateway("default", "istio=edge").check(&[
        (
            "http://9.9.9.9:80/ | host: a.example.com",
            "0.0.0.0_80 [*.example.com:80] outbound|80||*.example.com",
        ),
        ("tls://9.9.9.9:443 | sni a.example.com", "0.0.0.0_443 outbound|443||*.example.com"),
    ]);
    let rule = r"
{kind: VirtualService, metadata: {name: named}, spec: {
  hosts: ['b.example.com'], tls: [{match: [{port: 443, sniHosts: ['b.example.com']}],
    route: [{destination: {host: '*.example.com', port: {number: 443}}}]}],
}}
";
    mesh.and(rule)
        .sidecar("default", "")
        .check(&[("tls://9.9.9.9:443 | sni b.example.com", "0.0.0.0_443 outbound|443||*.example.com")]);
}

#[test]
fn nobody_is_looked_up_where_every_host_is_known() {
    let mesh = Mesh::of([kubernetes("web.default").port("http", 80).vip("10.0.0.1")], "");
    let made =
        generate(&mesh.push(), &sidecar("10.1.0.1", "default"), pilot_proto::ResourceType::Listener, None);
    let listeners: Vec<_> =
        made.resources.iter().map(|it| String::from_utf8_lossy(&it.body).into_owned()).collect();
    assert!(!listeners.is_empty() && !listeners.iter().any(|it| it.contains("dynamic_forward_proxy")));
}
