//! Node metadata: locality, interception, settings of Envoy.

use crate::Tables;
use crate::fixture::*;
use crate::table::*;

pub(crate) const TABLES: Tables = &[
    interception,
    low_ports,
    families,
    http10,
    idle_timeout,
    proxy_port,
    reserved_ports,
    labels,
    network_view,
    kinds,
    namespaces,
];

/// Services with HTTP, TCP, protocol detection, and a privileged port.
fn services() -> Vec<Declared> {
    let service = |name: &str, port: &str, number: u16, last: u8| {
        let declared = kubernetes(&format!("{name}.default")).port(port, number);
        declared.vip(&format!("10.0.0.{last}")).on(&format!("10.1.0.{last}"))
    };
    vec![
        service("web", "http", 8080, 1),
        service("db", "tcp", 5432, 2),
        service("low", "tcp", 443, 3),
        service("far", "http", 8080, 4),
    ]
}

fn sidecar_of(metadata: &str) -> pilot_core::model::Proxy {
    introduced("sidecar~10.9.0.1~pod.default~default.svc.cluster.local", metadata, "")
}

/// Returns a sidecar with this metadata.
fn client(metadata: &str) -> Client {
    Mesh::of(services(), "").proxy(sidecar_of(metadata))
}

#[test]
fn interception() {
    check_each(
        Look::End,
        "tcp://10.0.0.2:5432",
        client,
        &[
            ("connections are redirected", "{}", "10.0.0.2_5432 outbound|5432||db.default.svc.cluster.local"),
            (
                "connections are redirected with the client's address if it is TPROXY",
                "{INTERCEPTION_MODE: TPROXY}",
                "10.0.0.2_5432 outbound|5432||db.default.svc.cluster.local",
            ),
            ("connections are not redirected if it is NONE", "{INTERCEPTION_MODE: NONE}", "refused"),
        ],
    );
    check_each(
        Look::End,
        "tcp://127.0.0.1:5432",
        client,
        &[
            (
                "without interception services are at loopback",
                "{INTERCEPTION_MODE: NONE}",
                "127.0.0.1_5432 outbound|5432||db.default.svc.cluster.local",
            ),
            ("with interception nothing is at loopback", "{}", "refused"),
        ],
    );
    check_each(
        Look::Verdict,
        "http://127.0.0.1:8080/ | host: far",
        client,
        &[("services that share a port are told apart by host", "{INTERCEPTION_MODE: NONE}", "8080||far")],
    );
}

#[test]
fn low_ports() {
    check_each(
        Look::Verdict,
        "tcp://127.0.0.1:443",
        client,
        &[
            ("a proxy binds every port", "{INTERCEPTION_MODE: NONE}", "443||low"),
            (
                "a proxy without privileges binds none below 1024",
                "{INTERCEPTION_MODE: NONE, UNPRIVILEGED_POD: 'true'}",
                "refused",
            ),
        ],
    );
    check_each(
        Look::Verdict,
        "tcp://10.0.0.3:443",
        client,
        &[(
            "where connections are redirected a low port is not bound",
            "{UNPRIVILEGED_POD: 'true'}",
            "443||low",
        )],
    );
}

