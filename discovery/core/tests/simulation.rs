//! Meaning of generated configuration: simulated calls.
//!
//! A case is one line: the call, and its destination: `<listener> [<virtual host>] <cluster>`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

mod fixture;

use std::sync::Arc;

use fixture::*;
use pilot_core::model::Resolution;
use pilot_core::push::PushContext;
use pilot_core::simulate::{Stage, resolve};
use pilot_proto::ResourceType::Listener;
use pilot_proto::mesh::{MeshConfig, OutboundTrafficMode, OutboundTrafficPolicy};
use pilot_proto::node::InterceptionMode;

/// First bytes of a client.
#[derive(Clone, Copy)]
enum Says<'a> {
    /// `GET /` with this host.
    Http(&'a str),
    /// Any other plaintext.
    Bytes,
    /// TLS handshake with this SNI.
    Tls(&'a str),
}

/// Returns the destination of an outbound connection to `to`.
fn ends(client: &Client, to: &str, says: Says<'_>) -> String {
    client.ask(&line(to, says)).to_string()
}

/// Returns the destination of an inbound connection to a port.
fn arrives(client: &Client, to: &str, says: Says<'_>) -> String {
    client.0.receive(&line(to, says)).unwrap().to_string()
}

fn line(to: &str, says: Says<'_>) -> String {
    let (ip, port) = to.rsplit_once(':').unwrap();
    let to = if ip.contains(':') { format!("[{ip}]:{port}") } else { to.to_owned() };
    match says {
        Says::Http(host) => format!("http://{to}/ | host: {host}"),
        Says::Bytes => format!("tcp://{to}"),
        Says::Tls(name) => format!("tls://{to} | sni {name}"),
    }
}

// === the stories ===

/// Returns two services of each protocol, and unusual services.
fn bookinfo() -> PushContext {
    mesh([
        kubernetes("productpage.default").port("http", 9080).vip("10.0.0.1").on("10.1.0.1"),
        kubernetes("reviews.default").port("http", 9080).vip("10.0.0.2").on("10.1.0.2").on("10.1.0.3"),
        kubernetes("reviews.shop").port("http", 9080).vip("10.0.0.3").on("10.1.0.4"),
        kubernetes("mysql.default").port("mysql", 3306).vip("10.0.0.4").on("10.1.0.5"),
        kubernetes("cache.default").port("tcp", 6379).vip("10.0.0.5").on("10.1.0.6"),
        kubernetes("legacy.default").port("", 7000).vip("10.0.0.6").on("10.1.0.7"),
        kubernetes("secure.default").port("https", 8443).vip("10.0.0.7").on("10.1.0.8"),
        kubernetes("db.default").headless().port("tcp", 5432).on("10.1.0.9").on("10.1.0.10"),
        kubernetes("web.default").headless().port("http", 8080).on("10.1.0.11"),
        kubernetes("rpc.default").port("grpc", 9090).vip("10.0.0.8").on("10.1.0.12"),
        kubernetes("mixed.default").port("tcp", 9080).vip("10.0.0.9").on("10.1.0.13"),
        kubernetes("status.default").port("http", 15021).vip("10.0.0.10").on("10.1.0.14"),
        kubernetes("old.default").alias_of("reviews.default.svc.cluster.local").port("http", 9080),
        kubernetes("hidden.shop").port("http", 9080).vip("10.0.0.11").export_to(&["."]),
        entry("api.example.com")
            .resolution(Resolution::Dns)
            .port("http", 80)
            .port("tls", 443)
            .on("api.example.com"),
        entry("www.example.com").resolution(Resolution::Dns).port("tls", 443).on("www.example.com"),
        entry("*.wild.example.com").resolution(Resolution::Passthrough).port("http", 80).port("tls", 443),
        entry("network.example.com")
            .resolution(Resolution::Passthrough)
            .port("tcp", 7777)
            .vip("172.16.5.5/12"),
        entry("broad.example.com").resolution(Resolution::Passthrough).port("tcp", 7777).vip("172.0.0.0/8"),
    ])
}

#[test]
fn an_intercepted_call_leads_to_the_service_it_names() {
    let push = bookinfo();
    let proxy = sidecar("10.1.0.1", "default");
    let told = Client::of(&push, proxy.clone());
    let check = |to, says, expected| assert_eq!(ends(&told, to, says), expected, "to {to}");
    let reviews = "0.0.0.0_9080 [reviews.default.svc.cluster.local:9080] outbound|9080||reviews.default.svc.cluster.local";

    // HTTP is routed by host, whatever its destination address.
    check("10.0.0.2:9080", Says::Http("reviews"), reviews);
    check("10.0.0.2:9080", Says::Http("reviews:9080"), reviews);
    check("10.0.0.2:9080", Says::Http("reviews.default"), reviews);
    check("10.0.0.2:9080", Says::Http("reviews.default.svc"), reviews);
    check("10.0.0.2:9080", Says::Http("REVIEWS.default.svc.cluster.local"), reviews);
    check("10.0.0.2:9080", Says::Http("reviews.default.svc.cluster.local."), reviews);
    check("10.0.0.2:9080", Says::Http("10.0.0.2"), reviews);
    check("10.9.9.9:9080", Says::Http("reviews"), reviews);
    check(
        "10.0.0.3:9080",
        Says::Http("reviews.shop"),
        "0.0.0.0_9080 [reviews.shop.svc.cluster.local:9080] outbound|9080||reviews.shop.svc.cluster.local",
    );
    // An alias is another name of the service.
    check("10.9.9.9:9080", Says::Http("old"), reviews);
    // Not declared, or not visible.
    check("10.9.9.9:9080", Says::Http("stranger"), "0.0.0.0_9080 [allow_any] PassthroughCluster");
    check("10.0.0.11:9080", Says::Http("hidden.shop"), "0.0.0.0_9080 [allow_any] PassthroughCluster");
    check("10.9.9.9:1234", Says::Http("stranger"), "virtualOutbound PassthroughCluster");
    check("10.9.9.9:15001", Says::Bytes, "virtualOutbound BlackHoleCluster");
    // Other bytes at an HTTP port match no service.
    check("10.9.9.9:9080", Says::Bytes, "0.0.0.0_9080 PassthroughCluster");
    // The health port of the proxy stays reserved.
    check("10.0.0.10:15021", Says::Http("status"), "virtualOutbound PassthroughCluster");

    // TCP is routed by address.
    check("10.0.0.4:3306", Says::Bytes, "10.0.0.4_3306 outbound|3306||mysql.default.svc.cluster.local");
    check("10.0.0.5:6379", Says::Bytes, "10.0.0.5_6379 outbound|6379||cache.default.svc.cluster.local");
    check("10.0.0.5:6380", Says::Bytes, "virtualOutbound PassthroughCluster");
    check("10.0.0.9:9080", Says::Bytes, "10.0.0.9_9080 outbound|9080||mixed.default.svc.cluster.local");
    check(
        "10.0.0.7:8443",
        Says::Tls("secure"),
        "10.0.0.7_8443 outbound|8443||secure.default.svc.cluster.local",
    );

    // The protocol of an undeclared port is detected.
    check(
        "10.0.0.6:7000",
        Says::Http("whatever"),
        "10.0.0.6_7000 [legacy.default.svc.cluster.local:7000] outbound|7000||legacy.default.svc.cluster.local",
    );
    check("10.0.0.6:7000", Says::Bytes, "10.0.0.6_7000 outbound|7000||legacy.default.svc.cluster.local");
    check(
        "10.0.0.6:7000",
        Says::Tls("legacy"),
        "10.0.0.6_7000 outbound|7000||legacy.default.svc.cluster.local",
    );

    // Endpoints of headless services are addressed individually.
    check("10.1.0.9:5432", Says::Bytes, "10.1.0.9_5432 outbound|5432||db.default.svc.cluster.local");
    check("10.1.0.10:5432", Says::Bytes, "10.1.0.10_5432 outbound|5432||db.default.svc.cluster.local");
    check(
        "10.1.0.11:8080",
        Says::Http("web-0.web"),
        "0.0.0.0_8080 [web.default.svc.cluster.local:8080] outbound|8080||web.default.svc.cluster.local",
    );

    // Outside the mesh: names on a shared address, networks, wildcards.
    check("93.184.0.1:443", Says::Tls("api.example.com"), "0.0.0.0_443 outbound|443||api.example.com");
    check("93.184.0.1:443", Says::Tls("www.example.com"), "0.0.0.0_443 outbound|443||www.example.com");
    check("93.184.0.1:443", Says::Tls("a.wild.example.com"), "0.0.0.0_443 outbound|443||*.wild.example.com");
    check("93.184.0.1:443", Says::Tls("other.example.com"), "0.0.0.0_443 PassthroughCluster");
    check(
        "93.184.0.1:80",
        Says::Http("b.wild.example.com"),
        "0.0.0.0_80 [*.wild.example.com:80] outbound|80||*.wild.example.com",
    );
    check("172.17.0.1:7777", Says::Bytes, "0.0.0.0_7777 outbound|7777||network.example.com");
    check("172.200.0.1:7777", Says::Bytes, "0.0.0.0_7777 outbound|7777||broad.example.com");
    check("173.0.0.1:7777", Says::Bytes, "0.0.0.0_7777 PassthroughCluster");
}

#[test]
fn from_another_namespace_short_names_mean_other_services() {
    let push = bookinfo();
    let proxy = sidecar("10.1.0.4", "shop");
    let told = Client::of(&push, proxy.clone());
    let check = |host, expected| {
        assert_eq!(ends(&told, "10.9.9.9:9080", Says::Http(host)), expected, "{host}");
    };
    check(
        "reviews",
        "0.0.0.0_9080 [reviews.shop.svc.cluster.local:9080] outbound|9080||reviews.shop.svc.cluster.local",
    );
    check(
        "reviews.default",
        "0.0.0.0_9080 [reviews.default.svc.cluster.local:9080] outbound|9080||reviews.default.svc.cluster.local",
    );
    check(
        "hidden",
        "0.0.0.0_9080 [hidden.shop.svc.cluster.local:9080] outbound|9080||hidden.shop.svc.cluster.local",
    );
    check("productpage", "0.0.0.0_9080 [allow_any] PassthroughCluster");
}

#[test]
fn a_closed_mesh_lets_nothing_unknown_out() {
    let mut push = bookinfo();
    let policy = OutboundTrafficPolicy { mode: OutboundTrafficMode::RegistryOnly };
    push.mesh = Arc::new(MeshConfig { outbound_traffic_policy: policy, ..MeshConfig::default() });
    let proxy = sidecar("10.1.0.1", "default");
    let told = Client::of(&push, proxy.clone());
    let check = |to, says, expected| assert_eq!(ends(&told, to, says), expected, "to {to}");
    check("10.9.9.9:9080", Says::Http("stranger"), "0.0.0.0_9080 [block_all] 502");
    check("10.9.9.9:9080", Says::Bytes, "0.0.0.0_9080 BlackHoleCluster");
    check("10.9.9.9:1234", Says::Bytes, "virtualOutbound BlackHoleCluster");
    check("10.0.0.4:3306", Says::Bytes, "10.0.0.4_3306 outbound|3306||mysql.default.svc.cluster.local");
}

#[test]
fn services_that_cannot_be_told_apart_leave_the_port_to_the_oldest() {
    let push = mesh([
        entry("first.example.com").port("tcp", 1000).on("10.1.0.1"),
        entry("second.example.com").port("tcp", 1000).on("10.1.0.2"),
        entry("web.example.com").port("http", 1000).on("10.1.0.3"),
        entry("sniffed.example.com").port("", 1000).on("10.1.0.4"),
        entry("mongo.example.com").port("mongo", 2000).on("10.1.0.5"),
        entry("late.example.com").port("http", 2000).on("10.1.0.6"),
        kubernetes("one.default").port("tcp", 3000).vip("10.0.0.1").on("10.1.0.7"),
        kubernetes("two.default").port("tcp", 3000).vip("10.0.0.1").on("10.1.0.8"),
    ]);
    let proxy = sidecar("10.1.0.100", "default");
    let told = Client::of(&push, proxy.clone());
    let check = |to, says, expected| assert_eq!(ends(&told, to, says), expected, "to {to}");
    check("9.9.9.9:1000", Says::Bytes, "0.0.0.0_1000 outbound|1000||first.example.com");
    check(
        "9.9.9.9:1000",
        Says::Http("web.example.com"),
        "0.0.0.0_1000 [web.example.com:1000] outbound|1000||web.example.com",
    );
    check(
        "9.9.9.9:1000",
        Says::Http("sniffed.example.com"),
        "0.0.0.0_1000 [sniffed.example.com:1000] outbound|1000||sniffed.example.com",
    );
    check("9.9.9.9:2000", Says::Bytes, "0.0.0.0_2000 outbound|2000||mongo.example.com");
    check("9.9.9.9:2000", Says::Http("late.example.com"), "0.0.0.0_2000 outbound|2000||mongo.example.com");
    check("10.0.0.1:3000", Says::Bytes, "10.0.0.1_3000 outbound|3000||one.default.svc.cluster.local");

    let report = generate(&push, &proxy, Listener, None).report;
    let told: Vec<String> = report.rejected.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "0.0.0.0_1000 of second.example.com: first.example.com is older and has the same filter chain match",
            "0.0.0.0_1000 of sniffed.example.com: first.example.com is older and has the same filter chain match",
            "0.0.0.0_2000 of late.example.com: shares the port with mongo.example.com; a server-first protocol \
             cannot be detected",
            "10.0.0.1_3000 of two.default.svc.cluster.local: one.default.svc.cluster.local is older and has the \
             same filter chain match",
        ]
    );
    assert_eq!(report.counters()["pilot_conflict_outbound_listener_tcp_over_current_tcp"], 3);
}

