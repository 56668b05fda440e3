//! What generated configuration means: an imagined call is led through it as Envoy would lead it.
//!
//! A story is one line: who calls what, and where the call ends: `<listener> [<virtual host>] <cluster>`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

mod fixture;

use std::net::IpAddr;
use std::sync::Arc;

use fixture::*;
use pilot_core::model::{Proxy, Resolution};
use pilot_core::push::PushContext;
use pilot_proto::ResourceType::{Cluster, Listener, Route};
use pilot_proto::envoy::config::cluster::v3 as cds;
use pilot_proto::envoy::config::core::v3::{CidrRange, address, socket_address};
use pilot_proto::envoy::config::listener::v3 as lds;
use pilot_proto::envoy::config::listener::v3::filter::ConfigType;
use pilot_proto::envoy::config::listener::v3::listener_filter_chain_match_predicate::Rule;
use pilot_proto::envoy::config::route::v3 as rds;
use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use pilot_proto::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy, tcp_proxy::ClusterSpecifier,
};
use pilot_proto::mesh::{MeshConfig, OutboundTrafficMode, OutboundTrafficPolicy};
use pilot_proto::node::InterceptionMode;
use prost::Message;

// === the call ===

/// Bytes as they leave a client.
#[derive(Clone, Copy)]
enum Says<'a> {
    /// `GET /` with this host.
    Http(&'a str),
    /// Anything else, in plaintext.
    Bytes,
    /// A TLS handshake that asks for this name.
    Tls(&'a str),
}

/// Which way a connection passes the proxy.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Out,
    In,
}

/// Everything one proxy was told.
struct Told<'a> {
    push: &'a PushContext,
    proxy: &'a Proxy,
    listeners: Vec<lds::Listener>,
}

impl<'a> Told<'a> {
    fn new(push: &'a PushContext, proxy: &'a Proxy) -> Self {
        let listeners = decoded(&generate(push, proxy, Listener, None)).into_values().collect();
        let told = Self { push, proxy, listeners };
        told.must_be_accepted();
        told
    }

