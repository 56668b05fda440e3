//! `MeshConfig`: defaults of the mesh.

use crate::Tables;
use crate::fixture::*;
use crate::table::*;

pub(crate) const TABLES: Tables =
    &[unknown_hosts, connections, upgrades, defaults, exports, ports, namespaces, detection, identities];

/// Services: `b` in namespace `default`, one with DNS resolution, and one that is exported to all.
fn services() -> Vec<Declared> {
    let b = kubernetes("b.default").port("http", 80).port("tcp", 81).port("", 82).vip("10.0.0.2");
    let dns = entry("api.example.com").resolution(pilot_core::model::Resolution::Dns).port("http", 80);
    let public = kubernetes("public.default").port("http", 80).vip("10.0.0.3").export_to(&["*"]);
    vec![b.on("10.1.0.2"), dns.on("api.example.com"), public.on("10.1.0.3")]
}

fn mesh(said: &str) -> Mesh {
    Mesh::of(services(), "").config(said)
}

fn client(said: &str) -> Client {
    mesh(said).sidecar("default", "app=web")
}

/// Returns a client of `b` with this route.
fn ruled(rule: &'static str) -> impl Fn(&str) -> Client {
    move |said| {
        let rule = object("DestinationRule", "b", &format!("host: b\ntrafficPolicy: {rule}"));
        Mesh::of(services(), &rule).config(said).sidecar("default", "app=web")
    }
}

#[test]
fn unknown_hosts() {
    check_each(
        Look::Verdict,
        "http://nobody.com/",
        client,
        &[
            ("requests to unknown hosts are passed on", "{}", "PassthroughCluster"),
            (
                "requests to unknown hosts are passed on in an open mesh",
                "outboundTrafficPolicy: {mode: ALLOW_ANY}",
                "PassthroughCluster",
            ),
            (
                "requests to unknown hosts are refused in a closed mesh",
                "outboundTrafficPolicy: {mode: REGISTRY_ONLY}",
                "502",
            ),
        ],
    );
    check_each(
        Look::End,
        "tcp://192.0.2.1:9",
        client,
        &[
            ("bytes to unknown addresses are passed on", "{}", "virtualOutbound PassthroughCluster"),
            (
                "bytes to unknown addresses are lost in a closed mesh",
                "outboundTrafficPolicy: {mode: REGISTRY_ONLY}",
                "virtualOutbound BlackHoleCluster",
            ),
        ],
    );
}

#[test]
fn connections() {
    check_each(
        Look::Settings("connects"),
        "http://b/",
        client,
        &[
            ("connecting may take 10 s", "{}", "connects within 10s"),
            ("connecting may take as long as the mesh says", "connectTimeout: 3s", "connects within 3s"),
        ],
    );
    let own = ruled("{connectionPool: {tcp: {connectTimeout: 1s}}}");
    check_each(
        Look::Settings("connects"),
        "http://b/",
        own,
        &[("a rule wins over the mesh's time to connect", "connectTimeout: 3s", "connects within 1s")],
    );
    let keepalive = "tcpKeepalive: {probes: 9, time: 60s}";
    check_each(
        Look::Settings("keeps"),
        "http://b/",
        client,
        &[("the mesh keeps connections alive", keepalive, "keeps alive 9 probes after 60s")],
    );
    check_each(
        Look::Settings("keeps"),
        "http://b/",
        ruled("{connectionPool: {tcp: {tcpKeepalive: {time: 7s}}}}"),
        &[("a rule changes of that what it says", keepalive, "keeps alive 9 probes after 7s")],
    );
    check_each(
        Look::Settings("takes"),
        "http://api.example.com/",
        client,
        &[(
            "DNS is asked as often as the mesh says",
            "dnsRefreshRate: 5s",
            "takes all answers of DNS every 5s, v4 only",
        )],
    );
}

#[test]
fn upgrades() {
    check_each(
        Look::Settings("speaks"),
        "http://b/",
        client,
        &[
            ("the mesh upgrades nothing by itself", "{}", ""),
            ("the mesh upgrades if it is told to", "h2UpgradePolicy: UPGRADE", "speaks HTTP/2"),
        ],
    );
    check_each(
        Look::Settings("speaks"),
        "http://b/",
        ruled("{connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}}"),
        &[("a rule wins over the mesh's upgrade", "h2UpgradePolicy: UPGRADE", "")],
    );
    check_each(
        Look::Settings("speaks"),
        "tcp://b:81",
        client,
        &[("bytes are not upgraded", "h2UpgradePolicy: UPGRADE", "")],
    );
}

