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
use pilot_proto::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use pilot_proto::mesh::MeshConfig;
use prost::{Message, Name};

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
        let format = mesh.rest.get("accessLogFormat").and_then(serde_json::Value::as_str);
        let format = format.filter(|format| !format.is_empty()).unwrap_or(TEXT);
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

    /// Passes bytes on to a cluster.
    pub(super) fn tcp(&self, cluster: &str, protocol: Protocol) -> Vec<Filter> {
        let tcp = TcpProxy {
            stat_prefix: cluster.to_owned(),
            cluster_specifier: Some(tcp_proxy::ClusterSpecifier::Cluster(cluster.to_owned())),
            idle_timeout: self.idle_timeout.and_then(duration),
            access_log: self.access_log(Logged::Every),
            ..TcpProxy::default()
        };
        let tcp = network_filter("envoy.filters.network.tcp_proxy", &tcp);
        match protocol {
            Protocol::Mongo => {
                let mongo = MongoProxy { stat_prefix: cluster.to_owned(), ..MongoProxy::default() };
                vec![network_filter("envoy.filters.network.mongo_proxy", &mongo), tcp]
            }
            _ => vec![tcp],
        }
    }
}

pub(super) fn network_filter<M: Message + Name>(name: &str, config: &M) -> Filter {
    Filter { name: name.to_owned(), config_type: any(config).map(filter::ConfigType::TypedConfig) }
}
