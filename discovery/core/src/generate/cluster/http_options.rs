//! `HttpProtocolOptions` of a cluster, collected from several parts of the policy.

use std::collections::BTreeMap;

use pilot_proto::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as Common, UpstreamHttpProtocolOptions,
};
use pilot_proto::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions, http_protocol_options as http,
};
use pilot_proto::google::protobuf::Any;

use super::ClusterClient;
use crate::generate::proto::any;
use crate::model::Protocol;

/// HTTP options of a cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct HttpOptions {
    pub(super) protocol: UpstreamHttp,
    pub(super) common: Option<Common>,
    pub(super) upstream: Option<UpstreamHttpProtocolOptions>,
    pub(super) outlier_detection: Option<http::OutlierDetection>,
    /// For [`UpstreamHttp::Http2`] only.
    pub(super) http2: Http2ProtocolOptions,
}

/// HTTP version of upstream requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum UpstreamHttp {
    /// HTTP/1.1; also for clusters that are not HTTP.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
    /// Version of the downstream request.
    UseDownstream,
}

pub(super) type ProtocolOptions = BTreeMap<String, Any>;

// === impl HttpOptions ===

impl HttpOptions {
    /// Returns the options of a protocol. A gateway does not detect protocols, so it cannot use the downstream version.
    pub(super) fn of(protocol: Protocol, client: ClusterClient) -> Self {
        let protocol = match (protocol, client) {
            (Protocol::Auto, ClusterClient::Sidecar) => UpstreamHttp::UseDownstream,
            (protocol, _) if protocol.is_http2() => UpstreamHttp::Http2,
            _ => UpstreamHttp::Http1,
        };
        Self { protocol, ..Self::default() }
    }

    /// Returns the options under the name that clusters use; empty if all are defaults.
    pub(super) fn options(self) -> ProtocolOptions {
        let is_default = self.common.is_none() && self.upstream.is_none() && self.outlier_detection.is_none();
        if is_default && self.protocol == UpstreamHttp::Http1 {
            return ProtocolOptions::new();
        }
        let explicit = |config| {
            http::UpstreamProtocolOptions::ExplicitHttpConfig(http::ExplicitHttpConfig {
                protocol_config: Some(config),
            })
        };
        let version = match self.protocol {
            UpstreamHttp::Http1 => explicit(http::explicit_http_config::ProtocolConfig::HttpProtocolOptions(
                Http1ProtocolOptions::default(),
            )),
            UpstreamHttp::Http2 => {
                explicit(http::explicit_http_config::ProtocolConfig::Http2ProtocolOptions(self.http2))
            }
            UpstreamHttp::UseDownstream => {
                http::UpstreamProtocolOptions::UseDownstreamProtocolConfig(http::UseDownstreamHttpConfig {
                    http_protocol_options: Some(Http1ProtocolOptions::default()),
                    http2_protocol_options: Some(Http2ProtocolOptions::default()),
                    http3_protocol_options: None,
                })
            }
        };
        let options = HttpProtocolOptions {
            common_http_protocol_options: self.common,
            upstream_http_protocol_options: self.upstream,
            outlier_detection: self.outlier_detection,
            upstream_protocol_options: Some(version),
            ..HttpProtocolOptions::default()
        };
        let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned();
        any(&options).map(|options| (name, options)).into_iter().collect()
    }
}