#[test]
fn without_interception_everything_is_on_loopback() {
    let push = bookinfo();
    // productpage is 10.1.0.1 and listens on 9080 itself: neither may take the port from the other.
    let proxy = sidecar("10.1.0.1", "default").interception(InterceptionMode::None);
    let told = Client::of(&push, proxy.clone());
    let check = |to, says, expected| assert_eq!(ends(&told, to, says), expected, "to {to}");
    check("127.0.0.1:9080", Says::Http("reviews"), "refused");
    check("10.0.0.4:3306", Says::Bytes, "refused");
    check("127.0.0.1:3306", Says::Bytes, "127.0.0.1_3306 outbound|3306||mysql.default.svc.cluster.local");
    check("127.0.0.1:6379", Says::Bytes, "127.0.0.1_6379 outbound|6379||cache.default.svc.cluster.local");
    check("127.0.0.1:15021", Says::Http("status"), "refused");
    check(
        "127.0.0.1:9090",
        Says::Http("rpc"),
        "127.0.0.1_9090 [rpc.default.svc.cluster.local:9090] outbound|9090||rpc.default.svc.cluster.local",
    );
    check("127.0.0.1:443", Says::Tls("www.example.com"), "127.0.0.1_443 outbound|443||www.example.com");
    for listener in told.0.told.listeners.values() {
        assert!(listener.bind_to_port.is_none(), "{} binds", listener.name);
        assert!(listener.use_original_dst.is_none(), "{} has no original destination", listener.name);
    }

    // Elsewhere port 9080 is free, and shared: HTTP by host, other connections to the one TCP service.
    let elsewhere = sidecar("10.1.0.6", "default").interception(InterceptionMode::None);
    let told = Client::of(&push, elsewhere.clone());
    assert_eq!(
        ends(&told, "127.0.0.1:9080", Says::Http("reviews")),
        "127.0.0.1_9080 [reviews.default.svc.cluster.local:9080] outbound|9080||reviews.default.svc.cluster.local"
    );
    assert_eq!(
        ends(&told, "127.0.0.1:9080", Says::Bytes),
        "127.0.0.1_9080 outbound|9080||mixed.default.svc.cluster.local"
    );
    assert_eq!(arrives(&told, "10.1.0.6:6379", Says::Bytes), "refused", "the workload itself listens there");

    let weak = elsewhere.unprivileged();
    let told = Client::of(&push, weak);
    assert_eq!(ends(&told, "127.0.0.1:443", Says::Tls("www.example.com")), "refused");
}

