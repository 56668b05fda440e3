//! Endpoints of a `ServiceEntry`.

use super::*;

pub(super) const TABLES: Tables =
    &[resolution, dns, ports, weights_and_places, labels, networks, location, identities];

const CALL: &str = "http://api.example.com/";

#[test]
fn resolution() {
    check_each(
        Look::Upstream,
        CALL,
        client,
        &[
            (
                "STATIC has the endpoints that are listed",
                "resolution: STATIC\nendpoints: [{address: 192.0.2.1}, {address: 192.0.2.2}]",
                "192.0.2.1:80, 192.0.2.2:80",
            ),
            ("STATIC without any has none", "resolution: STATIC", "has no endpoints"),
            ("DNS asks for the host", "resolution: DNS", "api.example.com:80"),
            (
                "DNS asks for the names that are listed",
                "resolution: DNS\nendpoints: [{address: a.example.net}, {address: b.example.net}]",
                "a.example.net:80, b.example.net:80",
            ),
            (
                "an address needs no DNS and may be listed with names",
                "resolution: DNS\nendpoints: [{address: a.example.net}, {address: 192.0.2.1}]",
                "192.0.2.1:80, a.example.net:80",
            ),
            ("DNS_ROUND_ROBIN asks for the host", "resolution: DNS_ROUND_ROBIN", "api.example.com:80"),
            ("NONE goes where the client wanted", "resolution: NONE", "leads on to where the client wanted"),
            ("nothing said is NONE", "", "leads on to where the client wanted"),
        ],
    );
}

#[test]
fn dns() {
    check_each(
        Look::Settings("takes"),
        CALL,
        client,
        &[
            ("DNS takes all answers", "resolution: DNS", "takes all answers of DNS every 60s, v4 only"),
            (
                "DNS_ROUND_ROBIN takes the first one for each connection",
                "resolution: DNS_ROUND_ROBIN",
                "takes the first answer of DNS every 60s, v4 only",
            ),
            ("STATIC asks nobody", "resolution: STATIC\nendpoints: [{address: 192.0.2.1}]", ""),
        ],
    );
}

#[test]
fn ports() {
    let entry = |said: &str| {
        let (port, endpoint) = said.split_once(" | ").unwrap();
        let spec = format!(
            "hosts: [api.example.com]\nports: [{{number: 80, name: http, protocol: HTTP{port}}}]\nresolution: STATIC\nendpoints: [{{{endpoint}}}]"
        );
        Mesh::yaml(&object("ServiceEntry", "api", &spec)).sidecar("default", "")
    };
    check_each(
        Look::Upstream,
        CALL,
        entry,
        &[
            ("endpoints listen where clients connect to", " | address: 192.0.2.1", "192.0.2.1:80"),
            (
                "endpoints listen at the target port",
                ", targetPort: 8080 | address: 192.0.2.1",
                "192.0.2.1:8080",
            ),
            (
                "endpoints listen where they say themselves",
                " | address: 192.0.2.1, ports: {http: 9080}",
                "192.0.2.1:9080",
            ),
            (
                "what an endpoint says wins over the target port",
                ", targetPort: 8080 | address: 192.0.2.1, ports: {http: 9080}",
                "192.0.2.1:9080",
            ),
            ("a socket has no port", "  | address: 'unix:///run/api'", "unix:///run/api"),
        ],
    );
    let dns = "hosts: [api.example.com]\nports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]\nresolution: DNS";
    check(
        &Mesh::yaml(&object("ServiceEntry", "api", dns)).sidecar("default", ""),
        Look::Upstream,
        &[("a host of DNS listens at the target port too", CALL, "api.example.com:8080")],
    );
}

#[test]
fn weights_and_places() {
    check_each(
        Look::Upstream,
        CALL,
        |endpoint| client(&format!("resolution: STATIC\nendpoints: [{{address: 192.0.2.1, {endpoint}}}]")),
        &[
            ("an endpoint has a weight", "weight: 3", "192.0.2.1:80 w3"),
            ("a weight of 0 is 1", "weight: 0", "192.0.2.1:80"),
            ("an endpoint is somewhere", "locality: r1/z1/s1", "192.0.2.1:80 r1/z1/s1=1"),
            ("a label may say where", "labels: {istio-locality: r1.z1.s1}", "192.0.2.1:80 r1/z1/s1=1"),
            (
                "what the endpoint says wins over its labels",
                "locality: r2, labels: {istio-locality: r1}",
                "192.0.2.1:80 r2=1",
            ),
        ],
    );
}