#[test]
fn defaults() {
    let limits = "defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 9}}}";
    check_each(
        Look::Settings("at most"),
        "http://b/",
        client,
        &[("limits of the mesh are for every service", limits, "at most 9 connections")],
    );
    check_each(
        Look::Settings("at most"),
        "http://b/",
        ruled("{connectionPool: {http: {maxRetries: 5}}}"),
        &[("limits of a rule replace all of them", limits, "at most 5 retries")],
    );
    let outliers = "defaultTrafficPolicy: {outlierDetection: {consecutive5xxErrors: 4}}";
    check_each(
        Look::Settings("ejects"),
        "http://b/",
        client,
        &[("outliers are detected if the mesh says so", outliers, "ejects after 4 5xx")],
    );
    check_each(
        Look::Settings("ejects"),
        "http://b/",
        ruled("{outlierDetection: {consecutiveGatewayErrors: 2}}"),
        &[("a rule's outliers replace the mesh's", outliers, "ejects after 2 gateway errors")],
    );
}

#[test]
fn exports() {
    let elsewhere = |said: &str| mesh(said).sidecar("shop", "");
    check_each(
        Look::Verdict,
        "http://b.default/",
        elsewhere,
        &[
            ("services are for every namespace", "{}", "80||b"),
            (
                "services are for their own namespace if the mesh says so",
                "defaultServiceExportTo: ['.']",
                "PassthroughCluster",
            ),
            (
                "services are for the namespaces that the mesh names",
                "defaultServiceExportTo: [shop]",
                "80||b",
            ),
        ],
    );
    check_each(
        Look::Verdict,
        "http://public.default/",
        elsewhere,
        &[("a service that says it itself is asked first", "defaultServiceExportTo: ['.']", "80||public")],
    );
}

#[test]
fn ports() {
    check_each(
        Look::End,
        "http://b/ | @127.0.0.1:15080",
        client,
        &[
            ("nothing listens for those that are told to use a proxy", "{}", "refused"),
            (
                "the mesh may have a port for those that are told to use a proxy",
                "proxyHttpPort: 15080",
                "127.0.0.1_15080 [b.default.svc.cluster.local:80] outbound|80||b.default.svc.cluster.local",
            ),
        ],
    );
    check_each(
        Look::End,
        "tcp://192.0.2.1:16001",
        client,
        &[
            (
                "a connection to the proxy's own port is lost",
                "proxyListenPort: 16001",
                "virtualOutbound BlackHoleCluster",
            ),
            (
                "a connection to what is not the proxy's own port is passed on",
                "proxyListenPort: 15001",
                "virtualOutbound PassthroughCluster",
            ),
        ],
    );
}

#[test]
fn namespaces() {
    let root = |said: &str| {
        let sidecar = object("Sidecar", "default.config", "egress: [{hosts: ['~/*']}]");
        Mesh::of(services(), &sidecar).config(said).sidecar("default", "")
    };
    check_each(
        Look::Verdict,
        "http://b/",
        root,
        &[
            ("objects of a namespace are for that", "{}", "80||b"),
            (
                "objects of the root namespace are for all, and the mesh says which that is",
                "rootNamespace: config",
                "PassthroughCluster",
            ),
        ],
    );
}

/// Returns the timeout of protocol detection of a listener.
fn waits(said: &str) -> String {
    let client = client(said);
    let listener = &client.0.told.listeners["10.0.0.2_82"];
    let limit = listener.listener_filters_timeout.as_ref().map(|limit| limit.seconds);
    let then = if listener.continue_on_listener_filters_timeout { "goes on" } else { "closes" };
    format!("{limit:?} {then}")
}

#[test]
fn detection() {
    check_found(
        waits,
        &[
            ("the client is waited for as long as it takes", "{}", "Some(0) goes on"),
            (
                "the client is waited for as long as the mesh says",
                "protocolDetectionTimeout: 5s",
                "Some(5) goes on",
            ),
        ],
    );
}

#[test]
fn identities() {
    let machine = |said: &str| {
        let entry = object(
            "ServiceEntry",
            "m",
            "hosts: [m.example.com]\nlocation: MESH_INTERNAL\nresolution: STATIC\nports: [{number: 80, name: http, protocol: HTTP}]\nendpoints: [{address: 192.0.2.1, serviceAccount: m}]",
        );
        let rule =
            object("DestinationRule", "m", "host: m.example.com\ntrafficPolicy: {tls: {mode: ISTIO_MUTUAL}}");
        Mesh::yaml(&entry).and(&rule).config(said).sidecar("default", "")
    };
    check_each(
        Look::Settings("expects"),
        "http://m.example.com/",
        machine,
        &[
            (
                "a server of the mesh proves to be who serves",
                "{}",
                "expects spiffe://cluster.local/ns/default/sa/m",
            ),
            (
                "a server proves to be who serves in the mesh's trust domain",
                "trustDomain: x.org",
                "expects spiffe://x.org/ns/default/sa/m",
            ),
            (
                "a server proves to be who serves in a trust domain that means the same",
                "{trustDomain: x.org, trustDomainAliases: [old.org]}",
                "expects spiffe://old.org/ns/default/sa/m,spiffe://x.org/ns/default/sa/m",
            ),
        ],
    );
}