#[test]
fn what_arrives_is_led_to_the_workload() {
    let push = mesh([
        kubernetes("web.default").to("http", 80, 8080).vip("10.0.0.1").on("10.1.0.1"),
        kubernetes("also.default").to("tcp", 81, 8080).vip("10.0.0.2").on("10.1.0.1"),
        kubernetes("sniffed.default").to("", 82, 8082).vip("10.0.0.3").on("10.1.0.1"),
        kubernetes("bytes.default").to("tcp", 83, 8083).vip("10.0.0.4").on("10.1.0.1"),
        kubernetes("packets.default").to("udp", 84, 8084).vip("10.0.0.5").on("10.1.0.1"),
        kubernetes("own.default").to("http", 85, 15020).vip("10.0.0.6").on("10.1.0.1"),
        kubernetes("elsewhere.default").to("http", 86, 8086).vip("10.0.0.7").on("10.1.0.2"),
    ]);
    let proxy = sidecar("10.1.0.1", "default");
    let told = Client::of(&push, proxy.clone());
    let check = |port, says, expected| {
        assert_eq!(arrives(&told, &format!("10.1.0.1:{port}"), says), expected, "port {port}");
    };
    check(8080, Says::Http("anything"), "virtualInbound [inbound|http|80] inbound|8080||");
    check(8080, Says::Bytes, "virtualInbound 400");
    check(8082, Says::Http("anything"), "virtualInbound [inbound|http|82] inbound|8082||");
    check(8082, Says::Bytes, "virtualInbound inbound|8082||");
    check(8082, Says::Tls("anything"), "virtualInbound inbound|8082||");
    check(8083, Says::Http("anything"), "virtualInbound inbound|8083||");
    check(8083, Says::Bytes, "virtualInbound inbound|8083||");
    // These are not declared, and work as without a proxy.
    check(8084, Says::Bytes, "virtualInbound InboundPassthroughCluster");
    check(15020, Says::Http("health"), "virtualInbound [inbound|http|0] InboundPassthroughCluster");
    check(8086, Says::Bytes, "virtualInbound InboundPassthroughCluster");
    check(15006, Says::Bytes, "virtualInbound BlackHoleCluster");

    let report = generate(&push, &proxy, Listener, None).report;
    assert_eq!(report.counters()["pilot_conflict_inbound_listener"], 1);
}