    /// Where a connection to `to` ends.
    fn call(&self, way: Way, to: &str, says: Says<'_>) -> String {
        let (ip, port) = to.rsplit_once(':').unwrap();
        let (ip, port): (IpAddr, u16) = (ip.parse().unwrap(), port.parse().unwrap());
        let Some(listener) = self.listener(way, ip, port) else { return "refused".into() };
        let Some(chain) = pick(listener, ip, port, says) else { return format!("{} closed", listener.name) };
        let config = chain.filters.iter().rev().find_map(|filter| match &filter.config_type {
            Some(ConfigType::TypedConfig(any)) => Some(any),
            _ => None,
        });
        let config = config.unwrap();
        if config.type_url.ends_with(".TcpProxy") {
            let tcp = TcpProxy::decode(config.value.clone()).unwrap();
            let Some(ClusterSpecifier::Cluster(cluster)) = tcp.cluster_specifier else { panic!("{tcp:?}") };
            return format!("{} {}", listener.name, self.existing(&cluster));
        }
        let http = HttpConnectionManager::decode(config.value.clone()).unwrap();
        let Says::Http(host) = says else { return format!("{} 400", listener.name) };
        let routes = match http.route_specifier.unwrap() {
            RouteSpecifier::RouteConfig(routes) => routes,
            RouteSpecifier::Rds(rds) => {
                let asked = names([rds.route_config_name.as_str()]);
                let answer = generate(self.push, self.proxy, Route, Some(&asked));
                decoded(&answer).remove(&rds.route_config_name).expect("routes that a listener names exist")
            }
            scoped @ RouteSpecifier::ScopedRoutes(_) => panic!("{scoped:?}"),
        };
        let Some(found) = virtual_host(&routes, host) else { return format!("{} 404", listener.name) };
        let action = found.routes.first().and_then(|route| route.action.clone()).unwrap();
        match action {
            rds::route::Action::Route(action) => {
                let Some(rds::route_action::ClusterSpecifier::Cluster(cluster)) = action.cluster_specifier
                else {
                    panic!("{action:?}")
                };
                format!("{} [{}] {}", listener.name, found.name, self.existing(&cluster))
            }
            rds::route::Action::DirectResponse(answer) => {
                format!("{} [{}] {}", listener.name, found.name, answer.status)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Connections reach a listener that binds by its address, and others by way of a virtual listener, which hands
    /// them over to the listener of their original destination.
    fn listener(&self, way: Way, ip: IpAddr, port: u16) -> Option<&lds::Listener> {
        let named = |name: &str| self.listeners.iter().find(|listener| listener.name == name);
        let bound = |listener: &&lds::Listener| listener.bind_to_port.is_none_or(|bind| bind.value);
        if self.proxy.interception() == InterceptionMode::None {
            return self.at(ip, port).filter(bound);
        }
        match way {
            Way::In => named("virtualInbound"),
            Way::Out => {
                let wildcard: IpAddr = self.proxy.wildcard().parse().unwrap();
                let special = |listener: &&lds::Listener| !listener.name.starts_with("virtual");
                self.at(ip, port)
                    .filter(special)
                    .or_else(|| self.at(wildcard, port).filter(special))
                    .or_else(|| named("virtualOutbound"))
            }
        }
    }

    fn at(&self, ip: IpAddr, port: u16) -> Option<&lds::Listener> {
        self.listeners.iter().find(|listener| {
            let Some(address::Address::SocketAddress(socket)) =
                listener.address.as_ref().and_then(|address| address.address.as_ref())
            else {
                return false;
            };
            socket.address == ip.to_string()
                && socket.port_specifier == Some(socket_address::PortSpecifier::PortValue(port.into()))
        })
    }

    fn existing(&self, cluster: &str) -> String {
        let asked = names([cluster]);
        let clusters = decoded::<cds::Cluster>(&generate(self.push, self.proxy, Cluster, Some(&asked)));
        if clusters.contains_key(cluster) { cluster.into() } else { format!("{cluster} (missing)") }
    }

    /// What Envoy refuses a listener for.
    fn must_be_accepted(&self) {
        for listener in &self.listeners {
            for (index, chain) in listener.filter_chains.iter().enumerate() {
                let same = |other: &lds::FilterChain| other.filter_chain_match == chain.filter_chain_match;
                let again = listener.filter_chains.iter().skip(index + 1).any(same);
                assert!(!again, "{}: two chains match {:?}", listener.name, chain.filter_chain_match);
            }
        }
    }
}

// === Envoy's rules ===

/// Whether a chain matches by one criterion, and how specifically.
type Matches<'a> = Box<dyn Fn(&lds::FilterChainMatch) -> Option<usize> + 'a>;

/// Criteria in Envoy's order; after each only the most specific matches remain, and no way leads back.
fn pick(listener: &lds::Listener, ip: IpAddr, port: u16, says: Says<'_>) -> Option<lds::FilterChain> {
    let inspects = |name: &str| {
        listener.listener_filters.iter().any(|filter| {
            filter.name.ends_with(name)
                && !filter.filter_disabled.as_ref().is_some_and(|predicate| disabled(predicate, port))
        })
    };
    let (transport, name) = match says {
        Says::Tls(name) if inspects("tls_inspector") => ("tls", name),
        _ => ("raw_buffer", ""),
    };
    let protocol = match says {
        Says::Http(_) if inspects("http_inspector") => "http/1.1",
        _ => "",
    };
    let criteria: [Matches<'_>; 5] = [
        Box::new(|m| match &m.destination_port {
            None => Some(0),
            Some(wanted) => (wanted.value == u32::from(port)).then_some(1),
        }),
        Box::new(|m| match m.prefix_ranges.as_slice() {
            [] => Some(0),
            ranges => ranges.iter().filter_map(|range| contains(range, ip)).max(),
        }),
        Box::new(|m| match m.server_names.as_slice() {
            [] => Some(0),
            wanted => wanted.iter().filter(|wanted| domain_matches(wanted, name)).map(String::len).max(),
        }),
        Box::new(|m| match m.transport_protocol.as_str() {
            "" => Some(0),
            wanted => (wanted == transport).then_some(1),
        }),
        Box::new(|m| match m.application_protocols.as_slice() {
            [] => Some(0),
            wanted => wanted.iter().any(|wanted| wanted == protocol).then_some(1),
        }),
    ];
    let mut left: Vec<&lds::FilterChain> = listener.filter_chains.iter().collect();
    for criterion in &criteria {
        let rank =
            |chain: &lds::FilterChain| criterion(&chain.filter_chain_match.clone().unwrap_or_default());
        let best = left.iter().filter_map(|chain| rank(chain)).max();
        left.retain(|chain| best.is_some() && rank(chain) == best);
    }
    left.first().copied().or(listener.default_filter_chain.as_ref()).cloned()
}

fn disabled(predicate: &lds::ListenerFilterChainMatchPredicate, port: u16) -> bool {
    match predicate.rule.as_ref().unwrap() {
        Rule::DestinationPortRange(range) => (range.start..range.end).contains(&i32::from(port)),
        Rule::OrMatch(set) => set.rules.iter().any(|rule| disabled(rule, port)),
        other => panic!("{other:?}"),
    }
}

fn contains(range: &CidrRange, ip: IpAddr) -> Option<usize> {
    let length = range.prefix_len.as_ref().unwrap().value;
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
        IpAddr::V6(ip) => ip.to_bits(),
    };
    let prefix: IpAddr = range.address_prefix.parse().unwrap();
    let same = (bits(prefix) ^ bits(ip)).leading_zeros() >= length;
    (prefix.is_ipv4() == ip.is_ipv4() && same).then_some(length as usize + 1)
}

fn domain_matches(wanted: &str, name: &str) -> bool {
    wanted.strip_prefix('*').map_or(wanted == name, |suffix| name.ends_with(suffix))
}

fn virtual_host(routes: &rds::RouteConfiguration, host: &str) -> Option<rds::VirtualHost> {
    let host = if routes.ignore_port_in_host_matching {
        host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(host, _)| host)
    } else {
        host
    };
    let hosts =
        || routes.virtual_hosts.iter().flat_map(|vhost| vhost.domains.iter().map(move |d| (d, vhost)));
    let exact = hosts().find(|(domain, _)| domain.eq_ignore_ascii_case(host));
    let suffix = hosts().filter(|(domain, _)| domain.starts_with('*') && domain_matches(domain, host));
    exact.or_else(|| suffix.max_by_key(|(domain, _)| domain.len())).map(|(_, vhost)| vhost.clone())
}

// === the stories ===

/// Two services of each protocol, and more of what is odd about services.
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
    let told = Told::new(&push, &proxy);
    let check = |to, says, expected| assert_eq!(told.call(Way::Out, to, says), expected, "to {to}");
    let reviews = "0.0.0.0_9080 [reviews.default.svc.cluster.local:9080] outbound|9080||reviews.default.svc.cluster.local";