#[test]
fn families() {
    let both = || {
        let service = kubernetes("dual.default").port("tcp", 7000).vip("10.0.0.9").vip("fd00::9");
        Mesh::of(
            [
                service.on("10.1.0.9").on("fd00:1::9"),
                kubernetes("web.default").port("http", 80).vip("fd00::8").on("fd00:1::8"),
            ],
            "",
        )
    };
    let at = |ips: &str| {
        let first = ips.split(',').next().unwrap();
        let id = format!("sidecar~{first}~pod.default~default.svc.cluster.local");
        both().proxy(introduced(&id, &format!("{{INSTANCE_IPS: '{ips}'}}"), ""))
    };
    check_each(
        Look::End,
        "tcp://[fd00::9]:7000",
        at,
        &[
            (
                "a proxy of IPv6 listens at addresses of IPv6",
                "fd00:9::1",
                "fd00::9_7000 outbound|7000||dual.default.svc.cluster.local",
            ),
            ("a proxy of IPv4 has none of them", "10.9.0.1", "virtualOutbound PassthroughCluster"),
        ],
    );
    check_each(
        Look::Verdict,
        "tcp://[fd00::9]:7000",
        at,
        &[("a proxy of both has both", "10.9.0.1,fd00:9::1", "7000||dual")],
    );
    check_each(
        Look::Verdict,
        "tcp://10.0.0.9:7000",
        at,
        &[("the first of its families does not hide the other", "fd00:9::1,10.9.0.1", "7000||dual")],
    );
    check_each(
        Look::End,
        "http://[fd00::8]:80/ | host: web",
        at,
        &[(
            "requests of IPv6 are at any address of IPv6",
            "fd00:9::1",
            "::_80 [web.default.svc.cluster.local:80] outbound|80||web.default.svc.cluster.local",
        )],
    );
}

#[test]
fn http10() {
    let server = |metadata: &str| {
        let id = "sidecar~10.1.0.1~web-1.default~default.svc.cluster.local";
        Mesh::of(services(), "").proxy(introduced(id, metadata, "")).arriving()
    };
    check_each(
        Look::Verdict,
        "http10://web:8080/",
        server,
        &[
            ("HTTP/1.0 is too old", "{}", "426"),
            ("HTTP/1.0 is served if the proxy says so", "{HTTP10: '1'}", "inbound|8080||"),
        ],
    );
}

#[test]
fn idle_timeout() {
    check_each(
        Look::Policy("idle"),
        "tcp://db:5432",
        client,
        &[
            ("a proxy may close idle connections", "{IDLE_TIMEOUT: 5s}", "idle 5s"),
            ("what is no time says nothing", "{IDLE_TIMEOUT: soon}", ""),
        ],
    );
    let rule = object(
        "DestinationRule",
        "db",
        "host: db\ntrafficPolicy: {connectionPool: {tcp: {idleTimeout: 9s}}}",
    );
    check_each(
        Look::Policy("idle"),
        "tcp://db:5432",
        |metadata| Mesh::of(services(), &rule).proxy(sidecar_of(metadata)),
        &[("a rule wins over what the proxy says", "{IDLE_TIMEOUT: 5s}", "idle 9s")],
    );
}

#[test]
fn proxy_port() {
    check_each(
        Look::Verdict,
        "http://web:8080/ | @127.0.0.1:15081",
        |metadata| Mesh::of(services(), "").config("proxyHttpPort: 15080").proxy(sidecar_of(metadata)),
        &[
            (
                "a proxy may have a port of its own for those that use one",
                "{HTTP_PROXY_PORT: '15081'}",
                "8080||web",
            ),
            ("a proxy without a port of its own has that of the mesh", "{}", "refused"),
        ],
    );
}

#[test]
fn reserved_ports() {
    let status = |metadata: &str| {
        let service = kubernetes("own.default").port("http", 16020).vip("10.0.0.7").on("10.1.0.7");
        Mesh::of([service], "").proxy(sidecar_of(metadata))
    };
    check_each(
        Look::End,
        "http://10.0.0.7:16020/ | host: own",
        status,
        &[
            (
                "a port of a service is like any other",
                "{}",
                "0.0.0.0_16020 [own.default.svc.cluster.local:16020] outbound|16020||own.default.svc.cluster.local",
            ),
            (
                "a port that the proxy needs for its status is not a service's",
                "{ENVOY_STATUS_PORT: 16020}",
                "virtualOutbound PassthroughCluster",
            ),
            (
                "a port that the proxy needs for its metrics is not a service's",
                "{ENVOY_PROMETHEUS_PORT: 16020}",
                "virtualOutbound PassthroughCluster",
            ),
            (
                "a port that the agent needs is not a service's",
                "{PROXY_CONFIG: {statusPort: 16020}}",
                "virtualOutbound PassthroughCluster",
            ),
        ],
    );
}