#[test]
fn a_member_of_a_headless_service_has_no_listener_for_itself() {
    let push = bookinfo();
    let proxy = sidecar("10.1.0.9", "default");
    let told = Client::of(&push, proxy.clone());
    let check = |to, expected| assert_eq!(ends(&told, to, Says::Bytes), expected);
    check("10.1.0.9:5432", "virtualOutbound PassthroughCluster");
    check("10.1.0.10:5432", "10.1.0.10_5432 outbound|5432||db.default.svc.cluster.local");
}

#[test]
fn an_application_may_be_told_to_use_the_proxy() {
    let mut push = bookinfo();
    push.mesh = Arc::new(MeshConfig { proxy_http_port: 15080, ..MeshConfig::default() });
    let proxy = sidecar("10.1.0.1", "default").interception(InterceptionMode::None);
    let told = Client::of(&push, proxy.clone());
    let check = |host, expected| assert_eq!(ends(&told, "127.0.0.1:15080", Says::Http(host)), expected);
    let reviews = "127.0.0.1_15080 [reviews.default.svc.cluster.local:9080] outbound|9080||reviews.default.svc.cluster.local";
    check("reviews:9080", reviews);
    check("10.0.0.2:9080", reviews);
    check("api.example.com", "127.0.0.1_15080 [api.example.com:80] outbound|80||api.example.com");
    check("reviews", "127.0.0.1_15080 [allow_any] PassthroughCluster");
}