    // HTTP goes by host, whatever address it was sent to.
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
    // An alias is another name for the same thing.
    check("10.9.9.9:9080", Says::Http("old"), reviews);
    // Nobody declared it, or not to us.
    check("10.9.9.9:9080", Says::Http("stranger"), "0.0.0.0_9080 [allow_any] PassthroughCluster");
    check("10.0.0.11:9080", Says::Http("hidden.shop"), "0.0.0.0_9080 [allow_any] PassthroughCluster");
    check("10.9.9.9:1234", Says::Http("stranger"), "virtualOutbound PassthroughCluster");
    check("10.9.9.9:15001", Says::Bytes, "virtualOutbound BlackHoleCluster");
    // Bytes at an HTTP port are nobody's.
    check("10.9.9.9:9080", Says::Bytes, "0.0.0.0_9080 PassthroughCluster");
    // The health port of the proxy is not taken away.
    check("10.0.0.10:15021", Says::Http("status"), "virtualOutbound PassthroughCluster");

    // TCP goes by address.
    check("10.0.0.4:3306", Says::Bytes, "10.0.0.4_3306 outbound|3306||mysql.default.svc.cluster.local");
    check("10.0.0.5:6379", Says::Bytes, "10.0.0.5_6379 outbound|6379||cache.default.svc.cluster.local");
    check("10.0.0.5:6380", Says::Bytes, "virtualOutbound PassthroughCluster");
    check("10.0.0.9:9080", Says::Bytes, "10.0.0.9_9080 outbound|9080||mixed.default.svc.cluster.local");
    check(
        "10.0.0.7:8443",
        Says::Tls("secure"),
        "10.0.0.7_8443 outbound|8443||secure.default.svc.cluster.local",
    );

    // What is not declared is sniffed.
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

    // Endpoints of headless services are addressed one by one.
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
    let told = Told::new(&push, &proxy);
    let check = |host, expected| {
        assert_eq!(told.call(Way::Out, "10.9.9.9:9080", Says::Http(host)), expected, "{host}");
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
    let told = Told::new(&push, &proxy);
    let check = |to, says, expected| assert_eq!(told.call(Way::Out, to, says), expected, "to {to}");
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
    let told = Told::new(&push, &proxy);
    let check = |to, says, expected| assert_eq!(told.call(Way::Out, to, says), expected, "to {to}");
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
            "0.0.0.0_1000 of second.example.com: first.example.com is older and answers the same connections",
            "0.0.0.0_1000 of sniffed.example.com: first.example.com is older and answers the same connections",
            "0.0.0.0_2000 of late.example.com: shares the port with mongo.example.com, and a server-first protocol \
             cannot be sniffed",
            "10.0.0.1_3000 of two.default.svc.cluster.local: one.default.svc.cluster.local is older and answers the \
             same connections",
        ]
    );
    assert_eq!(report.counters()["pilot_conflict_outbound_listener_tcp_over_current_tcp"], 3);
}

