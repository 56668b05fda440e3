//! CDS: one cluster per port of a visible service, one per port of the workload, and the three that always exist.
//!
//! Knows no TLS yet: without an SDS server beside the proxy a TLS context would only keep clusters from warming.

use std::net::IpAddr;
use std::time::Duration;

use pilot_proto::envoy::config::cluster::v3::{CircuitBreakers, Cluster, circuit_breakers, cluster};
use pilot_proto::envoy::config::core::v3::{
    BindConfig, ExtraSourceAddress, Http1ProtocolOptions, Http2ProtocolOptions,
    HttpProtocolOptions as Common, Metadata,
};
use pilot_proto::envoy::config::endpoint::v3::{ClusterLoadAssignment, LocalityLbEndpoints};
use pilot_proto::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use pilot_proto::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions, http_protocol_options as http,
};
use pilot_proto::envoy::r#type::v3::Percent;
use pilot_proto::google::protobuf::{Any, Struct};

use super::endpoint::{Addressing, Served, localities};
use super::proto::{ads, any, duration, extension, list, number, object, socket, string, truth};
use super::{Families, Reason, Rejected};
use crate::model::{ClusterName, Location, Protocol, Service, ServicePort};
use crate::scope::Shared;

/// Traffic that must go nowhere.
pub const BLACK_HOLE: &str = "BlackHoleCluster";
/// Outbound traffic that goes on to wherever it was going.
pub const PASSTHROUGH: &str = "PassthroughCluster";
/// Inbound traffic to ports of the workload that no service declares.
pub const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";

/// Everything a cluster depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClusterInputs {
    /// What it is for.
    pub role: ClusterRole,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
}

/// What a cluster is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClusterRole {
    /// A port of a service.
    Outbound {
        /// The service.
        service: Shared<Service>,
        /// Its port.
        port: ServicePort,
        /// How endpoints are found.
        discovery: Discovery,
    },
    /// A port of the workload beside the proxy.
    Inbound {
        /// Where the workload listens.
        target_port: u16,
        /// The services that lead there, the one that counts first.
        services: Vec<Shared<Service>>,
        /// Port of the first service.
        port: ServicePort,
        /// Address families of the proxy.
        families: Families,
    },
    /// `BlackHoleCluster`
    BlackHole,
    /// `PassthroughCluster`
    Passthrough,
    /// `InboundPassthroughCluster`
    InboundPassthrough(Families),
    /// A port of a service, for a gRPC library.
    Proxyless(ClusterName),
}

/// How endpoints of a cluster are found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Discovery {
    /// The control plane tells.
    Eds,
    /// The connection goes where it was going.
    OriginalDst,
    /// The proxy asks DNS.
    Dns {
        /// What it asks for.
        served: Served,
        /// What it makes of the answers.
        answers: Answers,
        /// How often it asks when the answers have no time to live.
        refresh: Duration,
        /// Which records it asks for.
        families: Families,
    },
}

/// What a DNS cluster makes of its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answers {
    /// Balances over all of them.
    All,
    /// Takes the first one at every new connection.
    First,
}

// === impl ClusterInputs ===

impl ClusterInputs {
    /// Name of the cluster.
    pub fn name(&self) -> String {
        match &self.role {
            ClusterRole::Outbound { service, port, .. } => {
                ClusterName::outbound(port.port, &service.hostname).to_string()
            }
            ClusterRole::Inbound { target_port, .. } => ClusterName::inbound(*target_port).to_string(),
            ClusterRole::BlackHole => BLACK_HOLE.to_owned(),
            ClusterRole::Passthrough => PASSTHROUGH.to_owned(),
            ClusterRole::InboundPassthrough(_) => INBOUND_PASSTHROUGH.to_owned(),
            ClusterRole::Proxyless(name) => name.to_string(),
        }
    }
}

/// A cluster.
pub fn cluster(inputs: &ClusterInputs) -> Result<Cluster, Rejected> {
    let made = match &inputs.role {
        ClusterRole::Outbound { service, port, discovery } => outbound(service, port, discovery)?,
        ClusterRole::Inbound { target_port, services, port, families } => {
            inbound(*target_port, services, port, *families)
        }
        ClusterRole::BlackHole => {
            let discovery = Some(cluster::ClusterDiscoveryType::Type(cluster::DiscoveryType::Static.into()));
            Cluster { cluster_discovery_type: discovery, ..named(BLACK_HOLE) }
        }
        ClusterRole::Passthrough => passthrough(PASSTHROUGH),
        ClusterRole::InboundPassthrough(families) => Cluster {
            upstream_bind_config: Some(local_source(*families)),
            ..passthrough(INBOUND_PASSTHROUGH)
        },
        // gRPC libraries refuse what they do not know, and know no balancing but round robin for certain.
        ClusterRole::Proxyless(name) => {
            return Ok(Cluster { common_lb_config: None, ..eds(&name.to_string()) });
        }
    };
    Ok(Cluster { connect_timeout: duration(inputs.connect_timeout), ..made })
}

