//! `VirtualService.tls` and `.tcp` in sidecars: connections that are not read.

use super::check;
use crate::fixture::Mesh;

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: 10.0.0.1, ports: [{name: tcp, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: new, namespace: shop}
spec: {clusterIP: 10.0.0.2, ports: [{name: tcp, port: 6432}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: sites, namespace: shop}
spec:
  hosts: [a.example.com, b.example.com]
  ports: [{number: 443, name: tls, protocol: TLS}]
  resolution: DNS
";

fn tcp(rule: &str) -> Mesh {
    Mesh::yaml(MESH).and(&format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: db, namespace: shop}}
spec: {{hosts: [db], tcp: [{rule}]}}
"
    ))
}

fn tls(rules: &str) -> Mesh {
    Mesh::yaml(MESH).and(&format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: sites, namespace: shop}}
spec: {{hosts: [a.example.com, b.example.com], tls: [{rules}]}}
"
    ))
}

const DB: &str = "10.0.0.1_5432 outbound|5432||db.shop.svc.cluster.local";
const NEW: &str = "10.0.0.1_5432 outbound|6432||new.shop.svc.cluster.local";

#[test]
fn bytes_go_where_the_first_rule_says() {
    let to = "route: [{destination: {host: new}}]";
    let shop = |mesh: Mesh| mesh.sidecar("shop", "app=cart");
    check(
        &shop(tcp(&format!("{{{to}}}"))),
        &[("a rule without conditions takes all, at the only port of the service", "tcp://db:5432", NEW)],
    );
    check(
        &shop(tcp(&format!("{{match: [{{port: 5432}}], {to}}}"))),
        &[("a rule is for the port it names", "tcp://db:5432", NEW)],
    );
    check(
        &shop(tcp(&format!("{{match: [{{port: 1}}], {to}}}"))),
        &[("and for no other", "tcp://db:5432", DB)],
    );
    check(
        &shop(tcp(&format!("{{match: [{{sourceLabels: {{app: cart}}}}], {to}}}"))),
        &[("a rule is for the clients it selects", "tcp://db:5432", NEW)],
    );
    check(
        &shop(tcp(&format!("{{match: [{{sourceLabels: {{app: other}}}}], {to}}}"))),
        &[("and for no others", "tcp://db:5432", DB)],
    );
    check(
        &shop(tcp(&format!("{{match: [{{sourceNamespace: office}}], {to}}}"))),
        &[("a rule is for clients of the namespace it names", "tcp://db:5432", DB)],
    );
    check(
        &shop(tcp(&format!("{{match: [{{gateways: [edge]}}], {to}}}"))),
        &[("a rule for gateways is for no sidecar", "tcp://db:5432", DB)],
    );
    check(
        &shop(tcp(&format!("{{match: [{{port: 1}}, {{port: 5432}}], {to}}}"))),
        &[("one of several conditions suffices", "tcp://db:5432", NEW)],
    );
    check(
        &shop(tcp(&format!("{{match: [{{destinationSubnets: [10.0.0.0/8]}}], {to}}}"))),
        &[("a network takes what goes there", "tcp://db:5432", NEW)],
    );
    check(
        &shop(tcp(&format!("{{match: [{{destinationSubnets: [192.0.2.0/24]}}], {to}}}"))),
        &[("what goes elsewhere is the service's", "tcp://db:5432", DB)],
    );
    let subset = "route: [{destination: {host: new, subset: v1, port: {number: 7}}}]";
    check(
        &shop(tcp(&format!("{{{subset}}}"))),
        &[(
            "port and subset are what the rule says",
            "tcp://db:5432",
            "10.0.0.1_5432 outbound|7|v1|new.shop.svc.cluster.local (missing)",
        )],
    );
}

#[test]
fn tls_goes_where_the_name_says() {
    let swap = "
      {match: [{sniHosts: [a.example.com]}], route: [{destination: {host: b.example.com}}]},
      {match: [{sniHosts: [a.example.com]}], route: [{destination: {host: a.example.com}}]}";
    check(
        &tls(swap).sidecar("shop", ""),
        &[
            (
                "a name goes where its rule says, and the first rule counts",
                "tls://a.example.com | @192.0.2.1:443",
                "0.0.0.0_443 outbound|443||b.example.com",
            ),
            (
                "a name without a rule is unknown: the rules of its host are for other names",
                "tls://b.example.com | @192.0.2.1:443",
                "0.0.0.0_443 PassthroughCluster",
            ),
        ],
    );
    check(
        &Mesh::yaml(MESH).sidecar("shop", ""),
        &[
            (
                "without rules a name is the service's of that name",
                "tls://a.example.com | @192.0.2.1:443",
                "0.0.0.0_443 outbound|443||a.example.com",
            ),
            (
                "and each service has its own",
                "tls://b.example.com | @192.0.2.1:443",
                "0.0.0.0_443 outbound|443||b.example.com",
            ),
        ],
    );
}
