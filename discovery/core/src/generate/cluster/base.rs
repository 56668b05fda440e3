//! Clusters before the traffic policy is applied, by type of discovery.

use std::net::IpAddr;
use std::time::Duration;

use pilot_proto::envoy::config::cluster::v3::{Cluster, cluster};
use pilot_proto::envoy::config::core::v3::{
    BindConfig, ExtraSourceAddress, HttpProtocolOptions as Common, Metadata,
};
use pilot_proto::envoy::config::endpoint::v3::{ClusterLoadAssignment, LocalityLbEndpoints};
use pilot_proto::envoy::extensions::clusters::dynamic_forward_proxy::v3::{
    ClusterConfig as DynamicCluster, cluster_config::ClusterImplementationSpecifier,
};
use pilot_proto::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use pilot_proto::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use pilot_proto::envoy::r#type::v3::Percent;
use pilot_proto::google::protobuf::{Struct, Value, value::Kind};

use super::http_options::{HttpOptions, UpstreamHttp};
use super::upstream_tls::NameVerification;
use super::{DnsClusterType, connection_pool};
use crate::generate::IpFamilies;
use crate::generate::proto::{ads, any, duration, extension, list, number, object, socket, string};
use crate::generate::traffic_policy::MergedTrafficPolicy;
use crate::model::Service;

/// Cluster for connections to their original destination.
pub(super) fn passthrough(name: &str, policy: &MergedTrafficPolicy) -> Cluster {
    let options = HttpOptions {
        protocol: UpstreamHttp::UseDownstream,
        common: Some(Common { idle_timeout: duration(Duration::from_mins(5)), ..Common::default() }),
        ..HttpOptions::default()
    };
    let mut cluster = Cluster { common_lb_config: None, ..original_dst(name) };
    // Circuit breakers only: timeouts of the policy do not apply to these connections.
    connection_pool::apply(&mut cluster, &mut HttpOptions::default(), policy);
    Cluster { typed_extension_protocol_options: options.options(), ..cluster }
}

/// Cluster with a name. In statistics `;` terminates the name, because it may contain dots.
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
pub(super) fn dns(name: &str, mut endpoints: Vec<LocalityLbEndpoints>, dns_type: DnsClusterType) -> Cluster {
    if dns_type == DnsClusterType::Logical {
        // Envoy rejects a logical DNS cluster with more than one hostname.
        endpoints.truncate(1);
        for locality in &mut endpoints {
            locality.lb_endpoints.truncate(1);
        }
    }
    let discovery = match dns_type {
        DnsClusterType::Strict => cluster::DiscoveryType::StrictDns,
        DnsClusterType::Logical => cluster::DiscoveryType::LogicalDns,
    };
    let resolver =
        CaresDnsResolverConfig { udp_max_queries: number(100), ..CaresDnsResolverConfig::default() };
    Cluster {
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(discovery.into())),
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

/// Lookup family. A dual-stack proxy also accepts hosts that have IPv6 addresses only.
pub(super) const fn lookup(families: IpFamilies) -> cluster::DnsLookupFamily {
    match families {
        IpFamilies::V4 => cluster::DnsLookupFamily::V4Only,
        IpFamilies::V6 => cluster::DnsLookupFamily::V6Only,
        IpFamilies::Both => cluster::DnsLookupFamily::V4Preferred,
    }
}

/// Disables panic mode, in which Envoy would use unhealthy endpoints.
pub(super) fn no_panic() -> cluster::CommonLbConfig {
    let healthy_panic_threshold = Some(Percent::default());
    cluster::CommonLbConfig { healthy_panic_threshold, ..cluster::CommonLbConfig::default() }
}

/// Dynamic forward proxy cluster for wildcard hosts; a host is resolved at its first request.
pub(super) fn dynamic(name: &str, families: IpFamilies, checks: NameVerification) -> Cluster {
    let config = DynamicCluster {
        allow_insecure_cluster_options: checks == NameVerification::Off,
        cluster_implementation_specifier: Some(ClusterImplementationSpecifier::DnsCacheConfig(dns_cache(
            families,
        ))),
        ..DynamicCluster::default()
    };
    Cluster {
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::ClusterType(
            cluster::CustomClusterType {
                name: "envoy.clusters.dynamic_forward_proxy".into(),
                typed_config: any(&config),
            },
        )),
        lb_policy: cluster::LbPolicy::ClusterProvided.into(),
        ..named(name)
    }
}

/// DNS cache of dynamic forward proxy clusters and filters. All of them share it, so that the filter fills it for every
/// cluster. Envoy rejects two caches of the same name with different settings.
pub fn dns_cache(families: IpFamilies) -> DnsCacheConfig {
    DnsCacheConfig {
        name: "dynamic_dns".into(),
        dns_lookup_family: lookup(families).into(),
        ..DnsCacheConfig::default()
    }
}

/// Source address `127.0.0.6`, which iptables rules exclude from redirection.
pub(super) fn local_source(families: IpFamilies) -> BindConfig {
    let v4 = IpAddr::from([127, 0, 0, 6]);
    let v6 = IpAddr::from([0, 0, 0, 0, 0, 0, 0, 6]);
    let (first, second) = match families {
        IpFamilies::V4 => (v4, None),
        IpFamilies::V6 => (v6, None),
        IpFamilies::Both => (v4, Some(v6)),
    };
    let source = |ip: IpAddr| socket(&ip.to_string(), 0);
    let extra = second.map(|ip| ExtraSourceAddress { address: Some(source(ip)), socket_options: None });
    BindConfig {
        source_address: Some(source(first)),
        extra_source_addresses: extra.into_iter().collect(),
        ..BindConfig::default()
    }
}

/// Metadata of the services of the cluster, for telemetry.
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
