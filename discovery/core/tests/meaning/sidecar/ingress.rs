//! Ingress listeners.

use super::*;

pub(super) const TABLES: Tables = &[services, replaced, default_endpoint, bound, connection_pool];

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 81}]}
---
apiVersion: v1
kind: Pod
metadata: {name: cart-1, namespace: shop, labels: {app: cart}}
";

/// Returns the client with inbound calls to the pod, with this `Sidecar`.
fn served(spec: &str) -> Client {
    Mesh::yaml(MESH).and(&object("Sidecar", "cart.shop", spec)).pod("cart-1.shop").arriving()
}

/// The same with these ingress listeners.
fn ingress(listeners: &str) -> Client {
    served(&format!("workloadSelector: {{labels: {{app: cart}}}}\ningress: [{listeners}]"))
}

#[test]
fn services() {
    let mesh = Mesh::yaml(MESH);
    check(
        &mesh.pod("cart-1.shop").arriving(),
        Look::End,
        &[
            (
                "without a Sidecar services say what is served, at the workload's ports",
                "http://cart:8080/",
                "virtualInbound [inbound|http|80] inbound|8080||",
            ),
            (
                "without a Sidecar each port has its own protocol",
                "tcp://cart:81",
                "virtualInbound inbound|81||",
            ),
            (
                "a port that no service has is passed on",
                "tcp://cart:9999",
                "virtualInbound InboundPassthroughCluster",
            ),
        ],
    );
    check(
        &served("egress: [{hosts: ['./*']}]"),
        Look::Verdict,
        &[("a Sidecar that names no ingress changes nothing of that", "http://cart:8080/", "inbound|8080||")],
    );
}

#[test]
fn replaced() {
    let own = "{port: {number: 9080, protocol: HTTP, name: http}, defaultEndpoint: '127.0.0.1:8080'}";
    check(
        &ingress(own),
        Look::End,
        &[
            (
                "an ingress listener is at its own port",
                "http://cart:9080/",
                "virtualInbound [inbound|http|9080] inbound|9080||",
            ),
            (
                "where ingress is named ports of services are not served",
                "http://cart:8080/",
                "virtualInbound [inbound|http|0] InboundPassthroughCluster",
            ),
        ],
    );
    let other = format!("workloadSelector: {{labels: {{app: other}}}}\ningress: [{own}]");
    check(
        &served(&other),
        Look::Verdict,
        &[("a Sidecar for other workloads replaces nothing", "http://cart:8080/", "inbound|8080||")],
    );
}

#[test]
fn default_endpoint() {
    check_each(
        Look::Upstream,
        "http://cart:9080/",
        |endpoint| ingress(&format!("{{port: {{number: 9080, protocol: HTTP, name: http}}{endpoint}}}")),
        &[
            ("the workload is at loopback", ", defaultEndpoint: '127.0.0.1:8080'", "127.0.0.1:8080"),
            (
                "IPv6's loopback is IPv4's to a proxy without IPv6",
                ", defaultEndpoint: '[::1]:8080'",
                "127.0.0.1:8080",
            ),
            ("the workload is at its own address", ", defaultEndpoint: '0.0.0.0:8080'", "10.244.0.1:8080"),
            ("the workload is at a socket", ", defaultEndpoint: 'unix:///run/cart'", "unix:///run/cart"),
            ("without an endpoint it is where the client wanted", "", "leads on to where the client wanted"),
        ],
    );
}

#[test]
fn bound() {
    check_each(
        Look::End,
        "http://cart:9080/ | @127.0.0.1:9080",
        |more| {
            ingress(&format!(
                "{{port: {{number: 9080, protocol: HTTP, name: http}}, defaultEndpoint: '127.0.0.1:8080', {more}}}"
            ))
        },
        &[
            (
                "clients may connect to the proxy themselves",
                "captureMode: NONE, bind: 127.0.0.1",
                "127.0.0.1_9080 [inbound|http|9080] inbound|9080||",
            ),
            (
                "at any address where none is said",
                "captureMode: NONE",
                "0.0.0.0_9080 [inbound|http|9080] inbound|9080||",
            ),
            ("what is redirected is not bound", "captureMode: IPTABLES", "refused"),
        ],
    );
}

#[test]
fn connection_pool() {
    let pool = |most: u32| format!("{{http: {{http1MaxPendingRequests: {most}}}}}");
    let sidecar = |own: &str, all: &str| {
        served(&format!(
            "workloadSelector: {{labels: {{app: cart}}}}\n{all}\ningress: [{{port: {{number: 9080, protocol: HTTP, name: http}}, defaultEndpoint: '127.0.0.1:8080'{own}}}]"
        ))
    };
    let (own, all) =
        (format!(", connectionPool: {}", pool(7)), format!("inboundConnectionPool: {}", pool(9)));
    check_each(
        Look::Settings("at most"),
        "http://cart:9080/",
        |said| match said {
            "own" => sidecar(&own, &all),
            "all" => sidecar("", &all),
            _ => sidecar("", ""),
        },
        &[
            ("limits of a listener are its own", "own", "at most 7 pending"),
            ("limits of the Sidecar are for listeners without any", "all", "at most 9 pending"),
            ("without limits there are none", "", ""),
        ],
    );
    check(
        &served(&format!("workloadSelector: {{labels: {{app: cart}}}}\n{all}")),
        Look::Settings("at most"),
        &[("limits of a Sidecar are for what services say too", "http://cart:8080/", "at most 9 pending")],
    );
}
