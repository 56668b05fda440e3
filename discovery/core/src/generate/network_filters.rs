//! Network filters of filter chains.
//!
//! Only filters of upstream Envoy are used. `istio.*` filters exist in Istio's build only; any other Envoy rejects a
//! listener that has one.

use std::sync::Arc;
use std::time::Duration;

use pilot_proto::envoy::config::accesslog::v3::AccessLog;
use pilot_proto::envoy::config::listener::v3::{Filter, filter};
use pilot_proto::envoy::extensions::filters::network::mongo_proxy::v3::MongoProxy;
use pilot_proto::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3::{
    FilterConfig as SniLookup, filter_config::PortSpecifier,
};
use pilot_proto::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use pilot_proto::envoy::r#type::v3::{HashPolicy, hash_policy};
use pilot_proto::mesh::Normalization;
use pilot_proto::mesh::proxy_config::ProxyHeaders;
use prost::{Message, Name};

use super::IpFamilies;
use super::cluster::dns_cache;
use super::proto::{any, duration};
use super::telemetry::{AccessLogScope, AccessLogger, TracingSettings};
use crate::model::Protocol;

/// Settings that all filters of a proxy share, for one direction of its traffic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FilterSettings {
    /// Access loggers, in order.
    pub access_logs: Vec<AccessLogger>,
    /// Access log of connections that no filter chain matches.
    pub listener_access_log: ListenerAccessLog,
    /// Tracing; `None`: disabled.
    pub tracing: Option<TracingSettings>,
    /// `proxyHeaders` of the `ProxyConfig`.
    pub headers: ProxyHeaders,
    /// Path normalization of the mesh.
    pub path_normalization: Normalization,
    /// Pattern of the statistics prefix of TCP proxies, such as `%SERVICE%`; empty: the name of the cluster.
    pub stat_name: Arc<str>,
    /// Idle timeout of connections; `None`: Envoy's default.
    pub idle_timeout: Option<Duration>,
    /// Handling of HTTP/1.0 requests.
    pub http10: Http10,
    /// IP families of DNS lookups for dynamic forward proxy clusters; `None`: no route leads to one.
    pub dns_lookup: Option<IpFamilies>,
}

/// Inputs of the TCP proxy of one filter chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TcpChain {
    /// Prefix of statistics.
    pub stat_prefix: String,
    /// Clusters with their weights; never empty, no weight is 0.
    pub clusters: Vec<(String, u32)>,
    /// Protocol of the port.
    pub protocol: Protocol,
    /// Idle timeout of connections; `None`: that of the proxy.
    pub idle_timeout: Option<Duration>,
    /// Maximum duration of a connection.
    pub max_duration: Option<Duration>,
    /// Hash policy for clusters with consistent hashing.
    pub hash: ConnectionHash,
    /// Port of the host that the SNI names, for dynamic forward proxy clusters; `None`: other clusters.
    pub sni_port: Option<u16>,
}

/// Hash policy of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConnectionHash {
    /// No hash policy.
    #[default]
    None,
    /// Source IP address.
    SourceIp,
}

/// Handling of HTTP/1.0 requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Http10 {
    /// Rejected with status 426.
    #[default]
    Refused,
    /// Served.
    Accepted,
}

/// Access log of connections that no filter chain matches (`disableEnvoyListenerLog`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ListenerAccessLog {
    /// Enabled.
    #[default]
    On,
    /// Disabled.
    Off,
}

// === impl FilterSettings ===

impl FilterSettings {
    /// Returns the access logs of a filter or listener.
    pub(super) fn access_log(&self, scope: AccessLogScope) -> Vec<AccessLog> {
        if scope == AccessLogScope::Listener && self.listener_access_log == ListenerAccessLog::Off {
            return Vec::new();
        }
        self.access_logs.iter().map(|log| log.message(scope)).collect()
    }

    /// Returns the network filters of a TCP chain.
    pub(super) fn tcp(&self, chain: &TcpChain) -> Vec<Filter> {
        let stat_prefix = &chain.stat_prefix;
        let hash_policy = match chain.hash {
            ConnectionHash::None => Vec::new(),
            ConnectionHash::SourceIp => vec![HashPolicy {
                policy_specifier: Some(hash_policy::PolicySpecifier::SourceIp(hash_policy::SourceIp {})),
            }],
        };
        let tcp = TcpProxy {
            stat_prefix: stat_prefix.clone(),
            cluster_specifier: Some(chain.clusters()),
            idle_timeout: chain.idle_timeout.or(self.idle_timeout).and_then(duration),
            max_downstream_connection_duration: chain.max_duration.and_then(duration),
            hash_policy,
            access_log: self.access_log(AccessLogScope::Tcp),
            ..TcpProxy::default()
        };
        let preceding = match (chain.protocol, chain.sni_port.zip(self.dns_lookup)) {
            (_, Some((port, families))) => Some(sni_lookup(port, families)),
            (Protocol::Mongo, None) => {
                let mongo = MongoProxy { stat_prefix: stat_prefix.clone(), ..MongoProxy::default() };
                Some(network_filter("envoy.filters.network.mongo_proxy", &mongo))
            }
            _ => None,
        };
        preceding.into_iter().chain([network_filter("envoy.filters.network.tcp_proxy", &tcp)]).collect()
    }
}

// === impl TcpChain ===

impl TcpChain {
    /// Returns a chain to one cluster, without timeouts.
    pub fn to(cluster: impl Into<String>, protocol: Protocol) -> Self {
        let cluster = cluster.into();
        Self {
            stat_prefix: cluster.clone(),
            clusters: vec![(cluster, 1)],
            protocol,
            idle_timeout: None,
            max_duration: None,
            hash: ConnectionHash::None,
            sni_port: None,
        }
    }

    fn clusters(&self) -> tcp_proxy::ClusterSpecifier {
        match self.clusters.as_slice() {
            [(cluster, _)] => tcp_proxy::ClusterSpecifier::Cluster(cluster.clone()),
            several => tcp_proxy::ClusterSpecifier::WeightedClusters(tcp_proxy::WeightedCluster {
                clusters: several
                    .iter()
                    .map(|(name, weight)| tcp_proxy::weighted_cluster::ClusterWeight {
                        name: name.clone(),
                        weight: *weight,
                        ..tcp_proxy::weighted_cluster::ClusterWeight::default()
                    })
                    .collect(),
            }),
        }
    }
}

/// Filter that resolves the host of the SNI for a dynamic forward proxy cluster.
fn sni_lookup(port: u16, families: IpFamilies) -> Filter {
    let config = SniLookup {
        dns_cache_config: Some(dns_cache(families)),
        port_specifier: Some(PortSpecifier::PortValue(port.into())),
        ..SniLookup::default()
    };
    network_filter("envoy.filters.network.sni_dynamic_forward_proxy", &config)
}

pub(super) fn network_filter<M: Message + Name>(name: &str, config: &M) -> Filter {
    Filter { name: name.to_owned(), config_type: any(config).map(filter::ConfigType::TypedConfig) }
}