#[test]
fn a_proxy_with_ipv6_only_is_served_on_ipv6() {
    let push = mesh([
        kubernetes("web.default").port("http", 80).vip("10.0.0.1").vip("fd00::1").on("fd00:1::1"),
        kubernetes("db.default").port("tcp", 5432).vip("10.0.0.2").vip("fd00::2").on("fd00:1::2"),
    ]);
    let proxy = sidecar("fd00:1::9", "default");
    let told = Client::of(&push, proxy.clone());
    let check = |to, says, expected| assert_eq!(ends(&told, to, says), expected, "to {to}");
    let web = "::_80 [web.default.svc.cluster.local:80] outbound|80||web.default.svc.cluster.local";
    check("fd00::1:80", Says::Http("web"), web);
    check("fd00::1:80", Says::Http("[fd00::1]"), web);
    check("fd00::2:5432", Says::Bytes, "fd00::2_5432 outbound|5432||db.default.svc.cluster.local");
    check("10.0.0.2:5432", Says::Bytes, "virtualOutbound PassthroughCluster");
}

/// Mesh of manifests.
const SHOP: &str = "
{kind: Service, metadata: {name: reviews}, spec: {selector: {app: reviews}, ports: [{name: http, port: 9080, targetPort: web}]}}
---
{kind: Service, metadata: {name: old}, spec: {type: ExternalName, externalName: reviews.default.svc.cluster.local}}
---
{kind: Service, metadata: {name: db, namespace: data}, spec: {clusterIP: None, selector: {app: db}, ports: [{name: tcp, port: 5432}]}}
---
{kind: Pod, metadata: {name: reviews-1, labels: {app: reviews}}, spec: {containers: [{ports: [{name: web, containerPort: 8080}]}]}}
---
{kind: Pod, metadata: {name: db-0, namespace: data, labels: {app: db}}, status: {podIP: 10.244.9.9}}
---
kind: ServiceEntry
metadata: {name: api}
spec: {hosts: [api.example.com], addresses: [240.0.0.7], ports: [{name: http, number: 80, protocol: HTTP}], resolution: DNS}
---
kind: ServiceEntry
metadata: {name: wild}
spec: {hosts: ['*.wild.example.com'], ports: [{name: tls, number: 443, protocol: TLS}]}
";