#[expect(deprecated, reason = "the successor, DnsCluster, is unknown to proxies before Envoy 1.34")]
fn outbound(service: &Service, port: &ServicePort, discovery: &Discovery) -> Result<Cluster, Rejected> {
    let name = ClusterName::outbound(port.port, &service.hostname).to_string();
    let made = match discovery {
        Discovery::Eds => Cluster { lb_policy: cluster::LbPolicy::LeastRequest.into(), ..eds(&name) },
        Discovery::OriginalDst => original_dst(&name),
        Discovery::Dns { served, answers, refresh, families } => {
            let (endpoints, _) = localities(&name, served, Addressing::Names);
            if endpoints.is_empty() {
                let service = service.hostname.clone();
                return Err(Rejected { subject: name, service, reason: Reason::NoEndpoints });
            }
            let resolved = dns(&name, endpoints, *answers);
            Cluster {
                dns_refresh_rate: duration(*refresh),
                dns_lookup_family: lookup(*families).into(),
                ..resolved
            }
        }
    };
    let mut istio = services(&[service]);
    if service.location == Location::MeshExternal {
        istio.fields.insert("external".to_owned(), truth());
    }
    Ok(Cluster {
        metadata: Some(metadata(istio)),
        circuit_breakers: Some(unlimited()),
        typed_extension_protocol_options: upstream_http(port.protocol),
        ..made
    })
}

fn inbound(
    target_port: u16,
    selected: &[Shared<Service>],
    port: &ServicePort,
    families: Families,
) -> Cluster {
    let name = ClusterName::inbound(target_port).to_string();
    let of_port = selected.iter().filter(|service| service.port(port.port).is_some());
    let listed: Vec<&Service> = of_port.map(|service| &**service).collect();
    Cluster {
        // Hosts of an original-destination cluster are forgotten when unused; the workload stays where it is.
        cleanup_interval: duration(LONGEST),
        // iptables would send a connection from the workload's own address back here: an address that it lets pass.
        upstream_bind_config: Some(local_source(families)),
        metadata: Some(metadata(services(&listed))),
        circuit_breakers: Some(unlimited()),
        typed_extension_protocol_options: upstream_http(port.protocol),
        ..original_dst(&name)
    }
}

/// The longest whole number of seconds that Envoy takes: its clock counts nanoseconds in 63 bits.
const LONGEST: Duration = Duration::from_secs(9_223_372_035);

fn passthrough(name: &str) -> Cluster {
    let options = HttpProtocolOptions {
        common_http_protocol_options: Some(Common {
            idle_timeout: duration(Duration::from_mins(5)),
            ..Common::default()
        }),
        upstream_protocol_options: Some(as_downstream()),
        ..HttpProtocolOptions::default()
    };
    Cluster {
        typed_extension_protocol_options: http_options(&options),
        circuit_breakers: Some(unlimited()),
        common_lb_config: None,
        ..original_dst(name)
    }
}

/// A name; `;` ends it in statistics, where names of all kinds of lengths and separators meet.
fn named(name: &str) -> Cluster {
    Cluster { name: name.to_owned(), alt_stat_name: format!("{name};"), ..Cluster::default() }
}

fn eds(name: &str) -> Cluster {
    Cluster {
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(cluster::DiscoveryType::Eds.into())),
        eds_cluster_config: Some(cluster::EdsClusterConfig {
            eds_config: ads(),
            service_name: name.to_owned(),
        }),
        common_lb_config: Some(no_panic()),
        ..named(name)
    }
}

fn original_dst(name: &str) -> Cluster {
    Cluster {
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(
            cluster::DiscoveryType::OriginalDst.into(),
        )),
        lb_policy: cluster::LbPolicy::ClusterProvided.into(),
        common_lb_config: Some(cluster::CommonLbConfig::default()),
        ..named(name)
    }
}

