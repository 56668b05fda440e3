//! Network filters of filter chains, and what they log.
//!
//! Only filters of every Envoy are used: `istio.*` filters exist in Istio's own build and would make a stock Envoy
//! refuse the listener.

use std::time::Duration;

use pilot_proto::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, ResponseFlagFilter, access_log, access_log_filter,
};
use pilot_proto::envoy::config::core::v3::{
    DataSource, SubstitutionFormatString, data_source, substitution_format_string,
};
use pilot_proto::envoy::config::listener::v3::{Filter, filter};
use pilot_proto::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use pilot_proto::envoy::extensions::filters::network::mongo_proxy::v3::MongoProxy;
use pilot_proto::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3::{
    FilterConfig as SniLookup, filter_config::PortSpecifier,
};
use pilot_proto::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use pilot_proto::envoy::r#type::v3::{HashPolicy, hash_policy};
use pilot_proto::mesh::MeshConfig;
use prost::{Message, Name};

use super::Families;
use super::cluster::dns_cache;
use super::proto::{any, duration};
use crate::model::{Protocol, Proxy};

/// What all filters of a proxy say alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FilterSettings {
    /// Where access is logged.
    pub access_log: Option<LogFile>,
    /// When an idle connection is closed; Envoy's default when `None`.
    pub idle_timeout: Option<Duration>,
    /// Whether HTTP/1.0 requests are served.
    pub http10: Http10,
    /// Which records are asked for of hosts that are known only when a client names them; `None`: nothing leads to such.
    pub lookup: Option<Families>,
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
    pub longest: Option<Duration>,
    /// By what the upstream host is chosen where the cluster hashes.
    pub hash: ConnectionHash,
    /// The port of the host that the client's TLS names, which is where they go; `None`: the clusters know where.
    pub named_port: Option<u16>,
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

/// A file that access is logged to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogFile {
    /// Its path.
    pub path: String,
    /// Envoy's format string; ends in a line break.
    pub format: String,
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

/// Which accesses are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logged {
    /// All.
    Every,
    /// Connections that no filter chain took and that no filter can log therefore.
    Unmatched,
}

/// Istio's columns. <https://istio.io/latest/docs/tasks/observability/logs/access-log/>
const TEXT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" ",
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ",
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n",
);

// === impl FilterSettings ===

impl FilterSettings {
    /// What the mesh and a proxy ask for.
    pub fn of(mesh: &MeshConfig, proxy: &Proxy) -> Self {
        let format = if mesh.access_log_format.is_empty() { TEXT } else { &mesh.access_log_format };
        let log = LogFile { path: mesh.access_log_file.clone(), format: format.to_owned() };
        let metadata = &proxy.metadata;
        Self {
            access_log: Some(log).filter(|log| !log.path.is_empty()),
            // As in Istio, what is not a duration asks for nothing.
            idle_timeout: metadata
                .idle_timeout
                .as_deref()
                .and_then(|text| pilot_proto::duration::parse(text).ok()),
            http10: if metadata.http10.as_deref() == Some("1") { Http10::Accepted } else { Http10::Refused },
            lookup: None,
        }
    }

    pub(super) fn access_log(&self, logged: Logged) -> Vec<AccessLog> {
        let Some(file) = &self.access_log else { return Vec::new() };
        let format = SubstitutionFormatString {
            format: Some(substitution_format_string::Format::TextFormatSource(DataSource {
                specifier: Some(data_source::Specifier::InlineString(file.format.clone())),
                ..DataSource::default()
            })),
            ..SubstitutionFormatString::default()
        };
        let config = FileAccessLog {
            path: file.path.clone(),
            access_log_format: Some(file_access_log::AccessLogFormat::LogFormat(format)),
        };
        let filter = match logged {
            Logged::Every => None,
            Logged::Unmatched => Some(AccessLogFilter {
                filter_specifier: Some(access_log_filter::FilterSpecifier::ResponseFlagFilter(
                    ResponseFlagFilter { flags: vec!["NR".into()] },
                )),
            }),
        };
        vec![AccessLog {
            name: "envoy.access_loggers.file".into(),
            filter,
            config_type: any(&config).map(access_log::ConfigType::TypedConfig),
        }]
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
            max_downstream_connection_duration: chain.longest.and_then(duration),
            hash_policy,
            access_log: self.access_log(Logged::Every),
            ..TcpProxy::default()
        };
        let before = match (chain.protocol, chain.named_port.zip(self.lookup)) {
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
            longest: None,
            hash: ConnectionHash::Nothing,
            named_port: None,
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
fn sni_lookup(port: u16, families: Families) -> Filter {
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
