//! `VirtualService.tls` and `.tcp`: routes of connections.

use super::*;

pub(super) const TABLES: Tables = &[tcp, tcp_shares, tls, tls_conditions];

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: 10.0.0.1, ports: [{name: tcp, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: new}
spec: {clusterIP: 10.0.0.2, ports: [{name: tcp, port: 6432}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: sites}
spec:
  hosts: [a.example.com, b.example.com]
  ports: [{number: 443, name: tls, protocol: TLS}]
  resolution: DNS
";

/// Returns a client with these TCP routes for host `db`.
fn with_tcp(rules: &str) -> Client {
    let rules = virtual_service("db", &format!("hosts: [db]\ntcp: [{rules}]"));
    Mesh::yaml(MESH).and(&rules).sidecar("default", "app=cart")
}

/// Returns a client with these TLS routes for both hosts.
fn with_tls(rules: &str) -> Client {
    let rules = virtual_service("sites", &format!("hosts: [a.example.com, b.example.com]\ntls: [{rules}]"));
    Mesh::yaml(MESH).and(&rules).sidecar("default", "app=cart")
}

#[test]
fn tcp() {
    check_each(
        Look::Verdict,
        "tcp://db:5432",
        |matches| with_tcp(&format!("{{{matches}route: [{{destination: {{host: new}}}}]}}")),
        &[
            ("a rule without conditions takes all, at the only port of the service", "", "6432||new"),
            ("a rule is for the port it names", "match: [{port: 5432}], ", "6432||new"),
            ("a rule for another port is none", "match: [{port: 1}], ", "5432||db"),
            ("a rule is for the clients it selects", "match: [{sourceLabels: {app: cart}}], ", "6432||new"),
            (
                "a rule is for no clients that it does not select",
                "match: [{sourceLabels: {app: other}}], ",
                "5432||db",
            ),
            (
                "a rule is for clients of the namespace it names",
                "match: [{sourceNamespace: office}], ",
                "5432||db",
            ),
            ("a rule for gateways is for no sidecar", "match: [{gateways: [edge]}], ", "5432||db"),
            ("one of several conditions suffices", "match: [{port: 1}, {port: 5432}], ", "6432||new"),
            ("a network takes what goes there", "match: [{destinationSubnets: [10.0.0.0/8]}], ", "6432||new"),
            (
                "what goes elsewhere is the service's",
                "match: [{destinationSubnets: [192.0.2.0/24]}], ",
                "5432||db",
            ),
        ],
    );
    check(
        &with_tcp("{match: [{destinationSubnets: [10.0.0.0/8]}], route: [{destination: {host: new}}]}"),
        Look::Verdict,
        &[("rules for an address are for no other", "tcp://new:6432", "6432||new")],
    );
    check_each(
        Look::Verdict,
        "tcp://db:5432",
        with_tcp,
        &[
            (
                "port and subset are what the rule says",
                "{route: [{destination: {host: new, subset: v1, port: {number: 7}}}]}",
                "7|v1|new (missing)",
            ),
            (
                "the first rule that matches takes it",
                "{match: [{port: 5432}], route: [{destination: {host: new}}]}, {route: [{destination: {host: db}}]}",
                "6432||new",
            ),
        ],
    );
}

#[test]
fn tcp_shares() {
    check_each(
        Look::Verdict,
        "tcp://db:5432",
        |routes| with_tcp(&format!("{{route: [{routes}]}}")),
        &[
            (
                "connections are shared by weight",
                "{destination: {host: new}, weight: 30}, {destination: {host: db}, weight: 70}",
                "30% 6432||new + 70% 5432||db",
            ),
            (
                "a destination without weight gets no connections",
                "{destination: {host: new}, weight: 0}, {destination: {host: db}, weight: 70}",
                "5432||db",
            ),
            ("connections to nobody are closed", "{destination: {host: nobody}}", "5432||nobody (missing)"),
        ],
    );
}

#[test]
fn tls() {
    let swap = "{match: [{sniHosts: [a.example.com]}], route: [{destination: {host: b.example.com}}]},
      {match: [{sniHosts: [a.example.com]}], route: [{destination: {host: a.example.com}}]}";
    check(
        &with_tls(swap),
        Look::Verdict,
        &[
            (
                "a name goes where its rule says, and the first rule counts",
                "tls://a.example.com | @192.0.2.1:443",
                "443||b.example.com",
            ),
            (
                "a name without a rule is unknown: the rules of its host are for other names",
                "tls://b.example.com | @192.0.2.1:443",
                "PassthroughCluster",
            ),
        ],
    );
    check(
        &Mesh::yaml(MESH).sidecar("default", ""),
        Look::Verdict,
        &[
            (
                "without rules a name is the service's of that name",
                "tls://a.example.com | @192.0.2.1:443",
                "443||a.example.com",
            ),
            (
                "without rules each service has its own name",
                "tls://b.example.com | @192.0.2.1:443",
                "443||b.example.com",
            ),
            ("another name is unknown", "tls://c.example.com | @192.0.2.1:443", "PassthroughCluster"),
        ],
    );
}

#[test]
fn tls_conditions() {
    check_each(
        Look::Verdict,
        "tls://a.example.com | @192.0.2.1:443",
        |more| {
            with_tls(&format!(
                "{{match: [{{sniHosts: [a.example.com]{more}}}], route: [{{destination: {{host: b.example.com}}}}]}}"
            ))
        },
        &[
            ("a name at the port that is named", ", port: 443", "443||b.example.com"),
            ("a name from a client that is selected", ", sourceLabels: {app: cart}", "443||b.example.com"),
            ("a name from the namespace that is named", ", sourceNamespace: default", "443||b.example.com"),
            ("a name for sidecars and a gateway", ", gateways: [mesh, edge]", "443||b.example.com"),
            ("a name for others is as without rules", ", sourceLabels: {app: other}", "443||a.example.com"),
        ],
    );
    check_each(
        Look::Verdict,
        "tls://a.example.com | @192.0.2.1:443",
        |routes| with_tls(&format!("{{match: [{{sniHosts: [a.example.com]}}], route: [{routes}]}}")),
        &[(
            "names are shared by weight",
            "{destination: {host: a.example.com}, weight: 90}, {destination: {host: b.example.com}, weight: 10}",
            "90% 443||a.example.com + 10% 443||b.example.com",
        )],
    );
}