#[expect(deprecated, reason = "the successor, DnsCluster, is unknown to proxies before Envoy 1.34")]
fn dns(name: &str, mut endpoints: Vec<LocalityLbEndpoints>, answers: Answers) -> Cluster {
    if answers == Answers::First {
        // Envoy refuses a logical DNS cluster with more than one name.
        endpoints.truncate(1);
        for locality in &mut endpoints {
            locality.lb_endpoints.truncate(1);
        }
    }
    let discovery = match answers {
        Answers::All => cluster::DiscoveryType::StrictDns,
        Answers::First => cluster::DiscoveryType::LogicalDns,
    };
    let resolver =
        CaresDnsResolverConfig { udp_max_queries: number(100), ..CaresDnsResolverConfig::default() };
    Cluster {
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(discovery.into())),
        lb_policy: cluster::LbPolicy::LeastRequest.into(),
        common_lb_config: Some(no_panic()),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints,
            ..ClusterLoadAssignment::default()
        }),
        typed_dns_resolver_config: Some(extension("envoy.network.dns_resolver.cares", &resolver)),
        dns_jitter: duration(Duration::from_millis(100)),
        respect_dns_ttl: true,
        ..named(name)
    }
}

/// Both families of a dual-stack proxy are usable, so one that resolves to IPv6 only must not fail.
const fn lookup(families: Families) -> cluster::DnsLookupFamily {
    match families {
        Families::V4 => cluster::DnsLookupFamily::V4Only,
        Families::V6 => cluster::DnsLookupFamily::V6Only,
        Families::Both => cluster::DnsLookupFamily::V4Preferred,
    }
}

/// Unhealthy endpoints are sent too; in panic mode Envoy would use them.
fn no_panic() -> cluster::CommonLbConfig {
    let healthy_panic_threshold = Some(Percent::default());
    cluster::CommonLbConfig { healthy_panic_threshold, ..cluster::CommonLbConfig::default() }
}

/// Envoy's own limits (1024 of everything) are a surprise to whoever meets them; who wants limits says so.
fn unlimited() -> CircuitBreakers {
    let threshold = circuit_breakers::Thresholds {
        max_connections: number(u32::MAX),
        max_pending_requests: number(u32::MAX),
        max_requests: number(u32::MAX),
        max_retries: number(u32::MAX),
        track_remaining: true,
        ..circuit_breakers::Thresholds::default()
    };
    CircuitBreakers { thresholds: vec![threshold], ..CircuitBreakers::default() }
}

type ProtocolOptions = std::collections::BTreeMap<String, Any>;

fn upstream_http(protocol: Protocol) -> ProtocolOptions {
    let upstream = match protocol {
        Protocol::Auto => as_downstream(),
        protocol if protocol.is_http2() => {
            let h2 = Http2ProtocolOptions::default();
            let config = http::explicit_http_config::ProtocolConfig::Http2ProtocolOptions(h2);
            http::UpstreamProtocolOptions::ExplicitHttpConfig(http::ExplicitHttpConfig {
                protocol_config: Some(config),
            })
        }
        _ => return ProtocolOptions::new(),
    };
    http_options(&HttpProtocolOptions {
        upstream_protocol_options: Some(upstream),
        ..HttpProtocolOptions::default()
    })
}

/// What the client speaks is what the server is spoken to.
fn as_downstream() -> http::UpstreamProtocolOptions {
    http::UpstreamProtocolOptions::UseDownstreamProtocolConfig(http::UseDownstreamHttpConfig {
        http_protocol_options: Some(Http1ProtocolOptions::default()),
        http2_protocol_options: Some(Http2ProtocolOptions::default()),
        http3_protocol_options: None,
    })
}

fn http_options(options: &HttpProtocolOptions) -> ProtocolOptions {
    let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned();
    any(options).map(|options| (name, options)).into_iter().collect()
}

/// `127.0.0.6`: the source address that iptables rules know as the proxy's own.
fn local_source(families: Families) -> BindConfig {
    let v4 = IpAddr::from([127, 0, 0, 6]);
    let v6 = IpAddr::from([0, 0, 0, 0, 0, 0, 0, 6]);
    let (first, second) = match families {
        Families::V4 => (v4, None),
        Families::V6 => (v6, None),
        Families::Both => (v4, Some(v6)),
    };
    let source = |ip: IpAddr| socket(&ip.to_string(), 0);
    let extra = second.map(|ip| ExtraSourceAddress { address: Some(source(ip)), socket_options: None });
    BindConfig {
        source_address: Some(source(first)),
        extra_source_addresses: extra.into_iter().collect(),
        ..BindConfig::default()
    }
}

/// Which services the cluster stands for, for telemetry.
fn services(services: &[&Service]) -> Struct {
    let one = |service: &&Service| {
        let fields = object([
            ("host", string(service.hostname.as_str())),
            ("name", string(&service.name)),
            ("namespace", string(service.namespace.as_str())),
        ]);
        pilot_proto::google::protobuf::Value {
            kind: Some(pilot_proto::google::protobuf::value::Kind::StructValue(fields)),
        }
    };
    object([("services", list(services.iter().map(one).collect()))])
}

fn metadata(istio: Struct) -> Metadata {
    Metadata { filter_metadata: [("istio".to_owned(), istio)].into(), ..Metadata::default() }
}
