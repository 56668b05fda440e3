//! `HttpProtocolOptions` of a cluster, put together from what several parts of a policy say.

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

/// What is said to the server, and how.
#[derive(Clone, Debug, Default)]
pub(super) struct HttpOptions {
    pub(super) protocol: UpstreamHttp,
    pub(super) common: Option<Common>,
    pub(super) names: Option<UpstreamHttpProtocolOptions>,
    pub(super) outliers: Option<http::OutlierDetection>,
    /// Only for clusters that speak HTTP/2 and nothing else.
    pub(super) http2: Http2ProtocolOptions,
}

/// Which HTTP the server is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum UpstreamHttp {
    /// HTTP/1.1, if it is HTTP at all.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
    /// What the client speaks.
    UseDownstream,
}

pub(super) type ProtocolOptions = BTreeMap<String, Any>;

// === impl HttpOptions ===

impl HttpOptions {
    /// What a protocol asks for. A gateway finds out nothing about its clients' protocols, so it has none to follow.
    pub(super) fn of(protocol: Protocol, client: ClusterClient) -> Self {
        let protocol = match (protocol, client) {
            (Protocol::Auto, ClusterClient::Sidecar) => UpstreamHttp::UseDownstream,
            (protocol, _) if protocol.is_http2() => UpstreamHttp::Http2,
            _ => UpstreamHttp::Http1,
        };
        Self { protocol, ..Self::default() }
    }

    /// The options under the name that clusters have them by; nothing where nothing was said.
    pub(super) fn options(self) -> ProtocolOptions {
        let silent = self.common.is_none() && self.names.is_none() && self.outliers.is_none();
        if silent && self.protocol == UpstreamHttp::Http1 {
            return ProtocolOptions::new();
        }
        let explicit = |config| {
            http::UpstreamProtocolOptions::ExplicitHttpConfig(http::ExplicitHttpConfig {
                protocol_config: Some(config),
            })
        };
        let upstream = match self.protocol {
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
            upstream_http_protocol_options: self.names,
            outlier_detection: self.outliers,
            upstream_protocol_options: Some(upstream),
            ..HttpProtocolOptions::default()
        };
        let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned();
        any(&options).map(|options| (name, options)).into_iter().collect()
    }
}