#[test]
fn labels() {
    let selected = object(
        "Sidecar",
        "selected",
        "workloadSelector: {labels: {app: web}}\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}\negress: [{hosts: ['./*']}]",
    );
    check_each(
        Look::Verdict,
        "http://nobody.com:8080/",
        |metadata| Mesh::of(services(), &selected).proxy(sidecar_of(metadata)),
        &[
            ("a proxy has the labels that it says", "{LABELS: {app: web}}", "502"),
            ("a proxy has no labels that it does not say", "{LABELS: {app: db}}", "PassthroughCluster"),
        ],
    );
}

#[test]
fn network_view() {
    let web = kubernetes("web.default").port("http", 80).vip("10.0.0.1");
    let web = || {
        let web = web.clone().endpoint("10.1.0.1", |it| it.network = "n1".into());
        web.endpoint("10.1.0.2", |it| it.network = "n2".into()).on("10.1.0.3")
    };
    check_each(
        Look::Upstream,
        "http://web/",
        |metadata| Mesh::of([web()], "").proxy(sidecar_of(metadata)),
        &[
            ("a proxy sees every network", "{}", "10.1.0.1:80, 10.1.0.2:80, 10.1.0.3:80"),
            (
                "a proxy sees the networks that it asks to see, and what is in none",
                "{REQUESTED_NETWORK_VIEW: n1}",
                "10.1.0.1:80, 10.1.0.3:80",
            ),
        ],
    );
}

#[test]
fn kinds() {
    let gateway = |mode: &str| {
        let id = "router~10.9.0.1~edge.default~default.svc.cluster.local";
        let edge = object(
            "Gateway",
            "edge",
            "servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]",
        );
        let rules = object(
            "VirtualService",
            "web",
            "hosts: ['*']\ngateways: [edge]\nhttp: [{route: [{destination: {host: web}}]}]",
        );
        Mesh::of(services(), &edge).and(&rules).proxy(introduced(id, mode, ""))
    };
    check_each(
        Look::End,
        "http://192.0.2.1:8080/",
        gateway,
        &[
            (
                "a gateway listens where its Gateways say",
                "{}",
                "0.0.0.0_8080 [*:8080] outbound|8080||web.default.svc.cluster.local",
            ),
            (
                "a gateway listens whatever it says of interception",
                "{INTERCEPTION_MODE: NONE}",
                "0.0.0.0_8080 [*:8080] outbound|8080||web.default.svc.cluster.local",
            ),
        ],
    );
    check_each(
        Look::Verdict,
        "tcp://10.0.0.2:5432 | @10.0.0.2:5432",
        gateway,
        &[("a gateway redirects nothing", "{}", "refused")],
    );
}

#[test]
fn namespaces() {
    let at = |namespace: &str| {
        let id = format!("sidecar~10.9.0.1~pod.{namespace}~{namespace}.svc.cluster.local");
        Mesh::of(services(), "").proxy(introduced(&id, "{}", ""))
    };
    check_each(
        Look::Verdict,
        "http://10.0.0.1:8080/ | host: web",
        at,
        &[
            ("a short name is one of the proxy's namespace", "default", "8080||web"),
            ("a short name is of no other namespace", "shop", "PassthroughCluster"),
        ],
    );
    check_each(
        Look::Verdict,
        "http://10.0.0.1:8080/ | host: web.default",
        at,
        &[("a name with its namespace is known everywhere", "shop", "8080||web")],
    );
    let claims = "{NAMESPACE: shop}";
    check_each(
        Look::Verdict,
        "http://10.0.0.1:8080/ | host: web",
        |metadata| Mesh::of(services(), "").proxy(sidecar_of(metadata)),
        &[("the namespace is what the metadata says, short names are what DNS says", claims, "8080||web")],
    );
}
