//! The parts that clusters are put together from.

use std::collections::BTreeMap;
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
use pilot_proto::google::protobuf::{Any, Struct, Value, value::Kind};

use super::Answers;
use crate::generate::Families;
use crate::generate::proto::{ads, any, duration, extension, list, number, object, socket, string};
use crate::model::{Protocol, Service};

pub(super) fn passthrough(name: &str) -> Cluster {
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
pub(super) fn named(name: &str) -> Cluster {
    Cluster { name: name.to_owned(), alt_stat_name: format!("{name};"), ..Cluster::default() }
}

pub(super) fn eds(name: &str) -> Cluster {
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

pub(super) fn original_dst(name: &str) -> Cluster {
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
pub(super) fn dns(name: &str, mut endpoints: Vec<LocalityLbEndpoints>, answers: Answers) -> Cluster {
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
pub(super) const fn lookup(families: Families) -> cluster::DnsLookupFamily {
    match families {
        Families::V4 => cluster::DnsLookupFamily::V4Only,
        Families::V6 => cluster::DnsLookupFamily::V6Only,
        Families::Both => cluster::DnsLookupFamily::V4Preferred,
    }
}

/// Unhealthy endpoints are sent too; in panic mode Envoy would use them.
pub(super) fn no_panic() -> cluster::CommonLbConfig {
    let healthy_panic_threshold = Some(Percent::default());
    cluster::CommonLbConfig { healthy_panic_threshold, ..cluster::CommonLbConfig::default() }
}

/// Envoy's own limits (1024 of everything) are a surprise to whoever meets them; who wants limits says so.
pub(super) fn unlimited() -> CircuitBreakers {
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

pub(super) type ProtocolOptions = BTreeMap<String, Any>;

pub(super) fn upstream_http(protocol: Protocol) -> ProtocolOptions {
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
pub(super) fn as_downstream() -> http::UpstreamProtocolOptions {
    http::UpstreamProtocolOptions::UseDownstreamProtocolConfig(http::UseDownstreamHttpConfig {
        http_protocol_options: Some(Http1ProtocolOptions::default()),
        http2_protocol_options: Some(Http2ProtocolOptions::default()),
        http3_protocol_options: None,
    })
}

pub(super) fn http_options(options: &HttpProtocolOptions) -> ProtocolOptions {
    let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned();
    any(options).map(|options| (name, options)).into_iter().collect()
}

/// `127.0.0.6`: the source address that iptables rules know as the proxy's own.
pub(super) fn local_source(families: Families) -> BindConfig {
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
pub(super) fn services(services: &[&Service]) -> Struct {
    let one = |service: &&Service| {
        let fields = object([
            ("host", string(service.hostname.as_str())),
            ("name", string(&service.name)),
            ("namespace", string(service.namespace.as_str())),
        ]);
        Value { kind: Some(Kind::StructValue(fields)) }
    };
    object([("services", list(services.iter().map(one).collect()))])
}

pub(super) fn metadata(istio: Struct) -> Metadata {
    Metadata { filter_metadata: [("istio".to_owned(), istio)].into(), ..Metadata::default() }
}