#[test]
fn labels() {
    let rules = object(
        "VirtualService",
        "api",
        "hosts: [api.example.com]\nhttp: [{route: [{destination: {host: api.example.com, subset: v1}}]}]",
    );
    let subset = object(
        "DestinationRule",
        "api",
        "host: api.example.com\nsubsets: [{name: v1, labels: {version: v1}}]",
    );
    check_each(
        Look::Upstream,
        CALL,
        |spec| Mesh::yaml(&entry_of(spec)).and(&rules).and(&subset).sidecar("default", ""),
        &[
            (
                "labels of endpoints make subsets",
                "resolution: STATIC\nendpoints: [{address: 192.0.2.1, labels: {version: v1}}, {address: 192.0.2.2}]",
                "192.0.2.1:80",
            ),
            (
                "labels of names make subsets too",
                "resolution: DNS\nendpoints: [{address: a.example.net, labels: {version: v1}}, {address: b.example.net}]",
                "a.example.net:80",
            ),
        ],
    );
}

#[test]
fn networks() {
    let networks = "{networks: {n1: {gateways: [{address: 20.0.0.1, port: 15443}]}, n2: {gateways: [{address: 20.0.0.2, port: 15443}]}}}";
    check_each(
        Look::Upstream,
        CALL,
        |endpoint| {
            let entry = entry_of(&format!(
                "location: MESH_INTERNAL\nresolution: STATIC\nendpoints: [{{address: 10.5.0.1, {endpoint}}}]"
            ));
            let proxy =
                introduced("sidecar~10.9.0.1~web.default~default.svc.cluster.local", "{NETWORK: n1}", "");
            Mesh::yaml(&entry).networks(networks).proxy(proxy)
        },
        &[
            ("an endpoint of the client's network is reached directly", "network: n1", "10.5.0.1:80"),
            (
                "an endpoint of another network is reached through its gateway, if it is of the mesh",
                "network: n2, labels: {security.istio.io/tlsMode: istio}",
                "20.0.0.2:15443",
            ),
            ("a gateway of another network lets in nobody but the mesh", "network: n2", "has no endpoints"),
            ("an endpoint of a network without gateways is reached directly", "network: n3", "10.5.0.1:80"),
        ],
    );
}

#[test]
fn location() {
    let edge = object(
        "Gateway",
        "edge",
        "servers: [{port: {number: 15443, name: tls, protocol: TLS}, hosts: ['*.example.com'], tls: {mode: AUTO_PASSTHROUGH}}]",
    );
    check_each(
        Look::Verdict,
        "tls://outbound_.9000_._.api.example.com | @192.0.2.9:15443 | alpn istio",
        |location| {
            let entry = entry_of(&format!(
                "location: {location}\nresolution: STATIC\nendpoints: [{{address: 192.0.2.1}}]"
            ));
            Mesh::yaml(&entry).and(&edge).gateway("istio-system", "")
        },
        &[
            (
                "what is of the mesh is reached from other networks",
                "MESH_INTERNAL",
                "outbound_.9000_._.api.example.com",
            ),
            ("what is not of the mesh is not reached from other networks", "MESH_EXTERNAL", "refused"),
        ],
    );
}

#[test]
fn identities() {
    let names = "subjectAltNames: [spiffe://x/api, api.example.com]";
    check_each(
        Look::Settings("expects"),
        CALL,
        |tls| {
            let rule = object(
                "DestinationRule",
                "api",
                &format!("host: api.example.com\ntrafficPolicy: {{tls: {tls}}}"),
            );
            Mesh::yaml(&entry_of(&format!("resolution: DNS\n{names}"))).and(&rule).sidecar("default", "")
        },
        &[
            (
                "servers have the names that are declared",
                "{mode: SIMPLE, sni: x.com}",
                "expects spiffe://x/api,api.example.com",
            ),
            (
                "names of a rule win over those that are declared",
                "{mode: SIMPLE, sni: x.com, subjectAltNames: [y.com]}",
                "expects y.com",
            ),
        ],
    );
}