#[test]
fn without_interception_everything_is_on_loopback() {
    let push = bookinfo();
    // productpage is 10.1.0.1 and listens on 9080 itself: neither may take that port from the other.
    let proxy = sidecar("10.1.0.1", "default").interception(InterceptionMode::None);
    let told = Told::new(&push, &proxy);
    let check = |to, says, expected| assert_eq!(told.call(Way::Out, to, says), expected, "to {to}");
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
    for listener in &told.listeners {
        assert!(listener.bind_to_port.is_none(), "{} binds", listener.name);
        assert!(listener.use_original_dst.is_none(), "{} has no original destination", listener.name);
    }

    // Elsewhere port 9080 is free, and shared: HTTP by host, the rest to the one TCP service.
    let elsewhere = sidecar("10.1.0.6", "default").interception(InterceptionMode::None);
    let told = Told::new(&push, &elsewhere);
    assert_eq!(
        told.call(Way::Out, "127.0.0.1:9080", Says::Http("reviews")),
        "127.0.0.1_9080 [reviews.default.svc.cluster.local:9080] outbound|9080||reviews.default.svc.cluster.local"
    );
    assert_eq!(
        told.call(Way::Out, "127.0.0.1:9080", Says::Bytes),
        "127.0.0.1_9080 outbound|9080||mixed.default.svc.cluster.local"
    );
    assert_eq!(
        told.call(Way::In, "10.1.0.6:6379", Says::Bytes),
        "refused",
        "the workload itself listens there"
    );

    let weak = elsewhere.unprivileged();
    let told = Told::new(&push, &weak);
    assert_eq!(told.call(Way::Out, "127.0.0.1:443", Says::Tls("www.example.com")), "refused");
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
    let told = Told::new(&push, &proxy);
    let check = |port, says, expected| {
        assert_eq!(told.call(Way::In, &format!("10.1.0.1:{port}"), says), expected, "port {port}");
    };
    check(8080, Says::Http("anything"), "virtualInbound [inbound|http|80] inbound|8080||");
    check(8080, Says::Bytes, "virtualInbound 400");
    check(8082, Says::Http("anything"), "virtualInbound [inbound|http|82] inbound|8082||");
    check(8082, Says::Bytes, "virtualInbound inbound|8082||");
    check(8082, Says::Tls("anything"), "virtualInbound inbound|8082||");
    check(8083, Says::Http("anything"), "virtualInbound inbound|8083||");
    check(8083, Says::Bytes, "virtualInbound inbound|8083||");
    // Nobody declared these, and they work as without a proxy.
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
    let told = Told::new(&push, &proxy);
    let check = |to, expected| assert_eq!(told.call(Way::Out, to, Says::Bytes), expected);
    check("10.1.0.9:5432", "virtualOutbound PassthroughCluster");
    check("10.1.0.10:5432", "10.1.0.10_5432 outbound|5432||db.default.svc.cluster.local");
}

#[test]
fn an_application_may_be_told_to_use_the_proxy() {
    let mut push = bookinfo();
    push.mesh = Arc::new(MeshConfig { proxy_http_port: 15080, ..MeshConfig::default() });
    let proxy = sidecar("10.1.0.1", "default").interception(InterceptionMode::None);
    let told = Told::new(&push, &proxy);
    let check =
        |host, expected| assert_eq!(told.call(Way::Out, "127.0.0.1:15080", Says::Http(host)), expected);
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
    let told = Told::new(&push, &proxy);
    let check = |to, says, expected| assert_eq!(told.call(Way::Out, to, says), expected, "to {to}");
    let web = "::_80 [web.default.svc.cluster.local:80] outbound|80||web.default.svc.cluster.local";
    check("fd00::1:80", Says::Http("web"), web);
    check("fd00::1:80", Says::Http("[fd00::1]"), web);
    check("fd00::2:5432", Says::Bytes, "fd00::2_5432 outbound|5432||db.default.svc.cluster.local");
    check("10.0.0.2:5432", Says::Bytes, "virtualOutbound PassthroughCluster");
}
