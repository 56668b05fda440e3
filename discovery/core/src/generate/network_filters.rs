//! Network filters of filter chains, and what they log.
//!
//! Only filters of every Envoy are used: `istio.*` filters exist in Istio's own build and would make a stock Envoy
//! refuse the listener.

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
use pilot_proto::mesh::proxy::ProxyHeaders;
use prost::{Message, Name};

use super::IpFamilies;
use super::cluster::dns_cache;
use super::proto::{any, duration};
use super::telemetry::{AccessLogger, TracingSettings};
use crate::model::Protocol;

/// What all filters of a proxy on one side of its connections say alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FilterSettings {
    /// Where access is logged, in order.
    pub access_logs: Vec<AccessLogger>,
    /// Whether connections are logged that no filter chain takes.
    pub listener_access_log: ListenerAccessLog,
    /// How requests are traced; `None`: not at all.
    pub tracing: Option<TracingSettings>,
    /// Headers that are written.
    pub headers: ProxyHeaders,
    /// How paths are put in order.
    pub path_normalization: Normalization,
    /// How statistics of connections that are passed on are named, with `%SERVICE%` and the like; empty: as clusters are.
    pub stat_name: Arc<str>,
    /// When an idle connection is closed; Envoy's default when `None`.
    pub idle_timeout: Option<Duration>,
    /// Whether HTTP/1.0 requests are served.
    pub http10: Http10,
    /// Which records are asked for of hosts that are known only when a client names them; `None`: nothing leads to such.
    pub dns_lookup: Option<IpFamilies>,
}

/// Where bytes go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TcpChain {
    /// Begins the names of its statistics.
    pub stat_prefix: String,
    /// To these clusters, with a share each that is not 0; never empty.
    pub clusters: Vec<(String, u32)>,
    /// What the bytes are said to be.
    pub protocol: Protocol,
    /// When an idle connection is closed; `None`: what the proxy says.
    pub idle_timeout: Option<Duration>,
    /// When a connection is closed that is not idle.
    pub max_duration: Option<Duration>,
    /// By what the upstream host is chosen where the cluster hashes.
    pub hash: ConnectionHash,
    /// The port of the host that the client's TLS names, which is where they go; `None`: the clusters know where.
    pub sni_port: Option<u16>,
}

/// By what of a connection a host is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConnectionHash {
    /// Nothing.
    #[default]
    Nothing,
    /// Address of the client.
    SourceIp,
}

/// What happens to HTTP/1.0 requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Http10 {
    /// 426.
    #[default]
    Refused,
    /// Served.
    Accepted,
}

/// Whether connections are logged that no filter chain takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ListenerAccessLog {
    /// Yes.
    #[default]
    On,
    /// No.
    Off,
}

/// Which accesses are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccessLogScope {
    /// All requests.
    Http,
    /// All connections.
    Tcp,
    /// Connections that no filter chain took and that no filter can log therefore.
    Listener,
}

// === impl FilterSettings ===

impl FilterSettings {
    /// What is logged at a place.
    pub(super) fn access_log(&self, logged: AccessLogScope) -> Vec<AccessLog> {
        if logged == AccessLogScope::Listener && self.listener_access_log == ListenerAccessLog::Off {
            return Vec::new();
        }
        self.access_logs.iter().map(|log| log.message(logged)).collect()
    }

    /// Passes bytes on.
    pub(super) fn tcp(&self, chain: &TcpChain) -> Vec<Filter> {
        let stat_prefix = &chain.stat_prefix;
        let hash_policy = match chain.hash {
            ConnectionHash::Nothing => Vec::new(),
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
        let before = match (chain.protocol, chain.sni_port.zip(self.dns_lookup)) {
            (_, Some((port, families))) => Some(sni_lookup(port, families)),
            (Protocol::Mongo, None) => {
                let mongo = MongoProxy { stat_prefix: stat_prefix.clone(), ..MongoProxy::default() };
                Some(network_filter("envoy.filters.network.mongo_proxy", &mongo))
            }
            _ => None,
        };
        before.into_iter().chain([network_filter("envoy.filters.network.tcp_proxy", &tcp)]).collect()
    }
}

// === impl TcpChain ===

impl TcpChain {
    /// To one cluster, without conditions.
    pub fn to(cluster: impl Into<String>, protocol: Protocol) -> Self {
        let cluster = cluster.into();
        Self {
            stat_prefix: cluster.clone(),
            clusters: vec![(cluster, 1)],
            protocol,
            idle_timeout: None,
            max_duration: None,
            hash: ConnectionHash::Nothing,
            sni_port: None,
        }
    }

    fn clusters(&self) -> tcp_proxy::ClusterSpecifier {
        match self.clusters.as_slice() {
            [(only, _)] => tcp_proxy::ClusterSpecifier::Cluster(only.clone()),
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

/// Looks up the host that the client's TLS names, for the cluster behind it.
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