#[test]
fn manifests_make_a_mesh_and_names_lead_into_it() {
    let mesh = Mesh::yaml(SHOP);
    let reviews = "0.0.0.0_9080 [reviews.default.svc.cluster.local:9080] outbound|9080||reviews.default.svc.cluster.local";
    mesh.sidecar("default", "app=web").check(&[
        ("http://reviews:9080/x", reviews),
        ("http://old:9080/x | host: reviews", reviews),
        ("tcp://db.data:5432", "10.244.9.9_5432 outbound|5432||db.data.svc.cluster.local"),
        ("tcp://db-0.db.data:5432", "10.244.9.9_5432 outbound|5432||db.data.svc.cluster.local"),
        ("http://api.example.com/", "0.0.0.0_80 [api.example.com:80] outbound|80||api.example.com"),
        ("tls://a.wild.example.com", "0.0.0.0_443 outbound|443||*.wild.example.com"),
        ("http://nobody:9080/", "0.0.0.0_9080 [allow_any] PassthroughCluster"),
    ]);
    mesh.pod("reviews-1.default").arriving().check(&[
        ("http://reviews:8080/", "virtualInbound [inbound|http|9080] inbound|8080||"),
        ("tcp://reviews:9999", "virtualInbound InboundPassthroughCluster"),
    ]);
    let trace = mesh.pod("db-0.data").ask("http://reviews.default:9080/");
    assert_eq!(trace.shares()[0].upstream.to_string(), "10.244.0.1:8080");
    assert_eq!(trace.origins(), ["Service/default/reviews"]);
    assert!(trace.reaches());
    // Traffic to an undeclared host is passed on, although a rule opens the port.
    let trace = mesh.sidecar("default", "").ask("http://nobody:9080/");
    let host = trace.steps.iter().find(|step| step.stage == Stage::VirtualHost).unwrap();
    assert_eq!((host.name.as_str(), host.origins.len()), ("allow_any", 0));
}

#[test]
fn a_name_means_what_the_clusters_dns_says() {
    let mesh = Mesh::yaml(SHOP);
    let push = mesh.push();
    let check = |namespace: &str, name: &str, expected: &str| {
        let meaning = resolve(&push, &mesh.sidecar(namespace, "").0.proxy, name);
        let host = meaning.host.map_or_else(String::new, |host| format!(" {host}"));
        assert_eq!(format!("{}{host}", meaning.ip), expected, "{name} in {namespace}");
    };
    check("default", "reviews", "10.96.0.1 reviews.default.svc.cluster.local");
    check("data", "reviews", "203.0.113.1");
    check("data", "reviews.default", "10.96.0.1 reviews.default.svc.cluster.local");
    check("data", "reviews.default.svc", "10.96.0.1 reviews.default.svc.cluster.local");
    check("data", "Reviews.default.svc.cluster.local.", "10.96.0.1 reviews.default.svc.cluster.local");
    check("default", "reviews.", "203.0.113.1");
    check("default", "old", "10.96.0.1 old.default.svc.cluster.local");
    check("data", "db", "10.244.9.9 db.data.svc.cluster.local");
    check("data", "db-0.db", "10.244.9.9 db-0.db.data.svc.cluster.local");
    check("data", "db-1.db", "203.0.113.1");
    check("default", "api.example.com", "240.0.0.7 api.example.com");
    check("default", "x.wild.example.com", "203.0.113.1 x.wild.example.com");
    check("default", "wild.example.com", "203.0.113.1");
    check("default", "10.1.2.3", "10.1.2.3");
    check("default", "localhost", "127.0.0.1");
}
